"""Events and devices ↔ rows of the database. Pure, but for the two clocks, which it is given.

An event is a transition, and takes some 55 bytes: numbers for words, the reason as a sentence that many events share
and the figures in it, the presence it ended, and, only where more than the presence changed, the fields as JSON, made
smaller.
"""

import re
import sqlite3
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol, cast

import msgspec

from netscand.core.model import Address, Device, Event, EventKind, Evidence, Ip, Mac, Status
from netscand.core.restore import Recorded, Remembered, Standing

Row = tuple[object, ...]
"""The values of one row, in the order of its columns."""

EVENT_COLUMNS = (
    "sequence", "at", "kind", "mac", "network", "address", "evidence", "heard", "reason", "figures", "was",
    "was_since", "was_reason", "was_figures", "more",
)  # fmt: skip

DEVICE_COLUMNS = (
    "mac", "sequence", "first_seen", "status", "status_since", "reason", "known", "hostname", "hostname_source",
    "label", "notes", "patience", "learned", "learned_at", "addresses",
)  # fmt: skip

# The numbers stand in people's databases: never change one, only add.
KINDS = {
    EventKind.DISCOVERED: 1, EventKind.ONLINE: 2, EventKind.OFFLINE: 3, EventKind.ADDRESS_ADDED: 4,
    EventKind.ADDRESS_REMOVED: 5, EventKind.ADDRESS_MOVED: 6, EventKind.ADDRESS_CONFLICT: 7, EventKind.RENAMED: 8,
    EventKind.LABELLED: 9, EventKind.FORGOTTEN: 10, EventKind.GATEWAY_CHANGED: 11, EventKind.DHCP_SERVER_SEEN: 12,
    EventKind.NETWORK_UP: 13, EventKind.NETWORK_DOWN: 14, EventKind.NETWORK_SILENT: 15,
    EventKind.NETWORK_RECOVERED: 16, EventKind.FLOOD: 17,
}  # fmt: skip
RARE_KINDS = (
    EventKind.ADDRESS_CONFLICT, EventKind.LABELLED, EventKind.GATEWAY_CHANGED, EventKind.DHCP_SERVER_SEEN,
    EventKind.NETWORK_UP, EventKind.NETWORK_DOWN, EventKind.NETWORK_SILENT, EventKind.NETWORK_RECOVERED,
    EventKind.FLOOD,
)  # fmt: skip
"""Events with an index by kind: to look for the few of them among all others would take long. Never change it."""
EVIDENCE = {
    Evidence.ARP_REQUEST: 1, Evidence.ARP_REPLY: 2, Evidence.ARP_PROBE: 3, Evidence.ARP_ANNOUNCEMENT: 4,
    Evidence.NDP: 5, Evidence.DHCP: 6, Evidence.MDNS: 7, Evidence.NBNS: 8, Evidence.NEIGHBOUR: 9, Evidence.PROXIED: 10,
}  # fmt: skip
STATUS = {Status.ONLINE: 1, Status.OFFLINE: 2, Status.UNKNOWN: 3}
KIND_OF = {number: kind for kind, number in KINDS.items()}
EVIDENCE_OF = {number: evidence for evidence, number in EVIDENCE.items()}
STATUS_OF = {number: status for status, number in STATUS.items()}

VERDICTS = frozenset((EventKind.ONLINE, EventKind.OFFLINE))
"""Their `previous` is the presence they ended: it has columns of its own."""

STANDING = frozenset(("status", "status_since", "reason"))
TIMES = frozenset(("status_since", "first_seen", "last_seen"))
"""Fields whose value is a time."""

CONFIRMED = 1
"""In a first event's `was_since`: the device answered us, so that no flood of others pushes it out after a kill."""

USUAL = (
    b'"other":"00163e","known":false,"notes":null,"chosen":null,"patience":10.0,"whole":[],"network":'
    b'"label":null},"after":{"label":"","hostname":null,"hostname_source":null},"after":{"hostname":"","hostname_source":'
    b'"nbns""dns""mdns""dhcp"}}"last_seen":17{"before":{"ip":null,"addresses":[]},"after":{"ip":{"hex":"20010db8"},'
    b'"addresses":[["fe80000000000000","192.168.1.0/24@wlan0","wlan0",6,17],["0a000001","10.0.0.0/24@eth0","eth0",1,17'
    b'{"before":{"ip":{"hex":"c0a801"},"addresses":[["c0a801","192.168.1.0/24@eth0","eth0",2,17],["fe80000000000000",'
    b'"192.168.1.0/24@eth0","eth0",5,17]]},"after":{"ip":{"hex":"c0a801"},"addresses":[["'
)
"""What such JSON is mostly made of. It is in every row that was made smaller by it: never change a byte."""

NUMBER = re.compile(r"\d+(?:\.\d+)?")
FIGURE = re.compile(r"(?<![0-9A-Za-z:])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?![0-9A-Za-z:])|" + NUMBER.pattern)
"""What differs in sentences that are the same: a number, a MAC, an IPv6 address. Else made-up MACs would make words."""
GAP = "{}"

MOST_WORDS = 4096
"""Sentences and networks that get a number; what comes later is written out, which makes an event nearly three times as
large. Those that no event uses are freed at a start (store/opening.py)."""


WRONG = (KeyError, ValueError, TypeError, IndexError, OverflowError, AttributeError)
"""What comes of values that are none of ours (msgspec.DecodeError is a ValueError)."""


def damaged(why: str) -> sqlite3.DatabaseError:
    """What SQLite itself would raise, had it a checksum."""
    wrong = sqlite3.DatabaseError(why)
    wrong.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return wrong


class WallClock(Protocol):
    """Monotonic seconds as unix time, by the same rule as clients are told it."""

    def sync(self) -> None:
        """Notice a clock that was set. To be called before a stamp that is to be kept."""

    def milliseconds(self, at: float) -> int:
        """A stamp, steady against small drifts of the clocks."""

    def microseconds(self, at: float) -> int:
        """A stamp, by the offset of this moment."""


class Words:
    """Texts that stand in many rows, by number. The writer is handed what `fresh` holds before the rows that use it."""

    def __init__(self) -> None:
        self.learn([])

    def learn(self, rows: "list[tuple[int, str]]") -> None:
        """Forget all, and take these from a database."""
        self.fresh: list[Row] = []
        self._text = dict(rows)
        self._number = {text: number for number, text in rows}
        self._free = iter([number for number in range(1, MOST_WORDS + 1) if number not in self._text])

    def number(self, text: str) -> int | None:
        """The number of a text, a new one where it has none; None: there are too many."""
        found = self._number.get(text)
        if found is None and (found := next(self._free, None)) is not None:
            self._number[text], self._text[found] = found, text
            self.fresh.append((found, text))
        return found

    def text(self, number: int) -> str:
        """The text of a number."""
        return self._text.get(number, "")

    def sentence(self, text: str) -> tuple[int | None, str | None]:
        """A sentence as a number and the figures in it."""
        if (plain := self._number.get(text)) and GAP not in text:
            return plain, None
        if not text:
            return None, None
        figure = FIGURE if text.count(":") > 1 else NUMBER  # which is twice as fast
        figures = None if GAP in text else " ".join(figure.findall(text))
        number = self.number(figure.sub(GAP, text) if figures is not None else text)
        return (None, text) if number is None else (number, figures or None)

    def said(self, number: int | None, figures: str | None) -> str:
        """The sentence again."""
        if number is None:
            return figures or ""
        text = self.text(number)
        if figures is None:
            return text
        rest = iter(figures.split(" "))
        return "".join(piece if piece != GAP else next(rest, "") for piece in re.split(r"({})", text))


class EventCodec:
    """Events as rows, and rows as events."""

    def __init__(self, words: Words) -> None:
        self._words = words

    def row(self, sequence: int, event: Event, clock: WallClock) -> Row:
        """The row of an event that happens now, its device as it is."""
        words, device, kind = self._words, event.device, event.kind
        at = clock.milliseconds(event.at)
        reason, figures = words.sentence(event.reason)
        was: tuple[int | None, ...] = (None, None, None)
        was_figures: str | None = None
        heard: int | None = None
        previous = event.previous or {}
        if event.seen_at is not None:
            heard = (clock.microseconds(event.seen_at) - at * 1000) * 2 + 1
        elif device is not None:
            heard = (clock.milliseconds(device.last_seen) - at) * 2
        if device is not None and kind is not EventKind.DISCOVERED:
            source: Mapping[str, Any] = previous if kind in VERDICTS else {}
            since = clock.milliseconds(source.get("status_since", device.status_since))
            number, was_figures = words.sentence(source.get("reason", device.reason))
            was = STATUS[source.get("status", device.status)], at - since, number
        elif device is not None and device.confirmed:
            was = None, CONFIRMED, None  # a first event ends no presence: the column is free
        network = words.number(event.network) if event.network else None
        more = self._more(event, previous, clock, in_full=event.network if network is None else None)
        return (
            sequence, at, KINDS[kind], mac_number(device.mac) if device else None, network, _address(event.address),
            EVIDENCE[event.evidence] if event.evidence else None, heard, reason, figures, was[0], was[1], was[2],
            was_figures, more,
        )  # fmt: skip

    def _more(
        self, event: Event, previous: Mapping[str, object], clock: WallClock, in_full: str | None
    ) -> bytes | None:
        """What has no column, as JSON; None for most."""
        device = event.device
        more: dict[str, object] = {}
        if in_full:
            more["network"] = in_full
        if event.other:
            more["other"] = event.other.hex()
        verdict = event.kind in VERDICTS
        before = {name: value for name, value in previous.items() if not (verdict and name in STANDING)}
        if before:
            more["before"] = {name: _plain(name, value, clock) for name, value in before.items()}
            if device is not None:
                more["after"] = {name: _plain(name, _field(device, name), clock) for name in before}
        if event.kind is EventKind.DISCOVERED and device is not None and not _holds_alone(device, event):
            more["after"] = {"addresses": _plain("addresses", device.addresses, clock)}
        if event.kind is EventKind.LABELLED and device is not None:
            cast("dict[str, object]", more.setdefault("after", {}))["chosen"] = device.presence.chosen
        if device is not None and event.seen_at is not None and event.seen_at != device.last_seen:
            more["last_seen"] = clock.milliseconds(device.last_seen)  # it was not the device itself that was heard
        if event.kind is EventKind.FORGOTTEN and device is not None:
            row = list(device_row(device, sequence=0, learned_at=0, clock=clock))
            row[DEVICE_COLUMNS.index("learned")] = None
            more["whole"] = row
            more["last_seen"] = clock.milliseconds(device.last_seen)
        return smaller(msgspec.json.encode(more)) if more else None

    def event(self, row: Row) -> Recorded:
        """What a row tells. Raises sqlite3.DatabaseError for what no row of ours says: the file was damaged."""
        try:
            return self._event(row)
        except WRONG as wrong:
            raise damaged(f"event {row[0]} is damaged: {wrong!r}") from None

    def _event(self, row: Row) -> Recorded:
        (
            sequence, at, kind_number, mac, network, address, evidence, heard, reason, figures, was, was_since,
            was_reason, was_figures, more_text,
        ) = cast("tuple[Any, ...]", row)  # fmt: skip
        words = self._words
        kind = KIND_OF[kind_number]
        more = _read(more_text) if more_text else {}
        seen_at = last_seen = None
        if heard is not None and heard & 1:
            seen_at = last_seen = (at * 1000 + (heard >> 1) + 0.5) / 1_000_000
        elif heard is not None:
            last_seen = seconds(at + (heard >> 1))
        if "last_seen" in more:
            last_seen = seconds(more["last_seen"])
        standing = None
        if was is not None:
            standing = Standing(STATUS_OF[was], seconds(at - was_since), words.said(was_reason, was_figures))
        previous: dict[str, object] = {}
        if kind in VERDICTS and standing is not None:
            previous = {"status": standing.status, "status_since": standing.status_since, "reason": standing.reason}
        previous.update((name, _rich(name, value)) for name, value in more.get("before", {}).items())
        whole = device_of(more["whole"], more["last_seen"]) if "whole" in more else None
        event = Event(
            kind, seconds(at), more.get("network") or (words.text(network) if network else None), None,
            _ip(address), Mac(bytes.fromhex(more["other"])) if "other" in more else None,
            EVIDENCE_OF[evidence] if evidence else None, words.said(reason, figures), previous or None, seen_at,
        )  # fmt: skip
        after = {name: _rich(name, value) for name, value in more.get("after", {}).items()}
        confirmed = kind is EventKind.DISCOVERED and was_since == CONFIRMED
        of = mac_of(mac) if mac is not None else None
        return Recorded(sequence, event, of, last_seen, standing, after, whole, confirmed)


# ---- devices ------------------------------------------------------------------------------------------------------


def device_row(device: Device, sequence: int, learned_at: int, clock: WallClock) -> Row:
    """The row of a device as it is now, at `learned_at` in milliseconds; `last_seen` has a table of its own."""
    milliseconds = clock.milliseconds
    return (
        mac_number(device.mac), sequence, milliseconds(device.first_seen), STATUS[device.status],
        milliseconds(device.status_since), device.reason, int(device.known), device.hostname, device.hostname_source,
        device.label, device.notes, device.presence.chosen, device.presence.learned(), learned_at,
        msgspec.json.encode([_held(address, clock) for address in device.addresses]).decode(),
    )  # fmt: skip


def remembered(row: Row, last_seen: int | None, confirmed: int | None) -> Remembered:
    """What a row of `device` and one of `seen` (in milliseconds) tell. Raises sqlite3.DatabaseError as `event`."""
    try:
        return device_of(row, last_seen, confirmed)
    except WRONG as wrong:
        raise damaged(f"device {row[0]} is damaged: {wrong!r}") from None


def device_of(row: Row, last_seen: int | None = None, confirmed: int | None = None) -> Remembered:
    """The same, from values that may be anything."""
    (
        mac, sequence, first_seen, status, status_since, reason, known, hostname, source, label, notes, patience,
        learned, learned_at, addresses,
    ) = cast("tuple[Any, ...]", row)  # fmt: skip
    return Remembered(
        mac_of(mac), seconds(first_seen), seconds(last_seen or first_seen), STATUS_OF[status], seconds(status_since),
        reason, sequence, _addresses(msgspec.json.decode(addresses)), bool(confirmed), hostname, source, label,
        bool(known), notes, patience, learned, seconds(learned_at),
    )  # fmt: skip


def seen_row(device: Device, clock: WallClock) -> Row:
    """What alone changes always."""
    return mac_number(device.mac), clock.milliseconds(device.last_seen), int(device.confirmed)


# ---- what has no column -------------------------------------------------------------------------------------------


def smaller(text: bytes) -> bytes:
    """JSON as it is stored. A device with IPv6 has six addresses and a new one each day: 1,200 bytes, and 180 so."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=USUAL)
    return b"z" + deflate.compress(text) + deflate.flush()


def plain(stored: bytes) -> bytes:
    """The JSON again; what begins as an object is as it was."""
    if not stored.startswith(b"z"):
        return stored
    inflate = zlib.decompressobj(-zlib.MAX_WBITS, zdict=USUAL)
    return inflate.decompress(stored[1:]) + inflate.flush()


def _read(stored: bytes) -> dict[str, Any]:
    """What is stored, or nothing, where bits of it fell over: SQLite has no checksum, and the event itself is whole."""
    with suppress(*WRONG, zlib.error):
        found = msgspec.json.decode(plain(stored))
        if isinstance(found, dict):
            return found
    return {}


# ---- values -------------------------------------------------------------------------------------------------------


def seconds(milliseconds: int) -> float:
    """The middle of that millisecond, so that it is the same one again however it is rounded."""
    return (milliseconds + 0.5) / 1000


def mac_number(mac: Mac) -> int:
    """Six bytes as a number that SQLite keeps in six bytes (signed)."""
    return int.from_bytes(mac, signed=True)


def mac_of(number: int) -> Mac:
    """The MAC of a number."""
    return Mac(number.to_bytes(6, signed=True))


def _address(ip: Ip | None) -> int | bytes | None:
    return int.from_bytes(ip) if ip is not None and len(ip) == 4 else ip


def _ip(value: int | bytes | None) -> Ip | None:
    return Ip(value.to_bytes(4) if isinstance(value, int) else value) if value is not None else None


def _held(address: Address, clock: WallClock) -> list[object]:
    return [
        address.ip.hex(), address.network, address.interface, EVIDENCE[address.evidence],
        clock.milliseconds(address.first_seen), clock.milliseconds(address.last_seen),
    ]  # fmt: skip


def _addresses(rows: list[list[Any]]) -> tuple[Address, ...]:
    return tuple(
        Address(Ip(bytes.fromhex(ip)), network, interface, EVIDENCE_OF[evidence], seconds(first), seconds(last))
        for ip, network, interface, evidence, first, last in rows
    )


def _holds_alone(device: Device, event: Event) -> bool:
    """Whether the address of its first event is the one that the device holds; one of another LAN is not."""
    held = [(address.ip, address.network) for address in device.addresses]
    return held == ([(event.address, event.network)] if event.address else [])


def _field(device: Device, name: str) -> object:
    if name == "patience":
        return device.presence.patience
    return getattr(device, name, None)


def _plain(name: str, value: object, clock: WallClock) -> object:
    """A field for JSON."""
    if name == "addresses":
        return [_held(address, clock) for address in cast("list[Address]", value)]
    if name in TIMES and isinstance(value, float):
        return clock.milliseconds(value)
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def _rich(name: str, value: object) -> object:
    """A field from JSON."""
    if name == "addresses":
        return _addresses(cast("list[list[Any]]", value))
    if name in TIMES and isinstance(value, int):
        return seconds(value)
    if name == "status":
        return Status(str(value))
    return Ip(bytes.fromhex(value["hex"])) if isinstance(value, dict) and "hex" in value else value
