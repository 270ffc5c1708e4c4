"""Delays between attempts: longer after each failure, and not the same for all that wait."""

import asyncio
import random
from collections.abc import Callable

FIRST = 1.0
"""Seconds of the first delay, at most."""
LONGEST = 60.0
"""Seconds of any delay, at most."""


class Backoff:
    """Exponential delay with jitter: each is between half of a bound and the bound, which doubles up to `longest`."""

    def __init__(
        self, first: float = FIRST, longest: float = LONGEST, random_part: Callable[[], float] = random.random
    ) -> None:
        self._first = first
        self._longest = longest
        self._random_part = random_part
        self._bound = first

    def reset(self) -> None:
        """Start again with the shortest delay: an attempt succeeded."""
        self._bound = self._first

    def next_delay(self) -> float:
        """Return the seconds before the next attempt."""
        delay = self._bound * (1 + self._random_part()) / 2
        self._bound = min(2 * self._bound, self._longest)
        return delay

    async def sleep(self) -> None:
        """Wait before the next attempt."""
        await asyncio.sleep(self.next_delay())
