"""Connection of a client: its peer and role, its timeouts, and when its bytes are passed to aiohttp.

aiohttp parses at once whatever it is given, and buffers what no handler reads. So it is given little at a time: a piece
in a fair turn, and nothing while a request is answered or a message waits to be read. The rest stays in the kernel's
buffer, because the transport is paused. This depends neither on how much a version of aiohttp buffers nor on its
internals.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

from aiohttp import WSCloseCode, web

from netscand.protocol import MAX_MESSAGE
from netscand.serve.auth import UNAUTHENTICATED, Checks, Headers, Peer, Role
from netscand.serve.connection_limits import ConnectionLimiter
from netscand.serve.fair_turns import Account
from netscand.serve.http import TOO_MANY_FIELDS, Http, Refused, TransportProxy
from netscand.serve.query import SLOW
from netscand.serve.request_limits import MAX_BODY, Framing, TooLarge, TooManyFields
from netscand.serve.subscriber import Subscriber

KEEP_ALIVE = 30.0
"""Seconds that a connection may idle between two requests."""

FIRST_REQUEST = 10.0
"""Seconds within which the first request must arrive completely (slow loris, FAULTS T16)."""

HIGH_WATER = 64 * 1024
"""Bytes queued in a transport from which on its client counts as slow."""

READ = 16 * 1024
"""Maximum bytes read from one connection at once, and buffered until its turn."""

PIECE = 2 * 1024
"""Bytes passed to aiohttp in one turn: at most some hundred WebSocket frames."""

CLOSE_TIMEOUT = 1.0
"""Seconds that a client has to read the reason before its connection is aborted."""

ANSWER = 600.0
"""Seconds that a client has to read a whole list; the list is kept as of its beginning meanwhile."""

LEAST_RATE = 2**20
"""Minimum bytes a second at which a client must read a copy of the history, in addition to ANSWER."""

SETTLES = 4
"""Turns of the loop within which aiohttp begins a request that it was given."""

UNDECRYPTED = "netscand.undecrypted"
"""Key of a transport's extra information: bytes that it has read but not decrypted yet (TLS)."""

NO_PEER = Peer(None, Role.NONE, False, False)
_read = memoryview(bytearray(READ))
"""Filled and emptied within one call from the loop, so all connections share it."""


class Connection(asyncio.BufferedProtocol):
    """Protocol between the socket and aiohttp."""

    def __init__(self, limiter: ConnectionLimiter, server: web.Server) -> None:
        self.peer = NO_PEER
        self.role = Role.NONE
        """Role of the current request: that of its token; without one, that of the peer."""
        self.account: Account = UNAUTHENTICATED
        """Account that turns and budgets are charged to."""
        self.sites: frozenset[str] | None = None
        """Sites of a hub that its token is limited to; None: all."""
        self.headers: Headers | None = None
        """Headers of the current request."""
        self.accepted: socket.socket | None = None
        """Socket, until there is a transport."""
        self.transport: asyncio.Transport | None = None
        self.subscriber: Subscriber | None = None
        """Set from the handshake of a WebSocket on."""
        self.active_at = 0.0
        self.written = 0
        """Number of writes by aiohttp."""
        self.warning = ""
        """Of the answer to the request; "" for none."""
        self.limiter = limiter
        self._server = server
        self._http: Http | None = None
        self._plain: asyncio.Transport | None = None
        """TCP or Unix transport; with TLS, the one beneath."""
        self._first: asyncio.TimerHandle | None = None
        self._waiting = b""
        """Bytes read, and not passed to aiohttp yet."""
        self._queued = self._reading_paused = False
        self._full = self._slow = False
        """aiohttp has paused reading; the client reads slowly."""
        self._answering = False
        """A request is being answered."""
        self._framing = Framing()
        self._reads_body = False
        """A handler reads the body of the current request as it arrives."""
        self._to_discard: int | None = None
        """Bytes still to be read and dropped, so that a client that sends before it reads gets our answer."""
        self._head_given = False
        """aiohttp was given a head, and has not begun the request yet."""
        self._settling = False
        self._expects_message = False
        self._written_before = 0
        self._unread_since: float | None = None
        """Since when the client has read nothing beyond the kernel's buffer."""
        self._keeps: Callable[[], int] = int

    # ---- it comes and goes ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start, unless the connection was aborted meanwhile."""
        assert isinstance(transport, asyncio.Transport)
        if not self.attach(transport):
            return
        loop = asyncio.get_running_loop()
        self.transport = transport
        self.active_at = loop.time()
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self._first = loop.call_later(FIRST_REQUEST, transport.abort)
        self._http = Http(self._server, loop, KEEP_ALIVE)
        self._http.connection_made(cast(asyncio.Transport, TransportProxy(self, transport)))
        self._schedule()

    def accept(self, sock: socket.socket, *, tls: bool = False) -> bool:
        """Count the connection; return False if it is over a limit, or closed already."""
        try:
            peer = self.limiter.guard.peer(sock, tls=tls)
        except OSError:
            return False
        if not self.limiter.admit(self, peer):
            return False
        self.peer, self.accepted = peer, sock
        if peer.role > Role.NONE:
            self.account = peer.key
        return True

    def attach(self, transport: asyncio.Transport) -> bool:
        """Set the transport (with TLS, first the one beneath); return False if the connection was aborted meanwhile."""
        if self.peer is NO_PEER:
            transport.abort()
            return False
        self._plain = self._plain or transport
        return True

    def leave(self) -> None:
        """Remove the connection from the limits."""
        self.limiter.leave(self, self.peer)
        self.peer = NO_PEER

    def connection_lost(self, exc: Exception | None) -> None:
        """Release all resources."""
        if self.peer is NO_PEER:
            return
        self.request_began()
        self._waiting = b""
        self.limiter.leave(self, self.peer)
        if self.subscriber is not None:
            self.subscriber.on_disconnect()
        if self._http is not None:
            self._http.connection_lost(exc)
        self.transport = None

    def abort(self) -> None:
        """Close the connection at once."""
        self._waiting = b""
        transport = self.transport or self._plain  # none yet during a TLS handshake
        if transport is not None:
            transport.abort()
        else:
            if self.accepted is not None:
                self.accepted.close()
                self.accepted = None
            self.leave()

    def request_began(self) -> None:
        """Stop the timeout of the first request."""
        if self._first is not None:
            self._first.cancel()
            self._first = None

    # ---- who it is ------------------------------------------------------------------------------------------------

    def authorize(self, headers: Headers, checks: Checks = Checks.ALL) -> None:
        """Determine the role of a request from its headers. Raises Refused."""
        self.headers = headers
        self.role = Role.NONE
        self.role, self.account, self.sites = self.limiter.guard.admit(self.peer, headers, checks)
        if self.role > Role.NONE:
            self.limiter.mark_authenticated(self)

    def reauthorize(self) -> None:
        """Determine peer and role again after a change of `[access]`."""
        if self.transport is None or self.headers is None:  # closed while its handler still runs, or without a request
            self.role = Role.NONE
            return
        try:
            peer = self.limiter.guard.peer(self.transport.get_extra_info("socket"), tls=self.peer.tls)
            self.peer = replace(peer, key=self.peer.key)  # it stays counted by that key
            self.authorize(self.headers)
        except (OSError, Refused):
            self.role = Role.NONE

    # ---- what it sends --------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the transport."""
        return _read

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that were read."""
        if self.peer is NO_PEER:
            return
        if self.subscriber is not None and not self.subscriber.ended:
            # Otherwise the client has until its heartbeat expires to read our close frame.
            self.active_at = asyncio.get_running_loop().time()
        if self._to_discard is None:
            self._waiting += _read[:nbytes]
            self.limiter.count(nbytes)
        elif nbytes <= self._to_discard:
            self._to_discard -= nbytes
        else:
            self._full = True
        self._schedule()

    def eof_received(self) -> None:
        """Pass on the end of the stream; the transport closes itself."""
        if self._http is not None:
            self._http.eof_received()

    def begin(self, request: web.BaseRequest) -> None:
        """Note that a request has arrived, except for its body; nothing more is passed on until it is answered."""
        self.request_began()
        self._answering, self._head_given, self._reads_body = True, False, False
        self._framing.begin(None if "Transfer-Encoding" in request.headers else request.content_length or 0)
        self._written_before, self.warning = self.written, ""

    def read_body(self) -> None:
        """Note that a handler reads the body as it arrives; otherwise aiohttp would buffer it."""
        self._reads_body = True
        self._schedule(at_once=False)

    def end(self) -> None:
        """Note that the request is answered, except for what aiohttp still has to write."""
        self._answering = False
        self._framing.end()
        if self._framing.in_chunks:
            self._discard()  # aiohttp closes soon; of a body with a length, it reads the rest first
        self._schedule(at_once=False)

    def listen(self) -> None:
        """Pass on more messages. To be called before the WebSocket waits for the next one."""
        self._expects_message = True
        self._schedule(at_once=False)

    def message_taken(self) -> None:
        """Note that a message was read by its handler."""
        self._expects_message = False
        self._framing.given = 0

    @property
    def partly_answered(self) -> bool:
        """Return whether part of the answer to the current request has been written."""
        return self.written != self._written_before

    def _schedule(self, *, at_once: bool = True) -> None:
        """Schedule the next piece for aiohttp in a fair turn; pause reading while bytes wait."""
        if self._waiting and not self._queued:
            self._queued = True
            turns = self.limiter.turns
            (turns.do if at_once else turns.later)(self.account, self._feed_parser)
        if (paused := bool(self._waiting) or self._full) != self._reading_paused and self.transport is not None:
            self._reading_paused = paused
            (self.transport.pause_reading if paused else self.transport.resume_reading)()

    def _feed_parser(self) -> bool:
        """Pass a piece to aiohttp, unless it has to finish something first; return whether there was one."""
        self._queued = False
        if self._http is None or not self._waiting or not self._may_feed():
            return False
        try:
            size = self._framing.take(self._waiting[:PIECE], frames=self.subscriber is not None)
        except TooLarge as found:
            self._reject(found)
            return True
        self._head_given = self._framing.head_ended
        piece, self._waiting = self._waiting[:size], self._waiting[size:]
        try:
            self._http.data_received(piece)
        except ValueError:  # aiohttp 3.11 lets the exception for an invalid URL escape
            self.abort()
        self._schedule(at_once=False)
        return True

    def _may_feed(self) -> bool:
        if self._full:
            return False
        if self.subscriber is not None:
            return self._expects_message
        if self._slow:
            return False
        if self._framing.in_body:
            return self._reads_body or not self._answering
        if self._answering:
            return False
        if self._head_given and not self._settling:
            self._settling = True
            self._settle(SETTLES)
        return not self._settling

    def _settle(self, turns: int) -> None:
        """Wait until aiohttp begins the request that it was given; if it does not, it was none."""
        if turns and self._head_given:
            asyncio.get_running_loop().call_soon(self._settle, turns - 1)
        else:
            self._settling = self._head_given = False
            self._schedule(at_once=False)

    def _reject(self, found: TooLarge) -> None:
        """Close a connection whose request or message is too large."""
        if self.subscriber is not None:
            self.reject_message()
            return
        if self._framing.in_body and not self._answering:
            self._discard()  # it is answered already, and aiohttp closes soon
            return
        if isinstance(found, TooManyFields) and self.transport is not None:
            self._discard()
            self.transport.write(TOO_MANY_FIELDS)
        else:
            self.abort()
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self.abort)

    def reject_message(self) -> None:
        """Close a stream whose message is too large; read nothing more, and leave the client time to read why."""
        if self.subscriber is not None:
            self.subscriber.close(WSCloseCode.MESSAGE_TOO_BIG, f"more than {MAX_MESSAGE} bytes")
        self._expects_message = False
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self.abort)

    def _discard(self) -> None:
        self._to_discard, self._waiting = MAX_BODY, b""
        self._schedule(at_once=False)

    # ---- what it is sent ------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """Note that the client reads slowly."""
        self._slow = True
        assert self._http is not None
        self._http.pause_writing()
        if self.subscriber is not None:
            self.subscriber.pause()

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        self._slow = False
        self._unread_since = None
        assert self._http is not None
        self._http.resume_writing()
        if self.subscriber is not None:  # not from here: asyncio's write, of which this is a part, is not complete
            asyncio.get_running_loop().call_soon(self._resume_sending, self.subscriber)
        self._schedule(at_once=False)

    def _resume_sending(self, subscriber: Subscriber) -> None:
        if not self._slow:
            subscriber.resume()

    def set_full(self, full: bool) -> None:
        """Note whether aiohttp has paused reading."""
        self._full = full
        self._schedule(at_once=False)

    @asynccontextmanager
    async def answering(self, keeps: Callable[[], int], size: int = 0) -> AsyncIterator[None]:
        """Limit the time of the answer that the block sends to ANSWER; `keeps` returns the bytes kept meanwhile.

        `size`: bytes of an answer that is long by nature; the client has additional time for them at LEAST_RATE. Raises
        TimeoutError.
        """
        self._keeps = keeps
        try:
            async with asyncio.timeout(ANSWER + size / LEAST_RATE):
                yield
        finally:
            self._keeps = int

    @property
    def bytes_kept(self) -> int:
        """Bytes kept for this client: what it has not read, and what it sent and no handler has read."""
        unread = 0
        if (transport := self.transport) is not None:
            unread = transport.get_write_buffer_size() + transport.get_extra_info(UNDECRYPTED, 0)
        kept = self._keeps() + (self.subscriber.bytes_kept if self.subscriber is not None else 0)
        return unread + len(self._waiting) + self._framing.bytes_kept + kept

    def is_stalled(self, now: float) -> bool:
        """Return whether the client has read nothing of an answer for too long. Streams have limits of their own."""
        unread = self.transport.get_write_buffer_size() if self.transport is not None else 0
        if not unread or (self.subscriber is not None and not self.subscriber.ended):
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        return self._unread_since is not None and now - self._unread_since >= SLOW

    @property
    def awaited(self) -> bool:
        """Return whether a client waits for an answer, or has just connected and not sent its request yet."""
        if self.transport is None:
            return self._plain is None and self.peer is not NO_PEER  # accepted, and not started yet
        if self.subscriber is not None or self.transport.is_closing():
            return False
        expects_answer = self._first is not None or self._answering or self._framing.given > 0 or bool(self._waiting)
        return expects_answer or self.transport.get_write_buffer_size() > 0
