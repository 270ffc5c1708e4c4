"""Who is let in: a LAN is hostile, and every table bounded (law 6, FAULTS T11)."""

from collections import OrderedDict
from itertools import islice

from netscand.core.model import Device, Event, EventKind, Mac, Observation, Status
from netscand.core.tokens import Tokens
from netscand.core.words import said_of

MOST_UNCONFIRMED = 4_096
"""Devices an interface may have that never answered us; the oldest go first."""

MOST_CONFIRMED = 65_536
"""Devices an interface may have that answered us."""

NEWCOMERS_AT_ONCE, NEWCOMERS_A_SECOND = 256.0, 4.0
"""Devices that never answered us and are told: more is a flood, and they are told when they answer."""

FLOOD_APART = 60.0
"""Seconds between two `flood` of one interface."""

LOOKED_AT = 64
"""Devices that are looked at for one that may go."""

GONE = "gone, and newer ones need the room"
NO_ROOM = "never answered, and newer ones need the room"


class _Door:
    """One interface's."""

    def __init__(self) -> None:
        self.unconfirmed: OrderedDict[Mac, None] = OrderedDict()
        self.confirmed: OrderedDict[Mac, Device] = OrderedDict()
        self.newcomers = Tokens(NEWCOMERS_AT_ONCE, NEWCOMERS_A_SECOND)
        self.turned_away = 0
        self.flood_at = 0.0
        """When a flood may be told again."""


class Census:
    """Counts devices by interface and by whether they ever answered us."""

    def __init__(self) -> None:
        self._doors: dict[int, _Door] = {}

    def admits(self, interface: int, now: float, *, confirmed: bool) -> bool:
        """Whether one more device of an interface may be told now."""
        door = self._door(interface)
        room = self.has_room(interface) if confirmed else door.newcomers.take(now)
        door.turned_away += not room
        return room

    def has_room(self, interface: int) -> bool:
        """Whether one more may be counted that answered us."""
        return len(self._door(interface).confirmed) < MOST_CONFIRMED

    def to_go(self, interface: int) -> Mac | None:
        """Who has to go for one more that answered us: gone long ago, and nothing that a user said of it is lost.

        None while there is room, or where of those looked at nobody can go; the next call looks at others.
        """
        confirmed = self._door(interface).confirmed
        if self.has_room(interface):
            return None
        for mac in tuple(islice(confirmed, LOOKED_AT)):
            device = confirmed[mac]
            if device.status is Status.OFFLINE and not said_of(device):
                return mac
            confirmed.move_to_end(mac)
        return None

    def flood(self, seen: Observation, network: str) -> tuple[Event, ...]:
        """What to tell of those turned away since the last flood, one for `seen`, if it is time to tell another."""
        door = self._door(seen.interface)
        if not door.turned_away or seen.at < door.flood_at:
            return ()
        count, door.turned_away, door.flood_at = door.turned_away, 0, seen.at + FLOOD_APART
        reason = f"{count} more MACs than a LAN can have; the last: {seen.mac.hex(':')}"
        return (Event(EventKind.FLOOD, seen.at, network, None, seen.ip, seen.mac, seen.evidence, reason),)

    def add(self, device: Device) -> Mac | None:
        """Count a device that never answered us; the one that has to go for it, if any."""
        unconfirmed = self._door(device.interface).unconfirmed
        unconfirmed[device.mac] = None
        return unconfirmed.popitem(last=False)[0] if len(unconfirmed) > MOST_UNCONFIRMED else None

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
