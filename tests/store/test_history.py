"""The history on a disk that works: order, what is told when, kills, power loss, and bounds."""

import asyncio
import os
import shutil
import sqlite3
import stat
import threading
import time
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from netscand import config
from netscand.core.model import Device, Event, EventKind, Status
from netscand.core.restore import CursorGone, Question, rebuilt
from netscand.store import database as database_module
from netscand.store import devices, maintenance, opening, retention, writer
from netscand.store import history as room
from netscand.store.database import connect
from netscand.store.paths import Lock
from netscand.store.writer import Events, Report
from tests.store.diary import LAN, Diary, FakeClock, device, diary, discovered, sequences, turned

NETWORK_UP = Event(EventKind.NETWORK_UP, 1.0, LAN, reason="Ethernet, address 10.0.0.2")


def number(cursor: str) -> int:
    return int(cursor.rpartition("-")[2])


def back_and_forth(of: Device, times: int, at: float = 200.0) -> list[Event]:
    return [turned(of, (Status.ONLINE, Status.OFFLINE)[i % 2], at + i) for i in range(times)]


def test_events_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await book.write(NETWORK_UP, discovered(one := device(1)), turned(one, Status.OFFLINE, 150.0))
            cursor = book.history.cursor
        async with diary(tmp_path / "h.db") as book:
            assert book.history.cursor == cursor
            assert [event.kind for event in await book.events()] == ["network_up", "discovered", "offline"]
            assert number(await book.write(turned(one, Status.ONLINE, 160.0))) == number(cursor) + 1

    asyncio.run(play())


def test_nobody_is_told_what_is_not_stored(tmp_path: Path) -> None:
    """Law 2: while the commit waits, here for somebody who holds the database, so does the event."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await book.write(NETWORK_UP)
            with closing(connect(book.history.path)) as other:
                other.execute("BEGIN IMMEDIATE")
                cursor = book.history.append(discovered(device(1)))
                await asyncio.sleep(0.3)
                assert cursor not in book.told
                other.rollback()
            await book.until_told(cursor)
            with closing(connect(book.killed(tmp_path / "k"))) as killed:
                assert killed.execute("SELECT max(sequence) FROM event").fetchone() == (number(cursor),)

    asyncio.run(play())


def at_rest(book: Diary) -> None:
    """Return when the writer's thread is done with what it told us last: until then the loop waits for nothing."""
    with book.history._writer._turn:
        pass


def waited_for(book: Diary, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each batch from now on was stored while the loop waited for it."""
    at_once, found = book.history._writer.at_once, []

    def note(events: Events) -> Report | None:
        report = at_once(events)
        found.append(report is not None)
        return report

    monkeypatch.setattr(book.history._writer, "at_once", note)
    return found


def test_the_loop_waits_for_a_few_events_while_the_disk_is_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told in the same turn; but for a crowd, or a disk that syncs or was slow of late, it does not wait."""
    monkeypatch.setattr(writer, "QUICK", 10.0)
    monkeypatch.setattr(maintenance, "TURN", 3600.0)

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await book.write(NETWORK_UP)
            one = device(1)
            found = waited_for(book, monkeypatch)
            at_rest(book)
            cursor = await book.write(discovered(one))
            with closing(connect(book.killed(tmp_path / "k"))) as killed:
                assert killed.execute("SELECT max(sequence) FROM event").fetchone() == (number(cursor),)
            assert found.pop()
            await book.write(*back_and_forth(one, 100))
            assert not found.pop()
            at_rest(book)
            book.history._writer.disk_is_busy = True
            await book.write(*back_and_forth(one, 2))
            assert not found.pop()
            at_rest(book)
            book.history._writer.disk_is_busy = False
            monkeypatch.setattr(writer, "QUICK", 0.0)
            await book.write(*back_and_forth(one, 2))
            assert not found.pop(), "the thread cannot be that quick"
            at_rest(book)
            monkeypatch.setattr(writer, "QUICK", 10.0)
            await book.write(*back_and_forth(one, 2))
            assert not found.pop(), "for a minute"
            assert sequences(await book.page(limit=5000)) == list(range(1, 109))

    asyncio.run(play())


def test_a_disk_that_is_frozen_holds_the_loop_for_no_more_than_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS T64: nor does the writer's thread count as hung while it waits for the disk."""
    frozen, thaw = threading.Event(), threading.Event()
    write = writer.Backlog.write

    def wait(*given: object) -> None:
        frozen.set()
        thaw.wait(10)
        write(*given)  # type: ignore[arg-type]

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await book.write(NETWORK_UP)
            at_rest(book)
            monkeypatch.setattr(writer.Backlog, "write", wait)
            monkeypatch.setattr(room, "LATE", 0.05)
            cursor = book.history.append(discovered(device(1)))
            begun = time.monotonic()
            book.history._hand_over()
            assert time.monotonic() - begun < 1.0
            assert frozen.wait(10)
            await book.until_told(cursor)
            assert "before they are stored" in book.history.problems()[0]
            assert time.monotonic() - book.history.turned_at < 0.05 < time.monotonic() - begun
            thaw.set()
            await book.history.settled()
            assert book.history.problems() == ()
            assert sequences(await book.page()) == [1, 2]

    try:
        asyncio.run(play())
    finally:
        thaw.set()


def test_a_report_that_comes_late_takes_nothing_back(tmp_path: Path) -> None:
    """The loop may know of more already; a client that resumes must not be told of a gap."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            first = await book.write(NETWORK_UP)
            last = await book.write(discovered(device(1)))
            book.history._on_report(Report(number(first), number(first), ""))
            page = await book.history.events(Question(number(last), since=0), whole=True)
            assert sequences(page) == [1, 2]

    asyncio.run(play())


def test_a_disk_that_hangs_holds_no_event_back_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told, the problem is told too, and it ends by itself."""
    monkeypatch.setattr(room, "LATE", 0.05)

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await book.write(NETWORK_UP)
            with closing(connect(book.history.path)) as other:
                other.execute("BEGIN IMMEDIATE")
                first = book.history.append(discovered(one := device(1)))
                await book.until_told(first)
                assert "before they are stored" in book.history.problems()[0]
                second = book.history.append(turned(one, Status.OFFLINE, 120.0))
                await book.until_told(second)
                with pytest.raises(CursorGone):
                    await book.history.events(Question(number(second), since=number(first)), whole=True)
                other.rollback()
            await book.history.settled()
            await asyncio.sleep(0)
            assert not book.history.problems()
            assert sequences(await book.page()) == [1, 2, 3]

    asyncio.run(play())


def test_a_stream_that_never_rests_is_not_late(tmp_path: Path) -> None:
    """There is always something that waits, but never for long: with each word of the writer it has its time anew."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1)
            await book.write(discovered(one))
            ends, begun = len(book.told) + 20, set()
            async with asyncio.timeout(30):
                while len(book.told) < ends:
                    for event in back_and_forth(one, 2 * writer.FEW):
                        book.history.append(event)
                    await asyncio.sleep(0)
                    assert book.history._pending
                    assert book.history._timer
                    begun.add(book.history._timer.when())
            assert len(begun) > 10
            assert not book.history.problems()

    asyncio.run(play())


@pytest.mark.parametrize("seed", range(10))
def test_a_kill_loses_nothing_that_was_told(tmp_path: Path, seed: int) -> None:
    """FAULTS F4, without the process: five kills, each of what the one before left."""

    async def play() -> None:
        chance = Random(seed)
        told: list[str] = []
        path = tmp_path / "h.db"
        held = [device(i) for i in range(5)]
        events = [discovered(each) for each in held]
        for kill in range(5):
            async with diary(path) as book:
                assert [book.history.cursor_of(n) for n in sequences(await book.page())] == told
                for _ in range(chance.randint(1, 30)):
                    events = events or back_and_forth(chance.choice(held), chance.randint(1, 5), 300.0 * kill)
                    book.history.append(events.pop(0))
                    if chance.random() < 0.5:
                        await asyncio.sleep(chance.random() / 500)
                killed = book.killed(tmp_path / f"k{kill}")
                # What was told by then is in the copy; what was not may be, and counts as told from now on.
                told += book.told_each()
                with closing(connect(killed)) as left:
                    stored = [book.history.cursor_of(n) for (n,) in left.execute("SELECT sequence FROM event")]
                assert stored[: len(told)] == told
                told = stored
                path = killed
        assert len(set(told)) == len(told)
        assert [number(cursor) for cursor in told] == sorted(number(cursor) for cursor in told)

    asyncio.run(play())


def test_a_power_loss_takes_the_last_seconds_and_no_number_comes_twice(tmp_path: Path) -> None:
    """FAULTS F5: whatever of the log reached the disk, the rest is whole, and who was told more begins anew."""

    async def play() -> None:
        log = tmp_path / "h.db-wal"
        async with diary(tmp_path / "h.db") as book:
            synced = log.stat().st_size  # before anything happens
            await book.write(*(discovered(device(i)) for i in range(10)))
            await book.write(*(discovered(device(i)) for i in range(10, 20)))
            more = log.stat().st_size - synced
            lost = [book.killed(tmp_path / f"k{i}") for i in range(12)]
            epoch = book.history.cursor.partition("-")[0]
        for i, path in enumerate(lost):
            os.truncate(f"{path}-wal", synced + more * i // 12)
            async with diary(path) as book:
                assert book.history.problems() == ()
                kept = number(book.history.cursor)
                assert sequences(await book.page()) == list(range(1, kept + 1))
                if kept < 20:
                    with pytest.raises(CursorGone):
                        await book.page(since=20)
                cursor = await book.write(NETWORK_UP)
                assert cursor.startswith(epoch)
                assert number(cursor) > 20
                assert sequences(await book.page(since=kept)) == [number(cursor)]

    asyncio.run(play())


def test_what_is_some_seconds_old_survives_a_power_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS F5: of the log there is as much as was synced last."""
    monkeypatch.setattr(maintenance, "SYNC_EVERY", 0.05)
    monkeypatch.setattr(maintenance, "TURN", 0.02)
    synced: list[int] = []
    fdatasync = os.fdatasync

    def note(file: int) -> None:
        size = os.fstat(file).st_size
        fdatasync(file)
        synced.append(size)

    monkeypatch.setattr(os, "fdatasync", note)

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            for i in range(10):
                await book.write(discovered(device(i)))
            whole = (tmp_path / "h.db-wal").stat().st_size
            async with asyncio.timeout(30):
                while not synced or synced[-1] < whole:
                    await asyncio.sleep(0.01)
            lost = book.killed(tmp_path / "lost")
        os.truncate(f"{lost}-wal", synced[-1])
        async with diary(lost) as book:
            assert sequences(await book.page()) == list(range(1, 11))

    asyncio.run(play())


def test_numbers_are_reserved_before_they_are_given_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many events come at once: else a power loss could give one out twice."""
    monkeypatch.setattr(writer, "RESERVED", 64)
    monkeypatch.setattr(opening, "RESERVED", 64)

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1)
            await book.write(discovered(one))
            for _ in range(20):
                cursor = await book.write(*back_and_forth(one, 50))
                with closing(connect(book.history.path)) as other:
                    assert other.execute("SELECT reserved FROM state").fetchone()[0] >= number(cursor)
                assert book.history._writer.durable >= number(cursor)

    asyncio.run(play())


def test_devices_come_back_with_all_that_is_known_of_them(tmp_path: Path) -> None:
    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1)
            one.hostname, one.hostname_source, one.confirmed = "tv", "dhcp", True
            one.label, one.known, one.notes, one.presence.chosen = "TV", True, "in the hall\nby the door", 99.0
            await book.write(discovered(one), turned(one, Status.OFFLINE, 150.0))
        async with diary(tmp_path / "h.db") as book:
            (back,) = book.memory.devices
            assert (back.mac, back.hostname, back.hostname_source, back.confirmed) == (one.mac, "tv", "dhcp", True)
            assert (back.label, back.known, back.notes, back.chosen) == ("TV", True, "in the hall\nby the door", 99.0)
            assert back.status is Status.OFFLINE
            assert back.reason == one.reason
            assert [held.ip for held in back.addresses] == [one.ip]
            assert back.learned == one.presence.learned()
            assert not book.memory.events  # the rows show them all

    asyncio.run(play())


def test_what_happens_in_the_last_turn_is_stored_before_the_rows_that_show_it(tmp_path: Path) -> None:
    """A row that showed an event which is nowhere would be news that nobody was told."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1)
            book.devices[one.mac] = one
            cursor = book.history.append(discovered(one))
        async with diary(tmp_path / "h.db") as book:
            assert book.history.cursor == cursor
            assert sequences(await book.page()) == [1]

    asyncio.run(play())


def test_devices_that_only_events_tell_of_after_a_kill_are_written_down_at_the_next_stop(tmp_path: Path) -> None:
    """Their rows never were: a start that thinks they show the events would forget the devices."""

    async def play() -> None:
        one = device(1)
        async with diary(tmp_path / "h.db") as book:
            await book.write(discovered(one))
            killed = book.killed(tmp_path / "k")
        async with diary(killed) as book:
            assert not book.memory.devices
            assert len(book.memory.events) == 1
            book.devices[one.mac] = one
        async with diary(killed) as book:
            assert [back.mac for back in book.memory.devices] == [one.mac]

    asyncio.run(play())


def test_who_is_killed_every_few_seconds_does_not_read_ever_more_at_each_start(tmp_path: Path) -> None:
    """The events of one life are folded in by the next, and in rows before it ends."""

    async def play() -> None:
        one, path = device(1), tmp_path / "h.db"
        left = []
        for life in range(3):
            async with diary(path) as book, asyncio.TaskGroup() as tasks:
                left.append(len(book.memory.events))
                book.devices[one.mac] = one
                running = tasks.create_task(book.history.run())
                await asyncio.sleep(0)
                await book.write(*(back_and_forth(one, 10) if life else [discovered(one)]))
                await book.history.settled()
                path = book.killed(tmp_path / f"k{life}")
                running.cancel()
        assert left == [0, 1, 10]

    asyncio.run(play())


def test_a_start_reads_no_more_of_a_long_history_than_of_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in steps of SQLite: 90 days of events take no longer to open than a minute of them."""
    steps: list[int] = []

    def counted(path: Path) -> sqlite3.Connection:
        database = connect(path)
        database.set_progress_handler(lambda: steps.append(1), 10)
        return database

    async def play() -> None:
        taken = []
        for events in (10, 10_000):
            path = tmp_path / f"{events}.db"
            async with diary(path) as book:
                one = device(1)
                await book.write(discovered(one), *back_and_forth(one, events))
            with monkeypatch.context() as patch:
                patch.setattr(database_module, "connect", counted)
                steps.clear()
                lock = Lock(path)
                opened = opening.open_history(path, lock, 1)
                assert opened.database
                opened.database.close()
                lock.release()
            taken.append(len(steps))
        assert 0 < taken[1] < taken[0] + 10

    asyncio.run(play())


def test_a_stop_does_not_wait_for_thousands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their events are stored, and the next start folds them in."""
    monkeypatch.setattr(devices, "AT_THE_END", 3)

    async def play() -> None:
        many = [device(i) for i in range(5)]
        async with diary(tmp_path / "h.db") as book:
            await book.write(*map(discovered, many))
        async with diary(tmp_path / "h.db") as book:
            assert not book.memory.devices
            assert set(rebuilt(book.memory)) == {each.mac for each in many}

    asyncio.run(play())


def test_a_round_in_which_nothing_changed_writes_next_to_nothing(tmp_path: Path) -> None:
    """5,000 devices, all heard: some 25 bytes each, of one table, in its order."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            chance = Random(1)
            many = [device(chance.getrandbits(32)) for _ in range(5000)]
            await book.write(*map(discovered, many))
            await book.history._rounds.show()
            await book.history._rounds._round()
            await book.history.settled()
            log = tmp_path / "h.db-wal"
            with closing(connect(book.history.path)) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            for one in many:
                one.last_seen = 1e9
            await book.history._rounds.show()
            assert log.stat().st_size < 3 * 4096  # the keeper may begin a log
            await book.history._rounds._round()
            await book.history.settled()
            assert log.stat().st_size < 5000 * 80
            with closing(connect(book.history.path)) as other:
                (heard,) = other.execute("SELECT count(*) FROM seen WHERE at > 1e12").fetchone()
            assert heard == 5000

    rounds_per_second, devices.A_SECOND = devices.A_SECOND, 1_000_000
    try:
        asyncio.run(play())
    finally:
        devices.A_SECOND = rounds_per_second


def test_what_is_older_than_its_days_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream can be resumed from the last event that went, and from none before."""
    monkeypatch.setattr(retention, "SLICE", 10)
    monkeypatch.setattr(writer, "TRIM_EVERY", 0.01)

    async def play() -> None:
        now = time.monotonic()
        async with diary(tmp_path / "h.db", FakeClock(time.time() - now), keep_days=1.0) as book:
            old = [Event(EventKind.NETWORK_UP, now - 90_000, LAN) for _ in range(25)]
            await book.write(*old, *(Event(EventKind.NETWORK_UP, now, LAN) for _ in range(5)))
            async with asyncio.timeout(30):
                while len(sequences(await book.page())) > 5:
                    await asyncio.sleep(0.02)
            assert sequences(await book.page(since=25)) == [26, 27, 28, 29, 30]
            with pytest.raises(CursorGone):
                await book.page(since=24)

    asyncio.run(play())


def test_a_clock_that_leaps_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS F12: ten years on at a start, nothing is old yet: the clock may be wrong, and mended in a minute."""
    monkeypatch.setattr(writer, "TRIM_EVERY", 0.01)

    async def play() -> None:
        boot = time.time() - time.monotonic()
        one = device(1, time.monotonic())
        async with diary(tmp_path / "h.db", FakeClock(boot)) as book:
            await book.write(discovered(one, one.first_seen))
        monkeypatch.setattr(time, "time", lambda: boot + time.monotonic() + 10 * 365 * 86_400)
        async with diary(tmp_path / "h.db", FakeClock(boot + 10 * 365 * 86_400)) as book:
            one.status, one.last_seen = Status.OFFLINE, time.monotonic() - 10 * 365 * 86_400
            book.devices[one.mac] = one
            await asyncio.sleep(0.2)
            await book.history._rounds._round()
            assert sequences(await book.page()) == [1]
            assert not book.forgotten

    asyncio.run(play())


def test_long_gone_devices_are_forgotten_unless_a_user_said_a_word_of_them(tmp_path: Path) -> None:
    """Phones make up a new MAC every day: a café's would fill every table within the year."""

    async def play() -> None:
        now = time.monotonic()
        async with diary(tmp_path / "h.db", FakeClock(time.time() - now), keep_days=1.0) as book:
            long_gone, labelled, just_gone, there = (device(i, now - 200_000) for i in range(4))
            for one in (long_gone, labelled, just_gone):
                one.status = Status.OFFLINE
            labelled.label, just_gone.last_seen = "grandmother's", now - 1000
            await book.write(*map(discovered, (long_gone, labelled, just_gone, there)))
            await book.history._rounds._round()
            assert book.forgotten == [long_gone.mac]

    asyncio.run(play())


@pytest.mark.slow
def test_the_file_stays_within_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS T11, the disk's part: the oldest events go, however many come."""
    monkeypatch.setattr(writer, "TRIM_EVERY", 0.01)
    most = 2**20

    async def play() -> None:
        one = device(1)
        async with diary(tmp_path / "h.db", max_mib=1, keep_days=100_000) as book:
            await book.write(discovered(one))
            for i in range(30):
                await book.write(*back_and_forth(one, 1000, 200.0 + 1000 * i))
            async with asyncio.timeout(30):
                while book.history.path.stat().st_size > most or (await book.page(limit=1)).events[0].sequence < 1000:
                    await asyncio.sleep(0.05)
                    await book.write(*back_and_forth(one, 2))
            assert len(sequences(await book.page(limit=100_000))) > 5_000

    asyncio.run(play())


@pytest.mark.slow
def test_a_size_that_a_user_lowers_is_given_back_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "TRIM_EVERY", 0.01)
    monkeypatch.setattr(maintenance, "CHECKPOINT_AFTER", 10)
    monkeypatch.setattr(maintenance, "TURN", 0.02)

    async def play() -> None:
        one = device(1)
        async with diary(tmp_path / "h.db", keep_days=100_000) as book:
            await book.write(discovered(one), *back_and_forth(one, 8_000))
            async with asyncio.timeout(30):
                while book.history.path.stat().st_size < 2**19:
                    await book.write(*back_and_forth(one, 2))
            book.history.keep(config.History(keep_days=100_000, max_mib=0.25))
            async with asyncio.timeout(30):
                while book.history.path.stat().st_size > 2**18:
                    await book.write(*back_and_forth(one, 2))
            assert len(sequences(await book.page(limit=100_000))) > 1_000

    asyncio.run(play())


def test_what_a_killed_backup_left_is_swept(tmp_path: Path) -> None:
    """A copy of who is at home when, and as large as the history."""
    (tmp_path / "h.db.copy-1").write_bytes(b"half a copy")

    async def play() -> None:
        async with diary(tmp_path / "h.db"):
            assert not list(tmp_path.glob("*copy*"))

    asyncio.run(play())


def test_the_state_is_for_our_eyes_only(tmp_path: Path) -> None:
    """FAULTS T19, with any umask: who is at home when."""

    async def play() -> None:
        async with diary(tmp_path / "state" / "h.db") as book:
            await book.write(NETWORK_UP)
            async with asyncio.timeout(30):
                (await book.history.backup()).close()
            assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
            names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
            assert {"h.db", "h.db-wal", "h.db-shm", "h.db.lock"} == set(names)
            assert set(names.values()) == {0o600}

    before = os.umask(0)
    try:
        asyncio.run(play())
    finally:
        os.umask(before)


def test_a_backup_is_whole_while_events_go_on_and_has_a_numbering_of_its_own(tmp_path: Path) -> None:
    """It may be put back in a week, when the original has given its numbers to others."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1)
            await book.write(discovered(one))
            async with asyncio.TaskGroup() as both:
                both.create_task(book.write(*back_and_forth(one, 500)))
                copying = both.create_task(book.history.backup())
            with copying.result() as file, (tmp_path / "copy.db").open("wb") as copy:
                shutil.copyfileobj(file, copy)
            last, epoch = number(book.history.cursor), book.history.cursor.partition("-")[0]
        async with diary(tmp_path / "copy.db") as book:
            opening = sequences(await book.page(limit=5000))
            assert opening == list(range(1, len(opening) + 1))
            assert len(opening) <= last
            assert book.history.cursor.partition("-")[0] != epoch
            assert [back.mac for back in book.memory.devices] == [one.mac]

    asyncio.run(play())


def log_number(log: Path) -> int:
    """How often it began anew (sqlite.org/fileformat2.html, section 4.1)."""
    return int.from_bytes(log.read_bytes()[12:16])


@pytest.mark.slow
def test_the_log_is_copied_and_begun_anew_by_the_keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer never syncs: not at a checkpoint, nor at the first commit after one."""
    monkeypatch.setattr(maintenance, "CHECKPOINT_AFTER", 50)
    monkeypatch.setattr(maintenance, "TURN", 0.01)
    monkeypatch.setattr(maintenance, "QUIET", 0.02)

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1)
            await book.write(discovered(one))
            for _ in range(20):
                for event in back_and_forth(one, 20):
                    await book.write(event)
                await asyncio.sleep(0.1)
            assert (tmp_path / "h.db-wal").stat().st_size < 400 * 4096
            assert (tmp_path / "h.db").stat().st_size > 400 * 40
            assert len(sequences(await book.page(limit=5000))) == 401
            begun = log_number(tmp_path / "h.db-wal")
            await book.write(*back_and_forth(one, 8))
            book.history._writer.written += 50
            async with asyncio.timeout(30):
                while log_number(tmp_path / "h.db-wal") == begun:
                    await asyncio.sleep(0.02)

    asyncio.run(play())


def test_questions_find_by_number_time_kind_and_device(tmp_path: Path) -> None:
    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one, two = device(1), device(2)
            await book.write(discovered(one), discovered(two, 101.0))
            await book.write(*back_and_forth(one, 4), *back_and_forth(two, 4, 300.0))
            assert sequences(await book.page(since=3, limit=2)) == [4, 5]
            assert sequences(await book.page(kinds=(EventKind.OFFLINE,))) == [4, 6, 8, 10]
            assert sequences(await book.page(mac=two.mac)) == [2, 7, 8, 9, 10]
            assert sequences(await book.page(after=1_700_000_301.5)) == [9, 10]
            assert (await book.page(limit=2)).through == 2
            assert (await book.page(mac=one.mac, limit=50)).through == 10
            question = Question(10, mac=one.mac, limit=2)
            assert sequences(await book.page(mac=one.mac, since=await book.history.begin_of_last(question))) == [5, 6]

    asyncio.run(play())


def test_cursors_of_others_are_gone_and_what_is_none_is_told(tmp_path: Path) -> None:
    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            epoch = book.history.cursor.partition("-")[0]
            for foreign in ("abc-1", f"{epoch}x-1", f"{epoch}-{'9' * 30}"):
                with pytest.raises(CursorGone):
                    book.history.sequence_of(foreign)
            for wrong in ("", "-", epoch, f"{epoch}-", f"{epoch}-1.5", f"{epoch}-²", "2026-11-23T10:00:00Z"):
                with pytest.raises(ValueError, match="no cursor"):
                    book.history.sequence_of(wrong)
            with pytest.raises(CursorGone):
                await book.page(since=5)
            assert sequences(await book.page(since=0)) == []

    asyncio.run(play())


def test_a_file_that_anyone_could_read_is_closed(tmp_path: Path) -> None:
    """FAULTS T19: one that was put there by hand."""
    path = tmp_path / "h.db"
    sqlite3.connect(path).close()
    path.touch()
    path.chmod(0o644)

    async def play() -> None:
        async with diary(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    asyncio.run(play())


def test_closing_twice_or_before_opening_does_no_harm(tmp_path: Path) -> None:
    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await book.history.close()

    asyncio.run(play())
