"""The devices as they are at one cursor, told over many turns of the loop (law 3).

Translating thousands of devices takes longer than the loop may be held, and meanwhile they change. A snapshot holds
on to the devices of its moment; when an event changes one that was not told yet, it is told as it was before.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter

from netscand import protocol
from netscand.core.model import Device, Event, Mac
from netscand.serve.filters import Filter
from netscand.serve.translate import Translator

HOLD = 0.002
"""Seconds that one slice may hold the loop."""


class Snapshot:
    """Made at once, told in some `order`, `part` by `part` until nothing is `left`.

    `turns` is shared by all snapshots: one slice a turn, however many clients come at once.
    """

    def __init__(
        self,
        cursor: str,
        devices: dict[Mac, Device],
        order: Iterator[Mac],
        fits: Filter,
        translator: Translator,
        turns: asyncio.Lock,
        settled: Callable[[], Awaitable[None]],
    ) -> None:
        self.cursor = cursor
        self._waiting = devices
        """Not told yet."""
        self._order = order
        self._before: dict[Mac, protocol.Device] = {}
        self._fits = fits
        self._translator = translator
        self._turns = turns
        self._settled = settled
        """Returns when what it shows is stored: nothing is given out before (law 2)."""
        self._is_settled = False

    @property
    def left(self) -> bool:
        """Whether there are devices not told yet."""
        return bool(self._waiting)

    def needs(self, event: Event) -> bool:
        """Whether the event, which happened after the snapshot, changed a device that was not told yet."""
        device = event.device
        return device is not None and self._waiting.get(device.mac) is device and device.mac not in self._before

    def keep(self, mac: Mac, before: protocol.Device) -> None:
        """Tell this device as it was."""
        self._before[mac] = before

    async def part(self, size: int) -> list[bytes]:
        """The next devices that fit, at most `size`, as JSON; fewer only where nothing is left."""
        if not self._is_settled:
            await self._settled()
            self._is_settled = True
        found: list[bytes] = []
        while self.left and len(found) < size:
            async with self._turns:
                self._slice(found, size)
                await asyncio.sleep(0)
        return found

    def _slice(self, found: list[bytes], size: int) -> None:
        self._translator.sync()
        waiting, before = self._waiting, self._before
        translate, encode = self._translator.device, protocol.encode
        fits = self._fits.device if self._fits else None
        until = perf_counter() + HOLD
        while waiting and len(found) < size:
            mac = next(self._order)
            device = waiting.pop(mac)
            told = before.pop(mac, None) or translate(device)
            if fits is None or fits(told):
                found.append(encode(told))
            if not len(waiting) & 15 and perf_counter() > until:
                break

    def __len__(self) -> int:
        """Devices not told yet, whether they fit or not."""
        return len(self._waiting)
