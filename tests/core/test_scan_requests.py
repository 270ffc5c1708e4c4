"""Budgets of requested scans for each account and each network."""

from collections.abc import Sequence

import pytest

from netscand.core.model import Busy
from netscand.core.planner import Pace
from netscand.core.ratelimit import ACCOUNT_BROADCASTS, ACCOUNTS, NETWORK_BROADCASTS, WHOLE_SCANS
from tests.core.world import World, network

HALVES = ["10.0.0.0/25", "10.0.0.128/25"]
QUARTERS = [f"10.0.0.{64 * number}/26" for number in range(4)]
WHOLE = 254 * 3
"""Frames of one scan of a silent /24."""


def hammered(world: World, seconds: float, shapes: list[list[str]], accounts: Sequence[object]) -> tuple[int, int]:
    """Request ten times a second; broadcasts that left, and requests that were refused."""
    world.run(10)
    world.frames.clear()
    refused = 0
    for number in range(int(seconds * 10)):
        for account in accounts:
            try:
                world.planner.request_scan(shapes[number % len(shapes)], world.now, account)
            except Busy:
                refused += 1
        world.run(0.1)
    return sum(ask.mac is None for _, ask in world.frames), refused


@pytest.mark.parametrize(
    "shapes",
    [[[half] for half in HALVES], [[quarter] for quarter in QUARTERS], [[]], [HALVES, [*QUARTERS, "10.0.0.0/25"]]],
    ids=["halves", "quarters", "all", "mixed"],
)
def test_an_account_keeps_no_lan_busy_whatever_it_names(shapes: list[list[str]]) -> None:
    """ATTACKED M9: naming the halves of a /24 again and again made 900 broadcasts a second."""
    seconds = 120.0
    world = World(pace=Pace(rate=1000, background_rate=50))
    sent, refused = hammered(world, seconds, shapes, ["mallory"])
    assert refused
    timers = 50 * seconds
    assert sent <= WHOLE_SCANS * WHOLE + 50 * seconds + timers
    assert ACCOUNT_BROADCASTS.name in world.inventory.budgets.refused


@pytest.mark.parametrize("hostile", [1, 2])
def test_what_accounts_spend_is_not_taken_from_another(hostile: int) -> None:
    """While one or two hammer, a whole scan of another begins at once and takes as long as ever."""
    world = World()
    hammered(world, 60, [[half] for half in HALVES], ["mallory", "trudy"][:hostile])
    world.run(3)
    world.frames.clear()
    world.planner.request_scan([], world.now, "alice")
    world.run(6)
    probed = [(at, ask) for at, ask in world.frames if ask.mac is None]
    assert len(probed) >= 253 * 3
    first = probed[0][0]
    assert sum(at < first + 1.5 for at, _ in probed) >= 253 * 3


@pytest.mark.slow
def test_all_accounts_share_the_budget_of_a_network() -> None:
    """Requests are served at a slower pace: three times the background rate."""
    seconds = 60.0
    world = World()
    accounts: list[object] = [f"account {number}" for number in range(40)]
    sent, _ = hammered(world, seconds, [[half] for half in HALVES], accounts)
    assert sent <= ACCOUNTS * WHOLE_SCANS * WHOLE + ACCOUNTS * 50 * seconds + 50 * seconds
    assert sent > ACCOUNTS * 50 * seconds
    assert world.inventory.budgets.refused[NETWORK_BROADCASTS.name]


def test_what_joins_a_scan_costs_nothing() -> None:
    """A hundred clients that want the same at once are one scan, and one of them pays."""
    world = World()
    world.run(10)
    assert len({world.planner.request_scan([], world.now, "alice") for _ in range(100)}) == 1
    assert not world.inventory.budgets.refused


@pytest.mark.slow
def test_an_account_may_always_request_everything() -> None:
    """Whatever the networks: the budget grows with them."""
    world = World([network(), network("10.1.0.0/16", "eth1", 3)])
    world.run(10)
    world.planner.request_scan([], world.now, "alice")
    world.run(200)
    world.planner.request_scan([], world.now, "alice")


def test_without_a_background_rate_there_is_no_budget() -> None:
    """0 is no limit, for this too."""
    world = World(pace=Pace(rate=1000, background_rate=0))
    _, refused = hammered(world, 20, [[half] for half in HALVES], ["alice"])
    assert not refused
