"""Events that wait for the history: published in order, and in bounded pieces."""

import asyncio

import pytest

from netscand.serve import hub as held_module
from netscand.serve.hub import DurabilityGate


def test_a_commit_of_thousands_is_published_in_turns_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if another commit comes meanwhile; and what was queued after the events follows them."""
    clock = iter(range(10**6))
    monkeypatch.setattr(held_module, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(held_module, "HOLD", 101)

    async def play() -> None:
        held, told = DurabilityGate(), list[object]()
        for number in range(4000):
            held.event(lambda number=number: told.append(number), f"k-{number}")  # type: ignore[misc]
            if number == 2999:
                held.after(lambda: told.append("news"))
        held.release("k-2999")
        assert told == list(range(100))
        await asyncio.sleep(0)
        assert told == list(range(200))
        held.release("k-3998")
        assert len(told) == 200
        async with asyncio.timeout(30):
            while len(told) < 4000:
                await asyncio.sleep(0)
        assert told == [*range(3000), "news", *range(3000, 3999)]
        await asyncio.sleep(0.01)
        assert len(told) == 4000
        held.release("k-3999")
        await held.settled()
        assert told[-1] == 3999

    asyncio.run(play())


def test_an_event_that_waits_for_nothing_is_published_at_once() -> None:
    async def play() -> None:
        held, told = DurabilityGate(), list[str]()
        held.after(lambda: told.append("news"))
        await held.settled()
        assert told == ["news"]

    asyncio.run(play())


def test_an_event_that_fails_stops_no_others() -> None:
    async def play() -> None:
        held, told = DurabilityGate(), list[str]()

        def wrong() -> None:
            raise ZeroDivisionError

        held.event(wrong, "k-1")
        held.event(lambda: told.append("two"), "k-2")
        with pytest.raises(ZeroDivisionError):
            held.release("k-1")
        held.release("k-2")
        assert told == ["two"]

    asyncio.run(play())
