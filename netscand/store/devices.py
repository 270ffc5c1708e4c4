"""Rows of devices, written from time to time: changed devices within seconds, when each was last seen every round.

The last event of a device shows it completely. Its row keeps a start from reading all events, and has what makes no
event. A round over thousands of devices goes in MAC order, so that it touches each page of the table once.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from math import inf
from time import monotonic

from netscand.core.annotations import is_annotated
from netscand.core.batches import by_mac
from netscand.core.merged import Merge
from netscand.core.model import Device, EventKind, Mac, Person, Status
from netscand.core.restore import Memory
from netscand.store.rows import Row, WallClock, device_row, mac_number, mac_of, merge_row, person_row, seen_row
from netscand.store.writer import Alive, Devices

SHOW = 10.0
"""Seconds until the rows of devices show their events; a start after a kill reads the events of these."""

ROUND = 90.0
"""Seconds until a device that was seen is written again, at least."""

A_SECOND = 250
"""Maximum devices that a round visits in a second."""

LEARNED = 3600.0
"""Seconds until what presence learned is written again."""

NOTHING_LEARNED = 10
"""Bytes of what a presence returns that learned nothing (core/presence.py): no reason for a row."""

SLICE = 100
"""Devices that become rows at once: 1 to 2 ms."""

AT_ONCE = 500
"""Rows of `seen` in one transaction: two pages, which fewer rows would write as well."""

AT_THE_END = 10_000
"""Devices that are written when the daemon stops: a tenth of a second."""


MERGES, FORGOTTEN = frozenset((EventKind.MERGED, EventKind.SPLIT)), EventKind.FORGOTTEN


class DeviceRows:
    """Table of the devices, kept up to date.

    `put` hands rows to the writer, `sequence` returns the number of the last event, `forget` removes a device, `alive`
    returns the time, `aged` the number up to which all events are older than `keep_days`.
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
        """Devices that were offline at the start, and the last event of each: their time stamps may be wrong."""
        self._devices = devices
        self._clock = clock
        self._put = put
        self._sequence = sequence
        self._forget = forget
        self.keep = inf
        """Seconds after which an offline device is forgotten."""
        self._changed: set[Mac] = set()
        self._gone: set[Mac] = set()
        self._own: set[Mac] = set()
        """MACs of this host that have a row: it has no `discovered` event."""
        self.people: Callable[[], Iterable[Person]] = tuple
        """Returns all people."""
        self.merges: Callable[[], Iterable[Merge]] = tuple
        """Returns all merged MACs."""
        self._people_changed = False
        """The small tables are no longer up to date."""
        self._soon = asyncio.Event()
        """Rows are to be written at once."""
        self._round_at = self._learned_at = monotonic()

    def begin(self, memory: Memory) -> None:
        """Take what a start found."""
        self._people_changed = True  # the tables may be older than the events that a start has read
        self._changed.update(memory.unwritten)
        self._gone.update(memory.gone)
        for device in memory.devices:
            if device.status is Status.OFFLINE:
                self._absent[device.mac] = device.sequence

    def note(self, kind: EventKind, mac: Mac) -> None:
        """Take an event: the row of its device is no longer up to date."""
        if self._absent:
            self._absent.pop(mac, None)
        if kind in MERGES:  # no event shows what an undo needs
            self._people_changed = True
            self._soon.set()
        if kind is FORGOTTEN:
            self._people_changed = True
            self._changed.discard(mac)
            self._gone.add(mac)
        else:
            self._changed.add(mac)
            self._gone.discard(mac)

    def note_people(self) -> None:
        """Take an event about a person: its row is no longer up to date."""
        self._people_changed = True

    def note_all(self) -> None:
        """Write every row again: some were lost, or the database is a new one."""
        self._people_changed = True
        self._changed.update(self._devices)
        self._soon.set()

    async def run(self) -> None:
        """Run until cancelled, beginning with rows that only events show: frequent kills would leave ever more."""
        while True:
            await self.show()
            if monotonic() >= self._round_at + ROUND:
                await self._round()
            with suppress(TimeoutError):
                async with asyncio.timeout(SHOW):
                    await self._soon.wait()
            self._soon.clear()

    async def show(self) -> None:
        """Write rows until they show every event up to now."""
        through = self._sequence()
        changed, self._changed = self._changed, set()
        gone, self._gone = self._gone, set()
        if not changed and not gone and not self._people_changed:
            return
        for macs in slices(changed):
            self._put(Devices(rows=self._rows(macs), seen=self._seen(macs)))
            await asyncio.sleep(0)
        self._put(
            Devices(
                gone=[mac_number(mac) for mac in gone], shown=through, losses=self.losses, tables=self._small_tables()
            )
        )

    def _small_tables(self) -> dict[str, list[Row]]:
        """Return the rows of the small tables that changed."""
        if not self._people_changed:
            return {}
        self._people_changed = False
        return {
            "person": [person_row(person, self._clock) for person in self.people()],
            "merged": [merge_row(merge, self._clock) for merge in self.merges()],
        }

    def show_at_once(self) -> None:
        """Write all rows at the end, with what presence learned and when each device was last seen."""
        through: int | None = self._sequence()
        active = {mac for mac, device in self._devices.items() if device.last_seen > self._round_at}
        if len(active | self._changed) <= AT_THE_END:
            self._changed.update(mac for mac in active if self._needs_row(self._devices[mac], learned=True))
        else:  # a stop does not wait for thousands: the next start reads the events
            active, through, self._changed = set(), None, set()
        rows = self._rows(sorted(self._changed))
        gone = [mac_number(mac) for mac in self._gone] if through is not None else []
        seen = self._seen(sorted(active | self._changed))
        self._put(Devices(rows, seen, gone, through, self._alive(), self.losses, self._small_tables()))

    async def _round(self) -> None:
        devices, now = self._devices, monotonic()
        since, self._round_at = self._round_at, now
        learned = now >= self._learned_at + LEARNED
        if learned:
            self._learned_at = now
        seen: list[Row] = []
        for macs in slices(devices):
            for mac in macs:
                if (old := devices.get(mac)) and self._outdated(old, now - self.keep):
                    self._forget(mac)
            active = [device for mac in macs if (device := devices.get(mac)) and device.last_seen > since]
            own = [device for mac in macs if (device := devices.get(mac)) and device.is_self]
            self._changed.update(device.mac for device in (*active, *own) if self._needs_row(device, learned=learned))
            seen += [seen_row(device, self._clock) for device in active]
            if len(seen) >= AT_ONCE:
                self._put(Devices(seen=seen))
                seen = []
            await asyncio.sleep(SLICE / A_SECOND if len(devices) > A_SECOND else 0)
        self._put(Devices(seen=seen, alive=self._alive()))

    def _needs_row(self, device: Device, *, learned: bool) -> bool:
        """Return whether no event leads to a row of a device: its evidence, what presence learned; this host, once."""
        if device.is_self and device.mac not in self._own:
            self._own.add(device.mac)
            return True
        return device.unstored or (learned and _has_learned(device))

    def stay(self, mac: int) -> float:
        """Return the seconds from the first to the last time that a device was seen.

        Less than 0: there is no such device; infinite: a user annotated it. May be called on any thread. A new device
        is in the table before its first event is stored.
        """
        device = self._devices.get(mac_of(mac))
        if device is None:
            return -1.0
        return inf if is_annotated(device) or device.is_self else abs(device.last_seen - device.first_seen)

    def _outdated(self, device: Device, before: float) -> bool:
        """Return whether a device was offline for as long as events are kept, and no user annotated it."""
        if device.status is not Status.OFFLINE or is_annotated(device) or device.is_self:
            return False
        absent = self._absent.get(device.mac)
        if absent is not None:
            return absent <= self._aged()
        return max(device.last_seen, device.status_since) < before

    def _rows(self, macs: Iterable[Mac]) -> list[Row]:
        devices, sequence, clock = self._devices, self._sequence(), self._clock
        now = clock.milliseconds(monotonic())
        written = [devices[mac] for mac in macs if mac in devices]
        for device in written:
            device.unstored = False
        return [device_row(device, sequence, now, clock) for device in written]

    def _seen(self, macs: Iterable[Mac]) -> list[Row]:
        devices, clock = self._devices, self._clock
        return [seen_row(devices[mac], clock) for mac in macs if mac in devices]


def _has_learned(device: Device) -> bool:
    return len(device.presence.learned()) > NOTHING_LEARNED


def slices(macs: Iterable[Mac]) -> Iterator[list[Mac]]:
    """Yield some at a time, in order."""
    ordered = by_mac(macs)
    while part := list(islice(ordered, SLICE)):
        yield part
