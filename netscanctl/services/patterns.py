"""Devices and people that the configuration names: as for netscanctl, or by a pattern. Pure."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from netscand.protocol import Device, has_name


def is_device(device: Device, patterns: Iterable[str]) -> bool:
    """Return whether a pattern is a MAC of the device, its label or host name, or fits one of these."""
    macs = (device.mac, *(device.merged_macs or ()))
    names = (*macs, device.label or "", device.hostname or "")
    return any(
        pattern.casefold().replace("-", ":") in macs
        or has_name(device, pattern)
        or any(is_name(name, pattern) for name in names if name)
        for pattern in patterns
    )


def is_name(name: str, pattern: str) -> bool:
    """Return whether a pattern is a name or fits it, in any case. A name may contain `*`, `?` and brackets, too."""
    return name.casefold() == pattern.casefold() or fnmatchcase(name.casefold(), pattern.casefold())
