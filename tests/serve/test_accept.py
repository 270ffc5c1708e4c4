"""The queue of a listener is shared by all accounts: it is emptied at once, and connections start in fair turns."""

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netscand.serve import accept
from netscand.serve.auth import Peer
from netscand.serve.connection import Connection
from tests.serve.house import House, house
from tests.serve.test_auth import acting_as
from tests.serve.test_connection import open_path, settled

__all__ = ["open_path"]

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@contextmanager
def begun() -> Iterator[list[Peer]]:
    """Yield the peers of the connections that start within the block."""
    peers: list[Peer] = []
    begin = Connection.connection_made

    def noting(self: Connection, transport: asyncio.BaseTransport) -> None:
        peers.append(self.peer)
        begin(self, transport)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "connection_made", noting)
        yield peers


def knock(lan: House, uid: int, count: int, *, tcp: bool = False, says: bytes = HEALTH) -> list[socket.socket]:
    """Open connections of an account while the daemon has no turn."""
    where = ("127.0.0.1", lan.port) if tcp else str(lan.path)
    found = []
    with acting_as(uid, uid):
        for _ in range(count):
            sock = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
            sock.setblocking(tcp)
            sock.connect(where)
            sock.send(says)
            found.append(sock)
    return found


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "loopback"])
def test_closed_connections_of_an_account_delay_no_other(
    root: None, open_path: Path, monkeypatch: pytest.MonkeyPatch, tcp: bool
) -> None:
    """Two processes that connected and closed locked root out: the queue was full, and four left it in a turn."""
    monkeypatch.setattr(accept, "HOLD", 60.0)  # however busy this machine is

    async def play() -> None:
        async with house(open_path) as lan:
            loop = asyncio.get_running_loop()
            with begun() as peers:
                for sock in knock(lan, 1234, 900, tcp=tcp):
                    sock.close()
                (ours,) = knock(lan, 0, 1, tcp=tcp, says=HEALTH.replace(b"localhost", b"localhost:%d" % lan.port))
                turns = 0
                while not peers:
                    await asyncio.sleep(0)
                    turns += 1
                    assert turns < 20
                ours.setblocking(False)
                assert (await loop.sock_recv(ours, 100)).startswith(b"HTTP/1.1 200")
                ours.close()
            assert [peer.key for peer in peers] == [("uid", 0)]

    asyncio.run(play())


def test_connections_over_a_limit_are_refused_before_they_start(
    root: None, open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transport and a parser for each took longer than the refusal itself."""
    monkeypatch.setattr(accept, "HOLD", 60.0)

    async def play() -> None:
        async with house(open_path) as lan:
            with begun() as peers:
                many = knock(lan, 1234, 500, says=b"")
                await settled(lambda: len(peers) == 64)
                await asyncio.sleep(0.1)
                assert len(peers) == len(lan.server._limiter.connections) == 64
                assert lan.server._limiter.refused["peer"] == 436
                for sock in many:
                    sock.close()
            await settled(lambda: not lan.server._limiter.connections)

    asyncio.run(play())


def test_connections_start_accounts_in_turn(root: None, open_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection of another account is among the first that start, however many came before it."""
    monkeypatch.setattr(accept, "HOLD", 60.0)

    async def play() -> None:
        async with house(open_path) as lan:
            with begun() as peers:
                socks = knock(lan, 1234, 60) + knock(lan, 1235, 1)
                await settled(lambda: len(peers) == 61)
            keys = [peer.key for peer in peers]
            assert keys.index(("uid", 1235)) <= 1
            for sock in socks:
                sock.close()

    asyncio.run(play())


def test_a_turn_of_the_loop_accepts_for_its_share_of_time(
    root: None, open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the queue is left for the next turn."""
    monkeypatch.setattr(accept, "HOLD", 0.0)

    async def play() -> None:
        async with house(open_path) as lan:
            with begun() as peers:
                socks = knock(lan, 1234, 10)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert len(lan.server._limiter.connections) < 10
                await settled(lambda: len(peers) == 10)
            for sock in socks:
                sock.close()

    asyncio.run(play())


def test_a_connection_aborted_before_it_starts_is_not_counted(root: None, open_path: Path) -> None:
    """It no longer counts, and its descriptor is free at once."""

    async def play() -> None:
        async with house(open_path) as lan:
            limiter = lan.server._limiter
            before = len(os.listdir("/proc/self/fd"))
            with begun() as peers:
                socks = knock(lan, 1234, 20)
                while not limiter.connections:
                    await asyncio.sleep(0)
                waiting = [each for each in limiter.connections if each.accepted is not None]
                assert waiting
                for each in waiting:
                    each.abort()
                assert not any(each in limiter.connections for each in waiting)
                for sock in socks:
                    sock.close()
                await settled(lambda: not limiter.connections and len(os.listdir("/proc/self/fd")) <= before)
            assert len(peers) < 20
            assert (await lan.ask("GET", "/healthz"))[0] == 200

    asyncio.run(play())


class Exhausted(socket.socket):
    """Listener on a system that has no free descriptor, the first two times."""

    tries = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.tries += 1
        if self.tries <= 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_without_descriptors_connections_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """FAULTS F14: they are answered as soon as there is one, and retries do not hold the loop."""
    monkeypatch.setattr(accept, "PAUSE", 0.05)

    async def play() -> None:
        async with house(tmp_path) as lan:
            with Exhausted(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(str(tmp_path / "full"))
                acceptor = lan.server._acceptor
                assert acceptor is not None
                acceptor.listen(listener)
                reader, writer = await asyncio.open_unix_connection(str(tmp_path / "full"))
                writer.write(HEALTH)
                async with asyncio.timeout(30):
                    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
                writer.close()
                assert listener.tries >= 3
                acceptor.stop(listener)

    asyncio.run(play())
    assert caplog.text.count("cannot accept a connection: Too many open files") == 2


def test_connections_waiting_at_close_are_answered(
    root: None, open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS F2: a restart refuses no connection that was accepted."""
    monkeypatch.setattr(accept, "HOLD", 60.0)

    async def play() -> None:
        async with house(open_path) as lan:
            socks = knock(lan, 1234, 20)
            while not any(each.accepted for each in lan.server._limiter.connections):
                await asyncio.sleep(0)
            await lan.server.close()
            answers = [sock.recv(100) for sock in socks]
            assert all(answer.startswith(b"HTTP/1.1 ") for answer in answers)
            for sock in socks:
                sock.close()

    asyncio.run(play())
