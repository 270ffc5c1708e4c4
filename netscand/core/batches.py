"""Deferred work over all devices, a batch at a time, so that a large network holds nobody up."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop

from netscand.core.model import Device, Event, Mac

# ---- chores --------------------------------------------------------------------------------------------------------
# What is to be done to every device, a few at a time: on a large network, all at once would hold everybody up.

BATCH = 512
"""Devices that are dealt with at once: 2 to 3 ms."""

EVENT_COST = 4
"""An event costs as much as so many of them: it is written to the history and sent to the clients."""

Action = Callable[[Device], Event | None]


class DeferredBatches:
    """Chores that are not over yet; on a small network there are none, for they are done as they are added."""

    def __init__(self) -> None:
        self._pending: deque[tuple[Iterator[Device], Action]] = deque()

    def __bool__(self) -> bool:
        """Whether something is left to do."""
        return bool(self._pending)

    def add(self, devices: Iterable[Device], do: Action) -> list[Event]:
        """Do this to each, perhaps to some twice. They are drawn in their turn: from nothing that changes meanwhile."""
        self._pending.append((iter(devices), do))
        return self.run_some()

    def run_some(self) -> list[Event]:
        """Deal with some more; return what is to be published of them."""
        events: list[Event] = []
        room = BATCH
        while self._pending:
            devices, do = self._pending[0]
            for device in devices:
                event = do(device)
                room -= 1
                if event is not None:
                    events.append(event)
                    room -= EVENT_COST - 1
                if room <= 0:
                    return events
            self._pending.popleft()
        return events

    def apply_pending(self, device: Device) -> list[Event]:
        """Action to this one what is left to do, before anything else happens to it."""
        return [event for _, do in self._pending if (event := do(device)) is not None]


# ---- order ---------------------------------------------------------------------------------------------------------
# Thousands of MACs in order, without holding anybody up for it.


def by_mac(macs: Iterable[Mac]) -> Iterator[Mac]:
    """In order, each as it is drawn: to sort 65,533 at once would hold the loop, to make a heap of them takes 3 ms."""
    heap = list(macs)
    heapify(heap)
    while heap:
        yield heappop(heap)
