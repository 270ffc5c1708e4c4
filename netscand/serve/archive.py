"""What this room needs of the history."""

from collections.abc import Hashable, Sequence
from typing import BinaryIO, Protocol

from netscand.core.model import Mac
from netscand.core.recorded import Page, PresenceOfDay, Question, Standing


class Archive(Protocol):
    """Events of the past, by number. Nothing here holds the loop; each may raise Unreadable."""

    def problems(self) -> tuple[str, ...]:
        """Why what happens now may be lost, or something was."""

    def size(self) -> int:
        """Bytes on the disk. May wait for it: not to be called on the loop."""

    def place(self, cursor: str) -> int:
        """The number of a cursor. Raises CursorGone where it is of another epoch, ValueError where it is none."""

    def cursor_of(self, number: int) -> str:
        """The cursor of a number."""

    async def events(self, question: Question, *, whole: bool = False, most: int | None = None) -> Page:
        """Events in order; `whole`: all of them, no more than `most`, or none. Raises CursorGone."""

    async def begin_of_last(self, question: Question) -> int:
        """The number after which the last `limit` events begin that fit."""

    async def presence(
        self, mac: Mac, days: int, standing: Standing | None, now: float, *, account: Hashable = None
    ) -> Sequence[PresenceOfDay]:
        """How long a device was online on each of the last UTC days; times in unix seconds. `account`: who asks."""

    async def backup(self) -> BinaryIO:
        """A consistent copy of the database, open to be read, without a name."""
