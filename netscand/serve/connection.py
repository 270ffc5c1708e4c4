"""One connection of a client: who it is, the caps that hold before a byte of HTTP is read, and its time-outs."""

import asyncio
import logging
from collections import Counter
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from aiohttp import StreamReader, web
from multidict import CIMultiDict, CIMultiDictProxy

from netscand.protocol import MAX_MESSAGE
from netscand.serve.access import Guard, Peer
from netscand.serve.answers import CODES, Refused, refusal
from netscand.serve.rights import Role
from netscand.serve.subscriber import Subscriber

KEEP_ALIVE = 30.0
"""Seconds that a connection may idle between two requests."""

FIRST_REQUEST = 10.0
"""Seconds within which the first request must have come, whole (slow loris, FAULTS T16)."""

HIGH_WATER = 64 * 1024
"""Bytes that wait in a transport before its client counts as slow."""

UNHEARD = 16 * MAX_MESSAGE
"""Bytes that a WebSocket may send without one whole message among them: aiohttp before 3.14 reads a frame of any
length to its end before it looks at the limit."""

MOST_HEAD = MAX_MESSAGE
"""Bytes that a connection may send, bodies left out, without one whole request among them, and …"""

PIPELINED = 64
"""… requests that may wait while an earlier one is answered: aiohttp before 3.14 keeps whatever is sent."""

PONGS = 64
"""Bytes a second of pings and pongs, which are no messages, that are forgiven."""

KEPT_BACK = 32
"""Connections that only root and the group may still make."""

STRANGERS = 4
"""Strangers have this part of all connections."""

log = logging.getLogger(__name__)


class Lobby:
    """Counts connections: `most` in all, `most_per_peer` of one peer.

    Who has no role yet is a stranger, and may be many: another host has as many addresses as it likes. They have a part
    of the room, and where it is full, whoever has stood there longest makes way.
    """

    def __init__(self, guard: Guard, most: int, most_per_peer: int) -> None:
        self.guard = guard
        self.inside: set[Connection] = set()
        self.refused: Counter[str] = Counter()
        """By which limit."""
        self._most = most
        self._most_per_peer = most_per_peer
        self._of_peer: Counter[Hashable] = Counter()
        self._strangers: dict[Connection, None] = {}
        """In the order in which they came."""

    def admit(self, connection: "Connection", peer: Peer) -> bool:
        """Count it in, unless there are too many."""
        most = self._most if peer.privileged else self._most - KEPT_BACK
        if len(self.inside) >= most:
            self.refused["all"] += 1
        elif not peer.privileged and self._of_peer[peer.key] >= self._most_per_peer:
            self.refused["peer"] += 1
        else:
            if peer.role is Role.NONE:
                self._take_stranger(connection)
            self.inside.add(connection)
            self._of_peer[peer.key] += 1
            return True
        return False

    def _take_stranger(self, connection: "Connection") -> None:
        if len(self._strangers) >= max(1, self._most // STRANGERS):
            longest = next(iter(self._strangers))
            del self._strangers[longest]
            self.refused["strangers"] += 1
            longest.abort()
        self._strangers[connection] = None

    def know(self, connection: "Connection") -> None:
        """It showed that it has a role."""
        self._strangers.pop(connection, None)

    def leave(self, connection: "Connection", peer: Peer) -> None:
        """Count it out."""
        self._strangers.pop(connection, None)
        if connection in self.inside:
            self.inside.discard(connection)
            self._of_peer[peer.key] -= 1
            if not self._of_peer[peer.key]:
                del self._of_peer[peer.key]


NOBODY = Peer(None, Role.NONE, False, False)
NO_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())


class Connection(web.RequestHandler):
    """aiohttp's connection, behind our door."""

    __slots__ = (
        "_body", "_first", "_lobby", "_plain", "headers", "heard_at", "peer", "role", "subscriber", "unheard",
    )  # fmt: skip

    def __init__(self, lobby: Lobby, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        settings: dict[str, Any] = {
            "keepalive_timeout": KEEP_ALIVE,
            "access_log": None,
            "auto_decompress": False,  # no zip bombs (FAULTS T14)
            "lingering_time": 1.0,
        }
        super().__init__(server, loop=loop, **settings)
        self.peer = NOBODY
        self.role = Role.NONE
        """That of the request in hand: its peer's, raised by its token."""
        self.headers: CIMultiDictProxy[str] = NO_HEADERS
        """Those of the request in hand."""
        self.heard_at = loop.time()
        self.unheard = 0
        self._body: StreamReader | None = None
        """That of the last request that came."""
        self.subscriber: Subscriber | None = None
        self._lobby = lobby
        self._plain: asyncio.Transport | None = None
        """What it came by; beneath TLS, where there is that."""
        self._first: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, or close it at once."""
        assert isinstance(transport, asyncio.Transport)
        if self.peer is NOBODY and not self.enter(transport):
            transport.abort()
            return
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self._first = asyncio.get_running_loop().call_later(FIRST_REQUEST, transport.abort)
        super().connection_made(transport)

    def enter(self, transport: asyncio.Transport, *, tls: bool = False) -> bool:
        """Whether it is let in; from then on it is counted."""
        try:
            peer = self._lobby.guard.peer(transport.get_extra_info("socket"), tls=tls)
        except OSError:
            return False
        if not self._lobby.admit(self, peer):
            return False
        self.peer, self._plain = peer, transport
        return True

    def leave(self) -> None:
        """It is counted no more."""
        self._lobby.leave(self, self.peer)
        self.peer = NOBODY

    def ask_in(self, headers: CIMultiDictProxy[str]) -> None:
        """A request of these headers: learn its role. Raises Refused."""
        self.headers = headers
        self.role = Role.NONE
        self.role = self._lobby.guard.admit(self.peer, headers)
        if self.role > Role.NONE:
            self._lobby.know(self)

    def judge_again(self) -> None:
        """The guard changed: judge by the new one who it is, and what it may."""
        assert self.transport is not None
        try:
            peer = self._lobby.guard.peer(self.transport.get_extra_info("socket"), tls=self.peer.tls)
            self.peer = replace(peer, key=self.peer.key)  # it is counted by that one
            self.ask_in(self.headers)
        except (OSError, Refused):
            self.role = Role.NONE

    def began(self) -> None:
        """A request came, whole but for its body."""
        if self._first is not None:
            self._first.cancel()
            self._first = None

    def data_received(self, data: bytes) -> None:
        """Note that the client lives."""
        if self.peer is NOBODY:
            return
        if self.subscriber is not None:
            if not self.subscriber.ended:  # else it has until its heartbeat ends to read our goodbye
                self.heard_at = asyncio.get_running_loop().time()
            self.unheard += len(data)
            if self.unheard > UNHEARD:
                self.abort()
                return
        known, taken = len(self._messages), self._body_taken()
        try:
            super().data_received(data)
        except ValueError:  # aiohttp 3.11 lets an address escape that it cannot read
            self.abort()
        if self.subscriber is None:
            self._count(len(data), known, taken)

    def _count(self, size: int, known: int, taken: int) -> None:
        """Cut who fills our memory with requests that are not answered yet, or never end."""
        if len(self._messages) > known:
            self._body = self._messages[-1][1]
            self.unheard = 0
        else:
            self.unheard += size - (self._body_taken() - taken)
        if self.unheard > MOST_HEAD or len(self._messages) > PIPELINED:
            self.abort()

    def _body_taken(self) -> int:
        return self._body.total_bytes if self._body is not None else 0

    def pause_writing(self) -> None:
        """The client reads slowly."""
        super().pause_writing()
        if self.subscriber is not None:
            self.subscriber.pause()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self.subscriber is not None:
            self.subscriber.resume()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget it."""
        if self.peer is NOBODY:
            return
        self.began()
        self._lobby.leave(self, self.peer)
        if self.subscriber is not None:
            self.subscriber.gone()
        super().connection_lost(exc)

    @property
    def awaited(self) -> bool:
        """Whether a client waits for an answer of ours, or came just now and has not said what it wants."""
        if self.subscriber is not None or self.transport is None or self.transport.is_closing():
            return False
        asked = self._first is not None or self._current_request is not None or bool(self._messages)
        return asked or self.transport.get_write_buffer_size() > 0

    def forgive(self) -> None:
        """Let a second's pings and pongs pass; to be called every second."""
        self.unheard = max(0, self.unheard - PONGS)

    def abort(self) -> None:
        """Cut it."""
        transport = self.transport or self._plain  # none yet while it shakes hands
        if transport is not None:
            transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP in our shape, and keep it out of the log."""
        self.began()
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionResetError("gone, or half answered already")  # aiohttp closes it
        if status >= 500:
            log.error("a request failed", exc_info=exc)
        answer = refusal(Refused(CODES.get(status, "bad_request"), "not a request of HTTP/1.1", status))
        answer.force_close()
        return answer
