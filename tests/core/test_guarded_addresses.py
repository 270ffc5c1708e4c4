"""The addresses of IPv6 routers are guarded as the gateway's: each claim is published, and counted beyond that."""

import pytest

from netscand.core.model import EventKind, Evidence, Ip, Mac, Observation, Status
from tests.core.test_attacks import answer, say, see, with_gateway
from tests.core.world import World, ip, mac

K = EventKind
GATEWAY, QUIET, TAKER = mac(1), mac(50), mac(0x666)
"""QUIET is a router that never answered us."""


def link_local(number: int) -> Ip:
    return Ip(bytes.fromhex("fe80000000000000") + number.to_bytes(8))


ROUTER, OTHER = link_local(1), link_local(2)


def advertise(world: World, router: Mac = GATEWAY, at: Ip = ROUTER, *, router_still: bool = True) -> None:
    say(world, router, at, Evidence.NDP, router=router_still)


def with_router(router: Mac = GATEWAY) -> World:
    world = with_gateway()
    advertise(world, router)
    world.run(5)
    advertise(world, router)
    world.events.clear()
    return world


def conflicts(world: World) -> list[Mac | None]:
    return [event.device.mac if event.device else None for event in world.of(K.ADDRESS_CONFLICT)]


def test_made_up_claims_hide_no_taker_of_a_routers_address() -> None:
    world = with_router()
    for number in range(4):
        say(world, mac(0x700 + number), ROUTER, Evidence.NDP)
    world.run(5)
    advertise(world)
    for _ in range(50):
        say(world, TAKER, ROUTER, Evidence.NDP, solicited=True)
        world.run(0.2)
    assert conflicts(world) == [mac(0x700 + number) for number in range(4)] + [TAKER]


def test_ten_thousand_claimants_of_a_routers_address_are_counted() -> None:
    world = with_router()
    for number in range(10_000):
        world.now += 0.001
        say(world, mac(0x100000 + number), ROUTER, Evidence.NDP)
    assert len(conflicts(world)) == 8
    world.now += 60
    say(world, TAKER, ROUTER, Evidence.NDP)
    published = world.of(K.ADDRESS_CONFLICT)[-1]
    assert published.device
    assert published.device.mac == TAKER
    assert published.reason.endswith("9992 more claims by other MACs since the last event")


def test_a_router_silent_over_ipv6_keeps_its_address() -> None:
    """Unless it is offline."""
    world = with_router()
    world.run(300)
    say(world, TAKER, ROUTER, Evidence.NDP, solicited=True)
    assert conflicts(world) == [TAKER]
    assert not world.of(K.ADDRESS_MOVED)
    world = with_router()
    del world.hosts[2, ip("10.0.0.1")]
    world.run(100)
    assert world.inventory.devices[mac(1)].status is Status.OFFLINE
    say(world, TAKER, ROUTER, Evidence.NDP, solicited=True)
    assert [event.device and event.device.mac for event in world.of(K.ADDRESS_MOVED)] == [TAKER]


def test_no_proxy_is_exempt_at_a_routers_address() -> None:
    world = with_router(QUIET)
    for number in range(70):
        answer(world, TAKER, f"10.0.0.{100 + number}")
    assert world.inventory.devices[TAKER].is_proxy
    say(world, TAKER, ROUTER, Evidence.NDP, solicited=True)
    assert conflicts(world) == [TAKER]


@pytest.mark.parametrize("claimed", [mac(0x555), mac(3)])
def test_a_claim_to_a_router_for_another_mac_is_published(claimed: Mac) -> None:
    """An advertisement with another link-layer address in it."""
    world = with_router(QUIET)
    say(world, QUIET, ROUTER, Evidence.PROXIED, via=TAKER)
    assert not world.events
    for _ in range(3):
        see(world, Observation(world.now, 2, claimed, ROUTER, Evidence.PROXIED, via=TAKER))
    (published,) = world.of(K.ADDRESS_CONFLICT)
    assert published.reason.startswith(f"{TAKER.hex(':')} claims it for {claimed.hex(':')}; ")


def test_made_up_routers_do_not_displace_the_real_one() -> None:
    """Each claims the addresses of all others, and they cause few events."""
    world = with_router()
    for number in range(60):
        for _ in range(2):
            advertise(world, mac(0x800 + number), link_local(0x800 + number))
    for number in range(60):
        for other in range(60):
            world.now += 0.01
            say(world, mac(0x900 + other), link_local(0x800 + number), Evidence.NDP)
    assert len(conflicts(world)) <= 3 * 8 + 57 * 4 + 60, "three of them are guarded, the others are ordinary"
    for claimant in (mac(0xA00), mac(0xA01), mac(0xA02), mac(0xA03), TAKER):
        say(world, claimant, ROUTER, Evidence.NDP)
    assert conflicts(world)[-1] == TAKER


def test_a_former_router_is_no_longer_guarded() -> None:
    """A lifetime of zero ends the guard."""
    world = with_router()
    advertise(world, router_still=False)
    world.hosts[2, ROUTER] = GATEWAY
    for number in range(6):
        say(world, mac(0x700 + number), ROUTER, Evidence.NDP)
        world.run(3)
    assert len(conflicts(world)) == 4
    world = with_router()
    world.inventory.forget(mac(1), world.now, "a test's")
    assert world.inventory.addresses.guards.at(next(iter(world.inventory.networks.values())), ROUTER) is None
