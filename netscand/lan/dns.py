"""Messages of the domain name system, as mDNS, NBNS and resolvers speak it (RFC 1035, section 4).

Names are read only where somebody wants them, so that a message of many records costs little. Everything in a message
is bounded, so that the most expensive one costs little more than an ordinary one: a compressed name may point backward
alone, and only so often; of many questions or records, the first are read.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

A, NS, CNAME, PTR, AAAA, NB, NBSTAT = 1, 2, 5, 12, 28, 32, 33
"""Types of records (RFC 1035, 3596, 1002)."""

RESPONSE = 0x8000
OPCODE = 0x7800
RCODE = 0x000F
CLASS = 0x7FFF
"""Without the highest bit, which mDNS has its own use for (RFC 6762, 10.2 and 5.4)."""

MOST_POINTERS = 16
MOST_LABELS = 40
"""In one name; an address of IPv6 in ip6.arpa has 34."""

LONGEST = 255
"""Bytes of a name, lengths of its labels included (RFC 1035, 2.3.4)."""

MOST = 64
"""Questions, and records of all sections together, that are read of one message."""

_HEAD = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")


class Question(NamedTuple):
    """What is asked."""

    name_at: int
    kind: int
    klass: int


class Record(NamedTuple):
    """What is answered. `name` and `labels` of the message read names."""

    name_at: int
    kind: int
    klass: int
    ttl: int
    content: bytes
    content_at: int


class Message(NamedTuple):
    """One, without its names."""

    raw: bytes
    id: int
    flags: int
    questions: list[Question]
    answers: list[Record]
    authorities: list[Record]
    additionals: list[Record]


def read(raw: bytes) -> Message | None:
    """Return a message, with its first MOST questions and records; None where counts or lengths do not hold."""
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
    """Return where what follows a name begins."""
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


def labels(raw: bytes, position: int) -> tuple[bytes, ...] | None:
    """Return the labels of the name at `place`, its pointers followed; None where it is none."""
    found: list[bytes] = []
    pointers = 0
    earliest = position
    left = LONGEST
    while position < len(raw) and len(found) <= MOST_LABELS:
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


def questions(
    number: int, names: Sequence[tuple[bytes, ...]], kind: int, klass: int = 1, *, flags: int = 0
) -> bytes:  # fmt: skip
    """Return a message that asks the same of each name."""
    asked = (b"".join(bytes([len(label)]) + label for label in name) for name in names)
    ends = struct.pack("!xHH", kind, klass)
    return _HEAD.pack(number, flags, len(names), 0, 0, 0) + b"".join(name + ends for name in asked)
