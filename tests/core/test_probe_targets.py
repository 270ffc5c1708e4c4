"""A silent device is also probed where it last answered, but never at excluded addresses.

Whatever others say in its name, on whatever network and by whatever protocol, no device that is there is called
offline: before that it is asked wherever it answered.
"""

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Address

import pytest

from netscand.core.model import Address, EventKind, Evidence, Ip, Observation, Status
from netscand.core.presence import Rules
from tests.core.world import World, ip, mac, network

pytestmark = pytest.mark.slow

OWN6, HOST6 = (Ip(IPv6Address(f"fe80::{number}").packed) for number in (2, 10))
QUICK = Rules(5.0, 10.0, 20.0)


K = EventKind
V6 = Ip(IPv6Address("2001:db8::77").packed)


def probed(world: World, since: float) -> set[Ip]:
    """Where presence asked for the first device, by asks that count."""
    return {
        probe.ip for at, probe in world.frames if at > since and probe.presence_of == mac(1) and not probe.additional
    }


def two_lans(rules: Rules = QUICK) -> World:
    """Seven devices on the one, six on the other."""
    world = World([replace(network(), own6=OWN6), network("10.9.0.0/24", "eth1", 3)], rules=rules)
    world.alive(7)
    for number in range(20, 26):
        world.hosts[3, ip(f"10.9.0.{number}")] = mac(number)
    world.run(300 if rules is QUICK else 1000)
    world.events.clear()
    return world


def forge(world: World, number: int, at: Ip | str, index: int = 2, *, answers: bool = False) -> None:
    """Send a frame with the MAC of another; `answers`: as if to a request of ours."""
    address = ip(at) if isinstance(at, str) else at
    evidence = Evidence.ARP_REPLY if len(address) == 4 else Evidence.NDP
    seen = Observation(world.now, index, mac(number), address, evidence)
    where = world.inventory.network_table.lookup(index, address)
    assert where is not None
    world._tell(world.inventory.observe(seen, where, 0.001 if answers else None))


def held(world: World, text: str) -> Address:
    return next(each for each in world.inventory.devices[mac(1)].addresses if each.ip == ip(text))


def test_a_device_without_ipv4_is_probed_over_ipv6_only() -> None:
    """Of the probes that count, half would otherwise go to an unused address."""
    world = World([replace(network(), own6=OWN6)], rules=QUICK)
    world.alive(1)
    world.run(60)
    world.hosts = {(2, HOST6): mac(1)}
    for _ in range(40):
        world._hear(Observation(world.now, 2, mac(1), HOST6, Evidence.NDP))
        world.run(5)
    assert world.inventory.devices[mac(1)].status is Status.ONLINE
    since = world.now
    world.hosts.clear()
    world.run(60)
    assert world.inventory.devices[mac(1)].status is Status.OFFLINE
    assert probed(world, since) == {HOST6}
    beside = [at - since for at, probe in world.frames if at > since and probe.additional]
    assert 4 <= len(beside) <= 10, "it answered by IPv4 today, so it is asked there as well, with the last asks"


@pytest.mark.parametrize("rules", [QUICK, Rules()])
@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize(("at", "index"), [("10.9.0.177", 3), ("10.0.0.177", 2), (V6, 2)])
def test_no_frame_in_its_name_makes_a_present_device_offline(
    rules: Rules, answers: bool, at: Ip | str, index: int
) -> None:
    """From the other LAN, on its own, by IPv6; also where it seems to answer us, and where it goes on for minutes."""
    world = two_lans(rules)
    for seconds in (0, 130):
        for number in range(1, 8):
            forge(world, number, at, index, answers=answers)
        begun = world.now
        while world.now < begun + seconds:
            forge(world, 1, at, index, answers=answers)
            world.run(4)
        world.run(120)
    assert {event.kind for event in world.events} <= {K.ADDRESS_ADDED, K.ADDRESS_CONFLICT, K.ADDRESS_MOVED,
                                                      K.ADDRESS_REMOVED}  # fmt: skip
    assert {world.inventory.devices[mac(number)].status for number in range(1, 8)} == {Status.ONLINE}


def test_forged_addresses_do_not_delay_offline() -> None:
    """However many addresses others claim in its name, it is reported as early."""

    def delay(forged: int) -> float:
        world = two_lans()
        for number in range(forged):
            forge(world, 1, f"10.9.0.{100 + number}", 3, answers=True)
        world.run(60)
        del world.hosts[2, ip("10.0.0.10")]
        left = world.now
        world.run(60)
        (published,) = world.of(K.OFFLINE)
        beside = [probe for at, probe in world.frames if at > left and probe.additional]
        assert len(beside) <= 2 * 4 + 4
        return published.at - world.inventory.devices[mac(1)].last_seen

    assert delay(8) <= delay(0)


def test_devices_lured_to_another_lan_make_it_not_silent() -> None:
    """They are probed where they answered: silence where others placed them proves nothing about that LAN."""
    world = two_lans()
    for number in range(1, 8):
        forge(world, number, f"10.9.0.{100 + number}", 3)
    del world.hosts[2, ip("10.0.0.10")]
    del world.hosts[3, ip("10.9.0.20")]
    world.run(60)
    published = {(event.kind, event.device and event.device.mac) for event in world.events}
    assert published == {(K.ADDRESS_ADDED, mac(number)) for number in range(1, 8)} | {(K.OFFLINE, mac(1)),
                                                                                 (K.OFFLINE, mac(20))}  # fmt: skip


def test_an_outage_counts_for_devices_forged_elsewhere() -> None:
    """Law 8: frames on another LAN do not move a device there."""
    world = two_lans()
    for number in range(1, 8):
        forge(world, number, f"10.9.0.{100 + number}", 3)
    world.unreachable = lambda probe: probe.network.index == 2
    world.run(60)
    assert not world.of(K.OFFLINE)
    assert [event.network for event in world.of(K.NETWORK_SILENT)] == ["10.0.0.0/24@eth0"]


def test_a_device_keeps_the_address_where_it_answers() -> None:
    """Even if it was not seen there for half an hour, or has more than 64 addresses: it is probed there first."""
    world = two_lans()
    begun, number = world.now, 0
    while world.now < begun + 4000:
        number += 1
        forge(world, 1, f"10.0.0.{100 + number // 20 % 100}")
        world.run(4)
    world.run(120)
    published = [event for event in world.events if event.device and event.device.mac == mac(1)]
    assert not [event for event in published if event.address == ip("10.0.0.10")]
    assert not world.of(K.OFFLINE)
    assert world.inventory.devices[mac(1)].status is Status.ONLINE


def test_a_host_with_two_addresses_that_speaks_by_one_keeps_both() -> None:
    world = World(rules=QUICK)
    world.hosts = {(2, ip("10.0.0.10")): mac(1), (2, ip("10.0.0.200")): mac(1)}
    world.run(4 * 3600)
    assert not world.of(K.ADDRESS_REMOVED)
    del world.hosts[2, ip("10.0.0.200")]
    world.run(2 * 3600)
    assert [event.address for event in world.of(K.ADDRESS_REMOVED)] == [ip("10.0.0.200")]


def test_newly_excluded_addresses_are_not_probed() -> None:
    """A reload may exclude the address where a device answered."""
    world = World(rules=QUICK)
    world.hosts = {(2, ip("10.0.0.10")): mac(1), (2, ip("10.0.0.200")): mac(1)}
    world.run(60)
    held(world, "10.0.0.200").answered = world.now
    world.set_networks([replace(network(), excluded=(IPv4Network("10.0.0.128/25"),))])
    since = world.now
    world.hosts.clear()
    world.run(60)
    assert world.inventory.devices[mac(1)].status is Status.OFFLINE
    assert probed(world, since) == {ip("10.0.0.10")}


def test_the_first_answer_records_where_a_device_answers() -> None:
    """So does the answer that makes it online again."""
    world = World(rules=QUICK)
    world.alive(1)
    world.run(5)
    found = held(world, "10.0.0.10").answered
    assert found > 0
    world.hosts.clear()
    world.run(60)
    assert world.inventory.devices[mac(1)].status is Status.OFFLINE
    world.alive(1)
    world.run(60)
    back = next(event for event in world.events if event.kind == "online")
    assert held(world, "10.0.0.10").answered >= back.at > found
