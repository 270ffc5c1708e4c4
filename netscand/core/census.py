"""Who is let in: a LAN is hostile, and every table bounded (law 6, FAULTS T11)."""

from collections import OrderedDict

from netscand.core.model import Device, Event, EventKind, Mac, Observation

MOST_UNCONFIRMED = 4_096
"""Devices an interface may have that never answered us; the oldest go first."""

MOST_CONFIRMED = 65_536
"""Devices an interface may have that answered us."""

NEWCOMERS_AT_ONCE, NEWCOMERS_A_SECOND = 256.0, 4.0
"""Devices that never answered us and are told: more is a flood, and they are told when they answer."""

FLOOD_APART = 60.0
"""Seconds between two `flood` of one interface."""

NO_ROOM = "never answered, and newer ones need the room"


class _Door:
    """One interface's."""

    def __init__(self, now: float) -> None:
        self.unconfirmed: OrderedDict[Mac, None] = OrderedDict()
        self.confirmed = 0
        self.tokens = NEWCOMERS_AT_ONCE
        self.at = now
        self.turned_away = 0
        self.flood_at = 0.0
        """When a flood may be told again."""


class Census:
    """Counts devices by interface and by whether they ever answered us."""

    def __init__(self) -> None:
        self._doors: dict[int, _Door] = {}

    def admits(self, interface: int, now: float, *, confirmed: bool) -> bool:
        """Whether one more device of an interface may be told now."""
        door = self._door(interface, now)
        if confirmed:
            room = door.confirmed < MOST_CONFIRMED
            door.turned_away += not room
            return room
        door.tokens = min(NEWCOMERS_AT_ONCE, door.tokens + max(0.0, now - door.at) * NEWCOMERS_A_SECOND)
        door.at = max(now, door.at)
        if door.tokens < 1:
            door.turned_away += 1
            return False
        door.tokens -= 1
        return True

    def flood(self, seen: Observation, network: str) -> tuple[Event, ...]:
        """What to tell of those turned away since the last flood, one for `seen`, if it is time to tell another."""
        door = self._door(seen.interface, seen.at)
        if not door.turned_away or seen.at < door.flood_at:
            return ()
        count, door.turned_away, door.flood_at = door.turned_away, 0, seen.at + FLOOD_APART
        reason = f"{count} more MACs than a LAN can have; the last: {seen.mac.hex(':')}"
        return (Event(EventKind.FLOOD, seen.at, network, None, seen.ip, seen.mac, seen.evidence, reason),)

    def add(self, device: Device, now: float) -> Mac | None:
        """Count a device that never answered us; the one that has to go for it, if any."""
        unconfirmed = self._door(device.interface, now).unconfirmed
        unconfirmed[device.mac] = None
        return unconfirmed.popitem(last=False)[0] if len(unconfirmed) > MOST_UNCONFIRMED else None

    def confirm(self, device: Device, now: float) -> None:
        """Count a device as one that answered us."""
        for door in self._doors.values():
            door.unconfirmed.pop(device.mac, None)
        device.confirmed = True
        self._door(device.interface, now).confirmed += 1

    def remove(self, device: Device, now: float) -> None:
        """Count a device no more."""
        door = self._door(device.interface, now)
        if device.confirmed:
            door.confirmed -= 1
        for each in self._doors.values():
            each.unconfirmed.pop(device.mac, None)

    def _door(self, interface: int, now: float) -> _Door:
        door = self._doors.get(interface)
        if door is None:
            door = self._doors[interface] = _Door(now)
        return door
