"""Work for the writer's thread, its reports, and the thread that writes the database."""

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple, cast

from netscand.store.database import (
    AT_ONCE,
    PATIENCE,
    HistoryBroken,
    insert,
    is_broken,
    open_database,
    sync,
    transaction,
)
from netscand.store.erase import Erase
from netscand.store.lock import Lock
from netscand.store.paths import HistoryRefused, prepare, set_aside
from netscand.store.repair import Files, copy_of_files, copy_of_open, put_in_place
from netscand.store.restamp import Restamp
from netscand.store.retention import AgeClock, Clock, Retention, clock_of
from netscand.store.rows import DEVICE_COLUMNS, EVENT_COLUMNS, SMALL_TABLES, Row


class Alive(NamedTuple):
    """When netscand was running, in milliseconds: by the wall clock, by the history's, and since the machine's boot."""

    at: int
    lived: int
    boot_at: int


class Events(NamedTuple):
    """Rows of events up to the number `through`."""

    rows: Sequence[Row]
    through: int
    epoch: str = ""
    """The name of the numbering from here on, if it is a new one."""
    shifts: Sequence[Row] = ()
    """Events at which the wall clock was found to have been set."""


class Devices(NamedTuple):
    """Rows of devices and of when they were last seen, MACs whose rows go, and what the rows show now, if known."""

    rows: Sequence[Row] = ()
    seen: Sequence[Row] = ()
    gone: Sequence[int] = ()
    shown: int | None = None
    alive: Alive | None = None
    losses: int = 0
    """As of the last report: `shown` holds only if no rows were lost since."""
    tables: Mapping[str, Sequence[Row]] = {}
    """All rows of small tables that changed, by their names: they replace those that are stored."""


class Adopt(NamedTuple):
    """The numbering, from now on, of a database that was opened while running."""

    epoch: str
    floor: int


class Ping(NamedTuple):
    """A request to report back when everything before it was processed."""

    token: object


class Lost(NamedTuple):
    """The `generation`th database is damaged; or its files are `gone`, undamaged but without a name."""

    why: str
    generation: int
    gone: bool = False


class Stop(NamedTuple):
    """The end: the last number that was given out."""

    sequence: int
    alive: Alive


Work = Events | Devices | Restamp | Erase | Adopt | Lost | Ping | Stop


class Report(NamedTuple):
    """Events up to `through` may be published; those up to `stored` are stored. `trouble` says why the rest is not."""

    through: int
    stored: int
    trouble: str
    losses: int = 0
    """How often rows of devices were dropped: they must be written again."""


class Found(NamedTuple):
    """A database was opened while running; events are stored once it is adopted."""

    reserved: int
    clock: Clock
    notice: str
    """What the user should know of it until the next start; or nothing."""


class Noticed(NamedTuple):
    """What the user should know until the next start."""

    notice: str


class Trimmed(NamedTuple):
    """Events are removed by size, not by age: the number since the last such report."""

    removed: int


# ---- backlog -------------------------------------------------------------------------------------------------------
# Events that wait to be written, in one transaction; bounded, for a disk that refuses writes for long.

BACKLOG = 20_000
"""Events that wait for such a disk, at most: some 10 MB."""


class Backlog:
    """Rows of events, with the shifts that belong to them."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._shifts: list[Row] = []
        self._dropped = 0
        """The last event that found no room."""
        self._epoch = ""
        """The name of the numbering of these events, if the database does not have it yet."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def through(self) -> int:
        """Return the number of the last event."""
        return cast(int, self.rows[-1][0])

    def add(self, events: Events) -> None:
        """Take more events."""
        self.rows += events.rows
        self._shifts += events.shifts
        self._epoch = events.epoch or self._epoch

    def clear(self, *, dropped: bool = False) -> None:
        """Forget them; with `dropped`, also which found no room."""
        self.rows, self._shifts, self._epoch = [], [], ""
        if dropped:
            self._dropped = 0

    def overflow(self) -> None:
        """Drop the oldest if there are too many: a client that resumes from before them gets a fresh snapshot."""
        if len(self.rows) > BACKLOG:
            spare = len(self.rows) - BACKLOG // 2
            self._dropped = cast(int, self.rows[spare - 1][0])
            del self.rows[:spare]

    def write(self, database: sqlite3.Connection, reserved: int) -> None:
        """Write them, and (if not 0) the new reservation of numbers. Raises sqlite3.Error; then nothing is written."""
        if not (self._shifts or self._dropped or self._epoch or reserved) and len(self.rows) <= AT_ONCE:
            insert(database, "event", EVENT_COLUMNS, self.rows)  # one statement is a transaction of its own
        else:
            with transaction(database):
                insert(database, "event", EVENT_COLUMNS, self.rows)
                insert(database, "shift", ("sequence", "lived", "ahead"), self._shifts, replace=True)
                if self._dropped:
                    database.execute("UPDATE state SET floor = max(floor, ?)", (self._dropped,))
                if self._epoch:
                    database.execute("UPDATE state SET epoch = ?", (self._epoch,))
                if reserved:
                    database.execute("UPDATE state SET reserved = ?", (reserved,))
        self.clear(dropped=True)


# ---- writer --------------------------------------------------------------------------------------------------------
# The one writer: a thread that writes batches of rows into the database, and reports what it stored.
#
# A batch is everything that came since the last one, in one transaction. If it has only events, it is one statement:
# between two statements this thread would have to wait for the interpreter while the loop is busy. A commit is a write
# to the page cache; store/maintenance.py syncs it to the disk, so that no event waits for a disk to turn.
#
# Being woken by this thread through the selector of the loop takes longer (0.6 ms) than writing a few rows (0.1 ms):
# while it is idle and the disk answers at once, the loop waits for them in `put_and_wait`, for 3 ms at most: a file
# system may be frozen for as long as its copy takes.
#
# When the disk refuses, events are reported as ready to publish all the same, and wait in a bounded backlog until it
# accepts them again. Clients that resume from before what was dropped meanwhile get a fresh snapshot (`floor`).

RESERVED = 2**16
"""Sequence numbers that are reserved ahead, with a synced write: after a power loss none is given out twice. Half of
them are more than the events of a large network in a second, which is how long it takes to notice that a disk hangs."""

AGAIN = 5.0
"""Seconds between two attempts to write to a disk that refused."""

MOST_ROWS = 2_000
"""Events in one transaction."""

TRIM_EVERY, TRIM_AGAIN = 30.0, 0.01
"""Seconds between two checks of age and size, and while there is more to remove."""

FEW = 8
"""Events that the loop may wait for, at most."""

QUICK, LET_BE = 0.003, 60.0
"""Seconds that the loop waits for them; and for how long it waits for none after some that took longer."""

log = logging.getLogger(__name__)


class Writer(threading.Thread):
    """`report` is called on this thread. `database`: an open one, or None if the start could not open one."""

    def __init__(
        self,
        path: Path,
        lock: Lock,
        database: sqlite3.Connection | None,
        age: AgeClock,
        stay: Callable[[int], float],
        report: Callable[[Report | Found | Noticed | Trimmed | Ping], None],
        trouble: str = "",
    ) -> None:
        super().__init__(name="history", daemon=True)
        self._turned_at = time.monotonic()
        """When its loop last ran."""
        self._is_writing = False
        self.durable = 0
        """Numbers up to here may be given out: their reservation is on the disk. Maintenance sets it too."""
        self.written = 0
        """Transactions so far, for store/maintenance.py."""
        self.reserved = 0
        self.generation = 0
        """Incremented with every database that is opened: connections to the one before are to be closed."""
        self._path = path
        self.lock = lock
        self._database = database
        self._adopted = database is not None
        self.keep = self.most = inf
        """Seconds that events are kept, and bytes that the database may take."""
        self.trimmed = Retention(stay)
        self.files: Files | None = None
        """The files of the database."""
        self._lost: Lost | None = None
        """Set while they are to be replaced."""
        self._age = age
        self._report = report
        self.disk_is_busy = False
        """Maintenance syncs, or the next commit will: the loop leaves it to the thread."""
        self._works: SimpleQueue[Work] = SimpleQueue()
        self._awaited = 0
        """The last event that the loop waits for."""
        self._awaiting = threading.Lock()
        """Held to change `_awaited` while both threads may."""
        self._answers: SimpleQueue[Report] = SimpleQueue()
        """The report that it waits for. Queues, not conditions: waking each other takes 40 µs instead of 95."""
        self._turn = self.resting = threading.Lock()
        """Held while work is taken and done, so that it is done in order; or to keep others from writing."""
        self._not_before = 0.0
        """When the loop may wait again: the disk was slow, not just this thread on a busy machine."""
        self._waits = PATIENCE
        self._backlog = Backlog()
        self._slow_works: deque[Restamp | Erase] = deque()
        """Work that is done in slices, in this order."""
        self.erased = 0
        """Erasures whose remains may be in the log."""
        self._losses = 0
        self._through = self._stored = 0
        self._trouble = trouble
        self._reported = Report(0, 0, "")
        self._again_at = 0.0
        self._trim_at = time.monotonic() + TRIM_EVERY
        self._since_trim = self._removed = 0
        if database is not None:
            self._take_up(database)
            self.durable = self.reserved

    @property
    def turned_at(self) -> float:
        """Return when its loop last ran, for the watchdog: now, while it waits for the disk, which no restart fixes."""
        return time.monotonic() if self._is_writing else self._turned_at

    def put(self, work: Work) -> None:
        """Hand work over; never waits."""
        self._works.put(work)

    def put_and_wait(self, events: Events) -> Report | None:
        """Hand a few events over, and wait up to QUICK until they are stored; None: they are not stored yet."""
        is_working = self._turn.locked() or not self._works.empty()
        idle = not (is_working or self._backlog or self._trouble or self.disk_is_busy)
        small = len(events.rows) <= FEW and not events.epoch and self._adopted and events.through <= self.durable
        if not (idle and small) or time.monotonic() < self._not_before:
            self.put(events)
            return None
        self._awaited = events.through
        self.put(events)
        with suppress(Empty):
            return self._answers.get(timeout=QUICK)
        with self._awaiting:
            is_late, self._awaited = self._awaited > 0, 0
        return None if is_late else self._answers.get()

    def _wait_for_others(self, seconds: float) -> None:
        """Set how long a statement waits for another writer. Setting it takes as long as writing a row."""
        if self._waits != seconds:
            assert self._database is not None
            self._database.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")
            self._waits = seconds

    # ---- the thread -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until Stop."""
        while True:
            self._turned_at = now = time.monotonic()
            again_at = self._again_at if self._trouble else self._trim_at
            wait = min(1.0, max(0.0, again_at - now), TRIM_AGAIN if self._slow_works and not self._trouble else 1.0)
            work = None
            with suppress(Empty):
                work = self._works.get(timeout=wait)
            with self._turn:
                works = self._take(work)
                if works and isinstance(works[-1], Stop):
                    self._guarded(works[:-1])
                    self._end(works[-1])
                    return
                self._guarded(works)

    def _take(self, work: Work | None) -> list[Work]:
        """Return the next batch, which begins with `work`."""
        works: list[Work] = []
        rows = 0
        while work is not None:
            works.append(work)
            rows += len(work.rows) if isinstance(work, Events) else 0
            is_full = rows >= MOST_ROWS or isinstance(work, Stop)
            work = None if is_full or self._works.empty() else self._works.get()
        return works

    def _guarded(self, works: Sequence[Work]) -> None:
        """Do the work; an error becomes a state that is reported, and that later attempts end."""
        self._sort_in(works)
        due = not self._trouble or time.monotonic() >= self._again_at
        if due:
            self._is_writing = True
            try:
                self._work(works)
            except (sqlite3.Error, OSError, HistoryRefused, HistoryBroken) as wrong:
                self._met(wrong)
            finally:
                self._is_writing = False
        if not due or self._trouble:
            self._losses += any(isinstance(work, Devices) for work in works)
            self._backlog.overflow()
        report = self._state()
        if report != self._reported:
            self._reported = report
            with self._awaiting:
                if is_awaited := 0 < self._awaited <= report.through:
                    self._awaited = 0
            if is_awaited:
                self._answers.put(report)
            else:
                self._report(report)
        for work in works:
            if isinstance(work, Ping):
                self._report(work)

    def _state(self) -> Report:
        return Report(self._through, self._stored, self._trouble, self._losses)

    def _sort_in(self, works: Sequence[Work]) -> None:
        """Put events into the backlog, which is empty while the disk accepts them."""
        for work in works:
            if isinstance(work, Events):
                self._through = work.through
                if self._adopted:
                    self._backlog.add(work)
            elif isinstance(work, Restamp | Erase):
                self._slow_works.append(work)
            elif isinstance(work, Adopt):
                self._backlog.clear(dropped=True)
                self._adopted = True
            elif isinstance(work, Lost) and work.generation == self.generation:
                self._lost = work

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
        if self._lost is not None:
            self._repair(self._lost)
        if not self._adopted:
            return
        if self._backlog:
            self._write_events()
        for work in works:
            if isinstance(work, Devices):
                self._write_devices(work)
        if self._trouble:
            log.info("the history can be written again")
            self._trouble = ""
        if self._slow_works:
            self._do_slice()
        if trim_is_due:
            self._trim()

    # ---- writing --------------------------------------------------------------------------------------------------

    def _write_events(self) -> None:
        assert self._database is not None
        count, through = len(self._backlog), self._backlog.through
        self.lock.mark()
        reserved = through + RESERVED if through > self.reserved - RESERVED // 2 else 0
        began = time.monotonic()
        try:
            self._backlog.write(self._database, reserved)
        finally:
            if (now := time.monotonic()) > began + QUICK:
                self._not_before = now + LET_BE
        self.reserved = max(self.reserved, reserved)
        self._since_trim += count
        self._stored = through
        self.written += 1
        if through > self.durable:  # faster than maintenance: no published number may be given out again
            sync(self._path)
            self.durable = self.reserved

    def _write_devices(self, work: Devices) -> None:
        database = self._database
        assert database is not None
        with transaction(database):
            insert(database, "device", DEVICE_COLUMNS, work.rows, replace=True)
            insert(database, "seen", ("mac", "at", "confirmed"), work.seen, replace=True)
            for mac in work.gone:
                database.execute("DELETE FROM device WHERE mac = ?", (mac,))
                database.execute("DELETE FROM seen WHERE mac = ?", (mac,))
            for table, rows in work.tables.items():
                database.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant
                insert(database, table, SMALL_TABLES[table], rows)
            if work.shown is not None and work.losses == self._losses:
                database.execute("UPDATE state SET shown = ?", (work.shown,))
            if work.alive is not None:
                database.execute("UPDATE state SET alive_at = ?, lived = ?, boot_at = ?", work.alive)
        self.written += 1

    def _do_slice(self) -> None:
        assert self._database is not None
        left = self._slow_works[0].turn(self._database)
        self.written += 1
        if left is None:
            self.erased += isinstance(self._slow_works.popleft(), Erase)
        else:
            self._slow_works[0] = left

    def _trim(self) -> None:
        assert self._database is not None
        self._since_trim = 0
        trimmed, now = self.trimmed, self._age.now()
        worth = trimmed.turn(self._database, now, self.keep * 1000, self.most)
        self.written += worth
        if not worth and trimmed.sized_at and now - trimmed.sized_at < self.keep * 1000:
            self._report(Trimmed(trimmed.removed_by_size - self._removed))
            self._removed = trimmed.removed_by_size
        self._trim_at = time.monotonic() + (TRIM_AGAIN if worth else TRIM_EVERY)

    # ---- trouble --------------------------------------------------------------------------------------------------

    def _refused(self, wrong: Exception) -> None:
        trouble = cannot_be_written(wrong)
        if trouble != self._trouble:
            log.error("%s; trying again every %g s", trouble, AGAIN)
        self._trouble = trouble
        self._again_at = time.monotonic() + AGAIN

    def _met(self, wrong: Exception) -> None:
        """Handle an error: a damaged database is saved, or set aside; a disk that refuses is tried again."""
        try:
            if not _is_damage(wrong):
                raise wrong
            self._repair(Lost(str(wrong), self.generation))
        except (sqlite3.Error, OSError, HistoryRefused, HistoryBroken) as wrong:
            self._refused(wrong)

    def _repair(self, lost: Lost) -> None:
        """Restore a database whose files were removed, replaced or damaged, as far as possible (FAULTS F8).

        Raises sqlite3.Error, OSError, HistoryRefused or HistoryBroken if that is not possible now.
        """
        log.error("the history %s: %s", self._path, lost.why)
        self.lock.hold()
        copy = None
        with suppress(*(() if lost.gone else (sqlite3.Error, OSError))):  # setting it aside needs no room
            if self._database is not None and (copy := copy_of_open(self._database, self._path, self._is_alive)):
                self._put_in_place(copy, lost.why)
                return
            copy = copy_of_files(self._path, self._is_alive)
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
        self._database, self._adopted, self._lost = None, False, None
        self._backlog.clear()
        name = set_aside(self._path, lost.why)
        if copy is not None:
            os.rename(copy, self._path)
        left = "the last events before may be missing" if copy is not None else "a new one was created"
        self._open_again(f"the history was damaged ({lost.why}) and set aside as {name}; {left}")

    def _put_in_place(self, copy: Path, why: str) -> None:
        assert self._database is not None
        assert self.files is not None
        put_in_place(copy, self._path, self.files)
        self._database.close()
        self._take_up(open_database(self._path))
        self._lost = None
        log.warning("the history %s was rewritten; nothing is missing", self._path)
        self._report(Noticed(f"{why}: the history was rewritten; nothing is missing"))

    def _is_alive(self) -> None:
        self._turned_at = time.monotonic()

    def _open_again(self, notice: str = "") -> None:
        self.lock.hold()
        prepare(self._path)
        database = open_database(self._path)
        clock = clock_of(database, int(time.time() * 1000))
        self._take_up(database)
        self._report(Found(self.reserved, clock, notice))

    def _take_up(self, database: sqlite3.Connection) -> None:
        trimmed, state = self.trimmed, database.execute("SELECT reserved, aged, sized_at FROM state").fetchone()
        self.reserved, trimmed.aged, trimmed.sized_at = state
        self._database, self._waits = database, PATIENCE
        # Numbers of another database.
        self._slow_works = deque(work.again() for work in self._slow_works if isinstance(work, Erase))
        self.files = Files(self._path)
        self.generation += 1

    def _adopt(self, work: Adopt) -> None:
        database = self._database
        assert database is not None
        reserved = work.floor + RESERVED
        database.execute(
            "UPDATE state SET epoch = ?, floor = ?, reserved = ?, shown = 0", (work.epoch, work.floor, reserved)
        )
        self.written += 1
        sync(self._path)
        self.reserved = self.durable = reserved
        self._stored = self._through = max(self._through, work.floor)

    def _end(self, work: Stop) -> None:
        """Leave a database in which the next start has nothing to skip or to repeat."""
        if self._database is not None:
            with suppress(sqlite3.Error, OSError):
                if self._adopted and not self._backlog:
                    self._database.execute("PRAGMA synchronous = FULL")
                    self._database.execute(
                        "UPDATE state SET reserved = ?, alive_at = ?, lived = ?, boot_at = ?",
                        (work.sequence, *work.alive),
                    )
                    self.written += 1
            with suppress(sqlite3.Error):
                self._database.close()


def _is_damage(wrong: Exception) -> bool:
    return isinstance(wrong, HistoryBroken) or (isinstance(wrong, sqlite3.Error) and is_broken(wrong))


def cannot_be_written(wrong: Exception) -> str:
    """Return the problem that `status` shows for an error."""
    reason = wrong.strerror if isinstance(wrong, OSError) else str(wrong)
    return f"the history cannot be written ({reason}): events are still published, but will be lost on restart"
