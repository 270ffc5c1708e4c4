"""Accept connections. All accounts share a listener's queue in the kernel, so it is emptied as fast as it fills.

That queue is first in, first out: root waits behind a user that connects over and over. A connection that is closed
already, or over a limit, costs only a few system calls. The others are counted and wait here to be started, accounts in
turn.
"""

import asyncio
import errno
import logging
import select
import socket
from time import perf_counter
from typing import TYPE_CHECKING

from aiohttp import web

from netscand.core.fairness import FairQueue
from netscand.serve.connection import Connection
from netscand.serve.connection_limits import ConnectionLimiter
from netscand.serve.fair_turns import HOLD
from netscand.serve.listen import BACKLOG

if TYPE_CHECKING:
    from ssl import SSLContext

STARTS_PER_TURN = 4
"""Connections started in one turn of the loop; each costs some tenths of a millisecond."""

NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""The system has no descriptor or memory for another connection."""

PAUSE = 1.0
"""Seconds without accepting after that."""

log = logging.getLogger(__name__)


class Acceptor:
    """Accepts the connections of all listeners."""

    def __init__(self, limiter: ConnectionLimiter, server: web.Server, tls: "SSLContext | None") -> None:
        self.listeners: list[socket.socket] = []
        self._limiter = limiter
        self._server = server
        self._tls = tls
        self._waiting: FairQueue[Connection] = FairQueue()
        self._scheduled = False
        """`_start_some` will be called in the next turn of the loop."""
        self._starting: set[asyncio.Task[None]] = set()
        """Own tasks of a few turns each: connections are started also after `Server.run`, until it is closed."""
        self._hangup_poll = select.poll()
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}

    def listen(self, sock: socket.socket) -> None:
        """Accept connections of a listener."""
        sock.setblocking(False)
        sock.listen(BACKLOG)
        self.listeners.append(sock)
        asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def stop(self, sock: socket.socket) -> None:
        """Close a listener. Connections that were accepted are still started."""
        asyncio.get_running_loop().remove_reader(sock)
        if pause := self._paused.pop(sock, None):
            pause.cancel()
        self.listeners.remove(sock)
        sock.close()

    def _accept(self, listener: socket.socket) -> None:
        """Accept for a share of HOLD: each listener has its own call in a turn."""
        until = perf_counter() + HOLD / len(self.listeners)
        while True:
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                self._pause(listener, error)
                return
            if self._is_closed(sock) or not self._admit(sock):
                sock.close()
            if perf_counter() >= until:
                return

    def _admit(self, sock: socket.socket) -> bool:
        """Count a connection and queue it; return False if it is over a limit."""
        connection = Connection(self._limiter, self._server)
        if not connection.accept(sock, tls=self._tls is not None and sock.family != socket.AF_UNIX):
            return False
        self._waiting.push(connection.account, connection)
        self._schedule_start()
        return True

    def _is_closed(self, sock: socket.socket) -> bool:
        """Return whether the client has closed its end: it will read no answer, or send no request."""
        if sock.family == socket.AF_UNIX:
            self._hangup_poll.register(sock, 0)
            try:
                return bool(self._hangup_poll.poll(0))
            finally:
                self._hangup_poll.unregister(sock)
        try:
            return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        """Leave connections in the kernel's queue for a while."""
        log.warning("cannot accept a connection: %s; retrying in %g s", error.strerror, PAUSE)
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)

        def resume() -> None:
            del self._paused[listener]
            loop.add_reader(listener, self._accept, listener)

        self._paused[listener] = loop.call_later(PAUSE, resume)

    def _schedule_start(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._start_some)

    def _start_some(self) -> None:
        """Start the next connections, accounts in turn."""
        self._scheduled = False
        begun = 0
        while self._waiting and begun < STARTS_PER_TURN:
            connection = self._waiting.pop()
            if connection.accepted is not None:  # None: aborted meanwhile
                begun += 1
                task = asyncio.get_running_loop().create_task(self._start(connection, connection.accepted))
                self._starting.add(task)
                task.add_done_callback(self._starting.discard)
        if self._waiting:
            self._schedule_start()

    async def _start(self, connection: Connection, sock: socket.socket) -> None:
        def made() -> asyncio.BaseProtocol:
            connection.accepted = None  # owned by its transport from now on
            if self._tls is not None and sock.family != socket.AF_UNIX:
                from netscand.serve.tls import TlsTransport

                return TlsTransport(self._tls, connection, self._limiter.turns)
            return connection

        try:
            await asyncio.get_running_loop().connect_accepted_socket(made, sock)
        except OSError:  # aborted before it was started
            connection.abort()
