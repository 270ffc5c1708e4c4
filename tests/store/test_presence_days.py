"""How long a device was online on each day, by its events."""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netscand.core.model import NEVER_SEEN, Event, EventKind, Status
from netscand.core.restore import PresencePart, Standing
from netscand.store import history, retention
from netscand.store.presence_days import Days
from netscand.store.rows import KINDS, STATUS
from tests.store.diary import BOOT, LAN, Diary, FakeClock, device, diary, discovered, turned

HOUR = 3600.0
MIDNIGHT = (BOOT // 86_400 + 1) * 86_400 - BOOT
"""By the monotonic clock of these tests: the first midnight, UTC."""


def hours(found: Sequence[PresencePart]) -> list[tuple[float, float]]:
    """Return the hours online and unknown of each day."""
    return [(round(day.online / HOUR, 3), round(day.unknown / HOUR, 3)) for day in found]


async def days_of(book: Diary, at: float, days: int, now_is: tuple[Status, float] | None = None) -> Any:  # noqa: ANN401
    """Return the days of device 1 up to `at`, with its present status."""
    await book.history.settled()
    one = book.devices[device(1).mac]
    status, since = now_is or (one.status, one.status_since)
    standing = Standing(status, since + BOOT, "")
    return hours(await book.history.presence(one.mac, days, standing, at + BOOT))


def back_online(of: Any, at: float, was: Status, since: float) -> Event:  # noqa: ANN401
    """Return the event of a device after a doubt, for which there was no event."""
    of.status, of.status_since = was, since
    return turned(of, Status.ONLINE, at)


def test_online_and_offline_are_counted_by_day(tmp_path: Path) -> None:
    """A span over midnight counts for both days; before the device was first seen nothing does."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1, at := MIDNIGHT + 20 * HOUR)
            await book.write(discovered(one, at))
            await book.write(turned(one, Status.OFFLINE, MIDNIGHT + 26 * HOUR))
            await book.write(turned(one, Status.ONLINE, MIDNIGHT + 40 * HOUR))
            assert await days_of(book, MIDNIGHT + 45 * HOUR, 3) == [(0, 0), (4, 0), (7, 0)]
            assert await days_of(book, MIDNIGHT + 45 * HOUR, 1) == [(7, 0)]
            assert await days_of(book, MIDNIGHT + 100 * HOUR, 2) == [(24, 0), (4, 0)]

    asyncio.run(play())


def test_parts_of_a_day_are_counted(tmp_path: Path) -> None:
    """Hours: the first and the last one in part; those to come are empty."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1, at := MIDNIGHT + 2.5 * HOUR)
            await book.write(discovered(one, at))
            await book.write(turned(one, Status.OFFLINE, MIDNIGHT + 4 * HOUR))
            await book.write(turned(one, Status.ONLINE, MIDNIGHT + 6 * HOUR))
            await book.history.settled()
            now = MIDNIGHT + 7.25 * HOUR + BOOT
            standing = Standing(Status.ONLINE, MIDNIGHT + 6 * HOUR + BOOT, "")
            parts = await book.history.presence(one.mac, 2, standing, now, HOUR)
            assert len(parts) == 48
            assert hours(parts[24:33]) == [(each, 0) for each in (0, 0, 0.5, 1, 0, 0, 1, 0.25, 0)]
            assert [part.start - parts[0].start for part in parts] == [number * HOUR for number in range(48)]

    asyncio.run(play())


def test_before_it_was_seen_no_second_counts(tmp_path: Path) -> None:
    """FIELD case 26: annotated before it was seen, forgotten, or seen later: nothing is known of the time before."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            other = device(2, at := MIDNIGHT + 1 * HOUR)
            await book.write(discovered(other, at))
            one = device(1, at)
            one.status, one.reason, one.addresses = Status.UNKNOWN, NEVER_SEEN, []
            await book.write(Event(EventKind.LABELLED, at, None, one, previous={"label": None}))
            await book.write(Event(EventKind.FORGOTTEN, MIDNIGHT + 3 * HOUR, None, one))
            await book.write(Event(EventKind.LABELLED, MIDNIGHT + 4 * HOUR, None, one, previous={"label": None}))
            one = device(1, at := MIDNIGHT + 20 * HOUR)
            await book.write(discovered(one, at))
            assert await days_of(book, MIDNIGHT + 23 * HOUR, 1) == [(3, 0)]

    asyncio.run(play())


def test_a_device_without_events_counts_whole_days(tmp_path: Path) -> None:
    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1, MIDNIGHT)
            await book.write(discovered(one, MIDNIGHT))
            assert await days_of(book, MIDNIGHT + 5 * 24 * HOUR + HOUR, 2) == [(24, 0), (1, 0)]

    asyncio.run(play())


def test_a_doubt_counts_as_unknown(tmp_path: Path) -> None:
    """A network that was down, or a daemon that did not run: no event of the device shows when it began."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1, MIDNIGHT)
            await book.write(discovered(one, MIDNIGHT))
            await book.write(back_online(one, MIDNIGHT + 14 * HOUR, Status.UNKNOWN, MIDNIGHT + 10 * HOUR))
            now = MIDNIGHT + 20 * HOUR
            assert await days_of(book, now, 1) == [(16, 4)]
            assert await days_of(book, now, 1, (Status.UNKNOWN, MIDNIGHT + 17 * HOUR)) == [(13, 7)]

    asyncio.run(play())


def test_a_device_online_for_long_counts_before_a_doubt(tmp_path: Path) -> None:
    """After a restart each device is online again; that it was before, an event of weeks ago shows."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1, MIDNIGHT)
            await book.write(discovered(one, MIDNIGHT))
            begun = MIDNIGHT + 240 * HOUR
            assert await days_of(book, begun + 12 * HOUR, 2, (Status.UNKNOWN, begun + 9 * HOUR)) == [(24, 0), (9, 3)]
            await book.write(back_online(one, begun + 14 * HOUR, Status.UNKNOWN, begun + 13 * HOUR))
            assert await days_of(book, begun + 20 * HOUR, 3) == [(24, 0), (24, 0), (19, 1)]

    asyncio.run(play())


@pytest.mark.parametrize("verdict", [True, False])
def test_a_device_without_a_change_was_online_before_a_doubt(tmp_path: Path, verdict: bool) -> None:
    """Only a device that is online becomes unknown; the time before the oldest event does not count."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1, MIDNIGHT - 100 * 24 * HOUR)
            book.devices[one.mac] = one
            await book.write(Event(EventKind.NETWORK_UP, MIDNIGHT - 6 * HOUR, LAN))
            doubt = Status.UNKNOWN, MIDNIGHT + 10 * HOUR
            if verdict:
                await book.write(back_online(one, MIDNIGHT + 12 * HOUR, *doubt))
            found = await days_of(book, MIDNIGHT + 12 * HOUR, 3, None if verdict else doubt)
            assert found == [(0, 0), (6, 0), (10, 2)]

    asyncio.run(play())


@pytest.mark.parametrize("doubted", [0.0, 5.0])
def test_a_change_shows_the_status_before_it(tmp_path: Path, doubted: float) -> None:
    """The event that began it is older than the requested days, or was removed."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1, MIDNIGHT - 90 * 24 * HOUR)
            was, since = (Status.UNKNOWN, MIDNIGHT + doubted * HOUR) if doubted else (Status.OFFLINE, MIDNIGHT - HOUR)
            await book.write(back_online(one, MIDNIGHT + 9 * HOUR, was, since))
            (found,) = await days_of(book, MIDNIGHT + 12 * HOUR, 1)
            assert found == ((3, 4) if doubted else (3, 0))

    asyncio.run(play())


def test_a_forgotten_device_begins_again(tmp_path: Path) -> None:
    """Until then it counts; from then on there is no device."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1, MIDNIGHT)
            await book.write(discovered(one, MIDNIGHT))
            await book.write(Event(EventKind.FORGOTTEN, MIDNIGHT + 2 * HOUR, None, one, reason="forgotten by a user"))
            again = device(1, MIDNIGHT + 8 * HOUR)
            await book.write(discovered(again, MIDNIGHT + 8 * HOUR))
            assert await days_of(book, MIDNIGHT + 9 * HOUR, 1) == [(3, 0)]

    asyncio.run(play())


YEAR = 365 * 24 * HOUR


@pytest.mark.parametrize("jump", [10 * YEAR, -10 * YEAR, HOUR])
def test_a_wrong_clock_changes_no_day(tmp_path: Path, jump: float) -> None:
    """FAULTS F12: by when it happened, not by what the clock showed."""

    async def play() -> None:
        clock = FakeClock()
        async with diary(tmp_path / "h.db", clock) as book:
            one = device(1, MIDNIGHT)
            await book.write(discovered(one, MIDNIGHT))
            clock.boot += jump
            await book.write(turned(one, Status.OFFLINE, MIDNIGHT + 6 * HOUR))
            clock.boot -= jump
            await book.write(turned(one, Status.ONLINE, MIDNIGHT + 10 * HOUR))
            assert await days_of(book, MIDNIGHT + 30 * HOUR, 2) == [(20, 0), (6, 0)]

    with sleepless():
        asyncio.run(play())


def test_days_with_the_machine_off_do_not_move(tmp_path: Path) -> None:
    """The wall clock runs on while the history's clock stands still: that is no error."""

    async def play() -> None:
        clock = FakeClock()
        async with diary(tmp_path / "h.db", clock) as book:
            one = device(1, MIDNIGHT)
            await book.write(discovered(one, MIDNIGHT), turned(one, Status.OFFLINE, MIDNIGHT + 6 * HOUR))
            clock.boot += 48 * HOUR
            await book.write(back_online(one, MIDNIGHT + 10 * HOUR, Status.OFFLINE, MIDNIGHT - 42 * HOUR))
            now = MIDNIGHT + 20 * HOUR + 48 * HOUR
            assert await days_of(book, now, 3, (Status.ONLINE, now - 10 * HOUR)) == [(6, 0), (0, 0), (10, 0)]

    with sleepless():
        asyncio.run(play())


@pytest.mark.slow
@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([Status.ONLINE, Status.OFFLINE, Status.UNKNOWN]),
            st.floats(-30 * 24 * HOUR, 30 * 24 * HOUR),
            st.sampled_from([0.0, 0.0, HOUR, -HOUR, 10 * YEAR, -10 * YEAR]),
        ),
        max_size=12,
    )
)
def test_no_day_has_more_than_24_hours(turns: list[tuple[Status, float, float]]) -> None:
    """Whatever the clock showed, and in whatever order stamps come."""

    async def play(path: Path) -> None:
        clock = FakeClock()
        async with diary(path, clock) as book:
            one = device(1, MIDNIGHT)
            await book.write(discovered(one, MIDNIGHT))
            for status, at, jump in turns:
                clock.boot = BOOT + jump
                if status is Status.UNKNOWN:
                    one.status, one.status_since = status, MIDNIGHT + at
                else:
                    await book.write(turned(one, status, MIDNIGHT + at))
            for online, unknown in await days_of(book, MIDNIGHT + 5 * 24 * HOUR, 30):
                assert online >= 0
                assert unknown >= 0
                assert online + unknown <= 24.001

    with sleepless(), tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder) / "h.db"))


@contextmanager
def sleepless() -> Iterator[None]:
    """Let the history's clock use the monotonic clock of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (retention, history):
            patch.setattr(module, "monotonic", lambda: MIDNIGHT)
        patch.setattr(retention, "clock_gettime", lambda clock: MIDNIGHT)
        yield


def test_a_merged_device_was_online_while_any_of_its_macs_was() -> None:
    """No second counts twice; it is unknown only while none is online."""
    days = Days(1, HOUR, 4 * HOUR, 0.0)
    on, doubt = Status.ONLINE, Status.UNKNOWN
    days.count_all([(0.0, HOUR, on), (HOUR / 2, 2 * HOUR, on), (HOUR, 3 * HOUR, doubt)])
    parts = days.end(None)[:4]
    assert [(part.online, part.unknown) for part in parts] == [(HOUR, 0.0), (HOUR, 0.0), (0.0, HOUR), (0.0, 0.0)]


def test_a_merged_device_that_is_back_was_not_there_in_between() -> None:
    """Its own days have a gap from the merge to the undo; the device it was merged into keeps its days."""
    online, unknown = STATUS[Status.ONLINE], STATUS[Status.UNKNOWN]
    changes = [
        (0.0, EventKind.DISCOVERED, None, None), (HOUR, EventKind.FORGOTTEN, online, HOUR),
        (2 * HOUR, EventKind.SPLIT, None, None), (3 * HOUR, EventKind.ONLINE, unknown, HOUR),
    ]  # fmt: skip
    for kinds, expected in (
        (set(EventKind), [(HOUR, 0.0), (0.0, 0.0), (0.0, HOUR), (HOUR, 0.0)]),
        ({EventKind.DISCOVERED, EventKind.SPLIT}, [(HOUR, 0.0)] * 4),
    ):
        days = Days(1, HOUR, 4 * HOUR, 0.0)
        for at, kind, was, lasted in changes:
            if kind in kinds:
                days.add(int(at * 1000), KINDS[kind], was, None if lasted is None else int(lasted * 1000))
        parts = days.end(Standing(Status.ONLINE, 3 * HOUR if len(kinds) > 2 else 0.0, ""))[:4]
        assert [(round(part.online), round(part.unknown)) for part in parts] == expected
