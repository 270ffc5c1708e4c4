"""Names that netscand needs of aiohttp beyond its documented API, so that a release that lacks one is named at start.

Each of these is public by its name, but not promised by aiohttp's manual. `serve/selftest.py` tries the whole.
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

from netscand.serve import frames
from netscand.serve.auth import Peer, Role

SUPPORTED = "aiohttp>=3.11.16,<3.15"
"""As in pyproject.toml."""


class LibraryError(Exception):
    """A library that netscand cannot work with; the text is one sentence that names it."""


class Requirement(NamedTuple):
    """Something by its path in aiohttp, called with these keywords."""

    path: str
    keywords: Sequence[str] | None = None
    """None: it need only be there."""


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
    """Look for everything that is needed. Raises Unfit."""
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
# Does the server answer? It asks itself over a socket pair: before it is ready, and again for the watchdog.

TIMEOUT = 10.0
"""Seconds to an answer, on a machine that is very busy."""

SELF = Peer("netscand itself", Role.READ, True, True)

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

STREAM = (
    b"GET /ws?updates=changes HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bmV0c2NhbmQgaXRzZWxmIQ==\r\n\r\n"
)

PING, CLOSE = b"\x89\x88\0\0\0\0netscand", b"\x88\x82\0\0\0\0\x03\xe8"
"""Masked with zeros, as a client's frames have to be (RFC 6455, section 5.3)."""


class SelfTest:
    """Asks by `connect`, which takes the other end of a socket pair as a client's connection."""

    def __init__(self, connect: Callable[[socket.socket], Awaitable[None]]) -> None:
        self.answered_at = monotonic()
        """When it last answered itself, for the watchdog."""
        self._connect = connect

    async def run(self, every: float | None) -> None:
        """Ask /healthz again and again, until cancelled; None: there is no watchdog that wants to know."""
        while every is not None:
            await asyncio.sleep(every)
            try:
                await self.check_health()
            except (LibraryError, OSError):  # the watchdog says it, if it goes on
                continue
        await asyncio.Event().wait()

    async def check_health(self) -> None:
        """Ask /healthz. Raises Unfit, OSError."""
        answer = await self._request("GET /healthz", HEALTH)
        if answer.split(b" ", 2)[1:2] not in ([b"200"], [b"503"]):  # that of starting and stopping is an answer
            raise _error("GET /healthz", f"answered {answer[:60]!r}")
        self.answered_at = monotonic()

    async def check_all(self) -> None:
        """Ask /healthz, and open a stream that answers a ping. Raises Unfit, OSError."""
        await self.check_health()
        pong = frames.pong(b"netscand")
        answer = await self._request("GET /ws", STREAM + PING, pong, CLOSE)
        if not answer.startswith(b"HTTP/1.1 101 ") or pong not in answer:
            raise _error("GET /ws", f"answered {answer[:60]!r}")

    async def _request(self, what: str, request: bytes, until: bytes = b"", last: bytes = b"") -> bytes:
        """The whole answer to a request, to which `last` is said once it holds `until`."""
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
            except ConnectionError as wrong:
                raise _error(what, str(wrong)) from None
        return answer


def _error(what: str, why: str) -> LibraryError:
    return LibraryError(
        f"the server does not answer itself ({what}: {why}); netscand works with {SUPPORTED}, and this is aiohttp "
        f"{version('aiohttp')}"
    )
