"""A wrong clock removes nothing (FAULTS F12): what is young by true time is kept, whatever the clock shows."""

import asyncio
import tempfile
import time
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netscand.core.model import Event, EventKind, Mac, Status
from netscand.core.presence import Rules
from netscand.core.restore import CursorGone, recalled
from netscand.store import writer
from netscand.store.retention import Ages, Shift
from tests.store.diary import LAN, Diary, FakeClock, device, diary, discovered, sequences, turned
from tests.store.machine import Machine

YEAR = 365 * 86_400.0
KEEP = 90 * 86_400.0


def up(at: float) -> Event:
    return Event(EventKind.NETWORK_UP, at, LAN)


def trimmed(book: Diary) -> None:
    """Let the writer remove events until nothing is left to do."""
    thread = book.history._writer
    with thread._turn:
        thread._trim_at = 0.0
        for _ in range(10_000):
            thread._trim()
            if thread._trim_at > time.monotonic() + 1:
                return
    raise AssertionError("there is no end to it")


# ---- the attack ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-10 * YEAR, 10 * YEAR, -3600.0, 3600.0])
@pytest.mark.parametrize("wrong", [1, 30])
def test_a_clock_wrong_for_seconds_costs_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float, wrong: int
) -> None:
    """ATTACKED H5: none of a young history is lost, and a client that resumes misses none."""
    monkeypatch.setattr(writer, "TRIM_EVERY", 0.01)

    async def play() -> None:
        now = time.monotonic()
        clock = FakeClock(time.time() - now)
        async with diary(tmp_path / "h.db", clock, keep_days=1.0) as book:
            before = await book.write(*(up(now) for _ in range(20)))
            clock.boot += jump
            await book.write(*(up(now + 1) for _ in range(wrong)))
            clock.boot -= jump
            await book.write(*(up(now + 2) for _ in range(10)))
            await asyncio.sleep(0.3)
            assert sequences(await book.page()) == list(range(1, 31 + wrong))
            assert len(sequences(await book.page(since=book.history.sequence_of(before)))) == 10 + wrong
            assert not book.history.problems()

    asyncio.run(play())


def test_a_clock_wrong_for_a_boot_costs_no_event(tmp_path: Path) -> None:
    """A machine without a real-time clock: ten years behind until NTP answers, which it does not in the first boot."""

    async def play() -> None:
        machine = Machine()
        with machine.clocks():
            machine.error = -10 * YEAR
            one = device(1, machine.monotonic())
            async with diary(tmp_path / "h.db", machine) as book:
                await book.write(discovered(one, machine.monotonic()))
                machine.work(60)
                await book.write(turned(one, Status.OFFLINE, machine.monotonic()))
            machine.reboot(3600)
            for error in (0.0, 10 * YEAR, 0.0):
                machine.error = error
                async with diary(tmp_path / "h.db", machine) as book:
                    offset = machine.wall() - machine.monotonic()
                    back = recalled(book.memory, Rules(), offset, machine.monotonic())
                    book.devices.update({each.mac: each for each in back})
                    assert [each.status for each in back] == [Status.OFFLINE]
                    machine.work(3600)
                    await book.write(up(machine.monotonic()))
                    trimmed(book)
                    await book.history._device_rows._round()
                    assert book.forgotten == []
                    assert sequences(await book.page())[:2] == [1, 2]
                machine.reboot(60)

    asyncio.run(play())


@pytest.mark.parametrize("behind", [50 * YEAR, 10 * YEAR, 100 * 86_400.0])
def test_no_device_is_new_when_the_clock_is_in_the_past(tmp_path: Path, behind: float) -> None:
    """A device known for 300 days became new as soon as NTP answered; also after a second such start."""

    async def play() -> None:
        machine = Machine()
        with machine.clocks():
            begin, one = machine.wall(), device(1, machine.monotonic())
            async with diary(tmp_path / "h.db", machine) as book:
                await book.write(discovered(one, machine.monotonic()))
                machine.work(300 * 86_400)
                await book.write(turned(one, Status.OFFLINE, machine.monotonic()))
            for _ in range(2):
                machine.reboot(60)
                machine.error = -behind
                async with diary(tmp_path / "h.db", machine) as book:
                    recall(machine, book)
                    machine.work(10)
                    machine.error = 0.0
                    (back,) = book.devices.values()
                    ahead = machine.wall() - machine.monotonic()
                    assert begin - 1 < back.first_seen + ahead < begin + 300
                    await book.write(up(machine.monotonic()))
                    await book.history._device_rows._round()

    asyncio.run(play())


def test_a_start_after_a_run_in_2036_ages_nobody(tmp_path: Path) -> None:
    """The time of that run does not count as the true time."""

    async def play() -> None:
        machine = Machine()
        with machine.clocks():
            begin, one = machine.wall(), device(1, machine.monotonic())
            for error in (0.0, 10 * YEAR, 0.0):
                machine.error = error
                async with diary(tmp_path / "h.db", machine) as book:
                    recall(machine, book)
                    if not book.devices:
                        await book.write(discovered(one, machine.monotonic()))
                    machine.work(3600)
                    await book.write(up(machine.monotonic()))
                    (back,) = book.devices.values()
                    if not error:
                        assert begin - 1 < back.first_seen + machine.wall() - machine.monotonic() < begin + 1
                machine.reboot(60)

    asyncio.run(play())


def test_an_hour_in_2036_costs_nothing_of_90_days(tmp_path: Path) -> None:
    """Everything looks old then; and what came in that hour is removed in its turn, not in ten years."""

    async def play() -> None:
        machine = Machine()
        with machine.clocks():
            async with diary(tmp_path / "h.db", machine) as book:
                for _ in range(89):
                    await book.write(up(machine.monotonic()))
                    machine.work(86_400)
                machine.error = 10 * YEAR
                for _ in range(60):
                    await book.write(up(machine.monotonic()))
                    machine.work(60)
                    trimmed(book)
                assert len(sequences(await book.page())) == 149
                machine.error = 0.0
                await book.write(up(machine.monotonic()))
                trimmed(book)
                assert len(sequences(await book.page())) == 150
                machine.work(KEEP - 1800)
                trimmed(book)
                assert len(sequences(await book.page())) == 31  # half of that hour, and what came after

    asyncio.run(play())


# ---- any clock ----------------------------------------------------------------------------------------------------

seconds = st.one_of(st.floats(0.001, 100), st.floats(100, 5e6))
errors = st.one_of(st.just(0.0), st.floats(-7200, 7200), st.floats(-20 * YEAR, 20 * YEAR))
steps = st.one_of(
    st.tuples(st.just("event"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["work", "sleep", "stop", "off", "kill"]), seconds),
    st.tuples(st.just("set"), errors),
    st.tuples(st.just("device"), st.just(0)),
    st.tuples(st.just("trim"), st.just(0)),
)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(steps, max_size=40))
def test_events_young_by_true_time_survive_any_clock(script: list[tuple[str, Any]]) -> None:
    """Whatever the clock jumped to and for how long, over sleep, restarts and reboots; and old events are removed."""

    async def play(folder: Path) -> None:
        machine = Machine()
        came: dict[int, tuple[float, int]] = {}  # sequence: true time, and what the history's clock showed
        left: dict[Mac, float] = {}  # devices that are offline: since when, by true time
        rest, path, begun = [*script, ("trim", 0)], folder / "h.db", 0
        with machine.clocks():
            while rest:
                async with diary(path, machine) as book:
                    recall(machine, book)
                    begun = begun or book.history._age.now()
                    await live(machine, book, came, left, rest)
                    what, how = rest.pop(0) if rest else ("", 0.0)
                    lived = book.history._age.now() - begun
                    assert machine.on * 1000 - lived < (1000 if "kill" not in dict(script) else inf)
                    assert lived <= machine.on * 1000 + 1000
                    if what == "kill":
                        await book.history.settled()
                        path = book.killed(folder / f"k{len(rest)}")
                (machine.work if what == "stop" else machine.reboot)(how)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder)))


def recall(machine: Machine, book: Diary) -> None:
    offset = machine.wall() - machine.monotonic()
    for back in recalled(book.memory, Rules(), offset, machine.monotonic()):
        book.devices[back.mac] = back


async def live(
    machine: Machine,
    book: Diary,
    came: dict[int, tuple[float, int]],
    left: dict[Mac, float],
    rest: list[tuple[str, Any]],
) -> None:
    while rest and rest[0][0] not in ("stop", "off", "kill"):
        await step(machine, book, came, left, *rest.pop(0))


async def step(
    machine: Machine,
    book: Diary,
    came: dict[int, tuple[float, int]],
    left: dict[Mac, float],
    what: str,
    how: Any,  # noqa: ANN401
) -> None:
    now = machine.monotonic()

    async def write(event: Event) -> None:
        cursor = await book.write(event)
        came[book.history.sequence_of(cursor)] = machine.now, book.history._age.now()

    if what == "event":
        for _ in range(how):
            await write(up(now))
    elif what == "device":
        one = device(len(left), now)
        await write(discovered(one, now))
        await write(turned(one, Status.OFFLINE, now))
        left[one.mac] = machine.now
        await book.history._device_rows.show()
    elif what == "work":
        machine.work(how)
    elif what == "sleep":
        machine.sleep(how)
    elif what == "set":
        machine.error = how
    else:
        trimmed(book)
        kept = set(sequences(await book.page(limit=10_000)))
        young = {number for number, (at, _) in came.items() if machine.now - at < KEEP}
        assert young <= kept
        clock = book.history._age.now()
        old = {number for number, (_, lived) in came.items() if clock - lived > KEEP * 1000}
        assert not old & kept
        if old:
            with pytest.raises(CursorGone):
                await book.page(since=0)
        elif came:
            assert set(sequences(await book.page(since=0, limit=10_000))) == set(came)
        await book.history._device_rows._round()
        assert all(machine.now - left[gone] >= KEEP for gone in book.forgotten)


# ---- stamps ----------------------------------------------------------------------------------------------------


def test_an_impossible_stamp_counts_as_the_nearest_possible() -> None:
    """The clock may be set between two looks at it."""
    ages = Ages([Shift(10, 1000, 50), Shift(20, 2000, 0)], 3000)
    assert [ages.lived(1, at) for at in (-5, 500, 5000)] == [-5, 500, 1000]
    assert [ages.lived(10, at) for at in (0, 1550, 5000)] == [1000, 1500, 2000]
    assert [ages.lived(20, at) for at in (0, 2500, 5000)] == [2000, 2500, 3000]
