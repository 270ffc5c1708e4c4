"""Devices restored after a restart, and shown as they were at a cursor."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

from netscand.core.addresses import Addresses
from netscand.core.limits import NO_ROOM, AdmissionLimits
from netscand.core.model import Address, Device, Event, EventKind, Mac, Status
from netscand.core.presence import Presence, Rules

# ---- recorded ------------------------------------------------------------------------------------------------------
# What the history keeps, as values of the domain: store writes and reads them, core/restore.py makes devices of them.
#
# Unlike everything else in the core, times here are unix seconds: the monotonic clock that they were taken by may have
# ended with its boot.


@dataclass(slots=True)
class Remembered:
    """A device as it was written down last."""

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
    """The user's patience for it, in seconds."""
    learned: bytes | None = None
    """What its presence learned, in presence's own words, and when it was written down."""
    learned_at: float = 0.0


class Standing(NamedTuple):
    """A device's presence at some moment."""

    status: Status
    status_since: float
    reason: str


class Recorded(NamedTuple):
    """An event as it was written down."""

    sequence: int
    event: Event
    """Without its device."""
    mac: Mac | None
    """The device's."""
    last_seen: float | None = None
    """The device's, then."""
    standing: Standing | None = None
    """The device's, as the event found it; None where the event is its first."""
    after: Mapping[str, object] = {}
    """The fields in `previous` beside its standing, as the event left them."""
    whole: Remembered | None = None
    """The device as it was forgotten."""
    confirmed: bool = False
    """A first event: the device had answered us."""


@dataclass(frozen=True, slots=True)
class Question:
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
    """Who asks: the questions of one account wait for one another, and accounts take turns."""


class CursorGone(Exception):
    """A place in the stream that cannot be gone on from; the text says why."""


class Unreadable(Exception):
    """The history cannot be read now; the text says why."""


class TooLong(Unreadable):
    """A question that was ended: the history is well, but this takes too long."""


@dataclass(frozen=True, slots=True)
class PresenceOfDay:
    """One UTC day, by its first moment in unix seconds; the rest are seconds of it."""

    start: float
    online: float
    unknown: float


class Memory(NamedTuple):
    """What a start finds."""

    devices: Sequence[Remembered]
    events: Sequence[Recorded]
    """Those that not all of the devices show yet, in order."""
    alive_until: float
    """When the daemon was last known to run."""
    known_time: float = 0.0
    """Unix seconds that it is by now at least: by the history's own clock, and no later than `alive_until`.

    The first alone is wrong for good in a history that was made while the wall clock was ahead, the second after a run
    in which it was.
    """


class Later(NamedTuple):
    """What became of a device after an event, as far as it takes to show it as it was right after that one."""

    fields: Mapping[str, object]
    """The fields that changed later, as they were before they did; `ip` and `patience` among them say nothing."""
    whole: Remembered | None
    """As it was when it was forgotten, later; None: it was not."""


class Page(NamedTuple):
    """Events in order, and what it takes to show their devices as they were."""

    events: Sequence[Recorded]
    later: Sequence[Later]
    """Of each event."""
    through: int
    """Every event up to this number was looked at."""


def copied(device: Device) -> Device:
    """A copy that no longer changes."""
    still = copy(device)
    still.addresses = [copy(held) for held in device.addresses]
    return still


# ---- replay --------------------------------------------------------------------------------------------------------
# Events, told again: forward, they rebuild the devices after a restart; backward, each shows its device as it was.
#
# Pure. An event keeps what it changed, as it was and as it became, so one rule serves every kind of event.

VERDICTS: Mapping[EventKind, Status] = {
    EventKind.DISCOVERED: Status.ONLINE, EventKind.ONLINE: Status.ONLINE, EventKind.OFFLINE: Status.OFFLINE,
}  # fmt: skip
"""What a device is after them."""

STANDING = ("status", "status_since", "reason")

NOT_RUNNING = "netscand was not running"

UNTAUGHT = Presence(0.0, Rules()).learned()
"""Of a device that no row was written of yet: nothing was learned, but it has been known since it was first seen."""


# ---- forward ------------------------------------------------------------------------------------------------------


def rebuilt(memory: Memory) -> dict[Mac, Remembered]:
    """The devices as the last event left them."""
    devices = {device.mac: device for device in memory.devices}
    for recorded in memory.events:
        _apply(devices, recorded)
    return devices


def _apply(devices: dict[Mac, Remembered], recorded: Recorded) -> None:
    event, mac = recorded.event, recorded.mac
    if mac is None:
        return
    device = devices.get(mac)
    if event.kind is EventKind.FORGOTTEN:
        if device is not None and device.sequence < recorded.sequence:
            del devices[mac]
        return
    if device is None:
        device = devices[mac] = _first(recorded)
    elif device.sequence >= recorded.sequence:
        return
    device.sequence = recorded.sequence
    if event.kind in VERDICTS:
        device.status, device.status_since, device.reason = VERDICTS[event.kind], event.at, event.reason
    for name, value in recorded.after.items():
        if name not in ("ip", "patience", "kinds") and hasattr(device, name):
            setattr(device, name, value)
    if recorded.last_seen is not None:
        device.last_seen = max(device.last_seen, recorded.last_seen)


def _first(recorded: Recorded) -> Remembered:
    event = recorded.event
    held = _told_address(event) if "addresses" not in recorded.after else None
    return Remembered(
        recorded.mac or Mac(b""), event.at, recorded.last_seen or event.at, VERDICTS.get(event.kind, Status.UNKNOWN),
        event.at, event.reason, addresses=(held,) if held else (), confirmed=recorded.confirmed,
    )  # fmt: skip


def _told_address(event: Event) -> Address | None:
    if event.address is None or event.network is None or event.evidence is None:
        return None
    interface = event.network.rpartition("@")[2]
    return Address(event.address, event.network, interface, event.evidence, event.at, event.at)


def recalled(memory: Memory, rules: Rules, offset: float, now: float) -> list[Device]:
    """The devices for a start at `now`, in monotonic seconds: `offset` is unix time minus those.

    Who was online is `unknown`, since the daemon was last known to run. What lies in the future, after a clock that
    was wrong, lies at `now`. But where the clock is behind what the history knows of the time, as before NTP answers
    on a machine without a clock of its own, it is the history that is believed: or everybody would be new.
    """
    offset = max(offset, memory.known_time - now)
    alive = memory.alive_until
    devices = []
    for was in rebuilt(memory).values():
        learned, at = (was.learned, was.learned_at) if was.learned else (UNTAUGHT, was.first_seen)
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
        device.addresses = list(was.addresses)  # nobody else has them
        for held in device.addresses:
            held.first_seen = min(held.first_seen - offset, now)
            held.last_seen = min(held.last_seen - offset, now)
        devices.append(device)
    return devices


# ---- backward -----------------------------------------------------------------------------------------------------


def as_published(recorded: Recorded, later: Later, current: Callable[[Mac], Device | None]) -> Event:
    """An event with its device as it was then.

    `current` gives a device as it is now, in unix seconds. Of a device that is no longer there the events tell what
    they know. What no event keeps (round trip, kinds, learned patience) is as now.
    """
    mac = recorded.mac
    if mac is None:
        return recorded.event
    whole = recorded.whole or later.whole
    now = current(mac) if whole is None else None
    was = copied(now) if now is not None else _revived(whole or _first(recorded))
    if recorded.whole is None:
        for name, value in later.fields.items():
            if name == "addresses":
                was.addresses = [copy(held) for held in value]  # type: ignore[attr-defined]  # what is kept so
            elif name not in ("ip", "patience", "kinds", *STANDING) and hasattr(was, name):
                setattr(was, name, value)
    _stand(was, recorded)
    return recorded.event._replace(device=was)


def _revived(whole: Remembered) -> Device:
    presence = Presence(whole.last_seen, Rules())
    presence.chosen = whole.chosen
    addresses = [copy(held) for held in whole.addresses]
    device = Device(whole.mac, whole.first_seen, whole.last_seen, presence, addresses=addresses)
    device.status, device.status_since, device.reason = whole.status, whole.status_since, whole.reason
    device.confirmed, device.known, device.label, device.notes = whole.confirmed, whole.known, whole.label, whole.notes
    device.hostname, device.hostname_source = whole.hostname, whole.hostname_source
    return device


def _stand(was: Device, recorded: Recorded) -> None:
    """Its presence as this event left it; what else it changed is so already."""
    event = recorded.event
    if event.kind in VERDICTS:
        was.status, was.status_since, was.reason = VERDICTS[event.kind], event.at, event.reason
    elif recorded.standing is not None:
        was.status, was.status_since, was.reason = recorded.standing
    if event.kind is EventKind.DISCOVERED:
        was.first_seen = event.at
    if recorded.last_seen is not None:
        was.last_seen = recorded.last_seen
    for held in was.addresses:
        held.last_seen = min(held.last_seen, was.last_seen)
        if held.ip == event.address and held.network == event.network and event.seen_at is not None:
            held.last_seen, held.evidence = was.last_seen, event.evidence or held.evidence


# ---- recall --------------------------------------------------------------------------------------------------------
# Taking back, after a restart, who was known before it.


def restore_devices(
    devices: Iterable[Device], addresses: Addresses, census: AdmissionLimits, interfaces: Mapping[str, int], now: float
) -> tuple[dict[Mac, Device], tuple[Event, ...]]:
    """Enter devices into the books; those that find room, and what to tell of the rest.

    `interfaces`: name → ifindex, as they are now.
    """
    # In the order in which they were made: to go through memory at random takes twice as long.
    known = list(devices)
    for device in known:
        held, device.addresses = device.addresses, []
        for address in held:
            addresses.put_back(device, address)
        newest = max(held, key=lambda each: each.last_seen, default=None)
        device.interface = interfaces.get(newest.interface, 0) if newest else 0
        if device.status is Status.OFFLINE:
            device.presence.set_offline(now)
        if device.confirmed:
            census.confirm(device)
    oldest_first = sorted((each for each in known if not each.confirmed), key=lambda each: each.last_seen)
    evicted = {gone for device in oldest_first if (gone := census.add(device))}
    left_out = []
    for device in known:
        if device.mac in evicted:
            holds = tuple(device.addresses)
            for address in holds:
                addresses.drop(device, address)
            device.addresses = list(holds)  # told with it
            left_out.append(Event(EventKind.FORGOTTEN, now, None, device, reason=NO_ROOM))
    return {device.mac: device for device in known if device.mac not in evicted}, tuple(left_out)
