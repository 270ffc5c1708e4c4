"""Large prefixes in the lab (FIELD cases 10, 16): devices that send frames are listed and probed, no others."""

import http.client
import re
import socket
import time
from collections.abc import Iterator

import pytest

from tests.lab.lan import Lab
from tests.lab.test_daemon import wait_for
from tests.lab.test_networks import networks

LARGE = "10.0.0.0/8@eth0"
LINK_LOCAL = "169.254.0.0/16@eth0"


@pytest.fixture
def large(root: None) -> Iterator[Lab]:
    with Lab("10.0.0.0/8", watcher_ip="10.77.0.2") as made:
        yield made


def requested(frames: list[bytes], own: bytes) -> set[str]:
    """Return the addresses that broadcast ARP requests of ours ask for."""
    ours = [
        frame for frame in frames if frame[:6] == b"\xff" * 6 and frame[6:12] == own and frame[12:14] == b"\x08\x06"
    ]
    return {socket.inet_ntoa(frame[38:42]) for frame in ours if frame[38:42] != frame[28:32]}


def test_a_lan_larger_than_a_16_is_received_and_probed(large: Lab) -> None:
    """FIELD case 16, x3, x4: status is ok, doctor finds nothing to do, and a scan-now of it all ends at once."""
    crowd = large.crowd()
    with large.capture(large.watcher) as capture:
        daemon = large.daemon()
        for address in ("10.77.0.5", "10.200.3.9"):
            crowd.join(address)
        crowd.join("10.99.0.1", say="none")
        wait_for("both", lambda: {"10.77.0.5", "10.200.3.9"} <= daemon.devices().keys())
        network = networks(daemon)[LARGE]
        assert (network["state"], network["coverage"]["fraction"]) == ("up", 0)
        assert "larger than a /16: addresses are probed where a device was seen" in network["why"]
        assert daemon.get("/api/status")["problems"] == []
        begun = time.monotonic()
        for targets in ([], [LARGE], ["10.0.0.0/8"], ["10.0.0.0/9", "10.128.0.0/9"]):
            status, found = daemon.request("POST", "/api/scan?wait=1", {"targets": targets})
            assert (status, {device["ip"] for device in found["devices"]}) == (200, {"10.77.0.5", "10.200.3.9"})
        assert time.monotonic() - begun < 30
        status, found = daemon.request("POST", "/api/scan?wait=1", {"targets": ["10.99.0.0/24"]})
        assert [device["ip"] for device in found["devices"]] == ["10.99.0.1"]
        own = bytes.fromhex(large.watcher.mac.replace(":", ""))
        swept = requested([frame.data for frame in capture.frames()], own)
    own_probe = large.watcher.ip  # RFC 5227
    assert {each for each in swept if not each.startswith("10.99.0.")} <= {"10.77.0.5", "10.200.3.9", own_probe}
    assert re.search(rf"^ok +interfaces +{LARGE}$", daemon.ctl("doctor").stdout, re.MULTILINE)


def test_a_large_scan_ends_when_its_client_disconnects(large: Lab) -> None:
    """FIELD x3: `scan-now 10.1.0.0/16`, and Ctrl-C; a scan of one address beside it waits for nothing."""
    daemon = large.daemon()
    crowd = large.crowd()
    crowd.join("10.77.0.5")
    wait_for("it", lambda: "10.77.0.5" in daemon.devices())
    client: http.client.HTTPConnection = daemon.connection()
    client.request("POST", "/api/scan?wait=1", '{"targets": ["10.1.0.0/16"]}', {"Content-Type": "application/json"})
    wait_for("the scan", lambda: daemon.get("/api/status")["scanning"])
    begun = time.monotonic()
    status, found = daemon.request("POST", "/api/scan?wait=1", {"targets": ["10.77.0.5"]})
    assert (status, [device["ip"] for device in found["devices"]]) == (200, ["10.77.0.5"])
    assert time.monotonic() - begun < 30, "the scan of a /16 takes 200 s"
    assert daemon.get("/api/status")["scanning"]
    client.close()
    wait_for("its end", lambda: not daemon.get("/api/status")["scanning"])


def test_an_address_of_ipv4ll_starts_no_sweep(lab: Lab) -> None:
    """FIELD case 10: beside a /24; a host that has such an address, too, is listed and probed."""
    crowd = lab.crowd()
    lab.watcher.space.ip("addr add 169.254.7.8/16 dev eth0 scope link")
    with lab.capture(lab.watcher) as capture:
        daemon = lab.daemon({"scan": {"interval": 1}})
        crowd.join("169.254.33.7")
        wait_for("it", lambda: daemon.devices().get("169.254.33.7", {}).get("status") == "online")
        last = daemon.get("/api/status")["last_scan"]
        wait_for("more scans", lambda: daemon.get("/api/status")["last_scan"] != last)
        own = bytes.fromhex(lab.watcher.mac.replace(":", ""))
        swept = requested([frame.data for frame in capture.frames()], own)
    assert {address for address in swept if address.startswith("169.254.")} <= {"169.254.33.7", "169.254.7.8"}
    assert any(address.startswith("10.77.0.") for address in swept)
    assert "link-local" in networks(daemon)[LINK_LOCAL]["why"]
    addresses = daemon.devices()["169.254.33.7"]["addresses"]
    assert [address["network"] for address in addresses] == [LINK_LOCAL]
