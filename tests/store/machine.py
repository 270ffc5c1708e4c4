"""A machine in simulated time: it is on, asleep or off, and its wall clock can be set."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from netscand.store import devices, history, retention
from tests.store.diary import BOOT, FakeClock


class Machine(FakeClock):
    """`now` is the true time, in seconds; a history on it has its clocks within `clocks`."""

    def __init__(self) -> None:
        self.now = BOOT
        self.error = 0.0
        """Seconds by which the wall clock is ahead of the true time."""
        self.on = 0.0
        """Seconds that the machine was on or asleep, in all."""
        self._booted = self.now - 100.0
        self._slept = 0.0

    @property
    def boot(self) -> float:  # type: ignore[override]
        return self.wall() - self.monotonic()

    def wall(self) -> float:
        return self.now + self.error

    def monotonic(self) -> float:
        return self.now - self._booted - self._slept

    def boottime(self, clock: int = 0) -> float:
        return self.now - self._booted

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.on += seconds

    def sleep(self, seconds: float) -> None:
        self.work(seconds)
        self._slept += seconds

    def reboot(self, seconds: float) -> None:
        """Be off for so long."""
        self.now += seconds
        self._booted, self._slept = self.now, 0.0

    @contextmanager
    def clocks(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(retention, "clock_gettime", self.boottime)
            for module in (retention, history, devices):
                patch.setattr(module, "monotonic", self.monotonic)
            yield
