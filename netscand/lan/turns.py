"""The rule of receiving: a bounded piece, then a turn of the loop for everybody else.

A socket that others can fill is never empty. And asyncio's own `sock_recv` returns without a turn of the loop while a
datagram waits: code that awaits it until the right one comes holds the loop for as long as somebody sends, and not even
`asyncio.timeout` fires. So all code in lan/ that receives does it by what is here, with a bound of its own on how much
it takes; tests/core/test_turns.py finds code that does not. (The rings have the same bound: lan/capture.py.)
"""

import asyncio
import errno
import socket
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

Work = Generator[None, None, T]
"""Work in pieces: it yields where others may have a turn, and returns its result."""


def waiting(source: socket.socket, size: int, most: int) -> Iterator[tuple[bytes, Any] | None]:
    """Give the datagrams that wait on a non-blocking socket, and their senders: at most `most`, the rest next time.

    None stands for those that were lost (ENOBUFS). Raises OSError.
    """
    for _ in range(most):
        try:
            yield source.recvfrom(size)
        except BlockingIOError:
            return
        except OSError as lost:
            if lost.errno != errno.ENOBUFS:
                raise
            yield None


async def receive(source: socket.socket, size: int) -> bytes:
    """Return the next datagram, after a turn of the loop even where one waits. Raises OSError."""
    await asyncio.sleep(0)
    return await asyncio.get_running_loop().sock_recv(source, size)


async def run_in_turns(work: Work[T]) -> T:
    """Do all of it, with a turn of the loop after each piece."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result
        await asyncio.sleep(0)


def run_now(work: Work[T]) -> T:
    """Do all of it now: at the start, while nobody waits."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result
