"""Wi-Fi extenders that put their own MAC into the frames of the devices behind them. FIELD case 5."""

import pytest

from netscand.core.model import Address, EventKind, Evidence, Observation, Status
from tests.core.world import World, ip, mac

EXTENDER = mac(0xE0)
PHONES = [f"10.0.0.{number}" for number in range(61, 70)]


@pytest.fixture
def world() -> World:
    made = World()
    for at in ("10.0.0.60", *PHONES):
        made.hosts[2, ip(at)] = EXTENDER
        made.hear(EXTENDER, at, Evidence.ARP_ANNOUNCEMENT)
    made.run(120)
    return made


def entry(world: World, at: str) -> Address:
    (found,) = [each for each in world.inventory.devices[EXTENDER].addresses if each.ip == ip(at)]
    return found


def test_each_address_shows_whether_its_device_is_there(world: World) -> None:
    """At one probe a minute and address; without an event, until the address is dropped after half an hour."""
    del world.hosts[2, ip("10.0.0.65")]
    left, since = world.now, len(world.frames)
    world.run(600)
    for at in PHONES:
        if at == "10.0.0.65":
            assert entry(world, at).last_seen <= left
        else:
            assert world.now - entry(world, at).last_seen <= 90
    probes = [probe for _, probe in world.frames[since:] if probe.mac == EXTENDER]
    assert len(probes) <= 10 * 10 + 60 + 20
    assert world.inventory.devices[EXTENDER].status is Status.ONLINE
    assert not world.of(EventKind.OFFLINE)


def dhcp(world: World, number: int, at: str, *, via: int = 0xE0, name: str = "Pixel-7") -> None:
    """Send a phone's request through a station, and the server's answer to it."""
    seen = Observation(world.now, 2, mac(number), None, Evidence.PROXIED, joining=True, via=mac(via))
    world._hear(seen._replace(name=name, name_source="dhcp"))
    world.now += 0.1
    world._hear(Observation(world.now, 2, mac(number), ip(at), Evidence.PROXIED, joining=True, via=mac(1)))


def test_an_address_has_the_name_of_the_device_behind(world: World) -> None:
    """Whether the address is known before the lease or after; the device with the true MAC is none."""
    dhcp(world, 0x61, "10.0.0.61")
    dhcp(world, 0x99, "10.0.0.99", name="tablet")
    for at in ("10.0.0.61", "10.0.0.99"):
        world.hear(EXTENDER, at)
    assert entry(world, "10.0.0.61").hostname == "Pixel-7"
    assert entry(world, "10.0.0.99").hostname == "tablet"
    assert entry(world, "10.0.0.62").hostname is None
    assert world.inventory.devices[EXTENDER].hostname is None
    assert mac(0x61) not in world.inventory.devices


def test_a_station_names_only_its_own_addresses(world: World) -> None:
    """Law 6: another host sends a request in the name of a client, and forges the answer."""
    dhcp(world, 0x61, "10.0.0.61", via=0x66, name="evil")
    world.hear(EXTENDER, "10.0.0.61")
    assert entry(world, "10.0.0.61").hostname is None
    for number in range(2000):
        dhcp(world, 10_000 + number, f"10.0.{number // 250}.{number % 250}", via=0x66)
    assert len(world.inventory._relayed_names._leases) <= 256
