"""Events as lines in fixed columns. Pure: values in, text out.

In a pipe, a line is complete: time, kind, address, MAC, name, vendor, reason. On a terminal, it is as wide as the
terminal: one column identifies the device (name, else vendor, else MAC), a wide terminal also shows the MAC, and the
reason is cut.
"""

from collections.abc import Iterable
from datetime import datetime

from netscanctl.render import GAP, NONE, Paint, moment, name_of, span, vendor_of
from netscanctl.text import SENTENCE_LIMIT, clean, fit, pad, width
from netscand.protocol import Device, Event

MARKS = {
    "discovered": "+", "online": "+", "offline": "-", "forgotten": "-", "address_conflict": "!", "gateway_changed": "!",
    "dhcp_server_seen": "!", "network_down": "!", "network_silent": "!", "flood": "!",
}  # fmt: skip
"""Kind → mark in front of it; `~` for every other kind."""
KIND, KIND_IN_A_PIPE = 10, 16
"""Columns of the kind: frequent kinds fit into the first, all kinds with a device into the second."""
ADDRESS, MAC, NAME, VENDOR = 15, 17, 20, 24
"""Columns that are exceeded only in a pipe, or by IPv6."""
IDENTITY = 17
"""As wide as a MAC: 80 columns then leave 21 for the reason, the length of the most frequent one."""
WIDE = 120
"""Columns from which on a terminal has room for the MAC."""
ANNOTATIONS = ("label", "known", "notes", "patience")
"""Fields of a device that users set."""
MIN_REASON = 8
"""Columns below which a reason is not cut; such a narrow terminal wraps."""


def format_events(events: Iterable[Event], *, paint: Paint, now: datetime, columns: int | None) -> str:
    """Return one line per event, each with a newline; `columns` of the terminal, None in a pipe."""
    listed = list(events)
    times = [_time(event, now, columns) for event in listed]
    widest = max(map(width, times), default=0)
    return "".join(
        f"{_line(event, pad(at, widest), paint, columns)}\n" for event, at in zip(listed, times, strict=True)
    )


def format_event(event: Event, *, paint: Paint, now: datetime, columns: int | None) -> str:
    """Return the line of one event, without a newline; `now` replaces a missing time."""
    return _line(event, _time(event, now, columns), paint, columns)


def _time(event: Event, now: datetime, columns: int | None) -> str:
    """Return the local time; on a terminal, without today's date."""
    return moment(event.at or now.isoformat(), None if columns is None else now)


def _line(event: Event, at: str, paint: Paint, columns: int | None) -> str:
    mark = MARKS.get(event.kind, "~")
    kind, address = clean(event.kind), clean(event.address or "")
    reason = "; ".join(part for part in (detail(event), clean(event.reason, SENTENCE_LIMIT)) if part)
    if event.device is None:
        cells = [clean(event.network or NONE), *([address] if address else []), reason]
    else:
        cells = [*_device_cells(event.device, columns, KIND + ADDRESS - max(KIND, width(kind))), reason]
    marked = f"{mark} {pad(kind, KIND if columns else KIND_IN_A_PIPE)}"
    head, rest = at + (GAP if columns is None else " "), GAP + GAP.join(cells)
    if columns is not None:
        rest = fit(rest, max(columns - width(head + marked), MIN_REASON))
    return (head + paint(marked, mark) + rest).rstrip()


def _device_cells(device: Device, columns: int | None, address: int) -> list[str]:
    """Return the cells of a device; on a terminal, a long kind narrows the address down to `address` columns."""
    ip, mac = clean(device.ip or NONE), clean(device.mac)
    name, vendor = name_of(device), vendor_of(device)
    if columns is None:
        return [pad(ip, ADDRESS), pad(mac, MAC), pad(name, NAME), pad(vendor, VENDOR)]
    identity = name if name != NONE else clean(device.vendor or NONE)
    if columns >= WIDE:
        return [pad(ip, address), pad(mac, MAC), fit(identity, IDENTITY)]
    return [pad(ip, address), fit(mac if identity == NONE else identity, IDENTITY)]


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
        case "labelled" if device:
            return ", ".join(
                f"{key} {_value(was[key])} → {_value(getattr(device, key))}" for key in ANNOTATIONS if key in was
            )
        case "gateway_changed" if event.other:
            return f"was {other}"
    return ""


def _value(annotation: object) -> str:
    """Format an annotation; the only number is a patience."""
    if isinstance(annotation, bool):
        return "yes" if annotation else "no"
    if isinstance(annotation, int | float):
        return span(annotation)
    return NONE if annotation is None else f"'{clean(annotation)}'"
