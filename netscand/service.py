"""Tells systemd that the daemon lives: only while every room has ticked in time (sd_watchdog_enabled(3))."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from time import monotonic

log = logging.getLogger(__name__)

OFTEN = 4
"""Looks within the time that systemd allows."""


class Watchdog:
    """Feeds systemd's watchdog, where systemd asks for it.

    `ticks` gives, by the name of a room, when it last showed that it lives (monotonic seconds). A room that did not do
    so within half of WATCHDOG_USEC is hung: systemd hears no more of us, kills the process and starts it anew.
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
        """Seconds that systemd waits for a sign of life; None: it does not."""
        self._hung: set[str] = set()

    async def run(self) -> None:
        """Feed until cancelled."""
        if self.allowed is None:
            await asyncio.Event().wait()
            return
        while True:
            self.look(monotonic())
            await asyncio.sleep(self.allowed / OFTEN)

    def look(self, now: float) -> None:
        """Feed, if everyone lives; else say once who does not."""
        assert self.allowed is not None
        hung = {name for name, ticked_at in self._ticks.items() if now - ticked_at() > self.allowed / 2}
        for name in sorted(hung - self._hung):
            log.critical("%s hangs: systemd will restart netscand unless it comes back", name)
        self._hung = hung
        if not hung:
            self._notify("WATCHDOG=1")


def _allowed(environment: Mapping[str, str]) -> float | None:
    wanted, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not wanted.isdigit() or not int(wanted) or pid not in ("", str(os.getpid())):
        return None
    return int(wanted) / 1e6
