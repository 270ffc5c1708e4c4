"""Queries of many accounts: one of each at a time, and accounts in turn."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from netscand.store.turns import Steps, Turns


@pytest.fixture
def turns() -> Iterator[Turns]:
    made = Turns("a test's reader", lambda: None)
    yield made
    made.close(10.0)


class Asked:
    """Queries that record when each of their pieces was done."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.may_go = threading.Event()

    def query(self, name: str, pieces: int) -> Steps[str]:
        for piece in range(pieces):
            self.may_go.wait()
            self.done.append(f"{name}{piece}")
            if piece < pieces - 1:
                yield
        return name


def test_accounts_take_turns_piece_by_piece(turns: Turns) -> None:
    """An account waits for itself: another's three pieces wait for three of its pieces at most."""

    async def play() -> None:
        asked = Asked()
        much = [turns.submit("much", asked.query(name, 4)) for name in "abcdef"]
        other = turns.submit("other", asked.query("x", 3))
        asked.may_go.set()
        assert await other == "x"
        assert asked.done.index("x2") <= 6
        assert [await each for each in much] == list("abcdef")
        rest = [piece for piece in asked.done if piece[0] != "x"]
        assert rest == [f"{name}{piece}" for name in "abcdef" for piece in range(4)]

    asyncio.run(play())


def test_a_frequent_questioner_is_not_served_first(turns: Turns) -> None:
    async def play() -> None:
        asked = Asked()
        first = turns.submit("greedy", asked.query("a", 1))
        others = [turns.submit(name, asked.query(name, 1)) for name in "xyz"]
        asked.may_go.set()
        await first
        again = turns.submit("greedy", asked.query("b", 1))
        await again
        assert asked.done == ["a0", "x0", "y0", "z0", "b0"]
        assert [await each for each in others] == list("xyz")

    asyncio.run(play())


def test_an_error_of_a_query_affects_no_other(turns: Turns) -> None:
    def fails() -> Steps[None]:
        yield
        raise ValueError("no")

    async def play() -> None:
        asked = Asked()
        asked.may_go.set()
        wrong = turns.submit("a", fails())
        right = turns.submit("a", asked.query("x", 2))
        with pytest.raises(ValueError, match="no"):
            await wrong
        assert await right == "x"

    asyncio.run(play())


def test_a_cancelled_query_is_dropped(turns: Turns) -> None:
    async def play() -> None:
        asked = Asked()
        first = turns.submit("a", asked.query("a", 3))
        gone = turns.submit("a", asked.query("b", 3))
        last = turns.submit("a", asked.query("c", 1))
        gone.cancel()
        asked.may_go.set()
        assert await first == "a"
        assert await last == "c"
        assert not [piece for piece in asked.done if piece[0] == "b"]
        while turns._waiting:  # the thread forgets the account after it has answered
            await asyncio.sleep(0.01)

    asyncio.run(play())


def test_the_end_cancels_every_query() -> None:
    async def play() -> None:
        turns, asked = Turns("a test's reader", lambda: None), Asked()
        waiting = [turns.submit(name, asked.query(name, 3)) for name in "ab"]
        asked.may_go.set()
        await asyncio.to_thread(turns.close, 10.0)
        await asyncio.sleep(0.01)
        assert all(each.done() for each in waiting)
        assert turns.submit("a", asked.query("c", 1)).cancelled()
        assert not turns._thread.is_alive()

    asyncio.run(play())
