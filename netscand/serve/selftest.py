"""Does the server answer? It asks itself over a socket pair: before it is ready, and again for the watchdog."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from time import monotonic

from netscand.serve import websocket
from netscand.serve.access import Peer
from netscand.serve.library import SUPPORTED, Unfit
from netscand.serve.rights import Role

ANSWERS = 10.0
"""Seconds to an answer, on a machine that is very busy."""

OURSELVES = Peer("netscand itself", Role.READ, True, True)

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
                await self.ask()
            except (Unfit, OSError):  # the watchdog says it, if it goes on
                continue
        await asyncio.Event().wait()

    async def ask(self) -> None:
        """Ask /healthz. Raises Unfit, OSError."""
        answer = await self._asked("GET /healthz", HEALTH)
        if answer.split(b" ", 2)[1:2] not in ([b"200"], [b"503"]):  # that of starting and stopping is an answer
            raise _unfit("GET /healthz", f"answered {answer[:60]!r}")
        self.answered_at = monotonic()

    async def ask_everything(self) -> None:
        """Ask /healthz, and open a stream that answers a ping. Raises Unfit, OSError."""
        await self.ask()
        pong = websocket.pong(b"netscand")
        answer = await self._asked("GET /ws", STREAM + PING, pong, CLOSE)
        if not answer.startswith(b"HTTP/1.1 101 ") or pong not in answer:
            raise _unfit("GET /ws", f"answered {answer[:60]!r}")

    async def _asked(self, what: str, request: bytes, until: bytes = b"", then: bytes = b"") -> bytes:
        """The whole answer to a request, to which `then` is said once it holds `until`."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        answer = b""
        with ours:
            try:
                async with asyncio.timeout(ANSWERS):
                    await self._connect(theirs)
                    await loop.sock_sendall(ours, request)
                    while piece := await loop.sock_recv(ours, 1 << 16):
                        answer += piece
                        if then and until in answer:
                            await loop.sock_sendall(ours, then)
                            then = b""
            except TimeoutError:
                raise _unfit(what, f"no answer within {ANSWERS:g} s") from None
            except ConnectionError as wrong:
                raise _unfit(what, str(wrong)) from None
        return answer


def _unfit(what: str, why: str) -> Unfit:
    return Unfit(
        f"the server does not answer itself ({what}: {why}); netscand works with {SUPPORTED}, and this is aiohttp "
        f"{version('aiohttp')}"
    )
