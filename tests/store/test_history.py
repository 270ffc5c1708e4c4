"""The history on a disk that works: order, when events are published, kills, power loss, bounds."""

import asyncio
import os
import shutil
import sqlite3
import stat
import threading
import time
from contextlib import closing
from dataclasses import replace
from math import inf
from pathlib import Path
from random import Random

import pytest

from netscand import config
from netscand.core.inventory import Inventory
from netscand.core.model import Device, Event, EventKind, Ip, Status
from netscand.core.presence import Rules
from netscand.core.restore import CursorGone, EventQuery, recalled
from netscand.serve.encode import remembered
from netscand.store import database as database_module
from netscand.store import devices, maintenance, opening, retention, writer
from netscand.store import history as room
from netscand.store.database import connect
from netscand.store.lock import Lock
from netscand.store.writer import Events, Report
from tests.store.diary import BOOT, LAN, Diary, FakeClock, device, diary, discovered, sequences, turned

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


def test_no_event_is_published_before_it_is_stored(tmp_path: Path) -> None:
    """Law 2: while the commit waits, here for another process that locks the database, so does the event."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await book.write(NETWORK_UP)
            with closing(connect(book.history.path)) as other:
                other.execute("BEGIN IMMEDIATE")
                cursor = book.append(discovered(device(1)))
                await asyncio.sleep(0.3)
                assert cursor not in book.published
                other.rollback()
            await book.until_published(cursor)
            with closing(connect(book.killed(tmp_path / "k"))) as killed:
                assert killed.execute("SELECT max(sequence) FROM event").fetchone() == (number(cursor),)

    asyncio.run(play())


def at_rest(book: Diary) -> None:
    """Wait until the writer's thread has finished its turn: until then the loop waits for nothing."""
    with book.history._writer._turn:
        pass


def waited_for(book: Diary, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return, for each batch from now on, whether it was stored while the loop waited for it."""
    put_and_wait, found = book.history._writer.put_and_wait, []

    def note(events: Events) -> Report | None:
        report = put_and_wait(events)
        found.append(report is not None)
        return report

    monkeypatch.setattr(book.history._writer, "put_and_wait", note)
    return found


def test_the_loop_waits_for_a_few_events_on_a_quick_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are published in the same turn; it does not wait for many, or for a disk that syncs or was slow recently."""
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


def test_a_thread_that_runs_late_is_no_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine was busy: the loop waits for the next events again."""
    take = writer.Writer._take

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await book.write(NETWORK_UP)
            at_rest(book)
            found = waited_for(book, monkeypatch)

            def take_late(self: writer.Writer, work: writer.Work | None) -> list[writer.Work]:
                if isinstance(work, Events):
                    while not found:
                        time.sleep(0.001)
                    monkeypatch.setattr(writer, "QUICK", 10.0)
                return take(self, work)

            monkeypatch.setattr(writer.Writer, "_take", take_late)
            await book.write(discovered(one := device(1)))
            assert not found[0]
            at_rest(book)
            await book.write(*back_and_forth(one, 2))
            assert found[1:] == [True]

    asyncio.run(play())


def test_a_frozen_disk_holds_the_loop_no_longer_than_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
            cursor = book.append(discovered(device(1)))
            begun = time.monotonic()
            book.history.flush()
            assert time.monotonic() - begun < 1.0
            assert frozen.wait(10)
            await book.until_published(cursor)
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


def test_a_late_report_undoes_nothing(tmp_path: Path) -> None:
    """The loop may know of more already; a client that resumes must not find a gap."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            first = await book.write(NETWORK_UP)
            last = await book.write(discovered(device(1)))
            book.history._on_report(Report(number(first), number(first), ""))
            page = await book.history.events(EventQuery(number(last), since=0), whole=True)
            assert sequences(page) == [1, 2]

    asyncio.run(play())


def test_a_hanging_disk_delays_events_only_shortly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are published, `status` has the problem, and it ends by itself."""
    monkeypatch.setattr(room, "LATE", 0.05)

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await book.write(NETWORK_UP)
            with closing(connect(book.history.path)) as other:
                other.execute("BEGIN IMMEDIATE")
                first = book.append(discovered(one := device(1)))
                await book.until_published(first)
                assert "before they are stored" in book.history.problems()[0]
                second = book.append(turned(one, Status.OFFLINE, 120.0))
                await book.until_published(second)
                with pytest.raises(CursorGone):
                    await book.history.events(EventQuery(number(second), since=number(first)), whole=True)
                other.rollback()
            await book.history.settled()
            await asyncio.sleep(0)
            assert not book.history.problems()
            assert sequences(await book.page()) == [1, 2, 3]

    asyncio.run(play())


def test_a_stream_without_a_pause_is_not_late(tmp_path: Path) -> None:
    """Something always waits, but never for long: each report of the writer restarts the time limit."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1)
            await book.write(discovered(one))
            ends, begun = len(book.published) + 20, set()
            async with asyncio.timeout(30):
                while len(book.published) < ends:
                    for event in back_and_forth(one, 2 * writer.FEW):
                        book.append(event)
                    await asyncio.sleep(0)
                    assert book.history._pending
                    assert book.history._timer
                    begun.add(book.history._timer.when())
            assert len(begun) > 10
            assert not book.history.problems()

    asyncio.run(play())


@pytest.mark.parametrize("seed", range(10))
def test_a_kill_loses_no_published_event(tmp_path: Path, seed: int) -> None:
    """FAULTS F4, without the process: five kills, each of what the one before left."""

    async def play() -> None:
        chance = Random(seed)
        published: list[str] = []
        path = tmp_path / "h.db"
        held = [device(i) for i in range(5)]
        events = [discovered(each) for each in held]
        for kill in range(5):
            async with diary(path) as book:
                assert [book.history.cursor_of(n) for n in sequences(await book.page())] == published
                for _ in range(chance.randint(1, 30)):
                    events = events or back_and_forth(chance.choice(held), chance.randint(1, 5), 300.0 * kill)
                    book.append(events.pop(0))
                    if chance.random() < 0.5:
                        await asyncio.sleep(chance.random() / 500)
                killed = book.killed(tmp_path / f"k{kill}")
                # What was published by then is in the copy; what was not may be too, and counts as published.
                published += book.all_published()
                with closing(connect(killed)) as left:
                    stored = [book.history.cursor_of(n) for (n,) in left.execute("SELECT sequence FROM event")]
                assert stored[: len(published)] == published
                published = stored
                path = killed
        assert len(set(published)) == len(published)
        assert [number(cursor) for cursor in published] == sorted(number(cursor) for cursor in published)

    asyncio.run(play())


def test_a_power_loss_reuses_no_number(tmp_path: Path) -> None:
    """FAULTS F5, FIELD R10: whatever of the log reached the disk is consistent; later cursors have expired."""

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


def test_a_power_loss_keeps_what_was_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS F5: the log is cut to what was synced last."""
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
    """However many events come at once: otherwise a power loss could give one out twice."""
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


def test_devices_are_restored_with_all_their_fields(tmp_path: Path) -> None:
    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1)
            one.hostname, one.hostname_source, one.confirmed = "tv", "dhcp", True
            one.label, one.known, one.notes, one.presence.chosen = "TV", True, "in the hall\nby the door", 99.0
            one.tags, one.not_same_as = ("iot", "tv"), (device(2).mac, device(3).mac)
            await book.write(discovered(one), turned(one, Status.OFFLINE, 150.0))
        async with diary(tmp_path / "h.db") as book:
            (back,) = book.memory.devices
            assert (back.mac, back.hostname, back.hostname_source, back.confirmed) == (one.mac, "tv", "dhcp", True)
            assert (back.label, back.known, back.notes, back.chosen) == ("TV", True, "in the hall\nby the door", 99.0)
            assert (back.tags, back.not_same_as) == (one.tags, one.not_same_as)
            assert back.status is Status.OFFLINE
            assert back.reason == one.reason
            assert [held.ip for held in back.addresses] == [one.ip]
            assert back.learned == one.presence.learned()
            assert not book.memory.unwritten  # the rows show every event

    asyncio.run(play())


@pytest.mark.parametrize("killed", [False, True], ids=["from its row", "from its event"])
def test_the_ip_of_a_device_is_restored(tmp_path: Path, killed: bool) -> None:
    """Not the address where it was seen last, as a sleep proxy or a node with a shared address has several."""

    async def play() -> None:
        path = tmp_path / "h.db"
        async with diary(path) as book:
            one = device(1)
            (main,) = one.addresses
            main.main_since = main.first_seen
            one.addresses.insert(0, replace(main, ip=Ip(b"\x0a\x00\x00\x63"), last_seen=160.0, main_since=-inf))
            await book.write(discovered(one))
            path = book.killed(tmp_path / "killed") if killed else path
        async with diary(path) as book:
            inventory = Inventory(Rules(), Random(1))
            inventory.restore(recalled(book.memory, Rules(), BOOT, 200.0), {"eth0": 2}, 200.0)
            assert inventory.devices[one.mac].ip == main.ip

    asyncio.run(play())


def test_the_last_events_are_stored_before_their_rows(tmp_path: Path) -> None:
    """A row must not show an event that was never published."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1)
            book.devices[one.mac] = one
            cursor = book.append(discovered(one))
        async with diary(tmp_path / "h.db") as book:
            assert book.history.cursor == cursor
            assert sequences(await book.page()) == [1]

    asyncio.run(play())


def test_devices_known_from_events_get_rows(tmp_path: Path) -> None:
    """They had no rows: a start that relied on the rows would forget the devices."""

    async def play() -> None:
        one = device(1)
        async with diary(tmp_path / "h.db") as book:
            await book.write(discovered(one))
            killed = book.killed(tmp_path / "k")
        async with diary(killed) as book:
            assert set(book.memory.unwritten) == {one.mac}
            book.devices[one.mac] = one
        async with diary(killed) as book:
            assert [back.mac for back in book.memory.devices] == [one.mac]
            assert not book.memory.unwritten

    asyncio.run(play())


def test_a_forgotten_device_stays_forgotten_after_kills(tmp_path: Path) -> None:
    """Its row may outlive the first kill; the next run deletes it, before it writes that the rows show everything."""

    async def play() -> None:
        one = device(1)
        async with diary(tmp_path / "h.db") as book:
            await book.write(discovered(one))
            await book.history._device_rows.show()
            await book.write(Event(EventKind.FORGOTTEN, 200.0, None, one, reason="forgotten by a user"))
            killed = book.killed(tmp_path / "k1")
        async with diary(killed) as book:
            assert not book.memory.devices
            await book.write(discovered(device(2)))
            await book.history._device_rows.show()
            await book.history.settled()
            killed = book.killed(tmp_path / "k2")
        async with diary(killed) as book:
            assert [back.mac for back in book.memory.devices] == [device(2).mac]

    asyncio.run(play())


def test_frequent_kills_do_not_slow_the_next_start(tmp_path: Path) -> None:
    """The next start writes rows for the events of the last run, before it ends."""

    def unshown(path: Path) -> int:
        with closing(connect(path)) as database:
            (count,) = database.execute("SELECT count(*) FROM event, state WHERE sequence > shown").fetchone()
            return int(count)

    async def play() -> None:
        one, path = device(1), tmp_path / "h.db"
        left = []
        for life in range(3):
            async with diary(path) as book, asyncio.TaskGroup() as tasks:
                left.append(unshown(path))
                book.devices[one.mac] = one
                running = tasks.create_task(book.history.run())
                await asyncio.sleep(0)
                await book.write(*(back_and_forth(one, 10) if life else [discovered(one)]))
                await book.history.settled()
                path = book.killed(tmp_path / f"k{life}")
                running.cancel()
        assert left == [0, 1, 10]

    asyncio.run(play())


def test_a_start_reads_as_much_of_a_long_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
                opened = opening.open_history(path, lock, 1, remembered)
                assert opened.database
                opened.database.close()
                lock.release()
            taken.append(len(steps))
        assert 0 < taken[1] < taken[0] + 10

    asyncio.run(play())


def test_a_stop_does_not_wait_for_thousands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their events are stored, and the next start reads them."""
    monkeypatch.setattr(devices, "AT_THE_END", 3)

    async def play() -> None:
        many = [device(i) for i in range(5)]
        async with diary(tmp_path / "h.db") as book:
            await book.write(*map(discovered, many))
        async with diary(tmp_path / "h.db") as book:
            assert set(book.memory.unwritten) == {each.mac for each in many}
            assert {back.mac for back in book.memory.devices} == {each.mac for each in many}

    asyncio.run(play())


def test_a_round_without_changes_writes_little(tmp_path: Path) -> None:
    """5,000 devices, all seen: some 25 bytes each, of one table, in its order."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            chance = Random(1)
            many = [device(chance.getrandbits(32)) for _ in range(5000)]
            await book.write(*map(discovered, many))
            await book.history._device_rows.show()
            await book.history._device_rows._round()
            await book.history.settled()
            log = tmp_path / "h.db-wal"
            with closing(connect(book.history.path)) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            for one in many:
                one.last_seen = 1e9
            await book.history._device_rows.show()
            assert log.stat().st_size < 3 * 4096  # maintenance may restart the log
            await book.history._device_rows._round()
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


def test_events_older_than_keep_days_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream can be resumed from the last event that was removed, and from none before."""
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


def test_a_clock_ten_years_ahead_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS F12: ten years later at a start, nothing is old yet: the clock may be wrong, and set in a minute."""
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
            await book.history._device_rows._round()
            assert sequences(await book.page()) == [1]
            assert not book.forgotten

    asyncio.run(play())


def test_long_gone_devices_are_forgotten_unless_annotated(tmp_path: Path) -> None:
    """Phones make up a new MAC every day: a café's would fill every table within the year."""

    async def play() -> None:
        now = time.monotonic()
        async with diary(tmp_path / "h.db", FakeClock(time.time() - now), keep_days=1.0) as book:
            long_gone, labelled, just_gone, there = (device(i, now - 200_000) for i in range(4))
            for one in (long_gone, labelled, just_gone):
                one.status = Status.OFFLINE
            labelled.label, just_gone.last_seen = "grandmother's", now - 1000
            await book.write(*map(discovered, (long_gone, labelled, just_gone, there)))
            await book.history._device_rows._round()
            assert book.forgotten == [long_gone.mac]

    asyncio.run(play())


@pytest.mark.slow
def test_the_file_stays_within_max_mib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS T11, for the disk: the oldest events are removed, however many come."""
    monkeypatch.setattr(writer, "TRIM_EVERY", 0.01)
    most = 2**20

    async def play() -> None:
        one = device(1)
        async with diary(tmp_path / "h.db", max_mib=1, keep_days=100_000) as book:
            await book.write(discovered(one))
            for i in range(12):
                await book.write(*back_and_forth(one, 1000, 200.0 + 1000 * i))
            async with asyncio.timeout(30):
                while book.history.path.stat().st_size > most or (await book.page(limit=1)).events[0][0] < 1000:
                    await asyncio.sleep(0.05)
                    await book.write(*back_and_forth(one, 2))
            assert len(sequences(await book.page(limit=100_000))) > 3_000

    asyncio.run(play())


@pytest.mark.slow
def test_a_lower_max_mib_frees_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_copy_of_a_killed_backup_is_removed(tmp_path: Path) -> None:
    """A copy of who is at home when, and as large as the history."""
    (tmp_path / "h.db.copy-1").write_bytes(b"half a copy")

    async def play() -> None:
        async with diary(tmp_path / "h.db"):
            assert not list(tmp_path.glob("*copy*"))

    asyncio.run(play())


def test_no_other_user_can_read_the_files(tmp_path: Path) -> None:
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


def test_a_backup_is_consistent_and_has_its_own_epoch(tmp_path: Path) -> None:
    """It may be restored in a week, when the original has given its numbers to other events."""

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
    """Return how often the log was restarted (sqlite.org/fileformat2.html, section 4.1)."""
    return int.from_bytes(log.read_bytes()[12:16])


@pytest.mark.slow
def test_maintenance_copies_and_restarts_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_queries_find_by_number_time_kind_and_device(tmp_path: Path) -> None:
    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one, two = device(1), device(2)
            await book.write(discovered(one), discovered(two, 101.0))
            await book.write(*back_and_forth(one, 4), *back_and_forth(two, 4, 300.0))
            assert sequences(await book.page(since=3, limit=2)) == [4, 5]
            assert sequences(await book.page(kinds=(EventKind.OFFLINE,))) == [4, 6, 8, 10]
            assert sequences(await book.page(macs=frozenset([two.mac]))) == [2, 7, 8, 9, 10]
            assert sequences(await book.page(after=1_700_000_301.5)) == [9, 10]
            assert sequences(await book.page(after=1_700_000_299.5, before=1_700_000_301.5)) == [7, 8]
            until = EventQuery(10, before=1_700_000_301.5, limit=2)
            assert sequences(await book.page(before=until.before, since=await book.history.begin_of_last(until))) == [
                7,
                8,
            ]
            assert (await book.page(limit=2)).through == 2
            assert (await book.page(macs=frozenset([one.mac]), limit=50)).through == 10
            query = EventQuery(10, macs=frozenset([one.mac]), limit=2)
            assert sequences(
                await book.page(macs=frozenset([one.mac]), since=await book.history.begin_of_last(query))
            ) == [5, 6]

    asyncio.run(play())


def test_foreign_cursors_have_expired_and_others_are_errors(tmp_path: Path) -> None:
    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            epoch = book.history.cursor.partition("-")[0]
            for foreign in ("abc-1", f"{epoch}x-1", f"{epoch}-{'9' * 30}"):
                with pytest.raises(CursorGone):
                    book.history.sequence_of(foreign)
            for wrong in ("", "-", epoch, f"{epoch}-", f"{epoch}-1.5", f"{epoch}-²", "2026-11-23T10:00:00Z"):
                with pytest.raises(ValueError, match="not a cursor"):
                    book.history.sequence_of(wrong)
            with pytest.raises(CursorGone):
                await book.page(since=5)
            assert sequences(await book.page(since=0)) == []

    asyncio.run(play())


def test_a_world_readable_file_gets_mode_0600(tmp_path: Path) -> None:
    """FAULTS T19: a file that was created by hand."""
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
