"""People: each is a set of devices, and is home while any of those that count is online.

Presence of the devices decides (core/presence.py): a phone that sleeps is online for as long as its patience lasts, so
there is no second rule against flapping. In doubt, a person is `unknown`, never `away`.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from netscand.core.merged import Merge
from netscand.core.model import Busy, Device, Event, EventKind, Mac, Person, PersonStatus, Status

MOST_PEOPLE, MOST_DEVICES = 64, 32
"""Maximum people, and devices of one."""

HOME, AWAY, UNKNOWN = PersonStatus.HOME, PersonStatus.AWAY, PersonStatus.UNKNOWN

KIND_OF = {HOME: EventKind.PERSON_HOME, AWAY: EventKind.PERSON_AWAY, UNKNOWN: EventKind.PERSON_UNKNOWN}
"""Status → event with which it begins."""

DOUBTS = frozenset((EventKind.NETWORK_UP, EventKind.NETWORK_DOWN, EventKind.NETWORK_SILENT))
"""Events that set devices to `unknown` without an event for each."""


class Verdict(NamedTuple):
    """Status that the devices of a person show."""

    status: PersonStatus
    reason: str


def verdict(person: Person, devices: Mapping[Mac, Device]) -> Verdict:
    """Return the status of a person. Devices that are unknown here, or were never seen, say nothing."""
    counting = [devices[mac] for mac, counts in person.devices.items() if counts and mac in devices]
    seen = [device for device in counting if not device.never_seen]
    if online := [device for device in seen if device.status is Status.ONLINE]:
        others = len(online) - 1
        return Verdict(HOME, f"{online[0].mac.hex(':')} is online" + (f", and {others} more" if others else ""))
    if doubtful := next((device for device in seen if device.status is Status.UNKNOWN), None):
        return Verdict(UNKNOWN, f"the status of {doubtful.mac.hex(':')} is unknown: {doubtful.reason}")
    if not seen:
        return Verdict(UNKNOWN, "none of the devices that count was seen yet" if counting else "no device counts")
    last = max(seen, key=lambda device: device.status_since)
    what = "is offline" if len(seen) == 1 else f"was the last of {len(seen)} devices to go offline"
    return Verdict(AWAY, f"{last.mac.hex(':')} {what}")


class People:
    """All people. Each change is an event, which shows the person as it is then."""

    def __init__(self, devices: Mapping[Mac, Device]) -> None:
        self._devices = devices
        self._people: dict[str, Person] = {}
        """By name, in lower case."""
        self._of: dict[Mac, set[str]] = {}
        """MAC → the people that have the device."""

    def __bool__(self) -> bool:
        """Return whether there are any people."""
        return bool(self._people)

    def all(self) -> Sequence[Person]:
        """Return all people by name."""
        return [person for _, person in sorted(self._people.items())]

    def find(self, name: str) -> Person | None:
        """Return a person, by name in any case."""
        return self._people.get(name.casefold())

    def of(self, mac: Mac) -> Sequence[Person]:
        """Return the people that have a device."""
        return [self._people[key] for key in sorted(self._of.get(mac, ()))]

    def change(
        self, name: str, add: Mapping[Mac, bool], remove: Iterable[Mac], rename: str | None, now: float
    ) -> list[Event]:
        """Add a person, or devices (with whether they count) to one; or remove devices from one, or rename one.

        Raises KeyError for a MAC that is no device, Busy where a limit is reached or the new name is taken.
        """
        key, new = name.casefold(), (rename or name).casefold()
        person = self._people.get(key)
        for mac in add:
            if mac not in self._devices:
                raise KeyError(mac)
        if person is None and len(self._people) >= MOST_PEOPLE:
            raise Busy(f"there are {MOST_PEOPLE} people, which is the maximum; remove one first")
        if new != key and new in self._people:
            raise Busy(f"{rename!r} is another person; choose another name")
        before = dict(person.devices) if person is not None else {}
        devices = {mac: counts for mac, counts in (before | dict(add)).items() if mac not in set(remove)}
        if len(devices) > MOST_DEVICES:
            raise Busy(f"a person has at most {MOST_DEVICES} devices; remove some first")
        shown = rename or (person.name if person is not None else name)
        if person is not None and devices == before and shown == person.name:
            return []
        previous: dict[str, object] = {} if person is None else {"name": person.name, "devices": before}
        person = person or Person(name, status_since=now)
        if key in self._people:
            del self._people[key]
        person.name, person.devices = shown, devices
        status, reason = verdict(person, self._devices)
        if status is person.status:  # otherwise `after` changes both
            person.reason = reason
        self._people[new] = person
        self._index()
        return [Event(EventKind.PERSON_CHANGED, now, reason="changed by a user", person=person, previous=previous)]

    def remove(self, name: str, now: float) -> Event:
        """Remove a person. Raises KeyError."""
        person = self._people.pop(name.casefold())
        self._index()
        return Event(EventKind.PERSON_REMOVED, now, reason="removed by a user", person=person)

    def after(self, event: Event) -> list[Event]:
        """Return what an event changes for people."""
        if not self._people:
            return []
        events: list[Event] = []
        if event.device is not None:
            mac = event.device.mac
            for person in self.of(mac):
                if event.kind is EventKind.FORGOTTEN and mac not in self._devices:
                    events += self.change(person.name, {}, [mac], None, event.at)
                else:
                    events += self._settle(person, event.at, event.seen_at)
        elif event.kind is EventKind.PERSON_CHANGED and event.person is not None:
            events += self._settle(event.person, event.at)
        elif event.kind in DOUBTS:
            events += self.settle(event.at)
        return events

    def settle(self, now: float) -> list[Event]:
        """Return the changes of status of all people."""
        return [event for person in self.all() for event in self._settle(person, now)]

    def restore(self, people: Iterable[Person]) -> None:
        """Restore the people of before a start; call `settle` when the devices are restored."""
        for person in people:
            if len(self._people) < MOST_PEOPLE:
                self._people[person.name.casefold()] = person
        self._index()

    def move(self, old: Mac, new: Mac, now: float) -> list[Event]:
        """Put a device in the place of another one, which is merged into it."""
        events: list[Event] = []
        for person in self.of(old):
            counts = person.devices[old] or person.devices.get(new, False)
            events += self.change(person.name, {new: counts}, [old], None, now)
        return events

    def split(self, merge: Merge, now: float) -> list[Event]:
        """Give people the device back that a merge took from them, unless they have lost the other one since."""
        events: list[Event] = []
        for name, (counts, added) in merge.people.items():
            person = self._people.get(name)
            if person is not None and merge.into in person.devices:
                with suppress(Busy):  # the person has as many devices as possible
                    events += self.change(name, {merge.mac: counts}, [merge.into] if added else (), None, now)
        return events

    def _index(self) -> None:
        for mac in self._of:
            if (device := self._devices.get(mac)) is not None:
                device.has_person = False
        self._of = {}
        for key, person in self._people.items():
            for mac in person.devices:
                self._of.setdefault(mac, set()).add(key)
                if (device := self._devices.get(mac)) is not None:
                    device.has_person = True

    def _settle(self, person: Person, now: float, seen_at: float | None = None) -> list[Event]:
        status, reason = verdict(person, self._devices)
        if status is person.status:
            person.reason = reason  # of the devices as they are now; no event
            return []
        previous = {"status": person.status, "status_since": person.status_since, "reason": person.reason}
        if status is not UNKNOWN and status is not person.last_status:
            person.last_status, person.last_since = status, now
        person.status, person.reason = status, reason
        person.status_since = now if status is UNKNOWN else person.last_since
        return [Event(KIND_OF[status], now, reason=reason, previous=previous, seen_at=seen_at, person=person)]
