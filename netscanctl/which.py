"""Which device is meant: by MAC, address, name or label. Pure."""

import re
from collections.abc import Iterable
from ipaddress import ip_address

from netscanctl.client import Failure
from netscanctl.text import clean
from netscand.protocol import Device

_MAC = re.compile(r"[0-9a-f]{12}")


def as_mac(text: str) -> str | None:
    """The MAC in the wire's spelling, from any usual one (`aa:bb:…`, `AA-BB-…`, `aabb.ccdd.eeff`); else None."""
    digits = re.sub(r"[:.-]", "", text.lower())
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2)) if _MAC.fullmatch(digits) else None


def as_ip(text: str) -> str | None:
    """The address in the wire's spelling; else None."""
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def matching(devices: Iterable[Device], text: str) -> list[Device]:
    """Those that `text` names. An address is its holder's, and only without one, that of who once held it."""
    listed = list(devices)
    if mac := as_mac(text):
        return [device for device in listed if device.mac == mac]
    if ip := as_ip(text):
        holding = [device for device in listed if device.ip == ip]
        return holding or [device for device in listed if any(held.ip == ip for held in device.addresses)]
    wanted = text.casefold()
    return [device for device in listed if wanted in _names(device)]


def _names(device: Device) -> set[str]:
    hostname = (device.hostname or "").casefold()
    return {(device.label or "").casefold(), hostname, hostname.partition(".")[0]} - {""}


def the_one(devices: Iterable[Device], text: str) -> Device:
    """The device that `text` names. Raises Failure where it is none, or more than one."""
    found = matching(devices, text)
    if not found:
        raise Failure(f"no device is {clean(text)}: netscanctl devices TEXT searches parts of names")
    if len(found) > 1:
        macs = ", ".join(clean(device.mac) for device in found[:8]) + (", …" if len(found) > 8 else "")
        raise Failure(f"{len(found)} devices are {clean(text)}: name one by its MAC: {macs}")
    return found[0]
