"""Devices that users merged: several MACs of one machine are one device, of which the others are addresses.

A frame of a merged MAC counts as one of the device (core/inventory.py, `observe`), so that presence, addresses and
events are those of one device. Only a user merges devices.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from netscand.core.annotations import NO_ANNOTATIONS, annotations
from netscand.core.mac_ranges import is_virtual
from netscand.core.model import Busy, Device, Mac, Observation, Status
from netscand.core.presence import Presence

MOST_MERGED, MOST_OF_ONE = 256, 8
"""Maximum merged MACs, and of one device."""


class Merge(NamedTuple):
    """A device that was merged into another one, as it was then, and what else the undo needs."""

    device: Device
    into: Mac
    own_first_seen: float | None = None
    """When the other one was first seen, without any merge; None: not known."""
    given: Mapping[str, object] = {}
    """Annotations, and the host name, that the other one got from it."""
    people: Mapping[str, tuple[bool, bool]] = {}
    """Name, in lower case, of each person that had it → whether it counted, and whether the other one was added."""

    @property
    def mac(self) -> Mac:
        """Return the MAC that was merged."""
        return self.device.mac


def why_not_merged(device: Device) -> str:
    """Return why a device cannot be merged, as the rest of a sentence; "" if it can.

    What guards addresses goes by the MAC: a merge must not make another station the gateway or this host.
    """
    if device.is_self:
        return "is this host"
    if device.is_gateway or device.is_router:
        return "is a gateway"
    if is_virtual(device.mac) or device.is_proxy:
        return "speaks for several machines"
    return "was never seen" if device.never_seen else ""


def to_give(gone: Device, into: Device) -> dict[str, object]:
    """Return what a device gets from one that is merged into it: annotations, tags and a host name that it lacks."""
    own, of_gone = annotations(into), annotations(gone)
    given = {name: value for name, value in of_gone.items() if name not in ("tags", "not_same_as", *own)}
    tags = tuple(tag for tag in gone.tags if tag not in into.tags)
    if into.hostname is None and gone.hostname is not None:
        given["hostname"] = gone.hostname
    return given | ({"tags": tags} if tags else {})


def to_take_back(merge: Merge, into: Device) -> dict[str, object]:
    """Return the changes of annotations that undo what a device got by a merge, unless a user changed it since."""
    own, tags = annotations(into), merge.given.get("tags", ())
    changes = {name: NO_ANNOTATIONS[name] for name, value in merge.given.items() if name in own and own[name] == value}
    assert isinstance(tags, tuple)
    return changes | {"tags": tuple(tag for tag in into.tags if tag not in tags)}


def taken_out(merge: Merge, into: Device, now: float, last_seen: float | None) -> Device:
    """Return the device of a merge as it is when that is undone, without addresses.

    `last_seen`: at the addresses that it has now; None: it has none.
    """
    device, rules = merge.device, into.presence.rules
    learned = Presence.restored(now, rules, device.presence.learned(), max(0.0, now - device.last_seen))
    learned.chosen = device.presence.chosen
    return replace(
        device, presence=learned, status=Status.UNKNOWN, status_since=now, addresses=[], interface=into.interface,
        reason=f"separated from {into.mac.hex(':')} by a user", lost=None, counted=None, has_person=False,
        last_seen=device.last_seen if last_seen is None else last_seen,
    )  # fmt: skip


class MergedMacs:
    """Table of the merged MACs."""

    def __init__(self) -> None:
        self._merges: dict[Mac, Merge] = {}

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._merges)

    def all(self) -> Iterable[Merge]:
        """Return all of them."""
        return self._merges.values()

    def primary(self, mac: Mac) -> Mac:
        """Return the MAC of the device that a MAC belongs to: its own, unless it was merged."""
        found = self._merges.get(mac)
        return mac if found is None else found.into

    def of(self, mac: Mac) -> tuple[Mac, ...]:
        """Return the MACs that were merged into a device, in order."""
        return tuple(sorted(each.mac for each in self._merges.values() if each.into == mac))

    def apply(self, seen: Observation) -> Observation:
        """Return an observation as one of the device that its MAC was merged into."""
        found = self._merges.get(seen.mac)
        return seen if found is None else seen._replace(mac=found.into, merged_mac=seen.mac)

    def check_room(self, device: Device, more: int) -> None:
        """Raise Busy if so many more MACs cannot be merged into a device."""
        if len(self._merges) + 1 > MOST_MERGED:
            raise Busy(f"{MOST_MERGED} MACs are merged, which is the maximum; undo some first")
        if len(device.merged) + more > MOST_OF_ONE:
            raise Busy(f"at most {MOST_OF_ONE} MACs can be merged into one device; undo some first")

    def add(self, merge: Merge) -> None:
        """Add a merge."""
        self._merges[merge.mac] = merge

    def remove(self, mac: Mac) -> Merge:
        """Remove a merge. Raises KeyError."""
        return self._merges.pop(mac)

    def forget(self, device: Mac) -> None:
        """Remove the merges of a device that was forgotten."""
        for mac in self.of(device):
            del self._merges[mac]

    def restore(self, merges: Iterable[Merge], devices: Mapping[Mac, Device]) -> None:
        """Restore the merges of before a start, whose devices are there."""
        for merge in merges:
            if merge.into in devices and merge.mac not in devices and len(self._merges) < MOST_MERGED:
                self._merges[merge.mac] = merge
        for mac in {merge.into for merge in self._merges.values()}:
            devices[mac].merged = self.of(mac)
