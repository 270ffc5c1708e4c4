"""Check of the server at the start: the names that it needs of aiohttp, and requests to itself.

These names are public, but not part of aiohttp's documented API: a release that lacks one is reported at the start.
"""

import asyncio
import inspect
import socket
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from operator import attrgetter
from time import monotonic
from typing import NamedTuple

import aiohttp

from netscand.serve import websocket_frames
from netscand.serve.auth import Peer, Role

SUPPORTED = "aiohttp>=3.11.16,<3.15"
"""As in pyproject.toml."""


class LibraryError(Exception):
    """Library that netscand cannot work with; the message names it."""


class Requirement(NamedTuple):
    """Name in aiohttp that must accept these keywords."""

    path: str
    keywords: Sequence[str] | None = None
    """None: it only has to exist."""


REQUIRED = (
    Requirement("web.RequestHandler", ("loop", "keepalive_timeout", "access_log", "auto_decompress", "lingering_time")),
    Requirement("web.RequestHandler.connection_made", ("transport",)),
    Requirement("web.RequestHandler.connection_lost", ("exc",)),
    Requirement("web.RequestHandler.data_received", ("data",)),
    Requirement("web.RequestHandler.eof_received", ()),
    Requirement("web.RequestHandler.pause_writing", ()),
    Requirement("web.RequestHandler.resume_writing", ()),
    Requirement("web.RequestHandler.handle_error", ("request", "status", "exc", "message")),
    Requirement("web.AppRunner.server"),
    Requirement("web.BaseRequest.get_extra_info", ("name",)),
    Requirement("web.WebSocketResponse", ("protocols", "compress", "autoclose", "autoping", "max_msg_size", "timeout")),
)


def check() -> None:
    """Check all requirements. Raises LibraryError."""
    for requirement in REQUIRED:
        if not _exists(requirement):
            arguments = "" if requirement.keywords is None else f"({', '.join(requirement.keywords)})"
            raise LibraryError(
                f"aiohttp {version('aiohttp')} has no {requirement.path}{arguments}: install {SUPPORTED}"
            )


def _exists(requirement: Requirement) -> bool:
    try:
        found = attrgetter(requirement.path)(aiohttp)
        if requirement.keywords is not None:
            inspect.signature(found).bind_partial(**dict.fromkeys(requirement.keywords))
    except (AttributeError, TypeError, ValueError):
        return False
    return True


# ---- selftest ------------------------------------------------------------------------------------------------------
# The server sends requests to itself over a socket pair: before it is ready, and again for the watchdog.

TIMEOUT = 10.0
"""Seconds to wait for an answer, on a very busy machine."""

SELF = Peer("self-test", Role.READ, True, True)

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

STREAM = (
    b"GET /ws?updates=changes HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bmV0c2NhbmQgaXRzZWxmIQ==\r\n\r\n"
)

PING, CLOSE = b"\x89\x88\0\0\0\0netscand", b"\x88\x82\0\0\0\0\x03\xe8"
"""Masked with zeros, because a client's frames must have a mask (RFC 6455, section 5.3)."""


class SelfTest:
    """Sends requests by `connect`, which takes the other end of a socket pair as a client's connection."""

    def __init__(self, connect: Callable[[socket.socket], Awaitable[None]]) -> None:
        self.answered_at = monotonic()
        """When it last got an answer, for the watchdog."""
        self._connect = connect

    async def run(self, every: float | None) -> None:
        """Request /healthz again and again, until cancelled; do nothing if `every` is None (no watchdog)."""
        while every is not None:
            await asyncio.sleep(every)
            try:
                await self.check_health()
            except (LibraryError, OSError):  # the watchdog reports it if it persists
                continue
        await asyncio.Event().wait()

    async def check_health(self) -> None:
        """Request /healthz. Raises LibraryError, OSError."""
        answer = await self._request("GET /healthz", HEALTH)
        if answer.split(b" ", 2)[1:2] not in ([b"200"], [b"503"]):  # 503: starting or stopping
            raise _error("GET /healthz", f"answered {answer[:60]!r}")
        self.answered_at = monotonic()

    async def check_all(self) -> None:
        """Request /healthz, and open a stream that answers a ping. Raises LibraryError, OSError."""
        await self.check_health()
        pong = websocket_frames.pong(b"netscand")
        answer = await self._request("GET /ws", STREAM + PING, pong, CLOSE)
        if not answer.startswith(b"HTTP/1.1 101 ") or pong not in answer:
            raise _error("GET /ws", f"answered {answer[:60]!r}")

    async def _request(self, what: str, request: bytes, until: bytes = b"", last: bytes = b"") -> bytes:
        """Return the whole answer to a request; `last` is sent once it contains `until`."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        answer = b""
        with ours:
            try:
                async with asyncio.timeout(TIMEOUT):
                    await self._connect(theirs)
                    await loop.sock_sendall(ours, request)
                    while piece := await loop.sock_recv(ours, 1 << 16):
                        answer += piece
                        if last and until in answer:
                            await loop.sock_sendall(ours, last)
                            last = b""
            except TimeoutError:
                raise _error(what, f"no answer within {TIMEOUT:g} s") from None
            except ConnectionError as error:
                raise _error(what, str(error)) from None
        return answer


def _error(what: str, why: str) -> LibraryError:
    return LibraryError(
        f"the self-test of the server failed ({what}: {why}); netscand needs {SUPPORTED}, and this is aiohttp "
        f"{version('aiohttp')}"
    )
