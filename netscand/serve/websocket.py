"""`/ws`: the WebSocket, in both modes."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from netscand import protocol
from netscand.core.restore import CursorGone, Unreadable
from netscand.serve import frames
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
from netscand.serve.query import NOT_READABLE, Filter, filter_of
from netscand.serve.snapshot import PastView, Snapshot
from netscand.serve.subscriber import Subscriber
from netscand.serve.summary import Summary
from netscand.validation_messages import not_readable

PING = 20.0
"""Seconds of silence after which a client is pinged."""

GONE = 40.0
"""Seconds of silence after which it is gone."""

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
        """WebSockets for which there was no place, and those that gave theirs up."""
        self._max_clients = max_clients
        self._open: dict[Connection, Subscriber] = {}
        self._last_left = asyncio.Event()
        self._taken = 0
        """Places, from before the handshake: what waits for it counts too."""

    @property
    def clients(self) -> int:
        """WebSockets that are open."""
        return len(self._open)

    # ---- one client -----------------------------------------------------------------------------------------------

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """The stream: a WebSocket, until the client is gone."""
        given = request.query
        updates = given.get("updates", "full")
        if updates not in ("full", "changes"):
            raise Refused("bad_request", f"updates={updates[:64]}: expected full or changes")
        fits = filter_of(given)
        connection = connection_of(request)
        handshake = request.headers.get("Upgrade", "").lower() == "websocket"
        # Before 426: a browser is not told why its WebSocket was refused, and asks so.
        if self._taken >= self._max_clients + (RESERVED if connection.peer.privileged else 0):
            self.refused += handshake
            rival = self._rival(connection.account)
            if rival is None:
                raise Refused("busy", f"{self._taken} WebSockets are open ([listen] max_clients)")
            if handshake:
                self._open.pop(rival).close(WSCloseCode.TRY_AGAIN_LATER, "all places are taken, and others hold fewer")
                rival.abort()
        if not handshake:
            said = "this is a WebSocket: connect to it as one (ws://… or wss://…); /api answers plain requests"
            raise Refused("bad_request", said, 426, {"Upgrade": "websocket", "Connection": "Upgrade"})
        self._taken += 1
        try:
            return await self._serve(request, updates == "full", fits, given.get("since"))
        finally:
            self._taken -= 1

    def _rival(self, account: Account) -> Connection | None:
        """Where all places are taken: whose WebSocket gives way to one of `account`, the newest of who holds the most.

        None where nobody holds more than `account` would. By `max_per_peer` alone a few accounts of this host could
        hold all of them, and nobody else would hear a thing.
        """
        there = [each for each in self._open if not each.peer.privileged]
        held = Counter(each.account for each in there)
        most = max(held, key=held.__getitem__, default=None)
        if held[most] <= held[account] + 1:
            return None
        return next(each for each in reversed(there) if each.account == most)

    async def _serve(self, request: web.Request, full: bool, fits: Filter, since: str | None) -> web.StreamResponse:
        connection = connection_of(request)
        offered = "Sec-WebSocket-Protocol" in request.headers
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,) if offered else (),
            compress=False,
            autoclose=False,
            autoping=False,  # pings have their fair turn, as all messages have
            max_msg_size=protocol.MAX_MESSAGE + 1,  # aiohttp refuses what is as long as this
            timeout=1.0,
        )
        socket.headers.update(HEADERS)
        await socket.prepare(request)
        transport = connection.transport
        if transport is None:
            raise ConnectionResetError("gone already")
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
            if subscriber.ended:  # we said goodbye: aiohttp, which does not know, must not say it again
                transport.close()
            subscriber.on_disconnect()
            self._open.pop(connection, None)
            if not self._open:
                self._last_left.set()
            connection.subscriber = None
        return socket

    # ---- all of them ----------------------------------------------------------------------------------------------

    async def watch_over(self) -> None:
        """Ping who is silent, cut who is gone; until cancelled."""
        ping = frames.ping()
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
        """The rights changed: close who may no longer listen, and end what they hold who may no longer scan."""
        for connection, subscriber in tuple(self._open.items()):
            connection.reauthorize()
            if connection.role < Role.SCAN:
                self._scanner.lease(subscriber, None)
            if connection.role < Role.READ:
                self._hub.unsubscribe(subscriber)
                subscriber.close(WSCloseCode.POLICY_VIOLATION, "the right to listen was taken away")

    async def close(self, within: float) -> None:
        """Say goodbye to everyone, and cut who does not answer within so many seconds."""
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
    """One WebSocket while it lasts."""

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
        """Send the snapshot, or what was missed, then what happens; take what the client says; until it is gone."""
        subscriber, overview = self._subscriber, self._overview
        self._hub.subscribe(subscriber)
        account = self._connection.account
        with ExitStack() as held:
            moment = held.enter_context(self._hub.moment()) if since is not None else None
            taken = held.enter_context(ExitStack())
            snapshot = taken.enter_context(self._hub.snapshot(subscriber.fits, account=account))
            first = overview.initial_state(snapshot.cursor, self._connection.role, subscriber.fits)

            async def begin() -> None:
                keeps = lambda: snapshot.bytes_kept + (moment.bytes_kept if moment else 0)  # noqa: E731
                with held.pop_all():  # not for as long as the client stays
                    async with subscriber.delivery(keeps):
                        if not (since and moment and await self._resume(first, since, moment, taken.close)):
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
        self, first: protocol.InitialState, since: str, moment: PastView, succeeds: Callable[[], None]
    ) -> bool:
        """Send what was missed; False, and nothing, where that cannot be told. `succeeds` is called where it can."""
        if self._past is None:
            return False
        subscriber = self._subscriber
        missed = self._past.missed(since, moment, subscriber.fits, account=self._connection.account)
        try:
            told = await anext(missed, None)
        except (CursorGone, Unreadable, ValueError) as gone:
            log.debug("not resumed: %s", gone)
            return False
        succeeds()
        resumed = protocol.Resumed(
            cursor=since,
            version=first.version,
            protocol=first.protocol,
            interval=first.interval,
            scanning=first.scanning,
            role=first.role,
            networks=first.networks,
        )
        await subscriber.send(*frames.text(protocol.encode(resumed)))
        while told is not None and not subscriber.ended:
            subscriber.cursor = told.cursor
            await subscriber.send(*frames.text(protocol.encode(told)))
            told = await anext(missed, None)
        if not subscriber.ended:
            subscriber.release(moment.cursor)
        return True

    async def _listen(self) -> None:
        connection, turns = self._connection, self._hub.turns
        while True:
            connection.listen()
            try:
                said = await self._socket.receive()
            except ConnectionError:
                return
            connection.message_taken()
            await turns.turn(connection.account)
            if said.type is WSMsgType.TEXT:
                if not self._subscriber.ended:
                    self._on_message(said.data)
            elif said.type is WSMsgType.PING:
                self._subscriber.pong(said.data)
            elif said.type is WSMsgType.BINARY:
                self._refuse("bad_request", "expected a text message", None)
            elif said.type is not WSMsgType.PONG:
                return
            await self._subscriber.read()

    def _on_message(self, text: str) -> None:
        try:
            asked = protocol.decode_client(text)
        except NOT_READABLE as wrong:
            why = not_readable(wrong, text, protocol.ClientMessage)
            self._refuse("bad_request", f"not a message that is known here: {why}", _request_of(text))
            return
        try:
            if isinstance(asked, protocol.ScanNow):
                need("scan_now", self._connection.role)
                scan_id = request_scan(self._scanner, asked.targets, self._connection)
                self._subscriber.requested.add(scan_id)
                self._answer(protocol.ScanAccepted(request=asked.request, scan_id=scan_id), asked.request)
            else:
                need("set_interval", self._connection.role)
                seconds = self._scanner.lease(self._subscriber, asked.seconds)
                self._answer(protocol.Interval(request=asked.request, seconds=seconds), asked.request)
        except Refused as refused:
            self._refuse(refused.code, refused.message, asked.request)
        except ValueError as wrong:  # an interval out of range
            self._refuse("bad_request", str(wrong), asked.request)

    def _refuse(self, code: str, message: str, request: str | None) -> None:
        self._answer(protocol.Error(code=code, message=message, request=request), request)

    def _answer(self, message: protocol.Message, request: str | None) -> None:
        """Answer; the push document's clients hear only what they named a request for."""
        if not self._subscriber.full or request is not None:
            self._hub.answer(self._subscriber, message)


class _Asked(msgspec.Struct):
    """What can be read of a message that is wrong otherwise."""

    request: Any = None


def _request_of(text: str) -> str | None:
    try:
        request = msgspec.json.decode(text, type=_Asked).request
    except NOT_READABLE:
        return None
    return request if isinstance(request, str) and len(request) <= 128 else None
