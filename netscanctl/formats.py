"""Lists of devices for other programs: CSV, ethers(5), hosts(5). Pure.

What names a device says of itself is not to be believed: a spreadsheet would run it, a resolver would follow it.
"""

import csv
import io
import re
from collections.abc import Iterable
from ipaddress import ip_address

from netscanctl.text import SENTENCE_LIMIT, clean
from netscand.protocol import Device

CSV_HEAD = ("status", "ip", "mac", "name", "hostname", "label", "vendor", "kinds", "known", "status_since",
            "first_seen", "last_seen", "reason", "notes")  # fmt: skip
FORMULA = re.compile(r"(^|[;,|])(\s*)(?=[=+\-@＝＋－＠])")  # those of Japanese keyboards too
"""What a spreadsheet takes for the begin of a formula (T9), also where it takes other separators than ours."""
_HOSTNAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.I)
_RESERVED = {"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback", "broadcasthost", "wpad", "isatap"}
_TRUST = {"dns": 1}


def as_csv(devices: Iterable[Device]) -> str:
    """A head line and one line a device; times in UTC."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(CSV_HEAD)
    for device in devices:
        cells = (device.status, device.ip, device.mac, device.label or device.hostname, device.hostname, device.label,
                 device.vendor, " ".join(device.kinds), "yes" if device.known else "no", device.status_since,
                 device.first_seen, device.last_seen, device.reason, device.notes)  # fmt: skip
        lines.writerow([_cell(cell) for cell in cells])
    return out.getvalue()


def _cell(value: str | None) -> str:
    return FORMULA.sub(r"\1\2'", clean(value or "", SENTENCE_LIMIT))


def as_ethers(devices: Iterable[Device]) -> str:
    """`mac ip`, or `mac name` for a device without IPv4; one with neither is left out."""
    lines = []
    for device in devices:
        holder = device.ip if device.ip and _version(device.ip) == 4 else _host_name(device)
        if holder:
            lines.append(f"{clean(device.mac)} {clean(holder)}\n")
    return "".join(lines)


def as_hosts(devices: Iterable[Device]) -> str:
    """`ip name`, each name once, to the most trusted device that bears it; a device without either is left out."""
    named = [(device, name) for device in devices if device.ip and _version(device.ip) and (name := _host_name(device))]
    best: dict[str, Device] = {}
    for device, name in named:
        holder = best.get(name.lower())
        if holder is None or _trust(device) < _trust(holder):
            best[name.lower()] = device
    return "".join(f"{device.ip} {name}\n" for device, name in named if best[name.lower()] is device)


def _trust(device: Device) -> tuple[int, bool, str]:
    source = 0 if device.label else _TRUST.get(device.hostname_source or "", 2)
    return source, device.status != "online", device.first_seen


def _host_name(device: Device) -> str | None:
    """A name fit for a resolver. What a device says of itself counts without its domain: `www.example.org` is `www`."""
    said = device.hostname or ""
    if device.hostname_source != "dns":
        said = said.partition(".")[0]
    for name in (device.label or "", said):
        if _HOSTNAME.fullmatch(name) and name.lower() not in _RESERVED and not _version(name) and not name.isdigit():
            return name
    return None


def _version(text: str) -> int:
    """4 or 6; 0 for what is no address, or has a zone, which may be any text."""
    try:
        return 0 if "%" in text else ip_address(text).version
    except ValueError:
        return 0
