"""Devices that are probably the same one under another MAC: containers that start again, phones with a new private MAC.

It is a suggestion only: users decide whether annotations follow (core/annotations.py, `move_annotations`).
"""

from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

from netscand.core.annotations import is_annotated
from netscand.core.mac_ranges import is_virtual
from netscand.core.model import Device, Ip, Mac, Status

MOST_STEPS = 32
"""Maximum earlier MACs of a device that are examined for annotations."""


MOST_CANDIDATES = 256
"""Maximum devices to choose from, those seen last: thousands of phones may have one name."""


LOCAL = 0x02
"""Flag in the first byte of a MAC: locally administered (IEEE 802c)."""


class Predecessor(NamedTuple):
    """A device that another one probably was before."""

    device: Device
    reason: str


def has_evidence(device: Device) -> bool:
    """Return whether there is evidence of what a device was before."""
    return not device.is_self and (device.dhcp_client_id is not None or device.hostname is not None)


def are_different(one: Device, other: Device) -> bool:
    """Return whether a user said that two devices are not one."""
    return other.mac in one.not_same_as or one.mac in other.not_same_as


def may_matter(device: Device, other: Device) -> bool:
    """Return whether `predecessor` needs another device: one that was there before it, or a copy that is there now."""
    if other is device or other.is_self or are_different(device, other):
        return False
    same_client = device.dhcp_client_id is not None and other.dhcp_client_id == device.dhcp_client_id
    if other.status is not Status.OFFLINE:
        return same_client
    return other.last_seen <= device.first_seen and (same_client or _same_name(device, other))


def predecessor(device: Device, others: Iterable[Device]) -> Predecessor | None:
    """Return what a device probably was before, of `others` that may matter; None: there is no evidence.

    If that one has no annotations, an earlier one may have them. Of two devices that were present at the same time,
    neither is the other, and several devices with one DHCP client identifier are copies of one image.
    """
    pool = list(others)
    clones = any(
        each.status is not Status.OFFLINE and each.dhcp_client_id == device.dhcp_client_id is not None for each in pool
    )
    found = _latest(device, pool, by_id=not clones)
    latest, step = found, 0
    while latest is not None and not is_annotated(latest.device) and step < MOST_STEPS:
        latest, step = _latest(latest.device, pool, by_id=not clones), step + 1
    if latest is None or found is None or not is_annotated(latest.device):
        return found
    return Predecessor(latest.device, found.reason)


def _latest(device: Device, pool: Iterable[Device], *, by_id: bool) -> Predecessor | None:
    candidates = (
        Predecessor(each, reason)
        for each in pool
        if each is not device
        and each.status is Status.OFFLINE
        and each.last_seen <= device.first_seen
        and (reason := _reason(device, each, by_id=by_id))
    )
    return max(candidates, key=lambda each: each.device.last_seen, default=None)


def _reason(device: Device, other: Device, *, by_id: bool) -> str:
    """Return why a device is probably another one; empty: it is not."""
    if device.dhcp_vendor_class and other.dhcp_vendor_class not in (None, device.dhcp_vendor_class):
        return ""
    if by_id and device.dhcp_client_id is not None and device.dhcp_client_id == other.dhcp_client_id:
        return "same DHCP client identifier"
    has, had = _addresses(device), _addresses(other)
    return "same host name, and it has the address of that device" if _same_name(device, other) and has & had else ""


def _addresses(device: Device) -> set[tuple[str, Ip]]:
    """Return the addresses that a device has, and the one that it lost to another."""
    lost = () if device.lost is None else (device.lost,)
    return {(each.network, each.ip) for each in (*device.addresses, *lost)}


def _same_name(device: Device, other: Device) -> bool:
    name = (device.hostname or "").casefold()
    return bool(name) and name == (other.hostname or "").casefold()


# ---- suggestions ---------------------------------------------------------------------------------------------------
# Devices that are probably one under several MACs: a dock and Wi-Fi, a bond, a phone with private MACs. Only a user
# merges them (core/merged.py): all of this is what the devices say of themselves, and any station can say the same.

COPIES = 4
"""Devices with the same identifier or name from which on they are copies of one image, or a common name."""


class Suggestion(NamedTuple):
    """Two devices that are probably one: `other` would be merged into `device`."""

    device: Device
    other: Device
    name: str
    evidence: tuple[str, ...]


class Groups:
    """Devices by what they have in common, for suggestions."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str, object], list[Device]] = {}

    def add(self, device: Device) -> None:
        """Add a device, if it can be merged."""
        fixed = device.is_self or device.is_gateway or device.is_router or device.is_proxy or device.never_seen
        if fixed or is_virtual(device.mac):
            return
        if device.dhcp_client_id is not None:
            self._put(("id", _host_of(device.dhcp_client_id)), device)
        if device.hostname:
            self._put(("name", device.hostname.casefold()), device)

    def _put(self, key: tuple[str, object], device: Device) -> None:
        known = self._by_key.setdefault(key, [])
        if len(known) < COPIES:
            known.append(device)

    def suggestions(self) -> list[Suggestion]:
        """Return the pairs with evidence, the most evidence first."""
        found: dict[frozenset[Mac], Suggestion] = {}
        for group in self._by_key.values():
            if 1 < len(group) < COPIES:
                for one, other in combinations(sorted(group, key=_order), 2):
                    if evidence := _evidence(one, other):
                        found[frozenset((one.mac, other.mac))] = Suggestion(one, other, one.hostname or "", evidence)
        return sorted(found.values(), key=lambda each: (-len(each.evidence), each.device.mac, each.other.mac))


def _order(device: Device) -> tuple[bool, float]:
    """Return the sort key: the device that the other one would be merged into comes first."""
    return not is_annotated(device), device.first_seen


def _host_of(client_id: bytes) -> bytes:
    """Return the part of a DHCP client identifier that all interfaces of a host share (RFC 4361: the DUID)."""
    return client_id[5:] if len(client_id) > 7 and client_id[0] == 255 else client_id


def _evidence(one: Device, other: Device) -> tuple[str, ...]:
    """Return what two devices have in common, if it is enough for a suggestion; else nothing.

    A name alone is not: three phones may be called "iPhone".
    """
    found = []
    ids = [_host_of(each.dhcp_client_id) for each in (one, other) if each.dhcp_client_id is not None]
    if len(ids) == 2 and ids[0] == ids[1]:
        found.append("same DHCP client identifier")
    if not _same_name(one, other):
        return tuple(found)
    strong = bool(found)
    if all(each.hostname_source == "mdns" or "mdns" in each.other_names for each in (one, other)):
        found.append("same mDNS name, which is unique on a network")
        strong = True
    else:
        found.append("same host name")
    if _addresses(one) & _addresses(other):
        found.append("one has an address of the other")
        strong = True
    absent, present = sorted((one, other), key=lambda each: each.status is Status.ONLINE)
    if present.mac[0] & LOCAL and absent.status is Status.OFFLINE and absent.last_seen <= present.first_seen:
        found.append("one has a private MAC, and came after the other had left")
        strong = True
    return tuple(found) if strong else ()
