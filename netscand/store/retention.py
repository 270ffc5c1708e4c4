"""Retention: how old events are, whatever the clock says, and which are removed."""

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Sequence
from time import CLOCK_BOOTTIME, clock_gettime, monotonic
from typing import NamedTuple

from netscand.core.model import EventKind
from netscand.store.database import PAGE, RARE, transaction
from netscand.store.rows import KINDS

# ---- age -----------------------------------------------------------------------------------------------------------
# Age of events, whatever the clock is set to (FAULTS F12).
#
# The history has a clock of its own, which nobody sets: it counts milliseconds while this machine is on or asleep. It
# starts with the wall clock's time when the history is made, and runs on while netscand is stopped. While the machine
# is off it stands still: there is no clock to trust that says for how long that was.
#
# An event is stored with the wall clock's stamp, right or wrong. Each time that the wall clock was set, a row of
# `shift` says by how much it is ahead from that event on; so the age of every event is known without believing any
# stamp.


class Clock(NamedTuple):
    """How the history's own clock stands (store/retention.py), and by how much the wall clock was last ahead of it."""

    lived: int
    boot_at: int
    ahead: int


SET = 1_000
"""Milliseconds by which the wall clock moves when it is set; less is read wrong, or smoothed by NTP."""

DAY = 86_400_000

OFF = 60 * DAY
"""Milliseconds that a machine is off for at once, and believed to be."""

BACK = 60_000
"""Milliseconds by which a stamp may lie before the one before it, in a history that no such clock went with."""


class Shift(NamedTuple):
    """From event `sequence` on, which came at `lived` by the history's clock, the wall clock was `ahead` of it."""

    sequence: int
    lived: int
    ahead: int


class AgeClock:
    """The history's clock; `open` sets it going."""

    def __init__(self, boottime: Callable[[], float] = lambda: clock_gettime(CLOCK_BOOTTIME)) -> None:
        self._boottime = boottime
        self._offset = 0
        self.of_monotonic = 0
        """Its milliseconds minus those of the monotonic clock; they part while the machine sleeps: see `sync`."""

    def open(self, lived: int, boot_at: int = 0) -> None:
        """Go on from `lived`, read when this boot, or one before it, had lasted `boot_at` milliseconds.

        Since then at least what this boot lasted longer has passed: exact in the same boot, too little after another.
        """
        self._offset = lived - min(boot_at, self.boot_at())
        self.sync()

    def boot_at(self) -> int:
        """Milliseconds since this machine was booted, sleep included."""
        return int(self._boottime() * 1000)

    def now(self) -> int:
        """Its time."""
        return self.boot_at() + self._offset

    def sync(self) -> None:
        """Notice that the machine slept."""
        self.of_monotonic = self.now() - int(monotonic() * 1000)


class Ages:
    """The age of each of a run of events, by the shifts that concern them."""

    def __init__(self, shifts: Sequence[Shift], now: int) -> None:
        self._shifts = shifts
        self._numbers = [shift.sequence for shift in shifts]
        self._now = now

    def lived(self, sequence: int, at: int) -> int:
        """When an event with this stamp came, by the history's clock."""
        after = bisect_right(self._numbers, sequence)
        end = self._shifts[after].lived if after < len(self._shifts) else self._now
        if not after:
            return min(at, end)
        shift = self._shifts[after - 1]
        return min(max(at - shift.ahead, shift.lived), max(end, shift.lived))


class TrueTimes:
    """Stamps as they would have been, had the wall clock always been right: for what is counted, not for what is shown.

    What it shows now is believed. Before, it can have been ahead of the history's clock by less, if the machine was off
    since (no more than OFF at a time), and never by more: else it was wrong.
    """

    def __init__(self, shifts: Sequence[Shift], ahead: int) -> None:
        self._numbers = [shift.sequence for shift in shifts]
        self._error = [0]
        """Of the stamps before the first shift, and from each of them on."""
        for was in (*(shift.ahead for shift in reversed(shifts)), 0):
            if not 0 <= ahead - was <= OFF:
                self._error.append(was - ahead)
            else:
                self._error.append(0)
                ahead = was
        self._error = self._error[:0:-1]

    def of(self, sequence: int, at: int) -> int:
        """The true stamp of an event."""
        return at - self._error[bisect_right(self._numbers, sequence)]


def estimate(database: sqlite3.Connection, wall: int) -> tuple[int, list[Shift]]:
    """Return what the clock of a history that had none shows at `wall`, and its shifts. Raises sqlite3.Error.

    A stamp far from the one before is taken for a clock that was set, and no time for having passed: what is kept for
    longer than need be does no harm. So is a day without an event.
    """
    shifts: list[Shift] = []
    ahead, lived = 0, None
    for sequence, at in database.execute("SELECT sequence, at FROM event ORDER BY sequence"):
        if lived is not None and not -BACK <= at - ahead - lived <= DAY:
            ahead = at - lived
            shifts.append(Shift(sequence, lived, ahead))
        lived = max(at - ahead, lived if lived is not None else at)
    if lived is None:
        return wall, []
    return lived + min(max(wall - ahead - lived, 0), DAY), shifts


def clock_of(database: sqlite3.Connection, wall: int) -> Clock:
    """Return how the clock of a history stands; one that never ran begins now, at `wall`. Raises sqlite3.Error."""
    lived, boot_at = database.execute("SELECT lived, boot_at FROM state").fetchone()
    if not lived:
        (lived, shifts), boot_at = estimate(database, wall), AgeClock().boot_at()
        with transaction(database):
            database.executemany("REPLACE INTO shift VALUES (?, ?, ?)", shifts)
            database.execute("UPDATE state SET lived = ?, boot_at = ?", (lived, boot_at))
    last = database.execute("SELECT ahead FROM shift ORDER BY sequence DESC LIMIT 1").fetchone()
    return Clock(lived, boot_at, last[0] if last else 0)


# ---- trim ----------------------------------------------------------------------------------------------------------
# Removes what the history may no longer keep, by age and by size, a slice at a time, so that events pass in between.
#
# By age, the oldest events go. By size, the events of strangers go first, or one host could push out in an hour what
# happened to everybody else in 90 days (FAULTS T11):
#
# 1. of a device that was labelled again and again in an hour, the events between the first and the last of that hour;
# 2. events of MACs that are no device any more;
# 3. events of devices that were here for less than a day, a week, a month, and that no user said anything of;
# 4. the oldest events, whatever they concern.
#
# Within each of these the oldest go first, until there is some room.
#
# 2 and 3 leave the newest events alone (`_settled`): who is new today is what the history is for, and whoever resumes
# from before a removed event gets a fresh list.

SLICE = 500
"""Events removed at once by age: some milliseconds."""

LOOKED_AT, REMOVED = 2_000, 100
"""Events looked at, and removed, at once by size: the same, for their entries in the index stand far apart."""

FULL, ROOM = 0.95, 0.90
"""Of the size that is allowed: events are removed from here on, and until it is no more than that."""

DAY_SECONDS = 86_400.0

HOUR = 3_600_000
"""Milliseconds."""

LABELS = (
    f"SELECT sequence, mac, at FROM event WHERE {RARE} AND kind = {KINDS[EventKind.LABELLED]} "  # noqa: S608 - ours
    "AND sequence > ? ORDER BY sequence LIMIT ?"
)

REPEATS = -1
"""Comes before the first of STAYS."""

STAYS = (0.0, DAY_SECONDS, 7 * DAY_SECONDS, 30 * DAY_SECONDS)
"""Seconds that a device was here, from the first time to the last: of those with less the events go, in turn."""

RECENT = DAY_SECONDS * 1000
"""Milliseconds, by the history's clock, for which an event of a stranger is as good as anybody's."""

RESUMED = 10_000
"""Numbers before the last for which that holds however old they are; a stream resumes over so many
(serve/history_api.py)."""

RECENT_SHARE, EVENT = 8, 512
"""But no more of the newest than take this part of the size that is allowed, at so many bytes each.

A day of a flood (430 events a second) is more than the whole history: without this bound it would stay, and the
household's 90 days would go.
"""

PAGES = 128
"""Free pages that are given back at once."""

PAGES_A_WRITE = 4
"""Of what is removed, that count as one transaction of the log's: the keeper copies it in time."""

OF_THESE = (
    "SELECT sequence FROM event WHERE sequence > ? AND sequence <= ? AND mac IN (SELECT value FROM json_each(?)) "
    "ORDER BY sequence LIMIT ?"
)


class Retention:
    """Keeps a database within its bounds; `turn` does a slice of it.

    `stay` gives for how many seconds the device of a MAC (store/rows.py: as a number) was here: less than 0 where there
    is no such device, infinite where a user said anything of it. It is called on the thread of `turn`.
    """

    def __init__(self, stay: Callable[[int], float]) -> None:
        self._stay = stay
        self._shrinking = False
        self._tier = self._through = self._end = 0
        """Where the search is: at REPEATS or which of STAYS, the last event looked at, and the last to be.

        Without an end it would follow a flood for ever, and never come to the next of STAYS.
        """
        self.aged = 0
        """Every event up to this one is older than its days."""
        self.sized_at = 0
        """When the last event was removed by size, by the history's clock; 0: none ever was."""
        self.removed_by_size = 0
        """Events, since the start."""

    def turn(self, database: sqlite3.Connection, now: int, keep: float, most: float) -> int:
        """Remove a slice of what is older than `keep` ms at `now`, or beyond `most` bytes.

        Return how many transactions of the log it was worth; 0: nothing is left to do. Raises sqlite3.Error.
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
        return 1 + SLICE // 64 if last else 0

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
        return 1 + SLICE // 64

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
        """Remove events that others stand between: who resumes from before the last gets a fresh snapshot."""
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
    """The last number that is not of the newest events: see RECENT, RESUMED and RECENT_SHARE."""
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
    """The shifts that hold for these events, and the one that ends them."""
    text = (
        "SELECT sequence, lived, ahead FROM shift WHERE sequence >= "
        "ifnull((SELECT max(sequence) FROM shift WHERE sequence <= ?), 0) AND sequence <= "
        "ifnull((SELECT min(sequence) FROM shift WHERE sequence > ?), ?) ORDER BY sequence"
    )
    return [Shift(*row) for row in database.execute(text, (first, last, last))]


def _remove_through(database: sqlite3.Connection, last: int, state: str, value: int) -> None:
    """Remove every event up to `last`: who resumes from before it gets a fresh snapshot."""
    with transaction(database):
        database.execute("DELETE FROM event WHERE sequence <= ?", (last,))
        database.execute(
            "DELETE FROM shift WHERE sequence < (SELECT max(sequence) FROM shift WHERE sequence <= ?)", (last + 1,)
        )
        database.execute(f"UPDATE state SET floor = max(floor, ?), {state}", (last, value))  # noqa: S608 - ours
