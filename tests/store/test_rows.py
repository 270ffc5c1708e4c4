"""Rows: what is stored of an event is what was published, and it stays small."""

import sqlite3
import zlib
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    Service,
    Status,
)
from netscand.core.presence import Rules
from netscand.core.restore import Memory, recalled_merges
from netscand.store import rows
from netscand.store.database import insert, open_database
from netscand.store.rows import (
    EVENT_COLUMNS,
    device_row,
    event_row,
    mac_number,
    mac_of,
    merge_row,
    pack,
    remembered,
    remembered_merge,
    unpack,
)
from tests.store.diary import LAN, FakeClock, device, discovered, mac, turned

CLOCK = FakeClock()


def row_of(event: Event) -> dict[str, object]:
    return dict(zip(EVENT_COLUMNS, event_row(7, event, CLOCK.encode(event), CLOCK), strict=True))


@given(st.binary(max_size=3000))
def test_what_is_unpacked_is_what_was_packed(body: bytes) -> None:
    """Whatever the bytes: a client gets exactly those that were published."""
    assert unpack(pack(body)) == body


VALUES = st.binary(max_size=30).map(lambda value: bytes(byte for byte in value if byte >= 32))


@given(
    st.lists(st.one_of(VALUES, st.sampled_from([b"\1", b"\2", b"\3", b"\4", b"\5"])), max_size=60),
    st.tuples(*[VALUES] * 5),
)
def test_a_filled_event_is_unpacked_as_its_text(common: list[bytes], values: tuple[bytes, ...]) -> None:
    """Whatever it has in common with others, and whatever its values."""
    stored = pack(filled(b"".join(common), values))
    assert stored[0] == rows.FILLED
    assert unpack(stored) == b"".join(
        values[part[0] - 1] if part in (b"\1", b"\2", b"\3", b"\4", b"\5") else part for part in common
    )


def filled(common: bytes, values: tuple[bytes, ...]) -> Filled:
    body = Filled(b"".join(values[byte - 1] if 1 <= byte <= 5 else bytes([byte]) for byte in common))
    body.common, body.values = common, values
    return body


EXAMPLE_VALUES = (b".123Z", b"192.168.1.7", b"52:54:00:12:34:56", b"0.25", b".123456Z")


@pytest.mark.parametrize("body", [CLOCK.encode(discovered(device(1))), filled(rows.EXAMPLE, EXAMPLE_VALUES)])
def test_a_damaged_event_is_never_unpacked(body: bytes) -> None:
    """SQLite has no checksum: a flipped bit must not reach a client. The last bits before the checksum mean nothing."""
    stored = pack(body)
    refused = 0
    for at in range(len(stored)):
        for bit in range(8):
            flipped = stored[:at] + bytes([stored[at] ^ 1 << bit]) + stored[at + 1 :]
            try:
                assert unpack(flipped) == body
            except ValueError:
                refused += 1
        with pytest.raises(ValueError, match=r"."):
            unpack(stored[:at])
    assert refused > 8 * len(stored) - 8
    for other in (b"", body, None, 7, "text"):
        with pytest.raises(ValueError, match=r"."):
            unpack(other)  # type: ignore[arg-type]


def test_a_merge_is_restored_as_it_was() -> None:
    """With all that its undo needs: the device as its own row would have it."""
    one = device(2)
    one.label, one.known, one.tags, one.not_same_as, one.confirmed = "dock", True, ("a", "b"), (mac(3), mac(4)), True
    one.presence.chosen, one.hostname, one.hostname_source = 90.0, "dock", "mdns"
    one.services, one.kind = (Service("_ipp._tcp", ("ty=HP",)),), Kind("printer", "mDNS service _ipp._tcp")
    merge = Merge(one, mac(1), 50.0, {"label": "dock", "tags": ("a",)}, {"jane": (True, False)})
    number, body, packed = merge_row(merge, CLOCK)
    assert isinstance(number, int)
    assert isinstance(packed, bytes)
    back = remembered_merge(number, str(body), packed)
    assert back.device == remembered(device_row(one, 0, CLOCK.milliseconds(100.0), CLOCK), CLOCK.milliseconds(100.0), 1)
    assert (back.into, back.given, back.people) == (merge.into, merge.given, merge.people)
    assert back.own_first_seen == rows.seconds(CLOCK.milliseconds(50.0))
    again = recalled_merges(Memory((), 0.0, merges=[back]), Rules(), CLOCK.boot, 200.0)[0]
    assert (again.device.hostname, again.device.services, again.device.presence.chosen) == ("dock", one.services, 90.0)
    assert abs(again.device.first_seen - 100.0) < 0.001


def test_a_merge_of_an_earlier_version_is_read() -> None:
    """FAULTS F20: its undo brings back what that version kept."""
    kept = {"label": "dock", "tags": ["a"], "patience": 90.0, "kind": "laptop", "not_same_as": [mac(3).hex()]}
    body = msgspec.json.encode([mac(1).hex(), 5_000, kept, {"tags": ["a"]}, {"jane": [True, False]}]).decode()
    back = remembered_merge(mac_number(mac(2)), body, None)
    was = back.device
    assert (was.mac, was.label, was.known, was.tags, was.chosen) == (mac(2), "dock", False, ("a",), 90.0)
    assert (was.kind, was.not_same_as, was.first_seen) == (Kind("laptop", CHOSEN_KIND), (mac(3),), 5.0005)
    assert (back.into, back.given, back.people) == (mac(1), {"tags": ("a",)}, {"jane": (True, False)})


def test_the_dictionary_never_changes() -> None:
    """One changed byte, and no stored event could be read."""
    assert (zlib.crc32(rows.DICTIONARY), zlib.crc32(rows.EXAMPLE)) == CHECKSUMS


CHECKSUMS = 3376930256, 2788934819


def test_a_row_has_what_queries_and_a_start_need() -> None:
    """The columns beside the body: the status that ended, and what the body does not show."""
    one = device(1)
    one.confirmed, one.presence.chosen = True, 99.0
    first = row_of(discovered(one))
    assert (first["sequence"], first["at"], first["kind"]) == (7, 1_700_000_100_000, 1)
    assert (first["mac"], first["was"], first["was_since"]) == (mac_number(one.mac), None, None)
    assert (first["confirmed"], first["chosen"]) == (1, 99.0)
    gone = row_of(turned(one, Status.OFFLINE, 150.0))
    assert (gone["kind"], gone["was"], gone["was_since"]) == (3, rows.STATUS[Status.ONLINE], 50_000)
    forgotten = row_of(Event(EventKind.FORGOTTEN, 170.0, None, one))
    assert (forgotten["was"], forgotten["was_since"]) == (rows.STATUS[Status.OFFLINE], 20_000)
    labelled = row_of(Event(EventKind.LABELLED, 180.0, None, one, previous={"label": None}))
    assert (labelled["was"], labelled["was_since"]) == (None, None)
    network = row_of(Event(EventKind.NETWORK_UP, 1.0, LAN))
    assert [network[name] for name in EVENT_COLUMNS[3:-1]] == [None] * 5


@given(st.binary(min_size=6, max_size=6).map(Mac))
def test_a_mac_is_a_number_and_back(of: Mac) -> None:
    assert mac_of(mac_number(of)) == of
    assert -(2**47) <= mac_number(of) < 2**47  # six bytes in SQLite


def test_every_value_of_the_domain_has_a_number() -> None:
    """A new kind without one would fail at its first event, in production."""
    assert set(rows.KINDS) == set(EventKind)
    assert set(rows.EVIDENCE) == set(Evidence)
    assert set(rows.STATUS) == set(Status)
    for numbers in (rows.KINDS, rows.EVIDENCE, rows.STATUS):
        assert len(set(numbers.values())) == len(numbers)


def of_ipv6(number: int, chance: Random) -> Device:
    """Return a device as many are: with five IPv6 addresses beside one of IPv4."""
    one = device(number)
    for _ in range(5):
        ip = Ip(bytes.fromhex("20010db812345678") + chance.randbytes(8))
        seen = one.last_seen + chance.uniform(0, 80_000)
        one.addresses.append(Address(ip, LAN, "eth0", Evidence.NDP, seen - chance.uniform(0, 500_000), seen))
    return one


@pytest.mark.parametrize(("share_of_ipv6", "mib"), [(0.0, 100), (0.3, 185)])
def test_90_days_of_250_devices_fit_into_the_history(tmp_path: Path, share_of_ipv6: float, mib: int) -> None:
    """20 events a device a day, as phones make them: 450,000, of which a thirtieth is written and measured."""
    path = tmp_path / "h.db"
    path.touch()
    database, chance, share = open_database(path), Random(1), 15_000
    devices = [of_ipv6(n, chance) if n < 250 * share_of_ipv6 else device(n) for n in range(250)]
    written = []
    at = 100.0
    for number in range(1, share + 1):
        at += chance.expovariate(1 / 17)
        one = chance.choice(devices)
        one.presence.chosen, one.rtt = None, chance.uniform(0.0002, 0.2)
        status = Status.OFFLINE if one.status is Status.ONLINE else Status.ONLINE
        one.last_seen = at - chance.uniform(10, 900) if status is Status.OFFLINE else at
        one.addresses[0].last_seen = one.last_seen
        event = turned(one, status, at)
        written.append(event_row(number, event, CLOCK.encode(event), CLOCK))
    insert(database, "event", EVENT_COLUMNS, written)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    database.close()
    size = path.stat().st_size / share
    print(f"{size:.0f} bytes an event: {size * 450_000 / 2**20:.0f} MiB")
    assert size * 450_000 < mib * 2**20


def test_any_sqlite_reads_a_row(tmp_path: Path) -> None:
    """No extension and no function of netscand: the file outlives the program."""
    path = tmp_path / "h.db"
    path.touch()
    database, event = open_database(path), discovered(device(1))
    insert(database, "event", EVENT_COLUMNS, [event_row(1, event, CLOCK.encode(event), CLOCK)])
    database.close()
    plain = sqlite3.connect(path)
    (at, number) = plain.execute("SELECT datetime(at / 1000, 'unixepoch'), kind FROM event").fetchone()
    plain.close()
    assert (at, number) == ("2023-11-14 22:15:00", 1)


def test_a_row_keeps_the_kind_and_its_evidence() -> None:
    """So a restart knows what was received; a device without evidence has none in its row."""
    one = device(1)
    assert device_row(one, 1, 0, FakeClock())[-3:] == (None, None, None)
    one.kind, one.services = Kind("printer", "mDNS service _ipp._tcp"), (Service("_ipp._tcp", ("ty=HP",)),)
    one.dhcp_vendor_class, one.dhcp_parameters = "udhcp 1.22", bytes((1, 3, 6))
    found = remembered(device_row(one, 1, 0, FakeClock()), None, None)
    assert (found.kind, found.services) == (one.kind, one.services)
    assert (found.vendor_class, found.parameters) == ("udhcp 1.22", bytes((1, 3, 6)))
