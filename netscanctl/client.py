"""One question, one answer: HTTP to the daemon with the standard library, over its Unix socket or TCP.

What goes wrong is translated once, here, into a `Failure`: a line that says what to do, and its exit code.
"""

import http.client
import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from netscanctl.starting import mend
from netscand import __version__, protocol

DEFAULT_SOCKET = "/run/netscand/netscand.sock"
PATIENCE = 30.0
"""Seconds for one answer; a daemon that needs more hangs."""
PIECE = 64 * 1024
"""Bytes of a large answer that are taken at a time."""
NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
"""What OpenSSL makes of an answer in plain HTTP; its versions differ."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
PATH_LIMIT = 107
"""Bytes of a Unix socket's path (`sun_path` in unix(7), without its NUL)."""

Answer = TypeVar("Answer")


class Failure(Exception):
    """Why a command ends: one line for a person, and `exit_code` for a program. This one: the daemon refused."""

    exit_code = 1

    def __init__(self, cause: str, mend: str = "") -> None:
        super().__init__(f"{cause}: {mend}" if mend else cause)
        self.cause = cause
        """Without the mend."""


class Usage(Failure):
    """An option that cannot be meant so."""

    exit_code = 2


class NoDaemon(Failure):
    """Nobody answers there."""

    exit_code = 3


class NotPermitted(Failure):
    """Neither this user nor this token may."""

    exit_code = 4


class Misfit(Failure):
    """The daemon speaks another protocol."""

    exit_code = 5


class TimedOut(Failure):
    """It took longer than was allowed."""

    exit_code = 6


@dataclass(frozen=True, slots=True)
class Daemon:
    """Where the daemon is: its Unix socket, or with `url` (http or https, host and port) TCP."""

    socket: str = DEFAULT_SOCKET
    url: str | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """What to call it in a message."""
        return self.url or self.socket

    @property
    def origin(self) -> str:
        """What paths are appended to; over the Unix socket the host is a mere form."""
        return self.url or "http://localhost"

    @property
    def headers(self) -> dict[str, str]:
        """Who we are; the token travels here and nowhere else (T18)."""
        headers = {"User-Agent": f"netscanctl/{__version__}"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers


def chosen(socket_path: str | None, url: str | None) -> tuple[str | None, str | None]:
    """The socket and URL of the options, or where neither is given, of the environment. Raises Usage for both."""
    if not socket_path and not url:
        socket_path, url = os.environ.get("NETSCANCTL_SOCKET"), os.environ.get("NETSCANCTL_URL")
    if socket_path and url:
        raise Usage("a socket and a URL are given: expected one of them")
    return socket_path, url


def find_daemon(socket_path: str | None, url: str | None, token_file: str | None) -> Daemon:
    """The daemon that the global options name. Raises Usage, or NotPermitted for a token file we may not read."""
    path = socket_path or DEFAULT_SOCKET
    if len(path.encode()) > PATH_LIMIT:
        raise Usage(f"--socket: a Unix socket's path has at most {PATH_LIMIT} bytes")
    return Daemon(path, _checked(url) if url else None, _token(Path(token_file)) if token_file else None)


def _checked(url: str) -> str:
    wanted = "--url: expected http://HOST:PORT or https://HOST:PORT"
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError as wrong:
        raise Usage(f"{wanted} ({wrong})") from None
    if not fits:
        raise Usage(wanted)
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise Usage(f"{wanted} and nothing more (a token belongs into the file of --token-file)")
    return f"{parts.scheme}://{parts.netloc}"


def _token(path: Path) -> str:
    try:
        token = path.read_bytes().strip()
    except PermissionError:
        raise NotPermitted(f"--token-file: you may not read {path}") from None
    except OSError as wrong:
        raise Usage(f"--token-file: {path}: {wrong.strerror}") from None
    if not token or not token.isascii() or any(byte <= 32 or byte == 127 for byte in token):
        raise Usage(f"--token-file: {path}: expected the token alone, in one line")
    return token.decode()


class Client:
    """Asks the daemon over one connection that is kept until `close`."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self._connection = _connection(daemon)
        self._fits = False

    def get(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """The body of the answer to GET. Raises Failure."""
        self._check()
        return self._ask("GET", f"{path}?{urlencode(query)}" if query else path, None, PATIENCE)

    def post(self, path: str, body: bytes, *, patience: float | None = PATIENCE) -> bytes:
        """The body of the answer to POST; `patience` in seconds, None for ever. Raises Failure."""
        self._check()
        return self._ask("POST", path, body, patience)

    def patch(self, path: str, body: bytes) -> bytes:
        """The body of the answer to PATCH. Raises Failure."""
        self._check()
        return self._ask("PATCH", path, body, PATIENCE)

    def delete(self, path: str) -> bytes:
        """The body of the answer to DELETE, which may be empty. Raises Failure."""
        self._check()
        return self._ask("DELETE", path, None, PATIENCE)

    def fetch(self, path: str, take: Callable[[bytes], object], *, patience: float = PATIENCE) -> None:
        """Give the body of the answer to GET to `take`, piece by piece. Raises Failure, and what `take` raises."""
        self._check()
        answer = self._send("GET", path, None, patience)
        while True:
            with self._talking():
                piece = answer.read(PIECE)
            if not piece:
                break
            take(piece)
        if answer.length:  # http.client takes an end that comes too soon for the end
            raise self._gone()

    def read(self, answer: bytes, kind: type[Answer]) -> Answer:
        """The answer as a struct. Raises Misfit."""
        try:
            return msgspec.json.decode(answer, type=kind)
        except msgspec.DecodeError as wrong:
            raise Misfit(f"the daemon at {self.daemon.place} answers what netscanctl cannot read: {wrong}") from None

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _check(self) -> None:
        """Before the first question: an answer of another protocol may be read well, and be wrong."""
        if not self._fits:
            told = self._ask("GET", "/api/status", None, PATIENCE)
            try:
                fitting(self.daemon, msgspec.json.decode(told, type=Spoken))
            except msgspec.DecodeError:
                raise stranger(self.daemon) from None
            self._fits = True

    def _ask(self, method: str, target: str, body: bytes | None, patience: float | None) -> bytes:
        answer = self._send(method, target, body, patience)
        with self._talking():
            return answer.read()

    def _send(self, method: str, target: str, body: bytes | None, patience: float | None) -> http.client.HTTPResponse:
        """The answer, its body not read yet. Raises Failure."""
        connection = self._connection
        connection.timeout = patience
        if connection.sock is not None:
            connection.sock.settimeout(patience)
        headers = self.daemon.headers
        if body is not None:
            headers["Content-Type"] = "application/json"
        with self._talking():
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            content = answer.read() if answer.status >= 400 else b""
        if answer.status >= 400:
            raise refused(self.daemon, answer.status, content)
        return answer

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """What goes wrong on the way, as Failure."""
        try:
            yield
        except (http.client.RemoteDisconnected, http.client.IncompleteRead, ConnectionResetError, BrokenPipeError):
            raise self._gone() from None
        except http.client.HTTPException:
            raise stranger(self.daemon) from None
        except OSError as wrong:
            raise unreachable(self.daemon, wrong) from None

    def _gone(self) -> Failure:
        tls = "" if self._fits else or_tls(self.daemon)
        return NoDaemon(f"the daemon at {self.daemon.place} went away before it answered{tls}")


class Spoken(msgspec.Struct):
    """What of a status every version can read."""

    protocol: int
    version: str


def fitting(daemon: Daemon, spoken: Spoken | protocol.InitialState | protocol.Resumed) -> None:
    """Raises Misfit where the daemon speaks another protocol than this netscanctl."""
    if spoken.protocol != protocol.PROTOCOL:
        older = "netscand" if spoken.protocol < protocol.PROTOCOL else "netscanctl"
        raise Misfit(
            f"versions do not fit: netscand {spoken.version} at {daemon.place} speaks protocol {spoken.protocol}, "
            f"netscanctl {__version__} speaks {protocol.PROTOCOL}: upgrade {older}"
        )


def unreachable(daemon: Daemon, wrong: OSError) -> Failure:
    """Why no connection came about, and what would help."""
    if isinstance(wrong, TimeoutError):
        return TimedOut(f"the daemon at {daemon.place} did not answer in time")
    if daemon.url:
        if isinstance(wrong, ssl.SSLError) and wrong.reason in NO_TLS:
            return NoDaemon(f"what answers at {daemon.url} speaks no TLS: use http://{urlsplit(daemon.url).netloc}")
        why = "connection refused" if isinstance(wrong, ConnectionRefusedError) else _reason(wrong)
        here = urlsplit(daemon.url).hostname in LOOPBACK
        start = mend() if here else "start it with: systemctl start netscand"
        return NoDaemon(f"netscand does not answer at {daemon.url} ({why})", f"{start}, or see [listen] tcp there")
    if isinstance(wrong, PermissionError):
        return NotPermitted(
            f"you may not use {daemon.socket}: ask for membership of the group netscan "
            "(usermod -aG netscan USER, then log in anew)"
        )
    if isinstance(wrong, FileNotFoundError):
        return NoDaemon(f"netscand is not running (no socket {daemon.socket})", mend())
    if isinstance(wrong, ConnectionRefusedError):
        return NoDaemon(f"netscand is not running (nobody listens on the socket {daemon.socket})", mend())
    return NoDaemon(f"netscand cannot be reached at {daemon.socket} ({_reason(wrong)})", mend())


def or_tls(daemon: Daemon) -> str:
    """What to try where a question in plain HTTP over TCP got no answer."""
    plain = daemon.url is not None and daemon.url.startswith("http://")
    return f"; if it speaks TLS, use https://{urlsplit(daemon.url or '').netloc}" if plain else ""


def _reason(wrong: OSError) -> str:
    return str(wrong.strerror or wrong)


def stranger(daemon: Daemon) -> Failure:
    """What answers there is no netscand."""
    return NoDaemon(f"what answers at {daemon.place} is not netscand")


def refused(daemon: Daemon, status: int, content: bytes = b"") -> Failure:
    """The failure that an HTTP status above 399 stands for; `content` is the answer's body, where there is one."""
    try:
        message = msgspec.json.decode(content, type=protocol.ErrorAnswer).error.message
    except msgspec.DecodeError:
        message = ""
    if status == 401:
        wish = "the token of --token-file is not accepted" if daemon.token else "a token is needed: --token-file FILE"
        return NotPermitted(f"{message or 'not permitted'}: {wish}")
    if status == 403:
        group = "ask for membership of the group netscan (usermod -aG netscan USER, then log in anew), or use"
        there = "use --socket on the daemon's own host, or a token of that role:"
        return NotPermitted(f"{message or 'not permitted'}: {there if daemon.url else group} --token-file FILE")
    if not message and (status == 404 or status not in protocol.ERROR_STATUS.values()):
        return stranger(daemon)
    return Failure(message or f"the daemon at {daemon.place} refused ({http.client.responses[status]})")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(daemon: Daemon) -> http.client.HTTPConnection:
    if not daemon.url:
        return _UnixConnection(daemon.socket)
    parts = urlsplit(daemon.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port)


def device_path(mac: str) -> str:
    """The path of one device."""
    return f"/api/devices/{quote(mac)}"


def scan_wish(targets: Sequence[str]) -> bytes:
    """The body that wishes for a scan."""
    return protocol.encode(protocol.ScanWish(targets=list(targets)))
