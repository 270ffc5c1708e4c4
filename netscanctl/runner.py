"""`watch --exec`: the user's command, run for each change, one at a time."""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from shutil import which
from typing import NamedTuple

from netscanctl.client import Usage
from netscanctl.text import clean
from netscand.protocol import Event

WAITING = 1000
"""Changes that wait for the command; while they are so many the stream is not read, and the daemon keeps the rest."""
LIMIT = 60.0
"""Seconds that one run may take."""
GRACE = 5.0
"""Seconds from SIGTERM to SIGKILL."""


class Job(NamedTuple):
    """A change and its JSON, or None where nothing is to be told; and the place in the stream behind it."""

    event: Event | None
    told: bytes
    cursor: str | None


class Runner:
    """Runs `argv` for each change, with its JSON on stdin; what it prints goes where ours goes.

    No shell sees it, and nothing that the LAN says stands on its command line. `done` is told a cursor when all
    changes up to it are done.
    """

    def __init__(
        self,
        argv: Sequence[str],
        talk: Callable[[str], None],
        done: Callable[[str], None],
        *,
        waiting: int = WAITING,
        limit: float = LIMIT,
        grace: float = GRACE,
    ) -> None:
        if not argv or which(argv[0]) is None:
            raise Usage(f"--exec: no command {argv[0] if argv else 'is given'}")
        self._argv = argv
        self._name = clean(os.path.basename(argv[0]))  # its arguments may be secret, and the journal is not
        self._talk = talk
        self._done = done
        self._limit = limit
        self._grace = grace
        self._jobs: asyncio.Queue[Job] = asyncio.Queue(waiting)
        self._behind = False

    async def offer(self, job: Job) -> None:
        """Line a change up; waits while as many wait as may."""
        if self._jobs.full() and not self._behind:
            self._behind = True
            self._talk(f"{self._name} is slower than the changes come: {self._jobs.qsize()} wait for it")
        await self._jobs.put(job)

    async def run(self) -> None:
        """Run it for what was lined up, for ever."""
        while True:
            job = await self._jobs.get()
            if job.event is not None:
                await self._execute(job.event, job.told)
            if job.cursor:
                self._done(job.cursor)
            if self._behind and self._jobs.empty():
                self._behind = False
                self._talk(f"{self._name} has caught up")

    async def _execute(self, event: Event, told: bytes) -> None:
        try:
            # A group of its own: Ctrl-C is for us, and what it starts ends with it.
            process = await asyncio.create_subprocess_exec(*self._argv, stdin=asyncio.subprocess.PIPE, process_group=0)
        except OSError as wrong:
            self._failed(event, wrong.strerror or str(wrong))
            return
        try:
            async with asyncio.timeout(self._limit):
                await process.communicate(told + b"\n")
        except TimeoutError:
            await self._end(process)
            self._failed(event, f"not done after {self._limit:g} s")
        except asyncio.CancelledError:
            await self._end(process)
            raise
        else:
            code = process.returncode or 0
            if code:
                self._failed(event, f"exit code {code}" if code > 0 else f"signal {-code}")

    def _failed(self, event: Event, why: str) -> None:
        about = clean(event.device.mac if event.device else event.network or "")
        self._talk(f"{self._name} failed ({why}) at {clean(event.kind)} {about}")

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """SIGTERM to its whole group, and where that does not do, SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._grace):
                    await process.wait()
                    return
