"""What takes a disk's time, away from the writer: syncing, checkpoints, the check of a whole file, copies of it.

SQLite syncs at a checkpoint, and when the next commit after a whole one begins the log anew (in WAL mode with
`synchronous = NORMAL`). Both happen here, on a connection of its own, at a moment when nobody writes; and the log is
synced every few seconds, so that a power loss takes no more than those.
"""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue

from netscand.store.schema import connect, is_broken, sync
from netscand.store.work import Broken
from netscand.store.writer import Writer

SYNC_EVERY = 5.0
"""Seconds of events that a power loss may take."""

CHECKPOINT_AFTER = 512
"""Transactions until the log is copied into the database: some 4 MiB."""

TIGHT, TIGHT_AFTER = 8 * 2**20, 16
"""Bytes: a disk with less room gets no log that could fill it, for then even a checkpoint finds no room; the log is
copied after so many transactions there."""

CHECKPOINT_EVERY = 900.0
"""Seconds until it is, however few they were."""

QUIET = 0.2
"""Seconds without a write: a moment for what would make the writer wait."""

CHECK_AFTER = 2.0
"""Seconds from the start until the whole file is checked."""

TURN, IDLE = 0.25, 2.0
"""Seconds between two looks: while there is something to do, and while there is not."""

log = logging.getLogger(__name__)


class Keeper(threading.Thread):
    """Keeps the writer's database; `stop` ends it."""

    def __init__(self, path: Path, writer: Writer) -> None:
        super().__init__(name="history keeper", daemon=True)
        self._path = path
        self._writer = writer
        self._jobs: SimpleQueue[Callable[[sqlite3.Connection], None] | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._generation = 0
        self._synced = self._copied = self._seen = 0
        self._begun_anew = True
        now = time.monotonic()
        self._synced_at = self._copied_at = self._changed_at = now
        self._check_at = now + CHECK_AFTER

    def stop(self) -> None:
        """End it, and wait."""
        self._jobs.put(None)
        self.join(5.0)

    def run(self) -> None:
        """Until stopped."""
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
                    self._writer.put(Broken(str(wrong)))
                else:
                    log.debug("keeping the history: %s", wrong)
            except OSError as wrong:
                log.debug("keeping the history: %s", wrong)
        if self._connection is not None:
            self._connection.close()

    def _turn(self, now: float) -> None:
        writer = self._writer
        if writer.generation == 0:
            return
        if writer.generation != self._generation:
            self._reopen(now)
        written, reserved = writer.written, writer.reserved
        if written != self._seen:
            self._seen, self._changed_at = written, now
        if reserved > writer.durable or (written != self._synced and now >= self._synced_at + SYNC_EVERY):
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
            writer.disk_is_busy = True
            self._copy(written, now)
        if not self._begun_anew and (now >= self._changed_at + QUIET or behind > 8 * CHECKPOINT_AFTER):
            writer.disk_is_busy = True
            self._begin_anew()
        writer.disk_is_busy = not self._begun_anew  # else the next commit would sync
        if now >= self._check_at and now >= self._changed_at + QUIET:
            self._check_at = inf
            self._check()

    @property
    def _busy(self) -> bool:
        """Whether something is to be done soon. A commit while we rest is seen within IDLE, and synced then."""
        return self._writer.written != self._synced or not self._begun_anew or self._check_at < inf

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
        self._check_at = now + CHECK_AFTER

    def _copy(self, written: int, now: float) -> None:
        """Copy the log into the database; the writer goes on meanwhile."""
        assert self._connection is not None
        busy, frames, copied = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._copied_at = now
        if not busy and frames == copied:
            self._copied = written
            self._begun_anew = False

    def _begin_anew(self) -> None:
        """Write the first page of a log that is wholly copied: SQLite syncs there, and the writer need not."""
        assert self._connection is not None
        busy, frames, copied = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if not busy and frames == copied:
            # A value that is no other than before would write nothing.
            self._connection.execute("UPDATE state SET alive_at = ?", (int(time.time() * 1000),))
            self._begun_anew = True

    def _check(self) -> None:
        assert self._connection is not None
        (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            self._writer.put(Broken(verdict.replace("\n", " ")))
