"""Tables and lists for people. Pure: values in, text out.

All text from the daemon passes through `clean`. Times are local.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TypeVar

from msgspec import UnsetType

from netscanctl.page_links import origins, origins_here
from netscanctl.text import SENTENCE_LIMIT, clean, fit, width, wrap
from netscand.checkout import for_checkout
from netscand.protocol import (
    Address,
    Conflict,
    DaemonStatus,
    Device,
    Dhcp,
    Network,
    PresenceDay,
    SameDevice,
    ScanError,
    ScanUpdate,
    Service,
    Site,
)

T = TypeVar("T")

COLOURS = {"+": "32", "-": "31", "!": "1;33", "~": "36", "online": "32", "offline": "31", "unknown": "33", "up": "32",
           "down": "31", "silent": "33", "ok": "32", "degraded": "1;33", "connected": "32", "home": "32",
           "away": "31"}  # fmt: skip
"""SGR parameters."""
NARROWEST = 8
NAME_COLUMNS = 16
"""Columns of a name below which less useful columns are omitted first."""
WRAPPED = "WHY"
"""Last column whose text is wrapped, because no other command shows it."""
SOFT = {"NAME": NAME_COLUMNS, "VENDOR": NARROWEST, "KIND": NARROWEST, "TAGS": NARROWEST, WRAPPED: 24}
"""Columns that are cut or wrapped on a narrow terminal, and the width down to which they are."""
LEAST_USEFUL = (
    "VENDOR", "KIND", "MAC", "TAGS", "SINCE", "LAST SCAN", "COVERAGE", "INTERVAL", "ADDRESSES", "GATEWAY", "VERSION",
    "OFFLINE", "ONLINE",
)  # fmt: skip
"""Columns that are omitted, in this order, on an even narrower terminal."""
GAP = "  "
WITHOUT_END = 0xFFFF_FFFF
"""Seconds of a lease without end (RFC 2131, 3.3)."""
EXACT = 120
"""Seconds below which a duration is shown in seconds; up to five times as many, in minutes and seconds."""
NONE = "-"
"""Empty cell: it keeps the number of columns constant."""
NEVER_SEEN = "never"
NEW_FOR = timedelta(days=1)
"""Time for which a device that is not known counts as new."""
FOREIGN = "this host has no address in that network"

Paint = Callable[[str, str], str]
"""(text, key of COLOURS) → text, coloured or not."""

Rows = Iterable[Sequence[str]]


def plain(text: str, _key: str) -> str:
    """Return the text without colour."""
    return text


def coloured(text: str, key: str) -> str:
    """Return the text in the colour of `key`."""
    return f"\x1b[{COLOURS[key]}m{text}\x1b[0m" if key in COLOURS else text


def moment(stamp: str | None, today: datetime | None = None) -> str:
    """Return a time of the API as local time; with `today`, shortened as in ls(1)."""
    if not stamp:
        return NONE
    try:
        local = datetime.fromisoformat(stamp).astimezone()
    except ValueError:
        return clean(stamp)
    if today is None:
        return local.strftime("%Y-%m-%d %H:%M:%S")
    if local.date() == today.date():
        return local.strftime("%H:%M:%S")
    return local.strftime("%b %d %H:%M" if local.year == today.year else "%b %d  %Y")


def span(seconds: float) -> str:
    """Format a duration: `12 ms`, `0.4 s`, `90 s`, `2 min 30 s`, `15 min`, `3 h 20 min`, `4 d 2 h`."""
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < EXACT:
        return f"{seconds:.1f} s" if seconds < 10 and seconds % 1 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 5 * EXACT and whole % 60:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    big, small, names = (minutes // 60, minutes % 60, ("h", "min")) if minutes < 1440 else (
        minutes // 1440, minutes % 1440 // 60, ("d", "h"))  # fmt: skip
    if not big:
        return f"{minutes} min"
    return f"{big} {names[0]} {small} {names[1]}" if small else f"{big} {names[0]}"


def name_of(device: Device) -> str:
    """Return the label or host name."""
    return clean(device.label or device.hostname or NONE)


def title(device: Device) -> str:
    """Return name and MAC, of a hub's device also the site, for messages."""
    name, site = name_of(device), f" at site {clean(device.site)}" if device.site else ""
    return (clean(device.mac) if name == NONE else f"{name} ({clean(device.mac)})") + site


def size(count: int) -> str:
    """Format a number of bytes: `512 bytes`, `3.2 MiB`."""
    amount, unit = float(count), "bytes"
    for bigger in ("KiB", "MiB", "GiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, bigger
    return f"{count} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"


def is_never_seen(device: Device) -> bool:
    """Return whether a device was only annotated: its times are those of the annotation."""
    return "never_seen" in device.kinds


def is_new(device: Device, now: datetime) -> bool:
    """Return whether a device was first seen within a day, and no user marked it as known.

    Each client decides this by itself: a device becomes old without an event.
    """
    if device.known or "self" in device.kinds or "never_seen" in device.kinds:
        return False
    return abs(now - datetime.fromisoformat(device.first_seen)) < NEW_FOR


def vendor_of(device: Device) -> str:
    """Return the vendor; a randomized MAC has none."""
    return clean(device.vendor or ("(randomized MAC)" if device.randomized_mac else NONE))


def kind_of(device: Device) -> str:
    """Return the kind as words: `access point`; or ""."""
    return clean((device.kind or "").replace("_", " "))


# ---- tables


def table(head: Sequence[str], rows: Rows, *, columns: int | None = None, paint: Paint = plain) -> str:
    """Return aligned columns of clean text, the first one coloured, each line with a newline.

    To fit into `columns` (None: no limit), SOFT columns are cut or wrapped, LEAST_USEFUL ones omitted, then names cut.
    """
    cells = [list(head), *map(list, rows)]
    widths = [max(width(row[at]) for row in cells) for at in range(len(head))]
    for name in LEAST_USEFUL if columns else ():
        least = [min(wide, SOFT.get(of, wide)) for of, wide in zip(cells[0], widths, strict=True)]
        if sum(least) + len(GAP) * (len(least) - 1) <= (columns or 0):
            break
        if name in cells[0]:
            out = cells[0].index(name)
            del widths[out]
            for line in cells:
                del line[out]
    if columns:
        room = columns - len(GAP) * (len(widths) - 1)
        for minimum in (SOFT, dict.fromkeys(SOFT, NARROWEST)):
            _cut(cells[0], widths, room, minimum)
    lines = []
    for row in cells:
        below = wrap(row.pop(), widths[-1]) if cells[0][-1] == WRAPPED and row is not cells[0] else []
        texts = [*row, below.pop(0)] if below else row
        first, *others = (fit(text, wide) for text, wide in zip(texts, widths, strict=True))
        lines.append(GAP.join((paint(first, row[0]), *others)).rstrip())
        lines += [" " * (sum(widths[:-1]) + len(GAP) * len(row)) + text for text in below]
    return "\n".join(lines) + "\n"


def _cut(head: Sequence[str], widths: list[int], room: int, minimum: Mapping[str, int]) -> None:
    """Make the widest columns that have a minimum narrower, until all fit into `room` or have their minimum."""
    while sum(widths) > room:
        wide = [at for at, name in enumerate(head) if name in minimum and widths[at] > minimum[name]]
        if not wide:
            return
        widths[max(wide, key=widths.__getitem__)] -= 1


def devices_table(
    devices: Iterable[Device],
    *,
    columns: int | None,
    paint: Paint,
    today: datetime | None,
    conflicts: Iterable[Conflict] = (),
    now: datetime | None = None,
) -> str:
    """Return the table of devices; KIND has the kind, then the marks, with those of new and disputed devices.

    Tags have a column if any device has one.
    """
    disputed = {mac for conflict in conflicts for mac in conflict.macs}

    def kinds(device: Device) -> str:
        marks = ("new", now and is_new(device, now)), ("conflict", device.mac in disputed)
        words = kind_of(device), *device.kinds, *(mark for mark, applies in marks if applies)
        return clean(",".join(filter(None, words)) or NONE)

    listed = list(devices)
    tagged = any(device.tags for device in listed)
    rows = [
        (clean(device.status), NONE if is_never_seen(device) else moment(device.status_since, today),
         clean(device.ip or NONE), clean(device.mac),
         name_of(device), vendor_of(device), kinds(device), *([clean(",".join(device.tags) or NONE)] if tagged else []))
        for device in listed
    ]  # fmt: skip
    head = ("STATUS", "SINCE", "IP", "MAC", "NAME", "VENDOR", "KIND", *(["TAGS"] if tagged else []))
    return table(*_with_sites(head, rows, listed), columns=columns, paint=paint)


def _with_sites(
    head: Sequence[str], rows: Sequence[Sequence[str]], of: Sequence[Device] | Sequence[Network]
) -> tuple[Sequence[str], Rows]:
    """Return head and rows of a table with the column SITE, if what it lists has sites."""
    if not any(each.site for each in of):
        return head, rows
    sites = [clean(each.site or NONE) for each in of]
    return (head[0], "SITE", *head[1:]), [(row[0], site, *row[1:]) for row, site in zip(rows, sites, strict=True)]


def networks_table(networks: Iterable[Network], *, columns: int | None, paint: Paint, today: datetime | None) -> str:
    """Return the table of networks, with the reason why each is scanned or not."""
    listed = list(networks)
    rows = [
        (clean(network.state), clean(network.id), str(network.online), str(network.addresses),
         clean(network.gateway or NONE), span(network.interval), coverage(network), moment(network.last_scan, today),
         clean(network.why, SENTENCE_LIMIT))
        for network in listed
    ]  # fmt: skip
    head = ("STATE", "NETWORK", "ONLINE", "ADDRESSES", "GATEWAY", "INTERVAL", "COVERAGE", "LAST SCAN", "WHY")
    return table(*_with_sites(head, rows, listed), columns=columns, paint=paint)


def sites_table(sites: Iterable[Site], *, columns: int | None, paint: Paint, today: datetime | None) -> str:
    """Return the table of the sites of a hub, with what is wrong with each."""
    rows = [
        (clean(site.state), clean(site.site), str(site.devices.online), str(site.devices.offline),
         str(site.devices.unknown), moment(site.received_at, today), str(site.backlog), clean(site.version or NONE),
         clean("; ".join(site.why), SENTENCE_LIMIT) or NONE)
        for site in sites
    ]  # fmt: skip
    head = ("STATE", "SITE", "ONLINE", "OFFLINE", "UNKNOWN", "LAST SIGN", "BACKLOG", "VERSION", "WHY")
    return table(head, rows, columns=columns, paint=paint)


def coverage(network: Network) -> str:
    """Return the share of a network that one scan covers; a dash if it is not scanned."""
    part = network.coverage.fraction
    if network.same_lan_as:
        return f"none, on the same LAN as {clean(network.same_lan_as)}"
    if network.state in ("excluded", "down"):
        return NONE
    if not part:
        return "seen addresses"
    return f"{part:.0%}" if part >= 1 else f"{part:.1%} per scan, all in {span(network.coverage.seconds)}"


# ---- one device, the daemon, scans


def facts(pairs: Iterable[tuple[str, str]], columns: int | None = None) -> str:
    """Return aligned lines of name and value; a value that is wider than `columns` of the terminal is wrapped."""
    listed = list(pairs)
    widest = max(len(name) for name, _ in listed) + len(GAP)
    lines = []
    for name, value in listed:
        parts = wrap(value, max(columns - widest, NARROWEST)) if columns else [value]
        lines += [f"{name:<{widest}}{parts[0]}", *(" " * widest + part for part in parts[1:])]
    return "".join(f"{line}\n" for line in lines)


def _given(value: T | UnsetType) -> T | None:
    return None if isinstance(value, UnsetType) else value


def device_facts(
    device: Device, *, paint: Paint, now: datetime, today: datetime | None, presence: str, columns: int | None = None
) -> str:
    """Return all fields of a device, wrapped to `columns`; `presence` is the bar of its last days."""
    never = is_never_seen(device)
    age = span(_seconds(device.status_since, now.isoformat()))
    since = "" if never else f" since {moment(device.status_since, today)} ({age})"
    hostname = clean(device.hostname or NONE) + (
        f" (from {clean(device.hostname_source)})" if device.hostname_source else ""
    )
    pairs = [
        ("device", name_of(device)),
        *([("site", clean(device.site))] if device.site else []),
        ("status", f"{paint(clean(device.status), device.status)}{since}"),
        ("reason", reason_of(device)),
        *(("conflict", _conflict(one, device.mac, today)) for one in _given(device.conflicts) or ()),
        ("mac", clean(device.mac) + (" (randomized)" if device.randomized_mac else "")),
        *([("also", clean(", ".join(device.merged_macs), SENTENCE_LIMIT))] if device.merged_macs else []),
        ("vendor", _vendor(device)),
        ("kind", f"{kind_of(device)} ({clean(device.kind_reason or NONE)})" if device.kind else NONE),
        ("ip", clean(device.ip or NONE) + (" (by DHCP)" if device.address_origin == "lease" else "")),
        *([("dhcp lease", _lease(lease, today))] if (lease := _given(device.dhcp)) else []),
        ("hostname", hostname),
        *([("dhcp client", clean(device.dhcp_vendor_class))] if device.dhcp_vendor_class else []),
        *([("probably", _same_as(device.mac, same))] if (same := _given(device.probably_same_as)) else []),
        ("label", clean(device.label or NONE)),
        ("known", "yes" if device.known else "no (new)" if is_new(device, now) else "no"),
        ("notes", clean(device.notes or NONE, SENTENCE_LIMIT)),
        *([("tags", clean(", ".join(device.tags), SENTENCE_LIMIT))] if device.tags else []),
        ("marks", clean(", ".join(device.kinds) or NONE)),
        *([("services", clean(_services(given), SENTENCE_LIMIT))] if (given := _given(device.services)) else []),
        ("patience", span(device.patience)),
        ("round trip", NONE if device.rtt_ms is None else f"{device.rtt_ms:g} ms"),
        *([("presence", presence)] if presence and not never else []),
        ("first seen", NEVER_SEEN if never else moment(device.first_seen, today)),
        ("last seen", NEVER_SEEN if never else moment(device.last_seen, today)),
        *([("last own frame", moment(sent, today))] if (sent := _given(device.last_unsolicited)) else []),
    ]
    rows = [
        (clean(one.ip), clean(one.network) + _note(one), clean(one.evidence), moment(one.first_seen, today),
         moment(one.last_seen, today))
        for one in device.addresses
    ]  # fmt: skip
    foreign = f"\n(foreign): {FOREIGN}\n" if any(one.foreign for one in device.addresses) else ""
    return facts(pairs, columns) + _addresses(rows, columns) + foreign


def _services(services: Iterable[Service]) -> str:
    """Return the services with what their TXT records say: `_ipp._tcp (ty=HP Envy), _http._tcp`."""

    def text(service: Service) -> str:
        values = ", ".join(f"{key}={value}" for key, value in service.txt.items())
        return f"{service.type} ({values})" if values else service.type

    return ", ".join(map(text, services))


def reason_of(device: Device) -> str:
    """Return why a device has its status; while its site is silent, that, and what the site reported last."""
    reason = clean(device.reason, SENTENCE_LIMIT) or NONE
    if not device.status_at_site:
        return reason
    return f"site {clean(device.site or NONE)} is silent; its last report was {clean(device.status_at_site)}: {reason}"


def _addresses(rows: Sequence[Sequence[str]], columns: int | None) -> str:
    """Return the table of addresses; lines of name and value where it is wider than `columns`, to cut nothing."""
    if not rows:
        return ""
    listed = table(("ADDRESS", "NETWORK", "EVIDENCE", "FIRST SEEN", "LAST SEEN"), rows)
    if columns is None or all(width(line) <= columns for line in listed.splitlines()):
        return f"\n{listed}"
    names = ("address", "network", "evidence", "first seen", "last seen")
    return "".join(f"\n{facts(zip(names, row, strict=True), columns)}" for row in rows)


def _conflict(conflict: Conflict, mac: str, today: datetime | None) -> str:
    """Return the sentence about a conflict, as the device `mac` sees it."""
    others = " and ".join(clean(other) for other in conflict.macs if other != mac)
    since = moment(conflict.since, today)
    return f"{clean(conflict.address)} is also used by {others}, on {clean(conflict.network)}, since {since}"


def conflict_sentences(conflicts: Sequence[Conflict], count: int, today: datetime | None = None) -> list[str]:
    """Return a sentence for each conflict, and one about those that are not listed."""
    sentences = [
        f"{clean(one.address)} is used by {' and '.join(map(clean, one.macs))}, on {clean(one.network)}, "
        f"since {moment(one.since, today)}"
        for one in conflicts
    ]
    more = count - len(conflicts)
    hint = for_checkout("netscanctl events --kind address_conflict")
    return [*sentences, f"{more} more: {hint}"] if more > 0 else sentences


def _vendor(device: Device) -> str:
    if device.vendor is None and device.vendor_hint:
        return f"probably {clean(device.vendor_hint)} (a device with that prefix is on the LAN)"
    return clean(device.vendor or NONE)


def _lease(lease: Dhcp, today: datetime | None) -> str:
    """Return the sentence about the latest lease of a device, as netscand received it."""
    length = "length not received" if lease.lease_seconds is None else f"for {span(lease.lease_seconds)}"
    if lease.lease_seconds == WITHOUT_END:
        length = "without end"
    client = f"; client id {clean(lease.client_id)}" if lease.client_id else ""
    return (
        f"{clean(lease.address or NONE)} from {clean(lease.server)}, {length}, {moment(lease.received, today)}{client}"
    )


def _same_as(mac: str, other: SameDevice) -> str:
    """Return the suggestion that a device is an earlier one, and how to follow it."""
    name = f"{clean(other.label)} ({clean(other.mac)})" if other.label else clean(other.mac)
    hint = f"to take over its annotations: netscanctl label {clean(mac)} --from {clean(other.mac)}"
    hint += f"; to join their history, too: netscanctl merge {clean(mac)} {clean(other.mac)}"
    if not other.annotated:
        hint = f"to remove that one, which has no annotations: netscanctl forget {clean(other.mac)}"
    return f"the same as {name}: {clean(other.reason)}; {for_checkout(hint)}"


def _note(address: Address) -> str:
    """Return the note about an address: of a device behind this one, or of no network of the daemon's host."""
    if address.mac:
        return f" (of {clean(address.mac)})"
    if address.hostname:
        return f" ({clean(address.hostname)}, behind this device)"
    if not address.foreign:
        return ""
    return " (foreign, without DHCP)" if address.ip.startswith("169.254.") else " (foreign)"


def status_facts(
    status: DaemonStatus, *, paint: Paint, today: datetime | None, columns: int | None = None, is_local: bool = False
) -> str:
    """Return health, load, coverage, drops and version of the daemon, wrapped to `columns`; `is_local`: it is here."""
    pages = origins_here if is_local else origins
    counts, frames, budget = status.devices, status.frames, status.budget
    scanned = [network for network in status.networks if network.state != "excluded"]
    ignored = f", {frames.ignored} ignored" if frames.ignored else ""
    pairs = [
        ("status", paint(clean(status.status), status.status)),
        *(("problem", clean(problem, SENTENCE_LIMIT)) for problem in status.problems),
        *(("reload", changed) for changed in [not_reloaded(status)] if changed),
        *(("restart", pending) for pending in [pending_restart(status)] if pending),
        *(("conflict", text) for text in conflict_sentences(status.conflicts, status.conflict_count, today)),
        ("version", f"{clean(status.version)} (protocol {status.protocol})"),
        ("started", f"{moment(status.started_at, today)} ({span(_seconds(status.started_at, status.now))} ago)"),
        ("your role", clean(status.role)),
        *(("page", f"{origin}/") for origin in (pages(status.access) if status.access else [])),
        ("devices", f"{counts.online} online, {counts.offline} offline, {counts.unknown} unknown (without this host)"),
        *(("network", f"{clean(one.id)} {paint(clean(one.state), one.state)}, {one.online} online, "
           f"coverage {coverage(one)}") for one in scanned),
        ("last scan", moment(status.last_scan, today) + (", scanning now" if status.scanning else "")),
        ("interval", span(status.interval)),
        ("received", f"{frames.received} frames, {frames.dropped} dropped{ignored}"),
        ("sent", f"{frames.broadcast} broadcast, {frames.unicast} unicast, {frames.send_errors} errors"),
        ("budget", f"{budget.used:g} of {rate(budget.rate)} frames/s used, "
         f"between scans {rate(budget.background_rate)} of them broadcast"),
        *(("limiting", f"{clean(one.name)}, {one.refused} refused") for one in status.limits if one.limiting),
        ("clients", str(status.clients)),
        ("memory", f"{status.memory_mib:.0f} MiB"),
    ]  # fmt: skip
    return facts(pairs, columns)


def pending_restart(status: DaemonStatus) -> str:
    """Return which changes of the configuration a restart would apply; "" if there are none."""
    keys = ", ".join(clean(key) for key in status.needs_restart)
    return for_checkout(f"{keys} changed; to apply it: systemctl restart netscand") if keys else ""


def not_reloaded(status: DaemonStatus) -> str:
    """Return that the configuration was changed, and not reloaded, and what to do; "" if it is in force."""
    fix = for_checkout("to apply it: sudo netscanctl reload")
    return f"the file of the configuration has changed since netscand read it; {fix}" if status.config_changed else ""


def rate(frames: float) -> str:
    """Format frames per second; 0 means no limit."""
    return f"{frames:g}" if frames else "unlimited"


def _seconds(earlier: str, later: str) -> float:
    try:
        return max(0.0, (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)) / timedelta(seconds=1))
    except (ValueError, TypeError):
        return 0.0


def scan_summary(update: ScanUpdate, answered: int) -> str:
    """Return the summary of a scan; `answered` counts the devices."""
    duration = span(_seconds(update.started_at or "", update.finished_at or ""))
    frames = (
        f", {update.frames.broadcast} broadcast and {update.frames.unicast} unicast frames" if update.frames else ""
    )
    devices = "1 device" if answered == 1 else f"{answered} devices"
    return f"{devices} answered in {duration}{frames} ({', '.join(map(clean, update.networks))})"


def scan_error(error: ScanError) -> str:
    """Return the message for a scan that failed."""
    return f"scan of {clean(error.network)} failed: {clean(error.message, SENTENCE_LIMIT)}"


# ---- order


def _by_ip(device: Device) -> tuple[int, int]:
    try:
        address = ip_address(device.ip or "")
    except ValueError:
        return (9, 0)
    return (address.version, int(address))


ORDERS: dict[str, Callable[[Device], tuple[object, ...]]] = {
    "ip": _by_ip,
    "mac": lambda device: (device.mac,),
    "name": lambda device: (name_of(device) == NONE, name_of(device).casefold(), *_by_ip(device)),
    "vendor": lambda device: (device.vendor is None, (device.vendor or "").casefold(), *_by_ip(device)),
    "status": lambda device: ({"online": 0, "unknown": 1}.get(device.status, 2), *_by_ip(device)),
    "since": lambda device: (is_never_seen(device), _reversed(device.status_since), *_by_ip(device)),
    "seen": lambda device: (is_never_seen(device), _reversed(device.last_seen), *_by_ip(device)),
}
"""Sort keys of devices; `since` and `seen`: latest first, then those that were never seen."""


def _reversed(stamp: str) -> tuple[int, ...]:
    return tuple(-ord(char) for char in re.sub(r"\D", "", stamp))


# ---- presence ------------------------------------------------------------------------------------------------------
# Presence of a device on the last days, as a small bar. Pure.

LEVELS = "▁▂▃▄▅▆▇█"
"""Share of a day online, from a little to (almost) all of it."""
NEVER, UNKNOWN, BEFORE = "_", "?", "·"
"""Not online at all; mostly unknown; before the device was first seen."""
IN_ASCII = str.maketrans(f"{LEVELS}{BEFORE}", "12345678-")
"""For locales without these characters."""
ALWAYS = 0.99
"""Share that counts as the whole day; a restart of the daemon leaves a few seconds unknown."""


def presence_bar(days: Sequence[PresenceDay], first_seen: str, now: datetime, *, plain: bool = False) -> str:
    """Return one character per UTC day, and the share since first seen: `·_▃█████ online 71 %, unknown 2 %`.

    `plain`: in ASCII.
    """
    characters, online, unknown, total = [], 0.0, 0.0, 0.0
    for day in days:
        try:
            length = _length(day.date, first_seen, now)
        except (ValueError, TypeError):  # invalid time
            return ""
        if length <= 0:
            characters.append(BEFORE)
            continue
        on, unsure = min(day.online_seconds, length), min(day.unknown_seconds, length)
        characters.append(_character(on / length, unsure / length))
        online, unknown, total = online + on, unknown + unsure, total + length
    if not total:
        return ""
    shares = f"online {online / total:.0%}" + (f", unknown {unknown / total:.0%}" if unknown / total >= 0.005 else "")
    bar = "".join(characters).translate(IN_ASCII) if plain else "".join(characters)
    return f"{bar}  {shares} of the last {span(total)}".replace("%", " %")


def _character(online: float, unknown: float) -> str:
    if unknown > 0.5:
        return UNKNOWN
    if online <= 0:
        return NEVER
    return LEVELS[-1] if online >= ALWAYS else LEVELS[min(int(online * len(LEVELS)), len(LEVELS) - 2)]


def _length(date: str, first_seen: str, now: datetime) -> float:
    """Return the seconds of a day between the first sighting of the device and now."""
    begin = datetime.fromisoformat(date).replace(tzinfo=UTC)
    end = min(begin + timedelta(days=1), now)
    return (end - max(begin, datetime.fromisoformat(first_seen))) / timedelta(seconds=1)
