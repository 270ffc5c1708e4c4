"""Receivers of notifications: a web server that answers as told, a mail server (aiosmtpd), ntfy's own server."""

import json
import queue
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.message import Message as AnyMail
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from netscanctl.services.notify.state import Message
from tests.ctl.fake_daemon import DEADLINE

CACHE = Path("/var/cache/netscand-tests")


def find_program(name: str, package: str = "") -> str:
    """Return the path of a program that `./dev setup --test` unpacks; skip the test where it is missing."""
    folder = CACHE / (package or name)
    found = shutil.which(name) or next((str(path) for path in (folder / "bin" / name, folder / "usr/bin" / name)
                                        if path.exists()), None)  # fmt: skip
    if found is None:
        pytest.skip(f"{name} is missing: run sudo ./dev setup --test")
    return found


def message(number: int = 1, **more: object) -> Message:
    """Return a message."""
    fields: dict[str, Any] = {
        "id": f"k3f9-{number}", "kind": "discovered", "at": "2026-11-23T22:05:00.000Z",
        "title": f"New device: host{number}",
        "text": "Apple, Inc.", "link": "https://scan.lan/#a4:83:e7:00:00:07",
    }  # fmt: skip
    fields.update(more)
    return Message(**fields)


class Post(NamedTuple):
    """A request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> dict[str, Any]:
        """The body, decoded."""
        found: dict[str, Any] = json.loads(self.body)
        return found


Answer = int | tuple[int, dict[str, str]]


class Hooks:
    """A web server on loopback that answers with `answers`, one after the other, then with 204."""

    def __init__(self, *answers: Answer, port: int = 0, certificate: dict[str, str] | None = None) -> None:
        self.answers = list(answers)
        self.posts: queue.Queue[Post] = queue.Queue()
        self.delay = threading.Event()
        """Set: answer at once; a test that clears it stops all answers."""
        self.delay.set()
        hooks = self

        class Request(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hooks.posts.put(Post(self.path, {name.lower(): text for name, text in self.headers.items()}, body))
                hooks.delay.wait(DEADLINE)
                answer = hooks.answers.pop(0) if hooks.answers else 204
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that is killed, or refuses our certificate, is what the test wants."""

        self._server = Server(("127.0.0.1", port), Request)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate["tls_certificate"], certificate["tls_key"])
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/hook"

    def next(self) -> Post:
        """The next request."""
        return self.posts.get(timeout=DEADLINE)

    def close(self) -> None:
        """Stop."""
        self.delay.set()
        self._server.shutdown()
        self._thread.join(DEADLINE)
        self._server.server_close()


@contextmanager
def listening(*answers: Answer, port: int = 0, certificate: dict[str, str] | None = None) -> Iterator[Hooks]:
    """Run a web server."""
    hooks = Hooks(*answers, port=port, certificate=certificate)
    try:
        yield hooks
    finally:
        hooks.close()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Mails:
    """What aiosmtpd calls: keeps mails; `answers` replace its own, one after the other."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.mails: queue.Queue[AnyMail] = queue.Queue()
        self.recipients: dict[str, list[str]] = {}
        """Answers to a receiver, one after the other; then it is accepted."""
        self.sent: list[list[str]] = []
        """Receivers of each mail."""

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a receiver, or refuse it."""
        if self.recipients.get(address):
            return self.recipients[address].pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take a mail, or refuse it."""
        if self.answers:
            return self.answers.pop(0)
        assert isinstance(envelope.content, bytes)
        self.sent.append(list(envelope.rcpt_tos))
        self.mails.put(message_from_bytes(envelope.content, policy=default))
        return "250 OK"

    def next(self) -> EmailMessage:
        """The next mail."""
        mail = self.mails.get(timeout=DEADLINE)
        assert isinstance(mail, EmailMessage)
        return mail


@contextmanager
def mail_server(mails: Mails, tls_context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Run a mail server; its port."""
    controller = Controller(mails, hostname="127.0.0.1", port=free_port(), tls_context=tls_context)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


class Ntfy:
    """ntfy's server, as a process."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._argv = [find_program("ntfy"), "serve", "--config", str(folder / "none.yml")]
        (folder / "none.yml").write_text(
            f'listen-http: "127.0.0.1:{self.port}"\nbase-url: "http://127.0.0.1:{self.port}"\n'
            f'cache-file: "{folder / "cache.db"}"\nauth-file: "{folder / "auth.db"}"\n'
            'visitor-request-limit-exempt-hosts: "127.0.0.1"\n'
        )
        self._config = folder / "none.yml"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(self._argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/health", timeout=5):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def command(self, *words: str, **env: str) -> str:
        """Run one of its commands; its output."""
        argv = [self._argv[0], *words[:1], "--config", str(self._config), *words[1:]]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=DEADLINE, check=True)
        return done.stdout + done.stderr

    def messages(self, topic: str) -> list[dict[str, Any]]:
        """All messages of a topic."""
        url = f"http://127.0.0.1:{self.port}/{topic}/json?poll=1&since=all"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return [json.loads(line) for line in answer]


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    ends = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < ends, "timeout"
        time.sleep(0.02)
