"""Devices that wait to be asked for their names: network by network, the most urgent first, and nobody behind a crowd.

The urgency of a device (core/names.py) is 0 where a user described it, 1 where it answered us, and else STRANGER.
Strangers have little room of their own, and the newest stay: a real device is no stranger for long, for the next scan
or probe that it answers puts it before them all.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import chain, count
from time import monotonic
from typing import NamedTuple

from netscand.core.model import Ip, Mac

MOST_WAITING, MOST_STRANGERS = 4_096, 512
"""Devices of one urgency that wait on a network, for the first time or again; strangers that do."""

STRANGER = 2


class Wanted(NamedTuple):
    """A device to ask for."""

    mac: Mac
    ip: Ip
    network: str
    is_first: bool = True
    """It is asked for the first time in this round."""


class _Waiting(NamedTuple):
    due: float
    number: int
    wanted: Wanted


class _Line:
    """The queue of one network."""

    def __init__(self, urgency: Callable[[Mac], int]) -> None:
        self._urgency = urgency
        self._heaps: tuple[list[_Waiting], ...] = tuple([] for _ in range(2 * STRANGER))
        """By urgency, and of the same urgency those that are asked for the first time before the others."""

        self._strangers: deque[_Waiting] = deque()

    def __len__(self) -> int:
        return sum(map(len, self._heaps)) + len(self._strangers)

    def put(self, waiting: _Waiting) -> Wanted | None:
        urgency = self._urgency(waiting.wanted.mac)
        if urgency >= STRANGER:
            self._strangers.append(waiting)
            return self._strangers.popleft().wanted if len(self._strangers) > MOST_STRANGERS else None
        heap = self._heaps[2 * urgency + (not waiting.wanted.is_first)]
        if len(heap) >= MOST_WAITING:
            return waiting.wanted
        heappush(heap, waiting)
        return None

    def take(self, now: float, most: int) -> list[Wanted]:
        strangers: list[_Waiting] = []
        for waiting in [each for each in self._strangers if each.due <= now]:
            if self._urgency(waiting.wanted.mac) >= STRANGER:
                strangers.append(waiting)
            else:  # it has answered us since
                self._strangers.remove(waiting)
                self.put(waiting)
        taken: list[Wanted] = []
        for heap in self._heaps:
            while heap and heap[0].due <= now and len(taken) < most:
                taken.append(heappop(heap).wanted)
        for waiting in strangers[: most - len(taken)]:
            self._strangers.remove(waiting)
            taken.append(waiting.wanted)
        return taken

    def next(self) -> Iterator[float]:
        yield from (heap[0].due for heap in self._heaps if heap)
        yield from (waiting.due for waiting in self._strangers)


class NameQueue:
    """The queues of all networks, each of which has its turn. `urgency` of a device may change while it waits."""

    def __init__(self, urgency: Callable[[Mac], int]) -> None:
        self._urgency = urgency
        self._lines: dict[str, _Line] = {}
        self._numbers = count()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def put(self, due: float, wanted: Wanted) -> Wanted | None:
        """Let a device wait until `due`; return the one for which there is no room, if any.

        That is the stranger which has waited longest, or the device itself.
        """
        self._changed.set()
        line = self._lines.get(wanted.network)
        if line is None:
            line = self._lines[wanted.network] = _Line(self._urgency)
        return line.put(_Waiting(due, next(self._numbers), wanted))

    async def get(self, most: int = 1) -> list[list[Wanted]]:
        """Return, as soon as some are due, at most `most` of them of each network; after a turn of the loop."""
        await asyncio.sleep(0)
        while True:
            now = monotonic()
            if taken := [wanted for line in self._lines.values() if (wanted := line.take(now, most))]:
                return taken
            self._lines = {network: line for network, line in self._lines.items() if len(line)}
            self._changed.clear()
            soonest = min(chain.from_iterable(line.next() for line in self._lines.values()), default=None)
            try:
                async with asyncio.timeout(None if soonest is None else max(0.0, soonest - now)):
                    await self._changed.wait()
            except TimeoutError:
                continue
