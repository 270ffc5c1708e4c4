"""Work that may wait for a disk: on daemon threads, and for a limited time.

asyncio.to_thread has few threads, which all requests share, and the end of the process waits for each of them.
"""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")

READ_WITHIN = 10.0
"""Seconds to read a configuration."""


class OffLoop:
    """Threads for one kind of work: at most `most` at a time, also if they hang."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: set[object] = set()

    async def do(self, work: Callable[[], T], within: float, late: Callable[[T], object] | None = None) -> T:
        """Return the result of `work`, or raise its error; TimeoutError if it takes longer than `within` seconds.

        `late` gets, on a thread, a result that comes later. TimeoutError at once if `most` threads are at work.
        """
        if len(self._running) >= self._most:
            raise TimeoutError
        loop, token = asyncio.get_running_loop(), object()
        answer: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            how: Callable[[], object]
            drop: Callable[[], object] = _nothing
            try:
                result = work()
            except Exception as wrong:
                how = partial(answer.set_exception, wrong)
            else:
                how = partial(answer.set_result, result)
                if late is not None:
                    drop = partial(late, result)
            finally:
                self._running.discard(token)
            try:
                loop.call_soon_threadsafe(_set, answer, how, drop)
            except RuntimeError:  # the loop has ended
                drop()

        self._running.add(token)
        threading.Thread(target=run, name="off loop", daemon=True).start()
        async with asyncio.timeout(within):
            return await answer


def _set(answer: "asyncio.Future[T]", how: Callable[[], object], drop: Callable[[], object]) -> None:
    if answer.done():  # the caller has given up
        threading.Thread(target=drop, name="off loop", daemon=True).start()
    else:
        how()


def _nothing() -> None:
    pass
