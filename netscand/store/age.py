"""Age of events, whatever the clock is set to (FAULTS F12).

The history has a clock of its own, which nobody sets: it counts milliseconds while this machine is on or asleep. It
starts with the wall clock's time when the history is made, and runs on while netscand is stopped. While the machine is
off it stands still: there is no clock to trust that says for how long that was.

An event is stored with the wall clock's stamp, right or wrong. Each time that the wall clock was set, a row of `shift`
says by how much it is ahead from that event on; so the age of every event is known without believing any stamp.
"""

import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Sequence
from time import CLOCK_BOOTTIME, clock_gettime, monotonic
from typing import NamedTuple

from netscand.store.schema import transaction
from netscand.store.work import Clock

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
