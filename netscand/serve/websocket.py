"""`/ws`: the WebSocket, in both modes."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, cast, get_args

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from netscand import protocol
from netscand.core.model import Busy
from netscand.core.restore import CursorGone, Unreadable
from netscand.serve import websocket_frames
from netscand.serve.auth import SUBPROTOCOL, Role, need
from netscand.serve.connection import Connection
from netscand.serve.connection_limits import RESERVED
from netscand.serve.fair_turns import Account
from netscand.serve.full_mode import FullMode, send_list
from netscand.serve.histograms import until_next
from netscand.serve.history_api import HistoryApi
from netscand.serve.http import HEADERS, Refused, connection_of
from netscand.serve.hub import Hub
from netscand.serve.ports import Scanner, request_scan
from netscand.serve.query import NOT_READABLE, Filter, cursor_of, filter_of
from netscand.serve.snapshot import Snapshot
from netscand.serve.subscriber import Subscriber
from netscand.serve.summary import Summary
from netscand.validation_messages import not_readable

PING = 20.0
"""Seconds of silence after which a client is pinged."""

GONE = 40.0
"""Seconds of silence after which its connection counts as lost."""

BUSY = "your other requests of the history take too long; resume later"
"""Reason of a close frame: at most 123 bytes."""

DATA = WSMsgType.TEXT, WSMsgType.BINARY

log = logging.getLogger(__name__)


class WebSocketEndpoint:
    """All WebSockets."""

    def __init__(
        self,
        scanner: Scanner,
        hub: Hub,
        overview: Summary,
        lists: FullMode,
        past: HistoryApi | None,
        max_clients: int,
    ) -> None:
        self._scanner = scanner
        self._lists = lists
        self._past = past
        self._hub = hub
        self._overview = overview
        self.refused = 0
        """WebSockets that were refused or closed because of `max_clients`."""
        self._max_clients = max_clients
        self._open: dict[Connection, Subscriber] = {}
        self._last_left = asyncio.Event()
        self._taken = 0
        """WebSockets, including those that wait for the handshake."""

    @property
    def clients(self) -> int:
        """Return the number of WebSockets that are open."""
        return len(self._open)

    # ---- one client -----------------------------------------------------------------------------------------------

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Serve a WebSocket until the client disconnects."""
        given = request.query
        updates = given.get("updates", "full")
        if updates not in ("full", "changes"):
            raise Refused("bad_request", f"updates={updates[:64]}: expected full or changes")
        connection = connection_of(request)
        fits, since = filter_of(given, connection.sites), cursor_of(given)
        handshake = request.headers.get("Upgrade", "").lower() == "websocket"
        # Before 426: a browser gets no reason for a refused WebSocket, and asks with a plain request.
        if self._taken >= self._max_clients + (RESERVED if connection.peer.privileged else 0):
            self.refused += handshake
            rival = self._rival(connection.account)
            if rival is None:
                raise Refused("busy", f"{self._taken} WebSockets are open ([listen] max_clients)")
            if handshake:
                why = "max_clients is reached, and other peers have fewer"
                self._open.pop(rival).close(WSCloseCode.TRY_AGAIN_LATER, why)
                rival.abort()
        if not handshake:
            why = "this is a WebSocket: connect with ws://… or wss://…; for plain requests use /api"
            raise Refused("bad_request", why, 426, {"Upgrade": "websocket", "Connection": "Upgrade"})
        self._taken += 1
        try:
            return await self._serve(request, updates == "full", fits, since)
        finally:
            self._taken -= 1

    def _rival(self, account: Account) -> Connection | None:
        """Return the connection to close for a new one of `account`: the newest of the account that has the most.

        None if no account has more than `account` would. With `max_per_peer` alone, a few accounts of this host could
        take all connections.
        """
        there = [each for each in self._open if not each.peer.privileged]
        counts = Counter(each.account for each in there)
        most = max(counts, key=counts.__getitem__, default=None)
        if counts[most] <= counts[account] + 1:
            return None
        return next(each for each in reversed(there) if each.account == most)

    async def _serve(self, request: web.Request, full: bool, fits: Filter, since: str | None) -> web.StreamResponse:
        connection = connection_of(request)
        offered = "Sec-WebSocket-Protocol" in request.headers
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,) if offered else (),
            compress=False,
            autoclose=False,
            autoping=False,  # pings wait for their turn, as all messages do
            max_msg_size=0,  # `_listen` and Connection check the size: aiohttp would close before the client reads why
            timeout=1.0,
        )
        socket.headers.update(HEADERS)
        await socket.prepare(request)
        transport = connection.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        subscriber = Subscriber(
            transport, fits, self._hub.bounds, full=full, closed=lambda: socket.closed, account=connection.account
        )
        connection.subscriber = subscriber
        self._open[connection] = subscriber
        client = _Client(
            self._scanner, self._hub, self._overview, self._lists, self._past, connection, subscriber, socket
        )
        try:
            await client.serve(None if full else since)
        except Exception:  # after the upgrade there is no HTTP answer to give
            log.exception("a WebSocket failed")
            subscriber.close(WSCloseCode.INTERNAL_ERROR)
        finally:
            self._hub.unsubscribe(subscriber)
            self._scanner.lease(subscriber, None)
            self._scanner.leave_scans(subscriber)
            if subscriber.ended:  # a close frame was sent; aiohttp, which does not know, must not send another
                transport.close()
            subscriber.on_disconnect()
            self._open.pop(connection, None)
            if not self._open:
                self._last_left.set()
            connection.subscriber = None
        return socket

    # ---- all clients ----------------------------------------------------------------------------------------------

    async def watch_over(self) -> None:
        """Ping silent clients, and cut those that do not answer; until cancelled."""
        ping = websocket_frames.ping()
        pinged: dict[Connection, float] = {}
        while True:
            await asyncio.sleep(until_next(1.0))
            now = asyncio.get_running_loop().time()
            pinged = {client: at for client, at in pinged.items() if client in self._open}
            for connection, subscriber in tuple(self._open.items()):
                silent = now - connection.active_at
                if silent >= GONE:
                    connection.abort()
                elif silent >= PING and not subscriber.ended and pinged.get(connection, 0.0) < now - PING:
                    pinged[connection] = now
                    if connection.transport is not None and not connection.transport.is_closing():
                        connection.transport.write(ping)

    def reauthorize(self) -> None:
        """Apply changed rights: close clients that may no longer read, end leases of those that may no longer scan."""
        for connection, subscriber in tuple(self._open.items()):
            sites = connection.sites
            connection.reauthorize()
            if connection.role < Role.SCAN:
                self._scanner.lease(subscriber, None)
            if connection.role < Role.READ or connection.sites != sites:
                self._hub.unsubscribe(subscriber)
                subscriber.close(WSCloseCode.POLICY_VIOLATION, "no longer authorized to read")

    def begin_again(self, reason: str) -> None:
        """Close all clients, which connect again: the events that they have are no longer those of the log."""
        for subscriber in tuple(self._open.values()):
            self._hub.unsubscribe(subscriber)
            subscriber.close(WSCloseCode.SERVICE_RESTART, reason)

    async def close(self, within: float) -> None:
        """Close all clients; cut those that do not answer within so many seconds."""
        for subscriber in tuple(self._open.values()):
            self._hub.unsubscribe(subscriber)
            subscriber.close(WSCloseCode.GOING_AWAY, "netscand stops")
        if self._open:
            self._last_left.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._last_left.wait()
        for connection in tuple(self._open):
            connection.abort()


class _Client:
    """One WebSocket while it is open."""

    def __init__(
        self,
        scanner: Scanner,
        hub: Hub,
        overview: Summary,
        lists: FullMode,
        past: HistoryApi | None,
        connection: Connection,
        subscriber: Subscriber,
        socket: web.WebSocketResponse,
    ) -> None:
        self._scanner = scanner
        self._hub = hub
        self._overview = overview
        self._lists = lists
        self._past = past
        self._connection = connection
        self._subscriber = subscriber
        self._socket = socket

    async def serve(self, since: str | None) -> None:
        """Send the snapshot or missed events, then new events; process messages; until the client disconnects."""
        subscriber, overview = self._subscriber, self._overview
        if since and self._past is not None:
            await self._past.reach(since)
        self._hub.subscribe(subscriber)
        account = self._connection.account
        with ExitStack() as resources:
            snapshot = resources.enter_context(self._hub.snapshot(subscriber.fits, account=account))
            first = overview.initial_state(snapshot.cursor, self._connection.role, subscriber.fits)

            async def begin() -> None:
                with resources.pop_all() as taken:  # not for as long as the client stays
                    async with subscriber.delivery(lambda: snapshot.bytes_kept):
                        if not (since and await self._resume(first, since, snapshot.cursor, taken.close)):
                            await self._begin(first, snapshot)
                if subscriber.full:
                    await self._lists.follow(subscriber, account)

            # No await from subscribe to here (law 3).
            async with asyncio.TaskGroup() as both:
                sending = both.create_task(begin())
                await self._listen()
                sending.cancel()

    async def _begin(self, first: protocol.InitialState, snapshot: Snapshot) -> None:
        subscriber = self._subscriber
        most = None if subscriber.full else protocol.SNAPSHOT_PART
        await send_list(subscriber, first, snapshot, most)
        while snapshot.left and not subscriber.ended:
            await send_list(subscriber, protocol.Devices(devices=[], more=False), snapshot, most)
        if not subscriber.ended:
            subscriber.release(snapshot.cursor)

    async def _resume(
        self, first: protocol.InitialState, since: str, through: str, succeeds: Callable[[], None]
    ) -> bool:
        """Send the missed events after calling `succeeds`; return False, and send nothing, if that is not possible."""
        if self._past is None:
            return False
        subscriber = self._subscriber
        missed = self._past.missed(since, through, subscriber.fits, account=self._connection.account)
        try:
            part = await anext(missed, None)
        except (CursorGone, Unreadable, ValueError) as gone:
            log.debug("not resumed: %s", gone)
            return False
        except Busy:  # not answered by a list: that is more work, and the client keeps its cursor
            subscriber.close(WSCloseCode.TRY_AGAIN_LATER, BUSY)
            return True
        succeeds()
        resumed = protocol.Resumed(
            cursor=since,
            version=first.version,
            protocol=first.protocol,
            interval=first.interval,
            scanning=first.scanning,
            role=first.role,
            networks=first.networks,
            sites=first.sites,
        )
        await subscriber.send(*websocket_frames.text(protocol.encode(resumed)))
        try:
            while part is not None and not subscriber.ended:
                for cursor, message in part:
                    subscriber.cursor = cursor
                    await subscriber.send(*websocket_frames.text(message))
                part = await anext(missed, None)
        except Busy:
            subscriber.close(WSCloseCode.TRY_AGAIN_LATER, BUSY)
        except (CursorGone, Unreadable) as gone:  # removed or damaged: the client gets a fresh list when it comes back
            log.info("a stream could not be resumed completely: %s", gone)
            subscriber.close(WSCloseCode.INTERNAL_ERROR, "the history changed; connect again")
        if not subscriber.ended:
            subscriber.release(through)
        return True

    async def _listen(self) -> None:
        connection, turns = self._connection, self._hub.turns
        too_large = False
        while True:
            if not too_large:
                connection.listen()
            try:
                message = await self._socket.receive()
            except ConnectionError:
                return
            connection.message_taken()
            await turns.turn(connection.account)
            if message.type in DATA and _size_of(message.data) > protocol.MAX_MESSAGE:
                too_large = True
                connection.reject_message()
            elif message.type is WSMsgType.TEXT:
                if not self._subscriber.ended:
                    self._on_message(message.data)
            elif message.type is WSMsgType.PING:
                self._subscriber.pong(message.data)
            elif message.type is WSMsgType.BINARY:
                self._refuse("bad_request", "expected a text message", None)
            elif message.type is not WSMsgType.PONG:
                return
            await self._subscriber.read()

    def _on_message(self, text: str) -> None:
        try:
            request = protocol.decode_client(text)
        except NOT_READABLE as wrong:
            of = _request_of(text)
            known = _without_unknown_fields(text) if self._subscriber.full and of is None else None
            if known is None:
                why = not_readable(wrong, text, protocol.ClientMessage)
                self._refuse("bad_request", f"invalid message: {why}", of)
                return
            request = known
        try:
            if isinstance(request, protocol.ScanNow):
                need("scan_now", self._connection.role)
                scan_id = request_scan(self._scanner, request, self._connection, self._subscriber)
                self._subscriber.requested.add(scan_id)
                self._answer(protocol.ScanAccepted(request=request.request, scan_id=scan_id), request.request)
            else:
                need("set_interval", self._connection.role)
                seconds = self._scanner.lease(self._subscriber, request.seconds)
                self._answer(protocol.Interval(request=request.request, seconds=seconds), request.request)
        except Refused as refused:
            self._refuse(refused.code, refused.message, request.request)
        except ValueError as wrong:  # an interval out of range
            self._refuse("bad_request", str(wrong), request.request)

    def _refuse(self, code: str, message: str, request: str | None) -> None:
        self._answer(protocol.Error(code=code, message=message, request=request), request)

    def _answer(self, message: protocol.Message, request: str | None) -> None:
        """Answer; clients of the `full` mode get only answers to messages with a `request`."""
        if not self._subscriber.full or request is not None:
            self._hub.answer(self._subscriber, message)


def _size_of(data: str | bytes) -> int:
    """Return the bytes of a message."""
    return len(data.encode() if isinstance(data, str) else data)


class _WithRequest(msgspec.Struct):
    """The readable part of an invalid message."""

    request: Any = None


def _without_unknown_fields(text: str) -> protocol.ClientMessage | None:
    """Return a message without its unknown fields; None if it is invalid all the same.

    So are messages of the `full` mode read that can get no answer: clients of the push document may send more.
    """
    try:
        given = msgspec.json.decode(text)
        for kind in get_args(protocol.ClientMessage):
            if given.get("type") == kind.__struct_config__.tag:
                known = {name: value for name, value in given.items() if name in ("type", *kind.__struct_fields__)}
                return cast(protocol.ClientMessage, msgspec.convert(known, kind))
    except (*NOT_READABLE, AttributeError):
        pass
    return None


def _request_of(text: str) -> str | None:
    try:
        request = msgspec.json.decode(text, type=_WithRequest).request
    except NOT_READABLE:
        return None
    return request if isinstance(request, str) and len(request) <= 128 else None
