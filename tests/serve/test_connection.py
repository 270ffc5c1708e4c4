"""Caps and time-outs of connections (FAULTS T16)."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from websockets.asyncio.client import connect

from netscand import config
from netscand.serve import connection
from netscand.serve.access import Guard, Peer
from netscand.serve.connection import KEPT_BACK, Lobby
from netscand.serve.rights import Role
from netscand.serve.tls import HANDSHAKE
from tests.serve.certificate import CERTIFICATE, certificate
from tests.serve.house import TOKENS, House, hear, house, token_file
from tests.serve.test_access import acting_as


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that other users may enter."""
    with TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


async def connected(lan: House, count: int, *, tcp: bool) -> list[socket.socket]:
    """So many connections that say nothing."""
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


def test_500_idle_connections_of_one_address_and_one_user_keep_nobody_else_out(
    root: None, open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FIRST_REQUEST", 1000.0)  # none of them is to go by itself

    async def play() -> None:
        async with house(open_path) as lan:
            with acting_as(1234, 1234):
                idle = await connected(lan, 500, tcp=False)
            remote = await connected(lan, 500, tcp=True)
            await settled(lambda: (still_open(idle), still_open(remote)) == (64, 64))
            assert len(lan.server._lobby.inside) == 128
            async with asyncio.timeout(30):
                with acting_as(1235, 1235):
                    (other,) = await connected(lan, 1, tcp=False)
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(other, b"GET /api/status HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await loop.sock_recv(other, 100)).startswith(b"HTTP/1.1 200")
                assert (await lan.ask("GET", "/api/status"))[0] == 200
            idle.pop(0).close()
            await settled(lambda: len(lan.server._lobby.inside) == 128)
            with acting_as(1234, 1234):
                again = await connected(lan, 2, tcp=False)
            await settled(lambda: still_open(again) == 1)
            for sock in (*idle, *remote, *again, other):
                sock.close()

    asyncio.run(play())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_addresses_of_loopback_are_one_peer_for_each_user(root: None, tmp_path: Path, host: str) -> None:
    """FAULTS T16: 127.0.0.0/8 has 16 million of them; and what one account holds is not taken from the others."""

    async def play() -> None:
        async with house(tmp_path, listen={"max_per_peer": 3, "tcp": (f"[{host}]:0",)}) as lan:
            loop = asyncio.get_running_loop()
            (listener,) = [sock for server in lan.server._listeners for sock in server.sockets if sock.family != 1]

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
            await settled(lambda: not lan.server._lobby.inside)
            assert not lan.server._lobby._of_peer

    asyncio.run(play())


def test_root_has_no_cap_of_its_own(root: None, tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, listen={"max_per_peer": 2}) as lan:
            idle = await connected(lan, 10, tcp=False)
            await asyncio.sleep(0.05)
            assert still_open(idle) == 10
            for sock in idle:
                sock.close()

    asyncio.run(play())


def test_the_last_connections_are_kept_back_for_root_and_the_group() -> None:
    lobby = Lobby(Guard(config.Access()), KEPT_BACK + 8, 64)
    inside = iter(range(1000))

    def admitted(peer: Peer, tries: int) -> int:
        return sum(lobby.admit(next(inside), peer) for _ in range(tries))  # type: ignore[arg-type]

    assert admitted(Peer("a", Role.SCAN, False, False), 5) == 5
    assert admitted(Peer("b", Role.SCAN, False, False), 5) == 3
    assert admitted(Peer(("uid", 0), Role.ADMIN, True, True), 100) == KEPT_BACK


class Standing:
    """A connection as far as the lobby knows it."""

    def __init__(self, lobby: Lobby, number: int) -> None:
        self.lobby = lobby
        self.peer = Peer(f"10.0.{number >> 8}.{number & 255}", Role.NONE, False, False)
        self.gone = False

    def abort(self) -> None:
        self.gone = True
        self.lobby.leave(self, self.peer)  # type: ignore[arg-type]


def test_strangers_of_many_addresses_leave_room_for_everybody_else() -> None:
    """FAULTS T16, from a LAN: the one who stood there longest makes way, so that who has a token comes through."""
    lobby = Lobby(Guard(config.Access()), 400, 64)
    crowd = [Standing(lobby, number) for number in range(1000)]
    for number, one in enumerate(crowd):
        assert lobby.admit(one, one.peer)  # type: ignore[arg-type]
        if number == 50:
            lobby.know(one)  # type: ignore[arg-type]
    assert [number for number, one in enumerate(crowd) if not one.gone] == [50, *range(900, 1000)]
    assert lobby.refused["strangers"] == 899
    assert len(lobby.inside) == 101


def test_who_shows_a_token_is_a_stranger_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one who stays a stranger is cut for the next, in a handshake too."""
    monkeypatch.setattr(connection, "STRANGERS", 10**9)  # room for one

    async def play() -> None:
        access = {"others": "none", "token_file": token_file(tmp_path)}
        async with house(tmp_path, access=access, listen=certificate(tmp_path)) as lan:
            lobby = lan.server._lobby
            stranger, writer = await asyncio.open_connection("127.0.0.1", lan.port)
            await settled(lambda: len(lobby._strangers) == 1)
            bearer = ("Authorization", f"Bearer {TOKENS['read']}")
            context = ssl.create_default_context(cadata=CERTIFICATE)
            url = f"wss://localhost:{lan.port}/ws"
            async with connect(url, ssl=context, additional_headers=[bearer], proxy=None) as client:
                await hear(client)
                assert not lobby._strangers
                async with asyncio.timeout(HANDSHAKE / 2):
                    with suppress(ConnectionResetError):
                        assert await stranger.read() == b""
            writer.close()

    asyncio.run(play())


def test_what_is_counted_in_is_counted_out() -> None:
    lobby = Lobby(Guard(config.Access()), 1000, 2)
    peer = Peer("a", Role.SCAN, False, False)
    for _ in range(10):
        assert lobby.admit("one", peer)  # type: ignore[arg-type]
        lobby.leave("one", peer)  # type: ignore[arg-type]
        lobby.leave("one", peer)  # type: ignore[arg-type]
    assert not lobby.inside
    assert not lobby._of_peer


@pytest.mark.parametrize("said", [b"", b"GET /", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: "])
def test_a_first_request_that_does_not_come_whole_ends_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """FAULTS T16: slow loris, however it dribbles."""
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
def test_an_idle_connection_ends_after_keep_alive_even_if_it_dribbles(
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


def test_a_request_that_takes_long_is_no_idle_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "KEEP_ALIVE", 0.5)
    monkeypatch.setattr(connection, "FIRST_REQUEST", 0.5)

    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws() as client, asyncio.TaskGroup() as tasks:
            await client.recv()
            asking = tasks.create_task(lan.ask("POST", "/api/scan?wait=1"))
            await settled(lambda: bool(lan.scanner.wishes))
            await asyncio.sleep(1.0)
            lan.scanner.finish(42)
            assert (await asking)[0] == 200
            await client.send("x")
            assert await client.recv()

    asyncio.run(play())


WISH = b"POST /api/scan?wait=1 HTTP/1.1\r\nHost: x\r\n"
CHUNKED = WISH + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"X-Y: z\r\n"),
        (WISH + b"Content-Length: 0\r\n\r\n" + b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"X-Y: z\r\n"),
        (CHUNKED + b"2;", b"a" * 1024),
        (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-Y: z\r\n"),
        (WISH + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n", b"z" * 1024),
    ],
    ids=["headers", "headers behind a request", "the size of a chunk", "trailers", "behind an upgrade"],
)
def test_who_never_ends_a_request_is_cut(tmp_path: Path, begin: bytes, more: bytes) -> None:
    """FAULTS T16: anybody could fill the memory by it; 64 KiB is more than a request has beside its body."""

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


def test_requests_that_wait_behind_another_one_are_few(tmp_path: Path) -> None:
    """FAULTS T16: what is sent behind a request that takes long is not kept, however small each of it is."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            writer = await lan.connection(WISH + b"Content-Length: 0\r\n\r\n")
            await settled(lambda: bool(lan.scanner.wishes))
            (mine,) = lan.server._lobby.inside
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(1):
                    for _ in range(100):
                        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
                        await writer.drain()
            assert len(mine._messages) <= connection.PIPELINED or mine not in lan.server._lobby.inside
            writer.close()

    asyncio.run(play())
