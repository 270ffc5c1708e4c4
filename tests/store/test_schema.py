"""Versions of the database, and whose file it is."""

import asyncio
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from netscand.core.model import Event, EventKind, Status
from netscand.store import database as database_module
from netscand.store.database import APPLICATION, VERSION, connect, insert, is_older, open_database
from netscand.store.paths import HistoryRefused
from netscand.store.rows import DEVICE_COLUMNS, EVENT_COLUMNS, EventCodec, Words, device_row
from tests.store.diary import LAN, FakeClock, device, diary, discovered, sequences, turned
from tests.store.test_age import trimmed


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


def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """FAULTS F20: to the last byte."""
    path = written(tmp_path / "h.db")
    with closing(connect(path)) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(HistoryRefused, match="newer netscand"):
        opened(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "h.db.lock"] == ["h.db"]


def test_a_newer_schema_that_was_killed_is_left_as_it_is_too(tmp_path: Path) -> None:
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
    """FAULTS F20."""
    path = written(tmp_path / "h.db")
    monkeypatch.setattr(database_module, "VERSION", VERSION + 1)
    monkeypatch.setitem(database_module.MIGRATIONS, VERSION, add_a_column)
    with closing(open_database(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)
        assert database.execute("SELECT owner FROM device").fetchone() == ("me",)
    copy = tmp_path / f"h.db.before-{VERSION + 1}"
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert database.execute("SELECT count(*) FROM event").fetchone() == (2,)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction: half a migration would fit no version."""

    def fails(database: sqlite3.Connection) -> None:
        add_a_column(database)
        database.execute("SELECT no_such_column FROM device")

    path = written(tmp_path / "h.db")
    monkeypatch.setattr(database_module, "VERSION", VERSION + 1)
    monkeypatch.setitem(database_module.MIGRATIONS, VERSION, fails)
    with pytest.raises(sqlite3.OperationalError):
        open_database(path)
    monkeypatch.undo()
    with closing(connect(path)) as database:
        assert "owner" not in [name for (_, name, *_) in database.execute("PRAGMA table_info(device)")]

    async def play() -> None:
        async with diary(path) as book:
            assert sequences(await book.page()) == [1, 2]

    asyncio.run(play())


def test_every_older_version_has_a_way_up() -> None:
    assert set(database_module.MIGRATIONS) == set(range(1, VERSION))


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
    """A path mistyped must not cost anybody /etc/hosts: not its place, its content or its mode."""
    path = tmp_path / "hosts"
    path.write_bytes(theirs)
    path.chmod(0o644)
    with pytest.raises(HistoryRefused, match="is left as it is"):
        opened(path)
    assert (path.read_bytes(), path.stat().st_mode & 0o777, os.listdir(tmp_path)) == (theirs, 0o644, ["hosts"])


def test_our_files_are_known_by_their_id(tmp_path: Path) -> None:
    path = written(tmp_path / "h.db")
    with closing(connect(path)) as database:
        assert database.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


VERSION_1 = """
CREATE TABLE event (sequence INTEGER PRIMARY KEY, at, kind, mac, network, address, evidence, heard, reason, figures,
    was, was_since, was_reason, was_figures, more);
CREATE INDEX event_changed ON event (mac) WHERE more IS NOT NULL;
CREATE TABLE device (mac INTEGER PRIMARY KEY, sequence, first_seen, status, status_since, reason, known, hostname,
    hostname_source, label, notes, patience, learned, learned_at, addresses);
CREATE TABLE seen (mac INTEGER PRIMARY KEY, at INTEGER NOT NULL, confirmed INTEGER NOT NULL);
CREATE TABLE word (number INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE state (epoch TEXT NOT NULL, reserved INTEGER NOT NULL, floor INTEGER NOT NULL, shown INTEGER NOT NULL,
    alive_at INTEGER NOT NULL);
INSERT INTO state VALUES ('k3f9', 100, 0, 40, 1);
PRAGMA application_id = 1853055844;
PRAGMA user_version = 1;
"""


def test_version_1_keeps_all_that_it_had_and_learns_the_age_of_it(tmp_path: Path) -> None:
    """Nobody's cursor expires for it. Its oldest events are older than their days, and one has a stamp of 2016."""
    path, day = tmp_path / "h.db", 86_400_000
    now = time.monotonic()
    clock = FakeClock(time.time() - now)
    words, one = Words(), device(1, now)
    codec = EventCodec(words)
    rows = [list(codec.row(number, turned(one, Status.OFFLINE, now), clock)) for number in range(1, 41)]
    end = clock.milliseconds(now)
    for number, row in enumerate(rows, 1):
        row[1] = end - (40 - number) * day // 2
    rows[29][1] = 1_460_000_000_000
    with closing(sqlite3.connect(path)) as database:
        database.executescript(VERSION_1)
        insert(database, "event", EVENT_COLUMNS, [tuple(row) for row in rows])
        insert(database, "word", ("number", "text"), words.fresh)
        insert(database, "device", DEVICE_COLUMNS, [device_row(one, 40, 0, clock)])
        database.commit()

    assert is_older(path)

    async def play() -> None:
        async with diary(path, clock, keep_days=15) as book:
            assert book.history.sequence_of("k3f9-40") == 40
            assert len(book.memory.devices) == 1
            assert sequences(await book.page(since=0)) == list(range(1, 41))
            cursor = await book.write(turned(one, Status.ONLINE, now))
            assert cursor == "k3f9-101"
            trimmed(book)
            kept = sequences(await book.page())
            assert kept == [*range(kept[0], 41), 101]
            assert 5 <= kept[0] <= 12, "those of more than 15 days are gone; 2016 took nothing along"
            with closing(connect(path)) as other:
                indexes = {name for (name,) in other.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
                assert indexes == {"event_changed", "event_rare"}

    asyncio.run(play())
    assert (tmp_path / f"h.db.before-{VERSION}").exists()
    assert not is_older(path)
