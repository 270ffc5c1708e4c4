"""No frame costs much more to decode than an ordinary one (law 6): the most expensive ones, by hand and by search.

The measure is the time of an ordinary announcement in the same process: it is the same on every machine.
"""

import struct
import sys
from collections.abc import Callable
from time import perf_counter
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st

from netscand.core.model import Ip
from netscand.lan import decode, dns, mdns, nbns
from netscand.lan.dns import reverse
from netscand.lan.name_lookup import pointed_to
from tests.core import built_frames, captured_frames

MAC = bytes.fromhex(built_frames.MAC.replace(":", ""))
OWN = bytes([10, 77, 0, 9])
OWN6 = bytes.fromhex("fe80000000000000a683e7fffe123456")
LARGEST = 1472
"""Bytes of UDP over IPv4 in a frame of Ethernet."""

DEAREST = 20.0
"""Times an ordinary announcement. Of 1,472 bytes, six times as many, it may cost six times as much by right."""

Work = Callable[[], object]


def udp(content: bytes, port: int) -> bytes:
    datagram = struct.pack("!HHHH", port, port, 8 + len(content), 0) + content
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 1, 0, 255, 17, 0) + OWN + b"\xe0\0\0\xfb"
    return b"\x01\x00\x5e\0\0\xfb" + MAC + b"\x08\x00" + head + datagram


def message(*counts: int, flags: int = 0x8400, number: int = 7) -> bytes:
    return struct.pack("!HHHHHH", number, flags, *counts)


def record(name: bytes, kind: int, content: bytes = b"") -> bytes:
    return name + struct.pack("!HHIH", kind, 1, 60, len(content)) + content


def name(label: bytes, *more: bytes) -> bytes:
    """As many of that label as a name has room for, and these."""
    end = b"".join(bytes([len(each)]) + each for each in more) + b"\0"
    return (bytes([len(label)]) + label) * min(38, (250 - len(end)) // (1 + len(label))) + end


def filled(first: bytes, again: bytes, flags: int, section: int, room: int = LARGEST) -> bytes:
    """A message of one record, and of another one as often as it fits."""
    count = (room - 12 - len(first)) // len(again)
    counts = [0] * 4
    counts[section] = 1 + count
    return message(*counts, flags=flags) + first + again * count


TINY = record(b"\0", 16)
QUESTION = b"\0" + struct.pack("!HH", 12, 1)
BAD = {"invisible": "\u200b".encode() * 3, "not UTF-8": b"\xff" * 10, "combining": "\u0316\u0301".encode() * 5}
MARK = 0xC000
DHCP = (
    struct.pack("!BBBBI", 1, 1, 6, 0, 7) + bytes(20) + MAC + bytes(10) + bytes(192)
    + bytes([99, 130, 83, 99, 53, 1, 1])
)  # fmt: skip
ADVERTISEMENT = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)


def ndp(body: bytes) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + OWN6 + bytes.fromhex("ff02" + 27 * "0" + "1")
    return b"\x33\x33\0\0\0\1" + MAC + b"\x86\xdd" + head + body


def node(content: bytes) -> Work:
    """The answer about a node of such records."""
    raw = filled(record(b"\0", dns.NBSTAT, content), record(b"\0", dns.NBSTAT, content), 0x8400, 1)
    return lambda: nbns.node_name(read(raw))


def pointers(owner: bytes, target: bytes, kind: int = dns.PTR) -> Work:
    """An answer of records that point to one name without an owner."""
    first = record(owner, kind, target)
    at = 12 + len(first) - len(target)
    again = record(owner if len(owner) < 3 else struct.pack("!H", MARK | 12), kind, struct.pack("!H", MARK | at))
    raw = filled(first, again, 0x8400, 1)
    return lambda: pointed_to(read(raw), reverse(Ip(OWN)))


def read(raw: bytes) -> dns.Message:
    found = dns.read(raw)
    assert found is not None
    return found


def encoded(*labels: bytes) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


QUERIED = encoded(*reverse(Ip(OWN)))
SERVED = b"\1a\5_http\4_tcp\5local\0"
SERVICE = record(SERVED, dns.SRV, bytes(6) + b"\1a\5local\0")
FRAMES: dict[str, bytes] = {
    "mDNS, tiny records": udp(filled(TINY, TINY, 0x8400, 1), 5353),
    "mDNS, questions": udp(message(292, 0, 0, 0, flags=0) + QUESTION * 292, 5353),
    "mDNS, own address under other names": udp(
        filled(
            record(name(b"a", b"com"), dns.A, OWN), record(struct.pack("!H", MARK | 12), dns.A, OWN), 0x8400, 1
        ), 5353,
    ),
    **{
        f"mDNS, services, values {what}": udp(
            message(0, 25, 0, 0) + record(b"\1a\5local\0", dns.A, OWN) + SERVICE * 12 + record(SERVED, dns.TXT,
            b"".join(bytes([3 + len(part)]) + b"md=" + part for part in [value * 12] * 6)) * 12, 5353,
        )
        for what, value in {"invisible": b"\xe2\x80\x8b", "combining": b"\xcc\x96\xcc\x81"}.items()
    },
    "mDNS, one long name": udp(filled(record(b"\1a" * 700 + b"\0", 16), TINY, 0x8400, 1), 5353),
    **{
        f"mDNS, own name last, {what}": udp(
            message(0, 60, 0, 0) + TINY * 59 + record(name(label, b"local"), dns.A, OWN), 5353
        )
        for what, label in BAD.items()
    },
    "DHCP, tiny options": udp(DHCP + b"\x0c\0" * 600, 67),
    "DHCP, fillers": udp(DHCP + bytes(1200), 67),
    "DHCP, a name in pieces": udp(DHCP + b"\x0c\x01a" * 400, 67),
    "DHCP, two names and a class": udp(
        DHCP + (b"\x0c\xf0" + "\u200b".encode() * 80) * 2 + b"\x51\xf3\0\0\0" + BAD["combining"] * 12
        + b"\x3c\xf0" + BAD["combining"] * 12, 67,
    ),
    "DHCP, one name in five": udp(DHCP + (b"\x0c\xf0" + b"\xff" * 240) * 5, 67),
    "DHCP, a name in labels": udp(DHCP + b"\x51\xf3\4\0\0" + b"\1a" * 120 + (b"\x51\xf0" + b"\1a" * 120) * 3, 67),
    "NBNS, tiny records": udp(message(1, 0, 0, 132, flags=0x2910) + QUESTION + TINY * 132, 137),
    "DHCP, unknown options": udp(DHCP + b"\xe0\0" * 600 + b"\x0c\4name", 67),
    "NDP, headers before it": built_frames.extended(ndp(ADVERTISEMENT), *[60] * 170),
    "ARP, tags before it": built_frames.tagged(built_frames.CLAIM, *[(0x8100, 0)] * 360),
    "NDP, options": ndp(ADVERTISEMENT + (b"\1\1" + MAC) * 179),
}  # fmt: skip
ANSWERS: dict[str, Work] = {
    "no names in a node": node(b"\xff"),
    "names of a node that are none": node(bytes([79]) + (b"\2" * 15 + b"\0\4\0") * 79),
    "PTR of the queried name, to no device": pointers(QUERIED, encoded(*[b"_" + b"a" * 5] * 35)),
    "PTR of another name": pointers(encoded(*[b"a"] * 39), encoded(*[b"_" + b"a" * 5] * 35)),
    "aliases in a circle": pointers(QUERIED, QUERIED, dns.CNAME),
}


def cost(work: Work) -> float:
    """The least seconds of some runs."""
    least = 1.0
    for _ in range(30):
        begun = perf_counter()
        work()
        least = min(least, perf_counter() - begun)
    return least


def decoding(frame: bytes) -> Work:
    return lambda: decode.decode(frame, 1.0, 2)


@pytest.mark.parametrize("work", [*map(decoding, FRAMES.values()), *ANSWERS.values()], ids=[*FRAMES, *ANSWERS])
def test_the_most_expensive_frame_is_cheap(work: Work) -> None:
    """Answers of 0.8 ms each let one host block the loop with 1,300 of them a second."""
    times = cost(work) / cost(decoding(captured_frames.AVAHI_ANNOUNCES))
    print(f"{times:.1f} times")
    assert times < DEAREST


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_the_dearest_frames_are_looked_into(frame: bytes) -> None:
    """One that was thrown away at once would prove nothing."""
    assert decode.decode(frame, 1.0, 2) or b"\1a" * 700 in frame


# ---- where reading ends ---------------------------------------------------------------------------------------------

OWN_NAME = record(encoded(b"own", b"local"), dns.A, OWN)
OTHER_NAME = record(encoded(b"own", b"com"), dns.A, OWN)
REGISTERED = record(b"\x20" + b"EB" * 15 + b"AA\0", dns.NB, b"\0\0" + OWN)
NODE = b"\2" * 15 + b"\0\4\0"


def in_message(counts: tuple[int, int, int, int], content: bytes, port: int = 5353, flags: int = 0x8400) -> str | None:
    """Return the name of the sender; None if there is none, or nothing can be decoded."""
    return next((seen.name for seen in decode.decode(udp(message(*counts, flags=flags) + content, port), 1.0, 2)), None)


def in_options(options: bytes) -> str | None:
    (seen,) = decode.decode(udp(DHCP + options, 67), 1.0, 2)
    return seen.name


def of_node(names: bytes) -> str | None:
    content = bytes([len(names) // 18]) + names
    return nbns.node_name(read(message(0, 1, 0, 0) + record(b"\0", dns.NBSTAT, content)))


ENDS: dict[str, tuple[int, Callable[[int], object]]] = {
    "records": (dns.MOST, lambda n: in_message((0, n, 0, 0), TINY * (n - 1) + OWN_NAME)),
    "records of all sections": (dns.MOST, lambda n: in_message((0, n - 2, 1, 1), TINY * (n - 1) + OWN_NAME)),
    "questions": (dns.MOST, lambda n: in_message((n, 1, 0, 0), QUESTION * n + OWN_NAME)),
    "names of one's own address": (mdns.FEW, lambda n: in_message((0, n, 0, 0), OTHER_NAME * (n - 1) + OWN_NAME)),
    "bytes of a name": (
        dns.LONGEST, lambda n: in_message((0, 1, 0, 0), record(long_name(n, b"local"), dns.A, OWN)),
    ),
    "registrations": (
        dns.MOST, lambda n: in_message((1, 0, 0, n), QUESTION + TINY * (n - 1) + REGISTERED, 137, 0x2910),
    ),
    "labels in DHCP": (
        dns.MOST_LABELS, lambda n: "last" in (in_options(b"\x51" + bytes([3 + 2 * (n - 1) + 5]) + b"\4\0\0"
                                                        + b"\1a" * (n - 1) + b"\4last") or ""),
    ),
    "names of a node": (nbns.MOST_NAMES, lambda n: of_node(NODE * (n - 1) + b"JANES-PC".ljust(15) + b"\0\4\0")),
}  # fmt: skip


def long_name(length: int, last: bytes) -> bytes:
    """So many bytes."""
    left = length - len(encoded(last))
    parts = [62] * (left // 63) + ([left % 63 - 1] if left % 63 > 1 else [])
    name = encoded(*[b"a" * part for part in parts], last)
    return name if len(name) == length else long_name(length - 1, last)


def test_a_name_is_no_longer_than_a_name_for_being_compressed() -> None:
    """Each of its parts is short enough."""
    first = long_name(dns.LONGEST - 20, b"local")
    more = b"\x0a" + b"b" * 10
    for count, found in ((1, True), (2, False)):
        raw = message(0, 2, 0, 0) + record(first, 16) + record(more * count + struct.pack("!H", MARK | 12), 16)
        assert bool(dns.labels(raw, read(raw).answers[1].name_at)) is found


@pytest.mark.parametrize("what", ENDS)
def test_so_many_are_read_and_no_more(what: str) -> None:
    most, reading = ENDS[what]
    assert reading(most)
    assert not reading(most + 1)


# ---- by search ------------------------------------------------------------------------------------------------------


MOST_STEPS = 8_000
"""Lines of Python, 0.2 ms: five for each of the labels that LARGEST bytes have room for, and some for each character
of a name. The search found 115,863 in a name in many options of DHCP."""


def steps(work: Work) -> int:
    """Lines of Python that `work` passes: the same on every machine."""
    passed = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:  # noqa: ANN401 as of sys.settrace
        nonlocal passed
        passed += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return passed


RECORDS = (
    TINY, record(b"\xc0\x0c", dns.A, OWN), record(b"\xc0\x0c", dns.PTR, b"\xc0\x0c"),
    record(b"\xc0\x0c", 16, bytes(200)), record(b"\0", dns.NB, b"\0\0" + OWN),
    record(name(b"a", b"local"), dns.A, OWN), record(name(BAD["not UTF-8"], b"local"), dns.A, OWN),
    record(name(b"a", b"com"), dns.A, OWN), record(name(b"a", b"com"), dns.PTR, b"\0"),
)  # fmt: skip
OPTIONS = (
    b"\x0c\0", b"\0", b"\x0c\x01a", b"\x0c\x3f" + b"\xff" * 63, b"\x0c\x3f" + BAD["combining"] * 3 + b"abc",
    b"\x51\xf3\4\0\0" + b"\1a" * 120, b"\x51\x0a\0\0\0abcdefg", b"\x3c\x3f" + b"\xff" * 63,
)  # fmt: skip
NDP_OPTIONS = (b"\1\1" + MAC, b"\2\1" + MAC, b"\3\4" + bytes(30), b"\5\1" + bytes(6))


def runs(pieces: tuple[bytes, ...]) -> st.SearchStrategy[list[bytes]]:
    """Some of them, each over and over, as many as fit into a frame."""

    def fitting(chosen: list[tuple[bytes, int]]) -> list[bytes]:
        found: list[bytes] = []
        room = LARGEST - 250
        for piece, count in chosen:
            found += [piece] * min(count, room // len(piece))
            room -= len(piece) * min(count, room // len(piece))
        return found

    return st.lists(st.tuples(st.sampled_from(pieces), st.integers(1, 700)), max_size=6).map(fitting)


@settings(max_examples=200)
@given(
    runs(RECORDS), st.integers(0, 2), st.integers(0, 70), st.sampled_from([(0x8400, 5353), (0, 5353), (0x2910, 137)])
)
def test_no_message_of_dns_is_found_that_costs_much(
    records: list[bytes], section: int, questions: int, kind: tuple[int, int]
) -> None:
    flags, port = kind
    counts = [questions, 0, 0, 0]
    counts[1 + section] = len(records)
    passed = steps(decoding(udp(message(*counts, flags=flags) + QUESTION * questions + b"".join(records), port)))
    target(float(passed))
    assert passed < MOST_STEPS


@settings(max_examples=200)
@given(runs(OPTIONS), runs(NDP_OPTIONS))
def test_no_options_are_found_that_cost_much(of_dhcp: list[bytes], of_ndp: list[bytes]) -> None:
    passed = max(
        steps(decoding(udp(DHCP + b"".join(of_dhcp), 67))), steps(decoding(ndp(ADVERTISEMENT + b"".join(of_ndp))))
    )
    target(float(passed))
    assert passed < MOST_STEPS
