"""Many WebSocket clients in one process, light enough that they measure the daemon and not themselves.

Run as `python -m tests.bench.listeners SOCKET COUNT`: says `ready` when all are connected, reads until its stdin ends,
and then prints one JSON line: for each event of each client, [client, cursor, seen_at, sent_at, heard] (unix seconds).
What comes is stamped when it is read, and only understood when all is over. Speaks RFC 6455 by itself.
"""

import json
import os
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
ROOM = 16_384
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
    """Each text message of a server's stream of frames, with the place where it ends. The server never fragments."""
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


def main() -> None:
    """SOCKET COUNT."""
    path, count = sys.argv[1], int(sys.argv[2])
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
            piece = clients[fd].recv(ROOM)
            pieces[fd].append((time.time(), piece))
            if not piece:
                raise ConnectionError("the daemon closed a client's stream")
        if time.monotonic() > pong_at:
            pong_at = time.monotonic() + PONG_EVERY
            for client in clients.values():
                client.send(PONG)
    said = [event for number, heard in enumerate(pieces.values()) for event in understand(number, heard)]
    print(json.dumps(said))


if __name__ == "__main__":
    main()
