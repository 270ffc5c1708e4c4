"""Memory that is held for clients that do not read: an account cannot fill it by that, nor keep a connection by it."""

from collections.abc import Iterator

import pytest

from tests.attacks.account import FIRST, SECOND, Account, requests, websockets
from tests.attacks.conftest import Scene, attacked, household

SOCKETS = 60
DEVICES = 8000
FAST = {"scan": {"rate": 0, "tries": 4, "interval": 3600, "background_rate": 0.1}, "presence": {}}

SLOW = 75.0
"""Seconds after which a client that has not read its answer has lost its connection."""


@pytest.fixture(scope="module")
def large(root: None) -> Iterator[Scene]:
    """A LAN of thousands: what one client is sent at once is more than anybody's kernel takes."""
    with household(FAST, network="10.77.0.0/19", count=DEVICES) as made:
        yield made


@pytest.mark.parametrize("query", ["updates=full", "updates=changes"])
def test_streams_that_are_not_read(large: Scene, attack_seconds: float, query: str) -> None:
    """FAULTS T31: 120 streams of two accounts, of which no byte is read; each had a list of its own made."""
    attackers = [websockets(large.daemon, uid, SOCKETS, b"", query, reads=False) for uid in (FIRST, SECOND)]
    outcomes = attacked(large.daemon, attack_seconds, *attackers, descriptors=6)
    assert all(outcome.opened == SOCKETS for outcome in outcomes)


def test_answers_that_are_not_read(large: Scene, request: pytest.FixtureRequest) -> None:
    """FAULTS T35: 120 connections ask for the whole list, and again, and do not read. With --long: they are closed."""
    long = request.config.getoption("--long")
    attackers = [
        requests(large.daemon, uid, SOCKETS, target, again=False, reads=False)
        for uid, target in ((FIRST, "/api/devices"), (SECOND, "/api/events?limit=5000"))
    ]
    outcomes = attacked(large.daemon, SLOW if long else 1.5, *attackers, descriptors=6)
    assert all(outcome.opened == SOCKETS for outcome in outcomes)
    assert not long or not [outcome for outcome in outcomes if outcome.still_open]


@pytest.mark.long
def test_small_answers_that_are_not_read(shared: Scene) -> None:
    """FAULTS T35: answers of one piece each, as many as fill what the kernel takes for a connection.

    The library waits without end for who does not read the last piece of an answer.
    """
    many = b"GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 40
    attackers = [Account(shared.daemon, uid, SOCKETS, many, reads=False) for uid in (FIRST, SECOND)]
    outcomes = attacked(shared.daemon, SLOW, *attackers)
    assert not [outcome for outcome in outcomes if outcome.still_open]
