"""Measurements of the server for `/metrics`, collected at almost no cost."""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from math import inf
from selectors import EpollSelector, SelectorKey
from time import monotonic

LOOK = 1.0
"""Seconds between two measurements of the loop's lag."""

LONG_TURN = 0.01
"""Seconds from which on a turn of the loop is counted: no client is served meanwhile."""


def until_next(seconds: float) -> float:
    """Return the time until the next multiple of `seconds`: all periodic work shares one wake-up."""
    return seconds - monotonic() % seconds


class Histogram:
    """Prometheus histogram: buckets of values up to their bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = (*bounds, inf)
        self.counts = [0] * len(self.bounds)
        self.sum = 0.0

    def record(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[float, int]]:
        """Return each bound, with the number of values up to it."""
        found, so_far = [], 0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            so_far += count
            found.append((bound, so_far))
        return found


class Turns:
    """Durations of the turns of the loop that took LONG_TURN or longer."""

    BOUNDS = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

    def __init__(self) -> None:
        self.lengths = Histogram(self.BOUNDS)
        self.longest = 0.0

    def record(self, seconds: float) -> None:
        """Count a turn."""
        self.lengths.record(seconds)
        self.longest = max(self.longest, seconds)

    def reset(self) -> None:
        """Remove all turns so far: no client is served during the start."""
        self.lengths = Histogram(self.BOUNDS)
        self.longest = 0.0


class TimedSelector(EpollSelector):
    """Selector that measures the turns of the loop, from the end of one wait to the beginning of the next."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns
        self._woke_at = monotonic()

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait for descriptors, as asyncio does once a turn."""
        seconds = monotonic() - self._woke_at
        if seconds >= LONG_TURN:
            self._turns.record(seconds)
        ready = super().select(timeout)
        self._woke_at = monotonic()
        return ready


class Measurements:
    """Measurements of the server."""

    def __init__(self) -> None:
        self.event_lag = Histogram((0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0))
        """Seconds from a frame to the sending of the event that it caused."""
        self.loop_lag = Histogram((0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0))
        """Seconds by which the loop is late."""
        self.turns = Turns()
        """Turns of the loop, if it has a TimedSelector."""
        self.refused_requests: Counter[str] = Counter({"bad_request": 0, "unauthorized": 0, "forbidden": 0})
        """Refused requests by code."""

    async def run(self) -> None:
        """Measure the lag of the loop, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            wait = until_next(LOOK)
            due = loop.time() + wait
            await asyncio.sleep(wait)
            self.loop_lag.record(max(0.0, loop.time() - due))
