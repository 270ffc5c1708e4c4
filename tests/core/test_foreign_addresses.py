"""Addresses of none of our networks: fixed by the factory, or link-local without DHCP. FIELD case 6."""

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from netscand.core.model import EventKind, Evidence, Ip, Mac, Observation, Status
from netscand.core.presence import Rules
from netscand.core.restore import Memory, Remembered, recalled
from tests.core.world import World, ip, mac, network

K = EventKind
FACTORY, SELF_ASSIGNED = "192.168.0.64", "169.254.33.7"


def present(world: World, number: int, at: str) -> None:
    """Announce a device that answers."""
    world.hosts[2, ip(at)] = mac(number)
    world.hear(mac(number), at, Evidence.ARP_ANNOUNCEMENT)


@pytest.mark.parametrize("at", [FACTORY, SELF_ASSIGNED])
def test_a_foreign_address_is_listed_and_probed(at: str) -> None:
    """By unicast from our own address, never by broadcast: a proxy would answer that."""
    world = World()
    present(world, 1, at)
    world.run(1200)
    device = world.inventory.devices[mac(1)]
    assert (device.status, device.ip) == (Status.ONLINE, ip(at))
    assert [(each.ip, each.foreign, each.network) for each in device.addresses] == [(ip(at), True, network().id)]
    assert [event.kind for event in world.events if event.device is device] == [K.DISCOVERED]
    probes = [probe for _, probe in world.frames if probe.ip == ip(at)]
    assert probes
    assert all((probe.mac, probe.network.own) == (mac(1), network().own) for probe in probes)
    del world.hosts[2, ip(at)]
    world.run(200)
    (gone,) = world.of(K.OFFLINE)
    assert "unanswered, silent for" in gone.reason
    assert gone.at - device.last_seen <= 91  # as any other new device
    assert device.ip == ip(at)
    assert all(probe.mac is not None for _, probe in world.frames if probe.ip == ip(at))


def test_a_foreign_address_has_no_holder_and_no_conflict() -> None:
    """Two cameras of one make have the same one."""
    world = World()
    for number in (1, 2):
        world.hear(mac(number), FACTORY, Evidence.ARP_ANNOUNCEMENT)
        world.hear(mac(number), FACTORY)
    assert {event.kind for event in world.events} <= {K.NETWORK_UP, K.DISCOVERED}
    assert world.inventory.addresses.holder(network().id, ip(FACTORY)) is None
    assert [world.inventory.devices[mac(number)].ip for number in (1, 2)] == [ip(FACTORY)] * 2


@pytest.mark.parametrize("at", ["10.0.1.9", "10.0.0.9", SELF_ASSIGNED])
def test_two_interfaces_on_one_lan_with_different_prefixes(at: str) -> None:
    """Each frame arrives at both: an address is listed once, on the network that has it."""
    world = World([network(), network("10.0.1.0/24", "eth1", 3)])
    for index in (2, 3):
        world.hosts[index, ip(at)] = mac(1)
    for _ in range(20):
        for index in (2, 3):
            world.hear(mac(1), at, index=index)
        world.run(600)
    (address,) = world.inventory.devices[mac(1)].addresses
    assert (address.network == "10.0.1.0/24@eth1") is (at == "10.0.1.9")
    assert address.foreign is (at == SELF_ASSIGNED)
    assert not world.of(K.ADDRESS_ADDED)
    assert not world.of(K.ADDRESS_REMOVED)


def test_our_own_addresses_come_first() -> None:
    """A device with both is shown at that of our network, and keeps the foreign one as long as it answers there."""
    world = World()
    present(world, 1, "10.0.0.9")
    present(world, 1, FACTORY)
    device = world.inventory.devices[mac(1)]
    assert device.ip == ip("10.0.0.9")
    (added,) = world.of(K.ADDRESS_ADDED)
    assert added.address == ip(FACTORY)
    world.run(3 * 3600)
    assert {each.ip for each in device.addresses} == {ip("10.0.0.9"), ip(FACTORY)}
    assert len(world.of(K.ADDRESS_ADDED)) == 1
    del world.hosts[2, ip(FACTORY)]
    world.run(2 * 3600)
    assert {each.ip for each in device.addresses} == {ip("10.0.0.9")}
    assert len(world.of(K.ADDRESS_REMOVED)) == 1


def test_made_up_foreign_addresses_are_bounded() -> None:
    """Law 6: two for a device; thousands of frames cause few events and probes."""
    world = World()
    world.hear(mac(1), "10.0.0.9")
    for number in range(2000):
        world.hear(mac(1), f"172.16.{number % 250}.{number // 250 + 1}", Evidence.ARP_ANNOUNCEMENT)
    assert sum(each.foreign for each in world.inventory.devices[mac(1)].addresses) == 2
    assert len(world.of(K.ADDRESS_ADDED)) == 2
    for number in range(5000):
        made_up = Mac(b"\x02\x66" + number.to_bytes(4))
        world._hear(Observation(world.now, 2, made_up, Ip(b"\xac\x10" + number.to_bytes(2)), Evidence.ARP_REPLY))
    assert len(world.inventory.devices) < 600
    sent = len(world.frames)
    world.run(60)
    assert len(world.frames) - sent <= 60 * world.pace.rate


@pytest.mark.parametrize("prefix", ["192.168.0", "169.254.33"])
@pytest.mark.parametrize("apart", [30, 600])
def test_a_device_that_changes_its_foreign_address_is_probed_at_the_last_one(prefix: str, apart: float) -> None:
    """A camera that is set up, a host whose link-local address collides. After some minutes, the last one is `ip`."""
    world = World()
    for number in range(1, 5):
        world.hosts = {}
        present(world, 1, f"{prefix}.{number}")
        world.run(apart)
    for _ in range(12):  # it asks for its server
        world.hear(mac(1), f"{prefix}.4")
        world.run(60)
    device = world.inventory.devices[mac(1)]
    world.run(3600)
    assert device.status is Status.ONLINE
    assert device.ip == ip(f"{prefix}.4")
    assert sum(each.foreign for each in device.addresses) <= 2


def test_foreign_addresses_that_change_all_the_time_are_few_events() -> None:
    world = World()
    for number in range(720):
        world.hear(mac(1), f"172.16.{number % 250}.{number // 250 + 1}", Evidence.ARP_ANNOUNCEMENT)
        world.run(5)
    assert 2 <= len(world.of(K.ADDRESS_ADDED)) <= 12


def test_the_host_joins_the_foreign_network() -> None:
    """Then the address is an ordinary one, without an event."""
    world = World()
    present(world, 1, FACTORY)
    world.set_networks([network(), network("192.168.0.0/24")])
    world.hear(mac(1), FACTORY)
    (address,) = world.inventory.devices[mac(1)].addresses
    assert (address.network, address.foreign) == ("192.168.0.0/24@eth0", False)
    assert not world.of(K.ADDRESS_ADDED)


@pytest.mark.parametrize("evidence", [Evidence.PROXIED, Evidence.MDNS, Evidence.NBNS])
def test_only_own_words_show_a_foreign_address(evidence: Evidence) -> None:
    """A router forwards packets of foreign hosts, whose addresses are not its own."""
    world = World()
    world.hear(mac(1), "10.0.0.9")
    world.hear(mac(1), FACTORY, evidence)
    assert [each.ip for each in world.inventory.devices[mac(1)].addresses] == [ip("10.0.0.9")]


def test_a_device_at_a_foreign_address_has_a_name() -> None:
    world = World()
    present(world, 1, FACTORY)
    seen = Observation(world.now, 2, mac(1), ip(FACTORY), Evidence.MDNS, name="camera", name_source="mdns")
    world._hear(seen)
    assert world.inventory.devices[mac(1)].hostname == "camera"


def test_excluded_and_other_own_prefixes_are_not_foreign() -> None:
    """`[scan] exclude` names them, or another network of the same interface."""
    world = World([replace(network(), not_foreign=(IPv4Network("192.168.0.0/16"),))])
    world.hear(mac(1), FACTORY, Evidence.ARP_ANNOUNCEMENT)
    assert world.inventory.devices[mac(1)].addresses == []


def test_a_foreign_address_is_foreign_after_a_restart() -> None:
    before = World()
    present(before, 1, FACTORY)
    was = before.inventory.devices[mac(1)]
    for address in was.addresses:
        address.foreign = False  # it is not stored
    world = World([], now=2000.0)
    stored = Remembered(
        mac(1), 1000.0, 1000.0, Status.ONLINE, 1000.0, "", addresses=tuple(was.addresses), confirmed=True
    )
    world.inventory.restore(recalled(Memory([stored], 1000.0), Rules(), 0.0, world.now), {"eth0": 2}, world.now)
    world.set_networks([network()])
    world.hosts[2, ip(FACTORY)] = mac(1)
    world.run(60)
    device = world.inventory.devices[mac(1)]
    assert (device.status, [each.foreign for each in device.addresses]) == (Status.ONLINE, [True])
    assert world.inventory.addresses.holder(network().id, ip(FACTORY)) is None
