"""The history as it is asked: places in the stream, events of the past, days, copies. No question holds the loop.

The questions of each account wait for one another; accounts take turns (store/turns.py).
"""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from netscand.core.model import Mac
from netscand.core.recorded import (
    CursorGone,
    Page,
    PresenceOfDay,
    Question,
    Standing,
    TooLong,
    Unreadable,
)
from netscand.store.age import AgeClock
from netscand.store.reader import Reader, too_long
from netscand.store.schema import is_broken
from netscand.store.turns import Steps, Turns

T = TypeVar("T")

DIGITS = 18
"""Of a sequence number: what SQLite can keep."""

TRY_AGAIN = 5.0
"""Seconds between two tries to read what could not be read."""


class Answers:
    """What clients ask of the history."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._age = AgeClock()
        self._epoch = ""
        self._stored = 0
        """The last event that is stored."""
        self._blind = False
        """There is no database: nothing is stored until one is found."""
        self._failed: dict[str, tuple[str, Callable[[], Steps[object]]]] = {}
        """By kind of question: why the last that failed was not answered, and the same question again."""
        self._trying: asyncio.TimerHandle | None = None
        self._turns = Turns("history reader")
        self._copies = 0
        self._reader: Reader

    def _broken(self) -> None:
        """Take that a question showed the file to be damaged."""
        raise NotImplementedError

    async def _written(self) -> None:
        """Wait until everything up to now is in the file."""
        raise NotImplementedError

    def _ask_no_more(self) -> None:
        """End what is asked, and the thread. Waits for the piece under way."""
        self._reader.ends = True
        self._turns.close()
        self._reader.close()

    # ---- places ---------------------------------------------------------------------------------------------------

    def place(self, cursor: str) -> int:
        """The number of a cursor. Raises CursorGone where it is of another epoch, ValueError where it is none."""
        epoch, _, digits = cursor.rpartition("-")
        if not (epoch.isascii() and epoch.isalnum() and digits.isascii() and digits.isdigit()):
            raise ValueError(f"{cursor[:64]!r} is no cursor")
        if epoch != self._epoch or len(digits) > DIGITS:
            raise CursorGone("it is of another history")
        return int(digits)

    def cursor_of(self, number: int) -> str:
        """The cursor of a number."""
        return f"{self._epoch}-{number}"

    # ---- questions ------------------------------------------------------------------------------------------------

    async def events(self, question: Question, *, whole: bool = False, most: int | None = None) -> Page:
        """Events of the past; `whole`: all of them up to `through`, no more than `most`, or none.

        Raises CursorGone, Unreadable.
        """
        behind = self._blind or self._stored < question.through
        if behind and (whole or (self._blind and question.since is not None)):
            raise CursorGone("the history has a gap there")
        if self._blind:
            return Page((), (), question.through)
        return await self._ask("events", question.account, lambda: self._reader.events(question, most))

    async def begin_of_last(self, question: Question) -> int:
        """The number after which the last `limit` events begin that fit. Raises Unreadable."""
        return (
            0
            if self._blind
            else await self._ask("places", question.account, lambda: self._reader.begin_of_last(question))
        )

    async def presence(
        self, mac: Mac, days: int, standing: Standing | None, now: float, *, account: Hashable = None
    ) -> Sequence[PresenceOfDay]:
        """How long a device was online on each of the last UTC days; times in unix seconds. Raises Unreadable."""
        if self._blind:
            return ()
        lived = self._age.now()
        return await self._ask("days", account, lambda: self._reader.presence(mac, now, days, standing, lived))

    async def backup(self) -> BinaryIO:
        """A consistent copy of the database, open to be read, without a name. Raises Unreadable."""
        if self._blind:
            raise Unreadable("there is no history to copy")
        await self._written()
        self._copies += 1
        target = self.path.with_name(f"{self.path.name}.copy-{self._copies}")

        def copy() -> BinaryIO:
            self._reader.copy(target)
            file = target.open("rb")
            target.unlink()
            return file

        return await self._judged("copies", self._reader.look, asyncio.to_thread(copy))

    async def _ask(self, kind: str, account: Hashable, ask: Callable[[], Steps[T]]) -> T:
        return await self._judged(kind, ask, self._turns.ask(account, ask()))

    async def _judged(
        self, kind: str, ask: Callable[[], Steps[object]], answer: "asyncio.Future[T] | Coroutine[None, None, T]"
    ) -> T:
        """Wait for an answer; note why there is none, until `ask` is answered. Raises Unreadable, CursorGone."""
        try:
            return await answer
        except (sqlite3.Error, OSError) as wrong:
            if isinstance(wrong, sqlite3.Error) and too_long(wrong):
                raise TooLong("the history was read for too long: ask for less") from None
            raise Unreadable(self._note(kind, ask, wrong)) from None

    def _note(self, kind: str, ask: Callable[[], Steps[object]], wrong: sqlite3.Error | OSError) -> str:
        """Note a question that failed, and ask it again soon: nobody else may, and another answer proves nothing."""
        if isinstance(wrong, sqlite3.Error) and is_broken(wrong):
            self._reader.opened = 0  # in case its connection alone is at fault
            self._broken()
        said = (wrong.strerror if isinstance(wrong, OSError) else None) or str(wrong)
        why = f"the history cannot be read: {said}"
        self._failed[kind] = why, ask
        if self._trying is None:
            self._trying = asyncio.get_running_loop().call_later(TRY_AGAIN, self._try)
        return why

    def _unreadable(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(why for why, _ in self._failed.values()))

    def _try(self) -> None:
        self._trying = None
        for kind, (_, ask) in tuple(self._failed.items()):
            again = self._turns.ask(None, ask())
            again.add_done_callback(partial(self._tried, kind, ask))

    def _tried(self, kind: str, ask: Callable[[], Steps[object]], answer: "asyncio.Future[object]") -> None:
        if answer.cancelled():
            return
        wrong = answer.exception()
        if isinstance(wrong, sqlite3.Error | OSError) and not (isinstance(wrong, sqlite3.Error) and too_long(wrong)):
            self._note(kind, ask, wrong)
        elif kind in self._failed and self._failed[kind][1] is ask:
            del self._failed[kind]
