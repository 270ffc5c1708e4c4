"""What the loop and the writer's thread say to each other."""

from collections.abc import Sequence
from typing import NamedTuple

from netscand.store.rows import Row


class Events(NamedTuple):
    """Rows of events up to the number `through`, with the words that they are the first to use."""

    rows: Sequence[Row]
    words: Sequence[Row]
    through: int
    epoch: str = ""
    """Of the numbering from here on, where it is another one."""


class Devices(NamedTuple):
    """Rows of devices and of when they were heard, MACs whose rows go, and what the rows show now, where it is told."""

    rows: Sequence[Row] = ()
    seen: Sequence[Row] = ()
    gone: Sequence[int] = ()
    shown: int | None = None
    alive_at: int | None = None
    losses: int = 0
    """As of the last report: `shown` holds only if no rows were lost that it counts on."""


class Broken(NamedTuple):
    """Somebody found the database damaged."""

    why: str


class Adopt(NamedTuple):
    """A database that was found while running: its numbering from now on."""

    epoch: str
    floor: int


class Say(NamedTuple):
    """Asks for word when everything before it was dealt with."""

    token: object


class Stop(NamedTuple):
    """The end: the last number that was given out."""

    sequence: int
    alive_at: int


Work = Events | Devices | Adopt | Broken | Say | Stop


class Report(NamedTuple):
    """Events may be told up to `through`; they are `stored` up to there. `trouble` says why the rest is not."""

    through: int
    stored: int
    trouble: str
    losses: int = 0
    """How often rows of devices were dropped: they must come again."""


class Found(NamedTuple):
    """A database was opened while running; events are stored once it is adopted."""

    reserved: int
    words: list[tuple[int, str]]
    set_aside: str
