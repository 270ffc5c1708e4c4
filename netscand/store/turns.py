"""A thread that answers the queries of accounts in turn, so that none waits for all those of another.

A query is a generator: it does a bounded piece of work up to each `yield`, and returns its answer. One query of
each account is in work, a piece at a time; after each piece it is the next account's turn.
"""

import asyncio
import threading
from collections.abc import Callable, Generator, Hashable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from netscand.core.fairness import FairQueue

T = TypeVar("T")

Steps = Generator[None, None, T]
"""A query: pieces of work, and the answer."""


class _Query(NamedTuple):
    account: Hashable
    steps: Steps[Any]
    answer: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


class Turns:
    """The thread. Call `submit` on the loop; `close` ends it, and cancels every query that waits."""

    def __init__(self, name: str) -> None:
        self._waiting: FairQueue[_Query] = FairQueue()
        self._bell = threading.Condition()
        self._ends = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

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

    def close(self) -> None:
        """End the thread; wait for the piece in work."""
        with self._bell:
            self._ends = True
            self._bell.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._bell:
                while not (self._waiting or self._ends):
                    self._bell.wait()
                if self._ends:
                    while self._waiting:
                        query = self._waiting.pop()
                        _deliver(query, query.answer.cancel)
                    return
                query = self._waiting.pop()
            if not (query.answer.cancelled() or _step(query)):
                with self._bell:
                    self._waiting.push_back(query.account, query)


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
