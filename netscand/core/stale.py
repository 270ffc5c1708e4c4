"""Which addresses a device seems to have given up: not heard at for long, while it was at another of the same kind."""

from collections.abc import Callable
from math import inf

from netscand.core.model import Address, Device

STALE = 1800.0
"""Seconds after which an address is dropped that its device was not heard at, while it was at another."""

STALE_V6 = 86_400.0
"""The same for IPv6, where a host has several addresses, and says for hours nothing by some of them."""

ASKED_FOR = 60.0
"""Seconds after that in which a device is asked at an address where it answered before."""


def stale(device: Device, can_ask: Callable[[Address], object]) -> tuple[list[Address], list[Address]]:
    """Return the addresses to drop, and those to be asked for a minute before they go.

    The device answered us there, and anybody can bring about that it is heard elsewhere.
    """
    to_drop: list[Address] = []
    to_ask: list[Address] = []
    for old in device.addresses:
        same = (held for held in device.addresses if held.network == old.network and len(held.ip) == len(old.ip))
        behind = max(held.last_seen for held in same) - old.last_seen
        silent = STALE if len(old.ip) == 4 else STALE_V6
        if behind <= silent:
            continue
        unproven = behind <= silent + ASKED_FOR or old.asked <= old.last_seen
        (to_ask if unproven and old.answered > -inf and can_ask(old) else to_drop).append(old)
    return to_drop, to_ask
