"""The one writer: a thread that puts batches of rows into the database, and reports what it stored.

A batch is whatever came since the last one, in one transaction; where it holds events alone that is one statement, for
between two statements this thread would have to wait for the interpreter while the loop is busy. A commit is a write to
the page cache: the keeper (store/keeper.py) syncs it to the disk, so that no event ever waits for a disk to turn.

To wake this thread and be woken by it takes longer (0.6 ms) than to write a few rows (0.1 ms): while nothing else is to
be done and the disk answers at once, the loop writes them itself, by `at_once`.

When the disk refuses, events are reported as told all the same, and wait in a bounded backlog to be written when it
takes them again; who resumes across what was dropped meanwhile gets a fresh snapshot (`floor`).
"""

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from math import inf
from pathlib import Path

from netscand.store.place import HistoryRefused, Lock, prepare, set_aside
from netscand.store.rows import DEVICE_COLUMNS, EVENT_COLUMNS, Row
from netscand.store.schema import PATIENCE, HistoryBroken, is_broken, open_database, sync
from netscand.store.trim import trim
from netscand.store.work import Adopt, Broken, Devices, Events, Found, Report, Say, Stop, Work

RESERVED = 2**16
"""Sequence numbers that are reserved ahead, with a synced write: after a power loss none is given out twice. Half of
them are more than a large network's events of a second: so long it takes to notice that a disk hangs."""

AGAIN = 5.0
"""Seconds between two tries to write to a disk that refused."""

BACKLOG = 20_000
"""Events that wait for such a disk, at most: some 10 MB."""

MOST_ROWS = 2_000
"""Events in one transaction."""

TRIM_EVERY = 60.0
"""Seconds between two looks at age and size."""

FEW = 8
"""Events that the loop may write itself."""

QUICK, LET_BE = 0.003, 60.0
"""Seconds that this may take; and for how long the loop leaves it to the thread after one that took longer."""

SIZES = (256, 64, 16, 4, 1)
"""Rows in one statement; five statements are prepared, whatever the number of rows."""

log = logging.getLogger(__name__)


class Writer(threading.Thread):
    """`tell` is called on this thread. `database`: an open one, or None where the start could have none."""

    def __init__(
        self,
        path: Path,
        lock: Lock,
        database: sqlite3.Connection | None,
        most: float,
        tell: Callable[[Report | Found | Say], None],
        trouble: str = "",
    ) -> None:
        super().__init__(name="history", daemon=True)
        self.turned_at = time.monotonic()
        """When it last came round, for the watchdog."""
        self.durable = 0
        """Numbers up to here may be given out: their reservation is on the disk. Set by the keeper."""
        self.written = 0
        """Transactions so far, for the keeper."""
        self.reserved = 0
        self.generation = 0
        """Raised with every database that is opened: connections to the one before are to be closed."""
        self._path = path
        self._lock = lock
        self._database = database
        self._adopted = database is not None
        self.keep = inf
        """Seconds, by the clock as it was at the start, whatever anybody sets it to meanwhile (FAULTS F12)."""
        self.most = most
        self._unix = time.time() - time.monotonic()
        self._tell = tell
        self.disk_is_busy = False
        """The keeper syncs, or left it to the next commit to do so: none for the loop."""
        self._works: deque[Work] = deque()
        self._bell = threading.Event()
        """There is work."""
        self._turn = threading.Lock()
        """Held by who takes works and does them: so they are done in their order."""
        self._not_before = 0.0
        self._waits = PATIENCE
        self._backlog: list[Row] = []
        self._backlog_words: list[Row] = []
        self._dropped = 0
        """The last event that found no room in the backlog."""
        self._epoch = ""
        """Of the numbering that the backlog goes on in, where the database does not say so yet."""
        self._losses = 0
        self._through = self._stored = 0
        self._trouble = trouble
        self._reported = Report(0, 0, "")
        self._again_at = 0.0
        self._trim_at = time.monotonic() + TRIM_EVERY
        self._since_trim = 0
        if database is not None:
            (self.reserved,) = database.execute("SELECT reserved FROM state").fetchone()
            self.durable = self.reserved
            self.generation = 1

    def put(self, work: Work) -> None:
        """Hand it over; never waits."""
        self._works.append(work)
        self._bell.set()

    def at_once(self, events: Events) -> Report | None:
        """Store a few events here and now, on the caller's thread; None: not now, `put` them."""
        if len(events.rows) > FEW or events.epoch or time.monotonic() < self._not_before:
            return None
        if not self._turn.acquire(blocking=False):
            return None
        try:
            idle = not (self._works or self._backlog or self._trouble or self.disk_is_busy)
            if not idle or not self._adopted or events.through > self.durable:
                return None
            return self._write_now(events)
        finally:
            self._turn.release()

    def _write_now(self, events: Events) -> Report | None:
        began = time.monotonic()
        self._backlog, self._backlog_words = list(events.rows), list(events.words)
        try:
            self._wait_for_others(0.0)  # whoever holds the database must not hold the loop
            self._write_events()
        except (sqlite3.Error, OSError):  # the thread meets it again, and says what it is
            self._backlog, self._backlog_words = [], []
            return None
        finally:
            if time.monotonic() > began + QUICK:
                self._not_before = began + LET_BE
        self._through = events.through
        self._reported = self._report()
        return self._reported

    def _wait_for_others(self, seconds: float) -> None:
        """Let a statement wait so long for who else writes. To say so again takes as long as to write a row."""
        if self._waits != seconds:
            assert self._database is not None
            self._database.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")
            self._waits = seconds

    # ---- the thread -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until told to stop."""
        while True:
            self.turned_at = now = time.monotonic()
            wait = min(1.0, max(0.0, (self._again_at if self._trouble else self._trim_at) - now))
            self._bell.wait(wait)
            with self._turn:
                works = self._take()
                if works and isinstance(works[-1], Stop):
                    self._guarded(works[:-1])
                    self._end(works[-1])
                    return
                self._guarded(works)

    def _take(self) -> list[Work]:
        """What is there, in one batch."""
        self._bell.clear()  # first: what comes from here on rings it anew
        works: list[Work] = []
        rows = 0
        while self._works and rows < MOST_ROWS and not (works and isinstance(works[-1], Stop)):
            work = self._works.popleft()
            works.append(work)
            rows += len(work.rows) if isinstance(work, Events) else 0
        if self._works:
            self._bell.set()
        return works

    def _guarded(self, works: Sequence[Work]) -> None:
        """Do it; turn what goes wrong into a state that is told and mended."""
        self._sort_in(works)
        due = not self._trouble or time.monotonic() >= self._again_at
        if due:
            try:
                self._work(works)
            except HistoryBroken as wrong:
                self._set_aside(str(wrong))
            except (sqlite3.Error, OSError, HistoryRefused) as wrong:
                if isinstance(wrong, sqlite3.Error) and is_broken(wrong):
                    self._set_aside(str(wrong))
                else:
                    self._refused(wrong)
        if not due or self._trouble:
            self._losses += any(isinstance(work, Devices) for work in works)
            self._overflow()
        report = self._report()
        if report != self._reported:
            self._reported = report
            self._tell(report)
        for work in works:
            if isinstance(work, Say):
                self._tell(work)

    def _report(self) -> Report:
        return Report(self._through, self._stored, self._trouble, self._losses)

    def _sort_in(self, works: Sequence[Work]) -> None:
        """Events go through the backlog, which is empty while all is well."""
        for work in works:
            if isinstance(work, Events):
                self._through = work.through
                if self._adopted:
                    self._backlog += work.rows
                    self._backlog_words += work.words
                    self._epoch = work.epoch or self._epoch
            elif isinstance(work, Adopt):
                self._backlog, self._backlog_words, self._epoch = [], [], ""
                self._adopted = True

    def _overflow(self) -> None:
        if len(self._backlog) > BACKLOG:
            spare = len(self._backlog) - BACKLOG // 2
            self._dropped = int(str(self._backlog[spare - 1][0]))
            del self._backlog[:spare]

    def _work(self, works: Sequence[Work]) -> None:
        if self._database is None:
            self._open_again()
            return
        trim_is_due = time.monotonic() >= self._trim_at or self._since_trim > MOST_ROWS
        if works or self._backlog or trim_is_due:
            self._wait_for_others(PATIENCE)
        for work in works:
            if isinstance(work, Adopt):
                self._adopt(work)
            elif isinstance(work, Broken):
                raise HistoryBroken(work.why)
        if not self._adopted:
            return
        if self._backlog:
            self._write_events()
        for work in works:
            if isinstance(work, Devices):
                self._write_devices(work)
        if self._trouble:
            log.info("the history is written again")
            self._trouble = ""
        if trim_is_due:
            self._trim()

    # ---- writing --------------------------------------------------------------------------------------------------

    def _write_events(self) -> None:
        database = self._database
        assert database is not None
        through = int(str(self._backlog[-1][0]))
        reserve = through > self.reserved - RESERVED // 2
        alone = not (self._backlog_words or self._dropped or self._epoch or reserve) and len(self._backlog) in SIZES
        if not alone:
            database.execute("BEGIN IMMEDIATE")
        try:
            insert(database, "word", ("number", "text"), self._backlog_words, replace=True)
            insert(database, "event", EVENT_COLUMNS, self._backlog)
            if self._dropped:
                database.execute("UPDATE state SET floor = max(floor, ?)", (self._dropped,))
            if self._epoch:
                database.execute("UPDATE state SET epoch = ?", (self._epoch,))
            if reserve:
                database.execute("UPDATE state SET reserved = ?", (through + RESERVED,))
            if not alone:
                database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.rollback()
            raise
        if reserve:
            self.reserved = through + RESERVED
        self._since_trim += len(self._backlog)
        self._stored = through
        self._backlog, self._backlog_words, self._dropped, self._epoch = [], [], 0, ""
        self.written += 1
        if through > self.durable:  # faster than the keeper: a number must not be told that could come again
            sync(self._path)
            self.durable = self.reserved

    def _write_devices(self, work: Devices) -> None:
        database = self._database
        assert database is not None
        database.execute("BEGIN IMMEDIATE")
        try:
            insert(database, "device", DEVICE_COLUMNS, work.rows, replace=True)
            insert(database, "seen", ("mac", "at", "confirmed"), work.seen, replace=True)
            for mac in work.gone:
                database.execute("DELETE FROM device WHERE mac = ?", (mac,))
                database.execute("DELETE FROM seen WHERE mac = ?", (mac,))
            if work.shown is not None and work.losses == self._losses:
                database.execute("UPDATE state SET shown = ?", (work.shown,))
            if work.alive_at is not None:
                database.execute("UPDATE state SET alive_at = ?", (work.alive_at,))
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.rollback()
            raise
        self.written += 1

    def _trim(self) -> None:
        assert self._database is not None
        self._since_trim = 0
        more = trim(self._database, self._unix + time.monotonic() - self.keep, self.most)
        self.written += more
        self._trim_at = time.monotonic() + (0.01 if more else TRIM_EVERY)

    # ---- trouble --------------------------------------------------------------------------------------------------

    def _refused(self, wrong: Exception) -> None:
        said = wrong.strerror if isinstance(wrong, OSError) else str(wrong)
        trouble = f"the history cannot be written ({said}): events are told, and lost at a restart"
        if trouble != self._trouble:
            log.error("%s; tried again every %g s", trouble, AGAIN)
        self._trouble = trouble
        self._again_at = time.monotonic() + AGAIN

    def _set_aside(self, why: str) -> None:
        """Give a broken database another name, and begin a new one (FAULTS F8)."""
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
        self._database, self._adopted = None, False
        self._backlog, self._backlog_words, self._epoch = [], [], ""
        try:
            name = set_aside(self._path, why)
            self._open_again(name)
        except (sqlite3.Error, OSError, HistoryRefused, HistoryBroken) as wrong:
            self._refused(wrong)

    def _open_again(self, set_aside: str = "") -> None:
        self._lock.take()
        prepare(self._path)
        database = open_database(self._path)
        (self.reserved,) = database.execute("SELECT reserved FROM state").fetchone()
        words = database.execute("SELECT number, text FROM word").fetchall()
        self._database, self._waits = database, PATIENCE
        self.generation += 1
        self._tell(Found(self.reserved, words, set_aside))

    def _adopt(self, work: Adopt) -> None:
        database = self._database
        assert database is not None
        reserved = work.floor + RESERVED
        database.execute(
            "UPDATE state SET epoch = ?, floor = ?, reserved = ?, shown = 0", (work.epoch, work.floor, reserved)
        )
        sync(self._path)
        self.reserved = self.durable = reserved
        self._stored = self._through = max(self._through, work.floor)
        self._dropped = 0

    def _end(self, work: Stop) -> None:
        """Leave a database that has nothing to skip or to repeat at the next start."""
        if self._database is not None:
            with suppress(sqlite3.Error, OSError):
                if self._adopted and not self._backlog:
                    self._database.execute("PRAGMA synchronous = FULL")
                    self._database.execute(
                        "UPDATE state SET reserved = ?, alive_at = ?", (work.sequence, work.alive_at)
                    )
            with suppress(sqlite3.Error):
                self._database.close()


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
