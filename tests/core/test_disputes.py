"""The holder of an address is probed before a stranger's claim to it succeeds."""

from dataclasses import replace

import pytest

from netscand.core.disputes import MOST
from netscand.core.model import EventKind, Evidence, Ip, Observation, Status
from netscand.core.presence import Rules
from tests.core.test_attacks import OWN6, QUICK, say, v6, with_gateway
from tests.core.world import World, ip, mac, network

K = EventKind
PC, STRANGER = mac(3), mac(0x999)
AT = ip("10.0.0.11")
LOCAL6 = Ip(bytes.fromhex("fe80000000000000") + bytes(7) + b"\x33")
ABOUT_ADDRESSES = (K.ADDRESS_ADDED, K.ADDRESS_REMOVED, K.ADDRESS_MOVED, K.ADDRESS_CONFLICT)


def talk(world: World, seconds: float) -> None:
    """Let the PC speak by IPv6, so that presence has no reason to ask it."""
    end = world.now + seconds
    while world.now < end:
        say(world, PC, LOCAL6, Evidence.MDNS)
        world.run(4)


def talking(rules: Rules = QUICK) -> World:
    world = with_gateway(rules=rules)
    world.inventory.label(PC, {"label": "pc"}, world.now)
    talk(world, 70)
    world.events.clear()
    return world


def published(world: World) -> list[EventKind]:
    return [event.kind for event in world.events if event.kind in ABOUT_ADDRESSES]


@pytest.mark.parametrize("rules", [QUICK, Rules()])
@pytest.mark.parametrize("after", [0.0, 1000.0])
def test_a_device_that_speaks_by_ipv6_keeps_its_ipv4_address(rules: Rules, after: float) -> None:
    world = talking(rules)
    talk(world, after)
    world.frames.clear()
    say(world, STRANGER, AT)
    say(world, STRANGER, AT)
    talk(world, 4)
    (conflict,) = [event for event in world.events if event.kind in ABOUT_ADDRESSES]
    assert (conflict.kind, conflict.address, conflict.other) == (K.ADDRESS_CONFLICT, AT, PC)
    assert conflict.device
    assert conflict.device.mac == STRANGER
    assert conflict.reason == f"sent an ARP request; {PC.hex(':')} is still there"
    assert AT in {held.ip for held in world.inventory.devices[PC].addresses}
    assert len([probe for _, probe in world.frames if probe.ip == AT and probe.presence_of == PC]) == 2


@pytest.mark.parametrize("unreachable", [1, 2])
def test_the_holder_is_probed_twice_then_by_broadcast(unreachable: int) -> None:
    """Law 11. Some devices answer only broadcasts; a device that answers neither no longer holds the address."""
    world = talking()
    probes = []

    def lost(probe: object) -> bool:
        probes.append(probe)
        return len(probes) <= unreachable

    world.unreachable = lost
    say(world, STRANGER, AT)
    talk(world, 4)
    assert [probe.mac for _, probe in world.frames if probe.ip == AT and probe.presence_of == PC][-2:] == [PC, None]
    assert published(world) == ([K.ADDRESS_CONFLICT] if unreachable == 1 else [K.ADDRESS_REMOVED, K.ADDRESS_MOVED])
    if unreachable == 2:
        assert "did not answer there" in world.of(K.ADDRESS_MOVED)[0].reason


def test_a_released_address_moves_without_a_conflict() -> None:
    """Its holder has another address now, and DHCP leased the old one to another device."""
    world = with_gateway()
    del world.hosts[2, AT]
    world.hosts[2, ip("10.0.0.77")] = PC
    world.hear(PC, "10.0.0.77", Evidence.ARP_ANNOUNCEMENT)
    world.run(100)
    world.events.clear()
    world.hosts[2, AT] = STRANGER
    world.hear(STRANGER, "10.0.0.11", Evidence.ARP_ANNOUNCEMENT)
    world.run(5)
    assert published(world) == [K.ADDRESS_REMOVED, K.ADDRESS_MOVED]
    assert [held.ip for held in world.inventory.devices[PC].addresses] == [ip("10.0.0.77")]
    assert world.inventory.addresses.holder(network().id, AT) is world.inventory.devices[STRANGER]


@pytest.mark.parametrize("how", ["ack", "release", "neither", "ack for another"])
@pytest.mark.parametrize("there", [False, True])
def test_a_phone_that_left_and_dhcp_gave_its_address_to_another(how: str, there: bool) -> None:
    """Within its patience: no alarm where DHCP says so, unless the phone is still there.

    Without that, a phone of such patience may be asleep, and the claimant answers as little.
    """
    world = with_gateway(rules=Rules(10.0, 600.0, 900.0))
    world.events.clear()
    if not there:
        del world.hosts[2, AT]
    if how == "release":
        say(world, PC, None, Evidence.DHCP, goodbye=True)
    world.run(20)
    if how.startswith("ack"):
        client = STRANGER if how == "ack" else mac(0x777)
        say(world, client, AT, Evidence.PROXIED, joining=True, via=mac(1))
    world.run(1)
    if how == "release" and there:
        return  # it was seen since
    world.hear(STRANGER, "10.0.0.11", Evidence.ARP_ANNOUNCEMENT)
    now = published(world)
    world.run(5)
    handed_over = how in ("ack", "release")
    assert now == []
    assert published(world) == (
        [K.ADDRESS_REMOVED, K.ADDRESS_MOVED] if handed_over and not there else [K.ADDRESS_CONFLICT]
    )


def test_many_claims_cost_few_probes_and_are_conflicts() -> None:
    """200 IPv6 addresses whose holders are online over IPv4; those that cannot be probed now count as present."""
    world = with_gateway(alive=100)
    for number in range(2, 102):
        for each in range(2):
            say(world, mac(number), v6(number * 10 + each), Evidence.NDP)
            world.hosts[2, v6(number * 10 + each)] = mac(number)
    world.run(90)
    world.events.clear()
    world.frames.clear()
    for number in range(2, 102):
        for each in range(2):
            say(world, STRANGER, v6(number * 10 + each), Evidence.NDP)
    probed = len(world.inventory.addresses.disputes.open)
    assert probed == 32
    world.run(5)
    assert not world.of(K.ADDRESS_MOVED)
    assert len(world.of(K.ADDRESS_CONFLICT)) == 200


@pytest.mark.parametrize("why", ["no IPv6 of ours", "unreachable", "not sent"])
def test_a_holder_that_cannot_be_probed_counts_as_present(why: str) -> None:
    """Law 8."""
    world = with_gateway()
    say(world, PC, v6(5), Evidence.NDP)
    if why == "no IPv6 of ours":
        world.set_networks([network(gateway="10.0.0.1")])
    world.run(100)
    world.events.clear()
    say(world, STRANGER, v6(5), Evidence.NDP)
    if why == "unreachable":
        world.inventory.outage.overflow_at = world.now, world.now + 0.1
    if why == "not sent":
        world.inventory.is_due = lambda probe, now: not probe.additional  # type: ignore[method-assign]
    world.run(5)
    assert published(world) == [K.ADDRESS_CONFLICT]


def test_claims_of_many_macs_to_one_address_open_one_question() -> None:
    world = talking()
    world.frames.clear()
    for number in range(100):
        say(world, mac(0x1000 + number), AT)
    assert len(world.inventory.addresses.disputes.open) == 1
    talk(world, 4)
    assert K.ADDRESS_MOVED not in published(world)
    assert len([probe for _, probe in world.frames if probe.ip == AT and probe.presence_of == PC]) == 2
    say(world, STRANGER, AT)
    talk(world, 4)
    assert world.of(K.ADDRESS_CONFLICT)[-1].device is world.inventory.devices[STRANGER]


def test_a_question_ends_with_its_devices_and_tables_are_bounded() -> None:
    world = talking()
    say(world, STRANGER, AT)
    world.inventory.forget(STRANGER, world.now, "a test's")
    talk(world, 4)
    assert published(world) == []
    assert world.inventory.devices[PC].status is Status.ONLINE
    disputes = world.inventory.addresses.disputes
    for number in range(3 * MOST):
        say(world, mac(0x2000 + number), v6(number), Evidence.PROXIED, joining=True)
        disputes.record_release(mac(0x2000 + number), world.now)
    assert len(disputes._leases) == len(disputes._released) == MOST


def test_after_a_restart_a_holder_is_probed_before_a_move() -> None:
    """All devices are `unknown` then."""
    world = talking()
    again = World([replace(network(gateway="10.0.0.1"), own6=OWN6)], rules=QUICK, now=world.now)
    devices = [each for each in world.inventory.devices.values() if not each.is_self]
    for device in devices:
        device.status, device.counted = Status.UNKNOWN, None
    fresh = World([], rules=QUICK, now=world.now + 100)
    fresh.inventory.restore(devices, {"eth0": 2}, fresh.now)
    fresh.hosts = {place: each for place, each in world.hosts.items() if each == PC}
    fresh.set_networks(again.networks)
    say(fresh, STRANGER, AT)
    fresh.run(5)
    assert K.ADDRESS_MOVED not in published(fresh)
    assert K.ADDRESS_CONFLICT in published(fresh)


def test_who_lost_its_address_to_a_claim_is_asked_there_still() -> None:
    """FAULTS T61: any host can send a server's ACK, and two probes are easily lost: the device had no address left.

    It answers, and is not offline.
    """
    world = World([network(gateway="10.0.0.1")])
    world.alive(5)
    world.run(1200)
    victim, liar, at = mac(1), mac(0x666), ip("10.0.0.10")
    world.unreachable = lambda ask: ask.ip == at
    lease = Observation(world.now, 2, STRANGER, at, Evidence.PROXIED, joining=True, via=liar)
    world._hear(lease)
    world.hear(STRANGER, "10.0.0.10", Evidence.ARP_ANNOUNCEMENT)
    world.run(4)
    assert K.ADDRESS_MOVED in published(world)
    assert not world.inventory.devices[victim].addresses
    world.unreachable = lambda ask: False
    for _ in range(100):
        world.hear(STRANGER, "10.0.0.10", Evidence.ARP_REPLY)
        world.run(10)
    assert victim not in {event.device.mac for event in world.of(K.OFFLINE) if event.device}
    assert at in {held.ip for held in world.inventory.devices[victim].addresses}
    del world.hosts[2, at]
    world.run(300)
    assert world.inventory.devices[victim].status is Status.OFFLINE
