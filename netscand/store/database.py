"""The database: its tables, its versions, and how it is opened.

Version 1
    event   a transition a row, by sequence number (store/rows.py)
    device  a device a row, as of some event; `seen` when it was heard last, apart, because that alone changes always
    word    texts that stand in many rows
    state   one row: what belongs to the database as a whole
Version 2
    shift   from which event on the wall clock was set otherwise (store/retention.py)
    event   two more indexes, for what a question about the past looks up (store/reader.py)
    state   the history's own clock, and what was removed by age and by size (store/retention.py)
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from itertools import chain
from pathlib import Path

from netscand.store.paths import HistoryRefused
from netscand.store.rows import DEVICE_COLUMNS, EVENT_COLUMNS, KINDS, RARE_KINDS, Row

VERSION = 2

PAGE = 4096

MAGIC = b"SQLite format 3\0"

APPLICATION = 0x6E736364
"""PRAGMA application_id: "nscd"; file(1) and we know the file by it."""

PATIENCE = 5.0
"""Seconds to wait for another connection of ours to finish."""

RARE = f"kind IN ({', '.join(str(KINDS[kind]) for kind in RARE_KINDS)})"
"""Which events have an index by kind, in the words of that index: SQLite takes it for a question that has them too."""

INDEXES = f"""
CREATE INDEX event_changed ON event (mac, kind) WHERE more IS NOT NULL;
CREATE INDEX event_rare ON event (kind) WHERE {RARE};
"""

SHIFT = "CREATE TABLE shift (sequence INTEGER PRIMARY KEY, lived INTEGER NOT NULL, ahead INTEGER NOT NULL)"

SIZES = (256, 64, 16, 4, 1)
"""Rows in one statement; five statements are prepared, whatever the number of rows."""

TABLES = f"""
CREATE TABLE event ({EVENT_COLUMNS[0]} INTEGER PRIMARY KEY, {", ".join(EVENT_COLUMNS[1:])});
{INDEXES}
CREATE TABLE device ({DEVICE_COLUMNS[0]} INTEGER PRIMARY KEY, {", ".join(DEVICE_COLUMNS[1:])});
CREATE TABLE seen (mac INTEGER PRIMARY KEY, at INTEGER NOT NULL, confirmed INTEGER NOT NULL);
CREATE TABLE word (number INTEGER PRIMARY KEY, text TEXT NOT NULL);
{SHIFT};
CREATE TABLE state (
    epoch TEXT NOT NULL,      -- names the numbering: cursors are EPOCH-SEQUENCE
    reserved INTEGER NOT NULL,-- numbers up to this one may have been given out
    floor INTEGER NOT NULL,   -- every event up to this one was removed or never stored
    shown INTEGER NOT NULL,   -- the rows of the devices show every event up to this one
    alive_at INTEGER NOT NULL,-- when the daemon was last known to run, unix milliseconds
    lived INTEGER NOT NULL DEFAULT 0,   -- the history's own clock, milliseconds; 0: it never ran
    boot_at INTEGER NOT NULL DEFAULT 0, -- how long the machine had been on then, milliseconds
    aged INTEGER NOT NULL DEFAULT 0,    -- every event up to this one is older than its days
    hole INTEGER NOT NULL DEFAULT 0,    -- the last event that was removed by size: who stands before it missed some
    sized_at INTEGER NOT NULL DEFAULT 0 -- when the last event was removed by size, by the history's clock
);
"""


def _to_2(database: sqlite3.Connection) -> None:
    for column in ("lived", "boot_at", "aged", "hole", "sized_at"):
        database.execute(f"ALTER TABLE state ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
    database.execute("DROP INDEX event_changed")
    for statement in (SHIFT, *INDEXES.strip().split(";\n")):
        database.execute(statement)


MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _to_2}
"""From this version to the next, statement by statement: `executescript` would commit in between."""

log = logging.getLogger(__name__)


class HistoryBroken(Exception):
    """A file that is no database of ours, or a damaged one."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection that any one thread may use at a time. Raises sqlite3.Error."""
    options = "?mode=ro" if read_only else "?mode=rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}{options}", uri=True, timeout=PATIENCE, isolation_level=None,
        check_same_thread=False,
    )  # fmt: skip
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def open_database(path: Path) -> sqlite3.Connection:
    """Open it to write, made or migrated where needed.

    Raises HistoryRefused (a newer schema, or another program's file), HistoryBroken, sqlite3.Error, OSError.
    """
    check_header(path)
    connection = connect(path)
    try:
        _settle(connection, path)
        for setting in ("synchronous = NORMAL", "wal_autocheckpoint = 0", f"journal_size_limit = {4 * 2**20}"):
            connection.execute(f"PRAGMA {setting}")
    except sqlite3.DatabaseError as wrong:
        connection.close()
        if is_broken(wrong):
            raise HistoryBroken(str(wrong)) from None
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def refuse_stranger(path: Path) -> None:
    """Refuse a file that is no history and never was in our hands, before anything is touched. Raises HistoryRefused.

    A lock beside it says that it was: then it is a history, or what became of one. With a log, what it is may stand
    there; SQLite will say.
    """
    if Path(f"{path}.lock").exists() or Path(f"{path}-wal").exists():
        return
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError:  # none yet; or who opens it meets that again, and says so
        return
    if header and not (header.startswith(MAGIC) and int.from_bytes(header[68:72]) == APPLICATION):
        kind = "the database of another program" if header.startswith(MAGIC) else "a file of another kind"
        raise HistoryRefused(f"[history] path: {path} is {kind}; it is left as it is: name another path")


def is_older(path: Path) -> bool:
    """Whether a history is to be migrated at its next opening, which takes as long as to copy it."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError:
        return False
    return header.startswith(MAGIC) and 0 < int.from_bytes(header[60:64]) < VERSION


def check_header(path: Path) -> None:
    """Judge by the header (sqlite.org/fileformat2.html, section 1.3), before SQLite itself touches a file."""
    with path.open("rb") as file:
        header = file.read(100)
    if not header:
        return
    whole = len(header) == 100 and header.startswith(MAGIC)
    if not whole or header[21:24] != bytes((64, 32, 32)) or header[18] not in (1, 2) or header[19] not in (1, 2):
        raise HistoryBroken("it is no database")
    _judge(path, int.from_bytes(header[68:72]), int.from_bytes(header[60:64]))


def _judge(path: Path, application: int, version: int) -> None:
    if application not in (0, APPLICATION):
        raise HistoryRefused(f"[history] path: {path} is the database of another program; name another path")
    if version > VERSION:
        raise HistoryRefused(
            f"[history] path: {path} was written by a newer netscand (schema {version}, this one knows {VERSION}); "
            "install that one again, or name another path: the data stays untouched"
        )


def is_broken(wrong: sqlite3.Error) -> bool:
    """Whether the file is damaged, as against a disk that is full, read-only or gone."""
    code = getattr(wrong, "sqlite_errorcode", None)
    if code is None:
        return False
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _settle(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    _judge(path, application, version)
    if tables and application == 0:
        raise HistoryRefused(f"[history] path: {path} is the database of another program; name another path")
    if not tables:
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        with transaction(connection):
            _create(connection)
        return
    connection.execute("PRAGMA journal_mode = WAL")
    if version < VERSION:
        _migrate(connection, path, version)
    if why := what_is_missing(connection):
        raise HistoryBroken(why)
    for name, statement in _indexes().items():
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)).fetchone():
            connection.execute(statement)
            log.warning("%s: its index %s was missing, and is made again", path, name)


def what_is_missing(database: sqlite3.Connection, *, indexes: bool = False) -> str:
    """Return which table, column or row of state is not there, or index, if these count; or nothing.

    Somebody else removed it: SQLite takes such a file for a good one. Raises sqlite3.Error.
    """
    for name, columns in _tables().items():
        found = {row[1] for row in database.execute(f"PRAGMA table_info({name})")}
        if not found:
            return f"its table {name} is missing"
        if missing := sorted(columns - found):
            return f"its column {name}.{missing[0]} is missing"
    if database.execute("SELECT count(*) FROM state").fetchone() != (1,):
        return "its state is missing"
    names = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
    if indexes and (lost := sorted(_indexes().keys() - names)):
        return f"its index {lost[0]} is missing"
    return ""


@cache
def _tables() -> Mapping[str, frozenset[str]]:
    """The columns of each table."""
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(TABLES)
        names = [name for (name,) in model.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: frozenset(row[1] for row in model.execute(f"PRAGMA table_info({name})")) for name in names}


@cache
def _indexes() -> Mapping[str, str]:
    """The statement that makes each index."""
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(TABLES)
        return dict(model.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index'"))


def _create(connection: sqlite3.Connection) -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    names = "epoch, reserved, floor, shown, alive_at"
    connection.execute(f"INSERT INTO state ({names}) VALUES (?, 0, 0, 0, 0)", (new_epoch(),))  # noqa: S608
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _migrate(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Bring an older schema up to date, with a copy of what was (FAULTS F20)."""
    copy = path.with_name(f"{path.name}.before-{VERSION}")
    back_up(connection, copy)
    log.warning("%s: migrating from schema %d to %d; what was is kept as %s", path, version, VERSION, copy.name)

    with transaction(connection):
        for step in range(version, VERSION):
            MIGRATIONS[step](connection)
        connection.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write all that the block does, or nothing. Raises sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.rollback()
        raise


def back_up(connection: sqlite3.Connection, target: Path, alive: Callable[[], object] | None = None) -> None:
    """Copy the whole database, consistent however much is written meanwhile (sqlite.org/backup.html), mode 0600.

    `alive` is called now and then, where nobody else writes: between two steps, a writer would make it begin anew.
    Raises sqlite3.Error, OSError; then there is no copy.
    """
    target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        copy = connect(target)
        try:
            if alive is None:
                connection.backup(copy)
            else:
                connection.backup(copy, pages=1_000, progress=lambda *_: alive())
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
        finally:
            copy.close()
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def insert(
    database: sqlite3.Connection, table: str, columns: Sequence[str], rows: Sequence[Row], *, replace: bool = False
) -> None:
    """Insert rows in few statements, each of many rows."""
    verb = "REPLACE" if replace else "INSERT"
    marks = "(" + ",".join("?" * len(columns)) + ")"
    start = 0
    for size in SIZES:
        while len(rows) - start >= size:
            text = f"{verb} INTO {table} ({','.join(columns)}) VALUES {','.join([marks] * size)}"
            database.execute(text, tuple(chain.from_iterable(rows[start : start + size])))
            start += size


def sync(path: Path) -> None:
    """Put what was committed on the disk. Raises OSError."""
    file = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)  # SQLite takes no POSIX locks on this one
    try:
        os.fdatasync(file)
    finally:
        os.close(file)


def new_epoch() -> str:
    """Six characters that no other database is likely to have."""
    return os.urandom(3).hex()
