"""What a device's silences say of the patience it needs.

Only silences count that the device fell into though it was asked, and came back from. Each counts one, and half as
much five days later; patience is 1.4 times the longest that was met four times of late. So a few accidents teach
nothing, and what looks like an absence (it ended in a join, or was very long) counts only when it is a habit.
`tests/bench/simulation` is the judge of every number here.
"""

import struct
from math import isfinite, log2
from typing import NamedTuple

HOUR = 3600.0
DAY = 24 * HOUR

SHORTEST = 8.0
"""A shorter silence says nothing: an answer that came late."""

LONG = 900.0
"""A longer one looks like an absence …"""

LONGEST = HOUR
"""… and one beyond this, or beyond the most patience that the rules allow, is one."""

BUCKETS = 8
"""The ledger's fineness: buckets in each octave of seconds from SHORTEST on."""

HALF_LIFE = 5 * DAY
"""A silence counts one, and by half less after so long."""

OFTEN = 3.5
MARGIN = 1.4
"""Patience is MARGIN times the longest silence that, with all longer ones, counts OFTEN: four of late."""

SETTLED = 5.0
"""Seconds after its return in which a join still tells that it had left: IPv6 and mDNS often speak before DHCP does."""

ODD_HALF_LIFE = DAY
ALIKE = BUCKETS // 2
HABIT = 7.0
"""A silence that ended in a join, or was above LONG, looks like an absence: it is kept apart, and fades by half in a
day. HABIT of them within ALIKE buckets are no absences."""

REVIEW = 600.0
"""Seconds after which what was learned is looked at again, if nothing new is."""

NEW = 900.0
NEW_PATIENCE = 90.0
"""For so many seconds a device is new, and nothing is known of its silences: wait at least so long."""

SLEEPER = 60.0
SLEEPER_PATIENCE = 600.0
"""Whose patience would be above SLEEPER in the first day falls asleep, and its longest sleep is still to come."""

FORM = 1
"""The first byte of what `kept` gives."""

Ledger = dict[int, float] | None
"""How many silences of each length, by bucket; those of long ago count less. None: none yet."""


class Silence(NamedTuple):
    """One that ended `at`, `seconds` long."""

    seconds: float
    at: float


class Silences:
    """One device's, from `now` on, when it was first heard."""

    __slots__ = ("_born", "_ended", "_faded_at", "_ledger", "_odd", "_review_at", "patience")

    def __init__(self, now: float) -> None:
        self._born = self._faded_at = now
        self._ledger: Ledger = None
        self._odd: Ledger = None
        self._ended: Silence | None = None
        self._review_at = now + NEW
        self.patience = NEW_PATIENCE
        """Seconds, between no bounds but reason's; 0: nothing speaks against the least."""

    def heard(self, at: float, *, joined: bool) -> None:
        """Take a sign of life: a join soon after a silence tells that it was an absence."""
        ended = self._ended
        if ended and (joined or at - ended.at > SETTLED):
            self._learn(ended, odd=joined and at - ended.at <= SETTLED)
            self._ended = None
        if at >= self._review_at:
            self._review(at)

    def ended(self, seconds: float, at: float, *, joined: bool, most: float) -> None:
        """Take a silence, though asked, that ended `at`, in a join or not. `most`: the most patience allowed."""
        if SHORTEST <= seconds <= max(LONGEST, most):
            if joined:
                self._learn(Silence(seconds, at), odd=True)
            else:
                self._ended = Silence(seconds, at)

    def kept(self) -> bytes:
        """Give what was learned, for the history; `recalled` takes it."""
        age = struct.pack("<Bd", FORM, self._faded_at - self._born)
        return age + b"".join(struct.pack("<Hf", *entry) for entry in sorted((self._ledger or {}).items()))

    @classmethod
    def recalled(cls, now: float, kept: bytes, age: float) -> "Silences":
        """Make them anew from what `kept` gave, `age` seconds ago. Bytes without sense teach nothing."""
        silences = cls(now)
        try:
            form, known_for = struct.unpack_from("<Bd", kept)
            ledger = dict(struct.iter_unpack("<Hf", kept[struct.calcsize("<Bd") :]))
        except struct.error:
            return silences
        numbers = (known_for, age, *ledger.values())
        if form == FORM and all(isfinite(each) and each >= 0 for each in numbers) and max(ledger, default=0) < 256:
            silences._faded_at = now - age
            silences._born = now - age - known_for
            silences._ledger = ledger or None
            silences._review(now)
        return silences

    def _learn(self, silence: Silence, *, odd: bool) -> None:
        seconds, at = silence
        self._fade(at)
        bucket = int(BUCKETS * log2(seconds / SHORTEST))
        if odd or seconds > LONG:
            self._odd = _entered(self._odd, bucket)
            alike = sum(count for other, count in self._odd.items() if abs(other - bucket) <= ALIKE)
            if alike < HABIT - 0.5:  # those of today have faded a little
                return
        self._ledger = _entered(self._ledger, bucket)
        self._review(at)

    def _fade(self, now: float) -> None:
        gone = now - self._faded_at
        self._ledger = _faded(self._ledger, 0.5 ** (gone / HALF_LIFE))
        self._odd = _faded(self._odd, 0.5 ** (gone / ODD_HALF_LIFE))
        self._faded_at = now

    def _review(self, now: float) -> None:
        """What the ledger says of patience, here and now."""
        self._fade(now)
        age = now - self._born
        self._review_at = now + REVIEW if age >= NEW else self._born + NEW
        often = min(0.5 + age / DAY, OFTEN)  # in its first day the longest silence counts, were it the only one
        met = patience = 0.0
        for bucket, count in sorted((self._ledger or {}).items(), reverse=True):
            met += count
            if met >= often:
                patience = MARGIN * SHORTEST * 2 ** ((bucket + 1) / BUCKETS)
                break
        if age < DAY and patience > SLEEPER:
            patience = max(patience, SLEEPER_PATIENCE)
        if age < NEW:
            patience = max(patience, NEW_PATIENCE)
        self.patience = patience


def _entered(ledger: Ledger, bucket: int) -> dict[int, float]:
    ledger = ledger or {}
    ledger[bucket] = ledger.get(bucket, 0.0) + 1
    return ledger


def _faded(ledger: Ledger, left: float) -> Ledger:
    return {bucket: count * left for bucket, count in ledger.items() if count * left > 0.05} if ledger else None
