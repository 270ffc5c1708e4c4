"""Events as lines in fixed columns. Pure: values in, text out.

In a pipe, a line is complete: time, kind, on a hub the site, address, MAC, name, vendor, reason. On a terminal, it is
as wide as the terminal: one column identifies the device (name, else vendor, else MAC), a wide terminal also shows the
MAC, and the reason is cut. Among the events of one device, no column identifies it, and the reason is wrapped instead.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from netscanctl.render import GAP, NONE, Paint, kind_of, moment, name_of, span, title, vendor_of
from netscanctl.text import SENTENCE_LIMIT, SGR, clean, fit, pad, width, wrap
from netscand.protocol import Event, Person

MARKS = {
    "discovered": "+", "online": "+", "offline": "-", "forgotten": "-", "address_conflict": "!", "gateway_changed": "!",
    "dhcp_server_seen": "!", "network_down": "!", "network_silent": "!", "flood": "!", "site_silent": "!",
    "person_home": "+", "person_away": "-",
}  # fmt: skip
"""Kind → mark in front of it; `~` for every other kind."""
KIND = 16
"""Columns of the kind: all kinds with a device fit, so that no column moves."""
ADDRESS, MAC, NAME, VENDOR, SITE = 15, 17, 20, 24, 10
"""Columns that are exceeded only in a pipe; on a terminal, a longer address (IPv6) is cut."""
LONGEST_ADDRESS = 39
IDENTITY, MOST_IDENTITY = 17, 64
"""Columns of the name, else vendor, else MAC, on a terminal: at least those of a MAC, and at most."""
NARROW, WIDE, ROOMY = 72, 120, 160
"""Columns from which on a terminal has room for the address, the MAC, and any IPv6 address."""
ANNOTATIONS = ("label", "known", "notes", "patience", "kind", "tags", "not_same_as")
"""Fields of a device that users set."""
MIN_REASON = 8
"""Columns below which a reason is not cut; such a narrow terminal wraps."""
MIN_WRAPPED = 24
"""Columns below which a reason is wrapped below its line, not beside it."""
INDENT = 4


def format_events(
    events: Iterable[Event], *, paint: Paint, now: datetime, columns: int | None, of: str | None = None,
    head: bool = False,
) -> str:  # fmt: skip
    """Return the lines of events, each with a newline; `columns` of the terminal, None in a pipe.

    `of`: MAC of the device that all events are about; on a terminal, nothing is cut then. `head`: names of the columns
    first, if there are events, on a terminal.
    """
    listed = list(events)
    times = [_time(event, now, columns) for event in listed]
    widest = max(map(width, times), default=0)
    lines = (
        _line(event, pad(at, widest), paint, columns)
        if of is None or columns is None
        else _wrapped(event, pad(at, widest), paint, columns, of)
        for event, at in zip(listed, times, strict=True)
    )
    with_site = any(event.site for event in listed)
    first = [head_line(widest, columns, with_site=with_site)] if head and listed and columns is not None else []
    return "".join(f"{line}\n" for line in (*first, *lines))


def format_event(event: Event, *, paint: Paint, now: datetime, columns: int | None) -> str:
    """Return the line of one event, without a newline; `now` replaces a missing time."""
    return _line(event, _time(event, now, columns), paint, columns)


def head_line(time: int, columns: int, *, with_site: bool = False) -> str:
    """Return the names of the columns on a terminal; `time`: columns of the time."""
    widths = {**({"SITE": SITE} if with_site else {}), **_widths(columns)}
    cells = GAP.join(fit(name, wide) for name, wide in widths.items())
    return fit(f"{pad('TIME', time)}   {pad('KIND', KIND)}{GAP}{cells}{GAP}REASON", columns).rstrip()


def _time(event: Event, now: datetime, columns: int | None) -> str:
    """Return the local time; on a terminal, without today's date."""
    return moment(event.at or now.isoformat(), None if columns is None else now)


def _reason(event: Event) -> str:
    return "; ".join(part for part in (detail(event), clean(event.reason, SENTENCE_LIMIT)) if part)


def _marked(event: Event, paint: Paint) -> str:
    """Return mark and kind; a kind that is one column wider takes it from the gap."""
    mark = MARKS.get(event.kind, "~")
    return paint(f"{mark} {pad(clean(event.kind), KIND + 1)}", mark) + GAP[1:]


def _line(event: Event, at: str, paint: Paint, columns: int | None) -> str:
    head = at + (GAP if columns is None else " ") + _marked(event, paint)
    if event.site:
        head += (pad if columns is None else fit)(clean(event.site), SITE) + GAP
    if columns is None:
        rest = GAP.join([*_cells_in_a_pipe(event), _reason(event)])
    else:
        room = max(columns - width(SGR.sub("", head)), MIN_REASON)
        rest = fit(GAP.join([_cells(event, columns), _reason(event)]), room)
    return (head + rest).rstrip()


def _cells_in_a_pipe(event: Event) -> list[str]:
    if event.person:
        return [clean(event.person.name)]
    if event.device is None:
        return [clean(event.network or NONE), *([clean(event.address)] if event.address else [])]
    name, vendor = name_of(event.device), vendor_of(event.device)
    cells = (_address(event) or NONE, ADDRESS), (clean(event.device.mac), MAC), (name, NAME), (vendor, VENDOR)
    return [pad(text, wide) for text, wide in cells]


def _cells(event: Event, columns: int) -> str:
    """Return the cells of a line on a terminal; those of a network are as wide together as those of a device."""
    widths = _widths(columns)
    if event.device is None:
        return fit(GAP.join(_cells_in_a_pipe(event)), sum(widths.values()) + len(GAP) * (len(widths) - 1))
    mac, name, ip = clean(event.device.mac), name_of(event.device), _address(event) or NONE
    instead = clean(event.device.vendor or NONE) if "ADDRESS" in widths else ip
    identity = name if name != NONE else instead
    if identity == NONE and "MAC" not in widths:
        identity = mac
    texts = {"ADDRESS": ip, "MAC": mac, "NAME": identity}
    return GAP.join(fit(texts[column], wide) for column, wide in widths.items())


def _wrapped(event: Event, at: str, paint: Paint, columns: int, mac: str) -> str:
    """Return the lines of an event of one device: nothing is cut."""
    head = f"{at} {_marked(event, paint)}{pad(_address(event) or NONE, ADDRESS)}{GAP}"
    reason = _reason(event)
    if event.device is None or event.device.mac != mac:
        reason = f"{title(event.device) if event.device else clean(event.network or NONE)}: {reason}"
    used = width(SGR.sub("", head))
    if columns - used < MIN_WRAPPED:
        return "\n".join([head.rstrip(), *(" " * INDENT + line for line in wrap(reason, columns - INDENT))])
    return f"\n{' ' * used}".join(wrap(reason, columns - used)).join((head, "")).rstrip()


def _address(event: Event) -> str:
    """Return the address that an event is about, else that of its device: the same when it is read again later."""
    return clean(event.address or (event.device.ip if event.device else None) or "")


def _widths(columns: int) -> dict[str, int]:
    """Return the columns between kind and reason on a terminal; the name gets two fifths of what it shares."""
    widths = {"ADDRESS": ADDRESS if columns < ROOMY else LONGEST_ADDRESS} if columns >= NARROW else {}
    widths |= {"MAC": MAC} if columns >= WIDE else {}
    left = columns - len("00:00:00 + ") - KIND - len(GAP) - sum(wide + len(GAP) for wide in widths.values())
    return widths | {"NAME": max(IDENTITY, min(left * 2 // 5, MOST_IDENTITY))}


def detail(event: Event) -> str:
    """Return the old and new values of a change; "" if the kind says enough."""
    was = event.previous or {}
    device = event.device
    address, other = clean(event.address or "an address"), clean(event.other or "another device")
    match event.kind:
        case "address_added":
            return f"+{address}"
        case "address_removed":
            return f"-{address}"
        case "address_moved":
            return f"{address} moved here from {other}" if event.other else f"{address} moved here"
        case "address_conflict":
            return f"{address} is also claimed by {other}"
        case "same_host":
            return f"on two interfaces, also {other}"
        case "renamed" if device:
            return f"was {clean(was.get('hostname') or NONE)}"
        case "kind_changed" if device:
            return f"{kind_of(device) or 'no kind'}, was {clean(was.get('kind') or NONE)}"
        case "labelled" if device:
            return ", ".join(
                f"{key.replace('_', ' ')} {_value(was[key])} → {_value(getattr(device, key))}"
                for key in ANNOTATIONS
                if key in was
            )
        case "person_changed" if event.person:
            return _person_detail(event.person, was)
        case "gateway_changed" if event.other:
            return f"was {other}"
    return ""


def _person_detail(person: Person, was: Mapping[str, object]) -> str:
    """Return the devices that a person got and lost, those that count or no longer do, and the former name."""
    given: object = was.get("devices")
    devices = given if isinstance(given, list) else []
    before = {str(each["mac"]): each.get("counts") for each in devices if isinstance(each, dict)}
    now = {each.mac: each.counts for each in person.devices}
    name = was.get("name")
    parts = [f"-{clean(mac)}" for mac in sorted(before.keys() - now)]
    for mac, counts in now.items():
        if before.get(mac) != counts:
            what = "" if counts and mac not in before else " counts" if counts else " does not count"
            parts.append(f"{'' if mac in before else '+'}{clean(mac)}{what}")
    return ", ".join(([f"was {clean(name)}"] if isinstance(name, str) and name != person.name else []) + parts)


def _value(annotation: object) -> str:
    """Format an annotation; the only number is a patience."""
    if isinstance(annotation, bool):
        return "yes" if annotation else "no"
    if isinstance(annotation, int | float):
        return span(annotation)
    if isinstance(annotation, list):
        return clean(" ".join(map(str, annotation))) or NONE
    return f"'{clean(annotation)}'" if annotation else NONE
