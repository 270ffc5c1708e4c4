"""Strangers and residents, and the budgets that pay for their changes.

Anybody can make up MACs, answer in their name, and keep them there for a while. Nobody can make them known since
yesterday, or labelled by a user. So strangers have one budget for all, residents another, and an annotated device
pays from its own budgets alone. Where the one that many share is used up, residents have a few changes of their own
left, and so have the strangers that came first (`own_shares`): who leaves is published, whatever others do. Later ones
have none, or each made-up MAC would bring some along.
"""

from collections.abc import Hashable

from netscand.core.budgets import (
    ABSENCES,
    ADDRESSES,
    DAY,
    FIRST_ABSENCES,
    FIRST_CHANGES,
    OWN_SHARES,
    RESIDENTS,
    STRANGERS,
    Budget,
    Budgets,
)
from netscand.core.model import Device
from netscand.core.words import said_of


def is_resident(device: Device, now: float) -> bool:
    """Return whether a device answered us and was known a day ago, or a user labelled it."""
    return said_of(device) or (device.confirmed and now - device.first_seen >= DAY)


def grant_share(budgets: Budgets, device: Device, now: float) -> None:
    """Let a new device have changes of its own, if its interface has a share left."""
    if budgets.has(OWN_SHARES, device.interface, now):  # to have none is no refusal: it has what all share
        device.has_share = budgets.take(OWN_SHARES, device.interface, now)


def could_change(budgets: Budgets, row: Budget, device: Device, now: float) -> bool:
    """Return whether `may_change` would allow it, and spend nothing."""
    return budgets.has(row, device.mac, now) and (said_of(device) or _payer(budgets, row, device, now) is not None)


def may_change(budgets: Budgets, row: Budget, device: Device, now: float) -> bool:
    """Return whether a device may cause one more event of the kind that `row` limits; if so, it is spent."""
    if said_of(device):
        return budgets.take(row, device.mac, now)
    payer = _payer(budgets, row, device, now)
    if payer is None:
        budgets.refuse(_shared(device, now), now)
        return False
    return budgets.take(row, device.mac, now) and budgets.take(*payer, now, _units(row))


def _payer(budgets: Budgets, row: Budget, device: Device, now: float) -> tuple[Budget, Hashable] | None:
    """Return the budget that pays for a device without a user's words, and its spender; None: nothing is left.

    Names and addresses take nothing from what is left for absences.
    """
    shared, units = _shared(device, now), _units(row)
    if budgets.has(shared, device.interface, now, units):
        return shared, device.interface
    if not device.has_share and shared is STRANGERS:
        return None
    own = FIRST_ABSENCES if row is ABSENCES else FIRST_CHANGES
    return (own, device.mac) if budgets.has(own, device.mac, now, units) else None


def _units(row: Budget) -> float:
    """An address that is added is removed once, too."""
    return 2.0 if row is ADDRESSES else 1.0


def _shared(device: Device, now: float) -> Budget:
    return RESIDENTS if is_resident(device, now) else STRANGERS
