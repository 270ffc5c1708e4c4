"""Fair turns: work for clients is done in pieces, one in each turn of the loop, accounts in turn.

An account is what connections are counted for (`Peer.key`). Whatever number of connections it has and whatever it
sends, another account waits for one piece of it. A piece takes a few milliseconds at most: some bytes parsed, a message
or request started, a slice of a snapshot, a part of the history.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TypeVar

from netscand.core.fairness import FairQueue
from netscand.core.model import Busy

T = TypeVar("T")

Account = Hashable

WAIT = 30.0
"""Seconds that a request may wait for the other ones of its account; then it is refused."""

OURS: Account = "netscand"
"""Account of work that no single client has requested."""

HOLD = 0.002
"""Seconds that a slice of long work may hold the loop."""

Piece = Callable[[], bool]
"""Does a piece of work; returns whether there was any."""


class FairTurns:
    """Queue that runs one piece in each turn of the loop, for all clients together."""

    def __init__(self) -> None:
        self._waiting: FairQueue[Piece] = FairQueue()
        self._taken = self._due = False
        """A piece was run in this turn of the loop; `_next` will be called in the next one."""

    def do(self, account: Account, piece: Piece) -> None:
        """Run a piece when it is its turn: at once, if none waits and none was run in this turn."""
        if self._taken or self._waiting:
            self._waiting.push(account, piece)
        elif piece():
            self._take()

    def later(self, account: Account, piece: Piece) -> None:
        """Run a piece when it is its turn, but not at once."""
        self._waiting.push(account, piece)
        if not self._taken:
            self._take()

    async def turn(self, account: Account) -> None:
        """Wait for a turn; the piece is what the caller does until its next await."""
        if not self._taken and not self._waiting:
            self._take()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.push(account, lambda: _granted(turn))
        await turn

    async def over(self, account: Account, items: Iterable[T]) -> AsyncIterator[T]:
        """Yield `items` slice by slice, each in a turn; the caller awaits nothing between two of them."""
        until = 0.0
        for item in items:
            if perf_counter() >= until:
                await self.turn(account)
                until = perf_counter() + HOLD
            yield item

    def _take(self) -> None:
        self._taken = True
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """Begin the next turn of the loop."""
        self._taken = self._due = False
        try:
            while self._waiting and not self._taken:
                if self._waiting.pop()():
                    self._take()
        finally:
            if self._waiting and not self._taken:  # a piece has failed, and the others go on
                self._take()


def _granted(turn: "asyncio.Future[None]") -> bool:
    if turn.done():  # the caller was cancelled
        return False
    turn.set_result(None)
    return True


class Shares:
    """Semaphores, one for each account."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: dict[Account, tuple[asyncio.Semaphore, list[None]]] = {}
        """Each with its users, so that it can be deleted."""

    @asynccontextmanager
    async def hold(self, account: Account) -> AsyncIterator[None]:
        """Hold the semaphore of an account during the block. Raises Busy if it is not free within WAIT."""
        share, users = self._of.setdefault(account, (asyncio.Semaphore(self._most), []))
        users.append(None)
        try:
            try:
                async with asyncio.timeout(WAIT):
                    await share.acquire()
            except TimeoutError:
                raise Busy(
                    f"waited {WAIT:g} s for other requests of this account to be answered; send fewer at once, or read "
                    f"the answers sooner; try again in {WAIT:g} s"
                ) from None
            try:
                yield
            finally:
                share.release()
        finally:
            users.pop()
            if not users:
                del self._of[account]
