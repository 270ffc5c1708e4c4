"""A conflict between two devices is in the list of conflicts while both are at the address, and no longer."""

import pytest

from netscand.core.conflicts import MOST, Conflicts
from netscand.core.model import Address, Device, EventKind, Evidence, Ip, Status
from netscand.core.presence import Presence, Rules
from tests.core.test_claimed_addresses import E1, E2, announcement, answer_at, at, device, frame, lan, m
from tests.core.world import World, mac

K = EventKind
ONE, TWO = 0x0A, 0x0B


def lasting(world: World) -> list[tuple[int, int, int]]:
    """Return the last bytes of address, holder and claimant of each conflict."""
    found = world.inventory.addresses.conflicts.lasting()
    return [(each.ip[3], each.holder.mac[5], each.claimant.mac[5]) for each in found]


def in_conflict(*, both_elsewhere: bool = False, gateway: str | None = None) -> World:
    """Two devices answer at .100; with `both_elsewhere`, each is known by an address of its own."""
    world = lan(gateway)
    if both_elsewhere:
        answer_at(world, 10, m(ONE))
        answer_at(world, 11, m(TWO))
    answer_at(world, 100, m(ONE))
    world.run(60)
    frame(world, E1)
    world.run(100)
    answer_at(world, 100, m(ONE), m(TWO))
    frame(world, E2)
    assert not lasting(world)
    world.run(3)
    return world


@pytest.mark.parametrize("both_elsewhere", [False, True])
def test_a_conflict_is_listed_while_it_lasts(both_elsewhere: bool) -> None:
    """Where both are known by other addresses, too, they are probed at this one, once a minute."""
    world = in_conflict(both_elsewhere=both_elsewhere)
    since = world.now - 3
    world.frames.clear()
    for _ in range(60):
        assert lasting(world) == [(100, ONE, TWO)]
        world.run(60)
    (found,) = world.inventory.addresses.conflicts.lasting()
    assert found.since == since
    probes = [probe for _, probe in world.frames if probe.ip == at(100) and probe.additional]
    assert not both_elsewhere or 20 <= len(probes) <= 180, "of both, with those of the events' questions"
    assert len(world.of(K.ADDRESS_CONFLICT)) <= 7, "one in ten minutes"


@pytest.mark.parametrize("who", [ONE, TWO])
@pytest.mark.parametrize("how", ["silent", "elsewhere", "kept its own", "forgotten"])
def test_a_conflict_ends_when_one_of_the_two_has_left(who: int, how: str) -> None:
    """Within minutes: it is offline, uses another address, or only the one that it had as well."""
    world = in_conflict(both_elsewhere=how == "kept its own")
    answer_at(world, 100, m(ONE + TWO - who))
    if how == "elsewhere":
        answer_at(world, 12, m(who))
        frame(world, announcement(who, 12))
    if how == "forgotten":
        world._tell((world.inventory.forget(m(who), world.now, "by a user"),))
        assert not lasting(world)
    world.run(60 if how == "forgotten" else 320)
    assert not lasting(world)
    assert how != "silent" or device(world, who).status is Status.OFFLINE


def test_a_gateway_that_failed_over_is_in_no_conflict() -> None:
    """The former one is online for some seconds more, but it is not seen there after the claim."""
    for there in (True, False):
        world = lan("10.77.0.100")
        answer_at(world, 100, m(ONE))
        world.run(60)
        answer_at(world, 100, m(TWO), *([m(ONE)] if there else []))
        frame(world, E2)
        for _ in range(60):
            world.run(1)
            assert there or not lasting(world)
        assert len(world.of(K.GATEWAY_CHANGED)) >= 1
        assert not there or lasting(world)


def test_two_interfaces_of_one_host_are_in_no_conflict() -> None:
    """What was a conflict ends when both answer at each other's addresses."""
    world = in_conflict(both_elsewhere=True)
    for number in (10, 11):
        answer_at(world, number, m(ONE), m(TWO))
    for number in (10, 11) * 20:
        frame(world, announcement(ONE + 11 - number, number))
        frame(world, announcement(TWO - 11 + number, number))
        world.run(60)
    assert world.of(K.SAME_HOST)
    assert not lasting(world)


def at_one_address(number: int, *, confirmed: bool) -> tuple[Device, Device]:
    """Return two devices that are online at one address."""
    where = Address(Ip(number.to_bytes(4)), "n", "eth0", Evidence.ARP_REPLY, 0.0, float(number))
    pair = [
        Device(mac(high + number), 0.0, float(number), Presence(0.0, Rules()), addresses=[where])
        for high in (0, 0x8000)
    ]
    for each in pair:
        each.confirmed = confirmed
    return pair[0], pair[1]


def test_made_up_conflicts_hide_no_real_one() -> None:
    """A station that answers nothing makes up MACs at hundreds of addresses; the real conflict is the first."""
    conflicts = Conflicts()
    real = at_one_address(5_000, confirmed=True)
    for number in range(1, MOST + 40):
        made_up = at_one_address(number, confirmed=False)
        conflicts.note("n", made_up[0].addresses[0].ip, *made_up, float(number))
        if number == MOST + 5:
            conflicts.note("n", real[0].addresses[0].ip, *real, 5_000.0)
    found = conflicts.lasting()
    assert len(found) == MOST
    assert found[0].claimant is real[1]
    assert found[1].since == 1.0, "then the oldest"
    real[0].status = Status.OFFLINE
    assert len(conflicts.lasting()) == MOST - 1
