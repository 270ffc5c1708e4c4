"""`netscanctl capture --anonymise` on a LAN of real programs, and the replay of its file."""

import json
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from netscand.config import Config
from netscand.replay import replay
from tests.lab.lan import Lab
from tests.lab.test_daemon import wait_for
from tests.lab.test_passive import NO_SCANS, avahi, dhclient, dnsmasq


def shape(events: list[dict[str, Any]]) -> Counter[tuple[str, ...]]:
    """What anonymising leaves of the events of devices: all but names, and the lower half of MACs."""
    return Counter(
        (each["kind"], str(each["evidence"]), str(each["address"]).split("fe80")[0], each["device"]["mac"][:8])
        for each in events
        if each["device"]
    )


def test_an_anonymous_capture_replays_to_the_same_events(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """With avahi, dnsmasq and dhclient; no name and no full MAC of the LAN is in the file."""
    server = lab.host("10.77.0.1")
    dnsmasq(server, "--dhcp-range=10.77.0.100,10.77.0.120,255.255.255.0,1h")
    daemon = lab.daemon(NO_SCANS)
    file = lab.folder / "lan.pcapng"
    with file.open("wb") as out:
        argv = daemon.ctl_argv("capture", "--anonymise", "--seconds", "300", "-")
        process = lab.watcher.space.popen(argv, stdout=out, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "Ctrl-C ends it" in process.stderr.readline()
    before = daemon.get("/api/status")["cursor"]
    assert daemon.request("GET", "/api/capture")[0] == 503  # one at a time
    laptop, printer = lab.host(), lab.host("10.77.0.60")
    avahi(printer, "janes-printer")
    dhclient(laptop, "janes-laptop")

    def names() -> set[str | None]:
        return {device["hostname"] for device in daemon.get("/api/devices")["devices"]}

    wait_for("both names", lambda: {"janes-printer", "janes-laptop"} <= names())
    live = daemon.get(f"/api/events?since={before}&limit=5000")["events"]
    replayed: list[dict[str, Any]] = []

    def missing() -> Counter[tuple[str, ...]]:
        """What the file, which is still written, does not have yet."""
        replay(file, (), Config(), as_json=True)
        replayed[:] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return shape(live) - shape([message for message in replayed if message["type"] == "event"])

    with suppress(AssertionError):  # the one below says what is missing
        wait_for("all of it in the file", lambda: not missing())
    assert not missing(), (missing(), live)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    content = file.read_bytes()
    assert b"jane" not in content.lower()
    for host in (server, laptop, printer, lab.watcher):
        assert bytes.fromhex(host.mac.replace(":", "")) not in content
    assert not missing()
    named = [device for device in replayed[-1]["devices"] if device["hostname"]]
    assert sorted(device["hostname_source"] for device in named) == ["dhcp", "mdns"]
