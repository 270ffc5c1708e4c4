"""Slow disk work, apart from the writer: syncs, checkpoints, the check of the whole file, comparing the files.

SQLite syncs at a checkpoint, and when the first commit after a complete one restarts the log (in WAL mode with
`synchronous = NORMAL`). Both happen here, on a connection of its own, while nothing is written; and the log is synced
every few seconds, so that a power loss costs no more than those. The call that syncs it is `sync` in store/database.py;
the writer calls it too, where numbers that are about to be published are not reserved on the disk yet.
"""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue

from netscand.store.database import PATIENCE, connect, is_broken, sync
from netscand.store.lock import HistoryInUse
from netscand.store.schema import what_is_missing
from netscand.store.writer import Lost, Writer

SYNC_EVERY = 5.0
"""Seconds of events that a power loss may cost."""

CHECKPOINT_AFTER = 512
"""Transactions until the log is copied into the database: some 4 MiB."""

TIGHT, TIGHT_AFTER = 8 * 2**20, 16
"""Bytes, transactions: on a disk with less room, the log is copied this often. If the log filled the disk, not even a
checkpoint would find room."""

CHECKPOINT_EVERY = 900.0
"""Seconds until it is copied, however few transactions it has."""

QUIET = 0.2
"""Seconds without a write, before work that would make the writer wait."""

CHECK_AFTER = 2.0
"""Seconds from the start until the whole file is checked."""

CHECK_APART = 600.0
"""Seconds between two checks that queries cause: a new file does not repair what a check does not find."""

LOOK_EVERY = 2.0
"""Seconds between two comparisons of the files with those that were opened."""

WRITTEN = "another process wrote into the history: it is not damaged, but what was changed is unknown"

TURN, IDLE = 0.25, 2.0
"""Seconds between two turns: while there is something to do, and while there is not."""

log = logging.getLogger(__name__)


class Maintenance(threading.Thread):
    """The thread; `stop` ends it."""

    def __init__(self, path: Path, writer: Writer) -> None:
        super().__init__(name="history maintenance", daemon=True)
        self._path = path
        self._writer = writer
        self._jobs: SimpleQueue[Callable[[sqlite3.Connection], None] | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._generation = 0
        self._synced = self._copied = self._seen = self._erased = 0
        self._restarted = True
        self.trouble = ""
        """Why the history cannot be synced or opened again, as of the last turn."""
        self.notice = ""
        """What the user should know until the next start."""
        self._lost = 0
        """The generation whose files were lost or damaged: it is left alone."""
        now = time.monotonic()
        self._synced_at = self._copied_at = self._changed_at = now
        self._check_at, self._look_at = now + CHECK_AFTER, now
        self._suspected_at = -inf
        self._suspected = False
        self._version = self._version_of = 0
        """SQLite's count of other connections' commits, and the writer's transactions at that time."""

    def suspect(self) -> None:
        """Check the file soon, unless that was done recently: a query found damage."""
        now = time.monotonic()
        if now >= self._suspected_at + CHECK_APART:
            self._suspected_at = now
            self._suspected = True

    def stop(self) -> None:
        """End the thread; wait for it."""
        self._jobs.put(None)
        self.join(5.0)

    def run(self) -> None:
        """Run until stopped."""
        while True:
            try:
                job = self._jobs.get(timeout=TURN if self._busy else IDLE)
            except Empty:
                pass
            else:
                if job is None:
                    break
            try:
                self._turn(time.monotonic())
            except sqlite3.Error as wrong:
                if is_broken(wrong):
                    self._give_up(str(wrong))
                else:
                    log.debug("maintenance of the history: %s", wrong)
            except OSError as wrong:
                self._note(wrong.strerror or str(wrong))
            except HistoryInUse as wrong:  # the lock file was removed, and another process locked a new one
                self._note(str(wrong))
        if self._connection is not None:
            self._connection.close()

    def _turn(self, now: float) -> None:
        writer = self._writer
        if writer.generation == 0:
            return
        if writer.generation != self._generation:
            self._reopen(now)
        if self._lost == self._generation or (now >= self._look_at and not self._files_are_ours(now)):
            return
        written, reserved = writer.written, writer.reserved
        if written != self._seen:
            self._seen, self._changed_at = written, now
        if reserved > writer.durable or (written != self._synced and now >= self._synced_at + SYNC_EVERY):
            if not self._files_are_ours(now):
                return
            writer.disk_is_busy = True
            sync(self._path)
            writer.durable = max(writer.durable, reserved)
            self._synced, self._synced_at = written, now
        behind = written - self._copied
        if (
            behind >= CHECKPOINT_AFTER
            or (behind and now >= self._copied_at + CHECKPOINT_EVERY)
            or (behind >= TIGHT_AFTER and self._free() < TIGHT)
        ):
            if not self._files_are_ours(now):
                return
            writer.disk_is_busy = True
            self._copy(written, now)
        if not self._restarted and (now >= self._changed_at + QUIET or behind > 8 * CHECKPOINT_AFTER):
            writer.disk_is_busy = True
            self._restart()
        if writer.erased != self._erased:
            self._cut_log()
        writer.disk_is_busy = not self._restarted  # the next commit would sync
        if self._suspected or (now >= self._check_at and now >= self._changed_at + QUIET):
            self._check_at, self._suspected = inf, False
            if damage := self._check():
                self._give_up(damage)

    def _files_are_ours(self, now: float) -> bool:
        """Compare the files before anything is written into them; return whether all is well. Raises OSError."""
        self._look_at = now + LOOK_EVERY
        self._writer.lock.hold()
        files = self._writer.files
        assert files is not None
        gone = files.gone()
        damage = gone or files.log_damage(self._writer.resting) or files.was_cut()
        committed = not damage and self._was_committed()
        if not damage and (committed or files.was_written()):
            log.warning("%s was written by another process; checking it", self._path)
            damage = self._check()
            files.wrote()
            if committed and not damage:
                self.notice = WRITTEN
        if damage:
            self._give_up(damage, gone=bool(gone))
            return False
        self._note(files.trouble())
        return True

    def _was_committed(self) -> bool:
        """Return whether another process committed while the writer did not."""
        if self._connection is None:
            return False
        with self._writer.resting:
            written = self._writer.written
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        changed = version != self._version and written == self._version_of
        self._version, self._version_of = version, written
        return changed

    def _give_up(self, why: str, *, gone: bool = False) -> None:
        """Report this database to the writer, and leave it alone from now on."""
        self._lost = self._generation
        self._writer.put(Lost(why, self._generation, gone))

    def _note(self, trouble: str) -> None:
        problem = f"the history cannot be kept: {trouble}" if trouble else ""
        if problem and problem != self.trouble:
            log.error("%s", problem)
        self.trouble = problem

    @property
    def _busy(self) -> bool:
        """Return whether something is to be done soon. A commit during IDLE is noticed at its end, and synced then."""
        writer = self._writer
        due = writer.written != self._synced or writer.erased != self._erased
        return due or not self._restarted or self._check_at < inf or self._suspected

    def _free(self) -> int:
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize

    def _reopen(self, now: float) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._generation = self._writer.generation
        self._connection = connect(self._path)
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._version_of = -1
        self._check_at, self._look_at = now + CHECK_AFTER, now

    def _copy(self, written: int, now: float) -> None:
        """Copy the log into the database; the writer continues meanwhile."""
        busy, frames, copied = self._checkpoint()
        self._copied_at = now
        if not busy and frames == copied:
            self._copied = written
            self._restarted = False

    def _restart(self) -> None:
        """Restart a log that is completely copied, by a write: SQLite syncs then, and the writer need not."""
        assert self._connection is not None
        busy, frames, copied = self._checkpoint()
        if not busy and frames == copied:
            # Writing the value that is there already would write nothing.
            self._connection.execute("UPDATE state SET alive_at = ?", (int(time.time() * 1000),))
            self._restarted = True

    def _cut_log(self) -> None:
        """Copy the log and truncate it: it may contain erased events. If a reader needs it, try again next time."""
        erased, files = self._writer.erased, self._writer.files
        self._checkpoint()  # most of it is copied while the writer works
        assert self._connection is not None
        assert files is not None
        with self._writer.resting:
            written = self._writer.written
            self._connection.execute("PRAGMA busy_timeout = 50")
            (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._connection.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000:.0f}")
            files.wrote()
            if not busy:
                files.log_was_cut()
                self._erased, self._copied = erased, written

    def _checkpoint(self) -> tuple[int, int, int]:
        """Run a checkpoint; return whether it was blocked, the log's frames, and how many of them are copied."""
        assert self._connection is not None
        busy, frames, copied = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if self._writer.files is not None and self._writer.generation == self._generation:
            self._writer.files.wrote()
        return busy, frames, copied

    def _check(self) -> str:
        """Read the whole file, on a connection without cached pages; return what is wrong with it, or nothing."""
        try:
            with closing(connect(self._path)) as database:
                (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
                if verdict == "ok":
                    verdict = what_is_missing(database, indexes=True) or verdict
        except sqlite3.Error as wrong:
            if not is_broken(wrong):
                raise
            verdict = str(wrong)
        return "" if verdict == "ok" else verdict.replace("\n", " ")
