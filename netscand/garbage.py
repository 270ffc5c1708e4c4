"""Collects reference cycles among old objects, at a bounded cost.

Python collects young objects by itself. A full collection looks at all objects: it took 36 ms of processor for 10,000
devices and 120 ms for 40,000, and holds the loop meanwhile, so the daemon turns the automatic one off. But a cycle that
has lived for some seconds (a closed transport of asyncio is one) would then never be freed.
"""

import asyncio
import gc
from collections.abc import Callable

APART = 60.0
"""Seconds between two collections."""

FEW = 500
"""Devices that a collection may look at, beside a twentieth of all: some milliseconds."""

YOUNG = 1
"""The oldest generation that Python collects by itself."""


class Collector:
    """Full collections that look neither at what start-up made nor at most devices.

    gc.freeze() takes all objects out of later collections, at no cost. It is called only where there are many more
    devices than ever before, so some 100 times at most, and so few cycles are left out with them.
    """

    def __init__(self, devices: Callable[[], int]) -> None:
        self._devices = devices
        self._frozen = 0
        """Devices when objects were frozen last."""

    async def run(self) -> None:
        """Collect every APART seconds, until cancelled."""
        while True:
            await asyncio.sleep(APART)
            self.collect()

    def collect(self) -> None:
        """Collect all cycles; where devices were added, only young ones, and leave the devices out from now on."""
        devices = self._devices()
        if devices > self._frozen + max(FEW, self._frozen // 20):
            gc.collect(YOUNG)
            gc.freeze()
            self._frozen = devices
        else:
            gc.collect()
