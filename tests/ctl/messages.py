"""Devices, networks and messages for tests, made from the few fields that matter."""

from typing import Any

from netscand import protocol
from netscand.protocol import Device, Event, Network

AT = "2026-11-23T22:02:11.042Z"
LATER = "2026-11-23T22:05:00.000Z"
HOME = "192.168.1.0/24@eth0"
OFFICE = "10.0.0.0/24@eth1"


def address(ip: str, network: str = HOME) -> protocol.Address:
    return protocol.Address(
        ip=ip, network=network, interface=network.partition("@")[2], evidence="arp_reply", first_seen=AT, last_seen=AT
    )


def device(number: int, status: str = "online", network: str = HOME, **more: object) -> Device:
    """The device `number`: its MAC ends in it, and its address."""
    prefix = network.partition("/")[0].rpartition(".")[0]
    ip = f"{prefix}.{number}"
    fields: dict[str, Any] = {
        "mac": f"a4:83:e7:00:00:{number:02x}", "ip": ip, "hostname": f"host{number}", "hostname_source": "dhcp",
        "label": None, "known": False, "notes": None, "vendor": "Apple, Inc.", "randomized_mac": False, "kinds": [],
        "status": status, "reason": "answered a probe", "patience": 60, "status_since": AT, "first_seen": AT,
        "last_seen": AT, "rtt_ms": 0.4, "addresses": [address(ip, network)],
    }  # fmt: skip
    fields.update(more)
    return Device(**fields)


def conflict(one: int = 7, other: int = 20, ip: str = "192.168.1.7") -> protocol.Conflict:
    macs = [f"a4:83:e7:00:00:{number:02x}" for number in (one, other)]
    return protocol.Conflict(address=ip, network=HOME, macs=macs, since=AT)


def network(id_: str = HOME, state: str = "up", **more: object) -> Network:
    cidr, _, interface = id_.partition("@")
    fields: dict[str, Any] = {
        "id": id_, "cidr": cidr, "interface": interface, "state": state, "why": "Ethernet, address 192.168.1.2",
        "gateway": "192.168.1.1", "interval": 30, "addresses": 254,
        "coverage": protocol.Coverage(fraction=1.0, seconds=30), "online": 2, "last_scan": AT,
    }  # fmt: skip
    fields.update(more)
    return Network(**fields)


def snapshot(*devices: Device, networks: list[Network] | None = None, **more: object) -> protocol.InitialState:
    fields: dict[str, Any] = {
        "protocol": protocol.PROTOCOL, "version": "0.1.0", "cursor": "k3f9-1", "interval": 30, "scanning": False,
        "last_scan": AT, "role": "scan", "networks": [network()] if networks is None else networks,
        "devices": list(devices), "more": False,
    }  # fmt: skip
    fields.update(more)
    return protocol.InitialState(**fields)


def resumed(cursor: str = "k3f9-1") -> protocol.Resumed:
    return protocol.Resumed(
        cursor=cursor, version="0.1.0", protocol=protocol.PROTOCOL, interval=30, scanning=False, role="scan",
        networks=[network()],
    )  # fmt: skip


def event(kind: str, about: Device | None = None, cursor: str = "k3f9-2", **more: object) -> Event:
    fields: dict[str, Any] = {"cursor": cursor, "kind": kind, "at": LATER, "network": HOME, "device": about}
    if about is not None:
        fields |= {"address": about.ip, "reason": about.reason}
    fields.update(more)
    return Event(**fields)


def left(about: Device, was: str = "online", cursor: str = "k3f9-2") -> Event:
    """Its `offline`."""
    return event("offline", about, cursor, previous={"status": was})


def came(about: Device, was: str = "offline", cursor: str = "k3f9-2") -> Event:
    """Its `online`."""
    return event("online", about, cursor, previous={"status": was})


def scanned(*found: Device, networks: tuple[str, ...] = (HOME,), scan_id: int | None = 42) -> protocol.ScanUpdate:
    return protocol.ScanUpdate(
        scan_id=scan_id, cursor="k3f9-9", networks=list(networks), started_at=AT,
        finished_at="2026-11-23T22:02:11.942Z", online=len(found), frames=protocol.Frames(broadcast=237, unicast=17),
        devices=list(found),
    )  # fmt: skip


def status(**more: object) -> protocol.DaemonStatus:
    fields: dict[str, Any] = {
        "version": "0.1.0", "protocol": protocol.PROTOCOL, "status": "ok", "problems": [], "role": "scan",
        "started_at": AT, "now": LATER, "cursor": "k3f9-1", "scanning": False, "interval": 30, "last_scan": AT,
        "devices": protocol.Counts(online=2, offline=1, unknown=0), "networks": [network()], "clients": 1,
        "frames": protocol.Traffic(received=1000, dropped=0, broadcast=254, unicast=40, send_errors=0),
        "budget": protocol.Budget(rate=1000, background_rate=50, used=3), "memory_mib": 48.2,
    }  # fmt: skip
    fields.update(more)
    return protocol.DaemonStatus(**fields)
