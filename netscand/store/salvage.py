"""Saves what can be saved where the files of an open database were taken away, replaced or damaged (FAULTS F8).

Either the open connection has everything still, in files without a name; or what a start would find is taken: the
database, and of its log whatever is whole. A copy takes the old one's place only when it was checked.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from netscand.store.files import ENDS, Files
from netscand.store.place import aside_name
from netscand.store.schema import back_up, connect, what_is_missing

PIECE = 4 * 2**20
"""Bytes copied between two signs of life."""

STEPS = 1_000_000
"""Steps of SQLite between two signs of life."""


def copy_of_open(database: sqlite3.Connection, path: Path, alive: Callable[[], object]) -> Path | None:
    """Copy what an open connection has, to a file beside `path`; None where it has nothing whole. Raises OSError."""
    draft = _new_draft(path)
    try:
        back_up(database, draft, alive)
        return draft if _is_whole(draft, alive) else None
    except sqlite3.Error as wrong:
        if _is_about_room(wrong):
            raise
        return None


def copy_of_files(path: Path, alive: Callable[[], object]) -> Path | None:
    """Copy what a start would find, to a file beside `path`; None where that is nothing whole. Raises OSError."""
    draft = _new_draft(path)
    try:
        _copy(path, draft, alive)
        with suppress(FileNotFoundError):
            _copy(Path(f"{path}-wal"), Path(f"{draft}-wal"), alive)
        return draft if _is_whole(draft, alive) else None
    except FileNotFoundError:
        return None
    except sqlite3.Error as wrong:
        if _is_about_room(wrong):
            raise
        return None


def put_in_place(draft: Path, path: Path, files: Files) -> None:
    """Give a copy its place. What is there and is not ours gets another name; ours is in the copy. Raises OSError."""
    aside = aside_name(path, "replaced")
    for end in ENDS:
        if os.path.lexists(f"{path}{end}") and not files.is_ours(end):
            os.rename(f"{path}{end}", f"{aside}{end}")
    for end in ENDS[1:]:
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{end}")
    os.rename(draft, path)


def is_empty(path: Path) -> bool:
    """Return whether there is no database, or one with nothing in it, in its log neither. Raises OSError."""
    if not path.exists():
        return True
    if path.stat().st_size:
        return False
    with suppress(sqlite3.Error), closing(connect(path)) as database:
        return bool(database.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,))
    return True


def take_draft(path: Path) -> bool:
    """Give the copy that a kill left the place of an empty database, if it is whole; return whether. Raises OSError."""
    draft = _draft(path)
    with suppress(sqlite3.Error):
        if draft.exists() and _is_whole(draft, lambda: None):
            for end in ENDS[1:]:
                Path(f"{path}{end}").unlink(missing_ok=True)
            os.rename(draft, path)
            return True
    return False


def _draft(path: Path) -> Path:
    """Where a copy is made; the next start takes it or removes it, where a kill left it (store/found.py)."""
    return path.with_name(f"{path.name}.copy-saved")


def _new_draft(path: Path) -> Path:
    draft = _draft(path)
    for end in ENDS:
        with suppress(FileNotFoundError):
            os.unlink(f"{draft}{end}")
    return draft


def _is_whole(draft: Path, alive: Callable[[], object]) -> bool:
    """Check a copy, and leave it as one file; whether it is a database, with all of its tables."""
    with closing(connect(draft)) as database:
        database.set_progress_handler(lambda: bool(alive()) and False, STEPS)
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        whole = verdict == "ok" and not what_is_missing(database)
        database.execute("PRAGMA journal_mode = DELETE")
    return whole


def _copy(source: Path, target: Path, alive: Callable[[], object]) -> None:
    how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with source.open("rb", buffering=0) as reading, open(os.open(target, how, 0o600), "wb", buffering=0) as writing:
        while piece := reading.read(PIECE):
            writing.write(piece)
            alive()


def _is_about_room(wrong: sqlite3.Error) -> bool:
    """Return whether the copy found no room, which says nothing about the file that is copied."""
    return getattr(wrong, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN)
