"""Queries while the disk does not answer: each is refused within its limit, and answered when the disk does again."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from netscand.core.restore import EventQuery, Hangs
from netscand.store import history as room
from netscand.store import reader, turns, writer
from tests.store.diary import Diary, device, diary, discovered

SOON = 0.2
"""Seconds in place of the limits."""


class Disk:
    """A disk that stops answering the callers of a function."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self._thaw = threading.Event()
        self.reached = 0

    def freeze(self, where: Any, name: str) -> None:  # noqa: ANN401
        answer: Callable[..., Any] = getattr(where, name)

        def wait(*given: Any, **named: Any) -> Any:  # noqa: ANN401
            self.reached += 1
            self._thaw.wait(60)
            return answer(*given, **named)

        self._patch.setattr(where, name, wait)

    def thaw(self) -> None:
        self._thaw.set()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    for where, name in ((turns, "HANGS"), (room, "ERASE"), (room, "STORED"), (room, "COPY")):
        monkeypatch.setattr(where, name, SOON)
    monkeypatch.setattr(room, "A_SECOND", 1e18)
    monkeypatch.setattr(reader, "LOOK", SOON / 4)
    found = Disk(monkeypatch)
    yield found
    found.thaw()


async def until(found: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not found():
            await asyncio.sleep(0.01)


def copying() -> int:
    return [thread.name for thread in threading.enumerate()].count("off loop")


async def refused(asked: Any, within: float = 10.0) -> str:  # noqa: ANN401
    async with asyncio.timeout(within):
        with pytest.raises(Hangs) as why:
            await asked
    return str(why.value)


async def started(book: Diary) -> None:
    await book.write(discovered(device(1)), discovered(device(2)))
    await book.history.settled()


def test_no_query_waits_for_a_reader_that_hangs(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS F33: later ones are refused at once; it is a problem for as long as it lasts."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await started(book)
            history = book.history
            disk.freeze(reader, "_piece")
            disk.freeze(reader, "_rows")
            assert "does not answer" in await refused(history.events(EventQuery(2, account="one")))
            monkeypatch.setattr(reader, "LOOK", 60.0)
            for asked in (
                history.events(EventQuery(2, account="two")), history.begin_of_last(EventQuery(2)),
                history.presence(device(1).mac, 1, None, 100.0),
            ):  # fmt: skip
                await refused(asked)
            assert disk.reached == 1
            assert history.problems() == (reader.HANGING,)
            disk.thaw()
            await until(lambda: not history.problems())
            assert len((await history.events(EventQuery(2))).events) == 2

    asyncio.run(play())


def test_no_erasure_waits_for_a_writer_that_hangs(tmp_path: Path, disk: Disk) -> None:
    """FAULTS F33: it is done when the disk answers, for each MAC of a merged device."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await started(book)
            disk.freeze(writer.Backlog, "write")
            book.append(discovered(device(3)))
            why = await refused(book.history.erase([device(1).mac, device(2).mac]))
            assert "not deleted yet" in why
            disk.thaw()

            async def left() -> int:
                return len((await book.page()).events)

            async with asyncio.timeout(30):
                while await left() > 1:
                    await asyncio.sleep(0.01)

    asyncio.run(play())


def test_no_backup_waits_for_a_writer_that_hangs(tmp_path: Path, disk: Disk) -> None:
    """FAULTS F33."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await started(book)
            disk.freeze(writer.Backlog, "write")
            book.append(discovered(device(3)))
            await refused(book.history.backup())
            disk.thaw()
            (await book.history.backup()).close()

    asyncio.run(play())


def test_no_backup_waits_for_a_copy_that_hangs(tmp_path: Path, disk: Disk) -> None:
    """FAULTS F33: copies that hang take no more than two threads, and leave nothing when the disk answers."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await started(book)
            disk.freeze(reader.Reader, "copy")
            for _ in range(5):
                await refused(book.history.backup())
            assert disk.reached == 2
            assert copying() == 2
            disk.thaw()
            await until(lambda: not copying() and not list(tmp_path.glob("*copy*")))
            (await book.history.backup()).close()

    asyncio.run(play())


def test_the_end_waits_for_no_disk_that_hangs(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS F33: nor for a query or a copy on it; what they have open is closed when the disk answers."""
    monkeypatch.setattr(room, "CLOSE", SOON)
    closed = threading.Event()
    close = reader.Reader.close

    def closing(self: reader.Reader) -> None:
        close(self)
        closed.set()

    monkeypatch.setattr(reader.Reader, "close", closing)

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await started(book)
            disk.freeze(reader, "_piece")
            disk.freeze(reader.Reader, "copy")
            with suppress(Hangs):
                await book.history.events(EventQuery(2))
            with suppress(Hangs):
                await book.history.backup()

    begun = time.monotonic()
    asyncio.run(play())
    assert time.monotonic() - begun < 30
    assert not closed.is_set()
    disk.thaw()
    assert closed.wait(30)
