"""Requests, well made and then wrong in one place, to a server that runs all the while.

A case is what one connection sends, in pieces. Whatever it is: each answer is one of HTTP's, none is a 500, and the
server goes on as before.
"""

import asyncio
import json
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from random import Random

from tests.attacks.fuzz import broken, joined, parted
from tests.serve.house import House

PATHS = (
    b"/", b"/healthz", b"/metrics", b"/api/devices", b"/api/devices/a4:83:00:00:00:01", b"/api/events", b"/api/status",
    b"/api/networks", b"/api/scan", b"/api/openapi.json", b"/ws", b"/nowhere", b"*", b"http://x/healthz", b"//healthz",
    b"/api/devices/%00", b"/%2e%2e/", b"/api/devices/a4:83:00:00:00:01/events", b"/page.css",
)  # fmt: skip
QUERIES = (b"", b"", b"", b"?limit=5", b"?limit=-1", b"?q=%ff%00", b"?wait=1", b"?since=x", b"?token=t",
           b"?" + b"a=b&" * 300)  # fmt: skip
METHODS = (*b"GET GET GET POST POST PATCH DELETE HEAD OPTIONS TRACE CONNECT get".split(), b"G\0T")
VERSIONS = (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 ", b"http/1.1", b"HTTP/0.9",
            b"HTTP/9")  # fmt: skip
FIELDS = (
    b"Host: x", b"Connection: close", b"Connection: keep-alive", b"Content-Length: 0", b"Content-Length: 2",
    b"Content-Length: 999999999999", b"Content-Length: -1", b"Content-Length: 2, 2", b"Content-Length: 0x2",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding : chunked",
    b"Content-Type: application/json", b"Content-Type: text/plain", b"Content-Encoding: gzip", b"Expect: 100-continue",
    b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Protocol: netscand, netscand.token.AAAA", b"Origin: http://evil",
    b"Origin: null", b"Authorization: Bearer x", b"Authorization: Basic \xff", b"Range: bytes=0-1", b"If-None-Match: *",
    b"Accept-Encoding: br", b"Cookie: a=b", b"X: " + b"y" * 9000, b" folded: x", b": x", b"\xff: \xff", b"X\0: y", b"X",
)  # fmt: skip
BODIES = (
    b"", b"{}", b'{"targets": []}', b'{"targets": ["10.0.0.0/25"]}', b'{"targets": ["10.0.0.0/17", "10.0.128.0/17"]}',
    b'{"label": "x"}', b"[" * 5000, b'{"targets": 1e999}', b'{"label": "\\ud800"}',
    b"2\r\n{}\r\n0\r\n\r\n", b"0\r\n\r\n",
    b"ffffffffffffffff\r\nx", b"2;ext=1\r\n{}\r\n0\r\nTrailer: x\r\n\r\n", b"\x1f\x8b\x08", b"x" * 70_000,
)  # fmt: skip

RIGHT = frozenset(
    b"100 101 200 201 202 204 206 304 400 401 403 404 405 408 409 410 411 413 414 415 417".split()
    + b"421 426 429 431 501 503 505".split()
)
"""Anything but a 500: there is no failure of ours that a client may bring about."""


QUIET = 0.01
"""Seconds without an answer after which a connection is half closed; at that, what is under way is given up."""

PATIENCE = 20.0
"""Seconds until a connection that is half closed has to be over."""


def request(random: Random) -> bytes:
    line = b" ".join((random.choice(METHODS), random.choice(PATHS) + random.choice(QUERIES), random.choice(VERSIONS)))
    fields = [b"Host: x"] * (random.random() < 0.9) + random.sample(FIELDS, random.randrange(7))
    body = random.choice(BODIES)
    if random.random() < 0.5:
        fields.append(b"Content-Length: %d" % len(body))
    ends = random.choice((b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"))
    made = ends.join((line, *fields, b"", b"")) + body
    return broken(random, made) if random.random() < 0.4 else made


def seeds() -> Iterator[bytes]:
    """One well-made request to each path, and a pair that goes by one connection."""
    for number, path in enumerate(PATHS[:11]):
        yield joined([b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"])
        if number == 8:
            body = b'{"targets": ["10.0.0.0/25"]}'
            head = b"POST /api/scan HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            yield joined([head % len(body) + body, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])


def make(random: Random, known: Sequence[bytes]) -> bytes:
    """One to four requests, or old ones broken, in pieces."""
    if known and random.random() < 0.2:
        return joined([broken(random, part) for part in parted(random.choice(known))])
    whole = b"".join(request(random) for _ in range(random.choice((1, 1, 2, 4))))
    cuts = sorted(random.randrange(len(whole) + 1) for _ in range(random.randrange(4)))
    return joined([whole[a:b][:65_535] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)])


async def run(lan: House, case: bytes) -> int:
    """Send it; how many answers came. Raises AssertionError for a wrong one."""
    answer = await exchange(lan, parted(case))
    found: list[bytes] = re.findall(rb"(?:^|\r\n|\})HTTP/\d\.\d (\d\d\d) ", answer)
    assert not answer or re.match(rb"HTTP/\d\.\d \d\d\d ", answer), answer[:200]
    assert set(found) <= RIGHT, (found, answer[:400])
    return len(found)


async def exchange(lan: House, parts: Sequence[bytes]) -> bytes:
    """Send these by a connection of their own, half close it when no more comes, and read to its end."""
    loop = asyncio.get_running_loop()
    answer = b""
    with socket.socket(socket.AF_UNIX) as sock:  # by hand: asyncio's warnings about ours would look like the server's
        sock.setblocking(False)
        await loop.sock_connect(sock, str(lan.path))
        try:
            async with asyncio.timeout(PATIENCE):
                with suppress(ConnectionError):
                    for part in parts:
                        await loop.sock_sendall(sock, part)
                        await asyncio.sleep(0)
                with suppress(ConnectionError, TimeoutError):
                    while True:
                        async with asyncio.timeout(QUIET):
                            piece = await loop.sock_recv(sock, 1 << 16)
                        answer += piece
                        if not piece:
                            return answer
                with suppress(ConnectionError, OSError):
                    sock.shutdown(socket.SHUT_WR)
                    while piece := await loop.sock_recv(sock, 1 << 16):
                        answer += piece
        except TimeoutError:
            raise AssertionError(f"the connection stays open: {answer[-200:]!r}") from None
    return answer


async def healthy(lan: House) -> None:
    """As before: a plain question has its answer, and nothing is held."""
    status, _, answer = await lan.ask("GET", "/healthz")
    assert status == 200, answer
    assert json.dumps(answer)
