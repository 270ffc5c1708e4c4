"""Where recipes send to: a mail server, a web server and an MQTT broker, on loopback, that keep what they are told."""

import queue
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NamedTuple

from tests.ctl.fake import DEADLINE


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


class Broker:
    """A small MQTT broker (OASIS MQTT 3.1.1) that only listens."""

    def __init__(self) -> None:
        self.came: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._retained: dict[str, bytes] = {}
        broker = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while head := self.rfile.read(1):
                    body = self.rfile.read(self._length())
                    kind = head[0] >> 4
                    if kind == 1:  # CONNECT → CONNACK
                        self.wfile.write(b"\x20\x02\x00\x00")
                    elif kind == 3:
                        self._publish(head[0] & 0x0F, body)
                    else:
                        assert kind == 14, kind  # DISCONNECT
                        return

            def _length(self) -> int:
                length, shift = 0, 0
                while True:  # section 2.2.3
                    (byte,) = self.rfile.read(1)
                    length |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        return length

            def _publish(self, flags: int, body: bytes) -> None:
                end = 2 + int.from_bytes(body[:2])
                topic, rest = body[2:end].decode(), body[end:]
                if flags >> 1 & 3:  # QoS 1 → PUBACK
                    self.wfile.write(b"\x40\x02" + rest[:2])
                    rest = rest[2:]
                if flags & 1:
                    broker._retained.pop(topic, None)
                    if rest:
                        broker._retained[topic] = rest
                broker.came.put((topic, rest))

        self.session = Session

    def messages(self, count: int) -> dict[str, bytes]:
        """The next `count`, by topic."""
        return dict(self.came.get(timeout=DEADLINE) for _ in range(count))

    def retained(self) -> dict[str, bytes]:
        """What a client that comes now would be told."""
        return dict(self._retained)


class Mosquitto:
    """The real broker, where it is installed."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self._process = subprocess.Popen(["mosquitto", "-c", str(config)], stderr=subprocess.DEVNULL)
        ends = time.monotonic() + DEADLINE
        while not self._answers():
            assert time.monotonic() < ends
            time.sleep(0.02)
        self._subscribe("-c", "-i", "test", "-q", "1", "-E")  # a session: the broker keeps for it what comes

    def _answers(self) -> bool:
        with socket.socket() as knock:
            return knock.connect_ex(("127.0.0.1", self.port)) == 0

    def _subscribe(self, *args: str) -> dict[str, bytes]:
        command = ["mosquitto_sub", "-p", str(self.port), "-t", "#", "-F", "%t %x", *args]
        told = subprocess.run(command, stdout=subprocess.PIPE, timeout=DEADLINE, check=False).stdout
        lines = (line.partition(" ") for line in told.decode().splitlines())
        return {topic: bytes.fromhex(payload) for topic, _, payload in lines}

    def messages(self, count: int) -> dict[str, bytes]:
        """The next `count`, by topic; `-R`: none of the retained, which each subscribing brings again."""
        return self._subscribe("-c", "-i", "test", "-q", "1", "-R", "-C", str(count))

    def retained(self) -> dict[str, bytes]:
        """What a client that comes now is told."""
        return self._subscribe("--retained-only", "-W", "1")

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(DEADLINE)
