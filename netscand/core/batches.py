"""Deferred work over all devices, a batch at a time, so that a large network does not block the loop."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop

from netscand.core.model import Device, Event, Mac

BATCH = 512
"""Devices handled in one go: 2 to 3 ms."""

EVENT_COST = 4
"""Cost of an event, in devices: it is stored and sent to the clients."""

Action = Callable[[Device], Event | None]


class DeferredBatches:
    """Queue of actions on many devices; on a small network it is empty, because actions finish when they are added."""

    def __init__(self) -> None:
        self._pending: deque[tuple[Iterator[Device], Action]] = deque()

    def __bool__(self) -> bool:
        """Return whether actions are pending."""
        return bool(self._pending)

    def add(self, devices: Iterable[Device], do: Action) -> list[Event]:
        """Add an action on each device; if no other is pending, run its first batch at once, and return the events.

        `devices` is iterated later, so it must not change meanwhile. The action may run twice on a device.
        """
        waits = bool(self._pending)  # the events of the earlier ones are not the caller's
        self._pending.append((iter(devices), do))
        return [] if waits else self.run_some()

    def run_some(self) -> list[Event]:
        """Run one batch; return its events."""
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
        """Run all pending actions on one device now, before it changes otherwise."""
        return [event for _, do in self._pending if (event := do(device)) is not None]


def by_mac(macs: Iterable[Mac]) -> Iterator[Mac]:
    """Yield MACs in order, from a heap: sorting 65,533 at once blocks the loop; heapify takes 3 ms."""
    heap = list(macs)
    heapify(heap)
    while heap:
        yield heappop(heap)
