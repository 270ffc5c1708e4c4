"""Writes the devices down, in their own time: those that changed within seconds, when each was heard every round.

Events alone would do to bring everything back; the rows of devices keep a start from reading them all, and hold what
makes no event. A round over thousands of devices goes in MAC order, so that it touches each page of the table once.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from math import inf
from time import monotonic

from netscand.core.batches import by_mac
from netscand.core.model import Device, EventKind, Mac, Status, is_annotated
from netscand.core.restore import Memory
from netscand.store.rows import Row, WallClock, device_row, mac_number, mac_of, seen_row
from netscand.store.writer import Alive, Devices

SHOW = 10.0
"""Seconds until the rows of devices show their events: what a start after a kill has to fold in."""

ROUND = 90.0
"""Seconds in which all devices that were heard are written down again, at least."""

A_SECOND = 250
"""Devices that a round visits in a second, at most."""

TAUGHT = 3600.0
"""Seconds in which what the presences learned is written down again."""

NOTHING_LEARNED = 10
"""Bytes of what a presence gives that learned nothing (core/presence.py): not worth a row."""

SLICE = 100
"""Devices that are turned into rows at once: 1 to 2 ms."""

AT_ONCE = 500
"""Rows of when devices were heard in one transaction: two pages, which fewer would write as well."""

AT_THE_END = 10_000
"""Devices that are written down when the daemon stops: a tenth of a second."""


class DeviceRows:
    """`put` hands rows to the writer, `sequence` tells the number of the last event, `forget` removes a device.

    `alive` says that netscand runs, `aged` up to which number all events are older than the days they are kept.
    """

    def __init__(
        self,
        devices: Mapping[Mac, Device],
        clock: WallClock,
        put: Callable[[Devices], None],
        sequence: Callable[[], int],
        forget: Callable[[Mac], None],
        alive: Callable[[], Alive],
        aged: Callable[[], int],
    ) -> None:
        self.losses = 0
        """As of the writer's last report."""
        self._alive = alive
        self._aged = aged
        self._absent: dict[Mac, int] = {}
        """Who was offline at the start, and the last event that its row showed: no stamp of its time is believed."""
        self._devices = devices
        self._clock = clock
        self._put = put
        self._sequence = sequence
        self._forget = forget
        self.keep = inf
        """Seconds after which nobody need remember a device that was not heard."""
        self._changed: set[Mac] = set()
        self._gone: set[Mac] = set()
        self._soon = asyncio.Event()
        """Rows are to be written at once."""
        self._round_at = self._taught_at = monotonic()

    def begin(self, memory: Memory) -> None:
        """Take what a start finds."""
        for device in memory.devices:
            if device.status is Status.OFFLINE:
                self._absent[device.mac] = device.sequence
        for recorded in memory.events:  # no row shows them yet
            if recorded.mac is not None:
                self.note(recorded.event.kind, recorded.mac)
                if recorded.event.kind is EventKind.OFFLINE:
                    self._absent[recorded.mac] = recorded.sequence

    def note(self, kind: EventKind, mac: Mac) -> None:
        """Take an event: its device's row no longer shows it."""
        self._absent.pop(mac, None)
        if kind is EventKind.FORGOTTEN:
            self._changed.discard(mac)
            self._gone.add(mac)
        else:
            self._changed.add(mac)
            self._gone.discard(mac)

    def note_all(self) -> None:
        """Every row is to be written again: some were lost, or the database is a new one."""
        self._changed.update(self._devices)
        self._soon.set()

    async def run(self) -> None:
        """Until cancelled. First what only events tell of: who is killed every few seconds had ever more to read."""
        while True:
            await self.show()
            if monotonic() >= self._round_at + ROUND:
                await self._round()
            with suppress(TimeoutError):
                async with asyncio.timeout(SHOW):
                    await self._soon.wait()
            self._soon.clear()

    async def show(self) -> None:
        """Let the rows show every event up to now."""
        through = self._sequence()
        changed, self._changed = self._changed, set()
        gone, self._gone = self._gone, set()
        if not changed and not gone:
            return
        for macs in slices(changed):
            self._put(Devices(rows=self._rows(macs), seen=self._seen(macs)))
            await asyncio.sleep(0)
        self._put(Devices(gone=[mac_number(mac) for mac in gone], shown=through, losses=self.losses))

    def show_at_once(self) -> None:
        """The same, with what presences learned and when each was heard, for the end, when the loop has time."""
        through: int | None = self._sequence()
        heard = {mac for mac, device in self._devices.items() if device.last_seen > self._round_at}
        if len(heard | self._changed) <= AT_THE_END:
            self._changed.update(mac for mac in heard if _taught(self._devices[mac]))
        else:  # a stop does not wait for thousands: the next start folds the events in
            heard, through, self._changed = set(), None, set()
        rows = self._rows(sorted(self._changed))
        gone = [mac_number(mac) for mac in self._gone] if through is not None else []
        seen = self._seen(sorted(heard | self._changed))
        self._put(Devices(rows, seen, gone, through, self._alive(), self.losses))

    async def _round(self) -> None:
        devices, now = self._devices, monotonic()
        since, self._round_at = self._round_at, now
        taught = now >= self._taught_at + TAUGHT
        if taught:
            self._taught_at = now
        seen: list[Row] = []
        for macs in slices(devices):
            for mac in macs:
                if (old := devices.get(mac)) and self._outdated(old, now - self.keep):
                    self._forget(mac)
            heard = [device for mac in macs if (device := devices.get(mac)) and device.last_seen > since]
            if taught:
                self._changed.update(device.mac for device in heard if _taught(device))
            seen += [seen_row(device, self._clock) for device in heard]
            if len(seen) >= AT_ONCE:
                self._put(Devices(seen=seen))
                seen = []
            await asyncio.sleep(SLICE / A_SECOND if len(devices) > A_SECOND else 0)
        self._put(Devices(seen=seen, alive=self._alive()))

    def stay(self, mac: int) -> float:
        """For how many seconds a device was here; less than 0: there is none; infinite: a user said something of it.

        On any thread. A new device has its place before its first event is stored.
        """
        device = self._devices.get(mac_of(mac))
        if device is None:
            return -1.0
        return inf if is_annotated(device) or device.is_self else abs(device.last_seen - device.first_seen)

    def _outdated(self, device: Device, before: float) -> bool:
        """Whether it was offline for as long as events are kept, and no user said anything of it."""
        if device.status is not Status.OFFLINE or is_annotated(device) or device.is_self:
            return False
        absent = self._absent.get(device.mac)
        if absent is not None:
            return absent <= self._aged()
        return max(device.last_seen, device.status_since) < before

    def _rows(self, macs: Iterable[Mac]) -> list[Row]:
        devices, sequence, clock = self._devices, self._sequence(), self._clock
        now = clock.milliseconds(monotonic())
        return [device_row(devices[mac], sequence, now, clock) for mac in macs if mac in devices]

    def _seen(self, macs: Iterable[Mac]) -> list[Row]:
        devices, clock = self._devices, self._clock
        return [seen_row(devices[mac], clock) for mac in macs if mac in devices]


def _taught(device: Device) -> bool:
    return len(device.presence.learned()) > NOTHING_LEARNED


def slices(macs: Iterable[Mac]) -> Iterator[list[Mac]]:
    """Some at a time, in order."""
    ordered = by_mac(macs)
    while part := list(islice(ordered, SLICE)):
        yield part
