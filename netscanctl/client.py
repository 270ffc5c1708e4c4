"""HTTP client for the daemon: standard library only, over its Unix socket or TCP.

Errors are translated once, here, into a `Failure`: one line that says what to do, and an exit code.
"""

import http.client
import os
import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from netscanctl.connect_hint import start_hint
from netscanctl.text import clean
from netscand import __version__, protocol
from netscand.checkout import for_checkout

DEFAULT_SOCKET = "/run/netscand/netscand.sock"
TIMEOUT = 30.0
"""Seconds for one answer; a daemon that needs longer hangs."""
CONNECT = 2.0
"""Seconds to connect to a socket where too many connections wait already (EAGAIN)."""
CHUNK = 64 * 1024
"""Bytes of a large answer that are read at a time."""
NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
"""Errors of OpenSSL for an answer in plain HTTP; its versions differ."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
URL_PATH = re.compile(r"(?:/[\w.~!$&'()*+,;=:@%-]+)*/?", re.ASCII)
"""Path of a URL (RFC 3986, section 3.3) without empty segments."""
PATH_LIMIT = 107
"""Bytes of the path of a Unix socket (`sun_path` in unix(7), without its NUL)."""

GROUP = "netscan"
"""Group that has the role admin by default."""
CHECK_URL = "check the address, the port ([listen] tcp there), the firewall of that host, and that netscand runs there"
DOCTOR = "to find out why: netscanctl doctor"
MOST_NAMED = 8
"""Sites or devices that a message names."""

Answer = TypeVar("Answer")


class Failure(Exception):
    """Error that ends a command: one line for people, `exit_code` for programs. The base class: the daemon refused."""

    exit_code = 1
    status = 0
    """HTTP status of the answer; 0: there was none."""

    def __init__(self, cause: str, hint: str = "") -> None:
        super().__init__(for_checkout(f"{cause}; {hint}" if hint else cause))
        self.cause = cause
        """Message without the hint."""
        self.hint = hint


class Usage(Failure):
    """Invalid option or argument."""

    exit_code = 2


class NoDaemon(Failure):
    """No answer from a daemon; `doctor` finds out why."""

    exit_code = 3

    def __init__(self, cause: str, hint: str = "") -> None:
        super().__init__(cause, f"{hint}; {DOCTOR}" if hint else DOCTOR)
        self.hint = hint


class NotPermitted(Failure):
    """Permission missing for this user or token."""

    exit_code = 4


class Incompatible(Failure):
    """Daemon with another version of the protocol."""

    exit_code = 5


class TimedOut(Failure):
    """Timeout."""

    exit_code = 6


@dataclass(frozen=True, slots=True)
class Daemon:
    """Address of the daemon: its Unix socket, or TCP with `url` (http or https, host, port, path of a proxy)."""

    socket: str = DEFAULT_SOCKET
    url: str | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Return the socket or URL, for messages."""
        return self.url or self.socket

    @property
    def origin(self) -> str:
        """Return the URL prefix of requests; over the Unix socket the host name has no meaning."""
        return self.url or "http://localhost"

    @property
    def prefix(self) -> str:
        """Return the part of the URL before the path of a request: that of a proxy, without a slash at its end."""
        return urlsplit(self.url).path if self.url else ""

    @property
    def headers(self) -> dict[str, str]:
        """Return the request headers; the token is sent here and nowhere else (T18)."""
        headers = {"User-Agent": f"netscanctl/{__version__}"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers


def socket_or_url(socket_path: str | None, url: str | None) -> tuple[str | None, str | None]:
    """Return socket and URL from the options, else from the environment. Raises Usage if both are set."""
    if not socket_path and not url:
        socket_path, url = os.environ.get("NETSCANCTL_SOCKET"), os.environ.get("NETSCANCTL_URL")
    if socket_path and url:
        raise Usage("both a socket and a URL are given; use only one")
    return socket_path, url


def find_daemon(socket_path: str | None, url: str | None, token_file: str | None) -> Daemon:
    """Return the daemon for the global options. Raises Usage, or NotPermitted for an unreadable token file."""
    path = socket_path or DEFAULT_SOCKET
    if len(path.encode()) > PATH_LIMIT:
        raise Usage(f"--socket: the path has {len(path.encode())} bytes; a Unix socket allows at most {PATH_LIMIT}")
    return Daemon(path, _check_url(url) if url else None, _read_token(Path(token_file)) if token_file else None)


def _check_url(url: str) -> str:
    shown = "" if set("@?#") & set(url) else f" {url!r}"  # it may contain a password or a token
    expected = f"--url{shown}: expected http://HOST:PORT or https://HOST:PORT, with the path of a proxy if there is one"
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise Usage(f"{expected} ({error})") from None
    if not valid:
        raise Usage(expected)
    if parts.username is not None or not URL_PATH.fullmatch(parts.path) or parts.query or parts.fragment:
        raise Usage(f"{expected}, and nothing else; pass a token with --token-file")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _read_token(path: Path) -> str:
    try:
        token = path.read_bytes().strip()
    except PermissionError:
        raise NotPermitted(f"--token-file: no permission to read {path}") from None
    except OSError as error:
        raise Usage(f"--token-file: {path}: {error.strerror}") from None
    if not token or not token.isascii() or any(byte <= 32 or byte == 127 for byte in token):
        raise Usage(f"--token-file: {path}: expected only a token, on one line")
    return token.decode()


class Client:
    """HTTP client with one connection, which stays open until `close`."""

    def __init__(self, daemon: Daemon, site: str | None = None, warn: Callable[[str], object] = lambda _: None) -> None:
        """`warn` gets each warning of the daemon (protocol.WARNING_HEADER), once if it repeats."""
        self.daemon = daemon
        self._warn = warn
        self._warned = ""
        self.site = site
        """Site of a hub that requests about devices, networks and events are limited to; None: all."""
        self._connection = _connection(daemon)
        self._checked = False

    def get(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """Send GET; return the body of the answer. Raises Failure."""
        self._check()
        return self._request("GET", self._limited(f"{path}?{urlencode(query)}" if query else path))

    def sites(self, name: str | None = None) -> bytes | None:
        """Return the sites of a hub, or only the one with a name; None: this is no hub. Raises Failure."""
        self.check_version()
        query = f"?{urlencode({'site': name})}" if name else ""
        try:
            return self._request("GET", f"/api/sites{query}")
        except Failure as failure:
            if failure.status != 404:
                raise
            return None

    def check(self) -> None:
        """Check the version, and that the site exists. Raises Failure."""
        self._check()

    def post(self, path: str, body: bytes, *, timeout: float | None = TIMEOUT) -> bytes:
        """Send POST; return the body of the answer; `timeout` in seconds, None for no limit. Raises Failure."""
        self._check()
        return self._request("POST", path, body, timeout)

    def patch(self, path: str, body: bytes, *, minimal: bool = False) -> bytes:
        """Send PATCH; return the body of the answer, `minimal`: only what is quickly found. Raises Failure."""
        self._check()
        headers = {"Prefer": "return=minimal"} if minimal else {}
        return self._request("PATCH", self._limited(path), body, headers=headers)

    def delete(self, path: str) -> bytes:
        """Send DELETE; return the body of the answer, which may be empty. Raises Failure."""
        self._check()
        return self._request("DELETE", self._limited(path))

    def fetch(self, path: str, write: Callable[[bytes], object], *, timeout: float = TIMEOUT) -> None:
        """Send GET; pass the body to `write` in chunks, as it comes. Raises Failure, and the exceptions of `write`."""
        self._check()
        answer = self._send("GET", path, None, timeout)
        while True:
            with self._translate_errors():
                chunk = answer.read1(CHUNK)
            if not chunk:
                break
            write(chunk)
        if answer.length:  # http.client does not report a truncated body here
            raise self._disconnected()

    def read(self, answer: bytes, kind: type[Answer]) -> Answer:
        """Decode an answer. Raises Incompatible."""
        try:
            return msgspec.json.decode(answer, type=kind)
        except msgspec.DecodeError as error:
            raise invalid_message(self.daemon, error) from None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _limited(self, path: str) -> str:
        """Return a path with the site in its query."""
        site = urlencode({"site": self.site}) if self.site else ""
        return f"{path}{'&' if '?' in path else '?'}{site}" if site else path

    def _check(self) -> None:
        """Check the version, and the site: a netscand of one host would answer with empty lists."""
        if self._checked:
            return
        self.check_version()
        if self.site is None:
            return
        answer = self.sites(self.site)
        if answer is not None and self.read(answer, protocol.SiteList).sites:
            return
        self._checked = False
        every = self.sites()
        if every is None:
            raise self.no_hub(f"site {clean(self.site)}", "omit --site, or connect to a hub")
        names = [clean(each.site) for each in self.read(every, protocol.SiteList).sites]
        more = ", …" if len(names) > MOST_NAMED else ""
        raise Failure(
            f'no site "{clean(self.site)}"', f"the sites are {', '.join(names[:MOST_NAMED]) or 'none yet'}{more}"
        )

    def no_hub(self, what: str, hint: str) -> Failure:
        """Return the failure for something that only a hub has."""
        return Failure(
            f"netscand at {self.daemon.address} is one host, not a hub of sites, and has no {what}",
            f"{hint}: netscanctl --url URL",
        )

    def check_version(self) -> None:
        """Check the protocol before the first request: an answer of another version may decode, and be wrong."""
        if not self._checked:
            status = self._request("GET", "/api/status")
            try:
                check_protocol(self.daemon, msgspec.json.decode(status, type=Versions))
            except msgspec.DecodeError:
                raise not_netscand(self.daemon) from None
            self._checked = True

    def _request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        timeout: float | None = TIMEOUT,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        answer = self._send(method, target, body, timeout, headers or {})
        with self._translate_errors():
            return answer.read()

    def _send(
        self, method: str, target: str, body: bytes | None, timeout: float | None, more: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Send a request; return the answer before its body is read. Raises Failure."""
        connection = self._connection
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        headers = self.daemon.headers | dict(more or {})
        if body is not None:
            headers["Content-Type"] = "application/json"
        with self._translate_errors():
            connection.request(method, self.daemon.prefix + target, body, headers)
            answer = connection.getresponse()
            content = answer.read() if answer.status >= 300 else b""
        if answer.status >= 300:
            failure = http_failure(self.daemon, answer.status, content)
            failure.status = answer.status
            raise failure
        warning = answer.headers.get(protocol.WARNING_HEADER, "").encode("latin-1").decode(errors="replace")
        if warning and warning != self._warned:
            self._warned = warning
            self._warn(f"warning: {warning}")
        return answer

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise errors of the connection as Failure."""
        try:
            yield
        except (http.client.RemoteDisconnected, http.client.IncompleteRead, ConnectionResetError, BrokenPipeError):
            raise self._disconnected() from None
        except http.client.HTTPException:
            raise not_netscand(self.daemon) from None
        except OSError as error:
            raise connection_failure(self.daemon, error) from None

    def _disconnected(self) -> Failure:
        hint = "" if self._checked else https_hint(self.daemon)
        return NoDaemon(f"the daemon at {self.daemon.address} closed the connection before it answered", hint)


class Versions(msgspec.Struct):
    """Part of a status that every version can decode."""

    protocol: int
    version: str


def check_protocol(daemon: Daemon, versions: Versions | protocol.InitialState | protocol.Resumed) -> None:
    """Raise Incompatible if the daemon uses another protocol than this netscanctl."""
    if versions.protocol != protocol.PROTOCOL:
        older = "netscand" if versions.protocol < protocol.PROTOCOL else "netscanctl"
        raise Incompatible(
            f"incompatible versions: netscand {versions.version} at {daemon.address} uses protocol "
            f"{versions.protocol}, netscanctl {__version__} uses {protocol.PROTOCOL}",
            f"upgrade {older}",
        )


def invalid_message(daemon: Daemon, error: msgspec.DecodeError) -> Failure:
    """Return the failure for a message that does not decode."""
    return Incompatible(
        f"invalid message from the daemon at {daemon.address} ({error})",
        "install netscand and netscanctl of one version",
    )


def connection_failure(daemon: Daemon, error: OSError) -> Failure:
    """Return the failure for a connection that could not be made."""
    if isinstance(error, TimeoutError):
        return TimedOut(f"the daemon at {daemon.address} did not answer in time", CHECK_URL if daemon.url else "")
    if daemon.url:
        if isinstance(error, ssl.SSLError) and error.reason in NO_TLS:
            return NoDaemon(f"the server at {daemon.url} does not use TLS", f"use {_with_scheme(daemon.url, 'http')}")
        reason = "connection refused" if isinstance(error, ConnectionRefusedError) else _reason(error)
        return NoDaemon(f"netscand does not answer at {daemon.url} ({reason})", _url_hint(daemon.url, error))
    if isinstance(error, PermissionError):
        return NotPermitted(f"no permission to use {daemon.socket}", admin_hint())
    if isinstance(error, FileNotFoundError):
        return NoDaemon(f"netscand is not running (no socket {daemon.socket})", start_hint())
    if isinstance(error, ConnectionRefusedError):
        return NoDaemon(f"netscand is not running (nothing listens on the socket {daemon.socket})", start_hint())
    if isinstance(error, BlockingIOError):
        return NoDaemon(f"too many connections wait for netscand at {daemon.socket}", "try again, or use --url")
    return NoDaemon(f"cannot connect to netscand at {daemon.socket} ({_reason(error)})", start_hint())


def _url_hint(url: str, error: OSError) -> str:
    """Return what to do about a connection over TCP that could not be made."""
    host = urlsplit(url).hostname
    if isinstance(error, socket.gaierror):
        return f'check the name "{host}": it has no address here; or use the IP address of that host'
    if isinstance(error, ssl.SSLCertVerificationError):
        return "use a name that its certificate has, and let this host trust it"
    return f"{start_hint()}; or check its [listen] tcp" if host in LOOPBACK else CHECK_URL


SUDO = "run it with sudo"


def admin_hint() -> str:
    """Return how a user of this host gets the role admin; there is no group without the service."""
    import grp  # only needed here

    try:
        grp.getgrnam(GROUP)
    except KeyError:
        return SUDO
    return f"{SUDO}, or join the group {GROUP} (as root: usermod -aG {GROUP} USER; then log in again)"


def https_hint(daemon: Daemon) -> str:
    """Return the URL to try if a request in plain HTTP over TCP got no answer."""
    plain = daemon.url is not None and daemon.url.startswith("http://")
    return f"if it uses TLS, try {_with_scheme(daemon.url or '', 'https')}" if plain else ""


def _with_scheme(url: str, scheme: str) -> str:
    return urlsplit(url)._replace(scheme=scheme).geturl()


def _reason(error: OSError) -> str:
    return str(error.strerror or error)


def not_netscand(daemon: Daemon) -> Failure:
    """Return the failure for an answer of another server."""
    return NoDaemon(f"the server at {daemon.address} is not netscand", "check --socket or --url")


def http_failure(daemon: Daemon, status: int, content: bytes = b"") -> Failure:
    """Return the failure for an HTTP status above 299; `content` is the body of the answer."""
    try:
        message = msgspec.json.decode(content, type=protocol.ErrorAnswer).error.message
    except msgspec.DecodeError:
        message = ""
    if 300 <= status < 400:
        return NoDaemon(f"the server at {daemon.address} redirects requests", "use the URL to which it redirects")
    if status == 401 and daemon.url and not message:
        hint = "netscanctl sends only tokens; use --socket on the daemon's host"
        return NotPermitted(f"a proxy at {daemon.url} requires a login", hint)
    if status == 401:
        create = "to create one on its host: sudo netscanctl token add ROLE"
        if daemon.token:
            return NotPermitted(f"the token in --token-file is unknown to the daemon at {daemon.address}", create)
        return NotPermitted(message or "not permitted", f"use --token-file FILE; {create}")
    if status == 403:
        if " site " in message:  # a site does not allow it, with any role
            return NotPermitted(message)
        message = message.removesuffix("; send a token with that role")
        file = "use --token-file FILE"
        hint = f"{file}, or use --socket on the daemon's host" if daemon.url else f"{admin_hint()}, or {file}"
        return NotPermitted(message or "not permitted", hint)
    if status == 421 and message and daemon.url:
        name = urlsplit(daemon.url).hostname
        return Failure(message, f'on its host, add "{name}" to [access] allowed_hosts, and reload netscand')
    if not message and (status == 404 or status not in protocol.ERROR_STATUS.values()):
        return not_netscand(daemon)
    if message == "no such resource":
        return Failure(
            f"netscand at {daemon.address} does not have this",
            "ask netscand at a site if this is a hub of sites, else upgrade netscand",
        )
    if status == 409:  # a MAC at several sites
        return Failure(message.replace("site=NAME", "--site NAME"))
    return Failure(message or f"the daemon at {daemon.address} refused the request ({http.client.responses[status]})")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        ends = time.monotonic() + CONNECT
        while True:
            try:
                return self.sock.connect(self._path)
            except BlockingIOError:  # too many connections wait to be accepted
                if time.monotonic() >= ends:
                    raise
            time.sleep(connection_pause())


def connection_pause() -> float:
    """Return the seconds before another attempt to connect: not the same for all that wait."""
    return random.uniform(0.001, 0.02)  # noqa: S311 - no secret


def _connection(daemon: Daemon) -> http.client.HTTPConnection:
    if not daemon.url:
        return _UnixConnection(daemon.socket)
    parts = urlsplit(daemon.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port)


def device_path(mac: str) -> str:
    """Return the API path of a device."""
    return f"/api/devices/{quote(mac)}"


def scan_request(targets: Sequence[str], site: str | None = None) -> bytes:
    """Return the body of a scan request; `site`: only to a hub."""
    return protocol.encode(protocol.ScanRequest(targets=list(targets), site=site or msgspec.UNSET))
