"""A host of the LAN that answers a question for its name without end, by mDNS; or any question, as a name server.

Run by `answering_without_end` in the host's namespace: prints `ready`; from the first question on it sends datagrams to
the port that asked, at a steady rate, for so many seconds; then prints a JSON object.
"""

import contextlib
import json
import os
import select
import socket
import sys
import time
from typing import NamedTuple

from tests.lab.lan import Host
from tests.lab.program import Program

SIZE = 1472
"""Bytes of a datagram that fills a frame."""

BURST = 256
"""Datagrams sent at once, where this machine could not keep the pace."""

PTR = 12


def encoded(*labels: bytes) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def long_answer(owner: bytes, number: int = 0) -> bytes:
    """A response of `SIZE` bytes at most: as many PTR records as fit, of the name `owner`, to one name of 39 labels.

    That name begins with an underscore, so it is no host's, and the next record has to be looked at.
    """
    pointed = encoded(b"_x", *[b"x"] * 38)
    first = owner + PTR.to_bytes(2) + b"\0\1" + (120).to_bytes(4) + len(pointed).to_bytes(2) + pointed
    target = 12 + len(owner) + 10
    more = b"\xc0\x0c" + PTR.to_bytes(2) + b"\0\1" + (120).to_bytes(4) + b"\0\2" + (0xC000 | target).to_bytes(2)
    count = (SIZE - 12 - len(first)) // len(more)
    return number.to_bytes(2) + b"\x84\0\0\0" + (1 + count).to_bytes(2) + bytes(4) + first + more * count


def many_records(number: int) -> bytes:
    """A response of as many records as fit: what takes longest to be read, for one that is not the answer."""
    record = b"\0" + PTR.to_bytes(2) + b"\0\1" + bytes(6)
    count = (SIZE - 12) // len(record)
    return number.to_bytes(2) + b"\x84\0\0\0" + count.to_bytes(2) + bytes(4) + record * count


def answering_without_end(host: Host, port: int, rate: float, seconds: float) -> Program:
    """Let `host` answer at `port` (5353, 137 or 53), `rate` a second, for `seconds` from the first question on.

    Its result: datagrams `sent`, `questions` seen, `seconds` from the first question.
    """
    return Program(host.space, "tests.lab.answers", host.ip, port, rate, seconds).ready()


class Question(NamedTuple):
    """A message that asks for names."""

    address: str
    port: int
    number: int
    content: bytes
    """Its questions, as they stand in the message."""


def asked(frame: bytes, port: int) -> Question | None:
    """Return what a frame asks at `port`; None for any other frame."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 17:
        return None
    udp = 14 + 4 * (frame[14] & 0x0F)
    if int.from_bytes(frame[udp + 2 : udp + 4]) != port or frame[udp + 10] & 0x80:
        return None
    from_port, number = int.from_bytes(frame[udp : udp + 2]), int.from_bytes(frame[udp + 8 : udp + 10])
    return Question(socket.inet_ntoa(frame[26:30]), from_port, number, frame[udp + 20 :])


def reverse(address: str) -> bytes:
    """Return the name that stands for an address, as in a message."""
    return encoded(*(part.encode() for part in reversed(address.split("."))), b"in-addr", b"arpa")


def main() -> None:
    """IP PORT RATE SECONDS."""
    os.nice(5)
    own, port, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    ear.bind(("eth0", 0))
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    out.bind((own, port))
    out.setblocking(False)
    print("ready", flush=True)
    sent = questions = 0
    begun: float | None = None
    ends = time.monotonic() + 60
    to: tuple[str, int] | None = None
    answer = b""
    while time.monotonic() < ends:
        wait = 0.0005 if begun is not None else 1.0
        if select.select([ear], [], [], wait)[0]:
            question = asked(ear.recv(2048), port)
            if question and question.address != own and (port != 5353 or reverse(own) in question.content):
                questions += 1
                to = question.address, question.port
                right, wrong = question.number, question.number ^ 1
                answer = long_answer(reverse(own), right) if port == 5353 else many_records(wrong)
                if begun is None:
                    begun = time.monotonic()
                    ends = begun + seconds
        if begun is not None and to is not None:
            for _ in range(min(BURST, int((time.monotonic() - begun) * rate) - sent)):
                with contextlib.suppress(OSError):  # no room, or a port that is closed again
                    out.sendto(answer, to)
                sent += 1
    print(json.dumps({"sent": sent, "questions": questions, "seconds": time.monotonic() - (begun or ends)}))


if __name__ == "__main__":
    main()
