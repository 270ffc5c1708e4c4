"""Collection of reference cycles among old objects, at a bounded cost.

Python collects young objects by itself. A full collection visits all objects: it took 36 ms of processor for 10,000
devices and 120 ms for 40,000, and blocks the loop meanwhile, so the daemon turns the automatic one off. Without full
collections, a cycle that has lived for some seconds (such as a closed transport of asyncio) would never be freed.
"""

import asyncio
import gc
from collections.abc import Callable

EVERY = 60.0
"""Seconds between two collections."""

FEW = 500
"""Devices that a collection may visit in addition to a twentieth of all: a few milliseconds."""

YOUNG = 1
"""Oldest generation that Python still collects by itself."""


def begin() -> None:
    """Turn collections on, after the start: its objects live as long as the process, so none needs to visit them.

    A collection of the middle generation, of 20,000 objects, blocks the loop for 3 ms; Collector does the full ones.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(2_000, 10, 1_000_000)


class Collector:
    """Full collections that visit neither the objects of the start nor most devices.

    gc.freeze() takes all objects out of later collections, at no cost. It is called only when there are many more
    devices than ever before: about 100 times at most, so few cycles are frozen with them.
    """

    def __init__(self, devices: Callable[[], int]) -> None:
        self._devices = devices
        self._frozen = 0
        """Number of devices when objects were last frozen."""

    async def run(self) -> None:
        """Collect once in EVERY, until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            self.collect()

    def collect(self) -> None:
        """Collect all cycles; if many devices were added, only young ones, and freeze the devices."""
        devices = self._devices()
        if devices > self._frozen + max(FEW, self._frozen // 20):
            gc.collect(YOUNG)
            gc.freeze()
            self._frozen = devices
        else:
            gc.collect()
