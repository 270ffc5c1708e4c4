"""The one writer: observations and ticks in; inventory, then history, then hub; sends what is due (laws 1, 2).

Everything here is synchronous and on the loop's thread, so all clients see one timeline with one sequence.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from itertools import product
from math import inf
from operator import attrgetter
from typing import Protocol

from netscand.core.conflicts import Conflict
from netscand.core.inventory import Inventory
from netscand.core.merged import Merge, MergedMacs
from netscand.core.model import (
    BadTarget,
    Busy,
    Coverage,
    Device,
    Event,
    EventKind,
    Ip,
    Load,
    Mac,
    Network,
    Observation,
    Person,
    Probe,
    ScanNews,
    SendFailed,
    Status,
)
from netscand.core.networks import SCANNED
from netscand.core.outage import network_problems
from netscand.core.people import People
from netscand.core.planner import BUSY_FOR, Planner
from netscand.core.status import StatusCounts

ASLEEP = 5.0
"""Seconds between two turns after which the process must have been stopped: silence in them does not count (F13)."""

LOGGED_APART = 3600.0
"""Seconds between two log lines about a network that cannot be sent on: a firewall may refuse some of the frames."""

PROBES_A_TURN, PROBES_WHEN_BEHIND = 256, 32
"""Frames planned at once, some milliseconds; and while the receive path is behind, no more than it can take."""

WAKE_FRAMES = 2
"""Broadcast frames that wake a device (lan/wake.py)."""

WAKE_RETRY, WAKE_TRIES = 0.02, 250
"""Seconds until such a frame that the limits refused is tried again, and how often: 5 s, for a scan may use them."""

NAMED_AT = frozenset([EventKind.DISCOVERED, EventKind.ONLINE, EventKind.ADDRESS_ADDED, EventKind.ADDRESS_MOVED])
"""Events after which a device may have a name to look up."""

log = logging.getLogger(__name__)


class Sender(Protocol):
    """What the engine needs of lan/wire."""

    send_errors: int

    @property
    def received(self) -> int:
        """Return the frames received since the start."""

    @property
    def dropped(self) -> int:
        """Return the frames for which the kernel had no room."""

    @property
    def ignored(self) -> int:
        """Return the frames received, but not decoded because there were too many."""

    @property
    def behind(self) -> bool:
        """Return whether frames wait to be decoded: send less."""

    @property
    def overflow_at(self) -> tuple[float, float]:
        """Return when answers may have been lost last: of ARP, and of everything else."""

    def send(self, probes: Sequence[Probe]) -> list[Probe]:
        """Send what the interface takes; return the rest, in order. Raises SendFailed."""


class EventLog(Protocol):
    """What the engine needs of store/history."""

    @property
    def cursor(self) -> str:
        """Return the cursor of the last event: `EPOCH-SEQ`."""

    def append(self, event: Event, body: bytes) -> str:
        """Number an event, and store its body; return its cursor."""

    def flush(self) -> None:
        """Store the appended events now, and not at the end of the turn of the loop."""

    def problems(self) -> tuple[str, ...]:
        """Return why what happens now may be lost."""


class Numbers:
    """An event log that only counts: nothing is stored."""

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch
        self._sequence = 0

    @property
    def cursor(self) -> str:
        """Return the cursor of the last event."""
        return f"{self._epoch}-{self._sequence}"

    def append(self, event: Event, body: bytes) -> str:
        """Number an event."""
        self._sequence += 1
        return self.cursor

    def flush(self) -> None:
        """Do nothing: nothing is stored."""

    def problems(self) -> tuple[str, ...]:
        """Return none: nothing is expected to be stored."""
        return ()


class Audience(Protocol):
    """What the engine needs of serve/hub."""

    def publish(self, cursor: str, event: Event, body: bytes) -> None:
        """Publish an event; `body` is what clients get."""

    def publish_scan(self, news: ScanNews) -> None:
        """Publish how a scan goes."""


class NameResolver(Protocol):
    """What the engine needs of lan/name_queue."""

    def request_name(self, mac: Mac, ip: Ip, network: Network) -> None:
        """Look up the name of the device at that address, some time."""

    def refuses_newcomer(self, network: str) -> bool:
        """Return whether there is no room for a new device that answered us; then it needs no request."""

    def restart_rounds(self) -> None:
        """Forget when names were looked up."""


class Engine:
    """Owns the inventory; the only one to change it."""

    def __init__(
        self,
        inventory: Inventory,
        planner: Planner,
        wire: Sender,
        history: EventLog,
        hub: Audience,
        clock: Callable[[], float],
        suspended: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic(),
        encode: Callable[[Event], bytes] = lambda event: b"",
    ) -> None:
        self.started_at = clock()
        self.turned_at = self.started_at
        """When the loop of `run` last ran, for the watchdog."""
        self.interval = inf
        """The configuration's, in seconds."""
        self.names: NameResolver | None = None
        """Looks up the names of devices."""
        self.send_wake: Callable[[Network, Mac, int], None] = lambda network, mac, number: None
        """Sends one of WAKE_FRAMES magic packets. Raises OSError."""
        self.not_reloaded = ""
        """Why the configuration file was refused at the last reload."""
        self._inventory, self.budgets = inventory, inventory.budgets
        self._planner = planner
        self._wire = wire
        self._history = history
        self._hub = hub
        self._clock = clock
        self._suspended = suspended
        """Seconds that this machine slept since it was booted."""
        self._encode = encode
        """Encodes an event, once, for the history and for all clients."""
        self.observations: Counter[str] = Counter()
        """Observations since the start, by evidence."""
        self._unsent: list[Probe] = []
        self._kicked = asyncio.Event()
        self._wake_at = self.started_at
        self._leases: dict[object, float] = {}
        self._refused: dict[str, str] = {}
        self._refusals_logged: dict[str, float] = {}
        """Network → when the log last reported that it cannot be sent on."""
        self._broadcast = self._unicast = 0
        self._second = (0, 0, 0)
        """The running second, frames sent in it, and in the one before."""

    # ---- in -----------------------------------------------------------------------------------------------------

    def observe(self, batch: Sequence[Observation]) -> None:
        """Take the observations of received frames."""
        inventory, planner = self._inventory, self._planner
        published: list[Event] = []
        for seen in batch:
            network = inventory.network_table.lookup(seen.interface, seen.ip)
            if network is not None:
                rtt = planner.record_reply(seen, network)
                for event in inventory.observe(seen, network, rtt):
                    self._publish(event)
                    published.append(event)
        if published:
            self._history.flush()  # clients come first
            if names := self.names:
                for event in published:
                    if event.kind in NAMED_AT:
                        self._request_name(event, names)
        self.observations.update(map(attrgetter("evidence"), batch))
        self._look_again()

    def _request_name(self, event: Event, names: NameResolver) -> None:
        device, network = event.device, self.networks.get(event.network or "")
        if device is None or network is None:
            return
        is_newcomer = event.kind is EventKind.DISCOVERED and device.confirmed and event.previous is None
        if not (is_newcomer and names.refuses_newcomer(network.id)):
            self._look_up(device, network, names)

    def _look_up(self, device: Device, network: Network, names: NameResolver) -> None:
        ip = device.ip
        if ip is None or (network.excluded and network.excludes(ip)) or network.is_foreign(ip):
            return
        if self._inventory.claims.host_names.missing_sources(device):
            names.request_name(device.mac, ip, network)

    def missing_sources(self, mac: Mac) -> tuple[str, ...]:
        """Return the sources in which a device's name may still be looked up."""
        device = self._inventory.devices.get(mac)
        return self._inventory.claims.host_names.missing_sources(device) if device is not None else ()

    def set_name_sources(self, sources: Iterable[str]) -> None:
        """Set the sources of names, most trusted first, and look names up again in those that are better now."""
        if self.names is not None:
            self.names.restart_rounds()
        for event in self._inventory.set_name_sources(sources, self._clock(), self._look_up_again):
            self._publish(event)
        self._kicked.set()

    def _look_up_again(self, device: Device) -> None:
        if self.names is None or device.status is not Status.ONLINE or not device.addresses:
            return
        where = max(device.addresses, key=attrgetter("last_seen"))
        if (network := self.networks.get(where.network)) is not None:
            self._look_up(device, network, self.names)

    def query_address(self, mac: Mac, network: str, *, by_dns: bool) -> Ip | None:
        """Return the address at which a device may be asked for its name now."""
        return self._inventory.query_address(mac, network, self._clock(), by_dns=by_dns)

    def named(self, mac: Mac, name: str, source: str, at: float, network: str, ip: Ip) -> None:
        """Take a name that was looked up at an address, if only this device holds it still."""
        if self._inventory.may_take_name(mac, network, ip, at, by_dns=source == "dns"):
            for event in self._inventory.rename(mac, name, source, at):
                self._publish(event)

    def may_probe(self, network: str, to_all: bool) -> bool:
        """Return whether one more frame may leave on a network now; if so, it counts against the budget."""
        room = self._planner.spend(network, self._clock(), to_all=to_all)
        self._broadcast += room and to_all
        return room

    async def wake(self, mac: Mac) -> list[str]:
        """Send magic packets to a device, each of its MACs or one, on all networks where it was seen; return these.

        Each frame waits for room in the limits. Raises KeyError; BadTarget, Busy with a sentence.
        """
        networks = self._networks_to_wake(self.devices[self.merged.primary(mac)])
        for network in networks:
            for to, number in product((mac, *self.merged.of(mac)), range(WAKE_FRAMES)):
                for _ in range(WAKE_TRIES):
                    if self.may_probe(network.id, True):
                        break
                    await asyncio.sleep(WAKE_RETRY)
                else:
                    raise Busy(f"{network.id}: the limits of frames in [scan] are used up; try again later")
                try:
                    self.send_wake(network, to, number)
                except OSError as refused:
                    raise Busy(f"{network.id}: cannot send: {refused.strerror or refused}") from None
        return [network.id for network in networks]

    def _networks_to_wake(self, device: Device) -> list[Network]:
        if device.is_self:
            raise BadTarget("this host is awake")
        seen_on = dict.fromkeys(address.network for address in device.addresses)
        networks = [self.networks[each] for each in seen_on if each in self.networks]
        if not seen_on and (network := self._inventory.network_table.lookup(device.interface, None)) is not None:
            networks = [network]
        if not networks:
            gone = f" (only on {', '.join(seen_on)})" if seen_on else ""
            raise BadTarget(f"it was not seen on any network that this host has now{gone}, so no frame can reach it")
        if not (up := [network for network in networks if network.state in SCANNED]):
            raise Busy(f"{', '.join(network.id for network in networks)}: down or excluded, so no frame can be sent")
        return up

    def set_networks(self, networks: Iterable[Network], macs: Set[Mac] | None = None) -> None:
        """Take all networks as netlink and the configuration have them now, and the MACs of this host's interfaces."""
        now = self._clock()
        events = self._inventory.set_networks(networks, now, macs)
        self._inventory.drop_probes(self._unsent, now)
        self._unsent = []
        for event in events:
            self._publish(event)
        self._refused = {network: why for network, why in self._refused.items() if network in self.networks}
        self._refusals_logged = {name: at for name, at in self._refusals_logged.items() if name in self.networks}
        self._planner.set_networks(now)
        self._kicked.set()

    def restore(
        self,
        devices: Iterable[Device],
        networks: Iterable[Network],
        people: Iterable[Person] = (),
        merges: Iterable[Merge] = (),
    ) -> None:
        """Restore what was known before this start; call `set_networks` with these networks next."""
        interfaces = {network.interface: network.index for network in networks}
        left_out = self._inventory.restore(devices, interfaces, self._clock())
        self._inventory.merged.restore(merges, self.devices)
        self._inventory.people.restore(people)
        for event in (*left_out, *self._inventory.people.settle(self._clock())):
            self._publish(event)

    def label(self, mac: Mac, changes: Mapping[str, object]) -> None:
        """Take a user's annotations of a device, seen or not (core/annotations.py). Raises KeyError, Busy."""
        for event in self._inventory.label(mac, changes, self._clock()):
            self._publish(event)
        self._look_again()

    def set_person(
        self, name: str, add: Mapping[Mac, bool], remove: Iterable[Mac] = (), rename: str | None = None
    ) -> None:
        """Add a person, or change one (core/people.py). Raises KeyError, Busy."""
        for event in self._inventory.people.change(name, add, remove, rename, self._clock()):
            self._publish(event)

    def merge(self, mac: Mac, other: Mac) -> None:
        """Merge a device into another one, on a user's word. Raises KeyError, ValueError, Busy."""
        for event in self._inventory.merge(mac, other, self._clock()):
            self._publish(event)
        self._look_again()

    def split(self, mac: Mac) -> None:
        """Undo the merge of a MAC. Raises KeyError, also if it was not merged."""
        for event in self._inventory.split(mac, self._clock()):
            self._publish(event)
        self._look_again()

    def remove_person(self, name: str) -> None:
        """Remove a person. Raises KeyError."""
        self._publish(self._inventory.people.remove(name, self._clock()))

    def forget(self, mac: Mac, reason: str = "forgotten by a user") -> None:
        """Forget a device; if it is seen again, it is new. Raises KeyError, ValueError for this host."""
        if self.devices[mac].is_self:
            raise ValueError("this host cannot be forgotten")
        self._publish(self._inventory.forget(mac, self._clock(), reason))

    def scan_now(
        self, targets: Sequence[str], account: Hashable = None, client: object = None, site: str | None = None
    ) -> int:
        """Take a request; return the id of the scan that serves it. `account` pays for it. Raises BadTarget, Busy.

        A scan that takes long ends when all its clients have left it (`leave_scans`); None never leaves.
        """
        if site is not None:
            raise BadTarget(f"site {site}: this netscand is not a hub of sites; omit `site`")
        self._kicked.set()
        return self._planner.request_scan(targets, self._clock(), account, client)

    def leave_scans(self, client: object) -> None:
        """End the long scans that only this client requested."""
        self._planner.leave_scans(client, self._clock())
        self._kicked.set()

    def lease(self, client: object, seconds: float | None) -> float:
        """Let a client hold a shorter interval, or (None) release it; return the interval in force.

        Raises ValueError where it is not between 1 s and the configuration's interval.
        """
        if seconds is None:
            self._leases.pop(client, None)
        elif not 1 <= seconds <= self.interval:
            raise ValueError(f"seconds: expected 1 to {self.interval:g}, or null")
        else:
            self._leases[client] = seconds
        fastest = min(self._leases.values(), default=None)
        if fastest != self._planner.lease:
            self._planner.set_lease(fastest, self._clock())
            self._kicked.set()
        return self.interval if fastest is None else min(fastest, self.interval)

    # ---- the turn -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do what is due, until cancelled."""
        self.turned_at = self._clock()
        suspended = self._suspended()
        while True:
            now = self._clock()
            before, suspended = suspended, self._suspended()
            if now - self.turned_at > ASLEEP or suspended - before > 1.0:
                log.info("this host or netscand was suspended for %.0f s", now - self.turned_at + suspended - before)
                self._inventory.on_resume(now)
                self._planner.scan_soon(now)
            self.turned_at = now
            self._wake_at = self._turn(now)
            delay = self._wake_at - self._clock()
            if delay <= 0:
                await asyncio.sleep(0)
                continue
            self._kicked.clear()
            with suppress(TimeoutError):
                # No longer than to the next second, when other rooms have work too: one wake-up serves all.
                async with asyncio.timeout(min(delay, 1.0 - self._clock() % 1.0)):
                    await self._kicked.wait()

    def _turn(self, now: float) -> float:
        """Do one turn; return when the next is due."""
        self._inventory.outage.overflow_at = self._wire.overflow_at
        for event in self._inventory.tick(now):
            self._publish(event)
        most = PROBES_WHEN_BEHIND if self._wire.behind else PROBES_A_TURN
        waiting = {probe.network.id for probe in self._unsent}  # their interface is busy; others need not wait
        probes = self._unsent + self._planner.due(now, max(1, most - len(self._unsent)), waiting)
        stuck = self._send(probes, now) if probes else False
        for news in self._planner.news():
            self._hub.publish_scan(news)
        planned = now + BUSY_FOR if stuck else now if self._unsent else self._planner.next_at
        return min(planned, self._inventory.next_at)

    def _send(self, probes: list[Probe], now: float) -> bool:
        """Send; return whether the interface takes no more for the moment."""
        try:
            behind = self._wire.send(probes)
        except SendFailed as refused:
            self._unsent = [probe for probe in probes if probe.network.id != refused.network]
            self._inventory.drop_probes([probe for probe in probes if probe.network.id == refused.network], now)
            if now - self._refusals_logged.get(refused.network, -inf) >= LOGGED_APART:
                self._refusals_logged[refused.network] = now
                log.warning("cannot send: %s", refused)
            self._refused[refused.network] = refused.message
            self._planner.failed({refused.network: refused.message}, now)
            return False
        left, record_sent = set(map(id, behind)), self._inventory.record_sent
        sent = [probe for probe in probes if id(probe) not in left] if left else probes
        for probe in sent:
            record_sent(probe, now)
            if self._refused:
                self._refused.pop(probe.network.id, None)
        by_broadcast = sum(probe.mac is None for probe in sent)
        self._broadcast += by_broadcast
        self._unicast += len(sent) - by_broadcast
        second, count, before = self._second
        if int(now) != second:
            before = count if int(now) == second + 1 else 0
            count = 0
        self._second = int(now), count + len(sent), before
        self._unsent = behind
        return not sent

    def _look_again(self) -> None:
        """Wake `run` if something is due earlier than it expects."""
        if min(self._planner.next_at, self._inventory.next_at) < self._wake_at:
            self._kicked.set()

    def _publish(self, event: Event) -> None:
        self._planner.on_event(event)
        body = self._encode(event)
        self._hub.publish(self._history.append(event, body), event, body)
        if self._inventory.people:
            for of_person in self._inventory.people.after(event):
                self._publish(of_person)

    # ---- what clients get (serve/ports.py) ----------------------------------------------------------------------

    @property
    def devices(self) -> Mapping[Mac, Device]:
        """Return every device, by MAC."""
        return self._inventory.devices

    @property
    def people(self) -> People:
        """Return the people."""
        return self._inventory.people

    @property
    def merged(self) -> MergedMacs:
        """Return the MACs that users merged into others."""
        return self._inventory.merged

    @property
    def counts(self) -> StatusCounts:
        """Return the numbers of devices by status, without this host."""
        return self._inventory.counts

    @property
    def networks(self) -> Mapping[str, Network]:
        """Return every network, including excluded ones, by id."""
        return self._inventory.networks

    @property
    def cursor(self) -> str:
        """Return the cursor of the last event: `EPOCH-SEQ`."""
        return self._history.cursor

    @property
    def scanning(self) -> bool:
        """Return whether a scan is running."""
        return self._planner.scanning

    @property
    def last_scan(self) -> float | None:
        """Return when the last scan of any network ended."""
        ends = [end for network in self.networks if (end := self._planner.last_scan_of(network)) is not None]
        return max(ends, default=None)

    def last_scan_of(self, network: str) -> float | None:
        """Return when the last scan of a network ended."""
        return self._planner.last_scan_of(network)

    def coverage(self, network: str) -> Coverage:
        """Return how much of a network a scan by timer covers."""
        return self._planner.coverage(network, self._clock())

    def load(self) -> Load:
        """Return counters since the start."""
        pace, wire = self._planner.pace, self._wire
        second, count, before = self._second
        used = before if int(self._clock()) == second else count if int(self._clock()) == second + 1 else 0
        return Load(
            wire.received, wire.dropped, self._broadcast, self._unicast, wire.send_errors, pace.rate,
            pace.background_rate, used, wire.ignored,
        )  # fmt: skip

    def conflicts(self) -> Sequence[Conflict]:
        """Return the conflicts between devices that last."""
        return self._inventory.addresses.conflicts.lasting()

    def problems(self) -> tuple[str, ...]:
        """Return why the daemon is degraded; nothing if it is not."""
        refused = (f"cannot send on {network}: {message}" for network, message in self._refused.items())
        claims = self._inventory.addresses.own_claims.problems(self.networks, self.devices, self._clock())
        unexpected = self._inventory.claims.unexpected.problems(self._clock())
        return (*refused, *network_problems(self.networks.values()), *claims, *unexpected, *self._history.problems(),
                *([self.not_reloaded] if self.not_reloaded else []))  # fmt: skip
