"""The TLS transport: what it keeps, what it refuses, and that real clients work with it."""

import asyncio
import gc
import os
import re
import shutil
import socket
import ssl
import time
import tracemalloc
from asyncio.sslproto import SSLProtocol
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from netscand.serve import tls
from netscand.serve.connection import PIECE, Connection
from tests.serve.certificate import certificate
from tests.serve.house import House, house
from tests.serve.test_tls import hello, trusting

pytestmark = pytest.mark.slow

MOST_HELLO = 131_396
"""Bytes that OpenSSL permits for a ClientHello."""

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")


def play(tmp_path: Path, act: Callable[[House], Awaitable[None]], devices: int = 3) -> None:
    async def there() -> None:
        async with house(tmp_path, devices=devices, listen=certificate(tmp_path)) as lan:
            await act(lan)

    asyncio.run(there())


def asked(lan: House, path: str = "/healthz", more: str = "Connection: close\r\n") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost:{lan.port}\r\n{more}\r\n".encode()


def dial(lan: House, receive: int | None = None) -> ssl.SSLSocket:
    """Return a blocking client of the standard library; a missing close_notify is an error for it."""
    raw = socket.socket()
    raw.settimeout(20)
    if receive is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    raw.connect(("127.0.0.1", lan.port))
    return trusting().wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False)


def to_the_end(client: ssl.SSLSocket) -> bytes:
    pieces = []
    while piece := client.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


async def emptied(lan: House) -> None:
    async with asyncio.timeout(20):
        while lan.server._limiter.connections:
            await asyncio.sleep(0.01)


# ---- what it holds --------------------------------------------------------------------------------------------------


HELD = {SSLProtocol, ssl.SSLObject, tls.TlsTransport, Connection}

LATE = 10.0
"""Seconds for a busy machine to end what was aborted."""


def test_a_failed_handshake_leaves_nothing(tmp_path: Path) -> None:
    """No cycle keeps what a lost connection had: 256 KiB each stayed, because old cycles were never collected."""

    async def act(lan: House) -> None:
        for said in (b"", hello()[:100], hello(), b"GET / HTTP/1.1\r\n\r\n", hello() + b"\x17\x03\x03\x00\x05wrong"):
            _, writer = await asyncio.open_connection("127.0.0.1", lan.port)
            writer.write(said)
            await asyncio.sleep(0.05)
            writer.transport.abort()
        await emptied(lan)
        ends = time.monotonic() + LATE
        while left := {type(each) for each in gc.get_objects() if type(each) in HELD and id(each) not in before}:
            assert time.monotonic() < ends, left
            await asyncio.sleep(0.05)

    gc.collect()
    before = {id(each) for each in gc.get_objects() if type(each) in HELD}  # what other tests still hold
    gc.disable()
    try:
        play(tmp_path, act)
    finally:
        gc.enable()


def test_an_idle_connection_is_cheap(tmp_path: Path) -> None:
    """The transport of asyncio has a buffer of 256 KiB for each."""

    async def act(lan: House) -> None:
        await asyncio.to_thread(lambda: dial(lan).close())
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            clients = await asyncio.to_thread(lambda: [dial(lan) for _ in range(20)])
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        for client in clients:
            client.close()
        assert (after - before) / len(clients) < 32 * 1024

    play(tmp_path, act)


def test_unread_bytes_stay_in_the_kernel(tmp_path: Path) -> None:
    """Of a client that pipelines and does not read, we keep one piece of ciphertext, and count it."""

    async def act(lan: House) -> None:
        client = await asyncio.to_thread(dial, lan)
        client.settimeout(0.2)
        with suppress(TimeoutError, ssl.SSLWantWriteError):
            for _ in range(200):  # 10 MiB, with as many answers of some 100 KiB
                await asyncio.to_thread(client.sendall, asked(lan, "/web/page.js", "") * 500)
        (connection,) = lan.server._limiter.connections
        transport = connection.transport
        assert isinstance(transport, tls.TlsTransport)
        assert len(transport._waiting) <= PIECE
        assert transport._incoming.pending + transport._outgoing.pending == 0
        assert transport.get_write_buffer_size() <= connection.bytes_kept < 1 << 20
        client.close()
        await emptied(lan)

    play(tmp_path, act)


def test_a_client_that_reads_nothing_is_not_read(tmp_path: Path) -> None:
    """While the client does not read, OpenSSL gets nothing: it could have to answer key updates."""

    async def act(lan: House) -> None:
        client = await asyncio.to_thread(dial, lan)
        (connection,) = lan.server._limiter.connections
        transport = connection.transport
        assert isinstance(transport, tls.TlsTransport)
        transport.pause_writing()
        await asyncio.to_thread(client.sendall, asked(lan))
        async with asyncio.timeout(20):
            while not transport._waiting:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert transport._waiting
        transport.resume_writing()
        assert b"200 OK" in await asyncio.to_thread(to_the_end, client)
        client.close()

    play(tmp_path, act)


def test_part_of_a_record_is_counted(tmp_path: Path) -> None:
    """OpenSSL keeps what it cannot decrypt yet: up to 16 KiB."""

    async def act(lan: House) -> None:
        inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting().wrap_bio(inward, outward, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("127.0.0.1", lan.port)
        shaken = False
        while not shaken:
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
                shaken = True
            writer.write(outward.read())
            if not shaken:
                inward.write(await asyncio.wait_for(reader.read(1 << 16), 20))
        client.write(b"G" * tls.RECORD)
        writer.write(outward.read()[:-1])
        async with asyncio.timeout(20):
            while not (held := [each.bytes_kept for each in lan.server._limiter.connections]) or held[0] < tls.RECORD:
                await asyncio.sleep(0.01)
        writer.close()

    play(tmp_path, act)


# ---- what one piece may cost ----------------------------------------------------------------------------------------


def test_tiny_records_are_decrypted_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 10,000 records of one byte at once, 2 KiB are decrypted in a turn of the loop."""
    turn, known = 0, Counter[int]()
    read = ssl.SSLObject.read

    def noting(self: ssl.SSLObject, *how: object) -> object:
        known[turn] += self.server_side
        return read(self, *how)  # type: ignore[arg-type]

    monkeypatch.setattr(ssl.SSLObject, "read", noting)

    async def act(lan: House) -> None:
        nonlocal turn
        client = await asyncio.to_thread(dial, lan)
        request = asked(lan, "/healthz", "Connection: close\r\n" + f"X: {'x' * 1990}\r\n" * 5)

        def talk() -> bytes:
            for at in range(len(request)):
                client.send(request[at : at + 1])
            return to_the_end(client)

        async with asyncio.TaskGroup() as tasks:
            talking = tasks.create_task(asyncio.to_thread(talk))
            while not talking.done():
                turn += 1
                await asyncio.sleep(0)
        assert b"200 OK" in talking.result()
        assert max(known.values()) <= PIECE // 22 + 2
        client.close()

    play(tmp_path, act)


@needs_openssl
@pytest.mark.parametrize("group", ["ffdhe8192", "ffdhe2048", "P-521"])
def test_no_client_chooses_an_expensive_group(tmp_path: Path, group: str) -> None:
    """A handshake with ffdhe8192 took 100 ms."""

    async def act(lan: House) -> None:
        said = await openssl(lan, "-groups", group)
        assert "handshake failure" in said
        await emptied(lan)

    play(tmp_path, act)


def test_a_record_of_a_hello() -> None:
    """A ClientHello is one record, or several of at least 64 bytes, and at most 16 KiB."""
    whole = hello()
    assert tls.hello_record(whole, 0) == (len(whole), 0)
    assert tls.hello_record(b"\x14\x03\x03\x00\x01", 0) == (6, 0)
    assert [tls.hello_record(whole[:size], 0) for size in (1, 5, 8)] == [(0, 0)] * 3
    assert tls.hello_record(b"\x16\x03\x01\x00\x40\x01\x00\x01\x00", 0) == (69, 196)
    assert tls.hello_record(b"\x16\x03\x01\x00", 196) == (0, 196)
    assert tls.hello_record(b"\x16\x03\x01\x00\x40", 196) == (69, 132)
    assert tls.hello_record(b"\x16\x03\x01\x00\x03", 3) == (8, 0)


@pytest.mark.parametrize(
    ("wrong", "rest"),
    [
        (b"\x16\x03\x01\x00\x04\x01" + MOST_HELLO.to_bytes(3), 0), (b"\x16\x03\x01\x00\x01\x01\x16\x03\x01", 0),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", 0), (b"\x16\x03\x01\x80\x04\x01\x00\x80\x00", 0),
        (b"\x14\x03\x03\x00\x02", 0), (b"\x15\x03\x03\x00\x02", 0), (b"\x17\x03\x03\x00\x02", 0), (b"\x80", 0),
        (b"G", 0), (b"\x16\x03\x01\x00\x3f", 196), (b"\x16\x03\x01\x00\x41", 64), (b"\x14\x03\x03\x00\x01", 64),
    ],
)  # fmt: skip
def test_no_record_of_a_hello(wrong: bytes, rest: int) -> None:
    with pytest.raises(ValueError, match="ClientHello"):
        tls.hello_record(wrong, rest)


CLAIM = b"\x16\x03\x01\x00\x04\x01" + MOST_HELLO.to_bytes(3)
"""Beginning of a ClientHello of 128 KiB, which OpenSSL would allocate at once."""


@pytest.mark.parametrize("first", [b"", b"\x14\x03\x03\x00\x01\x01"], ids=["at once", "behind another record"])
@pytest.mark.parametrize("apart", [False, True], ids=["whole", "byte by byte"])
def test_a_hello_that_claims_to_be_large_is_refused(tmp_path: Path, first: bytes, apart: bool) -> None:
    async def act(lan: House) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", lan.port)
        with suppress(ConnectionError):
            for piece in (bytes((each,)) for each in first + CLAIM) if apart else (first + CLAIM,):
                writer.write(piece)
                await asyncio.sleep(0.005)
        await cut(reader, writer)

    play(tmp_path, act)


@needs_openssl
@pytest.mark.parametrize("at_once", [False, True])
def test_a_second_hello_is_no_larger(tmp_path: Path, at_once: bool) -> None:
    """A second ClientHello may not claim a larger size; also if the client does not wait for the request."""

    async def act(lan: House) -> None:
        first = await hello_of_openssl("X25519:P-256")
        reader, writer = await asyncio.open_connection("127.0.0.1", lan.port)
        writer.write(first + CLAIM if at_once else first)
        if not at_once:
            async with asyncio.timeout(20):
                assert tls.RETRY in await reader.read(4096)
            writer.write(CLAIM)
        await cut(reader, writer)

    play(tmp_path, act)


async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Wait until the server closes the connection, without other reasons."""
    async with asyncio.timeout(tls.HANDSHAKE_TIMEOUT / 2):
        with suppress(ConnectionError):
            await reader.read()
    writer.close()


async def hello_of_openssl(groups: str) -> bytes:
    """Return the first bytes of `openssl s_client`."""
    caught: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caught.set_result(await reader.read(4096))
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        where = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = await asyncio.create_subprocess_exec(
            "openssl", "s_client", "-connect", where, "-groups", groups,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        first = await asyncio.wait_for(caught, 20)
        await client.wait()
    return first


LONG_ALPN = ",".join(["http/1.1", *(f"protocol-{number:03d}" for number in range(99))])
"""Makes a ClientHello of three records of 512 bytes with any OpenSSL; that of Debian 13 needs several without it."""

# ---- real clients ---------------------------------------------------------------------------------------------------


async def run(*argv: str, said: bytes = b"", rest: float = 0.0) -> str:
    """Run a program; `rest`: seconds before its stdin ends."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdin is not None
    process.stdin.write(said)
    with suppress(ConnectionError):
        await process.stdin.drain()
    await asyncio.sleep(rest)
    async with asyncio.timeout(30):
        return (await process.communicate())[0].decode(errors="replace")


async def openssl(lan: House, *options: str, said: bytes = b"", rest: float = 0.0) -> str:
    where = f"127.0.0.1:{lan.port}"
    return await run("openssl", "s_client", "-connect", where, *options, said=said, rest=rest)


@needs_openssl
@pytest.mark.parametrize(
    "options",
    [
        ("-tls1_2",), ("-tls1_3",), ("-alpn", "h2,http/1.1"), ("-groups", "X25519:P-256"), ("-no_middlebox",),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"), ("-ciphersuites", "TLS_AES_128_GCM_SHA256"),
        ("-max_send_frag", "512"), ("-split_send_frag", "512"), ("-max_send_frag", "512", "-alpn", LONG_ALPN),
    ],
    ids=lambda options: " ".join(options)[:40],
)  # fmt: skip
def test_openssl(tmp_path: Path, options: tuple[str, ...]) -> None:
    async def act(lan: House) -> None:
        answer = await openssl(lan, "-ign_eof", *options, said=asked(lan))
        assert "HTTP/1.1 200 OK" in answer
        assert "unexpected eof" not in answer
        if "-alpn" in options:
            assert "ALPN protocol: http/1.1" in answer
        await emptied(lan)

    play(tmp_path, act)


@needs_openssl
def test_versions_before_1_2_are_refused_with_an_alert(tmp_path: Path) -> None:
    async def act(lan: House) -> None:
        assert "alert protocol version" in await openssl(lan, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")

    play(tmp_path, act)


@needs_openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_is_resumed(tmp_path: Path, version: str) -> None:
    async def act(lan: House) -> None:
        file = str(tmp_path / "session")
        for option, how in (("-sess_out", "New"), ("-sess_in", "Reused")):
            answer = await openssl(lan, "-ign_eof", version, option, file, said=asked(lan))
            assert "HTTP/1.1 200 OK" in answer
            assert re.search(rf"^{how}, TLSv", answer, re.MULTILINE), answer

    play(tmp_path, act)


@needs_openssl
def test_a_client_does_not_renegotiate(tmp_path: Path) -> None:
    async def act(lan: House) -> None:
        answer = await openssl(lan, "-tls1_2", said=b"R\n", rest=0.5)
        assert "no renegotiation" in answer

    play(tmp_path, act)


@needs_openssl
def test_keys_are_updated(tmp_path: Path) -> None:
    """TLS 1.3: a client may request new keys, in both directions, at any time."""

    async def act(lan: House) -> None:
        process = await asyncio.create_subprocess_exec(
            "openssl", "s_client", "-connect", f"127.0.0.1:{lan.port}", "-tls1_3",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdin is not None
        for said in (b"K\n", b"k\n", b"K\n", asked(lan)):
            process.stdin.write(said)
            await asyncio.sleep(0.3)
        async with asyncio.timeout(30):
            answer = (await process.communicate())[0].decode()
        assert answer.count("KEYUPDATE") == 3
        assert "HTTP/1.1 200 OK" in answer

    play(tmp_path, act)


@needs_curl
@pytest.mark.parametrize(
    "options", [(), ("--tls-max", "1.2"), ("--http2",), ("--curves", "X25519:P-256")], ids=" ".join
)
def test_curl(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Two requests on one connection; a large answer."""

    async def act(lan: House) -> None:
        urls = [f"https://localhost:{lan.port}{path}" for path in ("/healthz", "/api/devices")]
        trust = str(tmp_path / "certificate.pem")
        answer = await run("curl", "-sS", "--noproxy", "*", "--cacert", trust, "-w", "%{http_code}\n", *options, *urls)
        assert answer.count("200\n") == 2
        assert len(answer) > 1_000_000

    play(tmp_path, act, devices=3000)


# ---- both ways ------------------------------------------------------------------------------------------------------


def test_a_hello_may_come_byte_by_byte(tmp_path: Path) -> None:
    """In one record, in any number of segments."""

    async def act(lan: House) -> None:
        inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting().wrap_bio(inward, outward, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("127.0.0.1", lan.port)
        answer = b""
        for step in (client.do_handshake, lambda: client.write(asked(lan)), None):
            while True:
                try:
                    if step is not None:
                        step()
                    else:
                        answer += client.read(4096)
                    done = step is not None or b"\r\n\r\n" in answer
                except ssl.SSLWantReadError:
                    done = False
                for byte in outward.read():
                    writer.write(bytes((byte,)))
                    await asyncio.sleep(0)
                if done:
                    break
                inward.write(await asyncio.wait_for(reader.read(3), 20))
        assert b"200 OK" in answer
        writer.close()

    play(tmp_path, act)


def test_a_slow_reader_gets_all_of_an_answer_and_a_close_notify(tmp_path: Path) -> None:
    """It pauses before the end of an answer for longer than the timeout of asyncio's own transport."""

    async def act(lan: House) -> None:
        for sock in lan.server.listeners:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)

        def read(pause_after: int) -> bytes:
            client = dial(lan, receive=16 * 1024)
            client.sendall(asked(lan, "/api/devices"))
            answer = b""
            while piece := client.recv(4096):
                answer += piece
                if pause_after and len(answer) > pause_after:
                    time.sleep(1.6)
                    pause_after = 0
            client.close()
            return answer

        whole = await asyncio.to_thread(read, 0)
        assert whole.startswith(b"HTTP/1.1 200 OK")
        paused = await asyncio.to_thread(read, len(whole) - 90_000)
        assert len(paused) == len(whole)
        await emptied(lan)

    play(tmp_path, act, devices=500)


@pytest.mark.parametrize("size", [1, 2_000, 16_384, 60_000])
def test_bodies_arrive_complete(tmp_path: Path, size: int) -> None:
    """In records of any size."""

    async def act(lan: House) -> None:
        body = b"{" + b" " * size + b"}"
        head = f"POST /api/scan HTTP/1.1\r\nHost: localhost:{lan.port}\r\nContent-Type: application/json\r\n"
        whole = f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

        def ask() -> bytes:
            with dial(lan) as client:
                client.sendall(whole)
                return to_the_end(client)

        answer = await asyncio.to_thread(ask)
        assert b"202 Accepted" in answer

    play(tmp_path, act)


def test_the_end_of_tcp_without_close_notify_is_an_end(tmp_path: Path) -> None:
    """Some clients close without close_notify; some send it, and wait for ours."""

    async def act(lan: House) -> None:
        client = await asyncio.to_thread(dial, lan)
        client.shutdown(socket.SHUT_RDWR)
        client.close()
        await emptied(lan)
        client = await asyncio.to_thread(dial, lan)
        raw = await asyncio.to_thread(client.unwrap)
        raw.close()
        await emptied(lan)

    play(tmp_path, act)


def test_a_broken_record_ends_the_connection_with_an_alert(tmp_path: Path) -> None:
    async def act(lan: House) -> None:
        client = await asyncio.to_thread(dial, lan)
        os.write(client.fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
        with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
            await asyncio.to_thread(client.recv, 1)
        client.close()
        await emptied(lan)

    play(tmp_path, act)
