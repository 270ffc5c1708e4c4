"""Scans: order and number of probes, the schedule of each network, the probe queue, and the active scans."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd, inf
from random import Random

from netscand.core.inventory import Inventory
from netscand.core.model import (
    Cause,
    Device,
    Ip,
    Mac,
    Network,
    Probe,
    ScanFailed,
    ScanFinished,
    ScanNews,
    ScanProgress,
    ScanStarted,
    Status,
)
from netscand.core.networks import has_answered
from netscand.core.ratelimit import Allowance, TokenBucket
from netscand.core.targets import ScanRequest

# ---- scan ----------------------------------------------------------------------------------------------------------
# One scan: the addresses to probe, their order, the tries, and the results. Lazy: a /16 needs no table of addresses.

EXTRA_TRIES = 3
"""Extra tries of a requested scan for a device that is online, so that lost frames do not hide it."""

SKIP = 1024
"""Addresses skipped before the walk yields to the loop."""

ANSWERED, SETTLED = 254, 255
"""Values instead of a count of tries: answered; all tries used without an answer."""


Walk = Iterator[Probe | float | None]
"""Steps of a scan: a probe; a time to wait for; None, to yield to the loop."""


class Order:
    """Random order of 0 … n-1 without a table: steps of a size that is coprime to n."""

    def __init__(self, n: int, rng: Random) -> None:
        self.n = n
        self.first = rng.randrange(n) if n else 0
        step = rng.randrange(n // 3, 2 * n // 3) | 1 if n > 3 else 1  # not near n, which would be a backward walk
        while gcd(step, max(n, 1)) != 1:
            step += 2 if n % 2 == 0 else 1
        self.step = step

    def at(self, i: int) -> int:
        """Return the i-th number; after n, the order repeats."""
        return (self.first + i * self.step) % self.n


class Part:
    """Part of a scan on one network."""

    def __init__(
        self,
        network: Network,
        offsets: Sequence[int],
        order: Order,
        window: range,
        *,
        tries: int,
        thorough: bool,
        fast: bool,
    ) -> None:
        self.network = network
        self.offsets = offsets
        """Offsets within the network; `window` selects the indexes into `order` to probe."""
        self.fast = fast
        """Broadcasts use the full rate; else the background rate."""
        self.whole = len(window) == len(network.offsets)
        self.done = 0
        self.total = len(window)
        self.found: dict[Mac, int] = {}
        """Devices that answered → number of addresses where they did; shared by the parts of a scan."""
        self.settled = 0
        """Number of addresses that will not be probed again."""
        self.wait = 0.5
        """Seconds to wait for answers; the planner adapts it to the round trips."""
        self.now = 0.0
        self.walk: Walk | None = None
        """Iterator over the steps; None: finished."""
        self.pending: Probe | float | None = None
        self._order = order
        self._window = window
        self._tries = tries
        self._thorough = thorough
        self._base = int(network.cidr.network_address)
        self._state = bytearray(len(offsets))
        self._known: list[Device | None] = [None] * len(offsets)
        """Index → online device that was probed there first, even if another one claims the address meanwhile."""
        self._found_at: list[Mac | None] = [None] * len(offsets)
        """Index → the one MAC that counts as found there. Dictionaries would take ten times as much for a whole /16."""
        self._answered = 0
        self._last_sent = 0.0

    @property
    def open(self) -> int:
        """Return the number of addresses without an answer."""
        return self.total - self._answered

    def index(self, offset: int) -> int | None:
        """Return the index of an address in this part."""
        return self.offsets.index(offset) if offset in self.offsets else None

    def covers(self, runs: Iterable[range]) -> bool:
        """Return whether this part will still probe all these addresses."""
        for run in runs:
            first = self.index(run.start)
            if first is None or self.index(run[-1]) != first + len(run) - 1:
                return False
            if any(self._state.find(passed, first, first + len(run)) >= 0 for passed in (ANSWERED, SETTLED)):
                return False
        return True

    def record_reply(self, ip: Ip, mac: Mac, inventory: Inventory) -> bool:
        """Note an answer to a probe of ours; return whether it finds a new device.

        If a known device is online at the address, an answer of another MAC does not end the tries: it is easily faked.
        One MAC counts as found at an address: the known device's, else the first that is a device.
        """
        index = self.index(int.from_bytes(ip) - self._base)
        if index is None:
            return False
        known = self._known[index]
        is_known = known is not None and known.mac == mac
        if known is None or is_known or known.status is not Status.ONLINE:
            self._answer(index)
        before = self._found_at[index]
        if before is not None and before in inventory.devices and not is_known:
            return False
        return self._find(index, mac)

    def _answer(self, index: int) -> None:
        before = self._state[index]
        if before != ANSWERED:
            self._state[index] = ANSWERED
            self._answered += 1
            if before != SETTLED:
                self.settled += 1
                self.done += 1

    def _find(self, index: int, mac: Mac) -> bool:
        """Count a device as found at an address; return whether this scan had not found it before."""
        before = self._found_at[index]
        if before == mac:
            return False
        if before is not None:
            self.found[before] -= 1
            if not self.found[before]:
                del self.found[before]
        self._found_at[index] = mac
        count = self.found.get(mac, 0)
        self.found[mac] = count + 1
        return not count

    def _settle(self, index: int) -> None:
        if self._state[index] < ANSWERED:
            self._state[index] = SETTLED
            self.settled += 1
            self.done += 1

    def probes(self, inventory: Inventory) -> Walk:
        """Walk the addresses: online devices first, then the others, then repeated tries of silent ones."""
        started = self.now
        yield from self._walk(inventory, 0, known=True)
        yield from self._walk(inventory, 0, known=False)
        for attempt in range(1, self._tries + (EXTRA_TRIES if self._thorough else 0)):
            if self.settled == self.total:
                break
            yield started + self.wait
            started = self.now
            yield from self._walk(inventory, attempt, known=None)
        if self.open and self._last_sent:
            yield self._last_sent + self.wait
        self.done = self.total

    def _walk(self, inventory: Inventory, attempt: int, *, known: bool | None) -> Walk:
        """Probe each address once. `known`: only those of online devices (True), or only the others (False)."""
        network_id, base, state, offsets = self.network.id, self._base, self._state, self.offsets
        first, step, n = self._order.first, self._order.step, self._order.n
        skipped = 0
        for i in self._window:
            index = (first + i * step) % n  # `Order.at`: a call for each address and each walk
            tried = state[index]
            skipped += 1
            if skipped % SKIP == 0:
                yield None
            if tried > attempt:  # SETTLED too
                continue
            ip = Ip((base + offsets[index]).to_bytes(4))
            device = self._known[index] or inventory.addresses.holder(network_id, ip)
            online = device is not None and device.status is Status.ONLINE
            if known is not None and online is not known:
                continue
            if device is not None and device.is_self:
                self._answer(index)  # found only where it was a target
                if not self.whole:
                    self._find(index, device.mac)
                continue
            if (
                device is not None
                and online
                and not self._thorough
                and has_answered(device, network_id, ip)
                and (network_id, ip) not in inventory.contested
            ):
                self._answer(index)  # presence probes it already
                self._find(index, device.mac)
                continue
            limit = self._tries + (EXTRA_TRIES if self._thorough and online else 0)
            if attempt >= limit:
                self._settle(index)
                continue
            state[index] = attempt + 1
            self._last_sent = self.now
            # Every second try is a broadcast: the address may have another holder by now.
            if inventory.contested:
                inventory.contested.record_sent(network_id, ip)
            if online and device is not None:
                self._known[index] = device
            by_unicast = device is not None and online and self._thorough and attempt % 2 == 0
            known_mac = device.mac_of(network_id, ip) if device is not None and by_unicast else None
            yield Probe(self.network, ip, known_mac)
            if attempt + 1 == limit:
                self._settle(index)
            skipped = 0


@dataclass(slots=True)
class Scan:
    """One pass over one or more networks."""

    id: int
    cause: Cause
    parts: list[Part]
    started_at: float
    broadcast: int = 0
    unicast: int = 0
    large: bool = False
    """It was requested, and takes more than a few seconds: small ones run beside it."""
    clients: set[object] = field(default_factory=set)
    """Clients that requested it; a large scan ends with the last one. None: a request that no connection waits for."""
    next_progress_at: float = 0.0
    """Earliest time of the next progress message."""
    published_progress: tuple[int, int] = (0, 0)
    networks: tuple[str, ...] = field(init=False)
    found: dict[Mac, int] = field(default_factory=dict)
    """Devices that answered, in the order of their answers: at most one MAC for each address."""

    def __post_init__(self) -> None:
        self.networks = tuple(part.network.id for part in self.parts)
        for part in self.parts:
            part.found = self.found

    def serves(self, request: ScanRequest) -> bool:
        """Return whether this scan will still probe all requested addresses."""
        parts = {part.network.id: part for part in self.parts}
        for network, runs in request.items():
            part = parts.get(network)
            if part is None:
                return False
            if not part.covers(runs.ranges) if runs is not None else not part.whole or part.settled:
                return False
        return True

    @property
    def progress(self) -> tuple[int, int]:
        """Return (done, found)."""
        return sum(part.done for part in self.parts), len(self.found)


# ---- schedule ------------------------------------------------------------------------------------------------------
# The schedule of one network that is up, its position in the order, its round trips.

LEAST_WAIT, MOST_WAIT = 0.05, 1.0
"""Minimum and maximum seconds that a scan waits for the last answers; round trips decide."""


ANSWER_WITHIN = 2.0
"""Seconds after a probe in which a reply counts as its answer."""

MOST_ANSWERS = 256
"""Maximum devices that may answer one probe."""


@dataclass(slots=True)
class Outstanding:
    """A probe that may still be answered."""

    at: float
    mac: Mac | None
    """The device probed; None: a broadcast, which several may answer, so that a fast forger cannot suppress others."""
    first: Mac | None = None
    """The device that answered first."""
    others: set[Mac] | None = None
    """Devices that answered after it, at most MOST_ANSWERS - 1; None: none, as nearly always."""

    def answer(self, mac: Mac, at: float) -> float | None:
        """Note the answer of a device; return its round trip in seconds, None if it is late or not its first."""
        rtt = max(0.0, at - self.at)
        if self.first is None and rtt <= ANSWER_WITHIN:
            self.first = mac
            return rtt
        others = self.others or ()
        if rtt > ANSWER_WITHIN or mac == self.first or mac in others or len(others) >= MOST_ANSWERS - 1:
            return None
        if self.others is None:
            self.others = {mac}
        else:
            self.others.add(mac)
        return rtt


class NetworkSchedule:
    """Schedule of one network that is up."""

    def __init__(self, network: Network, now: float, rng: Random) -> None:
        self.network = network
        self.offsets = network.offsets if network.swept else ()
        """Addresses that scheduled scans cover; of a network that is not swept, see Addresses.seen_at."""
        self.order = Order(len(self.offsets), rng)
        self.walked = 0
        """Position in the order where the next scheduled scan continues."""
        self.due = now
        self.cause = Cause.INTERFACE
        self.echo_at = now
        """When to send the next echo request to all nodes."""
        self.stands_by = False
        """Another network on the same LAN is scanned instead."""
        self.own_at = now
        self.own_left: list[Ip] = []
        """When to probe this host's own addresses next; those that are still to be probed."""
        self.last_scan: float | None = None
        self.last_fast = -inf
        self.changed_at = now
        """When a device last came or went."""
        self.outstanding: OrderedDict[Ip, Outstanding] = OrderedDict()
        """Probes that may still be answered, oldest first. A dict takes longer for its first item with each deletion:
        1.3 s for those of a /16 in place of 11 ms."""
        self.rate: TokenBucket | None = None
        self.background: TokenBucket | None = None
        self.requested: Allowance | None = None
        """Budget of the broadcasts at the full rate that clients may request."""
        self._srtt: float | None = None
        self._rttvar = 0.0

    def sample(self, rtt: float) -> None:
        """Add a round trip, smoothed as in TCP (RFC 6298, section 2)."""
        if self._srtt is None:
            self._srtt, self._rttvar = rtt, rtt / 2
        else:
            self._rttvar += (abs(self._srtt - rtt) - self._rttvar) / 4
            self._srtt += (rtt - self._srtt) / 8

    @property
    def wait(self) -> float:
        """Return the seconds in which nearly every answer arrives."""
        if self._srtt is None:
            return MOST_WAIT / 2
        return min(max(self._srtt + 4 * self._rttvar, LEAST_WAIT), MOST_WAIT)


# ---- probe queue ---------------------------------------------------------------------------------------------------
# Probes of presence: one of each lane in turn, so that a long lane does not delay another.

WATCH_RATE = 1000.0
"""Maximum frames/s of presence, also if `rate` is 0 (unlimited)."""

SKIPS = 1024
"""Maximum probes skipped in one go because they are no longer due (a few ms); after a suspend, that is all of them."""

Reserve = Callable[[Probe, float, bool], float | None]
"""(probe, now, fast) → None if it is taken from the limits and may be sent; else when to try again."""


class ProbeQueue:
    """Sender of the inventory's queued probes. `next_at` is when to call `advance` again."""

    def __init__(self, inventory: Inventory, schedules: Mapping[str, object], reserve: Reserve) -> None:
        self.next_at = inf
        self._inventory = inventory
        self._schedules = schedules
        self._reserve = reserve
        self._bucket = TokenBucket(WATCH_RATE, 0.0)

    def set_rate(self, rate: float, now: float) -> None:
        """Set the limit of the configuration; 0: unlimited."""
        self._bucket = self._bucket.at(min(rate or WATCH_RATE, WATCH_RATE), now)

    def advance(self, probes: list[Probe], now: float, limit: int) -> None:
        """Add the probes to send now to `probes`, up to `limit` in all: one of each lane in turn."""
        self.next_at = inf
        queues = self._inventory.probe_queue
        lanes = deque(queues)
        skips = SKIPS
        while lanes and len(probes) < limit:
            lane = lanes.popleft()
            if lane.network not in self._schedules:
                del queues[lane]
                continue
            queue = queues[lane]
            while queue and skips and not self._inventory.is_due(queue[0], now):
                queue.popleft()
                skips -= 1
            if not queue:
                del queues[lane]
                continue
            if not skips:
                self.next_at = now
                return
            if self._bucket.room(now) < 1:
                self.next_at = min(self.next_at, self._bucket.when(now))
                return
            room_at = self._reserve(queue[0], now, False)
            if room_at is None:
                self._bucket.take()
                probes.append(queue.popleft())
                queues[lane] = queues.pop(lane)  # last now, so that the others are first next time
                lanes.append(lane)
            else:
                self.next_at = min(self.next_at, room_at)


# ---- active scans --------------------------------------------------------------------------------------------------
# The scans that run: their probes, their progress messages, their end.

PROGRESS_APART, TIMER_PROGRESS_APART = 0.1, 1.0
"""Minimum seconds between two `scan_progress` messages: of a requested scan, and of a scheduled one."""


AT_ONCE, SOON = 100, 0.002
"""Scans that one turn of the loop advances: some milliseconds; and seconds until the next ones take their turn."""


class ActiveScans:
    """The running scans. `next_at` is when to call `advance` again."""

    def __init__(self, inventory: Inventory, schedules: Mapping[str, NetworkSchedule], reserve: Reserve) -> None:
        self.scans: list[Scan] = []
        self.next_at = inf
        self._next = 0
        """Where the next turn begins, if there are too many for one."""
        self._inventory = inventory
        self._schedules = schedules
        self._reserve = reserve
        self._news: list[ScanNews] = []

    def news(self) -> list[ScanNews]:
        """Return the messages since the last call."""
        news, self._news = self._news, []
        return news

    def record_reply(self, network: str, ip: Ip, mac: Mac, at: float) -> float:
        """Note an answer to a probe of ours; return when it may be published as progress."""
        soonest = inf
        for scan in self.scans:
            for part in scan.parts:
                if part.network.id == network and part.record_reply(ip, mac, self._inventory):
                    soonest = min(soonest, max(at, scan.next_progress_at))
        return soonest

    def advance(self, probes: list[Probe], now: float, limit: int) -> None:
        """Add the probes to send now to `probes`, up to `limit` in all."""
        self.next_at = inf
        scans = sorted(self.scans, key=lambda scan: scan.large)  # a small scan does not wait for a large one
        if len(scans) > AT_ONCE:  # an interface has hundreds of networks
            first = self._next = (self._next + AT_ONCE) % len(scans)
            scans = [*scans[first:], *scans[:first]][:AT_ONCE]
            self.next_at = now + SOON
        for scan in scans:
            self._advance(scan, probes, now, limit)
            self._publish(scan, now)

    def fail(self, why: Mapping[str, str], now: float) -> None:
        """End the scans of networks that cannot be probed. `why`: network → sentence."""
        for scan in tuple(self.scans):
            if failed := [part.network.id for part in scan.parts if part.network.id in why]:
                self._news += [ScanFailed(scan.id, network, why[network]) for network in failed]
                scan.parts = [part for part in scan.parts if part.network.id not in why]
                self._publish(scan, now)

    def begin(self, scan: Scan, vanished: Sequence[str] = ()) -> None:
        """Start a scan; report `vanished` networks, which went down while it waited, as failed."""
        self.scans.append(scan)
        self._news.append(ScanStarted(scan.id, scan.networks, scan.cause))
        self._news += [ScanFailed(scan.id, network, "the network went down") for network in vanished]
        for part in scan.parts:
            part.now = scan.started_at
            part.walk = part.probes(self._inventory)

    def _advance(self, scan: Scan, probes: list[Probe], now: float, limit: int) -> None:
        if scan.parts:
            scan.parts.append(scan.parts.pop(0))  # networks take turns to be first
        for part in tuple(scan.parts):
            part.now = now
            part.wait = self._schedules[part.network.id].wait
            if part.walk is not None and self._walk(scan, part, part.walk, probes, now, limit):
                part.walk = None
                part.done = part.total

    def _walk(self, scan: Scan, part: Part, walk: Walk, probes: list[Probe], now: float, limit: int) -> bool:
        """Add the probes that a part may send now; return whether it is finished."""
        while len(probes) < limit:
            if part.pending is None:
                try:
                    part.pending = next(walk)
                except StopIteration:
                    return True
                if part.pending is None:  # it skipped many
                    self.next_at = now
                    return False
            if isinstance(part.pending, float):
                if part.pending > now and part.open:
                    self.next_at = min(self.next_at, part.pending)
                    return False
                part.pending = None
                continue
            room_at = self._reserve(part.pending, now, part.fast)
            if room_at is not None:
                self.next_at = min(self.next_at, room_at)
                return False
            probes.append(part.pending)
            if part.pending.mac is None:
                scan.broadcast += 1
            else:
                scan.unicast += 1
            part.pending = None
        return False

    def _publish(self, scan: Scan, now: float) -> None:
        """Publish the progress, at once with the first device found, then at most every 100 ms; and the end."""
        if not any(part.walk for part in scan.parts):
            self.finish(scan, now)
            return
        progress = scan.progress
        apart = TIMER_PROGRESS_APART if scan.cause is Cause.TIMER else PROGRESS_APART
        if progress == scan.published_progress or not (progress[1] or now - scan.started_at >= apart):
            return
        if now >= scan.next_progress_at:
            scan.next_progress_at, scan.published_progress = now + apart, progress
            self._news.append(self._progress(scan))
        else:
            self.next_at = min(self.next_at, scan.next_progress_at)

    @staticmethod
    def _progress(scan: Scan) -> ScanProgress:
        done, found = scan.progress
        return ScanProgress(scan.id, done, sum(part.total for part in scan.parts), found, scan.networks)

    def finish(self, scan: Scan, now: float) -> None:
        """End a scan with its results so far."""
        self.scans.remove(scan)
        self.next_at = now  # a request may be waiting for it
        for part in scan.parts:
            schedule = self._schedules.get(part.network.id)
            if schedule is not None:
                schedule.last_scan = now
        for mac in [mac for mac in scan.found if mac not in self._inventory.devices]:
            del scan.found[mac]  # not admitted as a device
        found: tuple[Mac, ...] = tuple(scan.found)
        if scan.progress != scan.published_progress:
            self._news.append(self._progress(scan))
        self._news.append(
            ScanFinished(scan.id, scan.networks, scan.started_at, now, scan.broadcast, scan.unicast, found)
        )
