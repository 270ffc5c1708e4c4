"""Devices that users merged: several MACs of one machine are one device, of which the others are addresses.

A frame of a merged MAC counts as one of the device (core/inventory.py, `observe`), so that presence, addresses and
events are those of one device. Only a user merges devices.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from netscand.core.model import Busy, Device, Mac, Observation

MOST_MERGED, MOST_OF_ONE = 256, 8
"""Maximum merged MACs, and of one device."""


class Merge(NamedTuple):
    """A MAC that was merged into another one, and what its device was before, for the undo."""

    mac: Mac
    into: Mac
    first_seen: float
    annotations: Mapping[str, object]


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
        """Add a merge. MACs that were merged into that one before follow it."""
        for each in tuple(self._merges.values()):
            if each.into == merge.mac:
                self._merges[each.mac] = each._replace(into=merge.into)
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
