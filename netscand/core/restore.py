"""Devices restored after a restart; queries to the history, and the answers.

Unlike everywhere else in the core, times here are unix seconds, because the monotonic clock restarts with each boot.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from netscand.core.addresses import Addresses
from netscand.core.limits import NO_ROOM, AdmissionLimits
from netscand.core.merged import Merge
from netscand.core.model import (
    THIS_HOST,
    Address,
    Device,
    Event,
    EventKind,
    Kind,
    Mac,
    Person,
    PersonStatus,
    Service,
    Status,
    StoredTime,
)
from netscand.core.presence import Presence, Rules
from netscand.core.stale_addresses import restore_main

# ---- what the history is asked -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events: those after number `since`, or after the time `after` (unix seconds), up to number `through`.

    And, with `before`, up to that time.
    """

    through: int
    since: int | None = None
    after: float | None = None
    before: float | None = None
    kinds: tuple[str, ...] = ()
    person: str | None = None
    """Person that the events are about, by name in any case; None: all events."""
    macs: frozenset[Mac] | None = None
    """Devices that the events are about, or that are their `other`; None: all events."""
    limit: int = 500
    gaps: bool = False
    """Whether some of the events after `since` may be missing, because they are no longer kept."""
    sites: frozenset[str] | None = None
    """Only of these sites; on a host, there are none."""
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
    """A query that took too long and was ended; the history is not damaged."""


class Hangs(Unreadable):
    """The disk, or the server with the log, does not answer; it may be asked again later."""


class Standing(NamedTuple):
    """Presence of a device at one moment."""

    status: Status
    status_since: float
    reason: str


DAY = 86_400.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class PresencePart:
    """A UTC day or a part of one, by its first moment in unix seconds; the rest are seconds of it."""

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
    """First that of its `ip`."""
    confirmed: bool = False
    hostname: str | None = None
    hostname_source: str | None = None
    label: str | None = None
    known: bool = False
    notes: str | None = None
    tags: tuple[str, ...] = ()
    not_same_as: tuple[Mac, ...] = ()
    merged: tuple[Mac, ...] | None = None
    """MACs that were merged into it; None: only the table of merges shows that."""
    chosen: float | None = None
    """The patience that a user chose, in seconds."""
    learned: bytes | None = None
    """What its presence learned (core/presence.py), and when that was stored."""
    learned_at: float = 0.0
    kind: Kind | None = None
    vendor_class: str | None = None
    parameters: bytes | None = None
    services: tuple[Service, ...] = ()
    """The evidence for its kind (core/kinds.py)."""


class RememberedPerson(NamedTuple):
    """A person as it was stored last."""

    name: str
    devices: Mapping[Mac, bool]
    status: PersonStatus
    status_since: float
    reason: str
    last_status: PersonStatus | None = None
    last_since: float = 0.0
    former_name: str | None = None
    """The name before the event that shows it."""


class RememberedMerge(NamedTuple):
    """A merge as it was stored last (core/merged.py)."""

    device: Remembered
    into: Mac
    own_first_seen: float | None = None
    given: Mapping[str, object] = {}
    people: Mapping[str, tuple[bool, bool]] = {}


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
    lived: float = 0.0
    """The history's own clock, in unix seconds; it lags by the time for which the machine was off."""
    booted_at: float = inf
    """When this machine was booted, by its wall clock, if the last run was in the same boot: later times follow it."""
    unwritten: Collection[Mac] = ()
    """Devices whose rows do not show their last event."""
    gone: Collection[Mac] = ()
    """MACs that may still have a row, though their device was forgotten."""
    people: Sequence[RememberedPerson] = ()
    merges: Sequence[RememberedMerge] = ()


NOT_RUNNING = "netscand was not running"

LEAST_TIME = 1_672_531_200.0
"""2023-01-01: there was no netscand before, so a clock that shows an earlier time is wrong."""

MOST_OFF = 60 * 86_400.0
"""Seconds for which a machine may have been off; a longer time counts as a wrong clock."""

NEW = Presence(0.0, Rules()).learned()
"""For a device without a stored row: nothing was learned, but it has been known since it was first seen."""


def recalled(memory: Memory, rules: Rules, offset: float, now: float) -> list[Device]:
    """Return the devices for a start at `now`, in monotonic seconds; `offset` is unix time minus those.

    A device that was online is `unknown`, since the daemon was last known to run. A time of an earlier boot is shown as
    it was stored, because the clock may be wrong at a start, as before NTP answers on a machine without a real-time
    clock: a time in the future and the clock are then equally credible. Only a time that is ahead by more than a
    machine is ever off, of a clock that may be right, becomes `now`. As numbers, times are no later than `now`; if the
    clock is behind the time that the history knows, that time is used for them: otherwise every device would be new.
    """
    return _recalled(memory.devices, memory, rules, offset, now)


def _recalled(
    remembered: Iterable[Remembered], memory: Memory, rules: Rules, offset: float, now: float
) -> list[Device]:
    restored, alive = _restorer(memory, offset, now), memory.alive_until
    offset = max(offset, memory.known_time - now)
    devices = []
    for was in remembered:
        learned, at = (was.learned, was.learned_at) if was.learned else (NEW, was.first_seen)
        presence = Presence.restored(now, rules, learned, max(0.0, now + offset - at))
        presence.chosen = was.chosen
        device = Device(
            was.mac, restored(was.first_seen), restored(was.last_seen), presence, was.status,
            restored(was.status_since), was.reason, confirmed=was.confirmed, hostname=was.hostname,
            hostname_source=was.hostname_source, label=was.label, known=was.known, notes=was.notes,
            tags=was.tags, not_same_as=was.not_same_as, kind=was.kind, dhcp_vendor_class=was.vendor_class,
            dhcp_parameters=was.parameters,
            services=was.services,
        )  # fmt: skip
        if was.status is Status.ONLINE:
            device.status, device.reason = Status.UNKNOWN, NOT_RUNNING
            device.status_since = restored(max(alive, was.status_since))
            device.is_self = was.reason == THIS_HOST  # so that its `first_seen` is not the last start
        device.addresses = list(was.addresses)  # not shared with any other device
        for address in device.addresses:
            address.first_seen, address.last_seen = restored(address.first_seen), restored(address.last_seen)
        devices.append(device)
    return devices


def recalled_people(memory: Memory, offset: float, now: float) -> list[Person]:
    """Return the people for a start at `now`, as `recalled` the devices."""
    restored = _restorer(memory, offset, now)
    return [
        Person(
            was.name, dict(was.devices), was.status, restored(was.status_since), was.reason, was.last_status,
            restored(was.last_since),
        )
        for was in memory.people
    ]  # fmt: skip


def recalled_merges(memory: Memory, rules: Rules, offset: float, now: float) -> list[Merge]:
    """Return the merged MACs for a start at `now`, as `recalled` the devices."""
    restored = _restorer(memory, offset, now)
    devices = _recalled((each.device for each in memory.merges), memory, rules, offset, now)
    return [
        Merge(device, was.into, restored(was.own_first_seen) if was.own_first_seen else None, was.given, was.people)
        for device, was in zip(devices, memory.merges, strict=True)
    ]


def _restorer(memory: Memory, offset: float, now: float) -> Callable[[float], float]:
    """Return the function that converts stored times; see `recalled`."""
    wall = now + offset
    is_behind = wall < max(memory.lived, LEAST_TIME)
    offset = max(offset, memory.known_time - now)

    same: dict[float, float] = {}  # a device and its address were often seen first at the same time

    def restored(unix: float) -> float:
        if (found := same.get(unix)) is not None:
            return found
        at = unix - offset
        if memory.booted_at <= unix <= wall:
            shown = now - (wall - unix)
        elif at > now + MOST_OFF and not is_behind:
            shown = now
        else:
            shown = stored = StoredTime(at if at < now else now)
            stored.unix = unix
        same[unix] = shown
        return shown

    return restored


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
        restore_main(device)
        newest = max(stored, key=lambda each: each.last_seen, default=None)
        device.interface = interfaces.get(newest.interface, 0) if newest else 0
        if device.status is Status.OFFLINE:
            device.presence.set_offline(now)
        if device.confirmed:
            limits.confirm(device)
    unconfirmed = (each for each in known if not each.confirmed and not each.is_self)
    oldest_first = sorted(unconfirmed, key=lambda each: each.last_seen)
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
