"""Server: sockets, routes, and its tasks."""

import asyncio
import errno
import logging
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from aiohttp import web
from msgspec import structs

from netscand import config, protocol
from netscand.checkout import for_checkout
from netscand.config import default_token_file
from netscand.core.model import NetworkState
from netscand.serve.accept import Acceptor
from netscand.serve.auth import Checks, Guard, token_in
from netscand.serve.capture_api import CaptureApi
from netscand.serve.connection import Connection
from netscand.serve.connection_limits import ConnectionLimiter
from netscand.serve.encode import Encoder, ip_text
from netscand.serve.full_mode import FullMode
from netscand.serve.history_api import HistoryApi
from netscand.serve.http import Refused, add_warning, connection_of, error_middleware
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
from netscand.serve.people_api import PeopleApi
from netscand.serve.ports import FrameRecorder, HistoryPort, Scanner
from netscand.serve.query import check_query, refuse_token
from netscand.serve.rest import DeviceChanges, Rest
from netscand.serve.routes import API, PAGE, Route, route_of, router
from netscand.serve.selftest import SELF, SelfTest
from netscand.serve.selftest import check as check_library
from netscand.serve.settings import SettingsView
from netscand.serve.summary import Summary
from netscand.serve.websocket import WebSocketEndpoint

if TYPE_CHECKING:
    from ssl import SSLContext

RETRY_INTERVAL = 2.0
"""Seconds between two attempts to listen on an address, and two checks of the path of the Unix socket."""

CLOSE_TIMEOUT = 0.4
"""Seconds that clients have to answer our close frame."""

RESERVED_DESCRIPTORS = 64
"""Descriptors reserved for the daemon: history, raw sockets, listeners, name lookups (FAULTS T16)."""

EXTRA_CONNECTIONS = 1024
"""Connections in addition to the WebSockets, if the system permits as many."""

log = logging.getLogger(__name__)


class Kinds(NamedTuple):
    """Classes of the parts that differ on a hub of sites."""

    summary: type[Summary]
    past: type[HistoryApi]
    rest: type[Rest]
    changes: type[DeviceChanges]
    metrics: type[Metrics]


def check(listen: config.Listen, access: config.Access) -> None:
    """Check what a start checks. Raises TokensRefused, BadAddress, BadCertificate."""
    _tls_context(listen)
    _check_reach([address for text in listen.tcp for address in tcp_addresses(text)], Guard(access))


def _tls_context(listen: config.Listen) -> "SSLContext | None":
    """Return the TLS settings; without TLS, OpenSSL is not even imported (partial_imports.py)."""
    if not listen.tls:
        return None
    from netscand.serve.tls import tls_context

    return tls_context(listen)


def _check_reach(addresses: Sequence[TcpAddress], guard: Guard) -> None:
    for address in addresses:
        if not address.loopback and not guard.tokens.configured:
            raise BadAddress(
                f"[listen] tcp: {address}: reachable from other hosts, but there is no token: "
                f"{for_checkout('to create one: netscanctl token add ROLE')} (or set [access] token_file); "
                "or use 127.0.0.1 or [::1]"
            )


class Server:
    """Serves clients: `open`, then `run` until cancelled, then `close`. A hub of sites replaces some of its parts."""

    api: Sequence[Route] = API
    kinds = Kinds(Summary, HistoryApi, Rest, DeviceChanges, Metrics)
    tokens = config.TOKENS
    """Name of the default token file, beside the configuration."""

    def __init__(
        self,
        scanner: Scanner,
        hub: Hub,
        listen: config.Listen,
        access: config.Access,
        encoder: Encoder,
        inherited_sockets: Sequence[socket.socket] = (),
        history: HistoryPort | None = None,
        recorder: FrameRecorder | None = None,
    ) -> None:
        hub.attach(scanner)
        self.serving = False
        """Whether /healthz answers 200: from the start of `run` to that of `close`."""
        self._scanner = scanner
        self._listen = listen
        self._access = access
        self._inherited = inherited_sockets
        self._guard = Guard(access)
        self._tls = _tls_context(listen)
        kinds = self.kinds
        self._summary = summary = kinds.summary(scanner, encoder)
        self.reload_configuration: Callable[[], Awaitable[str]] | None = None
        """Reads the configuration again; returns why it was not applied, or ""."""
        self.needs_restart: Sequence[str] = ()
        """Changed keys of the configuration that take effect at the next restart."""
        self.config_changed: Callable[[], bool] = lambda: False
        """Returns whether the file of the configuration was changed, and not reloaded."""
        self.config_file = Path("/etc/netscand/netscand.toml")
        past = kinds.past(history, scanner, hub, encoder) if history is not None else None
        self._lists = FullMode(hub, summary, encoder)
        self._live = WebSocketEndpoint(scanner, hub, summary, self._lists, past, listen.max_clients)
        self._app = web.Application(
            client_max_size=protocol.MAX_MESSAGE + 1,  # aiohttp refuses exactly this size
            middlewares=[error_middleware(self._authorize_counted, hub.turns)],
        )
        self._app.on_response_prepare.append(add_warning)
        most = _connections(listen.max_clients)
        self._limiter = ConnectionLimiter(self._guard, most, listen.max_per_peer, hub.turns, scanner.budgets)
        self._measures = hub.measures
        rest = kinds.rest(scanner, hub, summary, encoder, lambda: self.clients, self.problems, lambda: self.serving)
        rest.access, rest.reload_configuration = self.access, self._reload_on_request
        rest.needs_restart = lambda: self.needs_restart
        rest.config_changed = lambda: self.config_changed()
        changes = kinds.changes(scanner, hub, encoder, history)
        self.configuration: Callable[[], config.Table] = lambda: config.Config(listen=listen, access=self._access)
        """Returns the configuration in force; the daemon sets one that knows the other tables."""
        people = PeopleApi(scanner, hub, summary, encoder, history)
        settings = SettingsView(lambda: self.configuration())
        metrics = kinds.metrics(scanner, hub, summary, encoder, history, self._live, self._limiter, self.problems)
        metrics.has_devices = lambda: self._access.device_metrics
        parts = (
            self._live,
            rest,
            changes,
            people,
            past,
            CaptureApi(recorder),
            settings,
            metrics,
            Description(self.api),
            Page(),
        )
        self._app.add_routes(router(parts, (*self.api, *PAGE)))
        self._routes = {route.name: route for route in (*self.api, *PAGE)}
        self.self_test = SelfTest(self._connect_self_test)
        self.self_test_interval: float | None = None
        """Seconds between two self-tests; None without a watchdog."""
        self._runner = web.AppRunner(self._app, handler_cancellation=True, shutdown_timeout=0.1)
        self._unix: UnixSocket | None = None
        self._acceptor: Acceptor | None = None
        self._bound: dict[TcpAddress, socket.socket] = {}
        self._unbound: dict[TcpAddress, OSError] = {}
        self._inherited_paths: dict[str, tuple[int, int] | None] = {}
        """Paths of sockets that systemd opened, with device and inode at the start."""
        self._unreachable: str | None = None
        """Why no client can connect to the Unix socket."""

    @property
    def clients(self) -> int:
        """Number of open WebSockets."""
        return self._live.clients

    @property
    def addresses(self) -> list[str]:
        """TCP addresses that it listens on, as `HOST:PORT`."""
        return [str(TcpAddress(*sock.getsockname()[:2])) for sock in self.listeners if sock.family != socket.AF_UNIX]

    @property
    def listeners(self) -> list[socket.socket]:
        """Sockets that it listens on."""
        return self._acceptor.listeners if self._acceptor is not None else []

    def access(self) -> protocol.Access:
        """Return how clients reach this server, and where its tokens are."""
        is_credential = self._access.token_file is None and self._guard.tokens.configured
        default = "" if is_credential else str(default_token_file(self.config_file, self.tokens))
        return protocol.Access(
            listening=self.addresses, tls=self._tls is not None,
            hosts=self._guard.names, addresses=self._own_addresses(), tokens=len(self._guard.tokens),
            token_file=self._access.token_file or default, uid=os.geteuid(), gid=os.getegid(),
        )  # fmt: skip

    def _own_addresses(self) -> list[str]:
        networks = self._scanner.networks.values()
        return sorted({ip_text(network.own) for network in networks if network.state != NetworkState.EXCLUDED})

    def problems(self) -> tuple[str, ...]:
        """Return the addresses that it cannot listen on."""
        unix = () if self._unreachable is None else (self._unreachable,)
        return unix + tuple(
            f"cannot listen on {address}: {why.strerror}"
            for address, why in self._unbound.items()
            if why.errno not in UNAVAILABLE or not address.loopback
        )

    # ---- life -----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Listen. Raises BadAddress, AlreadyRunning, ListenError, LibraryError."""
        check_library()
        addresses = self._addresses(self._listen.tcp)
        self._check_reach(addresses, self._guard)
        self._warn_without_tls(addresses)
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
            tasks.create_task(self._live.watch_over(), name="heartbeats")
            tasks.create_task(self._limiter.run(), name="what is not read")
            tasks.create_task(self._measures.run(), name="loop lag")
            tasks.create_task(self._retry_binds(), name="listen again")
            tasks.create_task(self.self_test.run(self.self_test_interval), name="self-test")

    async def _reload_on_request(self) -> None:
        """Read the configuration again, as on SIGHUP. Raises Refused with the reason why it was not applied."""
        if self.reload_configuration is None:
            raise Refused("busy", "netscand is starting or stopping")
        if error := await self.reload_configuration():
            raise Refused("bad_request", f"the configuration was not reloaded: {error}")

    def reload(self, access: config.Access, listen: config.Listen | None = None) -> None:
        """Read tokens and certificate again, and apply them with `[access]` to all connections; listen on its `tcp`.

        Raises TokensRefused, BadAddress, BadCertificate, also for what applies only after a restart; then nothing has
        changed.
        """
        guard = Guard(access)
        addresses = self._addresses((listen or self._listen).tcp)
        self._check_reach(addresses, guard)
        if listen is not None:
            _tls_context(listen)
        if self._tls is not None:
            from netscand.serve.tls import load_certificate

            load_certificate(self._tls, self._listen)
        self._access = access
        self._guard = self._limiter.guard = guard
        if self._unix is not None:
            try:
                self._unix.permit(*self._unix_mode())
            except OSError as error:  # each client that connects is checked anyway
                log.warning("[listen] unix: %s: %s", self._listen.unix, error.strerror)
        self._live.reauthorize()
        if listen is not None:
            self._listen_on(addresses)
            self._listen = structs.replace(self._listen, tcp=listen.tcp)

    def begin_again(self, reason: str) -> None:
        """Let all clients of the stream connect again: the log is another one."""
        self._live.begin_again(reason)

    async def close(self) -> None:
        """Stop accepting, close all connections, and return within a second."""
        self.serving = False
        if self._acceptor is not None:  # systemd keeps later connections for the next netscand
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

    def _addresses(self, tcp: Sequence[str]) -> list[TcpAddress]:
        return [address for text in tcp for address in tcp_addresses(text)]

    def _listen_on(self, addresses: Sequence[TcpAddress]) -> None:
        """Listen on these TCP addresses instead of the present ones; connections stay."""
        known = {*self._bound, *self._unbound}
        for address in known.difference(addresses):  # first: 0.0.0.0 needs the port of 127.0.0.1
            self._unbound.pop(address, None)
            if (sock := self._bound.pop(address, None)) is not None and self._acceptor is not None:
                self._acceptor.stop(sock)
        for address in addresses:
            if address not in known:
                self._bind(address)
        if not known.issuperset(addresses):
            self._warn_without_tls(addresses)

    def _warn_without_tls(self, addresses: Sequence[TcpAddress]) -> None:
        if self._tls is None and any(not address.loopback for address in addresses):
            log.warning("other hosts send tokens unencrypted: set [listen] tls_certificate and tls_key")

    def _check_reach(self, addresses: Sequence[TcpAddress], guard: Guard) -> None:
        """Check that there are tokens if other hosts can connect. Raises BadAddress."""
        inherited_sockets = [
            TcpAddress(*sock.getsockname()[:2]) for sock in self._inherited if sock.family != socket.AF_UNIX
        ]
        _check_reach((*addresses, *inherited_sockets), guard)

    def _unix_mode(self) -> tuple[int, int | None]:
        """Return mode and group. Only a member can give it the socket; else all may connect, and the guard refuses."""
        group = self._guard.group
        may_give = group is None or os.geteuid() == 0 or group in (os.getegid(), *os.getgroups())
        closed = self._access.others == "none" and may_give
        return 0o660 if closed else 0o666, group if closed else None

    async def _finish_answers(self) -> None:
        """Wait until requests that came before are answered: a restart refuses none (FAULTS F2)."""
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
        route = route_of(request, self._routes)
        connection.authorize(request.headers, route.checks if route is not None else Checks.ALL)
        refuse_token(request.query)
        if route is None:
            return  # the handler answers 404 or 405
        if connection.role < route.role:
            may_have_one = len(self._guard.tokens) > 0 and not connection.peer.unix
            route.require(connection.role, suggest_token=may_have_one and token_in(request.headers) is None)
        if route.parameters is not None:
            check_query(request.query, route.parameters)

    async def _connect_self_test(self, sock: socket.socket) -> None:
        server = self._runner.server
        assert server is not None
        connection = Connection(self._limiter, server)
        connection.peer = SELF  # not counted: it always gets a connection
        connection.account = SELF.key  # from its first byte on: not behind unauthenticated clients
        await asyncio.get_running_loop().connect_accepted_socket(lambda: cast(Any, connection), sock)

    def _bind(self, address: TcpAddress) -> None:
        try:
            sock = tcp_socket(address)
        except OSError as error:
            known = self._unbound.get(address)
            if known is None or known.errno != error.errno:
                level = logging.INFO if error.errno in UNAVAILABLE and address.loopback else logging.WARNING
                log.log(
                    level, "cannot listen on %s: %s; tried again every %g s", address, error.strerror, RETRY_INTERVAL
                )
            self._unbound[address] = error
            return
        if self._unbound.pop(address, None) is not None:
            log.info("now listening on %s", address)
        assert self._acceptor is not None
        self._bound[address] = sock
        self._acceptor.listen(sock)

    async def _retry_binds(self) -> None:
        while True:
            await asyncio.sleep(RETRY_INTERVAL)
            if self.serving:
                self._check_unix_path()
                for address in tuple(self._unbound):
                    self._bind(address)

    def _check_unix_path(self) -> None:
        """Listen again if the path of the Unix socket was removed; if that is not possible, report it."""
        before, self._unreachable = self._unreachable, None
        for path, place in self._inherited_paths.items():
            if inode_of(path) != place:
                self._unreachable = f"{path} was removed or replaced: systemctl restart netscand.socket netscand"
        if self._unix is not None and not self._unix.in_place:
            assert self._acceptor is not None
            old = self._unix.sock
            try:
                self._unix.renew(*self._unix_mode())
            except OSError as error:
                why = "another file was created there; remove it" if error.errno == errno.EADDRINUSE else error.strerror
                self._unreachable = f"[listen] unix: {self._unix.path} was removed: {why}"
            else:
                log.warning("[listen] unix: %s was removed; created again", self._unix.path)
                self._acceptor.listen(self._unix.sock)
                self._acceptor.stop(old)
        if self._unreachable not in (None, before):
            log.warning("%s", self._unreachable)


def _connections(max_clients: int) -> int:
    """Return how many connections the descriptors permit; the soft limit is raised as far as the hard one permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_clients + EXTRA_CONNECTIONS + RESERVED_DESCRIPTORS
    if hard == resource.RLIM_INFINITY or soft < wanted <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        soft = max(soft, wanted)
    elif soft < hard < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return max(soft - RESERVED_DESCRIPTORS, 1)
