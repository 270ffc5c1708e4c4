"""A `changes` client that counts and does not understand: light enough to keep up with 65,533 devices.

Run as `python -m tests.bench.counter SOCKET scan|snapshot`; prints one JSON line.

    scan      reads the snapshot, says `ready`, waits for a line on stdin, wishes for a scan of everything and reads to
              its end: {"found", "last", "ended"} (devices told, in the snapshot or as discovered, this host left out;
              seconds from the wish to the last of these, and to the `scan_update`)
    snapshot  reads the snapshot: {"devices", "bytes", "seconds", "connected"} (seconds from the start of the handshake)
"""

import json
import re
import select
import socket
import sys
import time
from collections.abc import Iterator

from tests.bench.listeners import PONG, PONG_EVERY, connect

ROOM = 1 << 20
DISCOVERED = b'"kind":"discovered"'
DEVICE = b'"rtt_ms":'
"""Once in each device."""
ACCEPTED = re.compile(rb'"type":"scan_accepted","request":"bench","scan_id":(\d+)[,}]')
TAIL = 100
"""Bytes of the last piece that are looked at again: a text that stands across two pieces."""
PATIENCE = 60.0


def pieces(client: socket.socket, first: bytes = b"") -> Iterator[bytes]:
    """What comes, as it comes."""
    poll = select.poll()
    poll.register(client, select.POLLIN)
    pong_at = time.monotonic() + PONG_EVERY
    if first:
        yield first
    while poll.poll(1000 * PATIENCE):
        piece = client.recv(ROOM)
        if not piece:
            raise ConnectionError("the daemon closed the stream")
        if time.monotonic() > pong_at:
            pong_at = time.monotonic() + PONG_EVERY
            client.send(PONG)
        yield piece
    raise TimeoutError(f"nothing came for {PATIENCE:g} s")


class Count:
    """How often a text stands in a stream that comes in pieces."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.found = 0
        self._tail = b""

    def see(self, piece: bytes) -> int:
        """How often it stands in this piece, or ends in it."""
        stream = self._tail + piece
        fresh = stream.count(self.text)
        self.found += fresh
        self._tail = stream[1 - len(self.text) :]
        return fresh


def payloads(stream: Iterator[bytes]) -> Iterator[bytes]:
    """What is said, without the heads of the frames: a long message comes in fragments (RFC 6455, 5.4)."""
    left, wanted, rest = 0, False, b""
    for piece in stream:
        have, at, out = rest + piece, 0, []
        while at < len(have):
            if left:
                end = min(at + left, len(have))
                if wanted:
                    out.append(have[at:end])
                left -= end - at
                at = end
                continue
            if at + 2 > len(have):
                break
            left = have[at + 1] & 0x7F
            size = {126: 2, 127: 8}.get(left, 0)
            if at + 2 + size > len(have):
                left = 0
                break
            if size:
                left = int.from_bytes(have[at + 2 : at + 2 + size])
            wanted = have[at] & 0x0F < 8
            at += 2 + size
        rest = have[at:]
        yield b"".join(out)


def text_frame(text: bytes) -> bytes:
    """A client's text message of less than 126 bytes, masked with zeros (RFC 6455, 5.3)."""
    return b"\x81" + bytes([0x80 | len(text)]) + b"\x00\x00\x00\x00" + text


def snapshot(client: socket.socket, rest: bytes) -> tuple[int, int]:
    """Read to its end: devices, and bytes without the frames' heads."""
    devices, ends, size = Count(DEVICE), Count(b'"more":false}'), 0
    for piece in payloads(pieces(client, rest)):
        size += len(piece)
        devices.see(piece)
        if ends.see(piece):
            break
    return devices.found, size


def scan(client: socket.socket) -> dict[str, float]:
    """Wish, and count until the scan is over."""
    begun = time.monotonic()
    client.send(text_frame(b'{"type":"scan_now","request":"bench"}'))
    discovered, last, end, tail = Count(DISCOVERED), 0.0, None, b""
    for piece in pieces(client):
        now = time.monotonic() - begun
        if discovered.see(piece):
            last = now
        stream = tail + piece
        tail = piece[-TAIL:]
        if end is None and (accepted := ACCEPTED.search(stream)):
            end = b'"type":"scan_update","scan_id":' + accepted[1] + b","
        if end is not None and end in stream:
            return {"found": discovered.found, "last": last, "ended": now}
    raise AssertionError("never")


def main() -> None:
    """SOCKET scan|snapshot."""
    path, work = sys.argv[1:]
    begun = time.monotonic()
    client, rest = connect(path)
    connected = time.monotonic() - begun
    devices, size = snapshot(client, rest)
    seconds = time.monotonic() - begun
    if work == "scan":
        print("ready", flush=True)
        sys.stdin.readline()
        told = scan(client)
        print(json.dumps(told | {"found": told["found"] + devices - 1}), flush=True)
    else:
        said = {"devices": devices, "bytes": size, "seconds": seconds, "connected": connected}
        print(json.dumps(said), flush=True)
    client.close()


if __name__ == "__main__":
    main()
