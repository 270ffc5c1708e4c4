"""Fair turns: what clients cause is done piece by piece, one piece in a turn of the loop, and accounts in turn.

An account is whom connections are counted for (`Peer.key`). However many connections it has, and however much it sends,
another account waits for one piece of it. A piece is some milliseconds at most: some bytes parsed, a message or a
request begun, a slice of a snapshot, a part of the history.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TypeVar

from netscand.core.fairness import FairQueue

T = TypeVar("T")

Account = Hashable

OURS: Account = "netscand"
"""Whose turns are taken by what no client asked for alone."""

HOLD = 0.002
"""Seconds that a slice of a long piece of work may hold the loop."""

Piece = Callable[[], bool]
"""Does a piece of work; returns whether there was any."""


class FairTurns:
    """One piece in each turn of the loop, for all clients together."""

    def __init__(self) -> None:
        self._waiting: FairQueue[Piece] = FairQueue()
        self._taken = self._due = False
        """This turn of the loop has had its piece; `_next` is called in the next one."""

    def do(self, account: Account, piece: Piece) -> None:
        """Do a piece when it is its turn: at once, if nothing waits and this turn has had none."""
        if self._taken or self._waiting:
            self._waiting.push(account, piece)
        elif piece():
            self._take()

    def later(self, account: Account, piece: Piece) -> None:
        """Do a piece when it is its turn, but not at once."""
        self._waiting.push(account, piece)
        if not self._taken:
            self._take()

    async def turn(self, account: Account) -> None:
        """Wait for a turn; the piece is what the caller does from now to its next await."""
        if not self._taken and not self._waiting:
            self._take()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.push(account, lambda: _granted(turn))
        await turn

    async def over(self, account: Account, items: Iterable[T]) -> AsyncIterator[T]:
        """Go through `items` slice by slice, each in a turn; the caller awaits nothing between two of them."""
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
            if self._waiting and not self._taken:  # one has failed, and the others go on
                self._take()


def _granted(turn: "asyncio.Future[None]") -> bool:
    if turn.done():  # who waited was cancelled
        return False
    turn.set_result(None)
    return True


class Shares:
    """So many at once of each account; what is more waits."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: dict[Account, tuple[asyncio.Semaphore, list[None]]] = {}
        """With who holds or waits, so that it can be forgotten."""

    @asynccontextmanager
    async def hold(self, account: Account) -> AsyncIterator[None]:
        """Be one of them while the block lasts."""
        share, users = self._of.setdefault(account, (asyncio.Semaphore(self._most), []))
        users.append(None)
        try:
            async with share:
                yield
        finally:
            users.pop()
            if not users:
                del self._of[account]
