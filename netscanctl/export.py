"""Lists of devices for other programs: CSV, ethers(5), hosts(5). Pure.

Devices choose their own names, so these are not trusted: a spreadsheet could run them, a resolver would use them.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from netscanctl.render import is_never_seen
from netscanctl.text import SENTENCE_LIMIT, clean
from netscand.protocol import Device

CSV_HEADER = ("status", "ip", "mac", "name", "hostname", "label", "vendor", "kinds", "known", "status_since",
            "first_seen", "last_seen", "reason", "notes", "kind", "tags")  # fmt: skip
FORMULA = re.compile(r"(^|[;,|])(\s*)(?=[=+\-@＝＋－＠])")  # full-width forms too
"""Characters that start a formula in a spreadsheet (T9), also after separators other than the comma."""
_HOSTNAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.I)
_RESERVED = {"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback", "broadcasthost", "wpad", "isatap"}
_TRUST = {"dns": 1}


def as_csv(devices: Iterable[Device]) -> str:
    """Return a header and one line per device; times in UTC, none of a device that was never seen.

    Of a hub's devices, the site, too.
    """
    out, listed = io.StringIO(), list(devices)
    with_sites = any(device.site for device in listed)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*CSV_HEADER, "site") if with_sites else CSV_HEADER)
    for device in listed:
        times = (device.status_since, device.first_seen, device.last_seen)
        cells = (device.status, device.ip, device.mac, device.label or device.hostname, device.hostname, device.label,
                 device.vendor, " ".join(device.kinds), "yes" if device.known else "no",
                 *(("",) * 3 if is_never_seen(device) else times), device.reason, device.notes,
                 device.kind or "", " ".join(device.tags), *((device.site or "",) if with_sites else ()))  # fmt: skip
        writer.writerow([_cell(cell) for cell in cells])
    return out.getvalue()


def _cell(value: str | None) -> str:
    return FORMULA.sub(r"\1\2'", clean(value or "", SENTENCE_LIMIT))


def as_ethers(devices: Sequence[Device], everyone: Sequence[Device] = ()) -> str:
    """Return `mac ip` lines, or `mac name` for devices without IPv4; devices with neither are omitted.

    An address that several devices have, because one left and another came, is that of the one that is there now.
    """
    names = _names(devices, everyone)
    lines = []
    for device in _holders(devices):
        ip = own_ip(device)
        host = ip if ip and _version(ip) == 4 else names.get(device.mac)
        if host:
            lines.append(f"{clean(device.mac)} {clean(host)}\n")
    return "".join(lines)


def as_hosts(devices: Sequence[Device], everyone: Sequence[Device] = ()) -> str:
    """Return `ip name` lines; an address that several devices have is that of the one that is there now."""
    reachable = [(ip, device) for device in _holders(devices) if (ip := own_ip(device)) and _version(ip)]
    names = _names((device for _, device in reachable), everyone or devices)
    return "".join(f"{ip} {names[device.mac]}\n" for ip, device in reachable if device.mac in names)


def own_ip(device: Device) -> str | None:
    """Return the address of a device, unless it is a foreign one: others may have it, and no router leads there."""
    return None if any(each.foreign and each.ip == device.ip for each in device.addresses) else device.ip


def _holders(devices: Iterable[Device]) -> list[Device]:
    """Return the devices without those whose address another one has that is online, or was seen later."""
    listed = list(devices)
    holders: dict[str | None, Device] = {}
    for device in listed:
        other = holders.get(device.ip)
        if other is None or _presence(device) > _presence(other):
            holders[device.ip] = device
    return [device for device in listed if device.ip is None or holders[device.ip] is device]


def _presence(device: Device) -> tuple[bool, str]:
    return device.status == "online", device.last_seen


def _names(devices: Iterable[Device], everyone: Iterable[Device]) -> dict[str, str]:
    """Return MAC → name. A name of several devices belongs to the most trusted one; one that a user gave, to no other.

    `everyone`: all devices, of which `devices` may be only some.
    """
    given = {name.lower() for device in everyone if (name := _host_name(device)) and name == device.label}
    best: dict[str, tuple[tuple[int, bool, str], str, str]] = {}
    for device in devices:
        name = _host_name(device)
        if name and (name == device.label or name.lower() not in given):
            found = (_trust(device, name), device.mac, name)
            best[name.lower()] = min(found, best.get(name.lower(), found))
    return {mac: name for _, mac, name in best.values()}


def _trust(device: Device, name: str) -> tuple[int, bool, str]:
    """Return a sort key, most trusted first; a name that was made valid replaces no other."""
    source = 0 if name == device.label else _TRUST.get(device.hostname_source or "", 2)
    made = name != device.label and name.lower() not in (device.hostname or "").lower()
    return 3 if made else source, device.status != "online", device.first_seen


def _host_name(device: Device) -> str | None:
    """Return a name that is valid for a resolver; names not from DNS lose their domain (`www.example.org`: `www`).

    If neither label nor host name is valid, make one of the label, or of the host name: `Jane's phone` → `janes-phone`.
    """
    hostname = device.hostname or ""
    if device.hostname_source != "dns":
        hostname = hostname.partition(".")[0]
    label = device.label or ""
    for name in (label, hostname, _slug(label), _slug(hostname.partition(".")[0])):
        if _HOSTNAME.fullmatch(name) and name.lower() not in _RESERVED and not _version(name) and not name.isdigit():
            return name
    return None


def _slug(text: str) -> str:
    """Return a host name like a text: its letters without accents, its digits, and `-` between words."""
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower().replace("'", "")
    return re.sub(r"[^a-z0-9]+", "-", letters)[:63].strip("-")


def _version(text: str) -> int:
    """Return 4 or 6; 0 for an invalid address, or one with a zone, which may be any text."""
    try:
        return 0 if "%" in text else ip_address(text).version
    except ValueError:
        return 0
