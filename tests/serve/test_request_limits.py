"""Heads and bodies end where RFC 9112 says; what aiohttp keeps as objects is counted before it is passed on."""

import asyncio
from pathlib import Path

import pytest

from netscand.core.restore import EventQuery, Page
from netscand.serve import connection
from netscand.serve.request_limits import (
    MAX_BODY,
    MAX_FIELDS,
    MAX_HEAD,
    MAX_LINE,
    Framing,
    TooLarge,
    TooManyFields,
)
from tests.serve.house import EmptyHistory, House, house
from tests.serve.test_connection import CHUNKED, given_to_aiohttp, settled

HEAD = b"POST /api/scan HTTP/1.1\r\nHost: x\r\n\r\n"


def given(framing: Framing, data: bytes, piece: int) -> bytes:
    """Return the part of `data` that belongs to this head or body, if it comes in pieces."""
    found, body = b"", framing.in_body
    for at in range(0, len(data), piece):
        part = data[at : at + piece]
        size = framing.take(part, frames=False)
        found += part[:size]
        if framing.head_ended or (body and not framing.in_body):
            break
    return found


@pytest.mark.parametrize("piece", [*range(1, 40), 2048])
def test_a_head_ends_at_the_same_byte_however_it_is_split(piece: int) -> None:
    """It was searched in each piece alone: after an end that was split, a body was parsed as a head."""
    framing = Framing()
    assert given(framing, HEAD + HEAD, piece) == HEAD
    assert framing.head_ended


CHUNKS = b"4\r\nWiki\r\nA;name=value\r\n{}\r\n{}\r\n{}\r\n0\r\n"


@pytest.mark.parametrize("piece", [*range(1, 20), 2048])
@pytest.mark.parametrize("trailers", [b"\r\n", b"X: y\r\nZ: a\r\n\r\n"], ids=["none", "trailers"])
def test_a_chunked_body_ends_at_its_last_byte(piece: int, trailers: bytes) -> None:
    """RFC 9112, section 7.1: with extensions and trailers; then the next request begins."""
    framing = Framing()
    framing.begin(None)
    assert given(framing, CHUNKS + trailers + HEAD, piece) == CHUNKS + trailers
    assert not framing.in_body


@pytest.mark.parametrize("piece", [1, 3, 2048])
def test_a_body_with_a_length_has_that_length(piece: int) -> None:
    framing = Framing()
    framing.begin(7)
    assert given(framing, b"1234567" + HEAD, piece) == b"1234567"
    assert not framing.in_body
    framing.begin(0)
    assert not framing.in_body


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"a:\r\n" * MAX_FIELDS + b"\r\n", TooManyFields),
        (b"x" * (MAX_HEAD + 1), TooLarge),
    ],
    ids=["fields", "bytes"],
)
def test_a_head_that_is_too_large_is_refused(data: bytes, why: type[TooLarge]) -> None:
    """16,000 fields of a 64 KiB head took 4 MB in aiohttp 3.11."""
    with pytest.raises(why):
        given(Framing(), data, 2048)


@pytest.mark.parametrize(
    "data",
    [
        b"0\r\n" + b"a:\r\n" * (MAX_FIELDS + 1),
        b"1;" + b"x" * MAX_LINE,
        b"1" * (MAX_BODY + 1),
        b"1\r\nx\r\n" * (MAX_BODY // 6 + 1),
        *(text + b"\r\n" for text in (b"", b"-1", b"+1", b"0x1", b"1_0", b" 1", b"1 1", b"123456789", b"x")),
        b"1\nx\r\n",
    ],
)
def test_a_chunked_body_that_is_too_large_is_refused(data: bytes) -> None:
    """50,000 trailers of four bytes took 7 MB in aiohttp 3.11; ambiguous bodies are refused."""
    framing = Framing()
    framing.begin(None)
    with pytest.raises(TooLarge):
        given(framing, data, 2048)


def test_a_request_is_counted_until_it_is_answered() -> None:
    framing = Framing()
    given(framing, HEAD, 2048)
    assert framing.bytes_kept == 2 * len(HEAD)
    framing.begin(5)
    given(framing, b"12345", 2048)
    assert framing.bytes_kept == 2 * (len(HEAD) + 5)
    framing.end()
    assert framing.bytes_kept == 0


# ---- on a connection ------------------------------------------------------------------------------------------------


async def answered(lan: House, request: bytes) -> bytes:
    """Return the answer to a request, until the connection is closed."""
    reader, writer = await asyncio.open_unix_connection(str(lan.path))
    writer.write(request)
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()


def test_a_head_of_many_fields_is_431(tmp_path: Path) -> None:
    """RFC 6585, section 5; aiohttp does not get it."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            with given_to_aiohttp() as sizes:
                fields = b"".join(b"x%d: y\r\n" % number for number in range(2000))
                answer = await answered(lan, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n")
                assert sum(sizes) <= connection.PIECE
            assert answer.startswith(b"HTTP/1.1 431 ")
            head, _, body = answer.partition(b"\r\n\r\n")
            assert b"Content-Length: %d" % len(body) in head
            assert b'"error"' in body
            fields = b"".join(b"x%d: y\r\n" % number for number in range(MAX_FIELDS - 4))
            asked = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + fields + b"\r\n"
            assert (await answered(lan, asked)).startswith(b"HTTP/1.1 200 ")

    asyncio.run(play())


TWO_BYTES = b"2\r\nxx\r\n"


@pytest.mark.parametrize("unread", [60, 0], ids=["behind answers", "at once"])
def test_an_unread_chunked_body_is_not_passed_to_aiohttp(tmp_path: Path, unread: int) -> None:
    """Each chunk was kept as an object while an answer was not read: 40 bytes a byte."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            with given_to_aiohttp() as sizes:
                get = b"GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n"
                asked = (get + b"\r\n") * unread + get + b"Transfer-Encoding: chunked\r\n\r\n"
                writer = await lan.connection(asked + TWO_BYTES * 20_000)
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                await settled(lambda: bool(lan.server._limiter.connections))
                await asyncio.sleep(0.5)
                assert sum(sizes) <= len(asked)
                writer.close()

    asyncio.run(play())


def test_a_body_is_passed_to_aiohttp_only_when_it_is_read(tmp_path: Path) -> None:
    """A request that waits for the history, and takes no body at all."""
    asked = asyncio.Event()

    class Slow(EmptyHistory):
        async def events(self, question: EventQuery, *, whole: bool = False, most: int | None = None) -> Page:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

    async def play() -> None:
        async with house(tmp_path, archive=Slow()) as lan:
            with given_to_aiohttp() as sizes:
                head = b"GET /api/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                writer = await lan.connection(head + TWO_BYTES * 2000)
                async with asyncio.timeout(30):
                    await asked.wait()
                await asyncio.sleep(0.2)
                assert sum(sizes) == len(head)
                writer.close()

    asyncio.run(play())


def test_a_client_with_an_unread_body_gets_its_answer(tmp_path: Path) -> None:
    """The rest is read for as long as needed: a client that sends all of it gets the answer."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
            answer = await answered(lan, get + b"Transfer-Encoding: chunked\r\n\r\n" + TWO_BYTES * 40_000)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.count(b"HTTP/1.1 ") == 1

    asyncio.run(play())


def test_an_unread_body_with_a_length_is_skipped(tmp_path: Path) -> None:
    """The next request on the connection is answered."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            first = b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + b"GET " * 1250
            last = b"GET /api/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            answer = await answered(lan, first + last)
            assert answer.count(b"HTTP/1.1 200 ") == 2
            assert b'"uptime' in answer or b'"version"' in answer

    asyncio.run(play())


def test_a_chunked_body_is_read(tmp_path: Path) -> None:
    """By a handler that takes it; the next request is answered, too."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            body = b'{"targets": ["10.0.0.12"]}'
            chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\nX: y\r\n\r\n"
            last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            answer = await answered(lan, CHUNKED.replace(b"?wait=1", b"") + chunks + last)
            assert answer.startswith(b"HTTP/1.1 20"), answer
            assert answer.count(b"HTTP/1.1 2") == 2
            assert lan.scanner.requested == [("10.0.0.12",)]

    asyncio.run(play())


def test_half_a_body_counts_for_its_account(tmp_path: Path) -> None:
    """18 accounts kept 90 MiB in that way, unnoticed by any budget."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            head = b"POST /api/scan HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            writer = await lan.connection(head + b"Content-Length: 65000\r\n\r\n" + b"x" * 60_000)
            await settled(lambda: any(each.bytes_kept >= 60_000 for each in lan.server._limiter.connections))
            writer.close()

    asyncio.run(play())
