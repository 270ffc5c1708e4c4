"""The database: how it is opened, created, migrated, copied and synced; its tables are in schema.py."""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from netscand.store.paths import HistoryRefused
from netscand.store.rows import Row
from netscand.store.schema import MIGRATIONS, TABLES, VERSION, indexes_of_schema, what_is_missing

PAGE = 4096

MAGIC = b"SQLite format 3\0"

APPLICATION = 0x6E736364
"""PRAGMA application_id: "nscd"; file(1) and netscand recognise the file by it."""

PATIENCE = 5.0
"""Seconds to wait for another connection of netscand."""

AT_ONCE = 256
"""Maximum rows in one statement. Between two statements, a thread waits for the interpreter while the loop is busy."""

PREPARED = 16
"""Statements that a connection keeps: one of 64 rows takes some 50 kB."""

log = logging.getLogger(__name__)


class HistoryBroken(Exception):
    """A file that is not a database of netscand, or a damaged one."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Return a connection that any thread may use, one at a time. Raises sqlite3.Error."""
    options = "?mode=ro" if read_only else "?mode=rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}{options}", uri=True, timeout=PATIENCE, isolation_level=None,
        check_same_thread=False, cached_statements=PREPARED,
    )  # fmt: skip
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def open_database(path: Path) -> sqlite3.Connection:
    """Open a database to write; create or migrate it if necessary.

    Raises HistoryRefused (a newer schema, or another program's file), HistoryBroken, sqlite3.Error, OSError.
    """
    check_header(path)
    connection = connect(path)
    try:
        _prepare(connection, path)
        for setting in (
            "synchronous = NORMAL", "wal_autocheckpoint = 0", f"journal_size_limit = {4 * 2**20}",
            "secure_delete = FAST",  # no remains of old rows within pages, at no more writes (store/erase.py)
        ):  # fmt: skip
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


def refuse_foreign(path: Path) -> None:
    """Refuse a file that is no history and was never opened as one. Changes nothing. Raises HistoryRefused.

    A lock file beside it means that it was opened as one: it is a history, or a damaged one. If there is a log, the
    content may be in the log; SQLite decides then.
    """
    if Path(f"{path}.lock").exists() or Path(f"{path}-wal").exists():
        return
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError:  # there is none yet; any other error occurs again when it is opened
        return
    if header and not (header.startswith(MAGIC) and int.from_bytes(header[68:72]) == APPLICATION):
        kind = "the database of another program" if header.startswith(MAGIC) else "a file of another kind"
        raise HistoryRefused(f"[history] path: {path} is {kind} and is left unchanged; use another path")


def is_older(path: Path) -> bool:
    """Return whether the next opening migrates a history, which takes as long as copying it."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError:
        return False
    return header.startswith(MAGIC) and 0 < int.from_bytes(header[60:64]) < VERSION


def check_header(path: Path) -> None:
    """Check the header (sqlite.org/fileformat2.html, section 1.3) before SQLite opens the file."""
    with path.open("rb") as file:
        header = file.read(100)
    if not header:
        return
    whole = len(header) == 100 and header.startswith(MAGIC)
    if not whole or header[21:24] != bytes((64, 32, 32)) or header[18] not in (1, 2) or header[19] not in (1, 2):
        raise HistoryBroken("it is not a database")
    _check_identity(path, int.from_bytes(header[68:72]), int.from_bytes(header[60:64]))


def _check_identity(path: Path, application: int, version: int) -> None:
    if application not in (0, APPLICATION):
        raise HistoryRefused(f"[history] path: {path} is the database of another program; use another path")
    if version > VERSION:
        raise HistoryRefused(
            f"[history] path: {path} was written by a newer netscand (schema {version}; this one supports {VERSION}); "
            "install the newer one, or use another path; the data is left unchanged"
        )


def is_broken(wrong: sqlite3.Error) -> bool:
    """Return whether the file is damaged (not: the disk is full, read-only or missing)."""
    code = getattr(wrong, "sqlite_errorcode", None)
    if code is None:
        return False
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    _check_identity(path, application, version)
    if tables and application == 0:
        raise HistoryRefused(f"[history] path: {path} is the database of another program; use another path")
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
    for name, statement in indexes_of_schema().items():
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)).fetchone():
            connection.execute(statement)
            log.warning("%s: its index %s was missing and has been recreated", path, name)


def _create(connection: sqlite3.Connection) -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    names = "epoch, reserved, floor, shown, alive_at"
    connection.execute(f"INSERT INTO state ({names}) VALUES (?, 0, 0, 0, 0)", (new_epoch(),))  # noqa: S608
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _migrate(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Bring an older schema up to date, after a copy of the whole database (FAULTS F20)."""
    if version < min(MIGRATIONS):
        raise HistoryBroken(f"its schema {version} is older than any that this netscand can migrate")
    copy = path.with_name(f"{path.name}.before-{VERSION}")
    back_up(connection, copy)
    log.warning("%s: migrating from schema %d to %d; %s is a copy of the old one", path, version, VERSION, copy.name)
    with transaction(connection):
        for step in range(version, VERSION):
            MIGRATIONS[step](connection)
        connection.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit everything that the block writes, or nothing. Raises sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.rollback()
        raise


def back_up(connection: sqlite3.Connection, target: Path, alive: Callable[[], object] | None = None) -> None:
    """Make a consistent copy of the database while it is written to (sqlite.org/backup.html), with mode 0600.

    With `alive`, the copy is made in steps, and `alive` is called after each: only where no other connection writes, or
    the copy would begin again. Raises sqlite3.Error, OSError; then there is no copy.
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
    """Insert rows, AT_ONCE in a statement."""
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        database.execute(_insertion(table, columns, len(some), replace), tuple(chain.from_iterable(some)))


def _insertion(table: str, columns: Sequence[str], rows: int, replace: bool) -> str:
    marks = "(" + ",".join("?" * len(columns)) + ")"
    verb = "REPLACE" if replace else "INSERT"
    return f"{verb} INTO {table} ({','.join(columns)}) VALUES {','.join([marks] * rows)}"


def sync(path: Path) -> None:
    """Write everything that was committed to the disk. Raises OSError."""
    file = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)  # SQLite takes no POSIX locks on this one
    try:
        os.fdatasync(file)
    finally:
        os.close(file)


def new_epoch() -> str:
    """Return six characters that no other database is likely to have."""
    return os.urandom(3).hex()
