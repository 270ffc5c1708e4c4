"""What a start finds where the history should be: a database, none yet, a broken one, or a disk that refuses."""

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
    refuse_stranger,
    transaction,
)
from netscand.store.paths import Lock, prepare, refuse_remote, set_aside
from netscand.store.reader import remember
from netscand.store.repair import is_empty, take_draft
from netscand.store.retention import Clock, clock_of
from netscand.store.rows import MOST_WORDS
from netscand.store.writer import RESERVED

log = logging.getLogger(__name__)


NEVER_RAN = Clock(0, 0, 0)


@dataclass(slots=True)
class Opened:
    """`database` is None where nothing can be written: then `trouble` says why, and the numbering is a new one."""

    memory: Memory
    database: sqlite3.Connection | None = None
    epoch: str = field(default_factory=new_epoch)
    last: int = 0
    """The last number that a client may have been told."""
    reserved: int = 0
    """No number up to this one may be given out again."""
    words: list[tuple[int, str]] = field(default_factory=list)
    clock: Clock = NEVER_RAN
    trouble: str = ""
    notice: str = ""


def open_history(path: Path, lock: Lock, wall: int) -> Opened:
    """Open the database to write: made, migrated, or set aside and made anew, where needed.

    `wall`: what the wall clock shows, in milliseconds. Raises HistoryRefused (another file system, another's file, a
    newer schema), HistoryInUse.
    """
    refuse_remote(path)
    refuse_stranger(path)
    notice = ""
    try:
        lock.take()
        if lock.known and is_empty(path):
            taken = take_draft(path)
            left = "a copy that netscand had made took its place" if taken else "a new one began"
            notice = f"the history {path.name} was empty or gone, though it had been written: {left}"
            log.error("%s", notice)
        _sweep(path)
        try:
            opened = _open(path, wall)
            opened.notice = notice
            return opened
        except HistoryBroken as wrong:
            why = str(wrong)
        except sqlite3.DatabaseError as wrong:
            if not is_broken(wrong):
                raise
            why = str(wrong)
        name = set_aside(path, why)
        notice = f"the history was broken: it is set aside as {name}, and a new one began"
        opened = _open(path, wall)
    except (sqlite3.Error, OSError) as wrong:
        said = wrong.strerror if isinstance(wrong, OSError) else str(wrong)
        trouble = f"the history cannot be written ({said}): events are told, and lost at a restart"
        log.error("%s", trouble)
        return Opened(_read_only(path), clock=Clock(wall, 0, 0), trouble=trouble, notice=notice)
    opened.notice = notice
    return opened


def _open(path: Path, wall: int) -> Opened:
    prepare(path)
    database = open_database(path)
    try:
        memory = remember(database)
        epoch, reserved, last = database.execute(
            "SELECT epoch, reserved, max(floor, hole, (SELECT ifnull(max(sequence), 0) FROM event)) FROM state"
        ).fetchone()
        clock = clock_of(database, wall)
        words = used_words(database)
        reserved = max(reserved, last)
        # Synced, so that no number of this run comes again, whatever happens to the power.
        database.execute("PRAGMA synchronous = FULL")
        database.execute("UPDATE state SET reserved = ?", (reserved + RESERVED,))
        database.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        database.close()
        raise
    return Opened(memory, database, epoch, last, reserved, words, clock)


def used_words(database: sqlite3.Connection) -> list[tuple[int, str]]:
    """The words, and, where none is left to give out, only those that an event uses. Raises sqlite3.Error."""
    words = database.execute("SELECT number, text FROM word").fetchall()
    if len(words) < MOST_WORDS:
        return words
    events = database.execute("SELECT DISTINCT network, reason, was_reason FROM event")
    used = {number for row in events for number in row}
    unused = [(number,) for number, _ in words if number not in used]
    with transaction(database):
        database.executemany("DELETE FROM word WHERE number = ?", unused)
    log.info("%d of %d sentences were used by no event any more", len(unused), len(words))
    return [word for word in words if word[0] in used]


def _read_only(path: Path) -> Memory:
    """What a database says that can be read at least: names and labels are better than none."""
    # Without a log beside it the file is whole by itself; with one, SQLite needs to write to read it, or have it open.
    how = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as database,
    ):
        return remember(database)
    return Memory((), (), 0.0)


def _sweep(path: Path) -> None:
    """Remove copies that a backup left when the daemon was killed in the middle of one."""
    for left in path.parent.glob(f"{path.name}.copy-*"):
        left.unlink()
