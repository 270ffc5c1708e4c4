"""Rows of the database: an event with its JSON deflated, and a device. Pure, but for the clock, which it is given."""

import re
import sqlite3
import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol, cast

import msgspec

from netscand.core.merged import Merge
from netscand.core.model import (
    CHOSEN_KIND,
    Address,
    Device,
    Event,
    EventKind,
    Evidence,
    Filled,
    Ip,
    Kind,
    Mac,
    Person,
    PersonStatus,
    Service,
    Status,
)
from netscand.core.restore import Remembered, RememberedMerge, RememberedPerson

Row = tuple[object, ...]
"""The values of one row, in the order of its columns."""

EVENT_COLUMNS = ("sequence", "at", "kind", "mac", "was", "was_since", "confirmed", "chosen", "body")
"""`body` is what clients get (`pack`). The others repeat what queries, retention and a start need of it, or what it
does not show: whether the device has answered us, and the patience that a user chose."""

DEVICE_COLUMNS = (
    "mac", "sequence", "first_seen", "status", "status_since", "reason", "known", "hostname", "hostname_source",
    "label", "notes", "patience", "learned", "learned_at", "addresses", "kind", "kind_reason", "evidence", "tags",
    "not_same_as",
)  # fmt: skip

SMALL_TABLES = {"person": ("name", "body"), "merged": ("mac", "body", "device")}
"""Tables that are written as a whole, and their columns."""

# The numbers are in people's databases: never change one, only add.
KINDS = {
    EventKind.DISCOVERED: 1, EventKind.ONLINE: 2, EventKind.OFFLINE: 3, EventKind.ADDRESS_ADDED: 4,
    EventKind.ADDRESS_REMOVED: 5, EventKind.ADDRESS_MOVED: 6, EventKind.ADDRESS_CONFLICT: 7, EventKind.RENAMED: 8,
    EventKind.LABELLED: 9, EventKind.FORGOTTEN: 10, EventKind.GATEWAY_CHANGED: 11, EventKind.DHCP_SERVER_SEEN: 12,
    EventKind.NETWORK_UP: 13, EventKind.NETWORK_DOWN: 14, EventKind.NETWORK_SILENT: 15,
    EventKind.NETWORK_RECOVERED: 16, EventKind.FLOOD: 17, EventKind.SAME_HOST: 18, EventKind.UNKNOWN: 19,
    EventKind.KIND_CHANGED: 20, EventKind.PERSON_HOME: 21, EventKind.PERSON_AWAY: 22, EventKind.PERSON_UNKNOWN: 23,
    EventKind.PERSON_CHANGED: 24, EventKind.PERSON_REMOVED: 25, EventKind.MERGED: 26, EventKind.SPLIT: 27,
}  # fmt: skip
RARE_KINDS = (
    EventKind.ADDRESS_CONFLICT, EventKind.LABELLED, EventKind.GATEWAY_CHANGED, EventKind.DHCP_SERVER_SEEN,
    EventKind.NETWORK_UP, EventKind.NETWORK_DOWN, EventKind.NETWORK_SILENT, EventKind.NETWORK_RECOVERED,
    EventKind.FLOOD,
)  # fmt: skip
"""Events with an index by kind: a search for the few of them among all others takes long. Never change it."""
OTHER_KINDS = (
    EventKind.ADDRESS_REMOVED, EventKind.ADDRESS_MOVED, EventKind.ADDRESS_CONFLICT, EventKind.GATEWAY_CHANGED,
    EventKind.DHCP_SERVER_SEEN, EventKind.SAME_HOST, EventKind.MERGED, EventKind.SPLIT,
)  # fmt: skip
"""Events that have an `other` device. It has no column: it is read from the body."""
PERSON_KINDS = (
    EventKind.PERSON_HOME, EventKind.PERSON_AWAY, EventKind.PERSON_UNKNOWN, EventKind.PERSON_CHANGED,
    EventKind.PERSON_REMOVED,
)  # fmt: skip
EVIDENCE = {
    Evidence.ARP_REQUEST: 1, Evidence.ARP_REPLY: 2, Evidence.ARP_PROBE: 3, Evidence.ARP_ANNOUNCEMENT: 4,
    Evidence.NDP: 5, Evidence.DHCP: 6, Evidence.MDNS: 7, Evidence.NBNS: 8, Evidence.NEIGHBOUR: 9, Evidence.PROXIED: 10,
}  # fmt: skip
STATUS = {Status.ONLINE: 1, Status.OFFLINE: 2, Status.UNKNOWN: 3}
EVIDENCE_OF = {number: evidence for evidence, number in EVIDENCE.items()}
STATUS_OF = {number: status for status, number in STATUS.items()}

ENDS_A_STATUS = frozenset((EventKind.ONLINE, EventKind.OFFLINE, EventKind.FORGOTTEN))
"""Events that end a status: which, and since when it was, has columns, so that presence by day decodes no JSON."""

WRONG = (KeyError, ValueError, TypeError, IndexError, OverflowError, AttributeError, msgspec.MsgspecError)
"""What decoding raises for values that netscand did not write."""


class WallClock(Protocol):
    """Monotonic seconds as unix time, by the same rule as in what clients get."""

    def sync(self) -> None:
        """Take a clock that was set into account."""

    def milliseconds(self, at: float) -> int:
        """Convert a time stamp; steady against small drifts of the clocks."""


# ---- events -------------------------------------------------------------------------------------------------------


def event_row(sequence: int, event: Event, body: bytes, clock: WallClock) -> Row:
    """Return the row of an event that happens now; `body` is its JSON."""
    device, kind, at = event.device, KINDS[event.kind], clock.milliseconds(event.at)
    if device is None:
        return sequence, at, kind, None, None, None, None, None, pack(body)
    was = was_since = None
    if event.kind in ENDS_A_STATUS and not device.never_seen:
        previous = cast("Mapping[str, Any]", event.previous or {})
        was = STATUS[previous.get("status", device.status)]
        was_since = at - clock.milliseconds(previous.get("status_since", device.status_since))
    confirmed, chosen = int(device.confirmed), device.presence.chosen
    return sequence, at, kind, mac_number(device.mac), was, was_since, confirmed, chosen, pack(body)


DICTIONARY = (
    b'"labelled","forgotten","address_moved","address_conflict","address_removed","network_down","network_up",'
    b'"network_silent","network_recovered","flood","gateway_changed","dhcp_server_seen","proxied","neighbour","nbns",'
    b'"mdns","dns","arp_probe","arp_request","router_redundancy","proxy_arp","self"label changed by a user","known":'
    b'true,"notes":"sent an ARP request","spoke DHCP"netscand was not running"unknown","kinds":["gateway"],'
    b'"@wlan0","interface":"wlan0","Inc.", Ltd.",Technologies "Apple, Inc.","vendor":null,"randomized_mac":true'
    b'{"kind":"renamed","at":"20","network":null,"address":null,"other":null,"evidence":null,"reason":"named by mdns",'
    b'"device":{"mac":"","ip":"10.0.0.1","hostname":"","hostname_source":"dhcp","label":"","previous":{"hostname":null,'
    b'"hostname_source":null},"seen_at":null}{"kind":"address_added","at":"20","other":null,"evidence":"ndp","reason":'
    b'"sent neighbour discovery","other":"","addresses":[{"ip":"fe80::","network":"10.0.0.0/24@eth0",'
    b'"interface":"eth0","evidence":"dhcp","first_seen":"20"}]},"previous":{"ip":"10.0.0.1","addresses":[{"ip":"10.0.0.1","network":'
    b'{"kind":"discovered","at":"20","network":"192.168.1.0/24@eth0","address":"192.168.1.1","other":null,"evidence":'
    b'"arp_reply","reason":"answered an ARP request","previous":null,"seen_at":"20{"kind":"online","at":"20","network":'
    b'"192.168.1.0/24@eth0","address":"192.168.1.1","other":null,"evidence":"arp_announcement","reason":'
    b'"announced its address","previous":{"status":"offline","status_since":"20","reason":'
    b'"3 probes and 1 request unanswered, silent for "},"seen_at":"20{"kind":"offline","at":"20","network":'
    b'"192.168.1.0/24@eth0","address":"192.168.1.1","other":null,"evidence":null,"reason":'
    b'"4 probes and 2 requests unanswered, silent for  s","device":{"mac":"","ip":"192.168.1.1","hostname":null,'
    b'"hostname_source":null,"label":null,"known":false,"notes":null,"vendor":null,"randomized_mac":false,"kinds":[],'
    b'"status":"offline","reason":"","patience":10.0,"status_since":"20","first_seen":"20","last_seen":"20","rtt_ms":'
    b'null,"rtt_ms":0.,"addresses":[{"ip":"192.168.1.1","network":"192.168.1.0/24@eth0","interface":"eth0","evidence":'
    b'"arp_announcement","first_seen":"20"},{"ip":"2001:db8:","network":"192.168.1.0/24@eth0","interface":"eth0",'
    b'"evidence":"ndp","first_seen":"20-01T00:00:00.000Z","last_seen":"20-01T00:00:00.000Z"}]},"previous":{"status":'
    b'"online","status_since":"20-01T00:00:00.000Z","reason":"answered an ARP request"},"seen_at":null}'
)
"""What events are mostly made of (RFC 1950, "preset dictionary"). Every stored event needs it: never change a byte."""

WINDOW = 12
"""Logarithm of the window's size: twice the dictionary, and quickly copied."""

_DEFLATE = zlib.compressobj(3, zlib.DEFLATED, WINDOW, 2, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
"""Ready to begin: copying it takes less time than making it. Level 6 saves 5 bytes for 3 µs; with more memory, a push
with cold caches takes 9 µs longer."""


FILLED, _HEAD = 1, struct.Struct(">BIH")
"""First byte of a row of a Filled, which no deflated one begins with. A checksum of the event and the length of its
values follow, then these values, and the text that it has in common with others, deflated."""

EXAMPLE = (
    b'{"kind":"discovered","at":"2026-01-01T00:00:00\x01","network":"192.168.1.0/24@eth0","address":"\x02","other":null,'
    b'"evidence":"arp_reply","reason":"answered an ARP request","device":{"mac":"\x03","ip":"\x02","hostname":null,'
    b'"hostname_source":null,"label":null,"known":false,"notes":null,"vendor":null,"randomized_mac":false,"kinds":[],'
    b'"status":"online","reason":"answered an ARP request","patience":90.0,"status_since":"2026-01-01T00:00:00\x01",'
    b'"first_seen":"2026-01-01T00:00:00\x01","last_seen":"2026-01-01T00:00:00\x01","rtt_ms":\x04,"addresses":[{"ip":'
    b'"\x02","network":"192.168.1.0/24@eth0","interface":"eth0","evidence":"arp_reply","first_seen":'
    b'"2026-01-01T00:00:00\x01","last_seen":"2026-01-01T00:00:00\x01"}],"tags":[]},"previous":null,"seen_at":'
    b'"2026-01-01T00:00:00\x05"}'
)
"""The preset dictionary of such a text. Never change a byte, as with DICTIONARY."""

_COMMON = zlib.compressobj(3, zlib.DEFLATED, WINDOW, 2, zlib.Z_DEFAULT_STRATEGY, EXAMPLE)


def pack(body: bytes) -> bytes:
    """Deflate an event: of 850 to 1,900 bytes remain 140 to 400. It takes 12 µs, of a Filled 1.4."""
    if type(body) is Filled:
        values = b"\n".join(body.values)
        return _HEAD.pack(FILLED, zlib.crc32(body), len(values)) + values + _deflated_once(body.common)
    return _deflated(_DEFLATE, body)


@lru_cache(maxsize=256)
def _deflated_once(text: bytes) -> bytes:
    return _deflated(_COMMON, text)


def _deflated(prepared: "zlib._Compress", text: bytes) -> bytes:
    deflate = prepared.copy()
    return deflate.compress(text) + deflate.flush()


def unpack(stored: bytes) -> bytes:
    """Return an event as it was given to `pack`. Raises ValueError where it is damaged: it has a checksum."""
    try:
        if stored[0] != FILLED:
            return _inflated(stored, DICTIONARY)
        _, checksum, size = _HEAD.unpack_from(stored)
        body = _inflated(stored[_HEAD.size + size :], EXAMPLE)
        for number, value in enumerate(stored[_HEAD.size : _HEAD.size + size].split(b"\n"), 1):
            body = body.replace(number.to_bytes(), value)
    except (zlib.error, struct.error, TypeError, IndexError, OverflowError) as wrong:
        raise ValueError(str(wrong)) from None
    if zlib.crc32(body) != checksum:
        raise ValueError("its checksum is wrong")
    return body


def _inflated(stored: bytes, dictionary: bytes) -> bytes:
    inflate = zlib.decompressobj(WINDOW, zdict=dictionary)
    text = inflate.decompress(stored)
    if not inflate.eof:
        raise ValueError("it is truncated")
    return text


HEAD = 512
"""Bytes of an event that contain its `other`: before it, there are only a kind, a time, a network and an address."""


OTHER = re.compile(rb'"other":"([0-9a-f:]{17})"')


def other_of(stored: bytes) -> Mac | None:
    """Return the MAC that is the `other` of an event; None if there is none, or the event is damaged.

    Only the beginning is inflated. No text within can look the same: its quotes would be escaped.
    """
    if stored[:1] == FILLED.to_bytes():
        return None
    try:
        head = zlib.decompressobj(WINDOW, zdict=DICTIONARY).decompress(stored, HEAD)
    except (zlib.error, TypeError):
        return None
    found = OTHER.search(head)
    return Mac(bytes.fromhex(found[1].decode().replace(":", ""))) if found else None


class _About(msgspec.Struct):
    """Names in an event about a person: now, and before."""

    person: "_Named | None" = None
    previous: "_Named | None" = None


class _Named(msgspec.Struct):
    name: str = ""


_ABOUT = msgspec.json.Decoder(_About)


def is_about_person(stored: bytes, name: str) -> bool:
    """Return whether an event is about the person with a name, in lower case; False if the event is damaged."""
    try:
        about = _ABOUT.decode(unpack(stored))
    except WRONG:
        return False
    named = about.person is not None
    return named and name in {each.name.casefold() for each in (about.person, about.previous) if each is not None}


def mentions(stored: bytes, mac: Mac) -> bool:
    """Return whether an event names a MAC anywhere. One that is damaged counts: what it has is unknown."""
    try:
        return mac.hex(":").encode() in unpack(stored)
    except ValueError:
        return True


# ---- devices ------------------------------------------------------------------------------------------------------


def device_row(device: Device, sequence: int, learned_at: int, clock: WallClock) -> Row:
    """Return the row of a device as it is now, at `learned_at` in milliseconds; `last_seen` has its own table."""
    milliseconds = clock.milliseconds
    return (
        mac_number(device.mac), sequence, milliseconds(device.first_seen), STATUS[device.status],
        milliseconds(device.status_since), device.reason, int(device.known), device.hostname, device.hostname_source,
        device.label, device.notes, device.presence.chosen, device.presence.learned(), learned_at,
        msgspec.json.encode([_address_values(address, clock) for address in _main_first(device)]).decode(),
        *(device.kind or (None, None)), _evidence(device), ",".join(device.tags) or None,
        b"".join(device.not_same_as) or None,
    )  # fmt: skip


def _evidence(device: Device) -> str | None:
    """Return the evidence for the kind of a device as JSON; None: there is none but its name and MAC."""
    if not (device.services or device.dhcp_vendor_class or device.dhcp_parameters):
        return None
    parameters = device.dhcp_parameters.hex() if device.dhcp_parameters else None
    return msgspec.json.encode([device.dhcp_vendor_class, parameters, device.services]).decode()


def seen_row(device: Device, clock: WallClock) -> Row:
    """Return when a device was last seen: the only thing that changes all the time."""
    return mac_number(device.mac), clock.milliseconds(device.last_seen), int(device.confirmed)


def remembered(row: Row, last_seen: int | None, confirmed: int | None) -> Remembered:
    """Return the device of a row of `device` and one of `seen` (in milliseconds).

    Raises sqlite3.DatabaseError for values that netscand did not write: the file is damaged.
    """
    try:
        return _device(row, last_seen, confirmed)
    except WRONG as wrong:
        damage = sqlite3.DatabaseError(f"device {row[0]} is damaged: {wrong!r}")
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage from None


def _device(row: Row, last_seen: int | None, confirmed: int | None) -> Remembered:
    (
        mac, sequence, first_seen, status, status_since, reason, known, hostname, source, label, notes, patience,
        learned, learned_at, addresses, kind, kind_reason, evidence, tags, others,
    ) = cast("tuple[Any, ...]", row)  # fmt: skip
    vendor_class, parameters, services = msgspec.json.decode(evidence) if evidence else (None, None, ())
    return Remembered(
        mac_of(mac), seconds(first_seen), seconds(last_seen or first_seen), STATUS_OF[status], seconds(status_since),
        reason, sequence, _addresses(msgspec.json.decode(addresses)), bool(confirmed), hostname, source, label,
        bool(known), notes, tuple(tags.split(",")) if tags else (), chosen=patience, learned=learned,
        not_same_as=tuple(Mac(others[at : at + 6]) for at in range(0, len(others or b""), 6)),
        learned_at=seconds(learned_at), kind=Kind(kind, kind_reason) if kind else None, vendor_class=vendor_class,
        parameters=bytes.fromhex(parameters) if parameters else None,
        services=tuple(Service(name, tuple(txt)) for name, txt in services),
    )  # fmt: skip


def _main_first(device: Device) -> list[Address]:
    """Return the addresses, first that of `ip`: so it is stored, as by the order in an event's body."""
    main = device.main_address if len(device.addresses) > 1 else None
    return sorted(device.addresses, key=lambda each: each is not main) if main is not None else device.addresses


def _address_values(address: Address, clock: WallClock) -> list[object]:
    return [
        address.ip.hex(), address.network, address.interface, EVIDENCE[address.evidence],
        clock.milliseconds(address.first_seen), clock.milliseconds(address.last_seen),
        *([address.mac.hex()] if address.mac else ()),
    ]  # fmt: skip


def _addresses(rows: list[list[Any]]) -> tuple[Address, ...]:
    return tuple(
        Address(
            Ip(bytes.fromhex(ip)),
            network,
            interface,
            EVIDENCE_OF[evidence],
            seconds(first),
            seconds(last),
            mac=Mac(bytes.fromhex(mac[0])) if mac else None,
        )
        for ip, network, interface, evidence, first, last, *mac in rows
    )


# ---- people -------------------------------------------------------------------------------------------------------


def person_row(person: Person, clock: WallClock) -> Row:
    """Return the row of a person as it is now."""
    values = [
        person.name, [[mac.hex(), counts] for mac, counts in person.devices.items()], person.status,
        clock.milliseconds(person.status_since), person.reason, person.last_status,
        clock.milliseconds(person.last_since),
    ]  # fmt: skip
    return person.name.casefold(), msgspec.json.encode(values).decode()


def merge_row(merge: Merge, clock: WallClock) -> Row:
    """Return the row of a merged device: what only the merge has, as JSON, and the device by its columns, packed."""
    device, since = merge.device, merge.own_first_seen
    body = [merge.into.hex(), None if since is None else clock.milliseconds(since), merge.given, merge.people]
    values = dict(zip(DEVICE_COLUMNS, device_row(device, 0, clock.milliseconds(device.last_seen), clock), strict=True))
    _, last_seen, confirmed = seen_row(device, clock)
    packed = msgspec.msgpack.encode(values | {"last_seen": last_seen, "confirmed": confirmed})
    return mac_number(merge.mac), msgspec.json.encode(body).decode(), packed


def remembered_merge(mac: int, body: str, device: bytes | None) -> RememberedMerge:
    """Return the merge of a row. Raises one of WRONG for values that netscand did not write."""
    if device is None:
        return _merge_of_version_5(mac, *msgspec.json.decode(body))
    into, since, given, people = msgspec.json.decode(body)
    values = msgspec.msgpack.decode(device)
    was = _device(tuple(values.get(name) for name in DEVICE_COLUMNS), values["last_seen"], values["confirmed"])
    return RememberedMerge(
        was, Mac(bytes.fromhex(into)), None if since is None else seconds(since), _given(given), _of_people(people)
    )


def _merge_of_version_5(
    mac: int, into: str, first_seen: int, kept: dict[str, Any], given: dict[str, Any], people: dict[str, Any]
) -> RememberedMerge:
    at, kind = seconds(first_seen), kept.get("kind")
    was = Remembered(
        mac_of(mac), at, at, Status.UNKNOWN, at, "", label=kept.get("label"), known=kept.get("known", False),
        notes=kept.get("notes"), tags=tuple(kept.get("tags", ())), chosen=kept.get("patience"),
        not_same_as=tuple(Mac(bytes.fromhex(other)) for other in kept.get("not_same_as", ())),
        kind=Kind(kind, CHOSEN_KIND) if kind else None,
    )  # fmt: skip
    return RememberedMerge(was, Mac(bytes.fromhex(into)), None, _given(given), _of_people(people))


def _given(values: dict[str, Any]) -> dict[str, object]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _of_people(values: dict[str, Any]) -> dict[str, tuple[bool, bool]]:
    return {name: (bool(counted), bool(added)) for name, (counted, added) in values.items()}


def remembered_person(body: str) -> RememberedPerson:
    """Return the person of a row. Raises one of WRONG for values that netscand did not write."""
    name, devices, status, since, reason, last_status, last_since = msgspec.json.decode(body)
    return RememberedPerson(
        name, {Mac(bytes.fromhex(mac)): bool(counts) for mac, counts in devices}, PersonStatus(status), seconds(since),
        reason, PersonStatus(last_status) if last_status else None, seconds(last_since),
    )  # fmt: skip


# ---- values -------------------------------------------------------------------------------------------------------


def seconds(milliseconds: int) -> float:
    """Return the middle of that millisecond, so that it is the same one again however it is rounded."""
    return (milliseconds + 0.5) / 1000


def mac_number(mac: Mac) -> int:
    """Return six bytes as a number that SQLite stores in six bytes (signed)."""
    return int.from_bytes(mac, signed=True)


def mac_of(number: int) -> Mac:
    """Return the MAC of a number."""
    return Mac(number.to_bytes(6, signed=True))
