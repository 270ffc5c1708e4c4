"""The composition root: builds the components and owns the tasks; readiness, reload, shutdown."""

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import SystemRandom

from msgspec import structs

from netscand import __version__, garbage_collection
from netscand.config import Config, ConfigError, FileInForce, load
from netscand.core.claims import urgency
from netscand.core.inventory import Inventory
from netscand.core.model import Network
from netscand.core.networks import SCANNED
from netscand.core.planner import Pace, Planner
from netscand.core.presence import Rules
from netscand.core.ratelimit import HISTORY_SIZE, NAME_QUEUE
from netscand.core.restore import recalled, recalled_merges, recalled_people
from netscand.engine import Engine
from netscand.event_log import LoggedEvents, one_line
from netscand.lan.interfaces import Interfaces
from netscand.lan.multicast import MulticastMembership
from netscand.lan.name_queue import Names
from netscand.lan.netlink import Neighbours
from netscand.lan.recorder import Recorder
from netscand.lan.vendors import Vendors
from netscand.lan.wire import Wire
from netscand.off_loop import READ_WITHIN, OffLoop
from netscand.serve.auth import TokensRefused
from netscand.serve.encode import Encoder, ip_text, mac_text, remembered_by
from netscand.serve.histograms import TimedSelector
from netscand.serve.hub import Hub
from netscand.serve.listen import ListenError, inherited_sockets
from netscand.serve.server import Server
from netscand.service import Watchdog, component, handle_signals, notifier, on_request, publish_status
from netscand.store.history import History

MIGRATING = 600.0
"""Seconds that systemd waits for READY when a history is upgraded: enough for 256 MiB on a slow SD card."""

JOURNAL_DELAY = 0.005
"""Seconds until an event is logged: a few turns of the loop, in which it is stored and published first."""

SWITCH_INTERVAL = 0.0005
"""Maximum seconds that the history's writer waits for the interpreter: events are published once it has stored them."""

log = logging.getLogger(__name__)


class Daemon:
    """All components, built from one configuration."""

    def __init__(self, config: Config, path: Path) -> None:
        self.config = config
        self._path = path
        self._file = FileInForce(path)
        self._has_file = path.exists()
        """The configuration was read from a file, not made of the defaults."""
        self._notify = notifier()
        self._reloads = asyncio.Event()
        now = time.monotonic()
        vendor = Vendors().of
        self.inventory = Inventory(_rules(config), SystemRandom(), vendor)
        budgets = self.inventory.budgets
        self.wire = Wire(lambda batch: self.engine.observe(batch), lambda answer: self.names.answered(answer), budgets)
        self.inventory.set_name_sources(config.names.sources, now)
        self.planner = Planner(self.inventory, _pace(config), now, SystemRandom())
        self.translator = Encoder(offset=Offset(), vendor=vendor)
        self.hub = Hub(self.translator)
        self.hub.holds = True
        self.history = History(
            config.history, self.inventory.devices, self.translator, remembered_by, self.hub.release,
            lambda mac: self.engine.forget(mac, "not seen for as long as events are kept ([history] keep_days)"),
            lambda events: budgets.refuse(HISTORY_SIZE, time.monotonic(), events),
        )  # fmt: skip
        self.history.follow(self.inventory.people.all, self.inventory.merged.all)
        audience = self._journal = LoggedEvents(
            self.hub,
            mac_text,
            ip_text,
            lambda write: asyncio.get_running_loop().call_later(JOURNAL_DELAY, write),
            budgets,
            self.translator.vendor,
        )
        self.engine = Engine(
            self.inventory, self.planner, self.wire, self.history, audience, time.monotonic,
            encode=self.translator.event,
        )  # fmt: skip
        self.engine.send_wake = self.wire.wake
        self.engine.interval = config.scan.interval
        self.names = self.engine.names = Names(
            self.engine, lambda mac: urgency(self.engine.devices.get(mac)), self.wire.send_frame,
            refused=lambda _: budgets.refuse(NAME_QUEUE, time.monotonic()),
        )  # fmt: skip
        self.neighbours = Neighbours(self.engine.observe)
        self.groups = MulticastMembership()
        self.interfaces = Interfaces(self._follow, config.scan, config.network)
        offset = Offset()
        recorder = Recorder(
            self.wire, lambda: self.engine.networks, f"netscand {__version__}", lambda at: at + offset()
        )
        self.server = Server(
            self.engine, self.hub, config.listen, config.access, self.translator, inherited_sockets(), self.history,
            recorder,
        )  # fmt: skip
        self.server.config_file, self.server.reload_configuration = path, self._reload
        self.server.config_changed = lambda: self._file.changed
        self._reloading = asyncio.Lock()
        self._reading = OffLoop(1)
        self._started_with = config
        self.server.configuration = self._configuration_in_force
        self.watchdog = Watchdog(
            self._notify,
            {
                "engine": lambda: self.engine.turned_at,
                "receive path": lambda: self.wire.ticked_at,
                "history": lambda: self.history.turned_at,
                "server": lambda: self.server.self_test.answered_at,
            },
        )
        self.server.self_test_interval = self.watchdog.self_test_interval

    async def run(self) -> None:
        """Open the components, report readiness, and run until SIGTERM or SIGINT. Raises what a component raised."""
        stopping = asyncio.Event()
        handle_signals(stopping, self._reloads)
        gc.disable()  # collections during the start would take as long as the start itself
        async with AsyncExitStack() as undo:
            undo.callback(self._journal.write, sys.maxsize)
            undo.callback(self.wire.close)
            self.wire.open()
            undo.callback(self.interfaces.close)
            undo.callback(self.groups.close)
            networks = self.interfaces.open()
            if self.history.takes_long:
                self._notify(f"EXTEND_TIMEOUT_USEC={MIGRATING * 1_000_000:.0f}")
            memory = self.history.open()
            undo.push_async_callback(self.history.close)
            now = time.monotonic()
            offset = time.time() - now
            devices, people = recalled(memory, self.inventory.rules, offset, now), recalled_people(memory, offset, now)
            self.engine.restore(devices, networks, people, recalled_merges(memory, self.inventory.rules, offset, now))
            del devices
            del memory
            undo.push_async_callback(self.server.close)
            await self.server.open()
            self._follow(networks)
            garbage_collection.begin()
            async with asyncio.TaskGroup() as rooms:
                work: dict[str, Callable[[], Awaitable[None]]] = {
                    "wire": self.wire.run,
                    "interfaces": self.interfaces.run,
                    "neighbours": self.neighbours.run,
                    "names": self.names.run,
                    "engine": self.engine.run,
                    "history": self.history.run,
                    "server": self.server.run,
                    "status": lambda: publish_status(self._notify, lambda: one_line(self._status_line())),
                    "garbage": garbage_collection.Collector(lambda: len(self.engine.devices)).run,
                    "configuration": lambda: on_request(self._reloads, self._reload),
                    "watchdog": self.watchdog.run,
                }
                running = [rooms.create_task(component(name, run), name=name) for name, run in work.items()]
                await self.server.self_test.check_all()
                self.hub.measures.turns.reset()
                self._notify("READY=1")
                log.info("ready: %s", self._status_line())
                await stopping.wait()
                self._notify("STOPPING=1")
                log.info("stopping")
                await self.server.close()
                for task in reversed(running):
                    task.cancel()

    def _follow(self, networks: tuple[Network, ...]) -> None:
        """Use the networks as they are now."""
        scanned = [network for network in networks if network.state in SCANNED]
        children = frozenset(bytes(mac) for network in scanned for mac in network.children)
        self.wire.follow({network.index for network in scanned}, children)
        self.groups.follow(networks)
        self.engine.set_networks(networks, self.interfaces.macs)

    async def _reload(self) -> str:
        """Read the configuration again, off the loop; with an error, keep the old one, and report and return it."""
        async with self._reloading:
            return await self._reload_once()

    async def _reload_once(self) -> str:
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
            self.engine.not_reloaded = f"the configuration was not reloaded: {error}"
        else:
            self._apply(new)
        self._notify("READY=1")
        return error

    def _load(self) -> Config:
        """Read the file again. Raises ConfigError, also if it existed and is gone, or empty, as after a full disk."""
        self._file.read()
        new = load(self._path, required=self._has_file)
        if self._has_file and not self._path.stat().st_size:
            raise ConfigError(f"{self._path}: empty; to go back to the defaults, write a comment into it")
        return new

    def _configuration_in_force(self) -> Config:
        """Return the configuration without those changes that need a restart."""
        started = self._started_with
        history = structs.replace(self.config.history, path=started.history.path)
        listen = structs.replace(started.listen, tcp=self.config.listen.tcp)
        return structs.replace(self.config, listen=listen, history=history)

    def _apply(self, new: Config) -> None:
        before, self.server.needs_restart = self.server.needs_restart, _changes_for_restart(self._started_with, new)
        if self.server.needs_restart not in ((), before):
            log.warning("changed, takes effect at the next restart: %s", ", ".join(self.server.needs_restart))
        self.engine.not_reloaded = ""
        self._has_file = self._path.exists()
        self.history.keep(new.history)
        sources_changed = self.config.names.sources != new.names.sources
        self.config = new
        now = time.monotonic()
        self.inventory.set_rules(_rules(new))
        if sources_changed:
            self.engine.set_name_sources(new.names.sources)
        self.planner.set_pace(_pace(new), now)
        self.engine.interval = new.scan.interval
        self.interfaces.reload(new.scan, new.network)
        logging.getLogger().setLevel(new.log.level.upper())
        log.info("configuration reloaded")

    def _status_line(self) -> str:
        (online, *others) = self.engine.counts.total
        devices = online + sum(others)
        networks = sum(network.state == "up" for network in self.engine.networks.values())
        problems = "; ".join(self.engine.problems())
        counted = f"{_counted(networks, 'network')}, {online} of {_counted(devices, 'device')} online"
        line = f"{counted} (without this host), {_counted(self.server.clients, 'client')}"
        return f"{line}; degraded: {problems}" if problems else line


def _changes_for_restart(old: Config, new: Config) -> tuple[str, ...]:
    """Return the keys that differ and take effect only at a start."""
    pairs = [("listen", name) for name in old.listen.__struct_fields__ if name != "tcp"] + [("history", "path")]
    return tuple(
        f"[{table}] {name}"
        for table, name in pairs
        if getattr(getattr(old, table), name) != getattr(getattr(new, table), name)
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _rules(config: Config) -> Rules:
    return Rules(config.presence.probe_interval, *config.presence.patience)


def _pace(config: Config) -> Pace:
    return Pace(config.scan.rate, config.scan.background_rate, config.scan.tries)


class Offset:
    """Offset from the monotonic to the wall clock, in seconds.

    It stays the same to the last bit while the clocks agree within TOLERANCE: reading both takes a moment, and the
    times of an event that was published once must not change.
    """

    TOLERANCE = 20e-6

    def __init__(self) -> None:
        self._current = 0.0

    def __call__(self) -> float:
        """Return the offset now."""
        fresh = time.time() - time.monotonic()
        if abs(fresh - self._current) > self.TOLERANCE:
            self._current = fresh
        return self._current


def run(config: Config, path: Path) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    daemon = Daemon(config, path)
    turns = daemon.hub.measures.turns
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(TimedSelector(turns))) as runner:
        runner.run(daemon.run())
