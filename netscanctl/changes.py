"""One change, one line, in columns that stay where they are: values in, text out. Pure.

A pipe gets all of it: when, what, address, MAC, name, vendor, why. A terminal gets a line of its own width: one column
says who it is (the name, else the vendor, else the MAC), a wide one the MAC too, and why is cut where the line ends.
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
"""What leads the line of an event; `~` for every other kind."""
KIND, KIND_IN_A_PIPE = 10, 16
"""Columns of the kind: the usual ones fit in the first, all that are about a device in the second."""
ADDRESS, MAC, NAME, VENDOR = 15, 17, 20, 24
"""Columns of what may be wider only in a pipe, or for IPv6."""
WHO = 17
"""As wide as a MAC: so 80 columns leave a reason 21, the length of the commonest."""
WIDE = 120
"""Columns from which a terminal has room for the MAC."""
SAID = ("label", "known", "notes", "patience")
"""Fields of a device that are a user's to say."""
WHY = 8
"""Columns below which a reason is not cut; a terminal so narrow wraps."""


def changes(events: Iterable[Event], *, paint: Paint, now: datetime, columns: int | None) -> str:
    """Lines of changes; `columns` of the terminal, None in a pipe. Ends with a newline where there is any."""
    listed = list(events)
    times = [_time(event, now, columns) for event in listed]
    wide = max(map(width, times), default=0)
    return "".join(f"{_line(event, pad(at, wide), paint, columns)}\n" for event, at in zip(listed, times, strict=True))


def change(event: Event, *, paint: Paint, now: datetime, columns: int | None) -> str:
    """The line of one change, without a newline; `now` serves where an event has no time."""
    return _line(event, _time(event, now, columns), paint, columns)


def _time(event: Event, now: datetime, columns: int | None) -> str:
    """On a terminal, of today without the date."""
    return moment(event.at or now.isoformat(), None if columns is None else now)


def _line(event: Event, at: str, paint: Paint, columns: int | None) -> str:
    mark = MARKS.get(event.kind, "~")
    kind, where = clean(event.kind), clean(event.address or "")
    why = "; ".join(part for part in (detail(event), clean(event.reason, SENTENCE_LIMIT)) if part)
    if event.device is None:
        cells = [clean(event.network or NONE), *([where] if where else []), why]
    else:
        cells = [*_who(event.device, columns, KIND + ADDRESS - max(KIND, width(kind))), why]
    what = f"{mark} {pad(kind, KIND if columns else KIND_IN_A_PIPE)}"
    head, rest = at + (GAP if columns is None else " "), GAP + GAP.join(cells)
    if columns is not None:
        rest = fit(rest, max(columns - width(head + what), WHY))
    return (head + paint(what, mark) + rest).rstrip()


def _who(device: Device, columns: int | None, address: int) -> list[str]:
    """The cells of a device; on a terminal the address gives way, down to `address` columns, to a long kind."""
    ip, mac = clean(device.ip or NONE), clean(device.mac)
    name, vendor = name_of(device), vendor_of(device)
    if columns is None:
        return [pad(ip, ADDRESS), pad(mac, MAC), pad(name, NAME), pad(vendor, VENDOR)]
    who = name if name != NONE else clean(device.vendor or NONE)
    if columns >= WIDE:
        return [pad(ip, address), pad(mac, MAC), fit(who, WHO)]
    return [pad(ip, address), fit(mac if who == NONE else who, WHO)]


def detail(event: Event) -> str:
    """What exactly changed, where the kind alone does not tell."""
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
            return f"{address} is claimed by {other} too"
        case "renamed" if device:
            return f"was {clean(was.get('hostname') or NONE)}"
        case "labelled" if device:
            return ", ".join(f"{key} {_word(was[key])} → {_word(getattr(device, key))}" for key in SAID if key in was)
        case "gateway_changed" if event.other:
            return f"was {other}"
    return ""


def _word(said: object) -> str:
    """What the user says, or said before; the only number is a patience."""
    if isinstance(said, bool):
        return "yes" if said else "no"
    if isinstance(said, int | float):
        return span(said)
    return NONE if said is None else f"'{clean(said)}'"
