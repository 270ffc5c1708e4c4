"""How many frames may leave: a strict bound on every second, not on the average (FAULTS T20)."""

from math import inf

BURST_S = 0.02
"""Frames of so many seconds may leave at once, to make up for a late wake-up."""

MARGIN = 0.97
"""Part of the rate that is used: a frame leaves up to a slice later than it was counted."""

SOONEST = 0.0005
"""Seconds: waking earlier than this is not worth it, and a rounded sum must not ask for now again."""


class Bucket:
    """At most `rate` frames in any second; 0: no bound.

    What a token bucket lets out in a second is its depth and its refill together, so the depth is taken off the refill.
    """

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._depth = max(1.0, rate * BURST_S)
        self._refill = max(rate * MARGIN - self._depth, rate / 2)
        self._tokens = self._depth
        self._at = now

    def at(self, rate: float, now: float) -> "Bucket":
        """One for another rate, or the same: what left just now counts. It begins empty, for no second is let off."""
        if rate == self.rate:
            return self
        other = Bucket(rate, now)
        other._tokens = 0.0
        return other

    def room(self, now: float) -> float:
        """Frames that may leave now."""
        if not self.rate:
            return inf
        if now > self._at:
            self._tokens = min(self._depth, self._tokens + (now - self._at) * self._refill)
            self._at = now
        return self._tokens

    def take(self) -> None:
        """Count one frame; `room` was asked before."""
        self._tokens -= 1.0

    def when(self, now: float, frames: float = 1.0) -> float:
        """When there will be room for so many frames, or for as many as ever."""
        missing = min(frames, self._depth) - self.room(now)
        return now if missing <= 0 else now + max(missing / self._refill, SOONEST)


class Allowance(Bucket):
    """`depth` frames at once, and `rate` a second after that; a rate of 0: no bound."""

    def __init__(self, depth: float, rate: float, now: float, before: "Allowance | None" = None) -> None:
        """Take the place of `before`, if there is one: what left counts."""
        super().__init__(rate, now)
        self._depth = depth
        self._refill = rate
        self._tokens = depth if before is None else min(depth, before.room(now))


def own_bucket(before: Bucket | None, rate: float | None, now: float) -> Bucket | None:
    """A network's own, for a `rate` of its own; None: it has none, and shares that of all."""
    if rate is None:
        return None
    return before.at(rate, now) if before else Bucket(rate, now)
