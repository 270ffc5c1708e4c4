"""Strangers of another host that speak TLS: many connections, from several addresses, with no token.

Run by tests/attacks/test_tls.py. Takes its options as a JSON object on the first line of stdin; prints `ready`, begins
at the next line, and prints what came of it as a JSON object. Modes:

- `half`: send a ClientHello, wait a moment, close; again and again.
- `late`: the first byte of the ClientHello, and later the rest of all of them at once; again and again.
- `idle`: shake hands, and say nothing.
- `full`: shake hands, send requests without end, and read nothing.
- `tiny`: shake hands, and send a request in records of one byte.
"""

import contextlib
import json
import os
import socket
import ssl
import sys
import time
from typing import Any

REQUEST = "GET {} HTTP/1.1\r\nHost: 10.77.0.2:8000\r\n\r\n"
FULL, TINY = 900_000, 11_000
"""Bytes of plaintext that each connection sends."""

Options = dict[str, Any]


class Client:
    """One connection, whose TLS is ours to cut into pieces."""

    def __init__(self, options: Options, number: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.rest = memoryview(b"")
        self.sock = socket.socket()
        self.sock.settimeout(8.0)
        self.sock.bind((options["sources"][number % len(options["sources"])], 0))
        self.sock.connect(tuple(options["where"]))

    def hello(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()

    def shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                self.sock.sendall(self._outgoing.read())
                return
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                came = self.sock.recv(65536)
                if not came:
                    raise ConnectionResetError from None
                self._incoming.write(came)

    def prepare(self, plaintext: bytes, record: int) -> None:
        for at in range(0, len(plaintext), record):
            self._tls.write(plaintext[at : at + record])
        self.rest = memoryview(self._outgoing.read())

    def send(self) -> int:
        try:
            sent = self.sock.send(self.rest[:262_144])
        except BlockingIOError:
            return 0
        except OSError:
            self.rest = memoryview(b"")
            return 0
        self.rest = self.rest[sent:]
        return sent


def again(options: Options) -> dict[str, int]:
    """Connect again without end; the handshakes never come to theirs."""
    ends, total = time.monotonic() + options["seconds"], 0
    late = options["mode"] == "late"
    while time.monotonic() < ends:
        clients = []
        for number in range(options["count"]):
            with contextlib.suppress(OSError):
                client = Client(options, number)
                client.rest = memoryview(client.hello())
                clients.append(client)
                first = 1 if late else len(client.rest)
                client.sock.sendall(client.rest[:first])
                client.rest = client.rest[first:]
        time.sleep(0.3)
        for client in clients:
            with contextlib.suppress(OSError):
                client.sock.sendall(client.rest)
        time.sleep(0.6)
        for client in clients:
            client.sock.close()
        total += len(clients)
    return {"connections": total, "sent": 0}


def stay(options: Options, clients: list[Client]) -> dict[str, int]:
    """Send what was prepared, as fast as it is taken, and stay."""
    ends, sent = time.monotonic() + options["seconds"], 0
    for client in clients:
        client.sock.setblocking(False)
    while time.monotonic() < ends:
        sent += sum(client.send() for client in clients if client.rest)
        time.sleep(0.005)
    return {"connections": len(clients), "sent": sent}


def main() -> None:
    options = json.loads(sys.stdin.readline())
    os.nice(options["nice"])
    clients = []
    if options["mode"] in ("idle", "full", "tiny"):
        for number in range(options["count"]):
            clients.append(client := Client(options, number))
            client.shake_hands()
        for client in clients:
            if options["mode"] == "full":
                request = REQUEST.format("/web/page.js")
                client.prepare((request * (FULL // len(request))).encode(), 16_384)
            elif options["mode"] == "tiny":
                request = REQUEST.format("/healthz")
                client.prepare((request * (TINY // len(request))).encode(), 1)
    print("ready", flush=True)
    if sys.stdin.readline():
        print(json.dumps(stay(options, clients) if clients else again(options)), flush=True)
        sys.stdin.readline()  # the connections stay open until we are let go


if __name__ == "__main__":
    main()
