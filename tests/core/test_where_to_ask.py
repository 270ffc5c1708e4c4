"""Every second ask into a silence goes to where a device last answered; but never where it is not to be asked."""

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Address

from netscand.core.model import Address, Evidence, Ip, Observation, Status
from netscand.core.presence import Rules
from tests.core.world import World, ip, mac, network

OWN6, HOST6 = (Ip(IPv6Address(f"fe80::{number}").packed) for number in (2, 10))
QUICK = Rules(5.0, 10.0, 20.0)


def asked(world: World, since: float) -> set[Ip]:
    """Where presence asked for the first device."""
    return {ask.ip for at, ask in world.frames if at > since and ask.of == mac(1)}


def held(world: World, text: str) -> Address:
    return next(each for each in world.inventory.devices[mac(1)].addresses if each.ip == ip(text))


def test_who_gave_its_ipv4_up_is_asked_by_ipv6_alone() -> None:
    """Or half of the asks that prove it gone would have gone to nobody."""
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
    assert asked(world, since) == {HOST6}


def test_nobody_is_asked_in_a_part_that_was_excluded_since() -> None:
    world = World(rules=QUICK)
    world.hosts = {(2, ip("10.0.0.10")): mac(1), (2, ip("10.0.0.200")): mac(1)}
    world.run(60)
    held(world, "10.0.0.200").answered = world.now
    world.set_networks([replace(network(), spared=(IPv4Network("10.0.0.128/25"),))])
    since = world.now
    world.hosts.clear()
    world.run(60)
    assert world.inventory.devices[mac(1)].status is Status.OFFLINE
    assert asked(world, since) == {ip("10.0.0.10")}


def test_where_it_answers_is_known_from_the_answer_that_found_it_and_that_brought_it_back() -> None:
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
