"""Bounded receiving: take a limited amount from a socket, then yield to the loop.

A socket that other hosts can fill is never empty. And asyncio's own `sock_recv` returns without yielding while a
datagram waits: code that awaits it until the right datagram arrives blocks the loop for as long as others send, and not
even `asyncio.timeout` fires. So all code in lan/ that receives uses this module, with a limit on how much it takes;
tests/core/test_turns.py finds code that does not. (lan/capture.py limits the rings in the same way.)
"""

import asyncio
import errno
import socket
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

Work = Generator[None, None, T]
"""Work in pieces: a generator that yields between pieces and returns the result."""


def waiting(source: socket.socket, size: int, most: int) -> Iterator[tuple[bytes, Any] | None]:
    """Yield at most `most` datagrams that wait on a non-blocking socket, with their senders.

    None stands for lost datagrams (ENOBUFS). Raises OSError.
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
    """Return the next datagram, after yielding to the loop even if one waits. Raises OSError."""
    await asyncio.sleep(0)
    return await asyncio.get_running_loop().sock_recv(source, size)


async def run_in_turns(work: Work[T]) -> T:
    """Run all pieces, yielding to the loop after each; return the result."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result
        await asyncio.sleep(0)


def run_now(work: Work[T]) -> T:
    """Run all pieces without yielding, at the start; return the result."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result
