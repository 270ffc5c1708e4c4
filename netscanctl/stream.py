"""The stream of changes: a WebSocket that is made anew, for ever, and goes on where it left off."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from netscanctl.client import Daemon, Failure, Misfit, NoDaemon, Spoken, TimedOut, fitting, or_tls, refused, unreachable
from netscand import protocol

if TYPE_CHECKING:
    import aiohttp

RECONNECT = 3.0
"""Seconds from a lost connection to the next attempt (the push document's)."""
HEARTBEAT = 10.0
"""Seconds between our pings; a daemon that does not answer one within half of it is given up."""
HANDSHAKE = 10.0
"""Seconds for a connection to come about."""


class Heard(NamedTuple):
    """One message: as it came, and understood (None: of a type that this version does not know)."""

    raw: bytes
    message: protocol.ServerMessage | None


async def follow(
    daemon: Daemon,
    talk: Callable[[str], None],
    *,
    query: Mapping[str, str] | None = None,
    since: str | None = None,
    wishes: Sequence[protocol.ClientMessage] = (),
    pause: float = RECONNECT,
    heartbeat: float = HEARTBEAT,
) -> AsyncGenerator[Heard, None]:
    """Every message, for ever: the snapshot, then changes as they happen.

    A lost connection is told to `talk`, made anew after `pause` seconds, and resumed at the last cursor; `wishes` are
    sent on each. Raises Failure where the first attempt fails, and Misfit where another daemon comes back.
    """
    place = Place(since)
    connected = lost = False
    while True:
        try:
            async with aclosing(_connection(daemon, {**(query or {}), **place.query}, wishes, heartbeat)) as messages:
                async for heard in messages:
                    if lost:
                        talk("connected again")
                    connected, lost = True, False
                    place.note(heard.message)
                    yield heard
            if not connected:
                raise NoDaemon(f"the daemon at {daemon.place} closed the connection at once")
        except Misfit:
            raise
        except Failure:
            if not connected:
                raise
        if not lost:
            talk("connection lost, connecting…")
        lost = True
        await asyncio.sleep(pause)


class Place:
    """Where in the stream we are: the cursor of what was received wholly."""

    def __init__(self, cursor: str | None = None) -> None:
        self.cursor = cursor
        self._snapshot: str | None = None

    @property
    def query(self) -> dict[str, str]:
        """What to ask for, to go on from here."""
        return {"updates": "changes", **({"since": self.cursor} if self.cursor else {})}

    def note(self, message: protocol.ServerMessage | None) -> None:
        """Move on. A snapshot counts only when its last part is here: half of it cannot be resumed."""
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
async def _reach(daemon: Daemon) -> AsyncIterator["aiohttp.ClientSession"]:
    """A session; what goes wrong before an answer, as Failure."""
    import aiohttp

    connector = None if daemon.url else aiohttp.UnixConnector(daemon.socket)
    # No limit on the whole: a scan may take minutes, a stream days.
    waits = aiohttp.ClientTimeout(total=None, sock_connect=HANDSHAKE)
    try:
        async with aiohttp.ClientSession(connector=connector, headers=daemon.headers, timeout=waits) as session:
            yield session
    except aiohttp.ClientConnectorError as wrong:
        raise unreachable(daemon, wrong.os_error) from None
    except TimeoutError:
        raise TimedOut(f"the daemon at {daemon.place} did not answer in {HANDSHAKE:g} s") from None
    except aiohttp.ClientError as wrong:
        tls = or_tls(daemon) if isinstance(wrong, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError) else ""
        raise NoDaemon(f"the connection to the daemon at {daemon.place} failed: {wrong}{tls}") from None


async def post(daemon: Daemon, path: str, body: bytes) -> bytes:
    """The body of the answer to POST, however long it takes. Raises Failure."""
    kind = {"Content-Type": "application/json"}
    async with _reach(daemon) as session, session.post(daemon.origin + path, data=body, headers=kind) as answer:
        content = await answer.read()
        if answer.status >= 400:
            raise refused(daemon, answer.status, content)
        return content


async def _connection(
    daemon: Daemon, query: Mapping[str, str], wishes: Sequence[protocol.ClientMessage], heartbeat: float
) -> AsyncGenerator[Heard, None]:
    """The messages of one connection, until it ends. Raises Failure where none comes about."""
    import aiohttp

    async with _reach(daemon) as session:
        async with asyncio.timeout(HANDSHAKE):
            # No limit on a message: one device may be large.
            try:
                socket = await session.ws_connect(
                    f"{daemon.origin}/ws", params=query, max_msg_size=0, heartbeat=heartbeat
                )
            except aiohttp.WSServerHandshakeError as answer:
                raise refused(daemon, answer.status, await _sentence(session, daemon, query, answer.status)) from None
        async with socket:
            for wish in wishes:
                await socket.send_str(protocol.encode(wish).decode())
            async for told in socket:
                if told.type is aiohttp.WSMsgType.TEXT:
                    yield understand(daemon, told.data.encode())


async def _sentence(session: "aiohttp.ClientSession", daemon: Daemon, query: Mapping[str, str], status: int) -> bytes:
    """The body that a refused handshake came with: aiohttp throws it away, and a plain request is refused the same."""
    async with session.get(f"{daemon.origin}/ws", params=query) as answer:
        return await answer.read() if answer.status == status else b""


class _Stub(msgspec.Struct):
    type: str


_TYPES = {str(kind.__struct_config__.tag) for kind in protocol.ServerMessage.__args__}


def _is_new(raw: bytes) -> bool:
    """Whether a message is of a type that this version does not know."""
    try:
        return msgspec.json.decode(raw, type=_Stub).type not in _TYPES
    except msgspec.DecodeError:
        return False


def understand(daemon: Daemon, raw: bytes) -> Heard:
    """A message, decoded. Raises Misfit for a known type in a shape we cannot read, or another protocol."""
    try:
        message = protocol.decode_server(raw)
    except msgspec.DecodeError as wrong:
        if _is_new(raw):
            return Heard(raw, None)
        with suppress(msgspec.DecodeError):
            fitting(daemon, msgspec.json.decode(raw, type=Spoken))
        raise Misfit(f"the daemon at {daemon.place} says what netscanctl cannot read: {wrong}") from None
    if isinstance(message, protocol.InitialState | protocol.Resumed):
        fitting(daemon, message)
    return Heard(raw, message)
