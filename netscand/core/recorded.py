"""What the history keeps, as values of the domain: store writes and reads them, core/replay.py makes devices of them.

Unlike everything else in the core, times here are unix seconds: the monotonic clock that they were taken by may have
ended with its boot.
"""

from collections.abc import Hashable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

from netscand.core.model import Address, Device, Event, EventKind, Mac, Status


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
