"""`watch --exec`: runs the user's command for each event, one at a time."""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from shutil import which
from typing import NamedTuple

from netscanctl.client import Usage
from netscanctl.text import SENTENCE_LIMIT, clean
from netscand.protocol import Event

QUEUE_LIMIT = 1000
"""Queued events; while the queue is full the stream is not read, and the daemon keeps the rest."""
TIMEOUT = 60.0
"""Seconds that one run may take."""
KILL_DELAY = 5.0
"""Seconds from SIGTERM to SIGKILL."""


class Job(NamedTuple):
    """Event with its JSON, and the cursor after it; `event` None: only the cursor is saved."""

    event: Event | None
    json: bytes
    cursor: str | None


def environment(event: Event) -> dict[bytes, bytes]:
    """Return the fields of an event as variables, with the names that the journal uses; a missing one is empty.

    As bytes: the locale may not have the characters of a name.
    """
    device = event.device
    fields: dict[str, object] = {
        "KIND": event.kind, "AT": event.at, "CURSOR": event.cursor, "NETWORK": event.network, "OTHER": event.other,
        "IP": event.address or (device.ip if device else None), "REASON": event.reason,
        "MAC": device and device.mac, "NAME": device and (device.label or device.hostname),
        "VENDOR": device and device.vendor, "STATUS": device and device.status,
        "KNOWN": device and ("yes" if device.known else "no"), "SITE": event.site or None,
        "TAGS": device and " ".join(device.tags),
        "PERSON": event.person.name if event.person else None,
    }  # fmt: skip
    return {f"NETSCAND_{name}".encode(): clean(value or "", SENTENCE_LIMIT).encode() for name, value in fields.items()}


class Runner:
    """Runner of `argv`, with the JSON of an event on stdin; its output goes to our stdout and stderr.

    No shell is involved, and no text from the LAN is on the command line; the fields of the event are also variables
    of the environment. `save` is called with a cursor when all events up to it are done.
    """

    def __init__(
        self,
        argv: Sequence[str],
        notice: Callable[[str], None],
        save: Callable[[str], None],
        *,
        error: Callable[[str], None] | None = None,
        queue_limit: int = QUEUE_LIMIT,
        timeout: float = TIMEOUT,
        kill_delay: float = KILL_DELAY,
    ) -> None:
        if not argv or which(argv[0]) is None:
            raise Usage(f'--exec: command "{argv[0]}" not found' if argv else "--exec: the command is empty")
        self._argv = argv
        self._name = clean(os.path.basename(argv[0]))  # the arguments may contain secrets, and this is logged
        self._notice = notice
        self._error = error or notice
        self._save = save
        self._timeout = timeout
        self._kill_delay = kill_delay
        self._jobs: asyncio.Queue[Job] = asyncio.Queue(queue_limit)
        self._lagging = False

    async def submit(self, job: Job) -> None:
        """Queue a job; wait while the queue is full."""
        if self._jobs.full() and not self._lagging:
            self._lagging = True
            self._notice(f"{self._name} is too slow: {self._jobs.qsize()} events are waiting for it")
        await self._jobs.put(job)

    async def run(self) -> None:
        """Run the queued jobs until cancelled."""
        while True:
            job = await self._jobs.get()
            if job.event is not None:
                await self._execute(job.event, job.json)
            if job.cursor:
                self._save(job.cursor)
            if self._lagging and self._jobs.empty():
                self._lagging = False
                self._notice(f"{self._name} has caught up")

    async def _execute(self, event: Event, json: bytes) -> None:
        try:
            # A process group of its own: Ctrl-C does not reach it, and its children can be killed with it.
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                process_group=0,
                env={**os.environb, **environment(event)},
            )
        except OSError as error:
            self._report(event, error.strerror or str(error))
            return
        try:
            async with asyncio.timeout(self._timeout):
                await process.communicate(json + b"\n")
        except TimeoutError:
            await self._kill(process)
            self._report(event, f"timed out after {self._timeout:g} s")
        except asyncio.CancelledError:
            await self._kill(process)
            raise
        else:
            code = process.returncode or 0
            if code:
                self._report(event, f"exit code {code}" if code > 0 else f"signal {-code}")

    def _report(self, event: Event, reason: str) -> None:
        subject = clean(event.device.mac if event.device else event.network or "")
        self._error(f"{self._name} failed for {clean(event.kind)} {subject}: {reason}")

    async def _kill(self, process: asyncio.subprocess.Process) -> None:
        """Send SIGTERM to the process group, and after a delay SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._kill_delay):
                    await process.wait()
                    return
