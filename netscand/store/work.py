"""What the loop and the writer's thread say to each other."""

from collections.abc import Sequence
from typing import NamedTuple

from netscand.store.rows import Row


class Alive(NamedTuple):
    """When netscand was running, in milliseconds: by the wall clock, by the history's, and since the machine's boot."""

    at: int
    lived: int
    boot_at: int


class Events(NamedTuple):
    """Rows of events up to the number `through`, with the words that they are the first to use."""

    rows: Sequence[Row]
    words: Sequence[Row]
    through: int
    epoch: str = ""
    """Of the numbering from here on, where it is another one."""
    shifts: Sequence[Row] = ()
    """Where the wall clock was found to be set."""


class Clock(NamedTuple):
    """How the history's own clock stands (store/age.py), and by how much the wall clock was last ahead of it."""

    lived: int
    boot_at: int
    ahead: int


class Devices(NamedTuple):
    """Rows of devices and of when they were heard, MACs whose rows go, and what the rows show now, where it is told."""

    rows: Sequence[Row] = ()
    seen: Sequence[Row] = ()
    gone: Sequence[int] = ()
    shown: int | None = None
    alive: Alive | None = None
    losses: int = 0
    """As of the last report: `shown` holds only if no rows were lost that it counts on."""


class Adopt(NamedTuple):
    """A database that was found while running: its numbering from now on."""

    epoch: str
    floor: int


class Say(NamedTuple):
    """Asks for word when everything before it was dealt with."""

    token: object


class Lost(NamedTuple):
    """The `generation`th database is damaged; or its files are `gone`, and whole under no name."""

    why: str
    generation: int
    gone: bool = False


class Stop(NamedTuple):
    """The end: the last number that was given out."""

    sequence: int
    alive: Alive


Work = Events | Devices | Adopt | Lost | Say | Stop


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
    clock: Clock
    notice: str
    """What somebody should know of it until the next start; or nothing."""


class Noticed(NamedTuple):
    """Something that somebody should know until the next start."""

    notice: str


class Trimmed(NamedTuple):
    """Size, not age, is what removes events: so many since this was said last."""

    removed: int
