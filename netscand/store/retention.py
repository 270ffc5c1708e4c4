"""Retention: how old events are, whatever the clock says, and which are removed."""

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Sequence
from time import CLOCK_BOOTTIME, clock_gettime, monotonic
from typing import NamedTuple

from netscand.core.model import EventKind
from netscand.store.database import PAGE, transaction
from netscand.store.rows import KINDS
from netscand.store.schema import RARE

# ---- age -----------------------------------------------------------------------------------------------------------
# The age of events, whatever the clock is set to (FAULTS F12).
#
# The history has its own clock, which cannot be set: it counts milliseconds while this machine is on or asleep. It
# starts with the wall clock's time when the history is created, and runs on while netscand is stopped. While the
# machine is off it stands still: no clock can be trusted to know for how long that was.
#
# An event is stored with the wall clock's stamp, right or wrong. Each time that the wall clock was set, a row of
# `shift` has the number of the next event and by how much the wall clock is ahead from there on; so the age of every
# event is known without trusting any stamp.


class Clock(NamedTuple):
    """State of the history's own clock, and by how much the wall clock was last ahead of it."""

    lived: int
    boot_at: int
    ahead: int
    wall: int = 0
    """The wall clock, when the first two were read last."""
    set_before: int = 0
    """The event before which the wall clock was last set, or the machine off; 0: none."""
    set_at: int = 0
    """When that event happened, by the history's clock."""


SET = 1_000
"""Milliseconds by which the wall clock moves when it is set; less is a reading error, or NTP's adjustment."""

OFF = 60 * 86_400_000
"""Milliseconds for which a machine may have been off; a longer time counts as a wrong clock."""


class Shift(NamedTuple):
    """From event `sequence` on, at `lived` by the history's clock, the wall clock was `ahead` of it."""

    sequence: int
    lived: int
    ahead: int


class AgeClock:
    """The history's clock; `open` starts it."""

    def __init__(self, boottime: Callable[[], float] = lambda: clock_gettime(CLOCK_BOOTTIME)) -> None:
        self._boottime = boottime
        self._offset = 0
        self.of_monotonic = 0
        """Its milliseconds minus those of the monotonic clock; they differ after the machine slept: see `sync`."""

    def open(self, lived: int, boot_at: int = 0) -> None:
        """Continue from `lived`, read when this boot, or one before it, had lasted `boot_at` milliseconds.

        At least the time that this boot has lasted longer has passed: exact in the same boot, too little in another.
        """
        self._offset = lived - min(boot_at, self.boot_at())
        self.sync()

    def boot_at(self) -> int:
        """Return milliseconds since this machine was booted, sleep included."""
        return int(self._boottime() * 1000)

    def now(self) -> int:
        """Return its time."""
        return self.boot_at() + self._offset

    def sync(self) -> None:
        """Take into account that the machine slept."""
        self.of_monotonic = self.now() - int(monotonic() * 1000)


class Ages:
    """Ages of a range of events, by the shifts that concern them."""

    def __init__(self, shifts: Sequence[Shift], now: int) -> None:
        self._shifts = shifts
        self._numbers = [shift.sequence for shift in shifts]
        self._now = now

    def lived(self, sequence: int, at: int) -> int:
        """Return when an event with this stamp happened, by the history's clock."""
        after = bisect_right(self._numbers, sequence)
        end = self._shifts[after].lived if after < len(self._shifts) else self._now
        if not after:
            return min(at, end)
        shift = self._shifts[after - 1]
        return min(max(at - shift.ahead, shift.lived), max(end, shift.lived))


class TrueTimes:
    """Stamps as if the wall clock had always been right; for counting, not for display.

    The present time is assumed to be right. Earlier, the wall clock was ahead of the history's clock by the same or, if
    the machine was off since then, by less (at most OFF for each time). Anything else was wrong.
    """

    def __init__(self, shifts: Sequence[Shift], ahead: int) -> None:
        self._numbers = [shift.sequence for shift in shifts]
        self._error = [0]
        """Error of the stamps before the first shift, and from each of them on."""
        for was in (*(shift.ahead for shift in reversed(shifts)), 0):
            if not 0 <= ahead - was <= OFF:
                self._error.append(was - ahead)
            else:
                self._error.append(0)
                ahead = was
        self._error = self._error[:0:-1]

    def of(self, sequence: int, at: int) -> int:
        """Return the true stamp of an event."""
        return at - self._error[bisect_right(self._numbers, sequence)]


def clock_of(database: sqlite3.Connection, wall: int) -> Clock:
    """Return the state of a history's clock; one that never ran begins now, at `wall`. Raises sqlite3.Error."""
    lived, boot_at, at = database.execute("SELECT lived, boot_at, alive_at FROM state").fetchone()
    if not lived:
        lived, boot_at, at = wall, AgeClock().boot_at(), 0
        database.execute("UPDATE state SET lived = ?, boot_at = ?", (lived, boot_at))
    last = database.execute("SELECT ahead, sequence, lived FROM shift ORDER BY sequence DESC LIMIT 1").fetchone()
    ahead, set_before, set_at = last or (0, 0, 0)
    return Clock(lived, boot_at, ahead, at, set_before, set_at)


# ---- removal -------------------------------------------------------------------------------------------------------
# Removes events that the history may no longer keep, by age and by size, a slice at a time, so that new events pass.
#
# By age, the oldest events go. By size, the events of strangers go first, or one host could push out in an hour what
# happened to all other devices in 90 days (FAULTS T11):
#
# 1. of a device that was labelled again and again in an hour, the events between the first and the last of that hour;
# 2. events of MACs that are no device any more;
# 3. events of devices that were here for less than a day, a week, a month, and that no user annotated;
# 4. the oldest events, of whatever device.
#
# Within each step the oldest go first, until there is some room.
#
# 2 and 3 leave the newest events alone (`_settled`): a device that is new today is what the history is for, and a
# client that resumes from before a removed event gets a fresh list.

SLICE = 500
"""Events removed at once by age: some milliseconds."""

LOOKED_AT, REMOVED = 2_000, 100
"""Events examined, and removed, at once by size: the same, for they are on pages that are far apart."""

FULL, ROOM = 0.95, 0.90
"""Shares of the allowed size: removal begins at the first, and ends at the second."""

DAY_SECONDS = 86_400.0

HOUR = 3_600_000
"""Milliseconds."""

LABELS = (
    f"SELECT sequence, mac, at FROM event WHERE {RARE} AND kind = {KINDS[EventKind.LABELLED]} "  # noqa: S608 - ours
    "AND sequence > ? ORDER BY sequence LIMIT ?"
)

REPEATS = -1
"""The step before the first of STAYS."""

STAYS = (0.0, DAY_SECONDS, 7 * DAY_SECONDS, 30 * DAY_SECONDS)
"""Seconds from the first to the last time that a device was seen: the events of those with less go, in turn."""

RECENT = DAY_SECONDS * 1000
"""Milliseconds, by the history's clock, in which an event of a stranger counts like any other."""

RESUMED = 10_000
"""Numbers before the last for which that holds whatever their age; a stream resumes over so many
(serve/history_api.py)."""

RECENT_SHARE, EVENT = 8, 512
"""The newest events are left alone only up to this part of the allowed size, at so many bytes each.

A day of a flood (430 events a second) is more than the whole history: without this bound it would stay, and the
household's 90 days would go.
"""

PAGES = 128
"""Free pages that are returned at once."""

PAGES_A_WRITE = 4
"""Pages changed by a removal that count as one transaction, so that a checkpoint comes in time."""

EVENTS_A_PAGE = 20
"""Events on one page, where they follow one another."""

OF_THESE = (
    "SELECT sequence FROM event WHERE sequence > ? AND sequence <= ? AND mac IN (SELECT value FROM json_each(?)) "
    "ORDER BY sequence LIMIT ?"
)


class Retention:
    """Bounds of a database in age and size; `turn` removes a slice of what exceeds them.

    `stay` returns the seconds from the first to the last time that a device was seen, by its MAC as a number
    (store/rows.py): less than 0 if there is no such device, infinite if a user annotated it. It is called on the thread
    of `turn`.
    """

    def __init__(self, stay: Callable[[int], float]) -> None:
        self._stay = stay
        self._shrinking = False
        self._tier = self._through = self._end = 0
        """State of the search: REPEATS or which of STAYS, the last event examined, and the last to examine.

        Without an end it would follow a flood, and never reach the next of STAYS.
        """
        self.aged = 0
        """Every event up to this one is older than its days."""
        self.sized_at = 0
        """When the last event was removed by size, by the history's clock; 0: none ever was."""
        self.removed_by_size = 0
        """Events, since the start."""

    def turn(self, database: sqlite3.Connection, now: int, keep: float, most: float) -> int:
        """Remove a slice of what is older than `keep` ms at `now`, or beyond `most` bytes.

        Return as how many transactions it counts; 0: nothing is left to do. Raises sqlite3.Error.
        """
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (free,) = database.execute("PRAGMA freelist_count").fetchone()
        used = (pages - free) * PAGE
        if removed := self._by_age(database, now, now - keep):
            return removed
        if self._shrinking or used > most * FULL:
            if not self._shrinking:
                self._shrinking, self._tier, self._through = True, REPEATS, 0
            self._shrinking = used > most * ROOM
            if self._shrinking and (removed := self._by_size(database, now, most)):
                return removed
        if free and (pages * PAGE > most or free > max(pages // 4, 256)):
            database.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
            return PAGES // PAGES_A_WRITE
        return 0

    def _by_age(self, database: sqlite3.Connection, now: int, before: float) -> int:
        rows = database.execute("SELECT sequence, at FROM event ORDER BY sequence LIMIT ?", (SLICE,)).fetchall()
        if not rows:
            return 0
        ages = Ages(_shifts(database, rows[0][0], rows[-1][0]), now)
        last = 0
        for sequence, at in rows:
            if ages.lived(sequence, at) >= before:
                break
            last = sequence
        if last:
            _remove_through(database, last, "aged = max(aged, ?)", last)
            self.aged = last
        return 1 + SLICE // EVENTS_A_PAGE if last else 0

    def _by_size(self, database: sqlite3.Connection, now: int, most: float) -> int:
        if self._tier == REPEATS:
            return self._repeats(database, now)
        if self._tier < len(STAYS):
            return self._strangers(database, now, most)
        rows = database.execute("SELECT sequence FROM event ORDER BY sequence LIMIT ?", (SLICE,)).fetchall()
        if not rows:
            self._shrinking = False
            return 0
        _remove_through(database, rows[-1][0], "sized_at = ?", now)
        self._count(len(rows), now)
        return 1 + SLICE // EVENTS_A_PAGE

    def _repeats(self, database: sqlite3.Connection, now: int) -> int:
        rows = database.execute(LABELS, (self._through, SLICE)).fetchall()
        hours: dict[tuple[int, int], list[int]] = {}
        for sequence, mac, at in rows:
            hours.setdefault((mac, at // HOUR), []).append(sequence)
        found = sorted(number for numbers in hours.values() for number in numbers[1:-1])
        if len(found) <= REMOVED:
            self._tier, self._through = (REPEATS, rows[-1][0]) if len(rows) == SLICE else (0, 0)
        self._remove(database, found[:REMOVED], now)
        return 1 + len(found[:REMOVED]) // 16

    def _remove(self, database: sqlite3.Connection, numbers: Sequence[int], now: int) -> None:
        """Remove single events: a client that resumes from before the last of them gets a fresh snapshot."""
        if numbers:
            with transaction(database):
                database.executemany("DELETE FROM event WHERE sequence = ?", [(number,) for number in numbers])
                database.execute("UPDATE state SET hole = max(hole, ?), sized_at = ?", (numbers[-1], now))
            self._count(len(numbers), now)

    def _count(self, removed: int, now: int) -> None:
        self.removed_by_size += removed
        self.sized_at = now

    def _strangers(self, database: sqlite3.Connection, now: int, most: float) -> int:
        if not self._through:
            self._end = _settled(database, now, most)
        rows = database.execute(
            "SELECT max(sequence), mac FROM (SELECT sequence, mac FROM event WHERE sequence > ? AND sequence <= ? "
            "ORDER BY sequence LIMIT ?) GROUP BY mac", (self._through, self._end, LOOKED_AT),
        ).fetchall()  # fmt: skip
        if not rows:
            self._tier, self._through = self._tier + 1, 0
            return 1
        enough = STAYS[self._tier]
        strangers = [mac for _, mac in rows if mac is not None and self._stay(mac) < enough]
        through = max(sequence for sequence, _ in rows)
        found = []
        if strangers:
            given = (self._through, through, json.dumps(strangers), REMOVED)
            found = [sequence for (sequence,) in database.execute(OF_THESE, given)]
        self._remove(database, found, now)
        self._through = through if len(found) < REMOVED else found[-1]
        return 1 + len(found) // 16


def _settled(database: sqlite3.Connection, now: int, most: float) -> int:
    """Return the last number that is not one of the newest events: see RECENT, RESUMED and RECENT_SHARE."""
    (last,) = database.execute("SELECT ifnull(max(sequence), 0) FROM event").fetchone()
    below: int = max(last - int(most / RECENT_SHARE / EVENT), 0)
    above = max(last - RESUMED, below)
    while below < above:
        middle = (below + above + 1) // 2
        before = "SELECT sequence, at FROM event WHERE sequence <= ? ORDER BY sequence DESC LIMIT 1"
        found = database.execute(before, (middle,)).fetchone()
        if found is None or Ages(_shifts(database, found[0], found[0]), now).lived(*found) < now - RECENT:
            below = middle
        else:
            above = middle - 1
    return below


def _shifts(database: sqlite3.Connection, first: int, last: int) -> list[Shift]:
    """Return the shifts that hold for these events, and the one after them."""
    text = (
        "SELECT sequence, lived, ahead FROM shift WHERE sequence >= "
        "ifnull((SELECT max(sequence) FROM shift WHERE sequence <= ?), 0) AND sequence <= "
        "ifnull((SELECT min(sequence) FROM shift WHERE sequence > ?), ?) ORDER BY sequence"
    )
    return [Shift(*row) for row in database.execute(text, (first, last, last))]


def _remove_through(database: sqlite3.Connection, last: int, state: str, value: int) -> None:
    """Remove every event up to `last`: a client that resumes from before it gets a fresh snapshot."""
    with transaction(database):
        database.execute("DELETE FROM event WHERE sequence <= ?", (last,))
        database.execute(
            "DELETE FROM shift WHERE sequence < (SELECT max(sequence) FROM shift WHERE sequence <= ?)", (last + 1,)
        )
        database.execute(f"UPDATE state SET floor = max(floor, ?), {state}", (last, value))  # noqa: S608 - ours
