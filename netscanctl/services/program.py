"""The frame of a service: command line, log, readiness, watchdog, signals, exit codes."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from netscanctl.client import Daemon, Failure
from netscanctl.cursor_file import CursorFile
from netscanctl.services import services_file
from netscanctl.services.following import StateFollower, follow_events
from netscanctl.services.report import Report
from netscanctl.services.services_file import DEFAULT
from netscanctl.services.settings import Connection, ServiceTable
from netscanctl.stream import Received
from netscand import __version__
from netscand.config import ConfigError
from netscand.protocol import Event, ServerMessage
from netscand.service import Watchdog, credentials, notifier

EX_UNAVAILABLE, EX_CONFIG = 69, 78
"""sysexits.h: a component failed; configuration."""
INTERRUPTED = 130

log = logging.getLogger(__name__)

T = TypeVar("T", bound=ServiceTable)


class Service(Protocol):
    """What one service adds to the frame."""

    wants_events: bool
    """`submit` gets every event since the last accepted one."""
    wants_state: bool
    """The follower of the state runs, and `on_message` gets its messages."""

    async def run(self, follower: StateFollower) -> None:
        """Work until cancelled, which is the moment to say good-bye to the target; an exception ends the process."""

    def submit(self, received: Received) -> "asyncio.Future[None]":
        """Take an event; the future is done once the target has it, or has refused it permanently."""

    def on_message(self, message: ServerMessage, events: Iterable[Event]) -> None:
        """Take a message that changed the state; `events` are the changes to show."""


@dataclass(frozen=True)
class Context:
    """What a service gets from the frame."""

    daemon: Daemon
    report: Report
    credentials: Path | None
    """Folder of systemd's credentials."""


@dataclass(frozen=True)
class Program(Generic[T]):
    """One service as a program."""

    name: str
    """`mqtt`: the program is netscand-mqtt, its table [mqtt]."""
    summary: str
    table: type[T]
    build: Callable[[T, Context], Service]
    """Make the service. Raises ConfigError."""
    faults: Callable[[T, Path | None], Iterable[str]]
    """Yield a line for each file that the table names and that cannot be used; for --check-config."""

    def main(self) -> None:
        """Run the command line; the exit code says what happened."""
        arguments = self.parser().parse_args()
        try:
            if check := arguments.check_config:
                sys.exit(self._check((arguments.config or DEFAULT) if check is True else check))
            path = arguments.config or DEFAULT
            connection, table = services_file.load(path, self.table, required=arguments.config is not None)
            open_log()
            asyncio.run(self._run(connection.find(), table))
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except ConfigError as wrong:
            sys.exit(self._print(f"\nnetscand-{self.name}: ".join(wrong.faults), EX_CONFIG))
        except ExceptionGroup as errors:
            failures, others = errors.split(Failure)
            if others is not None:
                log.critical("a component failed; see the traceback", exc_info=others)
            for failure in failures.exceptions if failures else ():
                self._print(str(failure), EX_UNAVAILABLE)
            sys.exit(EX_UNAVAILABLE)

    def parser(self) -> argparse.ArgumentParser:
        """Return the parser of the command line; packaging/manuals.py makes the manual page from it."""
        parser = argparse.ArgumentParser(f"netscand-{self.name}", description=self.summary, allow_abbrev=False)
        parser.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help=f"configuration file (default {DEFAULT}, if it exists)",
        )
        parser.add_argument(
            "--check-config",
            type=Path,
            nargs="?",
            const=True,
            metavar="FILE",
            help=f"print errors in FILE (default: that of --config, else {DEFAULT}), and exit",
        )
        parser.add_argument("--version", action="version", version=f"netscand-{self.name} {__version__}")
        return parser

    def _check(self, path: Path) -> int:
        """Print all errors in a configuration, and in the files that it names; return the exit code."""
        reading = services_file.read_file(path)
        faults = list(reading.faults)
        connection, table = reading.table(Connection), reading.table(self.table)
        if connection is not None:
            try:
                connection.find()
            except ConfigError as wrong:
                faults += wrong.faults
        if table is not None:
            faults += [f"[{self.name}] {fault}" for fault in self.faults(table, credentials())]
        for fault in faults:
            self._print(f"{path}: {fault}", EX_CONFIG)
        if not faults:
            sys.stdout.write(f"{path}: good\n")
        return EX_CONFIG if faults else 0

    def _print(self, sentence: str, code: int) -> int:
        sys.stderr.write(f"netscand-{self.name}: {sentence}\n")
        return code

    async def _run(self, daemon: Daemon, table: T) -> None:
        notify = notifier()
        report = Report(self.name, daemon.address, notify)
        service = self.build(table, Context(daemon, report, credentials()))
        follower = StateFollower(daemon, report, service.on_message)
        state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
        bookmark = CursorFile(str(Path(state, "cursor")) if state else None, "cursor file")
        try:
            async with serve_metrics(table.metrics, report), asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(work)
                    for work in (
                        service.run(follower),
                        report.run(),
                        Watchdog(notify, {}).run(),
                        *([follower.run()] if service.wants_state else []),
                        *([follow_events(daemon, report, bookmark, service.submit)] if service.wants_events else []),
                    )
                ]
                stop = lambda: [task.cancel() for task in tasks]  # noqa: E731 - one line
                for number in (signal.SIGTERM, signal.SIGINT):
                    asyncio.get_running_loop().add_signal_handler(number, stop)
                notify("READY=1")
        finally:
            notify("STOPPING=1")
            bookmark.close()


def open_log() -> None:
    """Log to stderr, one line for each record; in the journal with its priority (sd-daemon(3))."""
    by_journal = "JOURNAL_STREAM" in os.environ
    priorities = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

    class Line(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            mark = f"<{priorities.get(record.levelno, 6)}>" if by_journal else ""
            return "\n".join(mark + line for line in super().format(record).splitlines())

    out = logging.StreamHandler()
    out.setFormatter(Line("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[out])


@asynccontextmanager
async def serve_metrics(address: str | None, report: Report) -> AsyncIterator[None]:
    """Serve /metrics on a loopback address. Raises ConfigError if it is in use."""
    if address is None:
        yield
        return
    from aiohttp import web

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=report.metrics, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, _, port = address.rpartition(":")
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigError(f"metrics {address!r}: cannot listen: {error.strerror}; use another port") from None
    try:
        yield
    finally:
        await runner.cleanup()
