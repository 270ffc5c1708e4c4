"""What happens on real LANs, with real kernel hosts: each causes its events, and no other."""

import time
from collections import Counter
from typing import Any

import pytest

from tests.lab.lan import Lab
from tests.lab.test_daemon import IMPATIENT, messages, until, until_scanned

QUIET = {"scan": {"interval": 3600}}


def events(stream: Any, seconds: float) -> list[dict[str, Any]]:  # noqa: ANN401 - a websocket
    return [message for message in messages(stream, seconds) if message["type"] == "event"]


def told_now(stream: Any, count: int, then: float = 1.0) -> list[dict[str, Any]]:  # noqa: ANN401 - a websocket
    """The next `count` events, whenever they come, and those of `then` seconds more: there should be no other."""
    return [until(stream, "event") for _ in range(count)] + events(stream, then)


def kinds(told: list[dict[str, Any]]) -> list[str]:
    return [event["kind"] for event in told]


def test_a_cable_is_pulled_and_put_back(lab: Lab) -> None:
    host = lab.host("10.77.0.50")
    with lab.daemon(IMPATIENT | QUIET).websocket() as stream:
        until_scanned(stream)
        host.unplug()
        told = told_now(stream, 1)
        assert kinds(told) == ["offline"]
        assert told[0]["device"]["mac"] == host.mac
        host.replug()
        host.announce()
        assert kinds(told_now(stream, 1)) == ["online"]


def test_a_host_changes_its_address(lab: Lab) -> None:
    """Identity is the MAC: no new device, one address more."""
    host = lab.host("10.77.0.50")
    with lab.daemon(QUIET).websocket() as stream:
        until_scanned(stream)
        host.set_address("10.77.0.51")
        host.announce()
        told = told_now(stream, 1)
        assert kinds(told) == ["address_added"]
        assert told[0]["device"]["ip"] == "10.77.0.51"
        assert told[0]["previous"]["ip"] == "10.77.0.50"


def test_two_hosts_with_one_address_are_in_conflict(lab: Lab) -> None:
    first = lab.host("10.77.0.50")
    with lab.daemon(QUIET).websocket() as stream:
        until_scanned(stream)
        second = lab.host("10.77.0.50")
        for _ in range(5):
            second.announce()
            first.announce()
        told = told_now(stream, 2)
        assert kinds(told) == ["discovered", "address_conflict"]
        assert {told[1]["device"]["mac"], told[1]["other"]} == {first.mac, second.mac}


def test_the_gateway_has_another_mac(lab: Lab) -> None:
    """A new router, or somebody in the middle."""
    gateway = lab.gateway()
    with lab.daemon(QUIET).websocket() as stream:
        until_scanned(stream)
        old = gateway.mac
        gateway.unplug()
        other = lab.host(gateway.ip)
        other.announce()
        told = told_now(stream, 2)
        assert kinds(told) == ["discovered", "gateway_changed"]
        assert told[1]["device"]["mac"] == other.mac
        assert told[1]["other"] == old
        assert "gateway" in told[1]["device"]["kinds"]


@pytest.mark.parametrize("times", [20, pytest.param(100, marks=pytest.mark.long)])
def test_our_own_interface_goes_down_and_up_many_times(lab: Lab, times: int) -> None:
    """FAULTS F9: no device is reported offline for it, and it is scanned again within 2 s of up."""
    crowd = lab.crowd()
    crowd.populate(lab.addresses(30, start=100))
    daemon = lab.daemon(IMPATIENT | {"presence": {"probe_interval": 1, "patience": [5, 5]}})
    with daemon.websocket() as stream:
        until_scanned(stream)
        told: list[dict[str, Any]] = []
        for _ in range(times):
            lab.watcher.down()
            told += events(stream, 0.1)
            lab.watcher.up()
            told += events(stream, 0.15)
        told += events(stream, 10)
        counted = Counter(kinds(told))
        assert not counted["offline"]
        assert not counted["discovered"]
        assert counted["network_down"] == counted["network_up"] > 0
        assert {device["status"] for device in daemon.devices().values()} == {"online"}
        lab.watcher.down()
        until(stream, "event", kind="network_down")
        lab.watcher.up()
        until(stream, "scan_started", requested_by="interface")


def test_a_bridge_loses_every_host_at_once(lab: Lab) -> None:
    """Law 8: one `network_silent`, then `network_recovered`, and each its own `online`; no burst of *offline*."""
    crowd = lab.crowd()
    addresses = lab.addresses(20, start=100)
    macs = list(crowd.populate(addresses).values())
    daemon = lab.daemon({"presence": {"probe_interval": 1, "patience": [5, 5]}, "scan": {"interval": 5}})
    with daemon.websocket() as stream:
        until_scanned(stream)
        time.sleep(2)
        events(stream, 0.5)
        for mac in macs:
            crowd.sleep(mac)
        told = told_now(stream, 1, then=3.0)
        assert kinds(told) == ["network_silent"]
        assert {device["status"] for ip, device in daemon.devices().items() if ip in addresses} == {"unknown"}
        assert daemon.get("/api/networks")["networks"][0]["state"] == "silent"
        for mac in macs:
            crowd.wake(mac, say="none")
        back = told_now(stream, 21)
        assert kinds(back)[0] == "network_recovered"
        assert Counter(kinds(back)) == {"network_recovered": 1, "online": 20}
        assert {event["previous"]["status"] for event in back if event["kind"] == "online"} == {"unknown"}


@pytest.mark.parametrize("say", ["announcement", "probe"])
def test_a_device_that_joins_is_told_by_its_own_word_alone(lab: Lab, say: str) -> None:
    """Without any scan."""
    crowd = lab.crowd()
    with lab.daemon(QUIET).websocket() as stream:
        until_scanned(stream)
        crowd.join("10.77.0.99", say=say)
        (event,) = told_now(stream, 1)
        assert event["kind"] == "discovered"
        assert event["address"] == ("10.77.0.99" if say == "announcement" else None)
