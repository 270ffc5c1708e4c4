"""Devices that wait to be asked for their names: network by network, the most urgent first, and nobody behind a crowd.

Of the same urgency, the one that is due last is first: a crowd of made-up devices, which can answer at once but not
come without end, delays nobody that comes after it.

The urgency of a device (core/names.py) is 0 where a user described it, 1 where it answered us, and else STRANGER.
Strangers have little room of their own, and the newest stay: a real device is no stranger for long, for the next scan
or probe that it answers puts it before them all.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
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
    """Where it was when this was requested. It is asked at the address that it has when its turn comes."""
    network: str
    is_first: bool = True
    """It is asked for the first time in this round."""
    waited: float = 0.0
    """Seconds, after the last question of those that no name server answered."""


class _Waiting(NamedTuple):
    due: float
    number: int
    wanted: Wanted


class _Class(NamedTuple):
    """Devices of one urgency."""

    coming: list[_Waiting]
    """A heap, by when they are due."""
    due: list[_Waiting]
    """The last one is taken first, so that a crowd that came at once delays nobody who comes later."""


class _Line:
    """The queue of one network; each device stands in it once, however many addresses it has."""

    def __init__(self, urgency: Callable[[Mac], int]) -> None:
        self._urgency = urgency
        self._classes = tuple(_Class([], []) for _ in range(2 * STRANGER))
        """By urgency, and of the same urgency those that are asked for the first time before the others."""

        self._strangers: deque[_Waiting] = deque()
        self._places: dict[Mac, _Waiting] = {}
        """The place of each; what else the lists hold is void."""

    def __len__(self) -> int:
        return len(self._places)

    def put(self, waiting: _Waiting) -> Wanted | None:
        wanted = waiting.wanted
        held = self._places.get(wanted.mac)
        if held is not None and held.due <= waiting.due and held.wanted.is_first >= wanted.is_first:
            return None
        urgency = self._urgency(wanted.mac)
        if urgency >= STRANGER:
            self._strangers.append(waiting)
            self._places[wanted.mac] = waiting
            if len(self._strangers) <= MOST_STRANGERS:
                return None
            oldest = self._strangers.popleft()
            return self._leave(oldest)
        coming, due = self._classes[2 * urgency + (not wanted.is_first)]
        if len(coming) + len(due) >= MOST_WAITING:
            coming[:] = filter(self._is_there, coming)
            due[:] = filter(self._is_there, due)
            heapify(coming)
            if len(coming) + len(due) >= MOST_WAITING:
                return wanted
        heappush(coming, waiting)
        self._places[wanted.mac] = waiting
        return None

    def take(self, now: float, most: int) -> list[Wanted]:
        strangers: list[_Waiting] = []
        for waiting in [each for each in self._strangers if each.due <= now]:
            if not self._is_there(waiting):
                self._strangers.remove(waiting)
            elif self._urgency(waiting.wanted.mac) >= STRANGER:
                strangers.append(waiting)
            else:  # it has answered us since
                self._strangers.remove(waiting)
                self._leave(waiting)
                self.put(waiting)
        taken: list[Wanted] = []
        for coming, due in self._classes:
            while coming and coming[0].due <= now:
                due.append(heappop(coming))
            while due and len(taken) < most:
                if wanted := self._leave(due.pop()):
                    taken.append(wanted)
        for waiting in strangers[: most - len(taken)]:
            self._strangers.remove(waiting)
            if wanted := self._leave(waiting):
                taken.append(wanted)
        return taken

    def next(self) -> Iterator[float]:
        yield from (coming[0].due for coming, _ in self._classes if coming)
        yield from (waiting.due for waiting in self._strangers)

    def _is_there(self, waiting: _Waiting) -> bool:
        return self._places.get(waiting.wanted.mac) is waiting

    def _leave(self, waiting: _Waiting) -> Wanted | None:
        """Give its place up; None where it has another one."""
        if not self._is_there(waiting):
            return None
        del self._places[waiting.wanted.mac]
        return waiting.wanted


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
                async with asyncio.timeout(None if soonest is None else max(0.001, soonest - now)):
                    await self._changed.wait()
            except TimeoutError:
                continue
