"""Interfaces of the engine and the history that the server uses."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO, Protocol

from msgspec import UNSET

from netscand.core.conflicts import Conflict
from netscand.core.merged import MergedMacs
from netscand.core.model import BadTarget, Busy, Coverage, Device, Load, Mac, Network
from netscand.core.people import People
from netscand.core.ratelimit import SCAN_REQUESTS, Budgets
from netscand.core.restore import DAY, EventQuery, Page, PresencePart, Standing
from netscand.core.status import StatusCounts
from netscand.protocol import ScanNow, ScanRequest
from netscand.serve.http import Refused

# ---- archive -------------------------------------------------------------------------------------------------------
# The history.


class HistoryPort(Protocol):
    """Stored events. No method blocks the loop; each may raise Unreadable."""

    def problems(self) -> tuple[str, ...]:
        """Return why events may be lost, or were."""

    def unstored(self) -> str:
        """Return why what happens now may be lost at a restart; "": it is stored."""

    def size(self) -> int:
        """Return the bytes on the disk. May wait for it: not to be called on the loop."""

    def sequence_of(self, cursor: str) -> int:
        """Return the number of a cursor. Raises CursorGone if it is of another epoch, ValueError if it is invalid."""

    def cursor_of(self, number: int) -> str:
        """Return the cursor of a number."""

    async def events(self, question: EventQuery, *, whole: bool = False, most: int | None = None) -> Page:
        """Return events in order; `whole`: all of them, at most `most`, or none. Raises CursorGone."""

    async def begin_of_last(self, question: EventQuery) -> int:
        """Return the number after which the last `limit` matching events begin."""

    async def presence(
        self, mac: Mac, days: int, standing: Standing | None, now: float, step: float = DAY, *,
        others: Sequence[Mac] = (), account: Hashable = None,
    ) -> Sequence[PresencePart]:  # fmt: skip
        """Return how long a device was online in each part (`step` seconds) of the last UTC days, in unix seconds."""

    async def erase(self, macs: Sequence[Mac]) -> int:
        """Delete all events of a device, of these MACs, and those that name it, from the disk; return their number."""

    async def backup(self) -> BinaryIO:
        """Return a consistent copy of the database, open for reading and without a name."""


class ServedDevice(Protocol):
    """A device, as lists of devices know it."""

    @property
    def key(self) -> Mac:
        """What identifies it, and sorts it: its MAC; on a hub of sites, its site and its MAC."""


class PublishedChange(Protocol):
    """An event, as those who publish it know it."""

    @property
    def kind(self) -> str:
        """Kind, as in the protocol."""

    @property
    def device(self) -> ServedDevice | None:
        """Device that it is about."""

    @property
    def previous(self) -> object:
        """Something, if it changed fields of the device."""

    @property
    def seen_at(self) -> float | None:
        """Monotonic timestamp of the frame that showed the change."""


# ---- recorder ------------------------------------------------------------------------------------------------------
# Captures of what netscand receives (lan/recorder.py).


class FrameRecording(Protocol):
    """Frames since the start of a recording, encoded for a file."""

    @property
    def is_over(self) -> bool:
        """Whether it has as many bytes as it may have."""

    def take(self) -> bytes:
        """Return what was recorded since the last call."""

    async def wait(self, seconds: float) -> None:
        """Wait until something was recorded, at most so long."""

    def end(self) -> bytes:
        """Return the end of the file."""


class FrameRecorder(Protocol):
    """Recorder of one recording at a time."""

    def start(self, *, anonymise: bool) -> FrameRecording:
        """Start a recording. Raises Busy, with a sentence."""

    def stop(self) -> None:
        """End the recording."""


# ---- scanner -------------------------------------------------------------------------------------------------------
# The engine.

if TYPE_CHECKING:
    from netscand.serve.connection import Connection


class Scanner(Protocol):
    """The engine as clients see it. Times are monotonic seconds; all is read on the loop's thread."""

    @property
    def devices(self) -> Mapping[Mac, Device]:
        """All devices; the engine changes them between two turns of the loop."""

    @property
    def people(self) -> People:
        """All people."""

    @property
    def merged(self) -> MergedMacs:
        """MACs that users merged into others."""

    @property
    def counts(self) -> StatusCounts:
        """Numbers of devices by status, without this host."""

    @property
    def networks(self) -> Mapping[str, Network]:
        """All networks, including excluded ones, by id."""

    @property
    def cursor(self) -> str:
        """Cursor of the last published event."""

    @property
    def observations(self) -> Mapping[str, int]:
        """Observations since the start, by evidence."""

    @property
    def budgets(self) -> Budgets:
        """Budgets, with what they refused."""

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
        """Return when the last scan of a network ended."""

    def coverage(self, network: str) -> Coverage:
        """Return the part of a network that one scan covers."""

    def load(self) -> Load:
        """Return the counters since the start."""

    def problems(self) -> tuple[str, ...]:
        """Return why the daemon is degraded, one sentence each."""

    def conflicts(self) -> Sequence[Conflict]:
        """Return the conflicts between devices that last, the most important first."""

    def label(self, mac: Mac, changes: Mapping[str, object]) -> None:
        """Set the user's annotations: `label`, `known`, `notes`, `patience`, `tags`, of a device that was seen or not.

        Raises KeyError, or Busy with a sentence.
        """

    def set_person(
        self, name: str, add: Mapping[Mac, bool], remove: Iterable[Mac] = (), rename: str | None = None
    ) -> None:
        """Add a person, or change one: devices with whether they count, and the name. Raises KeyError, Busy."""

    def merge(self, mac: Mac, other: Mac) -> None:
        """Merge a device into another one. Raises KeyError, ValueError, Busy."""

    def split(self, mac: Mac) -> None:
        """Undo the merge of a MAC. Raises KeyError."""

    def remove_person(self, name: str) -> None:
        """Remove a person. Raises KeyError."""

    def forget(self, mac: Mac) -> None:
        """Delete a device. Raises KeyError, or ValueError if it cannot be deleted."""

    async def wake(self, mac: Mac) -> Sequence[str]:
        """Send magic packets to a device; return the networks. Raises KeyError; BadTarget, Busy with a sentence."""

    def scan_now(
        self, targets: Sequence[str], account: Hashable = None, client: object = None, site: str | None = None
    ) -> int:
        """Request a scan (no targets: all scanned networks); return its id. `account` is charged for it, if any.

        Raises BadTarget, Busy, with a sentence. `client`: see `leave_scans`; None never leaves. `site`: only for a hub.
        """

    def leave_scans(self, client: object) -> None:
        """End the long scans that only this client requested."""

    def lease(self, client: object, seconds: float | None) -> float:
        """Set a shorter interval for `client`, or None to end it; return the interval in force. Raises ValueError."""


def request_scan(
    scanner: Scanner,
    request: ScanNow | ScanRequest,
    connection: "Connection",
    client: object = None,
) -> int:
    """Request a scan for a client, if its account may; return the id. Raises Refused."""
    account, site = connection.account, None if request.site is UNSET else request.site
    if site is not None and connection.sites is not None and site not in connection.sites:
        raise Refused("not_found", f"no site {site}")
    if not scanner.budgets.take(SCAN_REQUESTS, account, monotonic()):
        raise Refused(
            "busy", f"more than {SCAN_REQUESTS.per_second:g} scan requests a second from this account; try again in 1 s"
        )
    try:
        return scanner.scan_now(request.targets, None if connection.peer.privileged else account, client, site)
    except BadTarget as error:
        raise Refused("bad_request", str(error)) from None
    except Busy as busy:
        raise Refused("busy", str(busy)) from None
