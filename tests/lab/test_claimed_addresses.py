"""Claims to addresses by kernel hosts: one on two interfaces, an address that moves, and one that takes our own."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.lan import Host, Lab
from tests.lab.test_daemon import IMPATIENT, messages, until, until_scanned, wait_for
from tests.lab.test_doctor import findings

OFTEN = {"scan": {"interval": 2}}
ABOUT = frozenset(
    ("address_conflict", "address_moved", "address_removed", "address_added", "same_host", "gateway_changed")
)
CABLE, WIFI = "52:54:00:77:aa:03", "52:54:00:77:aa:49"


def about(stream: Any, seconds: float) -> list[dict[str, Any]]:  # noqa: ANN401 - a websocket
    """Return the events about addresses within so many seconds."""
    return [each for each in messages(stream, seconds) if each["type"] == "event" and each["kind"] in ABOUT]


def two_interfaces(lab: Lab) -> Host:
    """A host at .103 by cable and at .73 by Wi-Fi: its kernel answers for both on both (arp_ignore 0)."""
    host = lab.host("10.77.0.103", mac=CABLE)
    lab._connect(host.space, f"{host.port}b", "wlan0", WIFI)
    host.space.ip("addr add 10.77.0.73/24 dev wlan0")
    host.space.run(["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0"])
    return host


def test_a_host_on_two_interfaces_is_no_conflict(lab: Lab) -> None:
    """FIELD case 4: one notice for the pair at most, and no `ip` changes; the control has one address in common."""
    two_interfaces(lab)
    first, second = lab.host("10.77.0.50"), lab.host("10.77.0.50")
    daemon = lab.daemon(OFTEN)
    with daemon.websocket() as stream:
        conflict = until(stream, "event", kind="address_conflict", seconds=15)
        assert {conflict["device"]["mac"], conflict["other"]} == {first.mac, second.mac}
        wait_for("both", lambda: {CABLE, WIFI} <= {each["mac"] for each in devices(daemon)})
        ips = [ip_of(daemon, mac) for mac in (CABLE, WIFI)]
        assert set(ips) == {"10.77.0.103", "10.77.0.73"}
        later = about(stream, 12)
        assert not [event for event in later if event["kind"] != "same_host"]
        assert [ip_of(daemon, mac) for mac in (CABLE, WIFI)] == ips
        past = daemon.get("/api/events?last=500")["events"]
        notices = [each for each in past if each["kind"] == "same_host"]
        assert [{each["device"]["mac"], each["other"]} for each in notices] == [{CABLE, WIFI}]


@pytest.mark.parametrize("released", [True, False], ids=["failover", "both hold it"])
def test_an_address_that_fails_over_moves(lab: Lab, released: bool) -> None:
    """FIELD case 7: keepalived, MetalLB and the like; the control is a conflict."""
    old, new = lab.host("10.77.0.10"), lab.host("10.77.0.11")
    daemon = lab.daemon(IMPATIENT | {"scan": {"interval": 3600}})
    with daemon.websocket() as stream:
        until_scanned(stream)
        old.add_address("10.77.0.100")
        old.announce()
        until(stream, "event", kind="address_added", address="10.77.0.100")
        if released:
            old.space.ip("addr del 10.77.0.100/24 dev eth0")
        new.add_address("10.77.0.100")
        new.announce()
        kind = "address_moved" if released else "address_conflict"
        verdict = until(stream, "event", kind=kind, address="10.77.0.100")
        assert (verdict["device"]["mac"], verdict["other"]) == (new.mac, old.mac)
        assert verdict["device"]["ip"] == "10.77.0.11"
        assert not about(stream, 3)
        if released:
            assert ip_of(daemon, old.mac) == "10.77.0.10"
        else:
            assert verdict["reason"].endswith("is still there: both answer")
            pair = [old.mac, new.mac]
            assert [each["macs"] for each in daemon.get("/api/status")["conflicts"]] == [pair]
            assert findings(lab, *daemon.ctl_argv(), code=0)["conflicts"]["verdict"] == "warning"
            for mac in pair:
                assert daemon.get(f"/api/devices/{mac}")["conflicts"][0]["macs"] == pair
                kinds = [each["kind"] for each in daemon.get(f"/api/devices/{mac}/events")["events"]]
                assert "address_conflict" in kinds
            old.unplug()
            until(stream, "event", kind="offline", seconds=30)
            assert not daemon.get("/api/status")["conflicts"]


def test_a_thief_of_our_own_address(lab: Lab) -> None:
    """FIELD case 1, x5: loud, and present as long as it is there.

    A kernel does not answer a request whose sender is its own address, but it answers a probe (RFC 5227).
    """
    daemon = lab.daemon(IMPATIENT | {"scan": {"interval": 3600}})
    with daemon.websocket() as stream, lab.capture() as capture:
        until_scanned(stream)
        thief = lab.host("10.77.0.2")
        thief.announce()
        conflict = until(stream, "event", kind="address_conflict", address="10.77.0.2")
        assert (conflict["device"]["mac"], conflict["other"]) == (thief.mac, lab.watcher.mac)
        later = [each["kind"] for each in messages(stream, 12) if each["type"] == "event"]
        assert later == [], "it is silent, and probed"
        sent = [each for each in capture.arp(outgoing=True) if each.target_ip == "10.77.0.2"]
        assert {each.sender_ip for each in sent} == {"0.0.0.0"}
        assert {each.destination for each in sent} >= {thief.mac}
        claimed = f"10.77.0.2, an address of this host, is claimed by {thief.mac} too, on 10.77.0.0/24@eth0"
        assert daemon.get("/api/status")["problems"] == [claimed]
        found = findings(lab, *daemon.ctl_argv(), code=1)["addresses"]
        assert (found["verdict"], found["found"]) == ("failed", claimed)
        thief.unplug()
        assert until(stream, "event", kind="offline", seconds=15)["device"]["mac"] == thief.mac


def test_a_thief_that_was_there_before_us(lab: Lab) -> None:
    """FIELD case 1: it says nothing; the probe at the start finds it."""
    thief = lab.host("10.77.0.2")
    daemon = lab.daemon({"scan": {"interval": 3600}})
    if daemon.healthy():
        seen: Callable[[], list[dict[str, Any]]] = lambda: [  # noqa: E731
            each for each in daemon.get("/api/events?last=100")["events"] if each["kind"] == "address_conflict"
        ]
        wait_for("the conflict", seen)
        assert [(each["device"]["mac"], each["other"]) for each in seen()] == [(thief.mac, lab.watcher.mac)]


def devices(daemon: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    found: list[dict[str, Any]] = daemon.get("/api/devices")["devices"]
    return found


def ip_of(daemon: Any, mac: str) -> str | None:  # noqa: ANN401
    return next((each["ip"] for each in devices(daemon) if each["mac"] == mac), None)
