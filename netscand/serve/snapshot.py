"""The devices as they are at one cursor, told over many turns of the loop (law 3).

Translating thousands of devices takes longer than the loop may be held, and meanwhile they change. A snapshot reads
the living devices, one after the other; when an event changes one, it keeps how that one was. So a client that does not
read holds no list of devices, but what changed since.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from time import perf_counter

from netscand import protocol
from netscand.core.model import Device, Event, EventKind, Mac
from netscand.core.restore import copied
from netscand.serve.encode import Encoder
from netscand.serve.fair_turns import Account, FairTurns
from netscand.serve.query import Filter, Searched

HOLD = 0.002
"""Seconds that one slice may hold the loop."""

PLACE = 128
"""Bytes that a device takes that is kept as it was, but for its text, which all snapshots share."""

Kept = tuple[Searched, bytes]
"""A device as it was, and its JSON."""


class Snapshot:
    """Made at once, told in some `order` of `count` devices, `part` by `part` until nothing is `left`.

    One slice in a fair turn, however many clients come at once; `account` is whose turns it takes.
    """

    def __init__(
        self,
        cursor: str,
        devices: Mapping[Mac, Device],
        order: Iterator[Mac],
        count: int,
        fits: Filter,
        account: Account,
        translator: Encoder,
        turns: FairTurns,
        settled: Callable[[], Awaitable[None]],
    ) -> None:
        self.cursor = cursor
        self._devices = devices
        self._order = order
        self._left = count
        self._before: dict[Mac, Kept] = {}
        """Those that changed since, as they were, whether they fit or not: an event waits for no filter."""
        self._fits = fits
        self._account = account
        self._translator = translator
        self._turns = turns
        self._settled = settled
        """Returns when what it shows is stored: nothing is given out before (law 2)."""
        self._is_settled = False

    @property
    def left(self) -> bool:
        """Whether there are devices not told yet."""
        return self._left > 0

    @property
    def bytes_kept(self) -> int:
        """Bytes that it keeps."""
        return PLACE * len(self._before)

    def needs(self, event: Event) -> bool:
        """Whether the event, which happened after the snapshot, changed a device that may be told yet."""
        device = event.device
        return device is not None and event.kind is not EventKind.DISCOVERED and device.mac not in self._before

    def keep(self, mac: Mac, kept: Kept) -> None:
        """Tell this device as it was."""
        self._before[mac] = kept

    async def part(self, size: int) -> list[bytes]:
        """The next devices that fit, at most `size`, as JSON; fewer only where nothing is left."""
        if not self._is_settled:
            await self._settled()
            self._is_settled = True
        found: list[bytes] = []
        while self.left and len(found) < size:
            await self._turns.turn(self._account)
            self._slice(found, size)
        return found

    def _slice(self, found: list[bytes], size: int) -> None:
        self._translator.sync()
        devices, before = self._devices, self._before
        translate, encode = self._translator.device, protocol.encode
        fits = self._fits.fits if self._fits else None
        until = perf_counter() + HOLD
        while self._left and len(found) < size:
            self._left -= 1
            mac = next(self._order)
            if mac in before:
                was, text = before.pop(mac)
                if fits is None or fits(was):
                    found.append(text)
            elif (device := devices.get(mac)) is not None:
                told = translate(device)
                if fits is None or fits(Searched(told)):
                    found.append(encode(told))
            if not self._left & 15 and perf_counter() > until:
                break

    def __len__(self) -> int:
        """Devices not told yet, whether they fit or not."""
        return self._left


# ---- moment --------------------------------------------------------------------------------------------------------
# Any device as it was at one cursor, for as long as the past is told from there.


class PastView:
    """Holds on to a device only when an event changes it; a snapshot, which shows them all, would hold all."""

    def __init__(self, cursor: str, devices: Mapping[Mac, Device]) -> None:
        self.cursor = cursor
        self._devices = devices
        self._before: dict[Mac, Device | None] = {}

    def needs(self, mac: Mac) -> bool:
        """Whether this device is changed for the first time since."""
        return mac not in self._before

    def keep(self, mac: Mac, before: Device | None) -> None:
        """Remember how it was, None: not there; it may be shared, and is not changed any more."""
        self._before[mac] = before

    @property
    def bytes_kept(self) -> int:
        """Bytes that it keeps, but for the devices themselves, which all moments share."""
        return PLACE * len(self._before)

    def device(self, mac: Mac) -> Device | None:
        """The device as it was then; what makes no event, as it is now."""
        return self._before[mac] if mac in self._before else self._devices.get(mac)


def as_before(event: Event) -> Device | None:
    """The device of an event as it was before it; None where it was not there."""
    device = event.device
    if device is None or event.kind is EventKind.DISCOVERED:
        return None
    was = copied(device)
    for name, value in (event.previous or {}).items():
        if name == "addresses":
            was.addresses = list(value)  # type: ignore[call-overload]  # what stands under this name
        elif name not in ("ip", "patience", "kinds") and hasattr(was, name):
            setattr(was, name, value)
    return was
