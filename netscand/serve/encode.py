"""The domain in terms of the wire contract: bytes become text, monotonic seconds become RFC 3339 in UTC (law 7).

A snapshot may have 65,533 devices, so texts that repeat (a second's prefix, one stamp in several fields, the address
of a network) are made once.

An event is encoded once, here: its body is what the history stores and what every client gets, live, after a resume and
by REST. A message adds what the body cannot know: the cursor, and when it is sent.
"""

import re
from collections.abc import Callable, Mapping
from copy import copy
from datetime import datetime
from socket import AF_INET, AF_INET6, inet_ntoa, inet_ntop, inet_pton
from time import gmtime, monotonic, strftime
from typing import Any, cast

import msgspec

from netscand import protocol
from netscand.core.annotations import is_annotated
from netscand.core.conflicts import Conflict
from netscand.core.mac_ranges import is_virtual_router
from netscand.core.model import (
    Address,
    Coverage,
    Device,
    Event,
    EventKind,
    Evidence,
    Filled,
    Ip,
    Kind,
    Mac,
    Network,
    Person,
    PersonStatus,
    Service,
    Status,
    StoredTime,
)
from netscand.core.restore import Remembered, RememberedPerson
from netscand.serve.query import Filter, Searched
from netscand.serve.related import Related

REMEMBERED = 8192
"""Texts of stamps that are cached, at most; then the cache is emptied."""

SHAPES = 256
"""The same for bodies of events with holes: a LAN has few vendors."""

MARK = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Stands before the number of a value until the event is encoded; no text of netscand or of a vendor contains it."""

MARKS = re.compile(b"[\\x01-\\x05]")

APART = 1e12
"""Added to the unix times among the keys of that cache; the others are monotonic."""

STEADY = 0.0005
"""Seconds that the clocks may drift apart before stamps use the new offset: otherwise one `first_seen` would alternate
between two milliseconds."""

MACHINES = (b"\x52\x54\x00", b"\x02\x42")
"""MAC prefixes that are locally administered, and not randomized by a phone: QEMU and KVM guests, Docker containers."""

NOTHING_RELATED = Related()

ONLINE = Status.ONLINE  # a lookup in the enum takes 50 ns

TIMES = frozenset(("status_since", "first_seen", "last_seen"))


def mac_text(mac: Mac) -> str:
    """Write it as `aa:bb:cc:dd:ee:ff`."""
    return mac.hex(":")


def ip_text(ip: Ip) -> str:
    """Write it dotted, or as RFC 5952 has it."""
    return inet_ntoa(ip) if len(ip) == 4 else inet_ntop(AF_INET6, ip)


class Encoder:
    """Converts values of the core into protocol structs.

    `offset` returns unix seconds minus monotonic seconds at this moment, `vendor` the vendor of a MAC.
    """

    def __init__(
        self,
        offset: Callable[[], float],
        vendor: Callable[[Mac], str | None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._clock = clock
        self._offset = offset
        self._vendor = vendor
        self._fresh = self._steady = offset()
        self._seconds: dict[int, str] = {}
        self._texts: dict[float, str] = {}
        self._shapes: dict[object, _Shape] = {}
        """What events of new devices have in common → their text (`_plain`)."""

    # ---- times ----------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Take a clock that was set into account. Call it once before a run of conversions."""
        self._fresh = offset = self._offset()
        if abs(offset - self._steady) > STEADY:
            self._steady = offset
            self._texts.clear()

    def milliseconds(self, at: float) -> int:
        """Return a monotonic stamp as unix time; one of an earlier run as it was stored."""
        return int((at.unix if type(at) is StoredTime else at + self._steady) * 1000)

    def time(self, at: float) -> str:
        """Return a monotonic stamp as text, to the millisecond."""
        key = at.unix + APART if type(at) is StoredTime else at
        text = self._texts.get(key)
        if text is None:
            second, rest = divmod(self.milliseconds(at), 1000)
            text = f"{self._seconds.get(second) or self._second(second)}.{rest:03d}Z"
            if len(self._texts) >= REMEMBERED:
                self._texts.clear()
            self._texts[key] = text
        return text

    def stamp(self, at: float) -> str:
        """Return a monotonic stamp as text, to the microsecond, by the offset of the last `sync`."""
        second, rest = divmod(int((at + self._fresh) * 1_000_000), 1_000_000)
        return f"{self._seconds.get(second) or self._second(second)}.{rest:06d}Z"

    def now(self) -> str:
        """Return the time, to the microsecond."""
        return self.stamp(self._clock())

    def _second(self, second: int) -> str:
        if len(self._seconds) >= REMEMBERED:
            self._seconds.clear()
        text = self._seconds[second] = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
        return text

    def _maybe(self, at: float | None) -> str | None:
        return None if at is None else self.time(at)

    # ---- values ---------------------------------------------------------------------------------------------------

    def address(self, address: Address) -> protocol.Address:
        """Return one address of a device."""
        return protocol.Address(
            ip=ip_text(address.ip),
            network=address.network,
            interface=address.interface,
            evidence=address.evidence,
            first_seen=self.time(address.first_seen),
            last_seen=self.time(address.last_seen),
            foreign=address.foreign or msgspec.UNSET,
            mac=mac_text(address.mac) if address.mac else msgspec.UNSET,
            hostname=address.hostname or msgspec.UNSET,
        )

    def device(self, device: Device) -> protocol.Device:
        """Return a device as it is now."""
        mac, ip, rtt = device.mac, device.ip, device.rtt
        return protocol.Device(
            mac=mac.hex(":"),
            ip=ip_text(ip) if ip else None,
            hostname=device.hostname,
            hostname_source=device.hostname_source,
            label=device.label,
            known=device.known,
            notes=device.notes,
            vendor=self._vendor(mac),
            randomized_mac=_is_randomized(mac),
            kinds=kinds(device),
            kind=device.kind.name if device.kind else msgspec.UNSET,
            kind_reason=device.kind.reason if device.kind else msgspec.UNSET,
            status=device.status,
            reason=device.reason,
            patience=device.presence.patience,
            status_since=self.time(device.status_since),
            first_seen=self.time(device.first_seen),
            last_seen=self.time(device.last_seen),
            rtt_ms=round(rtt * 1000, 3) if rtt is not None else None,
            addresses=[self.address(address) for address in device.addresses],
            tags=list(device.tags),
            merged_macs=[mac_text(mac) for mac in device.merged] or msgspec.UNSET,
            not_same_as=[mac_text(mac) for mac in device.not_same_as] or msgspec.UNSET,
        )

    def listed(self, device: Any, fits: Filter | None) -> bytes | None:  # noqa: ANN401 - of a hub of sites, another one
        """Return the JSON of a device in a list; None if it does not fit."""
        shown = self.device(device)
        return protocol.encode(shown) if fits is None or fits.fits(Searched(shown)) else None

    def wholly(self, device: Device, others: Related = NOTHING_RELATED) -> protocol.Device:
        """Return a device with the fields that only the answer about a single device has."""
        shown = self.device(device)
        shown.dhcp_vendor_class = device.dhcp_vendor_class
        shown.services = [_service(service) for service in device.services]
        shown.last_unsolicited = self._maybe(device.last_unsolicited)
        shown.vendor_hint = others.vendor
        shown.dhcp, lease = self._dhcp(device), device.lease
        shown.address_origin = "lease" if lease is not None and lease.ip == device.ip is not None else None
        shown.probably_same_as, shown.conflicts = None, []  # the caller has the conflicts
        if others.predecessor is not None:
            before, reason = others.predecessor
            shown.probably_same_as = protocol.SameDevice(
                mac=mac_text(before.mac), label=before.label, reason=reason, annotated=is_annotated(before)
            )
        return shown

    def _dhcp(self, device: Device) -> protocol.Dhcp | None:
        lease, client = device.lease, device.dhcp_client_id
        if lease is None:
            return None
        return protocol.Dhcp(
            server=ip_text(lease.server),
            address=ip_text(lease.ip) if lease.ip else None,
            lease_seconds=lease.seconds,
            client_id=client.hex() if client else None,
            received=self.time(lease.at),
        )

    def conflict(self, conflict: Conflict) -> protocol.Conflict:
        """Return a conflict between two devices."""
        return protocol.Conflict(
            address=ip_text(conflict.ip),
            network=conflict.network,
            macs=[mac_text(conflict.holder.mac), mac_text(conflict.claimant.mac)],
            since=self.time(conflict.since),
        )

    def vendor(self, mac: Mac) -> str | None:
        """Return the vendor of a MAC."""
        return self._vendor(mac)

    def network(self, network: Network, coverage: Coverage, online: int, last_scan: float | None) -> protocol.Network:
        """Return a network, with the figures of the planner and the inventory."""
        return protocol.Network(
            id=network.id,
            cidr=str(network.cidr),
            interface=network.interface,
            state=network.state,
            why=network.why,
            gateway=ip_text(network.gateway) if network.gateway else None,
            interval=network.interval,
            addresses=len(network.offsets),
            coverage=protocol.Coverage(fraction=coverage.fraction, seconds=coverage.seconds),
            online=online,
            last_scan=self._maybe(last_scan),
            same_lan_as=network.same_lan_as,
        )

    def person(self, person: Person) -> protocol.Person:
        """Return a person as it is now."""
        return protocol.Person(
            name=person.name,
            status=person.status,
            status_since=self.time(person.status_since),
            reason=person.reason,
            last_status=person.last_status,
            devices=_of_person(person.devices),
        )

    def event(self, event: Event) -> bytes:
        """Return the body of an event: the JSON of protocol.Event, without its cursor and the time of sending."""
        self.sync()
        device = event.device
        if device is not None and event.kind is EventKind.DISCOVERED and _is_plain(device, event):
            return self._plain(event, device)
        return self._generally(event)

    def _event(self, event: Event) -> protocol.Event:
        return protocol.Event(
            cursor="",
            kind=event.kind,
            at=self.time(event.at),
            network=event.network,
            address=ip_text(event.address) if event.address else None,
            other=mac_text(event.other) if event.other else None,
            evidence=event.evidence,
            reason=event.reason,
            device=self.device(event.device) if event.device else None,
            previous=self._previous(event.previous) if event.previous else None,
            person=self.person(event.person) if event.person else msgspec.UNSET,
            seen_at=self.stamp(event.seen_at) if event.seen_at is not None else None,
        )

    def _plain(self, event: Event, device: Device) -> bytes:
        """Return the body of a `discovered` of a device with one address and nothing else.

        A large scan makes thousands that differ in four values: these are put into the text of the first one.
        """
        mac, rtt = device.mac, device.rtt
        assert event.address is not None
        assert event.seen_at is not None
        shape = (
            event.network, event.evidence, event.reason, device.kind, self._vendor(mac), _is_randomized(mac),
            device.presence.patience, device.addresses[0].interface,
        )  # fmt: skip
        common = self._shapes.get(shape)
        if common is None:
            if len(self._shapes) >= SHAPES:
                self._shapes.clear()
            common = self._shapes[shape] = _Shape(_marked(self._event(event)))
        second, rest = divmod(self.milliseconds(event.at), 1000)
        seen_in, seen_rest = divmod(int((event.seen_at + self._fresh) * 1_000_000), 1_000_000)
        if seen_in != second:  # the two stamps are rounded differently
            return self._generally(event)
        if second != common.second:
            common.set_second(second, self._seconds.get(second) or self._second(second))
        at, seen_at, ip = b".%03dZ" % rest, b".%06dZ" % seen_rest, ip_text(event.address).encode()
        shown, took = mac.hex(":").encode(), b"null" if rtt is None else repr(round(rtt * 1000, 3)).encode()
        body = Filled(common.holed % (at, ip, shown, ip, at, at, at, took, ip, at, at, seen_at))
        body.common, body.values = common.marked, (at, ip, shown, took, seen_at)
        return body

    def _generally(self, event: Event) -> bytes:
        return protocol.encode(self._event(event))[BEFORE:-AFTER].join((b"{", b"}"))

    def _previous(self, fields: Mapping[str, object]) -> dict[str, object]:
        """Convert domain values under wire names into wire values."""
        shown: dict[str, object] = {}
        for name, value in fields.items():
            if name in TIMES and value is not None:
                shown[name] = self.time(cast(float, value))
            elif name == "addresses":
                shown[name] = [self.address(address) for address in cast("list[Address]", value)]
            elif name in ("merged_macs", "not_same_as"):
                shown[name] = [mac_text(mac) for mac in cast("tuple[Mac, ...]", value)]
            elif name == "devices":
                shown[name] = _of_person(cast("Mapping[Mac, bool]", value))
            elif isinstance(value, bytes):
                shown[name] = mac_text(Mac(value)) if len(value) == 6 else ip_text(Ip(value))
            else:
                shown[name] = value
        return shown


class _Shape:
    """Text that the events of new devices have in common: `marked` as of Filled, and `holed` for the operator %."""

    __slots__ = ("_text", "holed", "marked", "second")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self.second = -1
        self.holed = self.marked = b""

    def set_second(self, second: int, shown: str) -> None:
        """Set the second of the events, which then is in the text: it would be in seven of the values."""
        self.second = second
        self.marked = self._text.replace(b"\1", shown.encode() + b"\1").replace(b"\5", shown.encode() + b"\5")
        self.holed = MARKS.sub(b"%b", self.marked.replace(b"%", b"%%"))


def _is_randomized(mac: Mac) -> bool:
    return bool(mac[0] & 2) and not mac.startswith(MACHINES)  # the locally administered bit


def _is_plain(device: Device, event: Event) -> bool:
    """Return whether a device that was discovered has one address, and else only a kind."""
    if len(device.addresses) != 1 or event.previous is not None or event.seen_at is None:
        return False
    (address,), at = device.addresses, event.at
    return (
        at == device.first_seen == device.last_seen == device.status_since == address.first_seen == address.last_seen
        and address.ip == event.address
        and address.network == event.network
        and address.evidence is event.evidence
        and device.reason == event.reason
        and device.status is ONLINE
        and not (
            address.foreign or address.mac or address.hostname or event.other or device.hostname or device.is_self
            or device.is_gateway or device.is_router or device.is_proxy
        )
        and not is_annotated(device)
        and not is_virtual_router(device.mac)
    )  # fmt: skip


def _marked(event: protocol.Event) -> bytes:
    """Return the body of such an event with marks: 1 for times, 2 address, 3 MAC, 4 round trip, 5 `seen_at`."""
    assert event.device is not None
    (address,), device = event.device.addresses, event.device
    event.at = device.status_since = device.first_seen = device.last_seen = f"{MARK}1"
    address.first_seen = address.last_seen = event.at
    event.address = device.ip = address.ip = f"{MARK}2"
    device.mac, device.rtt_ms, event.seen_at = f"{MARK}3", None, f"{MARK}5"
    text = protocol.encode(event)[BEFORE:-AFTER].replace(b'"rtt_ms":null', b'"rtt_ms":\4')
    for number in range(1, 6):
        text = text.replace(f"{MARK}{number}".encode(), bytes([number]))
    return b"{" + text + b"}"


def _service(service: Service) -> protocol.Service:
    entries = (entry.partition("=") for entry in service.txt)
    return protocol.Service(type=service.type, txt={key: value for key, _, value in entries})


def _of_person(devices: Mapping[Mac, bool]) -> list[protocol.PersonDevice]:
    return [protocol.PersonDevice(mac=mac_text(mac), counts=counts) for mac, counts in devices.items()]


def kinds(device: Device) -> list[str]:
    """Return the marks of a device: what it does on the network."""
    found = []
    if device.is_self:
        found.append("self")
    if device.is_gateway or device.is_router:
        found.append("gateway")
    if is_virtual_router(device.mac):
        found.append("router_redundancy")
    if device.is_proxy:
        found.append("proxy_arp")
    if device.never_seen:
        found.append("never_seen")
    return found


# ---- messages ------------------------------------------------------------------------------------------------------

BEFORE, AFTER = len(b'{"type":"event","cursor":"",'), len(b',"sent_at":null}')
"""Bytes of an encoded event before and after what its body has."""

_decode = msgspec.json.Decoder(protocol.Event).decode
_addresses = list[protocol.Address]


def event_message(cursor: str, body: bytes, sent_at: str | None = None) -> bytes:
    """Return an event as clients get it."""
    sent = f'"{sent_at}"' if sent_at else "null"
    return b'{"type":"event","cursor":"%b",%b,"sent_at":%b}' % (cursor.encode(), body[1:-1], sent.encode())


def decoded(body: bytes) -> protocol.Event:
    """Return the event of a body, without its cursor. Raises ValueError."""
    try:
        return _decode(event_message("", body))
    except msgspec.MsgspecError as wrong:  # a ValueError only from msgspec 0.20 on
        raise ValueError(str(wrong)) from None


def device_before(event: protocol.Event) -> protocol.Device | None:
    """Return the device of an event as it was before it; None if the event is about none."""
    if event.device is None:
        return None
    was = copy(event.device)
    for name, value in (event.previous or {}).items():
        if name in protocol.Device.__struct_fields__:
            setattr(was, name, msgspec.convert(value, _addresses) if name == "addresses" else value)
    return was


# ---- back into the domain -------------------------------------------------------------------------------------------


def remembered_by(body: bytes) -> Remembered | RememberedPerson | None:
    """Return the person of an event as the event shows them, else the device (`remembered`). Raises ValueError."""
    if b'"person":{' not in body:  # most events; within a text, its quotes would be escaped
        return remembered(body)
    event = decoded(body)
    return _remembered_person(event.person, (event.previous or {}).get("name")) if event.person else None


def remembered(body: bytes) -> Remembered | None:
    """Return the device of an event as the event shows it; None if it is about none. Raises ValueError.

    It does not show whether the device has answered us, a patience that a user chose, and what presence learned.
    """
    device = decoded(body).device
    if device is None:
        return None
    return Remembered(
        _mac(device.mac), _unix(device.first_seen), _unix(device.last_seen),
        Status(device.status), _unix(device.status_since), device.reason, hostname=device.hostname,
        hostname_source=device.hostname_source, label=device.label, known=device.known, notes=device.notes,
        kind=Kind(device.kind, device.kind_reason or "") if device.kind else None,
        tags=tuple(device.tags), merged=tuple(map(_mac, device.merged_macs or ())),
        not_same_as=tuple(map(_mac, device.not_same_as or ())),
        addresses=tuple(
            Address(_ip(address.ip), address.network, address.interface, Evidence(address.evidence),
                    _unix(address.first_seen), _unix(address.last_seen), mac=_mac(address.mac) if address.mac else None)
            for address in sorted(device.addresses, key=lambda each: each.ip != device.ip)  # as in its row
        ),
    )  # fmt: skip


def _remembered_person(person: protocol.Person, former_name: str | None) -> RememberedPerson:
    last = PersonStatus(person.last_status) if person.last_status else None
    since = _unix(person.status_since)
    devices = {_mac(each.mac): each.counts for each in person.devices}
    return RememberedPerson(
        person.name, devices, PersonStatus(person.status), since, person.reason, last, since, former_name
    )


def _mac(text: str) -> Mac:
    return Mac(bytes.fromhex(text.replace(":", "")))


def _ip(text: str) -> Ip:
    try:
        return Ip(inet_pton(AF_INET6 if ":" in text else AF_INET, text))
    except OSError:
        raise ValueError(f"{text!r} is not an IP address") from None


def _unix(text: str) -> float:
    """Return the middle of that millisecond, so that it is the same one again however it is rounded."""
    return datetime.fromisoformat(text).timestamp() + 0.0005
