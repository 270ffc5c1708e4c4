"""Interface of a process to systemd: signals, the end, credentials, notifications, the watchdog (sd_notify(3))."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

LOOKS = 4
"""Checks within the time that systemd allows."""

SETTLE = 0.2
"""Seconds that the components have for their turn after the whole process stood still."""

STATUS_EVERY = 5.0
"""Seconds between two STATUS lines for systemd."""

SELF_TEST_EVERY = 2.0
"""Maximum seconds between two self-tests of the server, where there is a watchdog."""


def notifier() -> Callable[[str], None]:
    """Return the function that notifies the service manager, in UTF-8, without ever waiting for it."""
    from sdnotify import SystemdNotifier

    found = SystemdNotifier()
    if (sock := getattr(found, "socket", None)) is not None:  # undocumented; held by tests/core/test_libraries.py
        sock.setblocking(False)
    # The library encodes Latin-1, and drops messages with other characters.
    return lambda state: found.notify(state.encode().decode("latin-1"))


def credentials() -> Path | None:
    """Return the folder of systemd's credentials (systemd.exec(5))."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(folder) if folder else None


def handle_signals(stop: asyncio.Event, reload: asyncio.Event) -> None:
    """Let SIGTERM and SIGINT set `stop`, and SIGHUP `reload`."""
    loop = asyncio.get_running_loop()
    for number, event in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGHUP, reload)):
        loop.add_signal_handler(number, event.set)


async def cancellable(work: Awaitable[T]) -> T:
    """Return the result of `work`, which may swallow that this task is cancelled. Raises CancelledError then.

    nats-py does that while it publishes; asyncio.wait_for before Python 3.12; and a TaskGroup of which a child fails at
    the same moment. The body of such a group must wait: otherwise, before Python 3.13, the group counts a cancellation
    that was none.
    """
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        return await work
    finally:
        if task.cancelling() > before:
            raise asyncio.CancelledError


async def component(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a component; one that ends by itself ends the process, and systemd restarts it (law 9)."""
    await run()
    raise RuntimeError(f"{name} ended")


async def publish_status(notify: Callable[[str], None], line: Callable[[], str]) -> None:
    """Show the line as the status of the unit, until cancelled."""
    while True:
        notify(f"STATUS={line()}")
        await asyncio.sleep(STATUS_EVERY)


async def on_request(requested: asyncio.Event, act: Callable[[], Awaitable[object]]) -> None:
    """Act each time that the event is set, until cancelled."""
    while True:
        await requested.wait()
        requested.clear()
        await act()


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

    @property
    def self_test_interval(self) -> float | None:
        """Return the seconds between two self-tests of the server; None: none is needed."""
        return None if self.allowed is None else min(SELF_TEST_EVERY, self.allowed / 8)

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
        """Feed the watchdog if every component runs; else log once which one hangs, and once that it runs again."""
        assert self.allowed is not None
        hung = {name for name, ticked_at in self._ticks.items() if now - ticked_at() > self.allowed / 2}
        for name in sorted(hung - self._hung):
            log.critical("%s hangs: systemd restarts netscand unless it recovers", name)
        for name in sorted(self._hung - hung):
            log.warning("%s has recovered: no restart is needed", name)
        self._hung = hung
        if not hung:
            self._notify("WATCHDOG=1")


def _allowed(environment: Mapping[str, str]) -> float | None:
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isdigit() or not int(usec) or pid not in ("", str(os.getpid())):
        return None
    return int(usec) / 1e6
