"""Memory for clients that do not read is bounded: for a connection, an account, and in all (ATTACKED M6, L2)."""

import asyncio
import io
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from netscand import config, protocol
from netscand.core.model import Status
from netscand.core.ratelimit import UNREAD, Budgets
from netscand.serve import connection, full_mode, subscriber
from netscand.serve.auth import Guard, Peer, Role
from netscand.serve.connection_limits import CHECK_AFTER, ConnectionLimiter
from tests.serve.house import EmptyHistory, House, handshake, house, mac, read_out, receive, receive_all

pytestmark = pytest.mark.slow

MANY = 5000
"""Devices; their list has some 2.3 MB."""


async def silent(lan: House, request: bytes, count: int) -> list[socket.socket]:
    """Open clients that send a request, and read nothing."""
    loop = asyncio.get_running_loop()
    found = []
    for _ in range(count):
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        await loop.sock_connect(sock, str(lan.path))
        await loop.sock_sendall(sock, request)
        found.append(sock)
    return found


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@contextmanager
def counted(lan: House) -> Iterator[list[int]]:
    """Yield the number of devices encoded within the block."""
    made = [0]
    translator = lan.hub._encoder
    translate = translator.device

    def counting(device: Any) -> protocol.Device:  # noqa: ANN401
        made[0] += 1
        return translate(device)

    translator.device = counting  # type: ignore[method-assign]
    yield made
    translator.device = translate  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "request_",
    [handshake("/ws"), handshake("/ws?updates=changes"), get("/api/devices")],
    ids=["full", "changes", "REST"],
)
def test_a_list_that_is_not_read_is_not_built(tmp_path: Path, request_: bytes) -> None:
    """60 unread streams of 65,000 devices took 1.4 GiB: each had a whole list before a byte was read."""

    async def play() -> None:
        async with house(tmp_path, devices=MANY) as lan:
            with counted(lan) as made:
                socks = await silent(lan, request_, 10)
                before = -1
                async with asyncio.timeout(30):
                    while made[0] != before or not made[0]:
                        before = made[0]
                        await asyncio.sleep(0.3)
                assert made[0] < 10 * MANY / 4
            held = [each.bytes_kept for each in lan.server._limiter.connections]
            assert len(held) == 10
            assert max(held) < 256 * 1024
            for sock in socks:
                sock.close()

    asyncio.run(play())


def test_later_lists_are_built_as_they_are_read_too(tmp_path: Path) -> None:
    """Clients that read the first list, and stop at different times, would each keep another one."""

    async def play() -> None:
        async with house(tmp_path, devices=MANY) as lan:
            streams = []
            for number in range(5):
                reader, writer = await asyncio.open_unix_connection(str(lan.path), limit=2**24)
                writer.write(handshake("/ws"))
                await reader.readuntil(b'"more":false}')
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                streams.append((reader, writer))
                lan.scanner.turn(number, Status.OFFLINE)
                await asyncio.sleep(0.1)
            with counted(lan) as made:
                for number in range(3):
                    lan.scanner.turn(number, Status.ONLINE)
                    await asyncio.sleep(1.1)
                assert made[0] < 5 * MANY
            held = [each.bytes_kept for each in lan.server._limiter.connections]
            assert max(held) < 256 * 1024
            for _, writer in streams:
                writer.close()

    asyncio.run(play())


def test_large_lists_equal_small_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes, ends of scans, the filter: in whichever way a list is built."""
    monkeypatch.setattr(full_mode, "SHARED", 2)

    async def play() -> None:
        async with house(tmp_path, devices=400) as lan, lan.ws("") as client, lan.ws(f"?q={mac(1).hex(':')}") as named:
            first = await receive(client)
            assert isinstance(first, protocol.InitialState)
            assert len(first.devices) == 400
            await receive(named)
            lan.scanner.turn(1, Status.OFFLINE)
            for each, count in ((client, 400), (named, 1)):
                update = await receive(each)
                assert isinstance(update, protocol.ScanUpdate)
                assert (update.scan_id, update.cursor, len(update.devices)) == (None, "k3f9-1", count)
                found = {device.mac: device.status for device in update.devices}
                assert found[mac(1).hex(":")] == "offline"
            lan.scanner.finish(7)
            update = await receive(client)
            assert isinstance(update, protocol.ScanUpdate)
            assert (update.scan_id, len(update.devices)) == (7, 400)
            await client.send('{"type": "scan_now", "request": "r"}')
            answers = await receive_all(client, least=1)
            assert [answer.request for answer in answers if isinstance(answer, protocol.ScanAccepted)] == ["r"]

    asyncio.run(play())


def test_snapshots_share_the_order_of_the_devices(tmp_path: Path) -> None:
    """Half a megabyte each on a large LAN, until a device is added or removed."""

    async def play() -> None:
        async with house(tmp_path, devices=10) as lan:
            first = lan.hub._all_macs()
            lan.scanner.turn(1, Status.OFFLINE)
            assert lan.hub._all_macs() is first
            lan.scanner.join(11)
            second = lan.hub._all_macs()
            assert (len(first), len(second)) == (10, 11)
            lan.scanner.forget(mac(3))
            lan.scanner.join(12)
            assert mac(3) not in lan.hub._all_macs()
            assert mac(12) in lan.hub._all_macs()

    asyncio.run(play())


def test_a_stream_that_reads_no_part_of_its_snapshot_lagged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes meanwhile are kept for it, with a limit."""
    monkeypatch.setattr(subscriber, "SLOW", 0.5)

    async def play() -> None:
        async with house(tmp_path, devices=MANY) as lan, lan.ws(max_queue=1) as client:
            client.transport.pause_reading()
            async with asyncio.timeout(30):
                while lan.hub._snapshots:
                    await asyncio.sleep(0.05)
            client.transport.resume_reading()
            await read_out(client)
            assert client.close_code == protocol.CLOSE_LAGGED

    asyncio.run(play())


@pytest.mark.parametrize("path", ["/api/devices", "/api/openapi.json", "/metrics", "/"])
@pytest.mark.parametrize("closes", ["", "Connection: close\r\n"], ids=["stays", "closes"])
def test_a_client_that_does_not_read_an_answer_is_aborted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, closes: str
) -> None:
    """ATTACKED L2: answers in one piece had no timeout; a closed one waits for its reader indefinitely."""
    monkeypatch.setattr(connection, "SLOW", 2.0)
    accept = connection.Connection.accept

    def narrowly(self: connection.Connection, sock: socket.socket, *, tls: bool = False) -> bool:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        return accept(self, sock, tls=tls)

    monkeypatch.setattr(connection.Connection, "accept", narrowly)  # otherwise the kernel has room for the answers

    async def play() -> None:
        async with house(tmp_path, devices=50) as lan:
            socks = await silent(lan, f"GET {path} HTTP/1.1\r\nHost: x\r\n{closes}\r\n".encode(), 3)
            connections = lan.server._limiter.connections
            async with asyncio.timeout(30):
                while (
                    len([each for each in connections if each.transport and each.transport.get_write_buffer_size()]) < 3
                ):
                    await asyncio.sleep(0.01)
                while connections:
                    await asyncio.sleep(0.05)
            for sock in socks:
                sock.close()

    asyncio.run(play())


def test_an_unread_answer_counts_changes_and_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part had a limit, the whole had none: a list with a part every 29 s stayed open for hours, uncounted."""
    monkeypatch.setattr(connection, "ANSWER", 4.0)

    async def play() -> None:
        async with house(tmp_path, devices=MANY) as lan:
            (sock,) = await silent(lan, get("/api/devices"), 1)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(30):
                while not (lan.hub._snapshots and lan.server._limiter.connections):
                    await asyncio.sleep(0.01)
                (mine,) = lan.server._limiter.connections
                assert mine.transport is not None
                while not mine.transport.get_write_buffer_size():
                    await asyncio.sleep(0.01)
            for number in range(1000, 2000):
                lan.scanner.turn(MANY - number, Status.OFFLINE)
            kept = sum(each.bytes_kept for each in lan.hub._snapshots)
            assert kept > 64_000
            assert mine.bytes_kept == mine.transport.get_write_buffer_size() + mine._framing.bytes_kept + kept
            async with asyncio.timeout(20):
                while lan.server._limiter.connections:
                    await loop.sock_recv(sock, 512)  # read some of it, always in time
                    await asyncio.sleep(0.05)
            assert not lan.hub._snapshots
            sock.close()

    asyncio.run(play())


def test_a_backup_times_out_and_is_one_per_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read at a byte a minute, it stayed open indefinitely, and each takes its size on the disk."""
    monkeypatch.setattr(connection, "ANSWER", 1.0)
    monkeypatch.setattr(connection, "LEAST_RATE", 2**20)

    class Whole(EmptyHistory):
        async def backup(self) -> BinaryIO:
            return io.BytesIO(bytes(4 * 2**20))

    async def play() -> None:
        async with house(tmp_path, archive=Whole()) as lan:
            loop = asyncio.get_running_loop()
            begun = loop.time()
            (sock,) = await silent(lan, get("/api/backup"), 1)
            while not lan.server._limiter.connections:
                await asyncio.sleep(0.01)
            (mine,) = lan.server._limiter.connections
            while mine.transport is None or not mine.transport.get_write_buffer_size():
                await asyncio.sleep(0.01)
            assert mine.bytes_kept == mine.transport.get_write_buffer_size() + mine._framing.bytes_kept + 64 * 1024
            busy = await lan.raw(get("/api/backup").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), tcp=False)
            assert busy.startswith(b"HTTP/1.1 503")
            async with asyncio.timeout(20):
                while mine in lan.server._limiter.connections:
                    await loop.sock_recv(sock, 4096)  # read some of it, always in time
                    await asyncio.sleep(0.05)
            assert 4.5 < loop.time() - begun < 8
            sock.close()
            whole = await lan.raw(get("/api/backup").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), tcp=False)
            assert len(whole) > 4 * 2**20

    asyncio.run(play())


class Holding:
    """Connection that keeps a number of bytes."""

    def __init__(self, limiter: ConnectionLimiter, key: str, kept: int, *, privileged: bool = False) -> None:
        self.peer = Peer(key, Role.SCAN, True, privileged)
        self.account = key
        self.bytes_kept = kept
        self.gone = False
        limiter.connections.add(self)  # type: ignore[arg-type]

    def is_stalled(self, now: float) -> bool:
        return False

    def abort(self) -> None:
        self.gone = True


MIB = 2**20


def test_the_largest_account_loses_its_largest_connection() -> None:
    """One sum of queues, lists, answers and unparsed bytes; other connections, and root's, stay."""
    budgets = Budgets()
    limiter = ConnectionLimiter(Guard(config.Access()), 1000, 64, budgets=budgets)
    theirs = [Holding(limiter, "mallory", size * MIB) for size in (1, 9, 3, 7, 2)]
    others = [Holding(limiter, "alice", 4 * MIB), Holding(limiter, "root", 500 * MIB, privileged=True)]
    limiter.check_unread(100.0)
    assert [each.gone for each in (*theirs, *others)] == [False, True, *[False] * 5]
    assert budgets.limiting(100.0) == (UNREAD.name,)


def test_many_accounts_together_use_no_more_than_one_may() -> None:
    """With any number of uids: the accounts that use the most are closed."""
    limiter = ConnectionLimiter(Guard(config.Access()), 1000, 64)
    many = [Holding(limiter, f"uid {number // 4}", 5 * MIB) for number in range(80)]
    small = Holding(limiter, "alice", MIB)
    limiter.check_unread(100.0)
    assert UNREAD.at_once / 2 < sum(each.bytes_kept for each in (*many, small) if not each.gone) <= UNREAD.at_once
    assert not small.gone


def test_memory_is_checked_early_after_large_transfers() -> None:
    """A second was enough for 100 MiB."""

    async def play() -> None:
        limiter = ConnectionLimiter(Guard(config.Access()), 1000, 64)
        large = Holding(limiter, "mallory", 2 * int(UNREAD.at_once))
        for _ in range(64):
            limiter.count(CHECK_AFTER // 64)
        await asyncio.sleep(0)
        assert not large.gone
        limiter.count(1)
        await asyncio.sleep(0)
        assert large.gone

    asyncio.run(play())


def test_a_filtered_queue_counts_for_its_client_alone(tmp_path: Path) -> None:
    """Frames of the common stream are kept once; those that a filter selects count for its client."""

    async def play() -> None:
        async with (
            house(tmp_path) as lan,
            lan.ws(max_queue=1) as plain,
            lan.ws("?updates=changes&q=10.0", max_queue=1) as own,
        ):
            for each in (plain, own):
                await receive(each)
                each.transport.pause_reading()
            for number in range(3000):
                lan.scanner.turn(number % 3, (Status.OFFLINE, Status.ONLINE)[number & 1])
                if not number % 50:
                    await asyncio.sleep(0)
            behind = {bool(each.fits): each for each in lan.server._live._open.values()}
            assert behind[False]._size > 2**20
            assert behind[False].bytes_kept == 0
            assert behind[True].bytes_kept == behind[True]._size > 2**20
            for each in (plain, own):
                each.transport.abort()

    asyncio.run(play())
