"""The server: sockets, start and close."""

import asyncio
import errno
import logging
import resource
import socket
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from netscand import config
from netscand.serve import server as server_module
from netscand.serve.encode import Encoder
from netscand.serve.hub import Hub
from netscand.serve.listen import AlreadyRunning, BadAddress, TcpAddress, tcp_socket
from netscand.serve.server import RESERVED_DESCRIPTORS, Server
from tests.serve.house import BOOT, EmptyHistory, FakeScanner, house, read_out, receive


def a_server(
    listen: config.Listen, access: config.Access | None = None, inherited_sockets: tuple[socket.socket, ...] = ()
) -> Server:
    translator = Encoder(lambda: BOOT, lambda _: None)
    hub = Hub(translator)
    return Server(
        FakeScanner(hub), hub, listen, access or config.Access(), translator, inherited_sockets, EmptyHistory()
    )


def test_closing_closes_all_clients_quickly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CLOSE_TIMEOUT", 1.0)  # clients get it on a busy machine too

    async def play() -> None:
        async with house(tmp_path, devices=3000) as lan, AsyncExitStack() as clients:
            polite = [await clients.enter_async_context(lan.ws(max_queue=None)) for _ in range(5)]
            deaf = await clients.enter_async_context(lan.ws(max_queue=1))
            deaf.transport.pause_reading()
            idle = await lan.connection(b"")
            waiting = await lan.connection(b"POST /api/scan?wait=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            while not lan.hub._waiting:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(10):
                await lan.server.close()
            assert lan.server.clients == 0
            assert not lan.server._limiter.connections
            assert not lan.path.exists()
            for client in polite:
                await read_out(client)
                assert client.close_code == 1001
            deaf.transport.abort()
            for writer in (idle, waiting):
                writer.close()

    asyncio.run(play())


@pytest.mark.parametrize("turns", range(6))
def test_connections_during_close_are_answered_or_kept(tmp_path: Path, turns: int) -> None:
    """FAULTS F2: in whichever turn of the loop, if systemd keeps the socket."""

    async def play() -> None:
        with socket.socket(socket.AF_UNIX) as given, socket.socket(socket.AF_UNIX) as client:
            given.bind(str(tmp_path / "given"))
            given.listen()
            given.setblocking(False)
            server = a_server(config.Listen(tcp=()), inherited_sockets=(given.dup(),))
            await server.open()
            client.connect(str(tmp_path / "given"))
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(server.close())
                for _ in range(4):  # started: clients have not sent their request yet
                    await asyncio.sleep(0)
                client.sendall(b"GET /api/networks HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                given.accept()[0].close()
            except BlockingIOError:
                client.setblocking(False)
                assert client.recv(100).startswith(b"HTTP/1.1 200 ")

    asyncio.run(play())


def test_closing_without_clients_takes_no_time(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            await lan.server.close()
            with pytest.raises(FileNotFoundError):
                await asyncio.open_unix_connection(str(lan.path))

    asyncio.run(play())


def test_it_can_be_opened_again_at_once(tmp_path: Path) -> None:
    async def play() -> None:
        port = "0"
        for _ in range(3):
            async with house(tmp_path, listen={"tcp": (f"127.0.0.1:{port}",)}) as lan:
                port = str(lan.port)
                assert (await lan.ask("GET", "/healthz"))[0] == 200

    asyncio.run(play())


def test_a_second_server_on_the_same_socket_is_refused(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            second = a_server(config.Listen(unix=str(lan.path), tcp=()))
            with pytest.raises(AlreadyRunning):
                await second.open()
            await second.close()
            assert (await lan.ask("GET", "/healthz"))[0] == 200

    asyncio.run(play())


def test_an_address_beyond_loopback_keeps_it_from_starting(tmp_path: Path) -> None:
    async def play() -> None:
        refused = a_server(config.Listen(unix=str(tmp_path / "s"), tcp=("127.0.0.1:0", "0.0.0.0:8000")))
        with pytest.raises(BadAddress, match="there is no token"):
            await refused.open()
        assert not (tmp_path / "s").exists()
        assert refused.addresses == []
        await refused.close()

    asyncio.run(play())


def test_a_socket_of_systemd_that_others_reach_needs_a_token_too(tmp_path: Path) -> None:
    """Whichever process opened it."""

    async def play() -> None:
        with socket.socket() as given:  # it never listens
            given.bind(("0.0.0.0", 0))
            refused = a_server(config.Listen(unix=str(tmp_path / "s"), tcp=()), inherited_sockets=(given.dup(),))
            with pytest.raises(BadAddress, match="there is no token"):
                await refused.open()
            await refused.close()
            refused._inherited[0].close()

    asyncio.run(play())


def test_a_port_in_use_is_reported_and_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "RETRY_INTERVAL", 0.05)
    caplog.set_level(logging.INFO)

    async def play() -> None:
        taken = tcp_socket(TcpAddress("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with house(tmp_path, listen={"tcp": (f"127.0.0.1:{port}",)}) as lan:
            _, _, body = await lan.ask("GET", "/api/status")
            assert body["problems"] == [f"cannot listen on 127.0.0.1:{port}: Address already in use"]
            assert body["status"] == "degraded"
            await asyncio.sleep(0.2)
            assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
            taken.close()
            async with asyncio.timeout(30):
                while not lan.server.addresses:
                    await asyncio.sleep(0.01)
            assert lan.port == port
            _, _, body = await lan.ask("GET", "/api/status")
            assert body["status"] == "ok"

    asyncio.run(play())


def test_a_host_without_ipv6_has_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_ipv6(address: TcpAddress) -> socket.socket:
        if address.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return tcp_socket(address)

    monkeypatch.setattr(server_module, "tcp_socket", without_ipv6)

    async def play() -> None:
        async with house(tmp_path, listen={"tcp": ("127.0.0.1:0", "[::1]:0")}) as lan:
            assert lan.server.problems() == ()
            assert len(lan.server.addresses) == 1

    asyncio.run(play())


@pytest.mark.parametrize(("others", "mode"), [("scan", 0o666), ("read", 0o666), ("none", 0o660)])
def test_the_socket_is_open_to_those_who_may_use_it(tmp_path: Path, others: str, mode: int) -> None:
    """FAULTS T17."""

    async def play() -> None:
        async with house(tmp_path, access={"others": others}) as lan:
            assert stat.S_IMODE(lan.path.stat().st_mode) == mode

    asyncio.run(play())


def test_a_socket_of_systemd_is_served_and_its_path_kept(tmp_path: Path) -> None:
    async def play() -> None:
        path = tmp_path / "given"
        with socket.socket(socket.AF_UNIX) as given:
            given.bind(str(path))
            given.listen()
            server = a_server(config.Listen(unix=str(tmp_path / "own"), tcp=()), inherited_sockets=(given.dup(),))
            await server.open()
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 503")  # starting: `run` was not called
            writer.close()
            await server.close()
            assert path.exists()
            assert not (tmp_path / "own").exists()

    asyncio.run(play())


async def become(server: Server, problem: str | None) -> None:
    """Wait until the server has this problem, or none."""
    async with asyncio.timeout(30):
        while not (problem in server.problems()[0] if problem and server.problems() else server.problems() == ()):
            await asyncio.sleep(0.01)


def test_a_removed_unix_socket_is_created_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS T17: the daemon went on, healthy, and no client found it. Open connections stay."""
    monkeypatch.setattr(server_module, "RETRY_INTERVAL", 0.05)

    async def play() -> None:
        async with house(tmp_path, access={"others": "none"}) as lan, lan.ws() as client:
            await receive(client)
            for _ in range(2):
                lan.path.unlink()
                async with asyncio.timeout(30):
                    while not lan.path.exists():
                        await asyncio.sleep(0.01)
                assert stat.S_IMODE(lan.path.stat().st_mode) == 0o660
                assert (await lan.ask("GET", "/healthz"))[0] == 200
            assert lan.server.problems() == ()
            lan.scanner.join(9)
            await receive(client)
        assert not lan.path.exists()

    asyncio.run(play())


@pytest.mark.parametrize("kind", ["file", "socket"])
def test_a_file_instead_of_the_unix_socket_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Until it is removed."""
    monkeypatch.setattr(server_module, "RETRY_INTERVAL", 0.05)

    async def play() -> None:
        with socket.socket(socket.AF_UNIX) as other:
            async with house(tmp_path) as lan:
                lan.path.unlink()
                if kind == "socket":
                    other.bind(str(lan.path))
                else:
                    lan.path.write_text("precious")
                inode = lan.path.stat().st_ino
                await become(lan.server, "another file was created there")
                await asyncio.sleep(0.2)
                assert lan.path.stat().st_ino == inode
                lan.path.unlink()
                await become(lan.server, None)
                assert (await lan.ask("GET", "/healthz"))[0] == 200

    asyncio.run(play())


def test_a_socket_of_systemd_that_was_removed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only systemd can create it again."""
    monkeypatch.setattr(server_module, "RETRY_INTERVAL", 0.05)

    async def play() -> None:
        path = tmp_path / "given"
        with socket.socket(socket.AF_UNIX) as given:
            given.bind(str(path))
            given.listen()
            server = a_server(config.Listen(tcp=()), inherited_sockets=(given.dup(),))
            await server.open()
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(server.run())
                await asyncio.sleep(0.2)
                assert server.problems() == ()
                path.rename(tmp_path / "away")
                await become(server, "systemctl restart netscand.socket")
                (tmp_path / "away").rename(path)
                await become(server, None)
                running.cancel()
            await server.close()

    asyncio.run(play())


def test_descriptors_are_reserved_for_the_daemon() -> None:
    """FAULTS T16, F14."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = server_module._connections(256)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert before[0] <= soft <= hard == before[1]
    assert most == soft - RESERVED_DESCRIPTORS


def test_the_server_imports_only_what_it_may() -> None:
    """`serve` imports its own libraries, the core and the contract, and no other room."""
    for source in (Path(__file__).parents[2] / "netscand" / "serve").glob("*.py"):
        for line in source.read_text().splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"]) and words[1].startswith("netscand"):
                own = words[1].startswith(("netscand.serve", "netscand.core"))
                assert own or words[1] in (
                    "netscand",
                    "netscand.checkout",
                    "netscand.config",
                    "netscand.off_loop",
                    "netscand.protocol",
                    "netscand.validation_messages",
                ), f"{source.name}: {line}"
