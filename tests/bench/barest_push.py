"""The least that Python can do to push a device: read the ring, unpack, commit one row, send one frame to each client.

It decides nothing: each MAC that is new is an event, stored in a transaction of its own and then sent. Run at a lab's
host as `python -m tests.bench.barest_push INTERFACE SOCKET DATABASE`; prints `ready` when clients can connect, and ends
with its stdin. Clients are those of tests/bench/clients.py.
"""

import os
import select
import socket
import sqlite3
import sys
import time

from netscand.core.model import Mac
from netscand.lan import bpf
from netscand.lan.capture import Ring
from tests.bench.barest import TABLES, holed_text

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SEEN = b'"seen_at":"2026-01-01T00:00:00.000Z"'
SENT = b'"sent_at":"2026-01-01T00:00:00.000Z"'


def timed_text() -> bytes:
    """The text of tests/bench/barest.py, with two more holes: when the frame came, and when the event is sent."""
    text = holed_text()
    assert text.count(SEEN) == text.count(SENT) == 1
    return text.replace(SEEN, b'"seen_at":"%b"').replace(SENT, b'"sent_at":"%b"')


def rfc3339(at: float) -> bytes:
    """Return unix seconds as text, to the microsecond."""
    whole = int(at)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((at - whole) * 1e6):06d}Z".encode()


class Push:
    """One ring, one table, and the clients."""

    def __init__(self, interface: str, path: str, database: str) -> None:
        self._interface = socket.if_nametoindex(interface)
        self._ring = Ring(bpf.arp)
        self._database = sqlite3.connect(database, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(TABLES)
        self._text = timed_text()
        self._known: set[Mac] = set()
        self._clients: dict[int, socket.socket] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(1024)
        self._poll = select.epoll()
        for source in (self._ring.fileno(), self._listener.fileno(), 0):
            self._poll.register(source, select.EPOLLIN)

    def run(self) -> None:
        """Serve until stdin ends."""
        os.write(1, b"ready\n")
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._ring.fileno():
                    self._push_new()
                elif descriptor == self._listener.fileno():
                    self._accept()
                elif descriptor == 0:
                    if not os.read(0, 4096):
                        return
                elif not self._clients[descriptor].recv(4096):
                    self._poll.unregister(descriptor)
                    self._clients.pop(descriptor).close()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        while b"\r\n\r\n" not in client.recv(4096, socket.MSG_PEEK):
            pass
        client.recv(4096)
        client.sendall(SWITCH)
        self._clients[client.fileno()] = client
        self._poll.register(client, select.EPOLLIN)

    def _push_new(self) -> None:
        for frame, at, interface in self._ring.read(512):
            mac = Mac(frame[22:28])
            if interface != self._interface or mac in self._known:
                continue
            self._known.add(mac)
            number, ip, wall = len(self._known), frame[28:32], at - time.monotonic() + time.time()
            self._database.execute("INSERT INTO event VALUES (?, ?, 1, ?, ?)", (number, wall, mac, ip))
            address = b"%d.%d.%d.%d" % tuple(ip)
            device = (mac.hex(":").encode(), address, address)
            text = self._text % (number, address, *device, rfc3339(wall), rfc3339(time.time()))
            message = b"\x81\x7e" + len(text).to_bytes(2) + text
            for client in self._clients.values():
                client.send(message)


if __name__ == "__main__":
    Push(*sys.argv[1:4]).run()
