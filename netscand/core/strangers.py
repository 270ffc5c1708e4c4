"""Which devices are strangers, and which budget pays for what they change.

Anybody can make up MACs, answer in their name, and keep them there for a while. Nobody can make them known since
yesterday, or labelled by a user. So what strangers do is paid by one budget, what residents do by another, and what a
user said a word of by none but its own.
"""

from netscand.core.budgets import DAY, RESIDENTS, STRANGERS, Budget, Budgets
from netscand.core.model import Device
from netscand.core.words import said_of


def is_resident(device: Device, now: float) -> bool:
    """Return whether a device answered us and was known a day ago, or a user labelled it."""
    return said_of(device) or (device.confirmed and now - device.first_seen >= DAY)


def could_change(budgets: Budgets, row: Budget, device: Device, now: float) -> bool:
    """Return whether `may_change` would allow it, and spend nothing."""
    shared = _shared(device, now)
    return budgets.has(row, device.mac, now) and (not shared or budgets.has(shared, device.interface, now))


def may_change(budgets: Budgets, row: Budget, device: Device, now: float, *, first: bool = False) -> bool:
    """Return whether a device may cause one more event of the kind that `row` limits; if so, it is spent.

    `first`: its first name, its first IPv4 address. Each new device was paid for already, and has these.
    """
    shared = None if first else _shared(device, now)
    if shared and not budgets.has(shared, device.interface, now):
        budgets.refuse(shared, now)
        return False
    return budgets.take(row, device.mac, now) and (not shared or budgets.take(shared, device.interface, now))


def _shared(device: Device, now: float) -> Budget | None:
    if said_of(device):
        return None
    return RESIDENTS if is_resident(device, now) else STRANGERS
