"""What the server needs of the engine and of the history."""

from collections.abc import Hashable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO, Protocol

from netscand.core.model import BadTarget, Busy, Coverage, Device, Load, Mac, Network
from netscand.core.ratelimit import SCAN_REQUESTS, Budgets
from netscand.core.restore import Page, PresenceOfDay, Question, Standing
from netscand.serve.http import Refused

# ---- archive -------------------------------------------------------------------------------------------------------
# What this room needs of the history.


class HistoryPort(Protocol):
    """Events of the past, by number. Nothing here holds the loop; each may raise Unreadable."""

    def problems(self) -> tuple[str, ...]:
        """Why what happens now may be lost, or something was."""

    def size(self) -> int:
        """Bytes on the disk. May wait for it: not to be called on the loop."""

    def sequence_of(self, cursor: str) -> int:
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


# ---- scanner -------------------------------------------------------------------------------------------------------
# What this room needs of the engine.

if TYPE_CHECKING:
    from netscand.serve.connection import Connection


class Scanner(Protocol):
    """The engine as clients see it. Times are monotonic seconds; everything is read on the loop's thread."""

    @property
    def devices(self) -> Mapping[Mac, Device]:
        """Every device; living objects that the engine changes between two turns of the loop."""

    @property
    def networks(self) -> Mapping[str, Network]:
        """Every network, excluded ones too, by id."""

    @property
    def cursor(self) -> str:
        """The place of the last event that was told."""

    @property
    def observations(self) -> Mapping[str, int]:
        """Observations since the start, by evidence."""

    @property
    def budgets(self) -> Budgets:
        """What others may cause, and what of it was refused."""

    @property
    def interval(self) -> float:
        """Seconds between scans, as configured."""

    @property
    def scanning(self) -> bool:
        """Whether a scan is running."""

    @property
    def last_scan(self) -> float | None:
        """When the last scan ended."""

    @property
    def started_at(self) -> float:
        """When the daemon started."""

    def last_scan_of(self, network: str) -> float | None:
        """When the last scan of that network ended."""

    def coverage(self, network: str) -> Coverage:
        """How much of that network one scan asks."""

    def load(self) -> Load:
        """Counters since the start."""

    def problems(self) -> tuple[str, ...]:
        """Why the daemon is degraded, one sentence each."""

    def label(self, mac: Mac, changes: Mapping[str, object]) -> None:
        """Take what a user knows of a device: `label`, `known`, `notes`, `patience`. Raises KeyError."""

    def forget(self, mac: Mac) -> None:
        """Strike a device out. Raises KeyError, ValueError where it cannot be."""

    def scan_now(self, targets: Sequence[str], account: Hashable = None) -> int:
        """Request a scan (no targets: every scanned network); return its id. `account` pays for it, None: nobody does.

        Raises BadTarget, Busy, with a sentence.
        """

    def lease(self, client: object, seconds: float | None) -> float:
        """Hold a faster interval for `client`, or None to let it go; what is in force. Raises ValueError."""


def request_scan(scanner: Scanner, targets: Sequence[str], connection: "Connection") -> int:
    """Let a client request a scan, if its account may; the id of the scan. Raises Refused."""
    account = connection.account
    if not scanner.budgets.take(SCAN_REQUESTS, account, monotonic()):
        raise Refused(
            "busy", f"more than {SCAN_REQUESTS.per_second:g} scan requests a second from this account; try again in 1 s"
        )
    try:
        return scanner.scan_now(targets, None if connection.peer.privileged else account)
    except BadTarget as wrong:
        raise Refused("bad_request", str(wrong)) from None
    except Busy as busy:
        raise Refused("busy", str(busy)) from None
