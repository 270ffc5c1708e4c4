"""Several networks, what is asked of them, and leases: with real interfaces."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.test_daemon import until, wait_for

SLOW = {"scan": {"interval": 3600}}
"""Where it matters who answered a scan, kernels do: the crowd may have no turn for as long as a scan takes."""


@pytest.fixture
def second(lab: Lab) -> Iterator[Lab]:
    """Another LAN, 10.88.0.0/24, with a switch of its own, which the watcher has an interface `eth1` on: no address."""
    with Lab("10.88.0.0/24") as made:
        made._connect(lab.watcher.space, "uplink", "eth1", "52:54:00:88:00:99")
        yield made


def networks(daemon: Daemon) -> dict[str, dict[str, Any]]:
    return {network["id"]: network for network in daemon.get("/api/networks")["networks"]}


def scan(daemon: Daemon, *targets: str) -> dict[str, Any]:
    status, answer = daemon.request("POST", "/api/scan?wait=1", {"targets": list(targets)})
    assert status == 200, answer
    found: dict[str, Any] = answer
    return found


def test_two_interfaces_are_two_networks(lab: Lab, second: Lab) -> None:
    lab.crowd().populate(["10.77.0.50"])
    second.crowd().populate(["10.88.0.50", "10.88.0.51"])
    lab.watcher.space.ip("addr add 10.88.0.2/24 dev eth1")
    daemon = lab.daemon(SLOW)
    wait_for("all three", lambda: {"10.77.0.50", "10.88.0.50", "10.88.0.51"} <= daemon.devices().keys())
    known = networks(daemon)
    assert known["10.77.0.0/24@eth0"]["online"] == 1
    assert known["10.88.0.0/24@eth1"]["online"] == 2
    assert known["127.0.0.0/8@lo"]["state"] == "excluded"
    with daemon.websocket("updates=changes&network=10.88.0.0/24@eth1") as stream:
        first = until(stream, "initial_state")
        assert {device["ip"] for device in first["devices"]} >= {"10.88.0.50", "10.88.0.51"}
        assert "10.77.0.50" not in {device["ip"] for device in first["devices"]}
    lab.watcher.space.ip("link set eth1 down")
    wait_for("doubt", lambda: daemon.devices()["10.88.0.50"]["status"] == "unknown")
    assert daemon.devices()["10.77.0.50"]["status"] == "online"


def test_two_prefixes_on_one_interface(lab: Lab) -> None:
    lab.crowd().populate(["10.77.0.50", "10.99.0.50"])
    lab.watcher.space.ip("addr add 10.99.0.2/24 dev eth0")
    daemon = lab.daemon(SLOW)
    wait_for("both", lambda: {"10.77.0.50", "10.99.0.50"} <= daemon.devices().keys())
    (address,) = daemon.devices()["10.99.0.50"]["addresses"]
    assert address["network"] == "10.99.0.0/24@eth0"


def test_overlapping_prefixes_on_two_interfaces(lab: Lab, second: Lab) -> None:
    """One address, two devices, no conflict; a target that lies in two networks is asked on both."""
    mine, other = lab.host("10.77.0.50").mac, second.host("10.77.0.50", "3c:d9:2b:00:00:77").mac
    lab.watcher.space.ip("addr add 10.77.0.3/24 dev eth1")
    daemon = lab.daemon(SLOW)
    with daemon.websocket() as stream:
        first = until(stream, "initial_state")
        wait_for("the first scan", lambda: daemon.get("/api/status")["last_scan"])
        found = scan(daemon, "10.77.0.50")
        assert {device["mac"] for device in found["devices"]} == {mine, other}
        assert set(found["networks"]) == {"10.77.0.0/24@eth0", "10.77.0.0/24@eth1"}
        stream.send(json.dumps({"type": "scan_now", "targets": ["10.77.0.50"], "request": "x"}))
        until(stream, "scan_accepted", request="x")
        assert first["type"] == "initial_state"
    kinds = {event["kind"] for event in daemon.get("/api/events")["events"]}
    assert not kinds & {"address_conflict", "address_moved", "gateway_changed"}


def test_a_bridge_and_its_port_are_one_network(lab: Lab, second: Lab) -> None:
    """The same frame is heard on a bridge and on its port; it belongs to the topmost interface with the address."""
    second.crowd().populate(["10.88.0.50"])
    space = lab.watcher.space
    space.ip("link add br-lan type bridge stp_state 0 forward_delay 0", "link set eth1 master br-lan")
    space.ip("addr add 10.88.0.2/24 dev br-lan", "link set br-lan up")
    daemon = lab.daemon(SLOW | {"scan": {"interfaces": ["br-lan"]}})
    wait_for("the device", lambda: "10.88.0.50" in daemon.devices())
    (address,) = daemon.devices()["10.88.0.50"]["addresses"]
    assert address["network"] == "10.88.0.0/24@br-lan"
    assert networks(daemon)["10.77.0.0/24@eth0"]["state"] == "excluded"


def test_a_tagged_frame_is_not_of_the_untagged_lan(lab: Lab) -> None:
    crowd = lab.crowd()
    daemon = lab.daemon(SLOW)
    time.sleep(1)
    body = bytes.fromhex("0001 0800 0604 0001 3cd92b000055 0a4d0055 000000000000 0a4d0055".replace(" ", ""))
    ends = b"\xff" * 6 + bytes.fromhex("3cd92b000055")
    crowd.send(ends + bytes.fromhex("81000005") + b"\x08\x06" + body)
    time.sleep(0.5)
    assert "10.77.0.85" not in daemon.devices()
    crowd.send(ends + b"\x08\x06" + body)
    wait_for("the untagged one", lambda: "10.77.0.85" in daemon.devices())


def test_one_network_has_its_own_rules(lab: Lab, second: Lab) -> None:
    """`[[network]]` overrides, and `netscanctl networks` explains each."""
    lab.watcher.space.ip("addr add 10.88.0.2/24 dev eth1", "addr add 10.99.0.2/24 dev eth0")
    daemon = lab.daemon(
        {
            "scan": {"interval": 60, "exclude": ["10.99.0.0/16"]},
            "network": [
                {"cidr": "10.77.0.0/24", "interval": 5, "background_rate": 10, "patience": [20, 30]},
                {"cidr": "10.88.0.0/24", "enabled": False},
            ],
        }
    )
    known = networks(daemon)
    assert known["10.77.0.0/24@eth0"]["interval"] == 5
    assert known["10.77.0.0/24@eth0"]["coverage"]["fraction"] < 0.5
    assert known["10.88.0.0/24@eth1"]["state"] == "excluded"
    assert "[[network]]" in known["10.88.0.0/24@eth1"]["why"]
    assert known["10.99.0.0/24@eth0"]["state"] == "excluded"
    assert "exclude" in known["10.99.0.0/24@eth0"]["why"]
    lab.crowd().join("10.77.0.60")
    wait_for("the device", lambda: "10.77.0.60" in daemon.devices())
    assert 20 <= daemon.devices()["10.77.0.60"]["patience"] <= 30
    shown = daemon.ctl("networks").stdout
    for network in known.values():
        assert network["why"] in shown


def test_a_wish_may_name_addresses_parts_and_networks(lab: Lab, second: Lab) -> None:
    for address in lab.addresses(8, start=48):
        lab.host(address)
    second.host("10.88.0.50", "3c:d9:2b:00:00:77")
    lab.watcher.space.ip("addr add 10.88.0.2/24 dev eth1")
    daemon = lab.daemon(SLOW)
    wait_for("the first scan", lambda: daemon.get("/api/status")["last_scan"])
    assert {device["ip"] for device in scan(daemon, "10.77.0.50")["devices"]} == {"10.77.0.50"}
    part = scan(daemon, "10.77.0.48/30", "10.88.0.50")
    assert {device["ip"] for device in part["devices"]} == {*lab.addresses(4, start=48), "10.88.0.50"}
    whole = scan(daemon, "10.77.0.0/24@eth0")
    assert {device["ip"] for device in whole["devices"]} == set(lab.addresses(8, start=48))
    for wrong in ("10.66.0.1", "10.77.0.0/16", "10.77.0.255", "nonsense", "10.77.0.0/24@eth9"):
        status, answer = daemon.request("POST", "/api/scan", {"targets": [wrong]})
        assert (status, answer["error"]["code"]) == (400, "bad_request"), wrong
        assert wrong in answer["error"]["message"]
    refused = daemon.ctl("scan-now", "10.66.0.1")
    assert refused.returncode == 1
    assert "10.66.0.1" in refused.stderr
    nobody = daemon.ctl("scan-now", "10.77.0.200")
    assert nobody.returncode == 1


def test_the_fastest_lease_ends_with_its_connection(lab: Lab) -> None:
    daemon = lab.daemon({"scan": {"interval": 20}})
    with daemon.websocket() as slow:
        until(slow, "initial_state")
        with daemon.websocket() as fast:
            fast.send(json.dumps({"type": "set_interval", "seconds": 2, "request": "a"}))
            assert until(fast, "interval", request="a")["seconds"] == 2
            slow.send(json.dumps({"type": "set_interval", "seconds": 10, "request": "b"}))
            assert until(slow, "interval", request="b")["seconds"] == 2
            begun = time.monotonic()
            for _ in range(3):
                until(slow, "scan_started")
            assert time.monotonic() - begun < 18  # at 10 s each it takes 20
            slow.send(json.dumps({"type": "set_interval", "seconds": 21, "request": "c"}))
            assert until(slow, "error", request="c")["code"] == "bad_request"
        wait_for("the end of the lease", lambda: _in_force(slow) == 10)


def _in_force(stream: Any) -> float:  # noqa: ANN401 - a websocket
    stream.send(json.dumps({"type": "set_interval", "seconds": 10, "request": "q"}))
    return float(until(stream, "interval", request="q")["seconds"])
