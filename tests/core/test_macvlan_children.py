"""Devices on macvlan interfaces of this host: it receives their frames, and they none of its own. FIELD case 21."""

from dataclasses import replace

import pytest

from netscand.config import Scan
from netscand.core.model import EventKind, Evidence, Mac, Network, Status
from netscand.lan.networks import HostAddress, Kernel, Link, decide
from tests.core.world import World, ip, mac, network

K = EventKind
CHILD, AT = mac(0x53), "10.0.0.53"


def parent(*children: Mac) -> Network:
    return replace(network(), children=frozenset(children))


@pytest.fixture
def world() -> World:
    made = World([parent(CHILD)])
    made.hear(CHILD, AT, Evidence.ARP_ANNOUNCEMENT)
    return made


def test_a_child_that_sends_is_online(world: World) -> None:
    """As long as it sends now and then, and without a probe."""
    device = world.inventory.devices[CHILD]
    for _ in range(20):
        world.run(100)
        world.hear(CHILD, AT, Evidence.MDNS)
        assert device.status is Status.ONLINE
    assert [event.kind for event in world.events if event.device is device] == [K.DISCOVERED]
    assert not [probe for _, probe in world.frames if probe.mac == CHILD]


def test_a_silent_child_is_unknown(world: World) -> None:
    """Neither online without end nor offline: its silence proves nothing."""
    device = world.inventory.devices[CHILD]
    world.run(3600)
    (event,) = world.of(K.UNKNOWN)
    reason = "silent for 300 s; it is on a macvlan interface here, and cannot be probed"
    assert (device.status, device.reason) == (Status.UNKNOWN, reason)
    assert (event.device, event.reason, event.network) == (device, reason, network().id)
    assert event.previous is not None
    assert event.previous["status"] is Status.ONLINE
    assert not world.of(K.OFFLINE)
    world.hear(CHILD, AT)
    assert device.status is Status.ONLINE
    (back,) = world.of(K.ONLINE)
    assert (back.previous or {})["status"] is Status.UNKNOWN


def test_a_child_that_sends_rarely_does_not_flap(world: World) -> None:
    """Its silences are learned, though it is never probed."""
    for _ in range(144):
        world.run(600)
        world.hear(CHILD, AT, Evidence.MDNS)
    assert len(world.of(K.UNKNOWN)) <= 3


def test_a_child_that_moves_to_another_host_is_probed(world: World) -> None:
    """Or that ends: no interface of this host has its MAC any more."""
    device = world.inventory.devices[CHILD]
    world.run(1000)
    world.set_networks([parent()])
    world.run(300)
    assert len(world.of(K.OFFLINE)) == 1
    world.hosts[2, ip(AT)] = CHILD
    world.run(300)
    assert [event.device for event in world.of(K.ONLINE)] == [device]
    world.set_networks([parent(CHILD)])
    world.hosts.clear()
    world.run(3600)
    assert len(world.of(K.OFFLINE)) == 1
    assert device.status is Status.UNKNOWN


def test_children_are_macs_that_this_host_does_not_have() -> None:
    """A macvlan interface in its own namespace is its own; a macvtap is a virtual machine's."""
    links = [Link(2, "eth0", 0x1043, 1, mac(1)), Link(3, "shim", 0x1043, 1, mac(2), "macvlan"),
             Link(4, "tap", 0x1043, 1, mac(3), "macvtap")]  # fmt: skip
    own = HostAddress(2, ip("10.0.0.2"), network().cidr)
    children = frozenset([(2, mac(1)), (2, mac(2)), (2, mac(3)), (2, mac(4)), (9, mac(5))])
    (found,) = decide(Kernel(tuple(links), (own,), children=children), Scan(), ())
    assert found.children == {mac(3), mac(4)}
