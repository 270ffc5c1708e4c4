"""Device lookup by MAC, address, name or label. Pure."""

import re
import shlex
from collections.abc import Iterable
from ipaddress import ip_address

from netscanctl.client import Failure
from netscanctl.text import clean
from netscand.protocol import Device

_MAC = re.compile(r"[0-9a-f]{12}")


def as_mac(text: str) -> str | None:
    """Return a MAC in any usual notation (`aa:bb:…`, `AA-BB-…`, `aabb.ccdd.eeff`) as the API writes it; else None."""
    digits = re.sub(r"[:.-]", "", text.lower())
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2)) if _MAC.fullmatch(digits) else None


def as_ip(text: str) -> str | None:
    """Return an IP address as the API writes it; else None."""
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def matching(devices: Iterable[Device], text: str) -> list[Device]:
    """Return the devices that match `text`. An earlier address of a device counts only if no device has it now."""
    listed = list(devices)
    if mac := as_mac(text):
        return [device for device in listed if device.mac == mac]
    if ip := as_ip(text):
        current = [device for device in listed if device.ip == ip]
        return current or [device for device in listed if any(address.ip == ip for address in device.addresses)]
    name = text.casefold()
    return [device for device in listed if name in _names(device)]


def _names(device: Device) -> set[str]:
    hostname = (device.hostname or "").casefold()
    return {(device.label or "").casefold(), hostname, hostname.partition(".")[0]} - {""}


def find_one(devices: Iterable[Device], text: str) -> Device:
    """Return the device that matches `text`. Raises Failure unless exactly one does."""
    found = matching(devices, text)
    if not found:
        search = f"netscanctl devices {shlex.quote(clean(text))}"
        raise Failure(f'no device matches "{clean(text)}"', f"to search by part of a name: {search}")
    if len(found) > 1:
        macs = ", ".join(clean(device.mac) for device in found[:8]) + (", …" if len(found) > 8 else "")
        raise Failure(f'"{clean(text)}" matches {len(found)} devices', f"use a MAC address: {macs}")
    return found[0]
