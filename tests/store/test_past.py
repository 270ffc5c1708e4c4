"""Asking a long past is cheap, and bounded: a piece at a time, and no more than it takes."""

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netscand.core.model import Address, Device, Event, EventKind, Evidence, Ip, Status
from netscand.core.restore import Question, TooLong
from netscand.store import reader, rows
from netscand.store.database import insert, open_database, transaction
from netscand.store.reader import Reader
from netscand.store.rows import EVENT_COLUMNS, EventCodec, Words
from tests.store.diary import LAN, FakeClock, device, diary, discovered, sequences, turned
from tests.store.siege import Siege

pytestmark = pytest.mark.slow


def renamed_for_days(path: Path, devices: int, times: int) -> int:
    """Write what a hostile host leaves behind (ATTACKED M5): devices renamed again and again; how many events."""
    path.touch()
    database, words, clock = open_database(path), Words(), FakeClock()
    codec, made = EventCodec(words), [device(number) for number in range(devices)]
    written = [codec.row(number, discovered(each), clock) for number, each in enumerate(made, 1)]
    for turn in range(times):
        for number, each in enumerate(made):
            before = {"hostname": each.hostname, "hostname_source": each.hostname_source}
            each.hostname, each.hostname_source = f"name-{turn}-{number}", "mdns"
            event = Event(EventKind.RENAMED, 100.0 + turn, None, each, reason="named by mdns", previous=before)
            written.append(codec.row(len(written) + 1, event, clock))
    with transaction(database):
        insert(database, "event", EVENT_COLUMNS, written)
        insert(database, "word", ("number", "text"), words.fresh)
        database.execute("UPDATE state SET shown = ?, reserved = ?", (len(written), len(written)))
    database.close()
    return len(written)


def test_a_page_reads_no_more_for_all_that_happened_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each device the first change after the page, however many there were; not one device waits for the loop."""
    read: list[int] = []
    event = EventCodec.event

    def counted(self: EventCodec, row: rows.Row) -> Any:  # noqa: ANN401
        read.append(1)
        return event(self, row)

    monkeypatch.setattr(EventCodec, "event", counted)

    async def play() -> None:
        last = renamed_for_days(tmp_path / "h.db", 60, 300)
        async with diary(tmp_path / "h.db", keep_days=1e6) as book:
            for question in ({}, {"since": last // 2}, {"kinds": (EventKind.DISCOVERED,)}):
                read.clear()
                page = await book.page(limit=50, **question)
                assert len(page.events) == 50
                assert len(read) <= 100
                assert all(later.fields for later in page.later)
            names = [found.device.hostname for found in await book.events(limit=180, since=60) if found.device]
            assert names == [f"name-{turn}-{number}" for turn in range(3) for number in range(60)]

    asyncio.run(play())


def addresses(*numbers: int) -> list[Address]:
    return [Address(Ip(bytes([10, 0, 0, each])), LAN, "eth0", Evidence.ARP_REPLY, 100.0, 100.0) for each in numbers]


CHANGES: dict[EventKind, tuple[str, Any]] = {
    EventKind.ADDRESS_ADDED: ("addresses", addresses(1, 2)),
    EventKind.ADDRESS_REMOVED: ("addresses", addresses(2)),
    EventKind.ADDRESS_MOVED: ("addresses", addresses(1, 3)),
    EventKind.ADDRESS_CONFLICT: ("addresses", addresses(1, 4)),
    EventKind.GATEWAY_CHANGED: ("addresses", addresses(1, 5)),
    EventKind.RENAMED: ("hostname", "tv"),
    EventKind.LABELLED: ("label", "TV"),
}
"""What an event of each kind makes of a device that has the address 10.0.0.1."""


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("forgotten", [False, True])
def test_an_event_shows_its_device_as_it_was_whatever_changed_it_later(
    tmp_path: Path, kind: EventKind, forgotten: bool
) -> None:
    """Twice, between events that are asked for and that are not, and into another life of it."""
    name, value = CHANGES[kind]

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1)
            first = getattr(one, name)
            await book.write(discovered(one), turned(one, Status.OFFLINE, 110.0))
            for at, after in ((120.0, value), (130.0, first)):
                before = getattr(one, name)
                previous = {name: tuple(before) if isinstance(before, list) else before}
                setattr(one, name, after)
                await book.write(Event(kind, at, LAN, one, reason="x", previous=previous))
                await book.write(turned(one, Status.ONLINE, at + 1))
            expected = [first, value, first]
            if forgotten:
                setattr(one, name, value)
                await book.write(Event(EventKind.FORGOTTEN, 140.0, None, one, reason="forgotten by a user"))
                await book.write(discovered(again := device(1, 150.0), 150.0), turned(again, Status.OFFLINE, 160.0))
                expected[-1] = value
                expected.append(getattr(again, name))
            else:
                again = one
            asked = (EventKind.ONLINE, EventKind.OFFLINE)
            page = [event.device for event in await book.events(lambda mac: again, kinds=asked)]
            assert [shown(found, name) for found in page] == [bare(each) for each in expected]

    asyncio.run(play())


def shown(found: Device | None, name: str) -> Any:  # noqa: ANN401
    return bare(getattr(found, name))


def bare(value: Any) -> Any:  # noqa: ANN401
    return [held.ip for held in value] if isinstance(value, list | tuple) else value


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a hundred steps of SQLite were done, in each piece of a question."""
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


def test_what_is_rare_is_found_without_looking_at_the_rest(tmp_path: Path, steps: list[int]) -> None:
    """Counted in steps of SQLite: 60 connections that ask for the floods of a month are no work."""

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
            question = Question(siege.sequence, kinds=many, limit=2)
            assert await book.history.begin_of_last(question) == floods[0]
            assert sum(steps) < 20
            steps.clear()
            await book.page(kinds=(EventKind.ONLINE,), mac=device(77).mac)
            assert len(steps) >= siege.sequence // reader.LOOKED_AT
            assert max(steps) < 12 * reader.LOOKED_AT / 100

    asyncio.run(play())


def test_a_question_that_takes_too_long_is_ended_and_the_history_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hangs: the thread is for others, too. And an end waits for nobody's question."""
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


KINDS = [EventKind.ONLINE, EventKind.OFFLINE, EventKind.NETWORK_UP, EventKind.FLOOD, EventKind.LABELLED]


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 7), st.integers(1, 12))
def test_piece_by_piece_is_the_same_as_at_once(seed: int, piece: int, limit: int) -> None:
    """Whatever is asked for, and where numbers are missing, as kills leave them."""
    chance = Random(seed)

    async def play(folder: Path) -> None:
        async with diary(folder / "h.db") as book:
            made = [device(number) for number in range(3)]
            told: dict[int, tuple[EventKind, Any, float]] = {}
            for _ in range(60):
                kind, one, at = chance.choice(KINDS), chance.choice(made), 100.0 + chance.randrange(50)
                about = None if kind in (EventKind.NETWORK_UP, EventKind.FLOOD) else one
                event = Event(kind, at, LAN, about)
                if kind in (EventKind.ONLINE, EventKind.OFFLINE):
                    event = turned(one, Status(kind.value), at)
                if chance.random() < 0.1:
                    book.history._sequence += chance.randrange(1, 300)
                number = book.history.sequence_of(await book.write(event))
                told[number] = (kind, about and about.mac, at)
            through = max(told)
            kinds = tuple(chance.sample(KINDS, chance.randrange(3)))
            mac = chance.choice([None, made[0].mac, made[1].mac])
            after = chance.choice([None, 120.5])
            fits = [
                number
                for number, (kind, of, at) in told.items()
                if (not kinds or kind in kinds) and mac in (None, of) and (after is None or at > after)
            ]
            found: list[int] = []
            since = 0
            clock = 1_700_000_000.0
            question: dict[str, Any] = {"kinds": kinds, "mac": mac, "after": after and after + clock, "limit": limit}
            while since < through:
                page = await book.page(since=since, gaps=True, **question)
                assert len(page.events) == limit or page.through == through
                found += sequences(page)
                since = page.through
            assert found == fits
            last = await book.history.begin_of_last(Question(through, **question))
            assert [number for number in fits if number > last] == fits[-limit:]

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(reader, "LOOKED_AT", piece)
        patch.setattr(reader, "FOUND", piece)
        asyncio.run(play(Path(folder)))


def test_who_resumes_is_not_kept_waiting_by_another_account(tmp_path: Path) -> None:
    """ATTACKED M5: 60 questions that look through all of a long history, again and again; alone, and beside them."""
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
                    page = await book.history.events(Question(last, since, limit=50, account="other"), whole=True)
                    since = page.through
                return time.perf_counter() - began

            async def ask() -> None:
                dear = Question(last, kinds=(EventKind.FORGOTTEN,), account="much")
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
            assert beside < 3 * alone + 0.05

    asyncio.run(play())
