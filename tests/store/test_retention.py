"""What is removed when the history is too large: strangers' events first; no client resumes over a gap."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from netscand import config, protocol
from netscand.core.model import Event, EventKind, Ip, Status
from netscand.core.restore import CursorGone
from netscand.serve import history_api
from netscand.store import retention, writer
from netscand.store.database import insert, transaction
from netscand.store.rows import EVENT_COLUMNS
from tests.store.diary import LAN, Diary, FakeClock, device, diary, discovered, sequences, turned
from tests.store.siege import HOUSEHOLD, STRANGERS, Siege
from tests.store.test_age_clock import trimmed

pytestmark = pytest.mark.slow

DAY = 86_400.0


def besiege(
    path: Path, mib: float, devices: int, days: float, hosts: int, answering: float, passing: float
) -> tuple[Siege, list[int]]:
    """Write a household's life, then two attacks (ATTACKED H2) at twice their rates, for so many seconds."""
    siege = Siege(path, mib * 2**20, days=days + 2)
    household = siege.household(devices, 20, days)
    for _ in siege.answering(hosts, 430, answering):
        pass
    for _ in siege.passing(30, passing):
        pass
    return siege, household


def judge(siege: Siege, household: list[int]) -> None:
    pieces = sorted(siege.pieces)
    print(
        f"{siege.sequence} events, {siege.trim.removed_by_size} of them removed in {len(pieces)} turns: "
        f"median {median(pieces) * 1000:.2f} ms, 99 % below {pieces[len(pieces) * 99 // 100] * 1000:.1f}, "
        f"all {sum(pieces):.1f} s; log {siege.log / 2**20:.0f} MiB"
    )
    assert siege.trim.removed_by_size > 20_000, "it never came to that"
    assert set(household) <= siege.kept()
    assert siege.size() <= siege.most
    assert median(pieces) < 0.005
    assert siege.log < 48 * 2**20


def test_a_hostile_host_removes_nothing_of_a_household(tmp_path: Path) -> None:
    """ATTACKED H2, FAULTS T11: made-up devices take address after address, and new ones come and go."""
    judge(*besiege(tmp_path / "h.db", 8, 30, 30, 100, answering=120, passing=1800))


@pytest.mark.long
def test_a_day_of_a_hostile_host_removes_nothing(tmp_path: Path) -> None:
    """An hour of the one and a day of the other, over 450,000 events of 250 devices."""
    judge(*besiege(tmp_path / "h.db", 256, 250, 90, 909, answering=3600, passing=86_400))


def test_a_flood_does_not_stop_removal(tmp_path: Path) -> None:
    """Events come between two turns: the search ends all the same."""
    siege = Siege(tmp_path / "h.db", 2**20)
    siege.household(10, 20, 10)

    def more() -> None:
        with transaction(siege.database):
            siege.event(EventKind.ADDRESS_ADDED, 5 + 2**41, 100)
            insert(siege.database, "event", EVENT_COLUMNS, siege.waiting)
            siege.waiting.clear()

    for _ in siege.answering(5, 100, 20):
        siege.meanwhile = more
    assert siege.size() <= siege.most * retention.FULL


# ---- what is new ----------------------------------------------------------------------------------------------------


def grown(path: Path, mib: float, days: float) -> tuple[Siege, list[int]]:
    """Write a LAN of residents whose days do not fit, with removal once a day; five devices come at the end."""
    siege = Siege(path, mib * 2**20, days=days + 2)
    siege.household(20, 50, days)
    intruders = [siege.event(EventKind.DISCOVERED, STRANGERS + number) for number in range(5)]
    siege.write()
    siege.most = siege.size() / retention.FULL * 0.999
    siege.write()
    return siege, intruders


def hole(siege: Siege) -> int:
    return int(siege.database.execute("SELECT hole FROM state").fetchone()[0])


def test_new_devices_stay_and_the_oldest_events_go(tmp_path: Path) -> None:
    """Events of five new devices were removed before the oldest of 40,000, and every client's cursor expired."""
    siege, intruders = grown(tmp_path / "h.db", 256, 40)
    assert siege.trim.removed_by_size > 1_000
    assert set(intruders) <= siege.kept()
    assert 1 not in siege.kept()
    assert hole(siege) == 0


@pytest.mark.parametrize(("later", "kept"), [(3600 * 20, True), (3600 * 30, False)])
def test_new_strangers_are_kept_for_a_day(tmp_path: Path, later: int, kept: bool) -> None:
    """If a day has more events than a resume covers; afterwards theirs go first."""
    siege = Siege(tmp_path / "h.db", 256 * 2**20)
    siege.household(20, 50, 5)
    intruders = [siege.event(EventKind.DISCOVERED, STRANGERS + number) for number in range(5)]
    begin, count = siege.now, retention.RESUMED + 5_000
    for number in range(count):
        siege.now = begin + later * 1000 * number // count
        siege.event((EventKind.ONLINE, EventKind.OFFLINE)[number % 2], HOUSEHOLD + number % 20)
    siege.write()
    end = retention._settled(siege.database, siege.now, 256 * 2**20)
    assert (end < intruders[0]) is kept
    assert siege.sequence - end >= retention.RESUMED


def test_newest_events_suffice_for_a_resume() -> None:
    """From 40 MiB on."""
    assert retention.RESUMED == history_api.MISSED
    assert 40 * 2**20 / retention.RECENT_SHARE / retention.EVENT >= retention.RESUMED


# ---- what goes first ------------------------------------------------------------------------------------------------


def made(number: int, stayed: float, at: float) -> Callable[[], list[Event]]:
    """Return the events of a device that was here for so long."""
    one = device(number, at - stayed)
    one.last_seen = at

    def events() -> list[Event]:
        before = {"ip": one.ip, "addresses": tuple(one.addresses)}
        ip = Ip(bytes([10, 0, 0, number]))
        return [
            Event(EventKind.ADDRESS_ADDED, at, LAN, one, ip, reason="announced its address", previous=before)
            for _ in range(400)
        ]

    return events


def kept_of(found: list[protocol.Event], number: int) -> int:
    return sum(event.device is not None and event.device.mac == device(number).mac.hex(":") for event in found)


def test_events_of_the_briefest_devices_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgotten ones, then those here for less than a day, a week, a month; a device marked as known is no stranger."""
    monkeypatch.setattr(writer, "TRIM_EVERY", 1e9)
    monkeypatch.setattr(writer, "MOST_ROWS", 10**9)

    async def play() -> None:
        at = time.monotonic()
        async with diary(tmp_path / "h.db", FakeClock(time.time() - at), keep_days=1000.0) as book:
            stays = {1: 90 * DAY, 2: 20 * DAY, 3: 3 * DAY, 4: 3600.0, 5: 3600.0, 6: 3600.0}
            writes = {number: made(number, stay, at) for number, stay in stays.items()}
            for write in writes.values():
                await book.write(*write())
            del book.devices[device(5).mac]  # forgotten
            book.devices[device(6).mac].known = True
            order: list[int] = []
            for _ in range(300):
                size = used(book)
                book.history.keep(config.History(keep_days=1000.0, max_mib=size / retention.FULL / 2**20 * 0.9999))
                trimmed(book)
                found = await book.events(limit=10_000)
                order += [number for number in stays if number not in order and not kept_of(found, number)]
                if not found:
                    break
            assert order[:4] == [5, 4, 3, 2]
            assert set(order[4:]) == {1, 6}

    asyncio.run(play())


def used(book: Diary) -> int:
    with book.history._writer._turn:
        database = book.history._writer._database
        assert database is not None
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (free,) = database.execute("PRAGMA freelist_count").fetchone()
    return int((pages - free) * 4096)


def test_repeated_labelling_removes_no_other_event(tmp_path: Path) -> None:
    """FAULTS T57: the first and the last change of each hour stay; those between go before any other event."""
    siege = Siege(tmp_path / "h.db", 2 * 2**20)
    household = siege.household(10, 20, 10)
    siege.now += 3_600_000 - siege.now % 3_600_000
    labels = []
    for number in range(2_400):
        siege.now += 6_000
        labels.append((siege.now // 3_600_000, siege.event(EventKind.LABELLED, HOUSEHOLD + 3, 4_000)))
        if number % 50 == 0:
            siege.write()
    siege.write()
    assert siege.size() <= siege.most
    kept = siege.kept()
    assert set(household) <= kept
    hours = {hour for hour, _ in labels}
    assert len(hours) >= 4
    for hour in hours:
        numbers = [number for at, number in labels if at == hour]
        assert {numbers[0], numbers[-1]} <= kept
    assert len(set(dict(labels).values()) - kept) < len(hours)
    assert hole(siege) > household[-1]


# ---- resume ---------------------------------------------------------------------------------------------------------


async def with_a_hole(book: Diary, at: float) -> tuple[int, int]:
    """Write a household's events and a stranger's in between, which go; return the first and last missing number."""
    one, stranger = device(1, at - 50 * DAY), device(2, at)
    one.last_seen = at
    await book.write(*(turned(one, (Status.ONLINE, Status.OFFLINE)[i % 2], at) for i in range(300)))
    await book.write(*(turned(stranger, (Status.ONLINE, Status.OFFLINE)[i % 2], at) for i in range(4000)))
    await book.write(*(turned(one, (Status.ONLINE, Status.OFFLINE)[i % 2], at) for i in range(10)))
    book.history.keep(config.History(keep_days=1000.0, max_mib=used(book) / 2**20))
    trimmed(book)
    kept = sequences(await book.page(limit=10_000))
    missing = sorted(set(range(1, 4311)) - set(kept))
    assert missing == list(range(301, missing[-1] + 1)), "the stranger's oldest go"
    return missing[0], missing[-1]


def test_a_cursor_before_removed_events_has_expired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of what is kept continues."""
    monkeypatch.setattr(writer, "TRIM_EVERY", 1e9)
    monkeypatch.setattr(writer, "MOST_ROWS", 10**9)

    async def play() -> None:
        at = time.monotonic()
        clock = FakeClock(time.time() - at)
        async with diary(tmp_path / "h.db", clock, keep_days=1000.0) as book:
            first, last = await with_a_hole(book, at)
            for gone in (0, 1, first - 1, first, last - 1):
                with pytest.raises(CursorGone):
                    await book.page(since=gone)
            for good in (last, last + 1, 4310):
                assert sequences(await book.page(since=good, limit=10_000)) == list(range(good + 1, 4311))
            listed = sequences(await book.page(since=first - 1, gaps=True, limit=10_000))
            assert listed == list(range(last + 1, 4311))
            cursor = book.history.cursor
        async with diary(tmp_path / "h.db", clock, keep_days=1000.0) as book:
            assert book.history.cursor == cursor
            with pytest.raises(CursorGone):
                await book.page(since=first - 1)

    asyncio.run(play())


def test_a_number_is_given_out_once_though_events_are_removed(tmp_path: Path) -> None:
    """Also if the last of all events is a stranger's: a restart continues after it."""

    async def play() -> None:
        at = time.monotonic()
        clock = FakeClock(time.time() - at)
        async with diary(tmp_path / "h.db", clock, keep_days=1000.0) as book:
            stranger = device(2, at)
            await book.write(*(turned(stranger, (Status.ONLINE, Status.OFFLINE)[i % 2], at) for i in range(4000)))
            last = book.history.cursor
            book.history.keep(config.History(keep_days=1000.0, max_mib=0.01))
            trimmed(book)
            assert not sequences(await book.page())
        async with diary(tmp_path / "h.db", clock, keep_days=1000.0) as book:
            assert book.history.cursor == last
            assert sequences(await book.page(since=4000)) == []
            assert await book.write(discovered(device(3))) == book.history.cursor_of(4001)

    asyncio.run(play())


def test_removal_by_size_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as events of the kept days are missing, also after a restart; and not if age removes them."""
    monkeypatch.setattr(writer, "TRIM_EVERY", 0.01)

    async def play() -> None:
        at = time.monotonic()
        clock = FakeClock(time.time() - at)
        one = device(1, at)
        async with diary(tmp_path / "h.db", clock, keep_days=1000.0) as book:
            await book.write(*(turned(one, (Status.ONLINE, Status.OFFLINE)[i % 2], at - 2 * DAY) for i in range(4000)))
            book.history.keep(config.History(keep_days=1.0, max_mib=256))
            async with asyncio.timeout(30):
                while sequences(await book.page()):
                    await asyncio.sleep(0.02)
            assert not book.removed
            await book.write(*(turned(one, (Status.ONLINE, Status.OFFLINE)[i % 2], at) for i in range(4000)))
            book.history.keep(config.History(keep_days=1.0, max_mib=used(book) / 2**20))
            async with asyncio.timeout(30):
                while len(book.removed) < 2:
                    await asyncio.sleep(0.02)
            assert sum(book.removed) == 4000 - len((await book.page(limit=5000)).events)
        async with diary(tmp_path / "h.db", clock, keep_days=1.0) as book:
            await asyncio.sleep(0.2)
            assert set(book.removed) == {0}

    asyncio.run(play())
