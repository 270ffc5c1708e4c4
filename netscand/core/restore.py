"""Devices restored after a restart; what the history is asked, and its answers.

Unlike everywhere else in the core, times here are unix seconds: the monotonic clock that they were taken by may have
ended with its boot.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from netscand.core.addresses import Addresses
from netscand.core.limits import NO_ROOM, AdmissionLimits
from netscand.core.model import Address, Device, Event, EventKind, Mac, Status
from netscand.core.presence import Presence, Rules

# ---- what the history is asked -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events: those after number `since`, or after the time `after` (unix seconds), up to number `through`."""

    through: int
    since: int | None = None
    after: float | None = None
    kinds: tuple[EventKind, ...] = ()
    mac: Mac | None = None
    limit: int = 500
    gaps: bool = False
    """Whether some of the events after `since` may be missing, because they are no longer kept."""
    account: Hashable = None
    """Who asks: the queries of one account wait for one another, and accounts take turns."""


class Page(NamedTuple):
    """Events in order."""

    events: Sequence[tuple[int, bytes]]
    """The number of each, and its JSON as it was published (serve/encode.py)."""
    through: int
    """Every event up to this number was looked at."""


class CursorGone(Exception):
    """A cursor that has expired; the text says why."""


class Unreadable(Exception):
    """The history cannot be read now; the text says why."""


class TooLong(Unreadable):
    """A query that was ended because it took too long; nothing is wrong with the history."""


class Standing(NamedTuple):
    """A device's presence at some moment."""

    status: Status
    status_since: float
    reason: str


@dataclass(frozen=True, slots=True)
class PresenceOfDay:
    """One UTC day, by its first moment in unix seconds; the rest are seconds of it."""

    start: float
    online: float
    unknown: float


# ---- what a start finds --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Remembered:
    """A device as it was stored last."""

    mac: Mac
    first_seen: float
    last_seen: float
    status: Status
    status_since: float
    reason: str
    sequence: int = 0
    """The last event that it shows."""
    addresses: tuple[Address, ...] = ()
    confirmed: bool = False
    hostname: str | None = None
    hostname_source: str | None = None
    label: str | None = None
    known: bool = False
    notes: str | None = None
    chosen: float | None = None
    """The patience that a user chose, in seconds."""
    learned: bytes | None = None
    """What its presence learned (core/presence.py), and when that was stored."""
    learned_at: float = 0.0


class Memory(NamedTuple):
    """What a start finds in the history."""

    devices: Sequence[Remembered]
    alive_until: float
    """When the daemon was last known to run."""
    known_time: float = 0.0
    """Unix seconds that it is by now at least: by the history's own clock, and no later than `alive_until`.

    The first alone is wrong permanently in a history that was created while the wall clock was ahead, the second after
    a run in which it was.
    """
    unwritten: Collection[Mac] = ()
    """Devices whose rows do not show their last event."""
    gone: Collection[Mac] = ()
    """MACs that may still have a row, though their device was forgotten."""


NOT_RUNNING = "netscand was not running"

NEW = Presence(0.0, Rules()).learned()
"""For a device without a stored row: nothing was learned, but it has been known since it was first seen."""


def recalled(memory: Memory, rules: Rules, offset: float, now: float) -> list[Device]:
    """Return the devices for a start at `now`, in monotonic seconds; `offset` is unix time minus those.

    A device that was online is `unknown`, since the daemon was last known to run. Times in the future, after a clock
    that was wrong, become `now`. But if the clock is behind the time that the history knows, as before NTP answers on a
    machine without a real-time clock, the history's time is used: otherwise every device would be new.
    """
    offset = max(offset, memory.known_time - now)
    alive = memory.alive_until
    devices = []
    for was in memory.devices:
        learned, at = (was.learned, was.learned_at) if was.learned else (NEW, was.first_seen)
        presence = Presence.restored(now, rules, learned, max(0.0, now + offset - at))
        presence.chosen = was.chosen
        device = Device(
            was.mac, min(was.first_seen - offset, now), min(was.last_seen - offset, now), presence, was.status,
            min(was.status_since - offset, now), was.reason, confirmed=was.confirmed, hostname=was.hostname,
            hostname_source=was.hostname_source, label=was.label, known=was.known, notes=was.notes,
        )  # fmt: skip
        if was.status is Status.ONLINE:
            device.status, device.reason = Status.UNKNOWN, NOT_RUNNING
            device.status_since = min(max(alive, was.status_since) - offset, now)
        device.addresses = list(was.addresses)  # not shared with any other device
        for address in device.addresses:
            address.first_seen = min(address.first_seen - offset, now)
            address.last_seen = min(address.last_seen - offset, now)
        devices.append(device)
    return devices


def restore_devices(
    devices: Iterable[Device], addresses: Addresses, limits: AdmissionLimits, interfaces: Mapping[str, int], now: float
) -> tuple[dict[Mac, Device], tuple[Event, ...]]:
    """Enter devices into the tables; return those that find room, and an event for each of the others.

    `interfaces`: name → ifindex, as they are now.
    """
    # In the order in which they were made: a random order takes twice as long, for the memory's sake.
    known = list(devices)
    for device in known:
        stored, device.addresses = device.addresses, []
        for address in stored:
            addresses.put_back(device, address)
        newest = max(stored, key=lambda each: each.last_seen, default=None)
        device.interface = interfaces.get(newest.interface, 0) if newest else 0
        if device.status is Status.OFFLINE:
            device.presence.set_offline(now)
        if device.confirmed:
            limits.confirm(device)
    oldest_first = sorted((each for each in known if not each.confirmed), key=lambda each: each.last_seen)
    evicted = {gone for device in oldest_first if (gone := limits.add(device))}
    left_out = []
    for device in known:
        if device.mac in evicted:
            holds = tuple(device.addresses)
            for address in holds:
                addresses.drop(device, address)
            device.addresses = list(holds)  # the event shows them
            left_out.append(Event(EventKind.FORGOTTEN, now, None, device, reason=NO_ROOM))
    return {device.mac: device for device in known if device.mac not in evicted}, tuple(left_out)
