"""What happened, and may not be told before the history has stored it (law 2); in the order in which it happened."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple


class _Entry(NamedTuple):
    tell: Callable[[], None]
    cursor: str | None
    """An event's; None: it waits only for those before it."""


HOLD = 0.005
"""Seconds of events that are told in one turn of the loop: a commit may bring thousands."""


class Held:
    """A queue that the history opens, event by event. Who reads the devices' state waits here too (`settled`)."""

    def __init__(self) -> None:
        self._queue: deque[_Entry] = deque()
        self._through: str | None = None
        """The last event that may be told, and was not yet."""

    def event(self, tell: Callable[[], None], cursor: str) -> None:
        """Hold an event until `release`."""
        self._queue.append(_Entry(tell, cursor))

    def after(self, tell: Callable[[], None]) -> None:
        """Do this after the events that are held now; at once where there are none."""
        if self._queue:
            self._queue.append(_Entry(tell, None))
        else:
            tell()

    def release(self, cursor: str) -> None:
        """The history has stored everything up to this event: tell it, what is more than can be told now soon."""
        telling = self._through is not None
        self._through = cursor
        if not telling:
            self._tell()

    def _tell(self) -> None:
        try:
            self._tell_some()
        except BaseException:
            self._through = None  # the next release goes on, whatever became of this one
            raise

    def _tell_some(self) -> None:
        queue, through = self._queue, self._through
        until = perf_counter() + HOLD
        while perf_counter() < until:
            if not queue:
                self._through = None
                return
            entry = queue.popleft()
            entry.tell()
            if entry.cursor == through:
                self._through = None
                while queue and queue[0].cursor is None:
                    queue.popleft().tell()
                return
        asyncio.get_running_loop().call_soon(self._tell)

    async def settled(self) -> None:
        """Until everything that happened up to now is stored: only then may its effects be shown."""
        if self._queue:
            future = asyncio.get_running_loop().create_future()
            self.after(lambda: None if future.done() else future.set_result(None))
            await future
