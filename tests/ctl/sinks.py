"""Where recipes send to: a mail server, a web server and an MQTT broker, on loopback, that record what they receive."""

import queue
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BufferedIOBase
from typing import NamedTuple

from tests.ctl.fake_daemon import DEADLINE


@contextmanager
def listening(kind: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    """The port of a server that runs in a thread."""
    server = HTTPServer if issubclass(kind, BaseHTTPRequestHandler) else socketserver.ThreadingTCPServer
    with server(("127.0.0.1", 0), kind) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield made.server_address[1]
        finally:
            made.shutdown()
            thread.join(DEADLINE)


class Mails:
    """A mail server (RFC 5321, the little that smtplib needs); `refusals`: so many mails are turned away first."""

    def __init__(self, refusals: int = 0) -> None:
        self.came: queue.Queue[Message] = queue.Queue()
        self.refused = 0
        mails = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self._say("220 here")
                while words := self.rfile.readline().split(None, 1):
                    verb = words[0].upper()
                    if verb == b"DATA":
                        self._take()
                    elif verb == b"MAIL" and mails.refused < refusals:
                        mails.refused += 1
                        self._say("451 later")
                    else:
                        self._say({b"QUIT": "221 bye", b"EHLO": "250 here"}.get(verb, "250 ok"))

            def _take(self) -> None:
                self._say("354 go on")
                lines = []
                while (line := self.rfile.readline()) != b".\r\n":
                    lines.append(line.removeprefix(b"."))
                self._say("250 taken")
                mails.came.put(message_from_bytes(b"".join(lines), policy=default))

            def _say(self, text: str) -> None:
                self.wfile.write(f"{text}\r\n".encode())

        self.session = Session

    def next(self) -> EmailMessage:
        """The next that comes."""
        mail = self.came.get(timeout=DEADLINE)
        assert isinstance(mail, EmailMessage)
        return mail


class Post(NamedTuple):
    """What a web server was sent."""

    path: str
    kind: str | None
    body: bytes


class Hooks:
    """A web server; `statuses`: the first answers, then 204."""

    def __init__(self, *statuses: int) -> None:
        self.came: queue.Queue[Post] = queue.Queue()
        left, hooks = list(statuses), self

        class Request(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(left.pop(0) if left else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()
                hooks.came.put(Post(self.path, self.headers["Content-Type"], body))

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.request = Request


def packet_of(stream: BufferedIOBase) -> tuple[int, bytes] | None:
    """The next MQTT packet: its first byte, and what follows its length (OASIS MQTT 3.1.1, 2.2); None at the end."""
    if not (head := stream.read(1)):
        return None
    length, shift, more = 0, 0, True
    while more:
        (byte,) = stream.read(1)
        length, shift, more = length | (byte & 127) << shift, shift + 7, byte > 127
    return head[0], stream.read(length)


class Broker:
    """A small MQTT broker (OASIS MQTT 3.1.1) that only listens."""

    def __init__(self) -> None:
        self.came: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.retained: dict[str, bytes] = {}
        """The messages for a new client."""
        broker = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while packet := packet_of(self.rfile):
                    first, body = packet
                    if first >> 4 == 1:  # CONNECT → CONNACK
                        self.wfile.write(b"\x20\x02\x00\x00")
                    elif first >> 4 == 3:
                        self._publish(first & 0x0F, body)
                    else:
                        assert first >> 4 == 14, first  # DISCONNECT
                        return

            def _publish(self, flags: int, body: bytes) -> None:
                """A PUBLISH (3.3): topic, packet identifier where it is to be acknowledged, payload."""
                end = 2 + int.from_bytes(body[:2])
                start = end + (2 if flags >> 1 & 3 else 0)
                topic, payload, identifier = body[2:end].decode(), body[start:], body[end:start]
                if identifier:  # QoS 1 → PUBACK
                    self.wfile.write(b"\x40\x02" + identifier)
                if flags & 1:
                    broker.retained.pop(topic, None)
                    if payload:
                        broker.retained[topic] = payload
                broker.came.put((topic, payload))

        self.session = Session

    def messages(self, count: int) -> dict[str, bytes]:
        """The next `count`, by topic."""
        return dict(self.came.get(timeout=DEADLINE) for _ in range(count))
