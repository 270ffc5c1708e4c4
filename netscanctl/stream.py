"""Stream of events: a WebSocket that reconnects and resumes."""

import asyncio
import errno
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from netscanctl.client import (
    CONNECT,
    Daemon,
    Failure,
    Incompatible,
    NoDaemon,
    TimedOut,
    Versions,
    check_protocol,
    connection_failure,
    connection_pause,
    http_failure,
    https_hint,
    invalid_message,
)
from netscand import protocol

if TYPE_CHECKING:
    import aiohttp

RECONNECT_DELAY = 3.0
"""Seconds from a lost connection to the next attempt (as in the push document)."""
HEARTBEAT = 10.0
"""Seconds between pings; the connection is closed if the answer takes more than half of it."""
CONNECT_TIMEOUT = 10.0
"""Seconds to connect."""


class Received(NamedTuple):
    """Message as received, and decoded (None: the type is unknown to this version)."""

    raw: bytes
    message: protocol.ServerMessage | None


async def follow(
    daemon: Daemon,
    notice: Callable[[str], None],
    *,
    query: Mapping[str, str] | None = None,
    since: str | None = None,
    requests: Sequence[protocol.ClientMessage] = (),
    reconnect_delay: float = RECONNECT_DELAY,
    heartbeat: float = HEARTBEAT,
) -> AsyncGenerator[Received, None]:
    """Yield every message without end: the snapshot, then events as they happen.

    If the connection drops, report it with `notice`, reconnect after `reconnect_delay` seconds and resume at the last
    cursor; `requests` are sent on each connection. Raises Failure if the first attempt fails, and Incompatible if the
    daemon returns in another version.
    """
    tracker = CursorTracker(since)
    connected = lost = False
    while True:
        try:
            async with aclosing(
                _connection(daemon, {**(query or {}), **tracker.query}, requests, heartbeat)
            ) as messages:
                async for received in messages:
                    if lost:
                        notice("connected again")
                    connected, lost = True, False
                    tracker.advance(received.message)
                    yield received
            if not connected:
                raise NoDaemon(f"the daemon at {daemon.address} closed the connection at once")
        except Incompatible:
            raise
        except Failure:
            if not connected:
                raise
        if not lost:
            notice("connection lost; reconnecting…")
        lost = True
        await asyncio.sleep(reconnect_delay)


class CursorTracker:
    """Cursor after the last message from which the stream can be resumed."""

    def __init__(self, cursor: str | None = None) -> None:
        self.cursor = cursor
        self._snapshot: str | None = None

    @property
    def query(self) -> dict[str, str]:
        """Return the query parameters to resume at the cursor."""
        return {"updates": "changes", **({"since": self.cursor} if self.cursor else {})}

    def advance(self, message: protocol.ServerMessage | None) -> None:
        """Take the cursor of a message; that of a snapshot only after its last part, as a part cannot be resumed."""
        match message:
            case protocol.InitialState(more=True):
                self._snapshot = message.cursor
            case protocol.InitialState() | protocol.Resumed():
                self.cursor, self._snapshot = message.cursor, None
            case protocol.Devices(more=False) if self._snapshot:
                self.cursor, self._snapshot = self._snapshot, None
            case protocol.Event() | protocol.ScanUpdate() | protocol.Lagged() if not self._snapshot:
                self.cursor = message.cursor


@asynccontextmanager
async def _session(daemon: Daemon) -> AsyncIterator["aiohttp.ClientSession"]:
    """Open an HTTP session; raise its errors as Failure."""
    import aiohttp

    connector = None if daemon.url else aiohttp.UnixConnector(daemon.socket)
    # No total timeout: a scan may take minutes, a stream days.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
    try:
        async with aiohttp.ClientSession(connector=connector, headers=daemon.headers, timeout=timeout) as session:
            yield session
    except aiohttp.ClientConnectorError as error:
        raise connection_failure(daemon, error.os_error) from None
    except TimeoutError:
        raise TimedOut(f"the daemon at {daemon.address} did not answer in {CONNECT_TIMEOUT:g} s") from None
    except aiohttp.ClientError as error:
        hint = https_hint(daemon) if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError) else ""
        raise NoDaemon(f"the connection to the daemon at {daemon.address} failed: {error}", hint) from None


Answer = TypeVar("Answer")


async def _connect(daemon: Daemon, request: Callable[[], Awaitable[Answer]]) -> Answer:
    """Make a request, for CONNECT seconds again while too many connections wait for the daemon.

    connect(2) of a Unix socket fails then with EAGAIN, which asyncio takes for success.
    """
    import aiohttp

    ends = time.monotonic() + CONNECT
    while True:
        try:
            return await request()
        except aiohttp.ClientOSError as error:
            if daemon.url or error.errno not in (errno.ENOTCONN, None):  # None: closed before the request was written
                raise
            if time.monotonic() >= ends:
                raise connection_failure(daemon, BlockingIOError()) from None
        await asyncio.sleep(connection_pause())


async def post(daemon: Daemon, path: str, body: bytes) -> bytes:
    """Send POST; return the body of the answer, without a timeout. Raises Failure."""
    headers = {"Content-Type": "application/json"}
    async with (
        _session(daemon) as session,
        await _connect(daemon, lambda: session.post(daemon.origin + path, data=body, headers=headers)) as answer,
    ):
        content = await answer.read()
        if answer.status >= 400:
            raise http_failure(daemon, answer.status, content)
        return content


async def _connection(
    daemon: Daemon, query: Mapping[str, str], requests: Sequence[protocol.ClientMessage], heartbeat: float
) -> AsyncGenerator[Received, None]:
    """Yield the messages of one connection until it ends. Raises Failure if it cannot be made."""
    import aiohttp

    async with _session(daemon) as session:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            # No limit on the size of a message: a device may be large.
            try:
                socket = await _connect(
                    daemon,
                    lambda: session.ws_connect(
                        f"{daemon.origin}/ws", params=query, max_msg_size=0, heartbeat=heartbeat
                    ),
                )
            except aiohttp.WSServerHandshakeError as answer:
                raise http_failure(daemon, answer.status, await _body(session, daemon, query, answer.status)) from None
        async with socket:
            for request in requests:
                await socket.send_str(protocol.encode(request).decode())
            async for frame in socket:
                if frame.type is aiohttp.WSMsgType.TEXT:
                    yield decode(daemon, frame.data.encode())


async def _body(session: "aiohttp.ClientSession", daemon: Daemon, query: Mapping[str, str], status: int) -> bytes:
    """Return the body of a refused handshake by a plain request: aiohttp discards the first one."""
    async with session.get(f"{daemon.origin}/ws", params=query) as answer:
        return await answer.read() if answer.status == status else b""


class _Type(msgspec.Struct):
    type: str


_TYPES = {str(kind.__struct_config__.tag) for kind in protocol.ServerMessage.__args__}


def _has_unknown_type(raw: bytes) -> bool:
    try:
        return msgspec.json.decode(raw, type=_Type).type not in _TYPES
    except msgspec.DecodeError:
        return False


def decode(daemon: Daemon, raw: bytes) -> Received:
    """Decode a message. Raises Incompatible for an invalid message of a known type, or another protocol."""
    try:
        message = protocol.decode_server(raw)
    except msgspec.DecodeError as error:
        if _has_unknown_type(raw):
            return Received(raw, None)
        with suppress(msgspec.DecodeError):
            check_protocol(daemon, msgspec.json.decode(raw, type=Versions))
        raise invalid_message(daemon, error) from None
    if isinstance(message, protocol.InitialState | protocol.Resumed):
        check_protocol(daemon, message)
    return Received(raw, message)
