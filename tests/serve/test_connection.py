"""Limits and timeouts of connections (FAULTS T16)."""

import asyncio
import json
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from websockets.asyncio.client import connect

from netscand import config
from netscand.serve import connection, connection_limits, query
from netscand.serve.auth import UNAUTHENTICATED, Guard, Peer, Role
from netscand.serve.connection_limits import RESERVED, ConnectionLimiter
from netscand.serve.fair_turns import Account
from netscand.serve.http import Http
from netscand.serve.tls import HANDSHAKE_TIMEOUT
from tests.serve.certificate import CERTIFICATE, certificate
from tests.serve.house import TOKENS, House, handshake, house, mac, receive, token_file
from tests.serve.test_auth import acting_as


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that other users may enter."""
    with TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


async def connected(lan: House, count: int, *, tcp: bool) -> list[socket.socket]:
    """Open connections that send nothing."""
    loop = asyncio.get_running_loop()
    found = []
    for _ in range(count):
        sock = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", lan.port) if tcp else str(lan.path))
        found.append(sock)
        if not len(found) % 50:
            await asyncio.sleep(0.01)
    return found


def still_open(socks: list[socket.socket]) -> int:
    count = 0
    for sock in socks:
        try:
            count += sock.recv(1) != b""
        except BlockingIOError:
            count += 1
        except ConnectionError:
            pass
    return count


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def test_500_idle_connections_of_a_peer_lock_no_other_out(
    root: None, open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FIRST_REQUEST", 1000.0)  # none of them may time out

    async def play() -> None:
        async with house(open_path) as lan:
            with acting_as(1234, 1234):
                idle = await connected(lan, 500, tcp=False)
            remote = await connected(lan, 500, tcp=True)
            await settled(lambda: (still_open(idle), still_open(remote)) == (64, 64))
            assert len(lan.server._limiter.connections) == 128
            async with asyncio.timeout(30):
                with acting_as(1235, 1235):
                    (other,) = await connected(lan, 1, tcp=False)
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(other, b"GET /api/status HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await loop.sock_recv(other, 100)).startswith(b"HTTP/1.1 200")
                assert (await lan.ask("GET", "/api/status"))[0] == 200
            idle.pop(0).close()
            await settled(lambda: len(lan.server._limiter.connections) == 128)
            with acting_as(1234, 1234):
                again = await connected(lan, 2, tcp=False)
            await settled(lambda: still_open(again) == 1)
            for sock in (*idle, *remote, *again, other):
                sock.close()

    asyncio.run(play())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_addresses_of_loopback_are_one_peer_for_each_user(root: None, tmp_path: Path, host: str) -> None:
    """FAULTS T16: 127.0.0.0/8 has 16 million of them; and an account's connections do not count for others."""

    async def play() -> None:
        async with house(tmp_path, listen={"max_per_peer": 3, "tcp": (f"[{host}]:0",)}) as lan:
            loop = asyncio.get_running_loop()
            (listener,) = [sock for sock in lan.server.listeners if sock.family != socket.AF_UNIX]

            async def come(uid: int, count: int) -> list[socket.socket]:
                found = []
                for number in range(count):
                    with acting_as(uid, uid):
                        sock = socket.socket(listener.family)
                    sock.setblocking(False)
                    sock.bind((f"127.0.0.{2 + number}" if host != "::1" else host, 0))
                    await loop.sock_connect(sock, listener.getsockname()[:2])
                    await loop.sock_sendall(sock, b"GET /healthz HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % lan.port)
                    found.append(sock)
                return found

            many, others = await come(1234, 12), await come(1235, 2)
            await settled(lambda: (still_open(many), still_open(others)) == (3, 2))
            lan.server.reload(config.Access())
            for sock in (*many, *others):
                sock.close()
            await settled(lambda: not lan.server._limiter.connections)
            assert not lan.server._limiter._of_peer

    asyncio.run(play())


def test_root_has_no_limit_of_its_own(root: None, tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, listen={"max_per_peer": 2}) as lan:
            idle = await connected(lan, 10, tcp=False)
            await asyncio.sleep(0.05)
            assert still_open(idle) == 10
            for sock in idle:
                sock.close()

    asyncio.run(play())


def test_the_last_connections_are_reserved_for_root_and_group() -> None:
    connection_limits = ConnectionLimiter(Guard(config.Access()), RESERVED + 8, 64)

    def admitted(peer: Peer, tries: int) -> int:
        comers = [Standing(connection_limits, number, peer) for number in range(tries)]
        return sum(connection_limits.admit(each, peer) for each in comers)  # type: ignore[arg-type]

    assert admitted(Peer("a", Role.SCAN, False, False), 4) == 4
    assert admitted(Peer("b", Role.SCAN, False, False), 6) == 4
    assert admitted(Peer(("uid", 0), Role.ADMIN, True, True), 100) == RESERVED


class Standing:
    """Connection as the limiter knows it."""

    def __init__(
        self,
        connection_limits: ConnectionLimiter,
        number: int,
        peer: Peer | None = None,
        account: Account = UNAUTHENTICATED,
    ) -> None:
        self.limiter = connection_limits
        self.peer = peer or Peer(f"10.0.{number >> 8}.{number & 255}", Role.NONE, False, False)
        self.account = account
        self.gone = False

    def abort(self) -> None:
        self.gone = True
        self.limiter.leave(self, self.peer)  # type: ignore[arg-type]


def test_unauthenticated_peers_leave_room_for_all_others() -> None:
    """FAULTS T16, from a LAN: the oldest is closed, so that a client with a token gets a connection."""
    connection_limits = ConnectionLimiter(Guard(config.Access()), 400, 64)
    crowd = [Standing(connection_limits, number) for number in range(1000)]
    for number, one in enumerate(crowd):
        assert connection_limits.admit(one, one.peer)  # type: ignore[arg-type]
        if number == 50:
            connection_limits.mark_authenticated(one)  # type: ignore[arg-type]
    assert [number for number, one in enumerate(crowd) if not one.gone] == [50, *range(900, 1000)]
    assert connection_limits.refused["strangers"] == 899
    assert len(connection_limits.connections) == 101


def test_a_token_from_many_addresses_gets_not_every_connection() -> None:
    """They were counted by address alone: 20 IPv6 addresses took all connections."""
    connection_limits = ConnectionLimiter(Guard(config.Access()), 400 + RESERVED, 64)

    def come(count: int, token: str, since: int = 0) -> list[Standing]:
        found = [
            Standing(connection_limits, number, account=("token", token)) for number in range(since, since + count)
        ]
        for each in found:
            if connection_limits.admit(each, each.peer):  # type: ignore[arg-type]
                connection_limits.mark_authenticated(each)  # type: ignore[arg-type]
            else:
                each.gone = True
        return [each for each in found if not each.gone]

    many = come(1000, "mallory")
    assert len(many) == 400
    before = connection_limits.refused["account"]
    few = come(50, "alice", 2000)
    assert len(few) == 50
    assert [each.gone for each in many] == [False] * 350 + [True] * 50
    assert connection_limits.refused["account"] == before + 50
    local = [Standing(connection_limits, number, Peer(("uid", 1), Role.SCAN, True, False)) for number in range(64)]
    assert all(connection_limits.admit(each, each.peer) for each in local)  # type: ignore[arg-type]
    come(1000, "mallory", 3000)
    assert not any(each.gone for each in (*few, *local))
    assert len(connection_limits.connections) == 400
    for each in tuple(connection_limits.connections):
        connection_limits.leave(each, each.peer)
    assert not connection_limits._account_of


def test_a_client_with_a_token_is_not_unauthenticated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that stays unauthenticated is closed for the next one, during a handshake too."""
    monkeypatch.setattr(connection_limits, "UNAUTHENTICATED_PART", 10**9)  # for one

    async def play() -> None:
        access = {"others": "none", "token_file": token_file(tmp_path)}
        async with house(tmp_path, access=access, listen=certificate(tmp_path)) as lan:
            connection_limits = lan.server._limiter
            stranger, writer = await asyncio.open_connection("127.0.0.1", lan.port)
            await settled(lambda: len(connection_limits._unauthenticated) == 1)
            bearer = ("Authorization", f"Bearer {TOKENS['read']}")
            context = ssl.create_default_context(cadata=CERTIFICATE)
            url = f"wss://localhost:{lan.port}/ws"
            async with connect(url, ssl=context, additional_headers=[bearer], proxy=None) as client:
                await receive(client)
                assert not connection_limits._unauthenticated
                async with asyncio.timeout(HANDSHAKE_TIMEOUT / 2):
                    with suppress(ConnectionResetError):
                        assert await stranger.read() == b""
            writer.close()

    asyncio.run(play())


def test_every_counted_connection_is_removed_at_its_end() -> None:
    connection_limits = ConnectionLimiter(Guard(config.Access()), 1000, 2)
    peer = Peer("a", Role.SCAN, False, False)
    for _ in range(10):
        assert connection_limits.admit("one", peer)  # type: ignore[arg-type]
        connection_limits.leave("one", peer)  # type: ignore[arg-type]
        connection_limits.leave("one", peer)  # type: ignore[arg-type]
    assert not connection_limits.connections
    assert not connection_limits._of_peer


@pytest.mark.parametrize("said", [b"", b"GET /", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: "])
def test_an_incomplete_first_request_ends_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """FAULTS T16: slow loris, also if bytes trickle in."""
    monkeypatch.setattr(connection, "FIRST_REQUEST", 0.3)

    async def play() -> None:
        async with house(tmp_path) as lan:
            reader, writer = await asyncio.open_unix_connection(str(lan.path))
            writer.write(said)

            async def dribble() -> None:
                while True:
                    writer.write(b"x")
                    await asyncio.sleep(0.05)

            async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
                dribbling = tasks.create_task(dribble()) if said else None
                with suppress(ConnectionError):
                    assert await reader.read() == b""
                if dribbling:
                    dribbling.cancel()
            writer.close()

    asyncio.run(play())


@pytest.mark.parametrize("dribbles", [False, True])
def test_an_idle_connection_ends_even_if_bytes_trickle_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dribbles: bool
) -> None:
    monkeypatch.setattr(connection, "KEEP_ALIVE", 0.3)

    async def play() -> None:
        async with house(tmp_path) as lan:
            reader, writer = await asyncio.open_unix_connection(str(lan.path))
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(30):
                assert (await reader.readuntil(b'"}')).startswith(b"HTTP/1.1 200")
                if dribbles:
                    writer.write(b"GET /healthz HTTP/1.1\r\nX: ")
                with suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()

    asyncio.run(play())


def test_a_long_request_is_not_an_idle_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "KEEP_ALIVE", 0.5)
    monkeypatch.setattr(connection, "FIRST_REQUEST", 0.5)

    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws() as client, asyncio.TaskGroup() as tasks:
            await client.recv()
            asking = tasks.create_task(lan.ask("POST", "/api/scan?wait=1"))
            await settled(lambda: bool(lan.scanner.requested))
            await asyncio.sleep(1.0)
            lan.scanner.finish(42)
            assert (await asking)[0] == 200
            await client.send("x")
            assert await client.recv()

    asyncio.run(play())


WISH = b"POST /api/scan?wait=1 HTTP/1.1\r\nHost: x\r\n"
CHUNKED = WISH + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"X-Y: z\r\n"),
        (CHUNKED + b"2;", b"a" * 1024),
        (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-Y: z\r\n"),
    ],
    ids=["headers", "the size of a chunk", "trailers"],
)
def test_a_request_that_never_ends_is_aborted(
    tmp_path: Path, begin: bytes, more: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS T16: any user could fill the memory; 64 KiB is more than a request has beside its body."""
    monkeypatch.setattr(query, "SLOW", 1.0)  # some versions of aiohttp stop reading: then the body times out

    async def play() -> None:
        async with house(tmp_path) as lan:
            writer = await lan.connection(begin)
            async with asyncio.timeout(30):
                with suppress(ConnectionError):
                    for _ in range(64):
                        writer.write(more * (32 * 1024 // len(more)))
                        await writer.drain()
                        await asyncio.sleep(0.002)
                    raise AssertionError("2 MiB were taken")

    asyncio.run(play())


@contextmanager
def given_to_aiohttp() -> Iterator[list[int]]:
    """Yield the sizes of the pieces that aiohttp gets within the block."""
    given: list[int] = []
    take = Http.data_received

    def noting(self: Http, data: bytes) -> None:
        given.append(len(data))
        take(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Http, "data_received", noting)
        yield given


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (WISH + b"Content-Length: 0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (WISH + b"Content-Length: 0\r\n\r\n" + b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"X-Y: z\r\n"),
        (WISH + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n", b"z" * 1024),
    ],
    ids=["requests", "headers", "behind an upgrade"],
)
def test_bytes_after_a_request_wait_unread(tmp_path: Path, begin: bytes, more: bytes) -> None:
    """FAULTS T16: bytes after a long request are not kept, however small the requests are."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            writer = await lan.connection(begin)
            await settled(lambda: bool(lan.scanner.requested))
            (mine,) = lan.server._limiter.connections
            with given_to_aiohttp() as given, suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(1):
                    for _ in range(100):
                        writer.write(more * (64 * 1024 // len(more)))
                        await writer.drain()
            assert sum(given) == 0
            assert len(mine._waiting) <= connection.READ
            writer.close()

    asyncio.run(play())


def test_requests_in_one_write_are_answered_in_their_order(tmp_path: Path) -> None:
    """Pipelining (RFC 9112, section 9.3.2), with blank lines between requests."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            reader, writer = await asyncio.open_unix_connection(str(lan.path))
            paths = ["/healthz", "/api/networks", f"/api/devices/{mac(1).hex(':')}", "/nowhere"] * 25
            last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            writer.write(b"\r\n\r\n".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths) + last)
            async with asyncio.timeout(30):
                answers = (await reader.read()).split(b"HTTP/1.1 ")[1:]
            kinds = (b'{"status"', b'{"networks"', b'{"mac"', b'{"error"')
            assert [answer.partition(b"\r\n\r\n")[2][:6] for answer in answers] == [
                kinds[number % 4][:6] for number in range(101)
            ]
            writer.close()

    asyncio.run(play())


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_looks_like_heads_is_a_body(tmp_path: Path, chunked: bool) -> None:
    """A note full of blank lines is kept whole, however it is split on its way."""
    notes = "\r\n\r\nGET / HTTP/1.1\r\n\r\n" * 150
    body = json.dumps({"notes": notes}).replace("\\r\\n", "\r\n").encode()
    wrong = len(body)  # JSON allows no bare line ends in text: it is refused, once, and as a whole
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % wrong
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (wrong, body) if chunked else body

    async def play() -> None:
        async with house(tmp_path) as lan:
            reader, writer = await asyncio.open_unix_connection(str(lan.path))
            path = f"/api/devices/{mac(1).hex(':')}".encode()
            writer.write(
                b"PATCH %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%b\r\n\r\n%b" % (path, length, sent)
                + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
            async with asyncio.timeout(30):
                answers = (await reader.read()).split(b"HTTP/1.1 ")[1:]
            assert [answer[:3] for answer in answers] == [b"400", b"200"]
            writer.close()

    asyncio.run(play())


# ---- WebSockets: what comes is taken little by little (ATTACKED H3, H4) ----------------------------------------------


def frames(payload: bytes, opcode: int, count: int) -> bytes:
    """Return frames of a client, masked with zeros."""
    return (bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload) * count


@pytest.mark.parametrize("opcode", [0x1, 0x2, 0x9, 0xA], ids=["texts", "binaries", "pings", "pongs"])
def test_waiting_messages_are_not_passed_to_aiohttp(tmp_path: Path, opcode: int) -> None:
    """ATTACKED H4: aiohttp before 3.13 takes empty ones without limit; 16 sockets filled 1.5 GiB in 8 s."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            reader, writer = await asyncio.open_unix_connection(str(lan.path), limit=2**24)
            writer.write(handshake("/ws?updates=changes"))
            await reader.readuntil(b'"more":false}')
            (mine,) = lan.server._limiter.connections
            message_taken = 0
            hear_it, most = type(mine).message_taken, 0

            def noting(self: connection.Connection) -> None:
                nonlocal message_taken, most
                message_taken += 1
                most = max(most, sum(given) - 6 * message_taken)
                hear_it(self)

            with given_to_aiohttp() as given, pytest.MonkeyPatch.context() as patch:
                patch.setattr(connection.Connection, "message_taken", noting)
                writer.write(frames(b"", opcode, 20_000))
                async with asyncio.timeout(60):
                    while message_taken < 20_000:
                        if opcode != 0xA:
                            await reader.read(2**20)
                        await asyncio.sleep(0)
            assert max(given) <= connection.PIECE
            assert most <= 2 * connection.PIECE
            writer.close()

    asyncio.run(play())


@pytest.mark.slow
def test_a_client_that_reads_no_pongs_is_not_read(tmp_path: Path) -> None:
    """ATTACKED H4: pings were answered within aiohttp, as many as came, while others waited."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            writer = await lan.connection(handshake("/ws?updates=changes"))
            await settled(lambda: bool(lan.server.clients))
            (mine,) = lan.server._limiter.connections
            with suppress(TimeoutError):
                async with asyncio.timeout(2):
                    while True:
                        writer.write(frames(b"p" * 125, 0x9, 500))
                        await writer.drain()
            assert mine.transport is not None
            assert mine.transport.get_write_buffer_size() < 2 * connection.HIGH_WATER
            assert len(mine._waiting) <= connection.READ
            writer.transport.abort()

    asyncio.run(play())


@pytest.mark.parametrize("payload", [b"", b"x", b"p" * 125])
def test_a_pong_holds_what_its_ping_held(tmp_path: Path, payload: bytes) -> None:
    """RFC 6455, section 5.5.3, also between the parts of a snapshot."""

    async def play() -> None:
        async with house(tmp_path, devices=3000) as lan, lan.ws() as client:
            async with asyncio.timeout(30):
                await (await client.ping(payload or None))
                await receive(client)
                await (await client.ping(payload or b"again"))

    asyncio.run(play())


def test_another_account_waits_for_one_piece_of_a_flood(root: None, open_path: Path) -> None:
    """ATTACKED H3, H4: 60 sockets of one account delayed another's /healthz by 21 s.

    Counted in pieces and messages, so that a busy machine does not matter.
    """

    async def play() -> None:
        async with house(open_path) as lan:
            loop = asyncio.get_running_loop()
            with acting_as(1234, 1234):
                flood = await connected(lan, 30, tcp=False)
            noise = b'{"type":"none","more":"' + b"x" * 4000 + b'"}'
            sent = bytes((0x81, 0xFE)) + len(noise).to_bytes(2) + bytes(4) + noise
            blocks = (frames(b"", 0x9, 10_000), sent * 20, frames(b"{}", 0x1, 8_000))
            writers = []
            for number, sock in enumerate(flood):
                _, writer = await asyncio.open_unix_connection(sock=sock)
                writer.write(handshake("/ws?updates=changes") + blocks[number % 3] * 5)
                writers.append(writer)
            await settled(lambda: lan.server.clients == 30)
            message_taken = [0]
            hear_it = connection.Connection.message_taken

            def noting(self: connection.Connection) -> None:
                message_taken[0] += 1
                hear_it(self)

            with given_to_aiohttp() as given, pytest.MonkeyPatch.context() as patch:
                patch.setattr(connection.Connection, "message_taken", noting)
                for _ in range(20):
                    with acting_as(1235, 1235):
                        (other,) = await connected(lan, 1, tcp=False)
                    given.clear()
                    message_taken[0] = 0
                    await loop.sock_sendall(other, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert (await loop.sock_recv(other, 100)).startswith(b"HTTP/1.1 200")
                    assert message_taken[0] + len(given) < 30, (message_taken, given)
                    other.close()
            assert any(each._waiting for each in lan.server._limiter.connections), (
                "the flood is over: this proves nothing"
            )
            for writer in writers:
                writer.transport.abort()

    asyncio.run(play())
