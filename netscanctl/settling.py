"""Newcomers that wait until they have a name: events in, events to publish out."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from netscanctl.state import key_of
from netscand.protocol import Device, Event

NAMING = {"renamed", "labelled"}
"""Kinds that give a device a name."""
LEAVING = {"offline", "forgotten"}
"""Kinds after which no name is to be expected."""


class Newcomer(NamedTuple):
    """Discovered device without a name, with the events about it since."""

    until: float
    cursor: str | None
    """Cursor before it was discovered."""
    events: list[Event]


class Settling:
    """Delay of the events of newcomers: until they have a name, but `seconds` at most. 0: no delay."""

    def __init__(self, seconds: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._newcomers: dict[str, Newcomer] = {}
        """By what identifies the device, the first one first."""
        self._changed = asyncio.Event()

    def add(self, events: Sequence[Event], cursor: str | None) -> list[Event]:
        """Take the events of a message; return those to publish now. `cursor`: the one before the message."""
        ready: list[Event] = []
        for event in events:
            device = event.device
            if device is None or not self._seconds:
                ready.append(event)
            elif (key := key_of(device)) in self._newcomers:
                ready += self._add_to(self._newcomers[key], event, device)
            elif event.kind == "discovered" and not _has_name(device):
                self._newcomers[key] = Newcomer(self._clock() + self._seconds, cursor, [event])
                self._changed.set()
            else:
                ready.append(event)
        return ready

    def expired(self) -> list[Event]:
        """Return the events of the newcomers whose time is over."""
        now = self._clock()
        over = [key for key, newcomer in self._newcomers.items() if newcomer.until <= now]
        return [event for key in over for event in self._newcomers.pop(key).events]

    def published(self, cursor: str | None) -> str | None:
        """Return the cursor up to which all events are published; `cursor`: that of the last message."""
        return next((newcomer.cursor for newcomer in self._newcomers.values()), cursor)

    async def wait(self) -> None:
        """Wait until the time of a newcomer may be over."""
        while not self._newcomers:
            self._changed.clear()
            await self._changed.wait()
        first = next(iter(self._newcomers.values()))
        await asyncio.sleep(max(0.0, first.until - self._clock()))

    def _add_to(self, newcomer: Newcomer, event: Event, device: Device) -> list[Event]:
        """Add an event about a newcomer; return all of them if it has settled."""
        events = newcomer.events
        if event.kind not in LEAVING:
            events[0] = replace(events[0], device=device)
        if event.kind != "renamed":  # the first event has the name now
            events.append(event)
        if event.kind in LEAVING or (event.kind in NAMING and _has_name(device)):
            del self._newcomers[key_of(device)]
            return events
        return []


def _has_name(device: Device) -> bool:
    return bool(device.label or device.hostname)
