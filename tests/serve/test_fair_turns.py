"""Fair turns: a piece of work in each turn of the loop, accounts in turn."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from netscand.core.fairness import FairQueue
from netscand.core.model import Busy
from netscand.core.restore import EventQuery, Page
from netscand.serve import fair_turns, rest, websocket
from netscand.serve.fair_turns import FairTurns, Shares
from tests.serve.house import EmptyHistory, house, mac

T = TypeVar("T")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers()), max_size=60))
def test_accounts_come_in_turn_and_each_in_its_own_order(pushed: list[tuple[int, int]]) -> None:
    queue: FairQueue[tuple[int, int]] = FairQueue()
    for account, item in pushed:
        queue.push(account, (account, item))
    taken = []
    while queue:
        taken.append(queue.pop())
    assert Counter(taken) == Counter(pushed)
    for account in range(4):
        assert [each for each in taken if each[0] == account] == [each for each in pushed if each[0] == account]
    left = Counter(account for account, _ in pushed)
    since = dict.fromkeys(left, 0)  # turns of others since its own last one
    for account, _ in taken:
        assert since[account] < len(left)
        left[account] -= 1
        since = {other: since[other] + 1 for other in since if left[other]} | ({account: 0} if left[account] else {})


def noting(done: list[T], item: T, *, busy: bool = True) -> Callable[[], bool]:
    """Return a piece of work that records that it was run."""

    def piece() -> bool:
        done.append(item)
        return busy

    return piece


async def done_by_turn(turns: FairTurns, work: dict[str, int]) -> list[list[str]]:
    """Return the pieces that are run in each turn of the loop."""
    done: list[str] = []
    by_turn: list[list[str]] = []
    for account, count in work.items():
        for _ in range(count):
            turns.do(account, noting(done, account))
    while sum(map(len, by_turn)) < sum(work.values()):
        by_turn.append(list(done))
        done.clear()
        await asyncio.sleep(0)
    return by_turn


def test_each_turn_of_the_loop_runs_one_piece() -> None:
    """An account with a thousand waiting pieces is one account."""

    async def play() -> None:
        done = await done_by_turn(FairTurns(), {"mallory": 1000, "alice": 2, "bob": 1})
        assert max(map(len, done)) == 1
        order = [name for names in done for name in names]
        assert order[:6] == ["mallory", "mallory", "alice", "bob", "mallory", "alice"]

    asyncio.run(play())


def test_a_piece_that_has_more_to_do_waits_for_its_next_turn() -> None:
    """Like a connection that passes its bytes to aiohttp piece by piece: one piece a turn, with any number of them."""

    async def play() -> None:
        turns = FairTurns()
        done: list[str] = []

        def go_on(account: str) -> bool:
            done.append(account)
            turns.later(account, lambda: go_on(account))
            return True

        for number in range(30):
            turns.do("ab"[number % 2], lambda number=number: go_on("ab"[number % 2]))  # type: ignore[misc]
        for _ in range(50):
            before = len(done)
            await asyncio.sleep(0)
            assert len(done) <= before + 1
        assert 20 < done.count("a") < 30

    asyncio.run(play())


def test_a_single_piece_is_run_at_once() -> None:
    async def play() -> None:
        turns = FairTurns()
        done: list[int] = []
        for number in range(3):
            turns.do("alice", noting(done, number))
            assert done == list(range(number + 1))
            await asyncio.sleep(0)
            await turns.turn("alice")
            await asyncio.sleep(0)

    asyncio.run(play())


def test_a_piece_with_nothing_to_do_takes_no_turn() -> None:
    async def play() -> None:
        turns = FairTurns()
        done: list[int] = []
        turns.do("a", lambda: True)
        for number in range(100):
            turns.later("a", lambda: False)
            turns.later("b", noting(done, number, busy=number == 99))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert done == list(range(100))

    asyncio.run(play())


def test_a_piece_that_fails_delays_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        turns = FairTurns()
        done: list[int] = []
        turns.do("a", lambda: True)
        turns.later("a", lambda: 1 / 0 > 1)
        turns.later("b", noting(done, 1))
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with asyncio.timeout(5):
            while not done:
                await asyncio.sleep(0)

    asyncio.run(play())


def test_a_cancelled_wait_delays_no_other() -> None:
    async def play() -> None:
        turns = FairTurns()
        done = []

        async def take(name: str) -> None:
            await turns.turn(name)
            done.append(name)

        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            every = [tasks.create_task(take(f"{number}")) for number in range(10)]
            await asyncio.sleep(0)
            for number in (1, 2, 5):
                every[number].cancel()
        assert done == ["0", "3", "4", "6", "7", "8", "9"]

    asyncio.run(play())


def test_shares_of_an_account_are_limited_and_released() -> None:
    async def play() -> None:
        shares = Shares(3)
        connections: Counter[str] = Counter()
        most: Counter[str] = Counter()

        async def be(account: str) -> None:
            async with shares.hold(account):
                connections[account] += 1
                most[account] = max(most[account], connections[account])
                await asyncio.sleep(0)
                connections[account] -= 1

        async with asyncio.TaskGroup() as tasks:
            for number in range(30):
                tasks.create_task(be("ab"[number % 2]))
        assert most == {"a": 3, "b": 3}
        assert not shares._of

    asyncio.run(play())


def test_a_wait_for_a_share_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """T35: a request that waits too long for others of its account is refused; another account waits for none."""
    monkeypatch.setattr(fair_turns, "WAIT", 0.05)

    async def play() -> None:
        shares = Shares(1)
        async with asyncio.timeout(5):
            async with shares.hold("a"):
                with pytest.raises(Busy, match=r"waited .* for other requests of this account"):
                    async with shares.hold("a"):
                        pytest.fail("two hold it")
                async with shares.hold("b"):
                    pass
            async with shares.hold("a"):  # what was refused holds nothing
                await asyncio.sleep(0.1)  # to hold it is not limited
        assert not shares._of

    asyncio.run(play())


@pytest.mark.parametrize("path", ["events", "events?last=5", f"devices/{mac(1).hex(':')}/presence"])
def test_a_question_about_the_past_waits_30_s_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """T35: those of one account wait for one another, without a limit before; then they are refused, and may retry."""
    monkeypatch.setattr(fair_turns, "WAIT", 0.05)
    asked, free = asyncio.Event(), asyncio.Event()

    class Slow(EmptyHistory):
        async def events(self, question: EventQuery, *, whole: bool = False, most: int | None = None) -> Page:
            asked.set()
            await free.wait()
            return Page((), question.through)

    async def play() -> None:
        async with house(tmp_path, devices=3, archive=Slow()) as lan:
            first = await lan.connection(b"GET /api/events HTTP/1.1\r\nHost: x\r\n\r\n")
            await asked.wait()
            status, headers, body = await lan.ask("GET", f"/api/{path}")
            assert (status, headers["Retry-After"], body["error"]["code"]) == (503, "1", "busy")
            assert "other requests of this account" in body["error"]["message"]
            async with lan.ws("?updates=changes&since=k3f9-0") as client:  # no list instead: it keeps its cursor
                with pytest.raises(ConnectionClosed) as closed:
                    await client.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, websocket.BUSY)
            free.set()
            first.close()
            await first.wait_closed()

    asyncio.run(play())


def test_a_list_that_waits_for_unread_ones_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T35: of 60 connections that read nothing, 16 were closed in 75 s, and 44 waited for minutes."""
    monkeypatch.setattr(fair_turns, "WAIT", 0.2)
    monkeypatch.setattr(rest, "LARGE", 2000)

    async def play() -> None:
        async with house(tmp_path, devices=4000) as lan:
            asking = b"GET /api/devices HTTP/1.1\r\nHost: x\r\n\r\n"
            unread = [await lan.connection(asking) for _ in range(rest.LISTS)]
            for writer in unread:
                writer.transport.pause_reading()  # type: ignore[attr-defined]
            status, headers, body = await lan.ask("GET", "/api/devices")
            assert (status, headers["Retry-After"], body["error"]["code"]) == (503, "1", "busy")
            for writer in unread:
                writer.transport.abort()
                await writer.wait_closed()

    asyncio.run(play())


def test_an_account_reads_one_part_of_the_history_at_a_time(tmp_path: Path) -> None:
    """Two requests of it took both shares at once: another account waited 3.7 times as long, not 2.3."""
    under_way = peak = asked = 0

    class Counting(EmptyHistory):
        async def events(self, question: EventQuery, *, whole: bool = False, most: int | None = None) -> Page:
            nonlocal under_way, peak, asked
            under_way, asked = under_way + 1, asked + 1
            peak = max(peak, under_way)
            await asyncio.sleep(0.02)
            under_way -= 1
            return Page((), question.through)

    async def play() -> None:
        async with house(tmp_path, devices=3, archive=Counting()) as lan:
            text = b"GET /api/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            async with asyncio.TaskGroup() as clients:
                answers = [clients.create_task(lan.raw(text, tcp=False)) for _ in range(8)]
            assert all(each.result().startswith(b"HTTP/1.1 200") for each in answers)

    asyncio.run(play())
    assert (asked, peak) == (8, 1)
