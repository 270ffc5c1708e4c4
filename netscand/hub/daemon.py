"""The composition root of netscand-hub: builds the parts and owns the tasks; readiness, reload, shutdown."""

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

from netscand import garbage_collection
from netscand.config import ConfigError, FileInForce
from netscand.hub import settings
from netscand.hub.connection import Message, ServerError
from netscand.hub.history import Past
from netscand.hub.log import Log
from netscand.hub.requests import Requests
from netscand.hub.scanner import Sites
from netscand.hub.serving import HubServer, SiteEncoder
from netscand.hub.view import Change, View
from netscand.off_loop import READ_WITHIN, OffLoop
from netscand.serve.auth import TokensRefused
from netscand.serve.hub import Hub
from netscand.serve.listen import ListenError, inherited_sockets
from netscand.serve.ports import Scanner
from netscand.service import Watchdog, component, handle_signals, notifier, on_request, publish_status

DEAD = 64
"""Maximum unreadable messages that wait to be copied."""

log = logging.getLogger(__name__)


class Daemon:
    """All parts, built from one configuration. Raises ConfigError."""

    def __init__(self, config: settings.Config, path: Path, credentials: Path | None) -> None:
        self._config = config
        self._path = path
        self._notify = notifier()
        self._reloads = asyncio.Event()
        self._dead: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(DEAD)
        self.encoder = SiteEncoder(offset=lambda: time.time() - time.monotonic(), vendor=lambda mac: None)
        self.view = View(self._time, self._on_unreadable)
        self.hub = Hub(self.encoder)
        self.log = Log(config.hub, config.hub.seed(credentials), self.view, self._publish)
        self.requests = Requests(self.log, self.hub.publish_scan)
        self.sites = Sites(self.view, self.log, self.requests)
        # Handlers that need more fields than a device or a network of a site has are replaced (serving.py).
        scanner = cast(Scanner, self.sites)
        self.server = HubServer(
            scanner, self.hub, config.listen, config.access, self.encoder, inherited_sockets(), Past(self.log)
        )
        self.server.config_file, self.server.reload_configuration = path, self._reload
        self._file, self._reading = FileInForce(path), OffLoop(1)
        self.server.config_changed = lambda: self._file.changed
        self.server.configuration = lambda: self._config
        self.log.on_new_log = self.server.begin_again
        self.log.on_read = self.hub.list_changed
        self.watchdog = Watchdog(self._notify, {"server": lambda: self.server.self_test.answered_at})
        self.server.self_test_interval = self.watchdog.self_test_interval

    async def run(self) -> None:
        """Read the log, serve, and run until SIGTERM or SIGINT. Raises what a part raised."""
        stopping = asyncio.Event()
        handle_signals(stopping, self._reloads)
        gc.disable()  # collections during the start would take as long as the start itself
        async with asyncio.TaskGroup() as parts:
            running = [parts.create_task(self.log.run(), name="log")]
            stop = parts.create_task(stopping.wait(), name="stop")
            first = parts.create_task(self.log.ready.wait(), name="first reading")
            self._notify("READY=1\nSTATUS=reads the log")
            await asyncio.wait([stop, first], return_when=asyncio.FIRST_COMPLETED)
            first.cancel()
            try:
                if not stopping.is_set():
                    await self._serve(parts, running)
                    await stopping.wait()
                self._notify("STOPPING=1")
                log.info("stopping")
            finally:
                await self.server.close()
                for task in (stop, *reversed(running)):
                    task.cancel()

    async def _serve(self, parts: asyncio.TaskGroup, running: list["asyncio.Task[None]"]) -> None:
        await self.server.open()
        garbage_collection.begin()
        work: dict[str, Callable[[], Awaitable[None]]] = {
            "server": self.server.run,
            "requests": self.requests.run,
            "unreadable messages": self._bury,
            "status": lambda: publish_status(self._notify, self._status_line),
            "garbage": garbage_collection.Collector(lambda: len(self.view.devices)).run,
            "configuration": lambda: on_request(self._reloads, self._reload),
            "watchdog": self.watchdog.run,
        }
        running += [parts.create_task(component(name, run), name=name) for name, run in work.items()]
        await self.server.self_test.check_all()
        log.info("ready: %s", self._status_line())

    # ---- between the parts

    def _time(self, at: float) -> str:
        self.encoder.sync()
        return self.encoder.time(at)

    def _publish(self, cursor: str, change: Change) -> None:
        if change.device is not None:
            self.hub.list_changed()
        self.hub.publish(cursor, change, change.body)

    def _on_unreadable(self, site: str, message: Message, why: str) -> None:
        log.warning("site %s: message %d cannot be read: %s", site, message.sequence, why)
        if not self._dead.full():
            self._dead.put_nowait((site, message.data))

    async def _bury(self) -> None:
        while True:
            site, data = await self._dead.get()
            with contextlib.suppress(ServerError):
                await self.log.bury(site, data)

    # ---- configuration and status

    async def _reload(self) -> str:
        """Read the configuration again; with an error, keep the old one, and report and return it."""
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        error = ""
        try:
            new = await self._reading.do(self._load, READ_WITHIN)
            self.server.reload(new.access, new.listen)
        except TimeoutError:
            error = f"{self._path}: the disk does not answer"
        except (ConfigError, ListenError, TokensRefused) as wrong:
            error = str(wrong)
        if error:
            log.error("the configuration was not reloaded, the old one stays in force: %s", error)
            self.sites.not_reloaded = f"the configuration was not reloaded: {error}"
        else:
            if new.hub != self._config.hub:
                log.warning("[hub] changed: takes effect at the next restart")
            self._config, self.sites.not_reloaded = new, ""
            logging.getLogger().setLevel(new.log.level.upper())
            log.info("configuration reloaded")
        self._notify("READY=1")
        return error

    def _load(self) -> settings.Config:
        """Read the file again. Raises ConfigError."""
        self._file.read()
        return settings.load(self._path, required=self._path.exists())

    def _status_line(self) -> str:
        found = self.view.sites.values()
        connected = sum(site.state == "connected" for site in found)
        devices, clients = len(self.view.devices), self.server.clients
        line = f"{connected} of {len(found)} sites connected, {devices} devices, {clients} clients"
        problems = "; ".join(self.sites.problems())
        return f"{line}; degraded: {problems}" if problems else line


def run(config: settings.Config, path: Path, credentials: Path | None) -> None:
    """Run the hub until SIGTERM or SIGINT. Raises ConfigError, and what a part raised."""

    async def main() -> None:
        await Daemon(config, path, credentials).run()

    asyncio.run(main())
