"""DNS messages, as mDNS, NBNS and resolvers use them (RFC 1035, section 4).

Names are decoded only on demand, so that a message of many records is cheap. Everything is bounded, so that the most
expensive message costs little more than an ordinary one: a compressed name may only point backward, and only a limited
number of times; only the first questions and records are read.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from netscand.core.model import Ip

A, NS, CNAME, PTR, TXT, AAAA, NB, NBSTAT, SRV = 1, 2, 5, 12, 16, 28, 32, 33, 33
"""Types of records (RFC 1035, 3596, 1002, 2782); NBNS has another meaning for 33."""

RESPONSE = 0x8000
OPCODE = 0x7800
RCODE = 0x000F
CLASS = 0x7FFF
"""Mask of the class without the highest bit, which mDNS uses otherwise (RFC 6762, 10.2 and 5.4)."""

MOST_POINTERS = 16
MOST_LABELS = 40
"""Maximum pointers and labels of one name; an IPv6 address in ip6.arpa has 34 labels."""

LONGEST = 255
"""Maximum bytes of a name, with the lengths of its labels (RFC 1035, 2.3.4)."""

MOST = 64
"""Maximum questions, and maximum records of all sections together, read of one message."""

_HEAD = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")


class Question(NamedTuple):
    """A question; decode its name with `labels`."""

    name_at: int
    kind: int
    klass: int


class Record(NamedTuple):
    """A resource record; decode its names with `labels`."""

    name_at: int
    kind: int
    klass: int
    ttl: int
    content: bytes
    content_at: int


class Message(NamedTuple):
    """A message without its names."""

    raw: bytes
    id: int
    flags: int
    questions: list[Question]
    answers: list[Record]
    authorities: list[Record]
    additionals: list[Record]


def read(raw: bytes) -> Message | None:
    """Decode a message, with its first MOST questions and records; None if counts or lengths are wrong."""
    if len(raw) < _HEAD.size:
        return None
    number, flags, *counts = _HEAD.unpack_from(raw)
    if sum(counts) * 5 > len(raw):
        return None
    position = _HEAD.size
    questions: list[Question] = []
    for _ in range(min(counts[0], MOST)):
        after = _after_name(raw, position)
        if after is None or after + 4 > len(raw):
            return None
        kind, klass = struct.unpack_from("!HH", raw, after)
        questions.append(Question(position, kind, klass))
        position = after + 4
    sections: list[list[Record]] = [[], [], []]
    left = MOST if counts[0] <= MOST else 0
    for section, count in zip(sections, counts[1:], strict=True):
        for _ in range(min(count, left)):
            after = _after_name(raw, position)
            if after is None or after + _RECORD.size > len(raw):
                return None
            kind, klass, ttl, length = _RECORD.unpack_from(raw, after)
            start = after + _RECORD.size
            if start + length > len(raw):
                return None
            section.append(Record(position, kind, klass, ttl, raw[start : start + length], start))
            position = start + length
        left = max(0, left - count)
    return Message(raw, number, flags, questions, *sections)


def _after_name(raw: bytes, position: int) -> int | None:
    """Return the position after a name; None if it is malformed."""
    end = min(len(raw), position + LONGEST)
    while position < end:
        length = raw[position]
        if length >= 0xC0:
            return position + 2
        if length >= 0x40:
            return None
        position += 1 + length
        if not length:
            return position
    return None


def labels(raw: bytes, position: int, most: int = MOST_LABELS) -> tuple[bytes, ...] | None:
    """Return the labels of the name at `position`, pointers resolved; None if it is malformed or has more labels."""
    found: list[bytes] = []
    pointers = 0
    earliest = position
    left = LONGEST
    while position < len(raw) and len(found) <= most:
        length = raw[position]
        if not length:
            return tuple(found)
        if length >= 0xC0:
            if position + 1 >= len(raw):
                return None
            position = (length & 0x3F) << 8 | raw[position + 1]
            pointers += 1
            if position >= earliest or pointers > MOST_POINTERS:
                return None
            earliest = position
            continue
        left -= 1 + length
        if length >= 0x40 or position + 1 + length > len(raw) or left <= 0:
            return None
        found.append(raw[position + 1 : position + 1 + length])
        position += 1 + length
    return None


def reverse(ip: Ip) -> tuple[bytes, ...]:
    """Return the labels of the reverse name of an address (RFC 1035, 3.5; RFC 3596, 2.5)."""
    if len(ip) == 4:
        return (*(str(byte).encode() for byte in reversed(ip)), b"in-addr", b"arpa")
    return (*(digit.encode() for digit in reversed(ip.hex())), b"ip6", b"arpa")


def questions(
    number: int, names: Sequence[tuple[bytes, ...]], kind: int, klass: int = 1, *, flags: int = 0
) -> bytes:  # fmt: skip
    """Encode a message with the same question about each name."""
    encoded = (b"".join(bytes([len(label)]) + label for label in name) for name in names)
    ends = struct.pack("!xHH", kind, klass)
    return _HEAD.pack(number, flags, len(names), 0, 0, 0) + b"".join(name + ends for name in encoded)
