"""The domain as JSON of the wire contract."""

import re
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from netscand import protocol
from netscand.core.model import (
    EVIDENCE_TEXT,
    Address,
    Device,
    Event,
    EventKind,
    Evidence,
    Filled,
    Ip,
    Kind,
    Mac,
    Service,
    Status,
)
from netscand.core.presence import Presence, Rules
from netscand.serve.encode import (
    AFTER,
    BEFORE,
    STEADY,
    Encoder,
    decoded,
    device_before,
    event_message,
    ip_text,
    kinds,
    mac_text,
    remembered,
)
from netscand.serve.hub import Hub
from netscand.store.rows import pack, unpack
from tests.serve.house import BOOT, LAN, FakeScanner, mac


class Clock:
    """Offset that a test can set."""

    def __init__(self) -> None:
        self.offset = BOOT

    def __call__(self) -> float:
        return self.offset


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def translator(clock: Clock) -> Encoder:
    return Encoder(clock, lambda of: "Apple, Inc." if of[:2] == b"\xa4\x83" else None)


@pytest.fixture
def scanner(translator: Encoder) -> FakeScanner:
    return FakeScanner(Hub(translator))


def test_times_are_rfc_3339_in_utc_with_milliseconds(translator: Encoder) -> None:
    assert translator.time(1.0425) == "2023-11-14T22:13:21.042Z"
    assert translator.time(59.9999) == "2023-11-14T22:14:19.999Z"


def test_stamps_of_frames_have_microseconds(translator: Encoder) -> None:
    assert translator.stamp(1.25) == "2023-11-14T22:13:21.250000Z"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", translator.now())


def test_a_stamp_stays_the_same_while_the_clocks_drift_a_little(clock: Clock, translator: Encoder) -> None:
    first = translator.time(1.0)
    clock.offset -= STEADY / 2
    translator.sync()
    assert translator.time(1.0) == first


def test_a_clock_that_was_set_moves_every_published_time(clock: Clock, translator: Encoder) -> None:
    """Law 7: wall time is attached at the edge."""
    translator.time(1.0)
    clock.offset += 3600
    translator.sync()
    assert translator.time(1.0) == "2023-11-14T23:13:21.000Z"


def test_the_cache_of_times_is_bounded(translator: Encoder) -> None:
    for number in range(20_000):
        translator.time(number + 0.5)
    assert len(translator._texts) <= 8192
    assert len(translator._seconds) <= 8192


def test_addresses_and_macs_become_text() -> None:
    assert ip_text(Ip(bytes([192, 168, 1, 37]))) == "192.168.1.37"
    assert ip_text(Ip(b"\xfe\x80" + bytes(13) + b"\x01")) == "fe80::1"
    assert mac_text(Mac(b"\xa4\x83\xe7\x12\x34\x56")) == "a4:83:e7:12:34:56"


def test_a_device_has_every_field_of_the_contract(translator: Encoder, scanner: FakeScanner) -> None:
    device = scanner.devices[mac(1)]
    device.rtt, device.kind, device.merged = 0.0004, Kind("printer", "mDNS service _ipp._tcp"), (mac(2),)
    device.not_same_as = (mac(3),)
    device.services = (Service("_ipp._tcp", ("ty=HP Envy", "rp=ipp/print")),)
    told = msgspec.json.decode(protocol.encode(translator.wholly(device)))
    elsewhere = {"warnings", "site", "status_at_site"}  # in the answer to a change; only from a hub
    assert set(told) == set(protocol.Device.__struct_fields__) - elsewhere
    assert told["mac"] == "a4:83:00:00:00:01"
    assert told["ip"] == told["addresses"][0]["ip"] == "10.0.0.11"
    assert told["addresses"][0]["evidence"] == "arp_reply"
    assert (told["status"], told["rtt_ms"], told["vendor"]) == ("online", 0.4, "Apple, Inc.")
    assert (told["kind"], told["kind_reason"]) == ("printer", "mDNS service _ipp._tcp")
    assert told["services"] == [{"type": "_ipp._tcp", "txt": {"ty": "HP Envy", "rp": "ipp/print"}}]
    assert (told["merged_macs"], told["not_same_as"]) == (["a4:83:00:00:00:02"], ["a4:83:00:00:00:03"])
    assert not told["randomized_mac"]


@pytest.mark.parametrize(
    ("mac_hex", "randomized"),
    [("da1119000001", True), ("02a1b2c3d4e5", True), ("525400123456", False), ("0242ac110002", False)],
)
def test_a_randomised_mac_is_recognised(
    translator: Encoder, scanner: FakeScanner, mac_hex: str, randomized: bool
) -> None:
    """All four are locally administered."""
    assert (
        translator.device(replace(scanner.devices[mac(1)], mac=Mac(bytes.fromhex(mac_hex)))).randomized_mac
        is randomized
    )


@pytest.mark.parametrize(
    ("mac_hex", "expected"),
    [
        ("00005e000101", ["router_redundancy"]),
        ("00005e000201", ["router_redundancy"]),
        ("00000c9ff005", ["router_redundancy"]),
        ("00000c07ac05", ["router_redundancy"]),
        ("a483e7123456", []),
    ],
)
def test_virtual_routers_are_recognised_by_their_mac(scanner: FakeScanner, mac_hex: str, expected: list[str]) -> None:
    assert kinds(replace(scanner.devices[mac(1)], mac=Mac(bytes.fromhex(mac_hex)))) == expected


def test_kinds_say_self_gateway_and_proxy_arp(scanner: FakeScanner) -> None:
    device = scanner.devices[mac(1)]
    device.is_self = device.is_gateway = device.is_proxy = True
    assert kinds(device) == ["self", "gateway", "proxy_arp"]


def test_previous_uses_the_words_of_the_contract(translator: Encoder, scanner: FakeScanner) -> None:
    device = scanner.devices[mac(1)]
    old = Address(Ip(bytes([10, 0, 9, 9])), LAN, "eth0", Evidence.ARP_REPLY, 1.0, 2.0)
    event = Event(
        EventKind.ADDRESS_REMOVED, 3.0, LAN, device, old.ip, mac(2), None, "gone",
        {"status": Status.OFFLINE, "status_since": 1.0, "ip": old.ip, "addresses": [old]}, 2.5,
    )  # fmt: skip
    told = msgspec.json.decode(event_message("k3f9-7", translator.event(event)))
    assert told["cursor"] == "k3f9-7"
    assert told["kind"] == "address_removed"
    assert told["other"] == "a4:83:00:00:00:02"
    assert told["seen_at"] == "2023-11-14T22:13:22.500000Z"
    previous = told["previous"]
    assert previous["status"] == "offline"
    assert previous["status_since"] == "2023-11-14T22:13:21.000Z"
    assert previous["ip"] == previous["addresses"][0]["ip"] == "10.0.9.9"


def test_a_device_before_an_event_can_be_encoded(translator: Encoder, scanner: FakeScanner) -> None:
    device = scanner.devices[mac(1)]
    before = protocol.encode(translator.device(device))
    previous = {
        "status": device.status, "status_since": device.status_since, "reason": device.reason,
        "addresses": device.addresses, "patience": device.presence.patience, "label": None, "ip": device.ip,
    }  # fmt: skip
    device.status, device.status_since, device.reason, device.label = Status.OFFLINE, time.monotonic(), "gone", "x"
    device.addresses = []
    was = device_before(decoded(translator.event(Event(EventKind.OFFLINE, 0.0, LAN, device, previous=previous))))
    assert protocol.encode(was) == before


def discovered(number: int, vendor_mac: bytes = b"\xa4\x83") -> Event:
    at = 5.0 + number * 0.0137
    ip = Ip(bytes([10, 0, number >> 8, number & 255]) if number != 99 else bytes([0xFE, 0x80, *range(14)]))
    reason = EVIDENCE_TEXT[Evidence.ARP_REPLY]
    device = Device(
        Mac(vendor_mac + number.to_bytes(4)), at, at, Presence(at, Rules()), status_since=at, reason=reason,
        addresses=[Address(ip, LAN, "eth0", Evidence.ARP_REPLY, at, at)], rtt=number * 1e-5,
    )  # fmt: skip
    return Event(EventKind.DISCOVERED, at, LAN, device, ip, None, Evidence.ARP_REPLY, reason, None, at)


def generally(translator: Encoder, event: Event) -> bytes:
    return b"{" + protocol.encode(translator._event(event))[BEFORE:-AFTER] + b"}"


def test_a_new_device_is_encoded_as_any_event(clock: Clock) -> None:
    """What many new devices have in common is encoded once; it must make no difference to clients."""
    translator = Encoder(clock, lambda of: 'Söhne "100 %d" & \\Co.' if of[0] == 0xA4 else None)
    shapes = translator._shapes
    for number in (0, 1, 7, 99, 12345, 70, 3):
        for prefix in (b"\xa4\x83", b"\x00\x01", b"\x02\x43", b"\x52\x54"):
            event = discovered(number, prefix)
            assert event.device is not None
            event.device.kind = Kind("phone", "100 %b") if number & 1 else None
            event.device.rtt = None if number == 3 else event.device.rtt
            body = translator.event(event)
            assert body == generally(translator, event)
            assert isinstance(body, Filled)
            assert unpack(pack(body)) == body
            assert len(pack(body)) < 210
    assert len(shapes) == 2 * 3  # with a vendor; unknown; randomized; of each, with a kind and without


CHANGES: list[tuple[str, object]] = [
    ("hostname", "tv"), ("label", "TV"), ("known", True), ("notes", "x"), ("tags", ("a",)), ("merged", (mac(3),)),
    ("not_same_as", (mac(3),)), ("is_self", True), ("is_gateway", True), ("is_router", True), ("is_proxy", True),
    ("status", Status.UNKNOWN), ("reason", "another"), ("last_seen", 9.0), ("first_seen", 1.0), ("status_since", 1.0),
    ("addresses", []), ("mac", Mac(b"\x00\x00\x5e\x00\x01\x07")),
]  # fmt: skip
OF_ADDRESS: list[tuple[str, object]] = [
    ("foreign", True), ("mac", mac(4)), ("hostname", "behind"), ("evidence", Evidence.DHCP), ("last_seen", 9.0),
    ("network", "10.9.0.0/24@eth1"), ("ip", Ip(b"\x0a\x00\x00\x63")),
]  # fmt: skip
OF_EVENT: list[tuple[str, object]] = [
    ("other", mac(5)), ("previous", {"label": None}), ("seen_at", None), ("at", 7.0), ("address", None),
]  # fmt: skip


@pytest.mark.parametrize(("what", "name", "value"), [
    *(("device", *each) for each in CHANGES), *(("address", *each) for each in OF_ADDRESS),
    *(("event", *each) for each in OF_EVENT),
])  # fmt: skip
def test_a_new_device_with_something_special_is_encoded_with_it(
    translator: Encoder, what: str, name: str, value: object
) -> None:
    translator.event(discovered(1))
    event = discovered(2)
    device = event.device
    assert device is not None
    if what == "event":
        event = Event(*({**event._asdict(), name: value}).values())
    else:
        setattr(device if what == "device" else device.addresses[0], name, value)
    assert translator.event(event) == generally(translator, event)


def test_a_message_of_an_event_is_what_the_contract_encodes(translator: Encoder, scanner: FakeScanner) -> None:
    """Splicing cursor and time of sending into a body gives the same bytes as encoding the whole message."""
    device = scanner.devices[mac(1)]
    device.label, device.notes = 'a "quoted", tv}', "né\n"
    for event in (Event(EventKind.RENAMED, 1.0, LAN, device, seen_at=2.5), Event(EventKind.NETWORK_UP, 1.0)):
        body = translator.event(event)
        assert isinstance(msgspec.json.decode(body), dict)
        message = event_message("k3f9-7", body, "2023-11-14T22:13:22.500000Z")
        whole = protocol.decode_server(message)
        assert isinstance(whole, protocol.Event)
        assert (whole.cursor, whole.sent_at) == ("k3f9-7", "2023-11-14T22:13:22.500000Z")
        assert protocol.encode(whole) == message
        whole.sent_at = None
        assert protocol.encode(whole) == event_message("k3f9-7", body)


def test_a_device_is_restored_from_the_event_that_shows_it(translator: Encoder, scanner: FakeScanner) -> None:
    """Field by field, times to the millisecond: a start relies on it."""
    device = scanner.devices[mac(1)]
    device.addresses.append(Address(Ip(b"\xfe\x80" + bytes(13) + b"\x01"), LAN, "eth0", Evidence.NDP, 5.25, 6.125))
    device.status, device.status_since, device.reason = Status.OFFLINE, 7.5, "silent"
    device.hostname, device.hostname_source, device.label, device.known, device.notes = "tv", "dhcp", "TV", True, "x"
    back = remembered(translator.event(Event(EventKind.OFFLINE, 7.5, LAN, device)))
    assert back is not None
    for name in ("mac", "status", "reason", "hostname", "hostname_source", "label", "known", "notes"):
        assert getattr(back, name) == getattr(device, name), name
    for name in ("first_seen", "last_seen", "status_since"):
        assert int(getattr(back, name) * 1000) == translator.milliseconds(getattr(device, name)), name
    stamps = [(each.ip, each.network, each.interface, each.evidence) for each in device.addresses]
    assert [(each.ip, each.network, each.interface, each.evidence) for each in back.addresses] == stamps
    assert int(back.addresses[1].last_seen * 1000) == translator.milliseconds(6.125)
    for drift in (-0.0004, 0.0004):  # of the clocks, over a restart: the stamp stays in its millisecond
        assert int((back.status_since + drift) * 1000) == translator.milliseconds(7.5)
    assert remembered(translator.event(Event(EventKind.NETWORK_UP, 1.0, LAN))) is None


@pytest.mark.parametrize("wrong", [b"", b"{}", b"[]", b'{"kind":1,"at":""}', b"\xff" * 40])
def test_a_body_that_is_no_event_is_an_error(translator: Encoder, scanner: FakeScanner, wrong: bytes) -> None:
    """One kind of error, whatever is wrong with a body."""
    body = translator.event(Event(EventKind.RENAMED, 1.0, LAN, scanner.devices[mac(1)]))
    for broken in (wrong, body.replace(b'"online"', b'"asleep"'), body.replace(b"10.0.0.11", b"10.0.0")):
        with pytest.raises(ValueError, match=r"."):
            remembered(broken)


def test_networks_count_the_addresses_that_can_be_scanned(translator: Encoder, scanner: FakeScanner) -> None:
    sizes = {
        name: translator.network(held, scanner.coverage(name), 0, None).addresses
        for name, held in scanner.networks.items()
    }
    assert sizes == {LAN: 65534, "192.168.7.0/24@wlan0": 254}


def test_the_encoder_reads_no_wall_clock() -> None:
    """Law 7: wall time enters at one point, and is injected."""
    for source in (Path(__file__).parents[2] / "netscand" / "serve").glob("*.py"):
        clock = r"time\.time\b|datetime\.(now|utcnow|today)\b|import time$"
        assert not re.search(clock, source.read_text(), re.MULTILINE), source
