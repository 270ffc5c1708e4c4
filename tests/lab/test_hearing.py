"""What is heard beside ARP, on real links: each kind alone tells a device at once, without any scan."""

import time
from typing import Any

from tests.core import words_of_devices as words
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.test_daemon import until

NO_SCANS = {"scan": {"interval": 86400}, "names": {"sources": ["dhcp", "mdns", "nbns"]}}


def told(daemon: Daemon, lab: Lab, *frames: bytes) -> dict[str, Any]:
    """Put frames on a LAN that is not scanned; how the device of `words.MAC` is told."""
    crowd = lab.crowd()
    with daemon.websocket() as stream:
        until(stream, "initial_state")
        before = time.time()
        crowd.send(*frames)
        event = until(stream, "event", kind="discovered")
        assert event["device"]["mac"] == words.MAC
        assert before <= when(event["seen_at"])
        assert when(event["sent_at"]) - when(event["seen_at"]) < 1.0
    return event


def when(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def device(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.get(f"/api/devices/{words.MAC}")
    return found


def test_dhcp_alone_tells_who_joins_and_its_name(lab: Lab) -> None:
    daemon = lab.daemon(NO_SCANS)
    event = told(daemon, lab, words.dhcp("discover", ("hostname", b"janes-phone")))
    assert event["evidence"] == "dhcp"
    assert (device(daemon)["hostname"], device(daemon)["hostname_source"]) == ("janes-phone", "dhcp")


def test_duplicate_address_detection_alone_tells_who_joins(lab: Lab) -> None:
    daemon = lab.daemon(NO_SCANS)
    assert told(daemon, lab, words.dad("fe80::a683:e7ff:fe12:3456"))["evidence"] == "ndp"


def test_mdns_alone_tells_who_is_there_and_its_name(lab: Lab) -> None:
    daemon = lab.daemon(NO_SCANS)
    event = told(daemon, lab, words.mdns(("janes-phone.local.", "A", "10.77.0.9")))
    assert (event["evidence"], event["address"]) == ("mdns", "10.77.0.9")
    assert (device(daemon)["hostname"], device(daemon)["hostname_source"]) == ("janes-phone", "mdns")
