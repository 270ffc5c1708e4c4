"""The history on a disk that refuses, and with a damaged file: reported, survived, repaired."""

import asyncio
import errno
import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from netscand.core.model import Device, Event, EventKind, Status
from netscand.core.restore import CursorGone, EventQuery, Unreadable
from netscand.store import maintenance, opening, writer
from netscand.store import writer as writer_module
from netscand.store.database import connect, sync
from netscand.store.writer import Devices
from tests.store.diary import LAN, Diary, device, diary, discovered, sequences, turned

pytestmark = pytest.mark.slow

NETWORK_UP = Event(EventKind.NETWORK_UP, 1.0, LAN, reason="Ethernet, address 10.0.0.2")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "AGAIN", 0.05)
    monkeypatch.setattr(maintenance, "TURN", 0.02)


@pytest.fixture
def small_disk(tmp_path: Path, root: None) -> Iterator[Path]:
    """A file system of 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def number(cursor: str) -> int:
    return int(cursor.rpartition("-")[2])


def flicker(of: Device, times: int, at: float = 200.0) -> list[Event]:
    return [turned(of, (Status.ONLINE, Status.OFFLINE)[i % 2], at + i) for i in range(times)]


def overwrite_page(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek(page * 4096)
        file.write(os.urandom(4096))


async def until_well(book: Diary) -> None:
    async with asyncio.timeout(30):
        while book.history._trouble or book.history._slow or book.history._stored < book.history._through:
            await asyncio.sleep(0.01)


def fill(place: Path) -> Path:
    """Use all the room that is left."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return ballast


# ---- F6: the disk is full -----------------------------------------------------------------------------------------


def test_a_full_disk_gets_the_events_when_it_has_room(small_disk: Path) -> None:
    """FAULTS F6: nothing is lost while the backlog holds it, and streams that resume miss nothing."""

    async def play() -> None:
        async with diary(small_disk / "h.db") as book:
            first = await book.write(discovered(one := device(1)))
            ballast = fill(small_disk)
            for event in flicker(one, 400):
                await book.write(event)
            assert any("cannot be written" in problem for problem in book.history.problems())
            with pytest.raises(CursorGone):  # not all of it can be read
                through = number(book.history.cursor)
                await book.history.events(EventQuery(through, since=number(first)), whole=True)
            ballast.unlink()
            await until_well(book)
            assert book.history.problems() == ()
            assert sequences(await book.page(limit=5000)) == list(range(1, 402))
            assert sequences(await book.page(since=number(first), limit=5000)) == list(range(2, 402))

    asyncio.run(play())


@pytest.mark.slow
def test_the_log_does_not_fill_a_small_disk(small_disk: Path) -> None:
    """It holds each page many times over; once it fills the disk, even a checkpoint finds no room."""

    async def play() -> None:
        async with diary(small_disk / "h.db") as book:
            await book.write(discovered(one := device(1)))
            for event in flicker(one, 1500):
                await book.write(event)
            assert book.history.problems() == ()
            assert sequences(await book.page(limit=5000)) == list(range(1, 1502))

    asyncio.run(play())


def test_no_client_resumes_over_dropped_events(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the backlog holds: a client with a cursor before the gap gets a fresh snapshot."""
    monkeypatch.setattr(writer_module, "BACKLOG", 50)

    async def play() -> None:
        async with diary(small_disk / "h.db") as book:
            first = await book.write(discovered(one := device(1)))
            ballast = fill(small_disk)
            for event in flicker(one, 600):
                await book.write(event)
            assert book.history.problems()
            ballast.unlink()
            await until_well(book)
            kept = sequences(await book.page(limit=5000))
            gap = next(after for before, after in pairwise(kept) if after != before + 1)
            assert kept[-1] == 601
            with pytest.raises(CursorGone):
                await book.page(since=number(first))
            assert sequences(await book.page(since=gap - 1, limit=5000)) == list(range(gap, 602))

    asyncio.run(play())


def test_devices_are_written_when_a_full_disk_has_room(small_disk: Path) -> None:
    """Otherwise a start would rely on rows that were never written."""

    async def play() -> None:
        async with diary(small_disk / "h.db") as book:
            many = [device(i) for i in range(50)]
            await book.write(*map(discovered, many))
            ballast = fill(small_disk)
            for event in flicker(many[0], 400):
                await book.write(event)
            await book.history._device_rows.show()
            await book.history.settled()
            ballast.unlink()
            await until_well(book)
            await asyncio.sleep(0.05)
            await book.history._device_rows.show()
            await book.history.settled()
            with closing(connect(book.history.path)) as other:
                assert other.execute("SELECT count(*) FROM device").fetchone() == (50,)
                assert other.execute("SELECT shown FROM state").fetchone()[0] >= 450

    asyncio.run(play())


def test_rows_count_as_written_only_if_none_was_lost(small_disk: Path) -> None:
    """The mark that the rows show everything may be queued while rows before it are dropped."""

    async def play() -> None:
        async with diary(small_disk / "h.db") as book:
            await book.write(discovered(one := device(1)))
            ballast = fill(small_disk)
            while not book.history._writer._losses:
                for event in flicker(one, 400):
                    await book.write(event)
                await book.history._device_rows.show()
            ballast.unlink()
            await until_well(book)
            book.history._writer.put(Devices(shown=999, losses=0))
            await book.history.settled()
            with closing(connect(book.history.path)) as other:
                assert other.execute("SELECT shown FROM state").fetchone() != (999,)

    asyncio.run(play())


def test_a_full_disk_reuses_no_number(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither after a kill, when only what was reserved is known, nor when there is room again."""
    for module in (writer, opening):
        monkeypatch.setattr(module, "RESERVED", 64)

    async def play() -> None:
        async with diary(small_disk / "h.db") as book:
            one = device(1)
            first = await book.write(discovered(one))
            ballast = fill(small_disk)
            published: list[str] = [await book.write(event) for event in flicker(one, 400)]
            assert [number(cursor) for cursor in published] == list(range(2, 402))
            killed = book.killed(tmp_path / "killed")
            ballast.unlink()
            await until_well(book)
            assert sequences(await book.page(limit=5000)) == list(range(1, 402))
            assert sequences(await book.page(since=book.history.sequence_of(published[-3]))) == [400, 401]
            with pytest.raises(CursorGone):
                book.history.sequence_of(first)
            published.append(await book.write(NETWORK_UP))
            epochs = [cursor.partition("-")[0] for cursor in published]
            assert len(set(epochs)) == 2
            well = book.killed(tmp_path / "well")
        for path in (killed, well):
            async with diary(path) as book:
                assert await book.write(NETWORK_UP) not in published
                for cursor in published:
                    here = cursor.partition("-")[0] == book.history.cursor.partition("-")[0]
                    assert not here or number(cursor) < number(book.history.cursor)
            assert book.history.cursor.partition("-")[0] == epochs[0 if path == killed else -1]

    asyncio.run(play())


def test_a_failing_sync_stores_no_event_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk would refuse the second one always."""
    for module in (writer, opening):
        monkeypatch.setattr(module, "RESERVED", 64)
    refusals = iter(range(2))

    def refuses(path: Path) -> None:
        if next(refusals, None) is not None:
            raise OSError(errno.EIO, "Input/output error")
        sync(path)

    monkeypatch.setattr(writer, "sync", refuses)
    monkeypatch.setattr(maintenance, "sync", refuses)

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1)
            await book.write(discovered(one), *flicker(one, 200))
            await until_well(book)
            await book.write(*flicker(one, 200))
            await until_well(book)
            assert book.history.problems() == ()
            assert sequences(await book.page(limit=5000)) == list(range(1, 402))

    asyncio.run(play())
    assert next(refusals, None) is None


# ---- F7: nothing can be written at the start ----------------------------------------------------------------------


def test_a_read_only_disk_is_no_reason_not_to_start(small_disk: Path) -> None:
    """FAULTS F7: with what can be read, under a new epoch; and all is well when it can be written again."""

    async def play() -> None:
        async with diary(small_disk / "h.db") as book:
            one = device(1)
            one.label = "TV"
            before = await book.write(discovered(one))
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        try:
            async with diary(small_disk / "h.db") as book:
                assert "cannot be written" in book.history.problems()[0]
                assert [back.label for back in book.memory.devices] == ["TV"]
                blind = await book.write(NETWORK_UP)
                assert blind.partition("-")[0] != before.partition("-")[0]
                with pytest.raises(CursorGone):
                    book.history.sequence_of(before)
                with pytest.raises(CursorGone):
                    await book.page(since=0)
                assert sequences(await book.page()) == []
                with pytest.raises(Unreadable):
                    await book.history.backup()
                subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
                await until_well(book)
                assert book.history.problems() == ()
                cursor = await book.write(discovered(device(2)))
                assert number(cursor) > number(before)
                assert sequences(await book.page()) == [1, number(cursor)]
                for gone in (before, blind):
                    with pytest.raises(CursorGone):
                        book.history.sequence_of(gone)
                with pytest.raises(CursorGone):  # an event of the numbering before
                    await book.page(since=0)
                assert sequences(await book.page(since=number(cursor) - 1)) == [number(cursor)]
            async with diary(small_disk / "h.db") as book:
                assert book.history.cursor == cursor
                assert {back.label for back in book.memory.devices} == {"TV", None}
        finally:
            subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)

    asyncio.run(play())


def test_a_missing_folder_is_created_when_possible(tmp_path: Path) -> None:
    """A state folder that is mounted late."""
    (tmp_path / "state").write_text("in the way")

    async def play() -> None:
        async with diary(tmp_path / "state" / "h.db") as book:
            assert book.history.problems()
            await book.write(NETWORK_UP)
            (tmp_path / "state").unlink()
            await until_well(book)
            cursor = await book.write(NETWORK_UP)
            assert sequences(await book.page()) == [number(cursor)]

    asyncio.run(play())


# ---- F8: the file is broken ---------------------------------------------------------------------------------------


def written(path: Path, events: int = 3000) -> Path:
    """Write a good history, and close it."""

    async def play() -> None:
        async with diary(path) as book:
            one = device(1)
            one.label = "TV"
            await book.write(discovered(one), *flicker(one, events))

    asyncio.run(play())
    return path


def set_aside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if ".corrupt-" in path.name)


@pytest.mark.parametrize("garbage", [b"garbage" * 1000, b"x", b"SQLite format 3\0" + b"\xff" * 5000])
def test_garbage_is_set_aside_and_never_deleted(
    tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """FAULTS F8: one error in the log, a problem that stays, and a new history that works."""
    path = tmp_path / "h.db"
    path.write_bytes(garbage)
    (tmp_path / "h.db.lock").touch()  # it was a history once

    async def play() -> None:
        async with diary(path) as book:
            (name,) = set_aside(tmp_path)
            assert (tmp_path / name).read_bytes() == garbage
            assert name in book.history.problems()[0]
            await book.write(NETWORK_UP)
            assert sequences(await book.page()) == [1]

    asyncio.run(play())
    loud = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(loud) == 1
    assert "set aside" in loud[0].getMessage()


def test_an_overwritten_page_is_found_while_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS F8: maintenance checks the whole file; devices are in memory, and written again."""
    monkeypatch.setattr(maintenance, "CHECK_AFTER", 0.0)
    monkeypatch.setattr(maintenance, "QUIET", 0.0)
    path = written(tmp_path / "h.db")
    overwrite_page(path, 20)

    async def play() -> None:
        async with diary(path) as book:
            one = device(1)
            one.label = "TV"
            before = book.history.cursor
            book.devices[one.mac] = one
            async with asyncio.timeout(30):
                while not book.history.problems():
                    await asyncio.sleep(0.02)
            await until_well(book)
            cursor = await book.write(NETWORK_UP)
            assert cursor.partition("-")[0] != before.partition("-")[0]
            with pytest.raises(CursorGone):
                book.history.sequence_of(before)
            assert sequences(await book.page()) == [number(cursor)]
            assert "set aside" in book.history.problems()[0]
            await book.history._device_rows.show()
        async with diary(path) as book:
            assert [back.label for back in book.memory.devices] == ["TV"]

    asyncio.run(play())
    assert len([name for name in set_aside(tmp_path) if name.endswith("Z")]) == 1


def test_a_damaged_device_table_is_found_at_the_start(tmp_path: Path) -> None:
    path = written(tmp_path / "h.db", events=1)
    with closing(connect(path)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'device'").fetchone()
    overwrite_page(path, page - 1)

    async def play() -> None:
        async with diary(path) as book:
            assert set_aside(tmp_path)
            assert not book.memory.devices
            await book.write(NETWORK_UP)

    asyncio.run(play())


def test_damage_found_by_a_query_sets_the_file_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "CHECK_AFTER", 1e9)
    path = written(tmp_path / "h.db")
    overwrite_page(path, 20)

    async def play() -> None:
        async with diary(path) as book:
            with pytest.raises(Unreadable):
                await book.page(limit=5000)
            async with asyncio.timeout(30):
                while not set_aside(tmp_path):
                    await asyncio.sleep(0.02)

    asyncio.run(play())


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE device SET addresses = '[[1,2'",
        "UPDATE device SET status = 77",
    ],
)
def test_a_start_sets_a_file_with_a_damaged_device_aside(tmp_path: Path, damage: str) -> None:
    """FAULTS F8: like a page that SQLite itself cannot read."""
    path = written(tmp_path / "h.db", events=3)
    with closing(connect(path)) as database:
        database.execute(damage)
        database.execute("UPDATE state SET shown = 0")

    async def play() -> None:
        async with diary(path) as book:
            assert set_aside(tmp_path)
            assert "set aside" in book.history.problems()[0]
            await book.write(NETWORK_UP)

    asyncio.run(play())


@pytest.mark.parametrize("damage", ["kind = 99", "was = 'x'", "mac = 1e300", "at = 'x'", "body = 'x'", "body = NULL"])
def test_a_start_leaves_a_damaged_event_out(tmp_path: Path, damage: str) -> None:
    """SQLite has no checksum: a damaged event costs no device and no other event."""
    path = written(tmp_path / "h.db", events=3)
    with closing(connect(path)) as database:
        database.execute(f"UPDATE event SET {damage} WHERE sequence = 2")
        database.execute("UPDATE state SET shown = 0")
        database.execute("UPDATE device SET sequence = 0")

    async def play() -> None:
        async with diary(path) as book:
            assert [back.label for back in book.memory.devices] == ["TV"]
            assert not set_aside(tmp_path)
            assert not book.history.problems()
            await book.write(NETWORK_UP)

    asyncio.run(play())
