"""Devices that come back under another MAC are suggested as the same one. FIELD case 13, second half."""

from itertools import count
from typing import Any

import pytest

from netscand.core.annotations import move_annotations
from netscand.core.model import Device, Evidence, Mac, Observation, Status
from netscand.core.predecessor import MOST_STEPS, Predecessor, may_matter, predecessor
from tests.core.world import World, ip

AT = "10.0.0.210"
_numbers = count(1)


def private() -> Mac:
    return Mac(b"\xa2\x00\x5e\x00\x53" + bytes([next(_numbers)]))


def join(world: World, mac: Mac, at: str = AT, name: str | None = "unifi", **more: Any) -> Device:  # noqa: ANN401
    """Start a container: DHCP, then an announcement; it answers."""
    world.hosts[2, ip(at)] = mac
    source = "dhcp" if name else None
    seen = Observation(world.now, 2, mac, None, Evidence.DHCP, joining=True, name=name, name_source=source)
    world._hear(seen._replace(**more))
    world.now += 0.1
    world.hear(mac, at, Evidence.ARP_ANNOUNCEMENT)
    return world.inventory.devices[mac]


def leave(world: World, at: str = AT, seconds: float = 2.0) -> None:
    del world.hosts[2, ip(at)]
    world.run(seconds)


def suggested(world: World, device: Device) -> Predecessor | None:
    others = [each for each in world.inventory.devices.values() if may_matter(device, each)]
    return predecessor(device, others)


def test_a_container_that_starts_ten_times() -> None:
    """Each is suggested as the one before once that is offline; with annotations, as the one that has them."""
    world = World()
    first = join(world, private())
    world.run(200)
    world.inventory.label(first.mac, {"label": "Unifi", "known": True}, world.now)
    before = first
    for _ in range(9):
        leave(world)
        device = join(world, private())
        world.run(200)
        assert before.status is Status.OFFLINE
        found = suggested(world, device)
        assert found == Predecessor(first, "same host name, and it has the address of that device")
        before = device
    assert suggested(world, first) is None
    assert first.label == "Unifi"  # nothing moves by itself
    assert [event.device for event in move_annotations(first, before, world.now)] == [first, before]
    assert [(each.label, each.known) for each in (before, first)] == [("Unifi", True), (None, False)]


def test_without_annotations_the_latest_is_suggested() -> None:
    """However many there were before it."""
    world = World()
    for _ in range(MOST_STEPS + 2):
        before = join(world, private(), name=None, client_id=b"\xff\x12\x34")
        leave(world, seconds=200)
    found = suggested(world, join(world, private(), name=None, client_id=b"\xff\x12\x34"))
    assert found is not None
    assert found.device is before


def test_a_dhcp_client_identifier_is_enough() -> None:
    """It survives a new MAC and a new address, as of a phone with a private MAC that changes."""
    world = World()
    old = join(world, private(), name=None, client_id=b"\xff\x12\x34")
    leave(world, seconds=300)
    new = join(world, private(), "10.0.0.77", name=None, client_id=b"\xff\x12\x34")
    assert suggested(world, new) == Predecessor(old, "same DHCP client identifier")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"name": "unifi"}, {"name": "other"}),
        ({"name": None}, {"name": None}),
        ({"name": "unifi"}, {"name": "unifi", "at": "10.0.0.77"}),
        ({"name": "unifi", "vendor_class": "android-dhcp-14"}, {"name": "unifi", "vendor_class": "MSFT 5.0"}),
        ({"name": None, "client_id": b"\xff\x01"}, {"name": None, "client_id": b"\xff\x02", "at": "10.0.0.77"}),
    ],
    ids=["other name", "address alone", "name alone", "other DHCP client", "other identifier"],
)
def test_without_evidence_none_is_suggested(old: dict[str, Any], new: dict[str, Any]) -> None:
    world = World()
    join(world, private(), **old)
    leave(world, seconds=300)
    assert suggested(world, join(world, private(), **new)) is None


def test_devices_that_are_present_together_are_not_one() -> None:
    """Copies of one image have one name and one DHCP client identifier."""
    world = World()
    copies = [join(world, private(), f"10.0.0.{n}", client_id=b"\xff\x01") for n in (50, 51, 52)]
    world.run(60)
    assert [suggested(world, each) for each in copies] == [None] * 3
    leave(world, "10.0.0.50", 300)
    assert copies[0].status is Status.OFFLINE
    assert [suggested(world, each) for each in copies[1:]] == [None] * 2
    assert suggested(world, join(world, private(), "10.0.0.53", client_id=b"\xff\x01")) is None
