"""Events ↔ rows: nothing of an event is lost, and it stays small."""

import asyncio
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from netscand.core.model import Address, Device, Event, EventKind, Evidence, Ip, Mac, Status
from netscand.core.presence import Presence, Rules
from netscand.serve.encode import ip_text
from netscand.store import opening, rows
from netscand.store.database import connect, insert, open_database
from netscand.store.rows import EVENT_COLUMNS, EventCodec, Words, mac_number, mac_of
from tests.store.diary import BOOT, LAN, FakeClock, device, diary, discovered, turned

CLOCK = FakeClock()

macs = st.binary(min_size=6, max_size=6).map(Mac)
ips = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)).map(Ip)
times = st.floats(0, 1e6).map(lambda at: round(at, 6))
texts = st.text(max_size=40)


@st.composite
def events(draw: Any) -> Event:  # noqa: ANN401 - hypothesis gives no type for it
    kind = draw(st.sampled_from(EventKind))
    about_a_device = draw(st.booleans()) or kind is EventKind.FORGOTTEN
    held = Device(draw(macs), draw(times), draw(times), Presence(0, Rules()), draw(st.sampled_from(Status)))
    held.status_since, held.reason, held.label = draw(times), draw(texts), draw(st.none() | texts)
    held.addresses = [Address(draw(ips), LAN, "eth0", Evidence.NDP, draw(times), draw(times))]
    previous: dict[str, object] | None = None
    if about_a_device and kind in rows.VERDICTS:
        previous = {"status": draw(st.sampled_from(Status)), "status_since": draw(times), "reason": draw(texts)}
    elif about_a_device and draw(st.booleans()):
        before = (Address(draw(ips), LAN, "eth0", Evidence.MDNS, draw(times), draw(times)),)
        previous = {
            "label": draw(st.none() | texts),
            "known": draw(st.booleans()),
            "ip": draw(ips),
            "addresses": before,
        }
    return Event(
        kind, draw(times), draw(st.none() | st.just(LAN)), held if about_a_device else None, draw(st.none() | ips),
        draw(st.none() | macs), draw(st.none() | st.sampled_from(Evidence)), draw(texts), previous,
        draw(st.none() | times),
    )  # fmt: skip


def as_told(value: object) -> object:
    """As clients would be told it: times to the millisecond."""
    if isinstance(value, Address):
        return (
            value.ip,
            value.network,
            value.interface,
            value.evidence,
            *map(milliseconds, (value.first_seen, value.last_seen)),
        )
    if isinstance(value, tuple):
        return tuple(map(as_told, value))
    return milliseconds(value) if isinstance(value, float) else value


def milliseconds(at: float) -> int:
    return int(at * 1000) if at > BOOT / 2 else CLOCK.milliseconds(at)


@given(events())
def test_nothing_of_an_event_is_lost(event: Event) -> None:
    """But its device, which is told as it was by core/restore.py."""
    words = Words()
    recorded = EventCodec(words).event(EventCodec(words).row(7, event, CLOCK))
    again = recorded.event
    assert recorded.sequence == 7
    assert recorded.mac == (event.device.mac if event.device else None)
    assert (again.kind, again.network, again.address, again.other, again.evidence, again.reason) == (
        event.kind, event.network, event.address, event.other, event.evidence, event.reason,
    )  # fmt: skip
    assert milliseconds(again.at) == CLOCK.milliseconds(event.at)
    if event.seen_at is None:
        assert again.seen_at is None
    else:
        assert again.seen_at is not None
        assert int(again.seen_at * 1_000_000) == CLOCK.microseconds(event.seen_at)
    assert {name: as_told(value) for name, value in (again.previous or {}).items()} == {
        name: as_told(value) for name, value in (event.previous or {}).items()
    }
    if event.device is not None:
        assert recorded.last_seen is not None
        assert milliseconds(recorded.last_seen) == CLOCK.milliseconds(event.device.last_seen)


@given(texts, texts)
def test_a_sentence_is_said_again_word_for_word(first: str, second: str) -> None:
    words = Words()
    for text in (first, second, "", "3 probes and 1 request unanswered, silent for 11.2 s", "{} of 7", "1.2.3.4"):
        assert words.said(*words.sentence(text)) == text


def test_sentences_that_differ_in_their_figures_share_a_number() -> None:
    words = Words()
    first = words.sentence("3 probes and 1 request unanswered, silent for 11.2 s")
    assert words.sentence("5 probes and 2 request unanswered, silent for 640.0 s")[0] == first[0]
    assert len(words.fresh) == 1


def strangers_sentences(count: int) -> list[str]:
    """What the core says of MACs and addresses that somebody made up."""
    chance = Random(3)
    said = []
    for number in range(count):
        mac, ip = chance.randbytes(6).hex(":"), ip_text(Ip(b"\xfe\x80" + bytes(6) + chance.randbytes(8)))
        said += [
            f"{mac} holds it now",
            f"announced its address; {mac} was heard there {number} s before",
            f"{number} more MACs than a LAN can have; the last: {mac}",
            f"{ip} is a default router, and {mac} said so",
        ]
    return said


def test_made_up_macs_and_addresses_make_no_words() -> None:
    """Law 6: else a stranger fills the table for good, and every event takes 160 bytes instead of 60."""
    words = Words()
    for text in strangers_sentences(5_000):
        assert words.said(*words.sentence(text)) == text
    assert len(words.fresh) == 4


def test_words_that_no_event_uses_are_freed_at_a_start(tmp_path: Path, monkeypatch: Any) -> None:  # noqa: ANN401
    """Once all have gone with their events, a table that was full has room again; what is kept says the same."""
    for module in (rows, opening):
        monkeypatch.setattr(module, "MOST_WORDS", 20)

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            said = [f"made up {'abcdefghijklmnopqrstuvwxyz'[number]}" for number in range(26)]
            await book.write(*(Event(EventKind.NETWORK_UP, 1.0, LAN, reason=text) for text in said))
        with closing(connect(tmp_path / "h.db")) as database:
            assert database.execute("SELECT count(*) FROM word").fetchone() == (20,)
            database.execute("DELETE FROM event WHERE sequence % 2")
        async with diary(tmp_path / "h.db") as book:
            assert len(book.history._words._text) == 10
            await book.write(Event(EventKind.NETWORK_UP, 1.0, LAN, reason="heard again"))
            events = await book.events()
            assert [event.reason for event in events] == [*said[1::2], "heard again"]
            assert {event.network for event in events} == {LAN}
        with closing(connect(tmp_path / "h.db")) as database:
            (number,) = database.execute("SELECT reason FROM event ORDER BY sequence DESC LIMIT 1").fetchone()
            assert number is not None

    asyncio.run(play())


def test_words_are_bounded(monkeypatch: Any) -> None:  # noqa: ANN401
    """Law 6: what comes when there are too many is written out."""
    monkeypatch.setattr(rows, "MOST_WORDS", 3)
    words = Words()
    texts = [chr(ord("a") + number) * 3 for number in range(10)]
    assert [words.said(*words.sentence(text)) for text in texts] == texts
    assert len(words.fresh) == 3


@given(macs)
def test_a_mac_is_a_number_and_back(of: Mac) -> None:
    assert mac_of(mac_number(of)) == of
    assert -(2**47) <= mac_number(of) < 2**47  # six bytes in SQLite


def test_every_word_of_the_domain_has_its_number() -> None:
    """A new kind without one would fail at its first event, in somebody's house."""
    assert set(rows.KINDS) == set(EventKind)
    assert set(rows.EVIDENCE) == set(Evidence)
    assert set(rows.STATUS) == set(Status)
    for numbers in (rows.KINDS, rows.EVIDENCE, rows.STATUS):
        assert len(set(numbers.values())) == len(numbers)


def test_ninety_days_of_250_devices_take_less_than_32_mib(tmp_path: Path) -> None:
    """20 events a device a day, as phones make them: 450,000, of which a thirtieth is written and counted."""
    path = tmp_path / "h.db"
    path.touch()
    database, words, chance = open_database(path), Words(), Random(1)
    codec, share = EventCodec(words), 15_000
    held = [device(number) for number in range(250)]
    written = [codec.row(number, discovered(each), CLOCK) for number, each in enumerate(held, 1)]
    at = 100.0
    for number in range(251, share + 1):
        at += chance.expovariate(1 / 17)
        one = chance.choice(held)
        status = Status.OFFLINE if one.status is Status.ONLINE else Status.ONLINE
        one.last_seen = at - chance.uniform(10, 900) if status is Status.OFFLINE else at
        written.append(codec.row(number, turned(one, status, at), CLOCK))
    insert(database, "word", ("number", "text"), words.fresh)
    insert(database, "event", EVENT_COLUMNS, written)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    database.close()
    an_event = path.stat().st_size / share
    assert an_event < 64
    assert an_event * 450_000 < 32 * 2**20


def test_a_new_address_beside_five_is_a_small_row() -> None:
    """Hosts with IPv6 take a new one every day: 1,200 bytes each would fill the 90 days of 250 devices on their own."""
    chance = Random(1)
    one = device(1)
    for _ in range(5):
        ip = Ip(bytes.fromhex("20010db812345678") + chance.randbytes(8))
        seen = one.last_seen + chance.uniform(0, 80_000)
        one.addresses.append(Address(ip, LAN, "eth0", Evidence.NDP, seen - chance.uniform(0, 500_000), seen))
    before = {"ip": one.ip, "addresses": tuple(one.addresses[:-1])}
    event = Event(
        EventKind.ADDRESS_ADDED, 9e5, LAN, one, ip, None, Evidence.NDP, "sent neighbour discovery", before, 9e5
    )
    words = Words()
    row = EventCodec(words).row(1, event, CLOCK)
    assert isinstance(row[-1], bytes)
    assert len(row[-1]) < 200
    again = EventCodec(words).event(row)
    assert as_told((again.event.previous or {})["addresses"]) == as_told(before["addresses"])
    assert as_told(again.after["addresses"]) == as_told(tuple(one.addresses))


def test_a_row_that_was_written_as_it_is_is_still_read() -> None:
    assert rows.plain(b'{"other":"020000000001"}') == b'{"other":"020000000001"}'


def test_what_rows_were_made_smaller_by_never_changes() -> None:
    """One byte, and no such row of anybody's history could be read again."""
    assert zlib.crc32(rows.USUAL) == 0x4D33AF22


def test_a_row_is_what_any_sqlite_reads(tmp_path: Path) -> None:
    """No extension, no function of ours: the file outlives the program."""
    path = tmp_path / "h.db"
    path.touch()
    database = open_database(path)
    insert(database, "event", EVENT_COLUMNS, [EventCodec(Words()).row(1, discovered(device(1)), CLOCK)])
    database.close()
    plain = sqlite3.connect(path)
    (at, number) = plain.execute("SELECT datetime(at / 1000, 'unixepoch'), kind FROM event").fetchone()
    plain.close()
    assert (at, number) == ("2023-11-14 22:15:00", 1)
