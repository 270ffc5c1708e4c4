"""A host that answers what it is asked with more than anybody can read: lies and noise, at a rate, for some seconds.

Run by `Liar` in the namespace of a host: says `ready`, waits for questions, answers the port of the last that came, and
prints a JSON object: how many datagrams went, in how many seconds, and how many questions came.
"""

import json
import select
import socket
import struct
import subprocess
import sys
import time
from typing import NamedTuple

from tests.lab.lan import Host

MDNS, DNS = 5353, 53
LARGEST = 1472
"""Bytes of UDP in a frame of Ethernet."""

_PIECE = 32
"""Datagrams sent in one go."""


class Lies(NamedTuple):
    """What went."""

    datagrams: int
    seconds: float
    questions: int


def costly(question: bytes) -> bytes:
    """An answer of LARGEST bytes: PTR records that all point to one name of 39 labels that is nobody's."""
    name = b"\x02_x" + b"\x01a" * 38 + b"\0"
    record = struct.pack("!HHIH", 12, 1, 60, 2)
    at = 12 + len(question) - 12
    message = question[12:] + b"\xc0\x0c" + struct.pack("!HHIH", 12, 1, 60, len(name)) + name
    target = at + 2 + 10
    more = b"\xc0\x0c" + record + struct.pack("!H", 0xC000 | target)
    count = (LARGEST - 12 - len(message)) // len(more)
    return question[:2] + struct.pack("!HHHHH", 0x8400, 1, 1 + count, 0, 0) + message + more * count


def elsewhere(question: bytes) -> bytes:
    """The same as the answer to another question: its first label is another."""
    wrong = costly(question)
    return wrong[:13] + bytes([wrong[13] ^ 1]) + wrong[14:]


class Liar:
    """A host that is ready to lie `rate` times a second for so many `seconds`, from its first question on."""

    def __init__(self, host: Host, port: int, rate: float, seconds: float) -> None:
        argv = [sys.executable, "-m", "tests.lab.liar", *map(str, (port, rate, seconds)), host.ip]
        self._process = host.popen(argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def wait(self) -> Lies:
        """Until all is said; what went."""
        said, _ = self._process.communicate()
        return Lies(**json.loads(said))


def main() -> None:
    """PORT RATE SECONDS OWN."""
    port, rate, seconds, own = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    answering = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    answering.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    answering.bind(("", port))
    if port == MDNS:
        group = socket.inet_aton("224.0.0.251") + socket.inet_aton(own)
        answering.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    answering.setblocking(False)
    print("ready", flush=True)
    select.select([answering], [], [])
    sent, questions, lie, asker = 0, 0, b"", ("", 0)
    begun = now = time.monotonic()
    while now < begun + seconds:
        try:
            while True:
                question, asker = answering.recvfrom(2048)
                questions += 1
                lie = costly(question) if port == MDNS else elsewhere(question)
        except BlockingIOError:
            pass
        for _ in range(_PIECE):
            try:
                answering.sendto(lie, asker)
                sent += 1
            except OSError:  # nobody listens there any more
                break
        now = time.monotonic()
        if (ahead := begun + sent / rate - now) > 0:
            time.sleep(ahead)
    print(json.dumps({"datagrams": sent, "seconds": now - begun, "questions": questions}))


if __name__ == "__main__":
    main()
