"""Queries about a long past are cheap, and bounded: a piece at a time, and no more than it takes."""

import asyncio
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netscand.core.model import Event, EventKind, Status
from netscand.core.restore import CursorGone, EventQuery, TooLong
from netscand.store import reader
from netscand.store.database import connect
from netscand.store.reader import Reader
from tests.store.diary import BOOT, LAN, device, diary, discovered, sequences, turned
from tests.store.siege import Siege

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("whole", [True, False])
def test_a_damaged_event_is_left_out_but_no_stream_has_a_gap(
    tmp_path: Path, whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A list leaves it out, and the log names it once; a client that would resume over it gets a fresh list."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await book.write(*(discovered(device(number)) for number in range(5)))
            with closing(connect(book.history.path)) as other:
                other.execute("UPDATE event SET body = zeroblob(50) WHERE sequence = 3")
            for _ in range(3):
                if whole:
                    with pytest.raises(CursorGone, match="event 3 cannot be decoded"):
                        await book.history.events(EventQuery(5, since=1), whole=True)
                    page = await book.history.events(EventQuery(5, since=3), whole=True)
                    assert sequences(page) == [4, 5]
                else:
                    assert sequences(await book.page(since=1)) == [2, 4, 5]
                    assert sequences(await book.page(limit=4)) == [1, 2, 4, 5]
            assert not [each for each in book.history.problems() if "cannot be read" in each]
            assert book.history._reader.damaged == {3}
        assert caplog.text.count("event 3 is damaged") == 1

    asyncio.run(play())


@pytest.mark.parametrize("damage", ["was = 'x'", "was = 77", "was_since = 'x'", "at = 'x'", "kind = 99"])
def test_damaged_columns_fail_no_query(tmp_path: Path, damage: str) -> None:
    """Whatever is in a column, the other events count, and no query fails permanently."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1)
            await book.write(discovered(one), *(turned(one, Status.OFFLINE, 200.0 + i) for i in range(3)))
            with closing(connect(book.history.path)) as other:
                other.execute(f"UPDATE event SET {damage} WHERE sequence = 2")
            assert sequences(await book.page(limit=9)) == [1, 2, 3, 4]
            days = await book.history.presence(one.mac, 1, None, BOOT + 300.0)
            assert days[0].online > 0
            assert not [each for each in book.history.problems() if "cannot be read" in each]

    asyncio.run(play())


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often a hundred steps of SQLite were done, in each piece of a query."""
    counts: list[int] = []

    def counted(self: Reader) -> bool:
        counts[-1] += 1
        return False

    database = Reader._database

    def begin(self: Reader) -> sqlite3.Connection:
        counts.append(0)
        return database(self)

    monkeypatch.setattr(Reader, "_is_over", counted)
    monkeypatch.setattr(Reader, "_database", begin)
    monkeypatch.setattr(reader, "CHECKED_EVERY", 100)
    return counts


def test_rare_events_are_found_without_reading_others(tmp_path: Path, steps: list[int]) -> None:
    """Counted in steps of SQLite: 60 connections that ask for the floods of a month cost little."""

    async def play() -> None:
        siege = Siege(tmp_path / "h.db", 2**30)
        siege.household(100, 20, 25)
        floods = [siege.event(EventKind.FLOOD, None) for _ in range(3)]
        for _ in range(5_000):
            siege.event(EventKind.ONLINE, 5)
        siege.write()
        siege.database.close()
        async with diary(tmp_path / "h.db", keep_days=1e6) as book:
            steps.clear()
            assert sequences(await book.page(kinds=(EventKind.FLOOD,))) == floods
            many = (EventKind.FLOOD, EventKind.NETWORK_UP, EventKind.GATEWAY_CHANGED)
            assert sequences(await book.page(kinds=many)) == floods
            query = EventQuery(siege.sequence, kinds=many, limit=2)
            assert await book.history.begin_of_last(query) == floods[0]
            assert sum(steps) < 20
            steps.clear()
            await book.page(kinds=(EventKind.ONLINE,), macs=frozenset([device(77).mac]))
            assert len(steps) >= siege.sequence // reader.LOOKED_AT
            assert max(steps) < 12 * reader.LOOKED_AT / 100

    asyncio.run(play())


def test_a_device_that_is_often_the_other_costs_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy makes many conflicts: of all these events, each piece reads a bounded number of bodies."""
    read: list[int] = []
    pieces = reader._rows

    def rows(*query: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
        found = pieces(*query)
        read.append(len(found))
        return found

    monkeypatch.setattr(reader, "_rows", rows)

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one, two = device(1), device(2)
            about_two = [Event(EventKind.ADDRESS_CONFLICT, 100.0, LAN, two, None, device(3).mac)] * 1000
            await book.write(discovered(one), *about_two)
            await book.write(Event(EventKind.ADDRESS_CONFLICT, 100.0, LAN, two, None, one.mac))
            for kinds, numbers in (((), [1, 1002]), ((EventKind.ADDRESS_CONFLICT,), [1002])):
                read.clear()
                assert sequences(await book.page(macs=frozenset([one.mac]), kinds=kinds)) == numbers
                query = EventQuery(1002, macs=frozenset([one.mac]), kinds=kinds, limit=2)
                assert await book.history.begin_of_last(query) == 0
                assert len(read) > 10
                assert max(read) == reader.FOUND

    asyncio.run(play())


def test_a_query_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs must not block the queries of others, nor the end."""
    monkeypatch.setattr(reader, "TAKES", -1.0)
    monkeypatch.setattr(reader, "CHECKED_EVERY", 1)

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await book.write(discovered(device(1)))
            with pytest.raises(TooLong, match="ask for less"):
                await book.page()
            assert not book.history.problems()
            monkeypatch.setattr(reader, "TAKES", 60.0)
            assert sequences(await book.page()) == [1]

    asyncio.run(play())


KINDS = [
    EventKind.ONLINE, EventKind.OFFLINE, EventKind.NETWORK_UP, EventKind.FLOOD, EventKind.LABELLED,
    EventKind.ADDRESS_CONFLICT, EventKind.SAME_HOST,
]  # fmt: skip


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 7), st.integers(1, 12))
def test_pieces_give_the_same_result_as_one_query(seed: int, piece: int, limit: int) -> None:
    """Whatever the query, and where numbers are missing, as kills leave them."""
    chance = Random(seed)

    async def play(folder: Path) -> None:
        async with diary(folder / "h.db") as book:
            made = [device(number) for number in range(3)]
            written: dict[int, tuple[EventKind, Any, float]] = {}
            """Kind, MACs, and time of each."""
            for _ in range(60):
                kind, one, at = chance.choice(KINDS), chance.choice(made), 100.0 + chance.randrange(50)
                about = None if kind in (EventKind.NETWORK_UP, EventKind.FLOOD) else one
                other = chance.choice(made).mac if kind in KINDS[-2:] else None
                event = Event(kind, at, LAN, about, None, other)
                if kind in (EventKind.ONLINE, EventKind.OFFLINE):
                    event = turned(one, Status(kind.value), at)
                if chance.random() < 0.1:
                    book.history._sequence += chance.randrange(1, 300)
                number = book.history.sequence_of(await book.write(event))
                written[number] = (kind, (about and about.mac, other), at)
            through = max(written)
            kinds = tuple(chance.sample(KINDS, chance.randrange(3)))
            mac = chance.choice([None, made[0].mac, made[1].mac])
            after = chance.choice([None, 120.5])
            fits = [
                number
                for number, (kind, macs, at) in written.items()
                if (not kinds or kind in kinds) and (mac is None or mac in macs) and (after is None or at > after)
            ]
            found: list[int] = []
            since = 0
            clock = 1_700_000_000.0
            query: dict[str, Any] = {
                "kinds": kinds,
                "macs": None if mac is None else frozenset([mac]),
                "after": after and after + clock,
                "limit": limit,
            }
            while since < through:
                page = await book.page(since=since, gaps=True, **query)
                assert len(page.events) == limit or page.through == through
                found += sequences(page)
                since = page.through
            assert found == fits
            last = await book.history.begin_of_last(EventQuery(through, **query))
            assert [number for number in fits if number > last] == fits[-limit:]

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(reader, "LOOKED_AT", piece)
        patch.setattr(reader, "FOUND", piece)
        asyncio.run(play(Path(folder)))


def test_a_resume_does_not_wait_for_another_account(tmp_path: Path) -> None:
    """ATTACKED M5: 60 queries that look through all of a long history, again and again; alone, and beside them."""
    siege = Siege(tmp_path / "h.db", 2**30)
    siege.household(250, 20, 60)
    siege.database.execute("UPDATE state SET reserved = ?", (siege.sequence,))
    siege.database.close()

    async def play() -> None:
        async with diary(tmp_path / "h.db", keep_days=1e6) as book:
            last = siege.sequence

            async def resume() -> float:
                began, since = time.perf_counter(), last - 1_000
                while since < last:
                    page = await book.history.events(EventQuery(last, since, limit=50, account="other"), whole=True)
                    since = page.through
                return time.perf_counter() - began

            async def ask() -> None:
                dear = EventQuery(last, kinds=(EventKind.FORGOTTEN,), account="much")
                while True:
                    await book.history.events(dear)

            await resume()
            alone = min([await resume() for _ in range(3)])
            async with asyncio.TaskGroup() as tasks:
                asking = [tasks.create_task(ask()) for _ in range(60)]
                await asyncio.sleep(0.5)
                beside = min([await resume() for _ in range(3)])
                for each in asking:
                    each.cancel()
            print(f"20 pages: {alone * 1000:.0f} ms alone, {beside * 1000:.0f} ms beside")
            assert beside < alone + 20 * 0.01, "a page waits for one piece of the other account"

    asyncio.run(play())
