"""A machine without a real-time clock (FIELD case 12): what was stored stays, and this run's events become right."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from netscand import protocol
from netscand.core.model import Event, EventKind, Mac, Status
from netscand.core.presence import Rules
from netscand.core.restore import recalled
from netscand.serve.encode import Encoder
from netscand.store import restamp
from netscand.store.database import connect
from netscand.store.opening import remember
from netscand.store.restamp import moved
from netscand.store.retention import Ages, Shift
from tests.store.diary import LAN, Diary, device, diary, discovered, mac, turned
from tests.store.machine import Machine

HOUR, DAY = 3600.0, 86_400.0
CLOCKS = [-5.7 * HOUR, -55 * 365 * DAY, 10 * 365 * DAY]
"""Errors of the clock at the start: fake-hwclock, 1970, and a bad one that is ahead."""


def recall(machine: Machine, book: Diary) -> None:
    offset = machine.wall() - machine.monotonic()
    book.devices.update({each.mac: each for each in recalled(book.memory, Rules(), offset, machine.monotonic())})


def shown(machine: Machine, of: Mac, book: Diary) -> tuple[object, ...]:
    """Return the stamps of a device as clients get them now: when it was seen first, last, and since when it is so."""
    told = Encoder(lambda: machine.boot, lambda _: None).device(book.devices[of])
    return told.first_seen, told.last_seen, told.status_since, told.addresses


def up(machine: Machine) -> Event:
    return Event(EventKind.NETWORK_UP, machine.monotonic(), LAN)


async def first_run(machine: Machine, path: Path) -> dict[Mac, tuple[object, ...]]:
    """Let a printer go two months ago, and a phone five minutes before the power fails; return both as they were."""
    async with diary(path, machine, keep_days=365.0) as book:
        machine.work(60)
        await book.write(*(discovered(device(number, machine.monotonic()), machine.monotonic()) for number in (1, 2)))
        machine.work(HOUR)
        await book.write(turned(book.devices[mac(1)], Status.OFFLINE, machine.monotonic()))
        machine.work(60 * DAY)
        book.devices[mac(2)].last_seen = machine.monotonic()
        machine.work(300)
        await book.write(turned(book.devices[mac(2)], Status.OFFLINE, machine.monotonic()))
        return {of: shown(machine, of, book) for of in book.devices}


@pytest.mark.parametrize("error", CLOCKS)
def test_who_is_absent_stays_as_it_was_stored(tmp_path: Path, error: float) -> None:
    """While the clock is wrong, once it is right, and after restarts of either kind."""

    async def play() -> None:
        machine = Machine()
        with machine.clocks():
            stored = await first_run(machine, tmp_path / "h.db")
            for begins, ends in (
                ("boot", "right"), ("boot", "wrong"), ("restart", "wrong"), ("restart", "right"), ("restart", "right"),
            ):  # fmt: skip
                if begins == "boot":
                    machine.reboot(5 * HOUR)
                    machine.error = error
                async with diary(tmp_path / "h.db", machine, keep_days=365.0) as book:
                    recall(machine, book)
                    machine.work(40)
                    await book.write(up(machine))
                    assert {of: shown(machine, of, book) for of in stored} == stored
                    if ends == "right":
                        machine.error = 0.0
                        await book.write(up(machine))
                        assert {of: shown(machine, of, book) for of in stored} == stored
                    machine.work(600)
                    await book.history._device_rows._round()
                    book.history._device_rows.note_all()
                    await book.history._device_rows.show()

    asyncio.run(play())


def when(events: Sequence[protocol.Event]) -> list[str]:
    return [event.at for event in events]


@pytest.mark.parametrize("error", CLOCKS)
def test_events_of_the_run_get_the_right_time(tmp_path: Path, error: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same numbers, same order; `since` a time finds them; what was stored before keeps its stamps, in them too."""
    monkeypatch.setattr(restamp, "SLICE", 3)

    async def play() -> None:
        machine = Machine()
        with machine.clocks():
            stored = await first_run(machine, tmp_path / "h.db")
            machine.reboot(5 * HOUR)
            machine.error = error
            async with diary(tmp_path / "h.db", machine, keep_days=365.0) as book:
                before = await book.events(since=0)
                recall(machine, book)
                began, right = machine.now, []
                encoder = Encoder(lambda: machine.now - machine.monotonic(), lambda _: None)
                for number in range(3, 10):
                    machine.work(5)
                    right.append(encoder.time(machine.monotonic()))
                    await book.write(discovered(device(number, machine.monotonic()), machine.monotonic()))
                machine.work(5)
                right.append(encoder.time(machine.monotonic()))
                await book.write(turned(book.devices[mac(1)], Status.ONLINE, machine.monotonic()))
                numbers = [number for number, _ in (await book.page(since=0)).events]
                machine.error = 0.0
                machine.work(1)
                last = await book.write(up(machine))
                await restamped(book)
                page = await book.page(since=0)
                events = await book.events(since=0)
                assert [number for number, _ in page.events][:-1] == numbers
                assert events[: len(before)] == before
                assert when(events[len(before) : -1]) == right
                for event in events[len(before) : -2]:
                    assert event.device is not None
                    assert {event.at, event.device.first_seen, event.device.status_since} == {event.at}
                    assert event.seen_at is not None
                    assert event.seen_at[:19] == event.at[:19]
                back = events[-2]
                assert back.device is not None
                assert back.previous is not None
                assert back.device.first_seen == stored[mac(1)][0]
                assert back.previous["status_since"] == stored[mac(1)][2]
                assert len(await book.events(after=began)) == 9
                assert (await book.page(since=numbers[-1])).through == book.history.sequence_of(last)
                await book.history._device_rows.show()
                await book.history.settled()
                database = connect(book.killed(tmp_path / "killed"))
                rows = {each.mac: each for each in remember(database, lambda _: None).devices}
                database.close()
                assert began < rows[mac(5)].first_seen < machine.now

    asyncio.run(play())


@pytest.mark.parametrize("error", CLOCKS)
def test_a_restart_before_ntp_answers_is_the_same_boot(tmp_path: Path, error: float) -> None:
    """Upgraded, or killed: events and devices of the runs before, in this boot, get the right time too."""

    async def play() -> None:
        machine = Machine()
        with machine.clocks():
            stored = await first_run(machine, tmp_path / "h.db")
            path = tmp_path / "h.db"
            machine.reboot(5 * HOUR)
            machine.error = error
            encoder, right, count = Encoder(lambda: machine.now - machine.monotonic(), lambda _: None), [], 0
            for run in range(3):
                async with diary(path, machine, keep_days=365.0) as book:
                    count = count or len(await book.events(since=0))
                    recall(machine, book)
                    for number in (3 + 2 * run, 4 + 2 * run):
                        machine.work(5)
                        right.append(encoder.time(machine.monotonic()))
                        await book.write(discovered(device(number, machine.monotonic()), machine.monotonic()))
                    await book.history._device_rows.show()
                    await book.history.settled()
                    if run == 2:
                        machine.error = 0.0
                        await book.write(up(machine))
                        await restamped(book)
                        assert when((await book.events(since=0))[count:-1]) == right
                        assert {of: shown(machine, of, book) for of in stored} == stored
                        assert [shown(machine, mac(number), book)[0] for number in range(3, 9)] == right
                    path = book.killed(tmp_path / f"killed-{run}") if run == 0 else path
                machine.work(20)

    asyncio.run(play())


async def restamped(book: Diary) -> None:
    async with asyncio.timeout(30):
        await book.history.settled()
        while book.history._writer._slow_works:
            await asyncio.sleep(0.005)
    await book.history.settled()


@pytest.mark.parametrize("turns", range(6))
def test_cut_short_the_history_is_whole(tmp_path: Path, turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between two slices: each event has the old stamp or the new one, and its age stays exact (FAULTS F22)."""
    monkeypatch.setattr(restamp, "SLICE", 2)

    async def play() -> None:
        machine = Machine()
        machine.error = -5 * HOUR
        with machine.clocks():
            async with diary(tmp_path / "h.db", machine) as book:
                ages = []
                for number in range(7):
                    machine.work(10)
                    ages.append(machine.on)
                    await book.write(discovered(device(number, machine.monotonic()), machine.monotonic()))
                with book.history._writer._turn:
                    machine.error = 0.0
                    book.append(up(machine))
                    await asyncio.sleep(0)
                await restamped(book)
            # All have the right stamps now, and their clock is 5 h ahead of the history's own. Undo that in some turns.
            database = connect(tmp_path / "h.db")
            rows = database.execute("SELECT sequence, at FROM event ORDER BY sequence").fetchall()
            left: restamp.Restamp | None = restamp.Restamp(1, 8, 0, -int(5 * HOUR * 1000), 0)
            for _ in range(turns):
                left = left and left.turn(database)
            cut = database.execute("SELECT sequence, at FROM event ORDER BY sequence").fetchall()
            moved_ones = [number for (number, at), (_, was) in zip(cut, rows, strict=True) if at != was]
            assert moved_ones == list(range(8 - min(2 * turns, 7), 8))
            shifts = [Shift(*row) for row in database.execute("SELECT * FROM shift ORDER BY sequence")]
            database.close()
            now = int(machine.now * 1000) + 10**9
            known = Ages(shifts, now)
            first = known.lived(*cut[0])
            found = [(known.lived(*row) - first) / 1000 for row in cut[:7]]
            assert found == pytest.approx([age - ages[0] for age in ages], abs=1.1)

    asyncio.run(play())


@pytest.mark.parametrize(
    ("error", "after", "jump", "becomes"),
    [
        (0.0, 30 * DAY, 8 * HOUR, 0.0),  # a virtual machine was paused for 8 hours
        (0.0, 120.0, 5.0, 0.0),  # NTP sets it a little
        (0.0, 30 * DAY, -300.0, 0.0),
        (-5.7 * HOUR, 3 * DAY, 5.7 * HOUR, 5.7 * HOUR),  # the internet came back after three days
        (-2 * HOUR, 120.0, 2 * HOUR, 2 * HOUR),
        (-53 * 365 * DAY, 3 * DAY, 53 * 365 * DAY, 53 * 365 * DAY),
    ],
)
def test_only_a_clock_that_was_wrong_moves_events(
    tmp_path: Path, error: float, after: float, jump: float, becomes: float
) -> None:
    """The clock of a machine that ran well may be set, too: then what was published was right."""

    async def play() -> None:
        machine = Machine()
        with machine.clocks():
            async with diary(tmp_path / "h.db", machine) as book:
                await book.write(up(machine))
                machine.work(600)
            machine.reboot(HOUR)
            machine.error = error
            async with diary(tmp_path / "h.db", machine) as book:
                machine.work(10)
                await book.write(up(machine))
                (was,) = (await book.events(since=0))[1:]
                machine.work(after)
                machine.error += jump
                await book.write(up(machine))
                await restamped(book)
                now = (await book.events(since=0))[1]
                assert seconds_of(now) - seconds_of(was) == pytest.approx(becomes, abs=0.002)

    asyncio.run(play())


def seconds_of(event: protocol.Event) -> float:
    from datetime import datetime

    return datetime.fromisoformat(event.at).timestamp()


def test_only_stamps_of_the_run_are_moved() -> None:
    """Not text that looks like one, which a device may choose."""
    body = (
        b'{"kind":"online","at":"2026-01-01T10:00:30.000Z","device":{"hostname":"\\"at\\":\\"2026-01-01T10:00:30.000Z",'
        b'"first_seen":"2025-11-01T00:00:00.123Z","last_seen":"2026-01-01T10:00:30.000Z"},'
        b'"previous":{"status_since":"2026-01-01T18:00:00.000Z"},"seen_at":"2026-01-01T10:00:30.000123Z"}'
    )
    began = 1_767_261_600_000  # 2026-01-01T10:00:00Z
    assert moved(body, began, began + 40_000, 3_600_500) == (
        body.replace(b'"at":"2026-01-01T10:00:30.000Z","device"', b'"at":"2026-01-01T11:00:30.500Z","device"')
        .replace(b'"last_seen":"2026-01-01T10:00:30.000Z"', b'"last_seen":"2026-01-01T11:00:30.500Z"')
        .replace(b"10:00:30.000123Z", b"11:00:30.500123Z")
    )
