"""What this room measures of itself as it works, for `/metrics`. Counting costs nothing until somebody asks."""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from math import inf
from time import monotonic

LOOK = 1.0
"""Seconds between two looks at the loop."""


def until_next(seconds: float) -> float:
    """How long to sleep between two looks: to a multiple of that, where others look too: one waking does for all."""
    return seconds - monotonic() % seconds


class Histogram:
    """Values by size, as Prometheus counts them: in buckets that hold what is at most their bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = (*bounds, inf)
        self.counts = [0] * len(self.bounds)
        self.sum = 0.0

    def note(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[float, int]]:
        """Each bound, and how many were at most that."""
        found, so_far = [], 0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            so_far += count
            found.append((bound, so_far))
        return found


class Measures:
    """Of the whole room."""

    def __init__(self) -> None:
        self.event_lag = Histogram((0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0))
        """Seconds from a frame to the event that it made being sent."""
        self.loop_lag = Histogram((0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0))
        """Seconds by which the loop came late to what was due."""
        self.refused_requests: Counter[str] = Counter({"bad_request": 0, "unauthorized": 0, "forbidden": 0})
        """At the door: by code."""

    async def run(self) -> None:
        """Look at the loop, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            wait = until_next(LOOK)
            due = loop.time() + wait
            await asyncio.sleep(wait)
            self.loop_lag.note(max(0.0, loop.time() - due))
