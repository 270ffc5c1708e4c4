"""Who is let in: a LAN is hostile, and every table bounded (law 6, FAULTS T11)."""

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

from netscand.core.budgets import (
    DAY,
    FLOODS,
    NEWCOMERS,
    NEWCOMERS_AGAIN,
    NEWCOMERS_THAT_ANSWER,
    Budgets,
)
from netscand.core.model import Device, Event, EventKind, Mac, Observation, Status
from netscand.core.words import said_of

MOST_UNCONFIRMED = 4_096
"""Devices an interface may have that never answered us; the oldest go first."""

MOST_CONFIRMED = 65_536
"""Devices an interface may have that answered us."""

AGAIN_AFTER = 20.0
"""Seconds after which a MAC that was refused and is heard again is no made-up one of thousands: each of them is heard
once."""

MOST_WAITING, WAITS = 4_096, 60.0
"""MACs of an interface remembered that were refused, each for so many seconds at least: a flood keeps none out."""

LONG_GONE = 30 * DAY
"""Seconds after which a device that was here for more than a day may go for one that answered us."""

LOOKED_AT = 64
"""Devices that are looked at for one that may go."""

GONE = "gone, and newer ones need the room"
NO_ROOM = "never answered, and newer ones need the room"


class _Door:
    """One interface's."""

    def __init__(self) -> None:
        self.unconfirmed: OrderedDict[Mac, Device] = OrderedDict()
        self.confirmed: OrderedDict[Mac, Device] = OrderedDict()
        self.waiting: OrderedDict[Mac, float] = OrderedDict()
        """MACs that were refused, and when first."""
        self.turned_away = 0


class Census:
    """Counts devices by interface and by whether they ever answered us."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._doors: dict[int, _Door] = {}

    def admits(self, seen: Observation, *, confirmed: bool, has_room: bool) -> bool:
        """Return whether one more device may be published now; `has_room` for one that answered us."""
        interface, now = seen.interface, seen.at
        door = self._door(interface)
        row = NEWCOMERS_THAT_ANSWER if confirmed else NEWCOMERS
        if confirmed and not has_room:
            self._budgets.refuse(row, now)
        elif self._budgets.take(row, interface, now) or self._is_back(door, seen):
            door.waiting.pop(seen.mac, None)
            return True
        door.turned_away += 1
        return False

    def _is_back(self, door: _Door, seen: Observation) -> bool:
        """Return whether it was refused before, waited, and may be published now."""
        since = door.waiting.get(seen.mac)
        if since is not None:
            return seen.at - since >= AGAIN_AFTER and self._budgets.take(NEWCOMERS_AGAIN, seen.interface, seen.at)
        waiting = door.waiting
        if len(waiting) >= MOST_WAITING:
            if seen.at - next(iter(waiting.values())) < WAITS:
                return False
            waiting.popitem(last=False)
        waiting[seen.mac] = seen.at
        return False

    def has_room(self, interface: int) -> bool:
        """Whether one more may be counted that answered us."""
        return len(self._door(interface).confirmed) < MOST_CONFIRMED

    def to_go(self, interface: int, now: float) -> Mac | None:
        """Return a device to evict for one more that answered: offline, here for less than a day, not annotated.

        None while there is room, or where of those looked at nobody can go; the next call looks at others. Who was
        here for longer goes when it has been gone for a month, and nobody else can.
        """
        if self.has_room(interface):
            return None

        def may_go(device: Device) -> bool:
            gone_for = now - device.last_seen
            return device.status is Status.OFFLINE and (not _stayed(device) or gone_for > LONG_GONE)

        return _next_to_go(self._door(interface).confirmed, may_go)

    def flood(self, seen: Observation, network: str) -> tuple[Event, ...]:
        """What to tell of those turned away since the last flood, one for `seen`, if it is time to tell another."""
        door = self._door(seen.interface)
        if not door.turned_away or not self._budgets.has(FLOODS, seen.interface, seen.at):
            return ()
        self._budgets.take(FLOODS, seen.interface, seen.at)
        count, door.turned_away = door.turned_away, 0
        reason = f"{count} more MACs than a LAN can have; the last: {seen.mac.hex(':')}"
        return (Event(EventKind.FLOOD, seen.at, network, None, seen.ip, seen.mac, seen.evidence, reason),)

    def add(self, device: Device) -> Mac | None:
        """Count a device that never answered us; the one that has to go for it, if any: the oldest.

        Who was here for more than a day goes last, and nobody of whom a user said a word: of those there may be more.
        """
        unconfirmed = self._door(device.interface).unconfirmed
        unconfirmed[device.mac] = device
        if len(unconfirmed) <= MOST_UNCONFIRMED:
            return None
        gone = _next_to_go(unconfirmed, lambda each: each is not device)
        if gone is not None:
            del unconfirmed[gone]
        return gone

    def confirm(self, device: Device) -> None:
        """Count a device as one that answered us, if there is room."""
        if not self.has_room(device.interface):
            return
        for door in self._doors.values():
            door.unconfirmed.pop(device.mac, None)
        device.confirmed = True
        self._door(device.interface).confirmed[device.mac] = device

    def remove(self, device: Device) -> None:
        """Count a device no more."""
        for door in self._doors.values():  # it may have been counted at another interface than where it was heard last
            door.confirmed.pop(device.mac, None)
            door.unconfirmed.pop(device.mac, None)

    def _door(self, interface: int) -> _Door:
        door = self._doors.get(interface)
        if door is None:
            door = self._doors[interface] = _Door()
        return door


def _stayed(device: Device) -> bool:
    """Return whether it was here for more than a day: nobody makes that up in an hour."""
    return device.last_seen - device.first_seen >= DAY


def _next_to_go(counted: OrderedDict[Mac, Device], may_go: Callable[[Device], bool]) -> Mac | None:
    """Return who goes first of those counted longest, nobody with a user's words. The next call looks at others."""
    last_choice = None
    for mac in tuple(islice(counted, LOOKED_AT)):
        device = counted[mac]
        if not said_of(device) and may_go(device):
            if not _stayed(device):
                return mac
            last_choice = last_choice or mac
        counted.move_to_end(mac)
    return last_choice
