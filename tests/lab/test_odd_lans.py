"""LANs that are not tidy, with kernel hosts: foreign addresses, macvlan, two interfaces, changing MACs."""

import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv4Address
from typing import Any

import pytest

from tests.lab.crowd_device import Device
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.macs import pack_mac
from tests.lab.spaces import DEADLINE, Space

IMPATIENT = {"presence": {"probe_interval": 1, "patience": [2, 3]}, "scan": {"interval": 5}}
CHILD = "00:00:5e:00:53:53"


def wait_for(what: str, true: Callable[[], object]) -> None:
    ends = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < ends, f"not within {DEADLINE:g} s: {what}"
        time.sleep(0.05)


def announce(space: Space, interface: str, mac: str, ip: str) -> None:
    own = IPv4Address(ip).packed
    with space.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((interface, 0))
        raw.send(Device(pack_mac(mac)).request(own, own))


def devices(daemon: Daemon) -> dict[str, Any]:
    return {device["mac"]: device for device in daemon.get("/api/devices")["devices"]}


def is_self(daemon: Daemon, mac: str) -> bool:
    return "self" in devices(daemon).get(mac, {"kinds": []})["kinds"]


def kinds(daemon: Daemon, *wanted: str) -> list[dict[str, Any]]:
    found = daemon.get("/api/events?last=1000")["events"]
    return [event for event in found if event["kind"] in wanted]


@pytest.mark.parametrize("address", ["192.168.0.64/24", "169.254.33.7/16"])
def test_a_foreign_address_is_listed_and_probed(lab: Lab, address: str) -> None:
    """FIELD case 6: the host has only that, and announces it once."""
    camera = lab.host(address)
    daemon = lab.daemon(IMPATIENT)
    with lab.capture() as seen:
        camera.announce()
        wait_for("listed", lambda: camera.mac in devices(daemon))
        shown = devices(daemon)[camera.mac]
        assert (shown["ip"], shown["addresses"][0]["foreign"]) == (camera.ip, True)
        first = daemon.get(f"/api/devices/{camera.mac}")["last_seen"]
        wait_for("it answers", lambda: daemon.get(f"/api/devices/{camera.mac}")["rtt_ms"] is not None)
        wait_for("it answers again", lambda: daemon.get(f"/api/devices/{camera.mac}")["last_seen"] > first)
        assert devices(daemon)[camera.mac]["status"] == "online"
        asked = [arp for arp in seen.arp(outgoing=True) if str(arp.target_ip) == camera.ip]
    assert asked
    assert not [arp for arp in asked if arp.broadcast or str(arp.sender_ip) != lab.watcher.ip]
    camera.unplug()
    wait_for("offline", lambda: devices(daemon)[camera.mac]["status"] == "offline")
    assert devices(daemon)[camera.mac]["ip"] == camera.ip
    assert not kinds(daemon, "address_conflict", "address_removed", "address_added")
    camera.delete()


@pytest.fixture
def container(lab: Lab) -> Iterator[Space]:
    """A namespace with a macvlan interface on the watcher's eth0."""
    space = lab._space("container")
    lab.watcher.space.ip(f"link add link eth0 name mv0 netns {space.name} address {CHILD} type macvlan mode bridge")
    space.ip("addr add 10.77.0.53/24 dev mv0", "link set mv0 up")
    yield space


def test_a_macvlan_interface_of_this_host(lab: Lab, container: Space) -> None:
    """FIELD case 21: its frames show it, no probe can; when its interface goes down, it is a device like others."""
    daemon = lab.daemon(IMPATIENT)

    def until_seen() -> bool:
        announce(container, "mv0", CHILD, "10.77.0.53")
        return CHILD in devices(daemon) and status_of(CHILD) == "online"

    def status_of(mac: str) -> str:
        return str(devices(daemon)[mac]["status"])

    wait_for("online", until_seen)
    with lab.capture() as seen:
        first = daemon.get("/api/status")["now"]
        wait_for("a later scan", lambda: (daemon.get("/api/status")["last_scan"] or "") > first)
        assert not [arp for arp in seen.arp(outgoing=True) if str(arp.target_ip) == "10.77.0.53" and not arp.broadcast]
    assert devices(daemon)[CHILD]["status"] == "online"
    assert not kinds(daemon, "offline")
    container.ip("link set mv0 down")
    wait_for("offline", lambda: devices(daemon)[CHILD]["status"] == "offline")
    container.ip("link set mv0 up")
    wait_for("online again", until_seen)


def test_two_interfaces_on_one_lan(lab: Lab) -> None:
    """FIELD case 30: one is scanned, each device has its address once; when it goes down, the other takes over."""
    hosts = [lab.host(f"10.77.0.{number}") for number in range(20, 25)]
    lab._connect(lab.watcher.space, "port-w", "wlan0", "52:54:00:77:99:01")
    lab.watcher.space.ip("addr add 10.77.0.3/24 dev wlan0")
    daemon = lab.daemon({"scan": {"interval": 5}})

    def networks() -> dict[str, Any]:
        return {network["interface"]: network for network in daemon.get("/api/networks")["networks"]}

    def online() -> set[str]:
        return {mac for mac, device in devices(daemon).items() if device["status"] == "online"}

    wait_for("proved", lambda: networks()["wlan0"]["same_lan_as"] == "10.77.0.0/24@eth0")
    assert "which is scanned instead: eth0 is not Wi-Fi" in networks()["wlan0"]["why"]
    wait_for("found", lambda: online() >= {host.mac for host in hosts})
    for host in hosts:
        host.announce()
        (address,) = devices(daemon)[host.mac]["addresses"]
        assert (address["ip"], address["network"]) == (host.ip, "10.77.0.0/24@eth0")
    assert not kinds(daemon, "address_added", "address_conflict")
    with lab.capture() as cable:
        since = networks()["eth0"]["last_scan"]
        wait_for("a scan", lambda: networks()["eth0"]["last_scan"] != since)
        others = [arp for arp in cable.arp() if arp.broadcast and arp.target_ip not in (lab.watcher.ip, "10.77.0.3")]
        asked = {arp.sender_mac for arp in others if IPv4Address(arp.target_ip) in lab.network}
        assert "52:54:00:77:99:01" not in asked
    lab.watcher.unplug()
    wait_for("taken over", lambda: networks()["wlan0"]["same_lan_as"] is None)
    since = networks()["wlan0"]["last_scan"]
    wait_for("scanned", lambda: networks()["wlan0"]["last_scan"] != since)
    wait_for("all there", lambda: online() >= {host.mac for host in hosts})
    assert [a["network"] for a in devices(daemon)[hosts[0].mac]["addresses"]] == ["10.77.0.0/24@wlan0"]
    assert not kinds(daemon, "offline", "address_added")
    lab.watcher.replug()
    wait_for("back", lambda: networks()["wlan0"]["same_lan_as"] == "10.77.0.0/24@eth0")


def test_the_mac_of_this_host_changes(lab: Lab) -> None:
    """FIELD case 31: former MACs are not this host, have no address, and can be forgotten."""
    daemon = lab.daemon(IMPATIENT)
    macs = [lab.watcher.mac, *(f"02:00:5e:00:53:{number:02x}" for number in range(1, 6))]
    for mac in macs[1:]:
        lab.watcher.space.ip("link set eth0 down", f"link set eth0 address {mac}", "link set eth0 up")
        lab._until_up(lab.watcher.space, lab.watcher.port, "eth0")
        wait_for("this host", partial(is_self, daemon, mac))
    found = devices(daemon)
    assert [mac for mac in macs if "self" in found[mac]["kinds"]] == macs[-1:]
    assert [mac for mac in macs if found[mac]["ip"] is not None] == macs[-1:]
    assert {found[mac]["status"] for mac in macs[:-1]} == {"offline"}
    shown = daemon.ctl("show", lab.watcher.ip)
    assert (shown.returncode, macs[-1] in shown.stdout) == (0, True)
    assert daemon.ctl("devices", "--format", "ethers").stdout.count(lab.watcher.ip) == 1
    assert daemon.ctl("forget", macs[0]).returncode == 0
    assert macs[0] not in devices(daemon)
