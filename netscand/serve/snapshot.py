"""The devices as they are at one cursor, encoded over many turns of the loop (law 3).

Encoding thousands of devices takes longer than the loop may be held, and meanwhile they change. A snapshot reads the
living devices, one after the other; when an event changes one, it keeps that one as it was. So for a client that does
not read, no list of devices is kept, only what changed since.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from time import perf_counter

import msgspec

from netscand import protocol
from netscand.core.model import EventKind, Mac
from netscand.serve.encode import Encoder
from netscand.serve.fair_turns import Account, FairTurns
from netscand.serve.ports import PublishedChange, ServedDevice
from netscand.serve.query import Filter, Searched

HOLD = 0.002
"""Seconds that one slice may hold the loop."""

ENTRY, TEXT = 192, 33
"""Bytes of an entry for a device that is kept as it was; and of its JSON besides its length."""

Kept = tuple[bytes, int]
"""The JSON of a device as it was, and the bytes charged for it."""

_decode = msgspec.json.Decoder(protocol.Device).decode


class Snapshot:
    """Snapshot of `count` devices in some `order`; taken at once, encoded `part` by `part` until nothing is `left`.

    One slice in a turn, however many clients there are; the turns are those of `account`.
    """

    def __init__(
        self,
        cursor: str,
        devices: Mapping[Mac, ServedDevice],
        order: Iterator[Mac],
        count: int,
        fits: Filter,
        account: Account,
        encoder: Encoder,
        turns: FairTurns,
        settled: Callable[[], Awaitable[None]],
    ) -> None:
        self.cursor = cursor
        self._devices = devices
        self._order = order
        self._left = count
        self._before: dict[Mac, Kept] = {}
        """Devices that changed since, as they were, whether they fit or not: an event waits for no filter."""
        self._fits = fits
        self._account = account
        self._encoder = encoder
        self._turns = turns
        self._settled = settled
        """Returns when what it shows is stored: nothing is sent before (law 2)."""
        self._is_settled = False
        self._bytes_kept = 0

    @property
    def left(self) -> bool:
        """Return whether there are devices left to encode."""
        return self._left > 0

    @property
    def bytes_kept(self) -> int:
        """Return the bytes that it keeps."""
        return self._bytes_kept

    def needs(self, event: PublishedChange) -> bool:
        """Return whether the event, which is later than the snapshot, changed a device that is not kept yet."""
        device = event.device
        is_new = event.kind == EventKind.DISCOVERED and event.previous is None
        return device is not None and not is_new and device.key not in self._before

    def keep(self, mac: Mac, text: bytes, shared: int) -> None:
        """Keep the JSON of a device as it was; `shared`: snapshots that keep the same JSON, each charged a part."""
        charged = ENTRY + (TEXT + len(text)) // shared
        self._before[mac] = text, charged
        self._bytes_kept += charged

    async def part(self, size: int) -> list[bytes]:
        """Return the JSON of the next devices that fit, at most `size`; fewer only if nothing is left."""
        if not self._is_settled:
            await self._settled()
            self._is_settled = True
        found: list[bytes] = []
        while self.left and len(found) < size:
            await self._turns.turn(self._account)
            self._slice(found, size)
        return found

    def _slice(self, found: list[bytes], size: int) -> None:
        self._encoder.sync()
        devices, before = self._devices, self._before
        encode = self._encoder.listed
        fits = self._fits if self._fits else None
        until = perf_counter() + HOLD
        while self._left and len(found) < size:
            self._left -= 1
            mac = next(self._order)
            if mac in before:
                text, charged = before.pop(mac)
                self._bytes_kept -= charged
                if fits is None or fits.fits(Searched(_decode(text))):
                    found.append(text)
            elif (device := devices.get(mac)) is not None and (listed := encode(device, fits)) is not None:
                found.append(listed)
            if not self._left & 15 and perf_counter() > until:
                break

    def __len__(self) -> int:
        """Return the number of devices left, whether they fit or not."""
        return self._left
