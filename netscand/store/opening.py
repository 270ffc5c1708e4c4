"""Opening at a start: a database, none yet, a damaged one, or a disk that refuses."""

import logging
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from netscand.core.restore import Memory
from netscand.store.database import (
    HistoryBroken,
    is_broken,
    new_epoch,
    open_database,
    refuse_foreign,
)
from netscand.store.lock import Lock
from netscand.store.paths import prepare, refuse_remote, set_aside
from netscand.store.reader import Decode, remember
from netscand.store.repair import is_empty, take_draft
from netscand.store.retention import Clock, clock_of
from netscand.store.writer import RESERVED, cannot_be_written

log = logging.getLogger(__name__)

NEVER_RAN = Clock(0, 0, 0)


@dataclass(slots=True)
class Opened:
    """The result: `database` is None if nothing can be written; then `trouble` says why, and the numbering is new."""

    memory: Memory
    database: sqlite3.Connection | None = None
    epoch: str = field(default_factory=new_epoch)
    last: int = 0
    """The last number that a client may have."""
    reserved: int = 0
    """No number up to this one may be given out again."""
    clock: Clock = NEVER_RAN
    trouble: str = ""
    notice: str = ""


def open_history(path: Path, lock: Lock, wall: int, decode: Decode) -> Opened:
    """Open the database to write; create, migrate, or set it aside and create a new one, if necessary.

    `wall`: the wall clock, in milliseconds; `decode`: see Decode. Raises HistoryRefused (a network file system, a
    file of another program, a newer schema), HistoryInUse.
    """
    refuse_remote(path)
    refuse_foreign(path)
    notice = ""
    try:
        lock.take()
        if lock.known and is_empty(path):
            taken = take_draft(path)
            left = "a copy that netscand had made replaces it" if taken else "a new one was created"
            notice = f"the history {path.name} was empty or missing, though it had been written; {left}"
            log.error("%s", notice)
        _sweep(path)
        try:
            opened = _open(path, wall, decode)
            opened.notice = notice
            return opened
        except HistoryBroken as wrong:
            why = str(wrong)
        except sqlite3.DatabaseError as wrong:
            if not is_broken(wrong):
                raise
            why = str(wrong)
        name = set_aside(path, why)
        notice = f"the history was damaged and set aside as {name}; a new one was created"
        opened = _open(path, wall, decode)
    except (sqlite3.Error, OSError) as wrong:
        trouble = cannot_be_written(wrong)
        log.error("%s", trouble)
        return Opened(_read_only(path, decode), clock=Clock(wall, 0, 0), trouble=trouble, notice=notice)
    opened.notice = notice
    return opened


def _open(path: Path, wall: int, decode: Decode) -> Opened:
    prepare(path)
    database = open_database(path)
    try:
        memory = remember(database, decode)
        epoch, reserved, last = database.execute(
            "SELECT epoch, reserved, max(floor, hole, (SELECT ifnull(max(sequence), 0) FROM event)) FROM state"
        ).fetchone()
        clock = clock_of(database, wall)
        reserved = max(reserved, last)
        # Synced, so that no number of this run is given out again after a power loss.
        database.execute("PRAGMA synchronous = FULL")
        database.execute("UPDATE state SET reserved = ?", (reserved + RESERVED,))
        database.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        database.close()
        raise
    return Opened(memory, database, epoch, last, reserved, clock)


def _read_only(path: Path, decode: Decode) -> Memory:
    """Return what a database contains that can only be read: names and labels are better than none."""
    # Without a log the file is complete by itself; with one, SQLite can read it only if it can write or has it open.
    how = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as database,
    ):
        return remember(database, decode)
    return Memory((), 0.0)


def _sweep(path: Path) -> None:
    """Remove copies that a backup left when the daemon was killed."""
    for left in path.parent.glob(f"{path.name}.copy-*"):
        left.unlink()
