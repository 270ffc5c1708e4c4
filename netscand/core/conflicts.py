"""Conflicts between devices that last: both are online, and both are still seen at the address."""

from typing import NamedTuple

from netscand.core.model import Address, Device, Ip, Mac, Status

MOST = 256
"""Maximum conflicts remembered."""

PROBED, LASTS = 60.0, 180.0
"""Seconds after which a device that is seen only at other addresses is probed at this one; and after which, if it did
not answer, the conflict is over."""

Key = tuple[str, Ip, frozenset[Mac]]


class Conflict(NamedTuple):
    """Address that two devices use."""

    network: str
    ip: Ip
    holder: Device
    claimant: Device
    since: float
    """When it was claimed."""

    @property
    def lasts(self) -> bool:
        """Return whether both devices use the address still: both were seen there after the claim."""
        return self._is_used_by(self.holder) and self._is_used_by(self.claimant)

    @property
    def rank(self) -> tuple[bool, float]:
        """Return the sort key: devices that answered us come first, so that made-up MACs cannot hide them."""
        return not (self.holder.confirmed and self.claimant.confirmed), self.since

    def _is_used_by(self, device: Device) -> bool:
        address = device.address_at(self.network, self.ip)
        if address is None or device.status is not Status.ONLINE:
            return False
        return address.last_seen >= self.since and device.last_seen - address.last_seen <= LASTS


class Conflicts:
    """Published conflicts between two devices; those with this host are OwnClaims."""

    def __init__(self) -> None:
        self._found: dict[Key, Conflict] = {}
        self._macs: frozenset[Mac] = frozenset()
        """Those of all devices in the table."""

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self._found)

    def note(self, network: str, ip: Ip, holder: Device, claimant: Device, since: float) -> None:
        """Note a conflict that is published. One that lasts keeps the time of its claim."""
        key = network, ip, frozenset((holder.mac, claimant.mac))
        if key in self._found and self._found[key].lasts:
            return
        self._found[key] = Conflict(network, ip, holder, claimant, since)
        if len(self._found) > MOST:
            self._found = {each: found for each, found in self._found.items() if found.lasts or each == key}
        if len(self._found) > MOST:
            del self._found[max(self._found, key=lambda each: self._found[each].rank)]
        self._macs = frozenset().union(*(macs for *_, macs in self._found))

    def end(self, one: Mac, other: Mac | None = None) -> None:
        """Delete the conflicts of a device that is forgotten, or with a device that is the same host."""
        macs = {one, other or one}
        self._found = {key: found for key, found in self._found.items() if not macs <= key[2]}
        self._macs = frozenset().union(*(macs for *_, macs in self._found))

    def to_probe(self, device: Device) -> list[Address]:
        """Return the addresses in conflict at which a device is to be probed, because it is seen only elsewhere."""
        if device.mac not in self._macs:
            return []
        found = (each for key, each in self._found.items() if device.mac in key[2] and each.lasts)
        addresses = {
            each.ip: address for each in found if (address := device.address_at(each.network, each.ip)) is not None
        }
        return [
            each
            for each in addresses.values()
            if device.last_seen - each.last_seen > PROBED and device.last_seen - each.probed_at > PROBED
        ]

    def lasting(self) -> list[Conflict]:
        """Return the conflicts that last, those of devices that answered us first, then the oldest."""
        return sorted((found for found in self._found.values() if found.lasts), key=lambda found: found.rank)
