"""A thread that answers the queries of accounts in turn, so that none waits for all those of another.

A query is a generator: it does a bounded piece of work up to each `yield`, and returns its answer. One query of
each account is in work, a piece at a time; after each piece it is the next account's turn.
"""

import asyncio
import threading
from collections.abc import Callable, Generator, Hashable
from contextlib import suppress
from functools import partial
from math import inf
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from netscand.core.fairness import FairQueue

T = TypeVar("T")

HANGS = 10.0
"""Seconds of one piece of work after which the disk does not answer."""

Steps = Generator[None, None, T]
"""A query: pieces of work, and the answer."""


class _Query(NamedTuple):
    account: Hashable
    steps: Steps[Any]
    answer: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


class Turns:
    """The thread. Call `submit` on the loop; `close` ends it, and cancels every query that waits.

    The thread calls `at_end` when it ends: later than `close`, if a piece waits for the disk.
    """

    def __init__(self, name: str, at_end: Callable[[], None]) -> None:
        self._at_end = at_end
        self._waiting: FairQueue[_Query] = FairQueue()
        self._bell = threading.Condition()
        self._ends = False
        self._began = inf
        """When the piece in work began."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def hangs(self) -> bool:
        """Return whether the piece in work waits for a disk that does not answer."""
        return monotonic() - self._began > HANGS

    def submit(self, account: Hashable, steps: Steps[T]) -> "asyncio.Future[T]":
        """Queue a query; return a future of its answer or error. A query whose future is cancelled is dropped."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        with self._bell:
            if self._ends:
                answer.cancel()
                return answer
            if not self._thread.is_alive():
                self._thread.start()
            self._waiting.push(account, _Query(account, steps, answer, loop))
            self._bell.notify()
        return answer

    def close(self, within: float) -> None:
        """End the thread; wait at most so many seconds for it, because the piece in work may wait for the disk."""
        with self._bell:
            self._ends = True
            self._bell.notify()
        if self._thread.is_alive():
            self._thread.join(within)

    def _run(self) -> None:
        while True:
            with self._bell:
                while not (self._waiting or self._ends):
                    self._bell.wait()
                if self._ends:
                    while self._waiting:
                        query = self._waiting.pop()
                        _deliver(query, query.answer.cancel)
                    break
                query = self._waiting.pop()
            self._began = monotonic()
            is_over = query.answer.cancelled() or _step(query)
            self._began = inf
            if not is_over:
                with self._bell:
                    self._waiting.push_back(query.account, query)
        self._at_end()


def _step(query: _Query) -> bool:
    """Do one piece; return whether that was the last."""
    try:
        next(query.steps)
    except StopIteration as end:
        _deliver(query, partial(query.answer.set_result, end.value))
    except Exception as wrong:
        _deliver(query, partial(query.answer.set_exception, wrong))
    else:
        return False
    return True


def _deliver(query: _Query, how: Callable[[], object]) -> None:
    def deliver() -> None:
        if not query.answer.done():
            how()

    with suppress(RuntimeError):  # the loop is over
        query.loop.call_soon_threadsafe(deliver)
