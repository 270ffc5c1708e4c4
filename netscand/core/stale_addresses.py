"""Addresses that a device has given up, and the address that it is known by."""

from collections.abc import Callable
from math import inf

from netscand.core.model import Address, Device, Ip, Network, is_link_local

# ---- stale ---------------------------------------------------------------------------------------------------------
# Addresses that a device has probably given up: not seen there for long, while seen at another of the same family.

STALE = 1800.0
"""Seconds without being seen at an IPv4 address, while seen at another, after which the address is dropped."""

STALE_V6 = 86_400.0
"""The same for IPv6, where a host has several addresses and may not use some of them for hours."""

PROBED_BEFORE_DROP = 60.0
"""Seconds after that in which the device is probed at an address where it answered before."""


MAIN_PROBED, MAIN_SILENT = 60.0, 120.0
"""Seconds without being seen at its `ip`, while seen at another IPv4 address, after which a device is probed there; and
after which, if it did not answer, the other address becomes its `ip`."""


def scope(ip: Ip) -> int:
    """Return 4 for IPv4; for IPv6, whether the address is link-local. Hosts change addresses within it at any time."""
    return 4 if len(ip) == 4 else int(is_link_local(ip))


def stale(device: Device, can_probe: Callable[[Address], object]) -> tuple[list[Address], list[Address]]:
    """Return the addresses to drop, and those to probe, for a minute before they are dropped.

    Another station can make a device appear elsewhere, and a device may use one address only. Of each scope of IPv6,
    the latest address stays.
    """
    to_drop: list[Address] = []
    to_probe: list[Address] = []
    main = device.main_address
    for old in device.addresses:
        same = (
            address
            for address in device.addresses
            if address.network == old.network and scope(address.ip) == scope(old.ip)
        )
        newest = max(address.last_seen for address in same)
        behind = newest - old.last_seen
        silent = STALE if len(old.ip) == 4 else STALE_V6
        if behind <= silent:
            if old is main and behind > MAIN_PROBED and newest - old.probed_at > MAIN_PROBED and can_probe(old):
                to_probe.append(old)
            continue
        unproven = behind <= silent + PROBED_BEFORE_DROP or old.probed_at <= old.last_seen
        (to_probe if unproven and can_probe(old) else to_drop).append(old)
    return to_drop, to_probe


# ---- main address --------------------------------------------------------------------------------------------------
# The `ip` of a device stays the same while the device answers there.


def choose_main(device: Device) -> None:
    """Make the address that was seen last the `ip` of a device that has none."""
    main = device.main_address
    if main is not None and main.main_since == -inf and len(main.ip) == 4:
        main.main_since = main.first_seen


def restore_main(device: Device) -> None:
    """Make the first IPv4 address the `ip` of a device from before a restart, in the stored order."""
    main = next((each for each in device.addresses if len(each.ip) == 4 and not each.foreign), None)
    if main is not None:
        main.main_since = main.first_seen


def keep_main(device: Device, address: Address) -> None:
    """Make an address the `ip` of a device that was just seen there, if it no longer answers at its old `ip`."""
    main = device.main_address
    if main is not None and main is not address and len(main.ip) == 4:
        silent = address.last_seen - main.last_seen
        if silent > MAIN_SILENT and main.probed_at > main.last_seen:
            address.main_since = address.last_seen


def is_temporary_address(device: Device, network: Network, ip: Ip) -> bool:
    """Return whether an IPv6 address is a further one of its scope, and so no event: hosts often make new ones.

    Phones do so daily and with each connection (RFC 8981), and a new prefix gives all hosts new ones.
    """
    return len(ip) == 16 and any(
        scope(address.ip) == scope(ip) and address.network == network.id for address in device.addresses
    )


def rank_to_keep(address: Address) -> tuple[bool, bool, float]:
    """Return the sort key of addresses to evict."""
    return len(address.ip) == 4, address.answered > -inf, address.last_seen
