"""The devices as they are at one cursor, told over many turns of the loop (law 3).

Translating thousands of devices takes longer than the loop may be held, and meanwhile they change. A snapshot reads
the living devices, one after the other; when an event changes one, it keeps how that one was. So a client that does not
read holds no list of devices, but what changed since.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from time import perf_counter

from netscand import protocol
from netscand.core.model import Device, Event, EventKind, Mac
from netscand.serve.fair import Account, FairTurns
from netscand.serve.filters import Filter, Searched
from netscand.serve.translate import Translator

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
        translator: Translator,
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
    def held(self) -> int:
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
