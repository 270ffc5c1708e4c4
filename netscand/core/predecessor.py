"""Devices that are probably the same one under another MAC: containers that start again, phones with a new private MAC.

It is a suggestion only: users decide whether annotations follow (core/model.py, `move_annotations`).
"""

from collections.abc import Iterable
from typing import NamedTuple

from netscand.core.model import Device, Ip, Status, is_annotated

MOST_STEPS = 32
"""Maximum earlier MACs of a device that are examined for annotations."""


MOST_CANDIDATES = 256
"""Maximum devices to choose from, those seen last: thousands of phones may have one name."""


class Predecessor(NamedTuple):
    """A device that another one probably was before."""

    device: Device
    reason: str


def has_evidence(device: Device) -> bool:
    """Return whether there is evidence of what a device was before."""
    return not device.is_self and (device.dhcp_client_id is not None or device.hostname is not None)


def may_matter(device: Device, other: Device) -> bool:
    """Return whether `predecessor` needs another device: one that was there before it, or a copy that is there now."""
    if other is device or other.is_self:
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
