"""The room as a whole: sockets, routes, and the tasks behind them."""

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from netscand import config, protocol
from netscand.serve.accept import Acceptor
from netscand.serve.auth import Guard
from netscand.serve.connection import Connection
from netscand.serve.connection_limits import ConnectionLimiter
from netscand.serve.encode import Encoder
from netscand.serve.full_mode import FullMode
from netscand.serve.history_api import HistoryApi
from netscand.serve.http import Refused, connection_of, error_middleware
from netscand.serve.hub import Hub
from netscand.serve.listen import (
    UNAVAILABLE,
    BadAddress,
    TcpAddress,
    UnixSocket,
    inode_of,
    tcp_addresses,
    tcp_socket,
)
from netscand.serve.metrics import Metrics
from netscand.serve.openapi import Description
from netscand.serve.page import Page
from netscand.serve.ports import HistoryPort, Scanner
from netscand.serve.query import check_query, refuse_token
from netscand.serve.rest import DeviceChanges, Rest
from netscand.serve.routes import API, route_of, router
from netscand.serve.selftest import SELF, SelfTest
from netscand.serve.selftest import check as check_library
from netscand.serve.summary import Summary
from netscand.serve.tls import load_certificate, tls_context
from netscand.serve.websocket import WebSocketEndpoint

RETRY_INTERVAL = 2.0
"""Seconds between two tries to listen on an address, and two looks at the path of the Unix socket."""

CLOSE_TIMEOUT = 0.4
"""Seconds that clients have to answer our goodbye."""

RESERVED_DESCRIPTORS = 64
"""Descriptors kept back for ourselves: history, raw sockets, listeners, what a look-up needs (FAULTS T16)."""

EXTRA_CONNECTIONS = 1024
"""Connections beside the WebSockets, where the system allows as many."""

log = logging.getLogger(__name__)


def check(listen: config.Listen, access: config.Access) -> None:
    """Refuse what a start would refuse. Raises TokensRefused, BadAddress, BadCertificate."""
    tls_context(listen)
    _check_reach([address for text in listen.tcp for address in tcp_addresses(text)], Guard(access))


def _check_reach(addresses: Sequence[TcpAddress], guard: Guard) -> None:
    for address in addresses:
        if not address.loopback and not guard.tokens:
            raise BadAddress(
                f"[listen] tcp: {address}: other hosts can reach netscand there, and there is no token to tell "
                "them apart: set [access] token_file, or use 127.0.0.1 or [::1]"
            )


class Server:
    """Serves clients: `open`, then `run` until cancelled, then `close`."""

    def __init__(
        self,
        scanner: Scanner,
        hub: Hub,
        listen: config.Listen,
        access: config.Access,
        encoder: Encoder,
        inherited_sockets: Sequence[socket.socket] = (),
        history: HistoryPort | None = None,
    ) -> None:
        hub.attach(scanner)
        self.serving = False
        """Whether /healthz says so: from the start of `run` to that of `close`."""
        self._listen = listen
        self._access = access
        self._inherited = inherited_sockets
        self._guard = Guard(access)
        self._tls = tls_context(listen)
        self._summary = summary = Summary(scanner, encoder)
        past = HistoryApi(history, scanner, hub, encoder) if history is not None else None
        self._lists = FullMode(hub, summary, encoder)
        self._live = WebSocketEndpoint(scanner, hub, summary, self._lists, past, listen.max_clients)
        self._app = web.Application(
            client_max_size=protocol.MAX_MESSAGE + 1,  # aiohttp refuses what is as long as this
            middlewares=[error_middleware(self._authorize_counted, hub.turns)],
        )
        most = _connections(listen.max_clients)
        self._limiter = ConnectionLimiter(self._guard, most, listen.max_per_peer, hub.turns, scanner.budgets)
        self._measures = hub.measures
        rest = Rest(scanner, hub, summary, encoder, lambda: self.clients, self.problems, lambda: self.serving)
        changes = DeviceChanges(scanner, hub, encoder)
        metrics = Metrics(scanner, hub, summary, encoder, history, self._live, self._limiter, self.problems)
        parts = (self._live, rest, changes, past, metrics, Description(API), Page())
        self._app.add_routes(router(parts))
        self.self_test = SelfTest(self._connect_self_test)
        self.self_test_interval: float | None = None
        """Seconds between two questions of its own; None: nobody wants to know that it answers."""
        self._runner = web.AppRunner(self._app, handler_cancellation=True, shutdown_timeout=0.1)
        self._unix: UnixSocket | None = None
        self._acceptor: Acceptor | None = None
        self._unbound: dict[TcpAddress, OSError] = {}
        self._inherited_paths: dict[str, tuple[int, int] | None] = {}
        """Paths of sockets that systemd made, with what was there at the start."""
        self._unreachable: str | None = None
        """Why nobody can connect to the Unix socket."""

    @property
    def clients(self) -> int:
        """WebSockets that are open."""
        return self._live.clients

    @property
    def addresses(self) -> list[str]:
        """Where it listens on TCP, as `HOST:PORT`."""
        return [str(TcpAddress(*sock.getsockname()[:2])) for sock in self.listeners if sock.family != socket.AF_UNIX]

    @property
    def listeners(self) -> list[socket.socket]:
        """The sockets on which it listens."""
        return self._acceptor.listeners if self._acceptor is not None else []

    def problems(self) -> tuple[str, ...]:
        """Addresses that cannot be listened on."""
        unix = () if self._unreachable is None else (self._unreachable,)
        return unix + tuple(
            f"cannot listen on {address}: {why.strerror}"
            for address, why in self._unbound.items()
            if why.errno not in UNAVAILABLE or not address.loopback
        )

    # ---- life -----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Listen. Raises BadAddress (a configuration that must not be served), AlreadyRunning, ListenError, Unfit."""
        check_library()
        addresses = self._addresses()
        self._check_reach(self._guard)
        if self._tls is None and any(not address.loopback for address in addresses):
            log.warning("tokens travel in the clear beyond this host: set [listen] tls_certificate and tls_key")
        await self._runner.setup()
        assert self._runner.server is not None
        self._acceptor = Acceptor(self._limiter, self._runner.server, self._tls)
        unix = [sock for sock in self._inherited if sock.family == socket.AF_UNIX]
        if not unix and self._listen.unix:
            self._unix = UnixSocket(Path(self._listen.unix))
            self._unix.open(*self._unix_mode())
            unix = [self._unix.sock]
        for sock in (*unix, *(sock for sock in self._inherited if sock.family != socket.AF_UNIX)):
            self._acceptor.listen(sock)
        names = [sock.getsockname() for sock in self._inherited if sock.family == socket.AF_UNIX]
        self._inherited_paths = {name: inode_of(name) for name in names if isinstance(name, str) and name}
        for address in addresses:
            self._bind(address)

    async def run(self) -> None:
        """Serve until cancelled."""
        self.serving = True
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._lists.run(), name="whole lists")
            tasks.create_task(self._summary.run(), name="counts")
            tasks.create_task(self._live.watch_over(), name="heartbeats")
            tasks.create_task(self._limiter.run(), name="what is not read")
            tasks.create_task(self._measures.run(), name="loop lag")
            tasks.create_task(self._retry_binds(), name="listen again")
            tasks.create_task(self.self_test.run(self.self_test_interval), name="self-test")

    def reload(self, access: config.Access) -> None:
        """Take `[access]`, the tokens and the certificate anew, and judge who is connected by them.

        Raises TokensRefused, BadAddress, BadCertificate, and leaves everything as it was.
        """
        guard = Guard(access)
        self._check_reach(guard)
        if self._tls is not None:
            load_certificate(self._tls, self._listen)
        self._access = access
        self._guard = self._limiter.guard = guard
        if self._unix is not None:
            try:
                self._unix.permit(*self._unix_mode())
            except OSError as wrong:  # the path is a mere door: who comes through is judged all the same
                log.warning("[listen] unix: %s: %s", self._listen.unix, wrong.strerror)
        self._live.reauthorize()

    async def close(self) -> None:
        """Accept nobody more, say goodbye, and be gone within a second."""
        self.serving = False
        if self._acceptor is not None:  # systemd leaves those who come from now on to the next netscand
            for sock in tuple(self._acceptor.listeners):
                self._acceptor.stop(sock)
        if self._unix is not None:
            self._unix.close()
        await self._live.close(CLOSE_TIMEOUT)
        await self._finish_answers()
        for connection in tuple(self._limiter.connections):
            connection.abort()
        await self._runner.cleanup()

    # ---- parts ----------------------------------------------------------------------------------------------------

    def _addresses(self) -> list[TcpAddress]:
        return [address for text in self._listen.tcp for address in tcp_addresses(text)]

    def _check_reach(self, guard: Guard) -> None:
        """Other hosts may come only where tokens tell them apart. Raises BadAddress."""
        inherited_sockets = [
            TcpAddress(*sock.getsockname()[:2]) for sock in self._inherited if sock.family != socket.AF_UNIX
        ]
        _check_reach((*self._addresses(), *inherited_sockets), guard)

    def _unix_mode(self) -> tuple[int, int | None]:
        closed = self._access.others == "none"
        return 0o660 if closed else 0o666, self._guard.group if closed else None

    async def _finish_answers(self) -> None:
        """Who came before we stopped listening is answered still: a restart refuses nobody (FAULTS F2)."""
        for _ in range(40):
            if not any(connection.awaited for connection in self._limiter.connections):
                return
            await asyncio.sleep(CLOSE_TIMEOUT / 40)

    async def _authorize_counted(self, request: web.Request) -> None:
        try:
            self._authorize(request)
        except Refused as refused:
            self._measures.refused_requests[refused.code] += 1
            raise

    def _authorize(self, request: web.Request) -> None:
        connection = connection_of(request)
        connection.authorize(request.headers)
        refuse_token(request.query)
        route = route_of(request)
        if route is None:
            return  # the handler answers 404 or 405
        sent_none = "Authorization" not in request.headers
        route.require(
            connection.role, suggest_token=bool(self._guard.tokens) and not connection.peer.unix and sent_none
        )
        if route.parameters is not None:
            check_query(request.query, route.parameters)

    async def _connect_self_test(self, sock: socket.socket) -> None:
        server = self._runner.server
        assert server is not None
        connection = Connection(self._limiter, server)
        connection.peer = SELF  # in no lobby: it has its place, however many there are
        connection.account = SELF.key  # from its first byte on: behind no stranger
        await asyncio.get_running_loop().connect_accepted_socket(lambda: cast(Any, connection), sock)

    def _bind(self, address: TcpAddress) -> None:
        try:
            sock = tcp_socket(address)
        except OSError as wrong:
            known = self._unbound.get(address)
            if known is None or known.errno != wrong.errno:
                level = logging.INFO if wrong.errno in UNAVAILABLE and address.loopback else logging.WARNING
                log.log(
                    level, "cannot listen on %s: %s; tried again every %g s", address, wrong.strerror, RETRY_INTERVAL
                )
            self._unbound[address] = wrong
            return
        if self._unbound.pop(address, None) is not None:
            log.info("listening on %s now", address)
        assert self._acceptor is not None
        self._acceptor.listen(sock)

    async def _retry_binds(self) -> None:
        while True:
            await asyncio.sleep(RETRY_INTERVAL)
            if self.serving:
                self._check_unix_path()
                for address in tuple(self._unbound):
                    self._bind(address)

    def _check_unix_path(self) -> None:
        """Listen anew where the path of the Unix socket was removed; where that cannot be, report it."""
        before, self._unreachable = self._unreachable, None
        for path, place in self._inherited_paths.items():
            if inode_of(path) != place:
                self._unreachable = f"{path} was removed or replaced: systemctl restart netscand.socket netscand"
        if self._unix is not None and not self._unix.in_place:
            assert self._acceptor is not None
            old = self._unix.sock
            try:
                self._unix.renew(*self._unix_mode())
            except OSError as wrong:
                why = "another file is in its place, remove it" if wrong.errno == errno.EADDRINUSE else wrong.strerror
                self._unreachable = f"[listen] unix: {self._unix.path} was removed: {why}"
            else:
                log.warning("[listen] unix: %s was removed: made anew", self._unix.path)
                self._acceptor.listen(self._unix.sock)
                self._acceptor.stop(old)
        if self._unreachable not in (None, before):
            log.warning("%s", self._unreachable)


def _connections(max_clients: int) -> int:
    """Connections that the descriptors allow, ours kept back; the soft limit is raised where the hard one lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_clients + EXTRA_CONNECTIONS + RESERVED_DESCRIPTORS
    if hard == resource.RLIM_INFINITY or soft < wanted <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        soft = max(soft, wanted)
    elif soft < hard < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return max(soft - RESERVED_DESCRIPTORS, 1)
