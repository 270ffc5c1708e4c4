"""Versions of the database, and files of other programs."""

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from netscand.core.model import Event, EventKind, Status
from netscand.core.restore import CursorGone
from netscand.store import database as database_module
from netscand.store import schema
from netscand.store.database import APPLICATION, connect, insert, is_older, open_database
from netscand.store.paths import HistoryRefused
from netscand.store.rows import DEVICE_COLUMNS, device_row, mac_number
from netscand.store.schema import VERSION, what_is_missing
from tests.store.diary import LAN, FakeClock, device, diary, discovered, mac, sequences, turned


def written(path: Path) -> Path:
    async def play() -> None:
        async with diary(path) as book:
            await book.write(discovered(device(1)), Event(EventKind.NETWORK_UP, 1.0, LAN))

    asyncio.run(play())
    return path


def opened(path: Path) -> None:
    async def play() -> None:
        async with diary(path):
            pass

    asyncio.run(play())


def test_a_newer_schema_is_refused_and_left_unchanged(tmp_path: Path) -> None:
    """FAULTS F20: every byte stays as it is."""
    path = written(tmp_path / "h.db")
    with closing(connect(path)) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(HistoryRefused, match="newer netscand"):
        opened(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "h.db.lock"] == ["h.db"]


def test_a_newer_schema_with_a_log_is_left_unchanged(tmp_path: Path) -> None:
    """With its log beside it, which SQLite would copy into it on the way."""
    path = written(tmp_path / "h.db")
    with closing(connect(path)) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    (tmp_path / "k").mkdir()
    with closing(connect(path)) as database:
        database.execute("DELETE FROM event")
        for end in ("", "-wal"):
            shutil.copyfile(f"{path}{end}", tmp_path / "k" / f"h.db{end}")
    before = {end: (tmp_path / "k" / f"h.db{end}").read_bytes() for end in ("", "-wal")}
    with pytest.raises(HistoryRefused, match="newer netscand"):
        opened(tmp_path / "k" / "h.db")
    assert {end: (tmp_path / "k" / f"h.db{end}").read_bytes() for end in ("", "-wal")} == before


def add_a_column(database: sqlite3.Connection) -> None:
    database.execute("ALTER TABLE device ADD COLUMN owner TEXT")
    database.execute("UPDATE device SET owner = 'me'")


def test_an_older_schema_is_migrated_after_a_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS F20: the copy has the old version."""
    path = written(tmp_path / "h.db")
    monkeypatch.setattr(database_module, "VERSION", VERSION + 1)
    monkeypatch.setitem(schema.MIGRATIONS, VERSION, add_a_column)
    with closing(open_database(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)
        assert database.execute("SELECT owner FROM device").fetchone() == ("me",)
    copy = tmp_path / f"h.db.before-{VERSION + 1}"
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert database.execute("SELECT count(*) FROM event").fetchone() == (2,)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one transaction: half a migration would fit no version."""

    def fails(database: sqlite3.Connection) -> None:
        add_a_column(database)
        database.execute("SELECT no_such_column FROM device")

    path = written(tmp_path / "h.db")
    monkeypatch.setattr(database_module, "VERSION", VERSION + 1)
    monkeypatch.setitem(schema.MIGRATIONS, VERSION, fails)
    with pytest.raises(sqlite3.OperationalError):
        open_database(path)
    monkeypatch.undo()
    with closing(connect(path)) as database:
        assert "owner" not in [name for (_, name, *_) in database.execute("PRAGMA table_info(device)")]

    async def play() -> None:
        async with diary(path) as book:
            assert sequences(await book.page()) == [1, 2]

    asyncio.run(play())


def test_every_version_since_the_oldest_has_a_migration() -> None:
    assert set(schema.MIGRATIONS) == set(range(2, VERSION))


@pytest.mark.parametrize("application", [0, 1234])
def test_the_database_of_another_program_is_left_alone(tmp_path: Path, application: int) -> None:
    path = tmp_path / "h.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE theirs (x)")
        database.execute(f"PRAGMA application_id = {application}")
    before = path.read_bytes()
    with pytest.raises(HistoryRefused, match="another program"):
        opened(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("theirs", [b"127.0.0.1 localhost\n", b"x" * 5000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_never_was_a_history_is_left_alone(tmp_path: Path, theirs: bytes) -> None:
    """A mistyped path must not damage /etc/hosts: neither its name nor its content nor its mode."""
    path = tmp_path / "hosts"
    path.write_bytes(theirs)
    path.chmod(0o644)
    with pytest.raises(HistoryRefused, match="is left unchanged"):
        opened(path)
    assert (path.read_bytes(), path.stat().st_mode & 0o777, os.listdir(tmp_path)) == (theirs, 0o644, ["hosts"])


def test_files_of_netscand_have_its_application_id(tmp_path: Path) -> None:
    path = written(tmp_path / "h.db")
    with closing(connect(path)) as database:
        assert database.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


VERSION_2 = Path(__file__).with_name("version_2.sql").read_text()


def of_version_2(path: Path) -> Path:
    one = device(1)
    one.label = "TV"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(VERSION_2)
        columns = DEVICE_COLUMNS[:-5]  # before `kind`, `tags` and `not_same_as`
        insert(database, "device", columns, [device_row(one, 40, 0, FakeClock())[: len(columns)]])
        database.commit()
    return path


def test_version_2_keeps_its_devices_and_its_numbering(tmp_path: Path) -> None:
    """FAULTS F20: the events are in the copy; cursors before have expired, and no number is given out again."""
    path = of_version_2(tmp_path / "h.db")
    assert is_older(path)

    async def play() -> None:
        async with diary(path) as book:
            assert [back.label for back in book.memory.devices] == ["TV"]
            assert not book.history.problems()
            assert book.history.cursor == "k3f9-40"
            assert await book.write(turned(device(1), Status.OFFLINE, 200.0)) == "k3f9-101"
            assert sequences(await book.page(since=40)) == [101]
            with pytest.raises(CursorGone):
                await book.page(since=39)
        with closing(connect(path)) as other:
            indexes = {name for (name,) in other.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
            assert indexes == {"event_rare"}

    asyncio.run(play())
    assert not is_older(path)
    with closing(sqlite3.connect(tmp_path / f"h.db.before-{VERSION}")) as copy:
        assert copy.execute("SELECT sequence FROM event").fetchall() == [(40,)]


def test_version_3_gets_what_kinds_tags_people_and_merges_need(tmp_path: Path) -> None:
    """FAULTS F20: its devices and events are kept as they are."""
    path = written(tmp_path / "h.db")
    with closing(sqlite3.connect(path)) as database:
        before = database.execute("SELECT * FROM event").fetchall()
        for column in ("kind", "kind_reason", "evidence", "tags", "not_same_as"):
            database.execute(f"ALTER TABLE device DROP COLUMN {column}")
        for table in ("person", "merged"):
            database.execute(f"DROP TABLE {table}")
        database.execute("PRAGMA user_version = 3")
        database.commit()

    async def play() -> None:
        async with diary(path) as book:
            assert not book.history.problems()

    asyncio.run(play())
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT * FROM event").fetchall() == before
        assert what_is_missing(database) == ""


def test_version_5_keeps_its_merges(tmp_path: Path) -> None:
    """FAULTS F20: with the annotations of the merged device, which is all that it had."""
    path = written(tmp_path / "h.db")
    with closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE merged DROP COLUMN device")
        values = (mac_number(mac(9)), f'["{mac(1).hex()}",5000,{{"label":"dock"}},{{}},{{}}]')
        database.execute("INSERT INTO merged VALUES (?, ?)", values)
        database.execute("PRAGMA user_version = 5")
        database.commit()

    async def play() -> None:
        async with diary(path) as book:
            assert not book.history.problems()
            (merge,) = book.memory.merges
            assert (merge.device.mac, merge.into, merge.device.label) == (mac(9), mac(1), "dock")

    asyncio.run(play())
    with closing(sqlite3.connect(path)) as database:
        assert what_is_missing(database) == ""


def test_version_1_is_set_aside(tmp_path: Path) -> None:
    """FAULTS F20: a version that cannot be migrated is kept as it is, `status` names it, and a new history begins."""
    path = of_version_2(tmp_path / "h.db")
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 1")

    async def play() -> None:
        async with diary(path) as book:
            (problem,) = book.history.problems()
            assert "set aside as h.db.corrupt-" in problem
            await book.write(discovered(device(2)))

    asyncio.run(play())
    (aside,) = (each for each in tmp_path.glob("h.db.corrupt-*") if each.name.endswith("Z"))
    with closing(sqlite3.connect(aside)) as database:
        assert database.execute("SELECT label FROM device").fetchall() == [("TV",)]
