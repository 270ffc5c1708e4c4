"""TLS on the TCP sockets."""

import asyncio
import json
import os
import ssl
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect

from netscand import config, protocol
from netscand.serve import tls
from netscand.serve.tls import BadCertificate, tls_context
from tests.serve.certificate import ANOTHER_KEY, CERTIFICATE, LOCKED_KEYS, certificate
from tests.serve.house import House, house, receive


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=CERTIFICATE)


def hello() -> bytes:
    """Return the first bytes of a client."""
    out = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        trusting().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost").do_handshake()
    return out.read()


async def get(lan: House, path: str, **headers: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"https://localhost:{lan.port}{path}", ssl=trusting(), headers=headers) as answer,
    ):
        return answer.status, json.loads(await answer.read())


def test_requests_and_streams_are_encrypted(tmp_path: Path) -> None:
    """A long answer, both forms of HTTP, a WebSocket with events; a lost connection is no longer counted."""

    async def play() -> None:
        async with house(tmp_path, devices=2000, listen=certificate(tmp_path)) as lan:
            assert (await get(lan, "/healthz"))[0] == 200
            status, body = await get(lan, "/api/devices")
            assert (status, len(body["devices"])) == (200, 2000)
            async with connect(
                f"wss://localhost:{lan.port}/ws?updates=changes&q=none", ssl=trusting(), proxy=None
            ) as stream:
                first = await receive(stream)
                assert isinstance(first, protocol.InitialState)
                lan.scanner.join(9999)
            async with asyncio.timeout(30):
                while lan.server._limiter.connections:
                    await asyncio.sleep(0.01)

    asyncio.run(play())


def test_the_unix_socket_stays_plain(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, listen=certificate(tmp_path)) as lan:
            assert (await lan.ask("GET", "/healthz"))[0] == 200

    asyncio.run(play())


def test_nothing_is_served_unencrypted_beside_it(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, listen=certificate(tmp_path)) as lan:
            answer = await lan.raw(f"GET /healthz HTTP/1.1\r\nHost: localhost:{lan.port}\r\n\r\n".encode())
            assert b"HTTP" not in answer
            async with asyncio.timeout(30):
                while lan.server._limiter.connections:
                    await asyncio.sleep(0.01)

    asyncio.run(play())


def test_a_connection_in_its_handshake_is_counted_and_aborted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS T16: limits apply before TLS, and a handshake has a timeout."""
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT", 0.5)

    async def play() -> None:
        async with house(tmp_path, listen={**certificate(tmp_path), "max_per_peer": 3}) as lan:
            hiding = [await asyncio.open_connection("127.0.0.1", lan.port) for _ in range(5)]
            ends = [asyncio.timeout(30) for _ in hiding]
            for (reader, writer), within in zip(hiding, ends, strict=True):
                async with within:
                    assert await reader.read() == b""
                writer.close()
            assert not lan.server._limiter.connections
            assert not lan.server._limiter._of_peer
            monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT", 30.0)
            assert (await get(lan, "/healthz"))[0] == 200

    asyncio.run(play())


@pytest.mark.parametrize("said", [1, 200, None])
def test_an_incomplete_handshake_is_aborted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: int) -> None:
    """After part of a ClientHello, and after all of it."""
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT", 0.5)

    async def play() -> None:
        async with house(tmp_path, listen=certificate(tmp_path)) as lan:
            reader, writer = await asyncio.open_connection("127.0.0.1", lan.port)
            writer.write(hello()[:said])
            async with asyncio.timeout(20):
                with suppress(ConnectionError):
                    await reader.read()
                while lan.server._limiter.connections:
                    await asyncio.sleep(0.01)
            writer.close()

    asyncio.run(play())


def test_the_fourth_of_one_peer_is_closed_at_once(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, listen={**certificate(tmp_path), "max_per_peer": 3}) as lan:
            hiding = [await asyncio.open_connection("127.0.0.1", lan.port) for _ in range(3)]
            async with asyncio.timeout(30):
                while len(lan.server._limiter.connections) < 3:
                    await asyncio.sleep(0.01)
            reader, writer = await asyncio.open_connection("127.0.0.1", lan.port)
            async with asyncio.timeout(tls.HANDSHAKE_TIMEOUT / 2):
                with pytest.raises(ConnectionError):
                    assert await reader.read() == b""
                    raise ConnectionResetError
            for _, other in (*hiding, (reader, writer)):
                other.close()

    asyncio.run(play())


def test_handshakes_begin_one_in_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs a third of a millisecond: hundreds at once held the loop for a tenth of a second."""
    turn, known = 0, Counter[int]()
    step = ssl.SSLObject.do_handshake

    def noting(self: ssl.SSLObject) -> None:
        if self.server_side:
            known[turn] += 1
        step(self)

    monkeypatch.setattr(ssl.SSLObject, "do_handshake", noting)

    async def play() -> None:
        nonlocal turn
        async with house(tmp_path, listen=certificate(tmp_path)) as lan:
            there = [await asyncio.open_connection("127.0.0.1", lan.port) for _ in range(20)]
            await asyncio.sleep(0.2)
            for _, writer in there:
                writer.write(hello())
            async with asyncio.timeout(20):
                while known.total() < 20:
                    turn += 1
                    await asyncio.sleep(0)
            assert max(known.values()) == 1
            for _, writer in there:
                writer.close()

    asyncio.run(play())


@pytest.mark.parametrize(("origin", "status"), [("https://localhost", 200), ("http://localhost", 403)])
def test_an_unencrypted_page_is_another_origin(tmp_path: Path, origin: str, status: int) -> None:
    """FAULTS T5: plain HTTP can be changed on its way, and must not count as our page."""

    async def play() -> None:
        async with house(tmp_path, listen=certificate(tmp_path)) as lan:
            assert (await get(lan, "/api/status", Origin=f"{origin}:{lan.port}"))[0] == status

    asyncio.run(play())


def test_a_reload_loads_a_new_certificate_unless_it_is_bad(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, listen=certificate(tmp_path)) as lan:
            (tmp_path / "key.pem").write_text(ANOTHER_KEY)
            with pytest.raises(BadCertificate):
                lan.server.reload(config.Access(others="none"))
            status, body = await get(lan, "/api/status")
            assert (status, body["role"]) == (200, "scan")
            certificate(tmp_path)
            lan.server.reload(config.Access(others="read"))
            assert (await get(lan, "/api/status"))[1]["role"] == "read"

    asyncio.run(play())


# ---- what cannot be used --------------------------------------------------------------------------------------------


def refused(**listen: Any) -> str:  # noqa: ANN401 - what the test says
    with pytest.raises(BadCertificate) as wrong:
        tls_context(config.Listen(**listen))
    assert "\n" not in str(wrong.value)
    return str(wrong.value)


def test_without_a_certificate_there_is_no_tls() -> None:
    assert not config.Listen().tls


@pytest.mark.parametrize("missing", ["tls_certificate", "tls_key"])
def test_one_without_the_other_is_refused(tmp_path: Path, missing: str) -> None:
    given = certificate(tmp_path)
    del given[missing]
    assert f"[listen] {missing}: missing" in refused(**given)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    given = certificate(tmp_path)
    for name in ("tls_certificate", "tls_key"):
        assert refused(**{**given, name: "/nowhere.pem"}) == f"[listen] {name}: /nowhere.pem: No such file or directory"
        (tmp_path / "no").write_text("not PEM")
        assert "expected PEM" in refused(**{**given, name: str(tmp_path / "no")})


def test_a_key_of_another_certificate_is_reported(tmp_path: Path) -> None:
    assert "is not the key of" in refused(**certificate(tmp_path, ANOTHER_KEY))


@pytest.mark.parametrize("key", LOCKED_KEYS, ids=["old", "new"])
def test_an_encrypted_key_is_refused_without_a_prompt(tmp_path: Path, key: str) -> None:
    assert "is encrypted; provide an unencrypted key" in refused(**certificate(tmp_path, key))


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o660, 0o620, 0o601])
def test_a_key_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    """FAULTS T2; docs/security.md: 0640 or less."""
    assert "chmod 0640" in refused(**certificate(tmp_path, mode=mode))


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o440, 0o400])
def test_a_key_that_its_group_can_read_is_accepted(tmp_path: Path, mode: int) -> None:
    given: dict[str, Any] = certificate(tmp_path, mode=mode)
    assert tls_context(config.Listen(**given)) is not None


def test_the_files_that_were_checked_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paths were opened twice: in between, a link could lead to a key that others can read."""
    given: dict[str, Any] = certificate(tmp_path)
    bad = tmp_path / "bad"
    bad.mkdir()
    other = certificate(bad, ANOTHER_KEY, 0o644)
    pread = os.pread

    def swapped(file: int, size: int, at: int) -> bytes:
        if b"PRIVATE" in (found := pread(file, size, at)) and Path(other["tls_key"]).exists():
            os.replace(other["tls_key"], given["tls_key"])
        return found

    monkeypatch.setattr(os, "pread", swapped)
    assert tls_context(config.Listen(**given)) is not None, "the other key would not fit the certificate"
    assert not Path(other["tls_key"]).exists()


def test_a_broken_certificate_is_reported(tmp_path: Path) -> None:
    given = certificate(tmp_path)
    (tmp_path / "certificate.pem").write_text(CERTIFICATE.replace("MIIB", "XXXX"))
    assert refused(**given).startswith("[listen] tls_certificate: ")
