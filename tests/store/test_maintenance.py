"""A history that another process changed without SQLite noticing; and one that was emptied (FAULTS F28, F29)."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from netscand.core.model import Status
from netscand.core.restore import Unreadable
from netscand.store import maintenance
from netscand.store.database import connect
from netscand.store.schema import what_is_missing
from tests.store.diary import Diary, device, diary, turned
from tests.store.test_repair import EVENTS, _soon, devices_in, household, until  # noqa: F401 - a fixture
from tests.store.test_writer import set_aside, written

pytestmark = pytest.mark.slow


def done_to(path: Path, statement: str) -> None:
    with closing(connect(path)) as other:
        other.execute(statement)


def missing(path: Path) -> str:
    with closing(connect(path)) as database:
        return what_is_missing(database, indexes=True)


TABLES = ("event", "device", "seen", "shift", "state")

# ---- while running --------------------------------------------------------------------------------------------------


def test_a_dropped_index_is_recreated_without_loss(tmp_path: Path) -> None:
    async def play() -> None:
        async with household(tmp_path / "state") as book:
            done_to(book.history.path, "DROP INDEX event_rare")
            await until(book.history.problems)
            (notice,) = book.history.problems()
            assert "its index event_rare is missing" in notice
            assert "nothing is missing" in notice
            assert not missing(book.history.path)
            assert len((await book.page(limit=5000)).events) == EVENTS

    asyncio.run(play())


@pytest.mark.parametrize("statement", [*(f"DROP TABLE {name}" for name in TABLES), "DELETE FROM state"])
def test_a_dropped_table_costs_no_device(tmp_path: Path, statement: str) -> None:
    """The file is set aside, a new one is created, and every device is written into it."""

    async def play() -> None:
        async with household(tmp_path / "state") as book:
            done_to(book.history.path, statement)
            await until(lambda: "set aside" in str(book.history.problems()))
            assert any(f"its {name} is missing" in str(book.history.problems()) for name in ("state", *TABLES_NAMED))
            await until(lambda: devices_in(book.history.path) == 10)
            await book.write(turned(book.devices[device(4).mac], Status.OFFLINE, 2000.0))
            await book.history.settled()
            killed = book.killed(tmp_path / "killed")
        async with diary(killed) as book:
            assert [back.label for back in book.memory.devices if back.label] == ["TV"]

    asyncio.run(play())


TABLES_NAMED = tuple(f"table {name}" for name in TABLES)


def test_rows_that_another_process_deleted_are_noticed(tmp_path: Path) -> None:
    async def play() -> None:
        async with household(tmp_path / "state") as book:
            done_to(book.history.path, "DELETE FROM event")
            await until(book.history.problems)
            assert book.history.problems() == (maintenance.WRITTEN,)

    asyncio.run(play())


def test_own_writes_are_not_taken_for_another_process(tmp_path: Path) -> None:
    async def play() -> None:
        async with household(tmp_path / "state") as book:
            for number in range(300):
                await book.write(turned(book.devices[device(number % 10).mac], Status.OFFLINE, 2000.0 + number))
                if not number % 20:
                    await book.history._device_rows.show()
                    await asyncio.sleep(0.03)
            with await book.history.backup():
                await asyncio.sleep(0.2)
            assert not book.history.problems()

    asyncio.run(play())


# ---- queries ------------------------------------------------------------------------------------------------------


async def failing(book: Diary, monkeypatch: pytest.MonkeyPatch, why: Exception) -> None:
    """Let queries for events fail."""

    def events(*_: object, **how: object) -> object:
        raise why
        yield

    monkeypatch.setattr(book.history._reader, "events", events)
    with pytest.raises(Unreadable):
        await book.page(limit=5)


def test_an_answer_to_another_query_hides_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the same query is answered again: netscand asks it itself."""

    async def play() -> None:
        async with household(tmp_path / "state") as book:
            with monkeypatch.context() as patched:
                await failing(book, patched, OSError(5, "Input/output error"))
                await book.history.presence(device(1).mac, 7, None, 300.0)
                await asyncio.sleep(0.2)
                assert book.history.problems() == ("the history cannot be read: Input/output error",)
            await until(lambda: not book.history.problems())

    asyncio.run(play())


def test_damage_causes_one_check_in_ten_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no new file if the check finds nothing: writing the same again repairs no row."""
    checks: list[int] = []
    check = maintenance.Maintenance._check

    def counted(self: maintenance.Maintenance) -> str:
        checks.append(1)
        return check(self)

    monkeypatch.setattr(maintenance.Maintenance, "_check", counted)

    async def play() -> None:
        async with household(tmp_path / "state") as book:
            generation = book.history._writer.generation
            for _ in range(20):
                with monkeypatch.context() as patched:
                    wrong = sqlite3.DatabaseError("event 4 is damaged")
                    wrong.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                    await failing(book, patched, wrong)
                await asyncio.sleep(0.02)
            await until(lambda: checks)
            assert len(checks) == 1
            assert book.history._writer.generation == generation

    asyncio.run(play())


# ---- at the start ---------------------------------------------------------------------------------------------------


def test_a_start_makes_an_index_again(tmp_path: Path) -> None:
    path = written(tmp_path / "h.db", events=10)
    done_to(path, "DROP INDEX event_rare")

    async def play() -> None:
        async with diary(path) as book:
            assert len((await book.page()).events) == 11

    asyncio.run(play())
    assert not missing(path)
    assert not set_aside(tmp_path)


@pytest.mark.parametrize("name", TABLES)
def test_a_start_sets_a_file_without_a_table_aside(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "h.db", events=10)
    done_to(path, f"DROP TABLE {name}")

    async def play() -> None:
        async with diary(path) as book:
            assert set_aside(tmp_path)
            assert "set aside" in book.history.problems()[0]

    asyncio.run(play())


def emptied(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        with open(f"{path}{end}", "wb"):
            pass


@pytest.mark.parametrize("lose", [emptied, Path.unlink], ids=["emptied", "removed"])
def test_an_emptied_history_is_not_taken_for_a_new_one(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    """The lock file says that there was one."""
    path = written(tmp_path / "h.db", events=10)
    lose(path)

    async def play() -> None:
        async with diary(path) as book:
            assert not book.memory.devices
            (notice,) = book.history.problems()
            assert notice == "the history h.db was empty or missing, though it had been written; a new one was created"
        async with diary(path) as book:
            assert not book.history.problems()

    asyncio.run(play())


def test_a_new_history_is_no_problem(tmp_path: Path) -> None:
    async def play() -> None:
        for _ in range(2):
            async with diary(tmp_path / "h.db") as book:
                assert not book.history.problems()

    asyncio.run(play())


@pytest.mark.parametrize("whole", [True, False])
def test_a_copy_left_by_a_kill_replaces_an_empty_history(tmp_path: Path, whole: bool) -> None:
    """If it is undamaged; otherwise it is removed."""
    path = written(tmp_path / "h.db", events=10)
    shutil.copy(path, tmp_path / "h.db.copy-saved")
    emptied(path)
    if not whole:
        os.truncate(tmp_path / "h.db.copy-saved", 4096)

    async def play() -> None:
        async with diary(path) as book:
            (notice,) = book.history.problems()
            assert ("a copy that netscand had made replaces it" in notice) is whole
            assert [each.label for each in book.memory.devices] == ["TV"] * whole

    asyncio.run(play())
    assert not (tmp_path / "h.db.copy-saved").exists()


def test_no_copy_replaces_a_history_that_is_not_empty(tmp_path: Path) -> None:
    path = written(tmp_path / "h.db", events=10)
    (tmp_path / "other").mkdir()
    shutil.copy(written(tmp_path / "other" / "h.db", events=3), tmp_path / "h.db.copy-saved")

    async def play() -> None:
        async with diary(path) as book:
            assert not book.history.problems()
            assert len((await book.page()).events) == 11

    asyncio.run(play())
