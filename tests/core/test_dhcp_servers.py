"""DHCP servers: reports despite made-up ones, and the table of known ones."""

import pytest

from netscand.core import claims
from netscand.core.model import Event, EventKind, Evidence, Ip, Mac
from netscand.core.ratelimit import DHCP_SERVERS, DHCP_SERVERS_OF_A_DEVICE
from tests.core.test_attacks import answer
from tests.core.test_claims import say
from tests.core.world import World, ip, mac

SERVER, ROGUE, CLIENT = mac(1), mac(66), mac(9)
ADDRESS = {SERVER: "10.0.0.1", ROGUE: "10.0.0.66"}


def serve(world: World, sender: Mac, at: str | None = None, server: str | None = None) -> None:
    """Send an offer."""
    at = at or ADDRESS[sender]
    say(world, sender, at, Evidence.DHCP, dhcp_server=ip(server or at))


def name(world: World, client: Mac, server: Ip) -> None:
    """Take an offer, by broadcast."""
    say(world, client, None, Evidence.DHCP, joining=True, dhcp_server=server)


def made_up(number: int) -> Ip:
    return Ip(bytes([10, 0, 1 + number // 250, number % 250]))


def reported(world: World, server: str) -> list[Event]:
    return [event for event in world.of(EventKind.DHCP_SERVER_SEEN) if event.address == ip(server)]


def flood(world: World, count: int, *, many: bool) -> None:
    """Name made-up servers, 50 a second, as one MAC or each time as another."""
    for number in range(count):
        world.now += 0.02
        say(world, mac(0x9000 + number * many), None, Evidence.DHCP, dhcp_server=made_up(number % 10_000))


def test_one_that_names_servers_without_end_hides_none() -> None:
    """It spends its own allowance, not the network's."""
    world = World()
    flood(world, 3000, many=False)
    assert len(world.of(EventKind.DHCP_SERVER_SEEN)) == 2
    serve(world, ROGUE)
    assert len(reported(world, "10.0.0.66")) == 1


@pytest.mark.parametrize("by_a_client", [False, True], ids=["served", "named"])
def test_endless_reports_hide_none_of_a_confirmed_device(by_a_client: bool) -> None:
    """An attacker can make up MACs, but a device that answered us has a budget of its own."""
    world = World()
    answer(world, ROGUE, "10.0.0.66")
    answer(world, CLIENT, "10.0.0.9")
    flood(world, 3000, many=True)
    published = len(world.of(EventKind.DHCP_SERVER_SEEN))
    assert DHCP_SERVERS.at_once <= published <= DHCP_SERVERS.at_once + 60 * DHCP_SERVERS.per_second + 1
    if by_a_client:
        name(world, CLIENT, ip("10.0.0.66"))
    else:
        serve(world, ROGUE)
    assert len(reported(world, "10.0.0.66")) == 1


def test_a_confirmed_device_spends_only_its_own_budget() -> None:
    """It may report a few servers, and takes nothing from other sources."""
    world = World()
    answer(world, ROGUE, "10.0.0.66")
    for number in range(1000):
        serve(world, ROGUE, server=f"10.0.1.{number % 250}")
    assert len(world.of(EventKind.DHCP_SERVER_SEEN)) == DHCP_SERVERS_OF_A_DEVICE.at_once
    serve(world, SERVER)
    assert len(reported(world, "10.0.0.1")) == 1


def test_made_up_servers_do_not_make_a_known_one_new_again() -> None:
    world = World()
    answer(world, SERVER, "10.0.0.1")
    serve(world, SERVER)
    for number in range(200):
        world.now += 60
        say(world, mac(0x9000 + number), None, Evidence.DHCP, dhcp_server=made_up(number))
    serve(world, SERVER)
    assert len(reported(world, "10.0.0.1")) == 1


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "MOST", 8)
    monkeypatch.setattr(claims, "MOST_OF_STRANGERS", 4)
    world = World()
    for number in range(50):
        world.now += 60
        answer(world, mac(0x9000 + number), "10.0.0.9")
        say(world, mac(0x9000 + number), None, Evidence.DHCP, dhcp_server=made_up(100 + number))
        say(world, mac(0x8000 + number), None, Evidence.DHCP, dhcp_server=made_up(number))
    (tables,) = world.inventory.claims._servers._known.values()
    assert [(len(each.named), len(each.serving)) for each in tables] == [(8, 8), (4, 4)]


def test_a_server_with_an_only_named_address_is_reported() -> None:
    """If another device holds it: clients name the real server, whose own answers netscand may not receive."""
    world = World()
    answer(world, SERVER, "10.0.0.1")
    name(world, CLIENT, ip("10.0.0.1"))
    say(world, ROGUE, None, Evidence.DHCP, dhcp_server=ip("10.0.0.1"))
    first, second = reported(world, "10.0.0.1")
    assert first.reason == f"named as a DHCP server by {CLIENT.hex(':')}"
    assert second.other == ROGUE
