"""Frames of WebSocket clients, well made and then wrong in one place, to a server that runs all the while.

A case is what one client sends behind its handshake. Whatever it is: what comes back is made of whole frames by RFC
6455, its text is a message of the protocol, a close has a code that fits, and the server goes on as before.
"""

import json
from collections.abc import Iterator, Sequence
from random import Random

from netscand import protocol
from tests.attacks.fuzz import broken, joined, parted
from tests.attacks.fuzz_http import exchange
from tests.serve.house import House, handshake

OPCODES = (0x1, 0x1, 0x1, 0x1, 0x2, 0x0, 0x0, 0x8, 0x9, 0xA, 0x3, 0xB, 0xF)
PAYLOADS = (
    b"", b"{}", b'{"type":"scan_now"}', b'{"type":"scan_now","targets":["10.0.0.0/25","10.0.128.0/17"],"request":"r"}',
    b'{"type":"set_interval","seconds":5}', b'{"type":"set_interval","seconds":null}',
    b'{"type":"set_interval","seconds":1e308}',
    b'{"type":"nothing","request":"r"}', b"[" * 3000, b'{"type":"scan_now","targets":["x"]}', b"\xff\xfe", b"\xc3",
    b'{"type":"scan_now","request":"\\ud800"}', b"\x03\xe8", b"\x03\xe8bye", b"\x03\xed", b"\x00\x00", b"\x0f\xa0",
    b"x",
    b"null", b'"x"', b"1" * 3000, b"p" * 125, b"p" * 126,
    json.dumps({"type": "scan_now", "targets": [f"10.0.{n}.0/24" for n in range(200)]}).encode(),
)  # fmt: skip
CLOSES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1013, 4000}
"""1011 is ours to send where we failed, and no client may bring that about."""


def frame(random: Random) -> bytes:
    opcode, payload = random.choice(OPCODES), random.choice(PAYLOADS)
    final = 0x80 if random.random() < 0.85 else 0
    reserved = random.choice((0x40, 0x20, 0x10)) if random.random() < 0.05 else 0
    size = len(payload)
    claimed = size if random.random() < 0.95 else random.choice((0, 1, 125, 126, 127, 65_536, 2**31, 2**63 - 1))
    if claimed < 126 and random.random() < 0.95:
        length = bytes((claimed,))
    elif claimed < 65_536 and random.random() < 0.95:
        length = b"\x7e" + claimed.to_bytes(2)
    else:
        length = b"\x7f" + claimed.to_bytes(8)
    if random.random() < 0.03:  # not masked
        return bytes((final | reserved | opcode,)) + length + payload
    mask = random.choice((bytes(4), random.randbytes(4)))
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return bytes((final | reserved | opcode, 0x80 | length[0])) + length[1:] + mask + masked


def seeds() -> Iterator[bytes]:
    """One of each payload as a text, and one of each opcode."""
    from tests.attacks.account import frame as plain

    yield joined([plain(payload) for payload in PAYLOADS[:10]])
    yield joined([plain(b"ping", 0x9), plain(b"", 0xA), plain(b'{"type":"scan_now"}'), plain(b"\x03\xe8", 0x8)])
    yield joined([bytes((0x01, 0x82)) + bytes(4) + b"{}", plain(b"p", 0x9), bytes((0x80, 0x80)) + bytes(4)])


def make(random: Random, known: Sequence[bytes]) -> bytes:
    """Some frames, in pieces that do not end where they do; or old ones, broken."""
    if known and random.random() < 0.2:
        return joined([broken(random, part) for part in parted(random.choice(known))])
    whole = b"".join(frame(random) for _ in range(random.randrange(1, 12)))
    if random.random() < 0.3:
        whole = broken(random, whole)
    cuts = sorted(random.randrange(len(whole) + 1) for _ in range(random.randrange(4)))
    return joined([whole[a:b][:65_535] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)])


async def run(lan: House, case: bytes) -> int:
    """Send it; how many messages came. Raises AssertionError for a wrong one."""
    answer = await exchange(lan, [handshake("/ws?updates=changes"), *parted(case)])
    head, end, rest = answer.partition(b"\r\n\r\n")
    if not end:
        return 0  # cut, and the kernel has thrown away what was sent before
    assert head.startswith(b"HTTP/1.1 101 "), head
    return _check(rest)


def _check(answer: bytes) -> int:
    """Whole frames, as a server may send them; how many messages they hold."""
    place = messages = 0
    text = b""
    while place + 2 <= len(answer):
        first, second = answer[place], answer[place + 1]
        opcode = first & 0x0F
        assert not first & 0x70, "a reserved bit"
        assert not second & 0x80, "a server masks nothing"
        assert opcode in (0, 1, 8, 9, 10), f"opcode {opcode}"
        size, place = second & 0x7F, place + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, place = int.from_bytes(answer[place : place + width]), place + width
        payload = answer[place : place + size]
        place += size
        if place > len(answer):
            return messages  # cut in the middle
        if opcode == 8:
            assert len(payload) != 1, "half a code"
            assert not payload or int.from_bytes(payload[:2]) in CLOSES, payload
            payload[2:].decode()
        elif opcode in (0, 1):
            text += payload
            if first & 0x80:
                protocol.decode_server(text)
                messages += 1
                text = b""
        else:
            assert size < 126, "a long control frame"
    return messages
