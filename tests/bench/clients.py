"""WebSocket clients (RFC 6455 by hand), light enough that they measure the daemon and not themselves.

Run as `python -m tests.bench.clients SOCKET WORK`; prints one JSON line.

    listen COUNT  connects COUNT, says `ready`, reads until its stdin ends: for each event of each client,
                  [client, cursor, seen_at, sent_at, heard] (unix seconds). What comes is stamped when it is read, and
                  only understood when all is over
    scan          reads the snapshot, says `ready`, waits for a line on stdin, requests a scan of everything and reads
                  to its end: {"found", "last", "ended"} (devices published, in the snapshot or as discovered, this
                  host left out; seconds from the request to the last of these, and to the `scan_update`)
    snapshot      reads the snapshot: {"devices", "bytes", "seconds", "connected"} (seconds from the handshake's start)
"""

import json
import os
import re
import select
import socket
import sys
import time
from collections.abc import Iterator
from datetime import datetime

HANDSHAKE = (
    b"GET /ws?updates=changes HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bmV0c2NhbmQgYmVuY2ghIQ==\r\n\r\n"
)
PONG = b"\x8a\x80\x00\x00\x00\x00"
"""Unasked for, as RFC 6455, 5.5.3 allows: says that this client is alive."""
PONG_EVERY = 8.0
PIECE = 16_384
"""Bytes of one read: an event with room to spare, and little enough that its memory costs nothing."""


def connect(path: str) -> tuple[socket.socket, bytes]:
    """A WebSocket to the Unix socket at `path`, and the bytes that came after the handshake."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(path)
    client.sendall(HANDSHAKE)
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = client.recv(65_536)
        if not piece:
            raise ConnectionError(f"refused: {answer!r}")
        answer += piece
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise ConnectionError(f"refused: {head!r}")
    client.setblocking(False)
    return client, rest


def texts(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Each text message of a server's stream of frames, with the position of its end. The server never fragments."""
    at = 0
    while at + 2 <= len(stream):
        code, length = stream[at] & 0x0F, stream[at + 1] & 0x7F
        at += 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(stream[at : at + size])
            at += size
        if code == 1:
            yield at + length, stream[at : at + length]
        at += length


def unix(text: str | None) -> float | None:
    """An RFC 3339 time as unix seconds."""
    return datetime.fromisoformat(text).timestamp() if text else None


def understand(number: int, pieces: list[tuple[float, bytes]]) -> Iterator[list[object]]:
    """The events among what a client read, piece by piece: heard when their last byte was."""
    ends, total = [], 0
    for heard, piece in pieces:
        total += len(piece)
        ends.append((total, heard))
    places = iter(ends)
    place = next(places, None)
    for end, text in texts(b"".join(piece for _, piece in pieces)):
        while place and place[0] < end:
            place = next(places, None)
        if place is None:
            return
        message = json.loads(text)
        if message["type"] == "event":
            yield [number, message["cursor"], unix(message["seen_at"]), unix(message["sent_at"]), place[1]]


def listen(path: str, count: int) -> None:
    """Connect so many; read until stdin ends, and print what came."""
    clients, pieces = {}, {}
    poll = select.epoll()
    for _ in range(count):
        client, rest = connect(path)
        clients[client.fileno()] = client
        pieces[client.fileno()] = [(time.time(), rest)]
        poll.register(client, select.EPOLLIN)
    poll.register(0, select.EPOLLIN)
    os.write(1, b"ready\n")
    pong_at = 0.0
    listening = True
    while listening:
        for fd, _ in poll.poll(1.0):
            if fd == 0:
                listening = bool(os.read(0, 4096))
                continue
            piece = clients[fd].recv(PIECE)
            pieces[fd].append((time.time(), piece))
            if not piece:
                raise ConnectionError("the daemon closed a client's stream")
        if time.monotonic() > pong_at:
            pong_at = time.monotonic() + PONG_EVERY
            for client in clients.values():
                client.send(PONG)
    said = [event for number, heard in enumerate(pieces.values()) for event in understand(number, heard)]
    print(json.dumps(said))


# ---- one that counts and does not understand

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
    """Payloads, without the heads of the frames: a long message comes in fragments (RFC 6455, 5.4)."""
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
    """Request a scan, and count until it is over."""
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
    """SOCKET listen COUNT | scan | snapshot."""
    path, work, *count = sys.argv[1:]
    if work == "listen":
        listen(path, int(count[0]))
        return
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
