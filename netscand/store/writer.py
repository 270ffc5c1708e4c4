"""What the loop and the writer's thread say to each other."""

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import NamedTuple, cast

from netscand.store.database import (
    PATIENCE,
    SIZES,
    HistoryBroken,
    insert,
    is_broken,
    open_database,
    sync,
    transaction,
)
from netscand.store.paths import HistoryRefused, Lock, prepare, set_aside
from netscand.store.repair import Files, copy_of_files, copy_of_open, put_in_place
from netscand.store.retention import AgeClock, Clock, Retention, clock_of
from netscand.store.rows import DEVICE_COLUMNS, EVENT_COLUMNS, Row


class Alive(NamedTuple):
    """When netscand was running, in milliseconds: by the wall clock, by the history's, and since the machine's boot."""

    at: int
    lived: int
    boot_at: int


class Events(NamedTuple):
    """Rows of events up to the number `through`, with the words that they are the first to use."""

    rows: Sequence[Row]
    words: Sequence[Row]
    through: int
    epoch: str = ""
    """Of the numbering from here on, where it is another one."""
    shifts: Sequence[Row] = ()
    """Where the wall clock was found to be set."""


class Devices(NamedTuple):
    """Rows of devices and of when they were heard, MACs whose rows go, and what the rows show now, where it is told."""

    rows: Sequence[Row] = ()
    seen: Sequence[Row] = ()
    gone: Sequence[int] = ()
    shown: int | None = None
    alive: Alive | None = None
    losses: int = 0
    """As of the last report: `shown` holds only if no rows were lost that it counts on."""


class Adopt(NamedTuple):
    """A database that was found while running: its numbering from now on."""

    epoch: str
    floor: int


class Say(NamedTuple):
    """Asks for word when everything before it was dealt with."""

    token: object


class Lost(NamedTuple):
    """The `generation`th database is damaged; or its files are `gone`, and whole under no name."""

    why: str
    generation: int
    gone: bool = False


class Stop(NamedTuple):
    """The end: the last number that was given out."""

    sequence: int
    alive: Alive


Work = Events | Devices | Adopt | Lost | Say | Stop


class Report(NamedTuple):
    """Events may be told up to `through`; they are `stored` up to there. `trouble` says why the rest is not."""

    through: int
    stored: int
    trouble: str
    losses: int = 0
    """How often rows of devices were dropped: they must come again."""


class Found(NamedTuple):
    """A database was opened while running; events are stored once it is adopted."""

    reserved: int
    words: list[tuple[int, str]]
    clock: Clock
    notice: str
    """What somebody should know of it until the next start; or nothing."""


class Noticed(NamedTuple):
    """Something that somebody should know until the next start."""

    notice: str


class Trimmed(NamedTuple):
    """Size, not age, is what removes events: so many since this was said last."""

    removed: int


# ---- backlog -------------------------------------------------------------------------------------------------------
# Events that wait to be written, in one transaction; bounded, where a disk refuses for long.

BACKLOG = 20_000
"""Events that wait for such a disk, at most: some 10 MB."""


class Backlog:
    """Rows of events, with the words and shifts that they need."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._words: list[Row] = []
        self._shifts: list[Row] = []
        self._dropped = 0
        """The last event that found no room."""
        self._epoch = ""
        """Of the numbering that these go on in, where the database does not say so yet."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def through(self) -> int:
        """The number of the last event."""
        return cast(int, self.rows[-1][0])

    def add(self, events: Events) -> None:
        """Take more events."""
        self.rows += events.rows
        self._words += events.words
        self._shifts += events.shifts
        self._epoch = events.epoch or self._epoch

    def clear(self, *, dropped: bool = False) -> None:
        """Forget them; `dropped`: what found no room, too."""
        self.rows, self._words, self._shifts, self._epoch = [], [], [], ""
        if dropped:
            self._dropped = 0

    def overflow(self) -> None:
        """Drop the oldest, where there are too many: who resumes from before them gets a fresh snapshot."""
        if len(self.rows) > BACKLOG:
            spare = len(self.rows) - BACKLOG // 2
            self._dropped = cast(int, self.rows[spare - 1][0])
            del self.rows[:spare]

    def write(self, database: sqlite3.Connection, reserved: int) -> None:
        """Write them, and (not 0) which numbers are reserved from now on. Raises sqlite3.Error; then nothing is."""
        if not (self._words or self._shifts or self._dropped or self._epoch or reserved) and len(self.rows) in SIZES:
            insert(database, "event", EVENT_COLUMNS, self.rows)  # one statement is a transaction of its own
        else:
            with transaction(database):
                insert(database, "word", ("number", "text"), self._words, replace=True)
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
# The one writer: a thread that puts batches of rows into the database, and reports what it stored.
#
# A batch is whatever came since the last one, in one transaction; where it holds events alone that is one statement,
# for between two statements this thread would have to wait for the interpreter while the loop is busy. A commit is a
# write to the page cache: store/maintenance.py syncs it to the disk, so that no event ever waits for a disk to turn.
#
# To be woken by this thread through the loop's selector takes longer (0.6 ms) than to write a few rows (0.1 ms): while
# nothing else is to be done and the disk answers at once, the loop waits for them, by `at_once`, for 3 ms at most: a
# file system may be frozen for as long as somebody copies it.
#
# When the disk refuses, events are reported as told all the same, and wait in a bounded backlog to be written when it
# takes them again; who resumes across what was dropped meanwhile gets a fresh snapshot (`floor`).

RESERVED = 2**16
"""Sequence numbers that are reserved ahead, with a synced write: after a power loss none is given out twice. Half of
them are more than a large network's events of a second: so long it takes to notice that a disk hangs."""

AGAIN = 5.0
"""Seconds between two tries to write to a disk that refused."""

MOST_ROWS = 2_000
"""Events in one transaction."""

TRIM_EVERY, TRIM_AGAIN = 30.0, 0.01
"""Seconds between two looks at age and size, and where there is more to do."""

FEW = 8
"""Events that the loop may wait for."""

QUICK, LET_BE = 0.003, 60.0
"""Seconds that the loop waits for that; and for how long it waits for none after one that took longer."""

log = logging.getLogger(__name__)


class Writer(threading.Thread):
    """`tell` is called on this thread. `database`: an open one, or None where the start could have none."""

    def __init__(
        self,
        path: Path,
        lock: Lock,
        database: sqlite3.Connection | None,
        age: AgeClock,
        stay: Callable[[int], float],
        tell: Callable[[Report | Found | Noticed | Trimmed | Say], None],
        trouble: str = "",
    ) -> None:
        super().__init__(name="history", daemon=True)
        self._turned_at = time.monotonic()
        """When it last came round."""
        self._is_writing = False
        self.durable = 0
        """Numbers up to here may be given out: their reservation is on the disk. Set by the keeper."""
        self.written = 0
        """Transactions so far, for the keeper."""
        self.reserved = 0
        self.generation = 0
        """Raised with every database that is opened: connections to the one before are to be closed."""
        self._path = path
        self.lock = lock
        self._database = database
        self._adopted = database is not None
        self.keep = self.most = inf
        """Seconds that events are kept, and bytes that the database may take."""
        self.trimmed = Retention(stay)
        self.files: Files | None = None
        """Those of the database."""
        self._lost: Lost | None = None
        """They are to be replaced."""
        self._age = age
        self._tell = tell
        self.disk_is_busy = False
        """The keeper syncs, or left it to the next commit to do so: none for the loop."""
        self._works: deque[Work] = deque()
        self._bell = threading.Event()
        """There is work."""
        self._stored_some = threading.Condition()
        self._awaited = 0
        """The last event that somebody waits for, within that condition."""
        self._turn = self.resting = threading.Lock()
        """Held by who takes works and does them, so that they are done in their order; or needs that nobody writes."""
        self._not_before = 0.0
        self._waits = PATIENCE
        self._backlog = Backlog()
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
        """When it last came round, for the watchdog: now, while it waits for the disk, which no restart would mend."""
        return time.monotonic() if self._is_writing else self._turned_at

    def put(self, work: Work) -> None:
        """Hand it over; never waits."""
        self._works.append(work)
        self._bell.set()

    def at_once(self, events: Events) -> Report | None:
        """Hand a few events over, and wait for a moment until they are stored; None: they are not yet."""
        began = time.monotonic()
        idle = not (self._works or self._backlog or self._trouble or self.disk_is_busy or self._turn.locked())
        small = len(events.rows) <= FEW and not events.epoch and self._adopted and events.through <= self.durable
        if not (idle and small) or began < self._not_before:
            self.put(events)
            return None
        with self._stored_some:
            self._awaited = events.through
            self.put(events)
            in_time = self._stored_some.wait_for(lambda: self._reported.through >= events.through, QUICK)
            self._awaited = 0
        if not in_time:
            self._not_before = began + LET_BE
        return self._reported if in_time else None

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
            self._turned_at = now = time.monotonic()
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
        report = self._report()
        if report != self._reported:
            with self._stored_some:
                self._reported = report
                if awaited := 0 < self._awaited <= report.through:
                    self._stored_some.notify()
            if not awaited:
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
                    self._backlog.add(work)
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
            self._save(self._lost)
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
        assert self._database is not None
        count, through = len(self._backlog), self._backlog.through
        self.lock.mark()
        reserved = through + RESERVED if through > self.reserved - RESERVED // 2 else 0
        self._backlog.write(self._database, reserved)
        self.reserved = max(self.reserved, reserved)
        self._since_trim += count
        self._stored = through
        self.written += 1
        if through > self.durable:  # faster than the keeper: a number must not be told that could come again
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
            if work.shown is not None and work.losses == self._losses:
                database.execute("UPDATE state SET shown = ?", (work.shown,))
            if work.alive is not None:
                database.execute("UPDATE state SET alive_at = ?, lived = ?, boot_at = ?", work.alive)
        self.written += 1

    def _trim(self) -> None:
        assert self._database is not None
        self._since_trim = 0
        trimmed, now = self.trimmed, self._age.now()
        worth = trimmed.turn(self._database, now, self.keep * 1000, self.most)
        self.written += worth
        if not worth and trimmed.sized_at and now - trimmed.sized_at < self.keep * 1000:
            self._tell(Trimmed(trimmed.removed_by_size - self._removed))
            self._removed = trimmed.removed_by_size
        self._trim_at = time.monotonic() + (TRIM_AGAIN if worth else TRIM_EVERY)

    # ---- trouble --------------------------------------------------------------------------------------------------

    def _refused(self, wrong: Exception) -> None:
        said = wrong.strerror if isinstance(wrong, OSError) else str(wrong)
        trouble = f"the history cannot be written ({said}): events are told, and lost at a restart"
        if trouble != self._trouble:
            log.error("%s; tried again every %g s", trouble, AGAIN)
        self._trouble = trouble
        self._again_at = time.monotonic() + AGAIN

    def _met(self, wrong: Exception) -> None:
        """Take what went wrong: a damaged database is saved, or set aside; a disk that refuses is tried again."""
        try:
            if not _says_broken(wrong):
                raise wrong
            self._save(Lost(str(wrong), self.generation))
        except (sqlite3.Error, OSError, HistoryRefused, HistoryBroken) as wrong:
            self._refused(wrong)

    def _save(self, lost: Lost) -> None:
        """Bring a database back whose files were removed, replaced or damaged, as far as it can be (FAULTS F8).

        Raises what says that it cannot be now.
        """
        log.error("the history %s: %s", self._path, lost.why)
        self.lock.hold()
        copy = None
        with suppress(*(() if lost.gone else (sqlite3.Error, OSError))):  # to set it aside needs no room
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
        left = "the last events before may be missing" if copy is not None else "a new one began"
        self._open_again(f"the history was broken ({lost.why}): it is set aside as {name}, and {left}")

    def _put_in_place(self, copy: Path, why: str) -> None:
        assert self._database is not None
        assert self.files is not None
        put_in_place(copy, self._path, self.files)
        self._database.close()
        self._take_up(open_database(self._path))
        self._lost = None
        log.warning("the history %s was written anew; nothing is missing", self._path)
        self._tell(Noticed(f"{why}: the history was written anew, and nothing is missing"))

    def _is_alive(self) -> None:
        self._turned_at = time.monotonic()

    def _open_again(self, notice: str = "") -> None:
        self.lock.hold()
        prepare(self._path)
        database = open_database(self._path)
        clock = clock_of(database, int(time.time() * 1000))
        words = database.execute("SELECT number, text FROM word").fetchall()
        self._take_up(database)
        self._tell(Found(self.reserved, words, clock, notice))

    def _take_up(self, database: sqlite3.Connection) -> None:
        trimmed, state = self.trimmed, database.execute("SELECT reserved, aged, sized_at FROM state").fetchone()
        self.reserved, trimmed.aged, trimmed.sized_at = state
        self._database, self._waits = database, PATIENCE
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
        """Leave a database that has nothing to skip or to repeat at the next start."""
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


def _says_broken(wrong: Exception) -> bool:
    return isinstance(wrong, HistoryBroken) or (isinstance(wrong, sqlite3.Error) and is_broken(wrong))
