"""The clients of a hostile account: many connections that send the same, as fast as the daemon takes it.

Run by tests/attacks/account.py, which documents the options: a JSON object on the first line of stdin. Prints `ready`
when the connections are open, begins at the next line, and prints what came of it as a JSON object.
"""

import contextlib
import json
import os
import select
import selectors
import socket
import sys
import time
from typing import Any

BLOCK = 64 * 1024
"""Bytes offered to a socket at once."""


class Client:
    """One connection."""

    def __init__(self, options: dict[str, Any], number: int, block: bytes) -> None:
        self.opened_at = time.monotonic()
        self.open = False
        """It has its handshake behind it, or needs none."""
        self.received = 0
        self._head = b""
        self._rest = memoryview(b"")
        self._block = block
        self._talks = bool(options["more"])
        where = options["where"]
        self.sock = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        self.sock.settimeout(5.0)
        if bound := options.get("source"):
            self.sock.bind((bound, 0))
        self.sock.connect(where if isinstance(where, str) else tuple(where))
        self.sock.sendall(options["begin"][number % len(options["begin"])].encode("latin-1"))
        self.open = not options["upgrades"]
        self.sock.setblocking(False)

    def read(self) -> bool:
        """Take what came; False where it is over."""
        try:
            piece = self.sock.recv(1 << 18)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.received += len(piece)
        if not self.open:
            self._head += piece
            if b"\r\n\r\n" in self._head:
                if b" 101 " not in self._head.split(b"\r\n", 1)[0]:
                    return False
                self.open = True
        return bool(piece)

    def write(self, most: int) -> int:
        """Send more, at most so many bytes; return how many, -1 where it is over."""
        if not self._rest:
            self._rest = memoryview(self._block)
        try:
            sent = self.sock.send(self._rest[:most])
        except BlockingIOError:
            return 0
        except OSError:
            return -1
        self._rest = self._rest[sent:]
        return sent

    @property
    def wants_to_write(self) -> bool:
        return self.open and self._talks


class Crowd:
    """All of them."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        more = options["more"].encode("latin-1")
        self.unit = len(more)
        self.block = more if options["rate"] else more * max(1, BLOCK // max(1, self.unit))
        self.selector = selectors.DefaultSelector()
        self.clients: set[Client] = set()
        self.opened = self.cut = self.refused = self.sent = self.received = self.finished = 0
        self.took: list[float] = []
        """Seconds of each connection that ended by itself: of answers, with `Connection: close`."""

    def connect(self) -> None:
        try:
            if self.options["spread"]:  # the kernel notes who connects at that moment
                os.seteuid(0)
                os.seteuid(self.options["uid"] + self.opened + self.refused)
            client = Client(self.options, self.opened, self.block)
        except OSError:
            self.refused += 1
            return
        self.opened += 1
        self.clients.add(client)
        self.selector.register(client.sock, selectors.EVENT_READ, client)
        self._watch(client)

    def _watch(self, client: Client) -> None:
        events = selectors.EVENT_READ if self.options["reads"] or not client.open else 0
        if client.wants_to_write and not self.options["rate"]:
            events |= selectors.EVENT_WRITE
        with contextlib.suppress(KeyError):
            if events:
                self.selector.modify(client.sock, events, client)
            else:
                self.selector.unregister(client.sock)

    def drop(self, client: Client) -> None:
        self.received += client.received
        with contextlib.suppress(KeyError):
            self.selector.unregister(client.sock)
        client.sock.close()
        self.clients.discard(client)

    def turn(self, until: float, *, talk: bool) -> None:
        """Serve each connection that is ready, once."""
        for key, events in self.selector.select(max(0.0, min(0.01, until - time.monotonic()))):
            client = key.data
            alive, was_open = True, client.open
            if events & selectors.EVENT_READ:
                alive = client.read()
                if client.open and not was_open:
                    self._watch(client)
            if alive and talk and events & selectors.EVENT_WRITE:
                sent = client.write(BLOCK)
                alive = sent >= 0
                self.sent += max(0, sent)
            if not alive:
                if client.received and client.open:
                    self.finished += 1
                    self.took.append(time.monotonic() - client.opened_at)
                self.cut += 1
                self.drop(client)
                if self.options["again"] and talk:
                    self.connect()

    def run(self) -> dict[str, Any]:
        options = self.options
        begun = time.monotonic()
        ends = begun + options["seconds"]
        due, clients = 0, list(self.clients)
        while (now := time.monotonic()) < ends:
            if options["rate"] and self.unit:
                if len(clients) != len(self.clients):
                    clients = list(self.clients)
                while due < (now - begun) * options["rate"] and clients:
                    client = clients[due % len(clients)]
                    due += 1
                    if client.wants_to_write:
                        self.sent += max(0, client.write(BLOCK))
            missing = options["count"] - len(self.clients)
            if options["again"] and missing > 0:
                self.connect()
            self.turn(ends, talk=True)
        for client in self.clients:
            self.received += client.received
        over = select.poll()  # the only sign for a client that does not read
        for client in self.clients:
            over.register(client.sock, 0)
        return {
            "opened": self.opened, "still_open": len(self.clients) - len(over.poll(0)), "cut": self.cut,
            "refused": self.refused, "sent": self.sent, "messages": self.sent // self.unit if self.unit else 0,
            "received": self.received, "finished": self.finished, "took": sorted(self.took)[-5:],
            "seconds": time.monotonic() - begun,
        }  # fmt: skip


def knock(options: dict[str, Any]) -> dict[str, Any]:
    """Connect, send and close, over and over."""
    where, begin = options["where"], options["begin"][0].encode("latin-1")
    outcome: dict[str, Any] = dict.fromkeys(
        ("opened", "still_open", "cut", "refused", "sent", "messages", "received", "finished"), 0
    )
    begun = time.monotonic()
    while time.monotonic() < begun + options["seconds"]:
        sock = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        try:
            if isinstance(where, str):
                sock.setblocking(False)
            sock.connect(where if isinstance(where, str) else tuple(where))
            outcome["opened"] += 1
            sock.send(begin)
        except OSError:
            outcome["refused"] += 1
        sock.close()
    return {**outcome, "took": [], "seconds": time.monotonic() - begun}


def main() -> None:
    options = json.loads(sys.stdin.readline())
    os.nice(options["nice"])
    os.setgroups(())
    os.setresgid(options["gid"], options["gid"], options["gid"])
    if not options["spread"]:
        os.setresuid(options["uid"], options["uid"], options["uid"])
    if options["knocks"]:
        print("ready", flush=True)
        if sys.stdin.readline():
            print(json.dumps(knock(options)), flush=True)
            sys.stdin.readline()
        return
    crowd = Crowd(options)
    for _ in range(options["count"]):
        crowd.connect()
    ends = time.monotonic() + 5
    while any(not client.open for client in crowd.clients) and time.monotonic() < ends:
        crowd.turn(ends, talk=False)
    print("ready", flush=True)
    if not sys.stdin.readline():
        return
    print(json.dumps(crowd.run()), flush=True)
    sys.stdin.readline()  # the connections stay open until we are let go


if __name__ == "__main__":
    main()
