"""Watchdog of systemd: fed only while every component shows in time that it runs (sd_watchdog_enabled(3))."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from time import monotonic

log = logging.getLogger(__name__)

LOOKS = 4
"""Checks within the time that systemd allows."""

SETTLE = 0.2
"""Seconds that the components have for their turn after the whole process stood still."""


class Watchdog:
    """Feeder of systemd's watchdog, if the unit has WatchdogSec.

    `ticks` gives, by the name of a component, when it last showed that it runs (monotonic seconds). A component that
    did not within half of WATCHDOG_USEC hangs: the watchdog is fed no more, and systemd restarts the process.
    """

    def __init__(
        self,
        notify: Callable[[str], None],
        ticks: Mapping[str, Callable[[], float]],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._notify = notify
        self._ticks = ticks
        self.allowed = _allowed(environment)
        """Seconds that systemd waits for a notification; None: there is no watchdog."""
        self._hung: set[str] = set()

    async def run(self) -> None:
        """Feed until cancelled."""
        if self.allowed is None:
            await asyncio.Event().wait()
            return
        while True:
            self.check(monotonic())
            late = monotonic() + 2 * self.allowed / LOOKS
            await asyncio.sleep(self.allowed / LOOKS)
            if monotonic() > late:  # the whole process stood still: the components need a turn before they are judged
                await asyncio.sleep(SETTLE)

    def check(self, now: float) -> None:
        """Feed the watchdog if every component runs; else log once which one hangs."""
        assert self.allowed is not None
        hung = {name for name, ticked_at in self._ticks.items() if now - ticked_at() > self.allowed / 2}
        for name in sorted(hung - self._hung):
            log.critical("%s hangs: systemd restarts netscand unless it recovers", name)
        self._hung = hung
        if not hung:
            self._notify("WATCHDOG=1")


def _allowed(environment: Mapping[str, str]) -> float | None:
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isdigit() or not int(usec) or pid not in ("", str(os.getpid())):
        return None
    return int(usec) / 1e6
