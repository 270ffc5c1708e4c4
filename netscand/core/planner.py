"""The planner: scheduled and requested scans, and probes of presence, under one rate limit."""

from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass
from math import ceil, inf
from operator import itemgetter
from random import Random

from netscand.core.inventory import Inventory
from netscand.core.mac_ranges import is_virtual
from netscand.core.model import (
    ALL_NODES,
    Busy,
    Cause,
    Coverage,
    Event,
    EventKind,
    Evidence,
    Network,
    Observation,
    Probe,
    ScanNews,
)
from netscand.core.networks import SCANNED, own_v4, without
from netscand.core.ranges import Runs, spans
from netscand.core.ratelimit import (
    ACCOUNT_BROADCASTS,
    ACCOUNTS,
    NETWORK_BROADCASTS,
    WHOLE_SCANS,
    Allowance,
    Budgets,
    TokenBucket,
    own_bucket,
)
from netscand.core.scan import ANSWER_WITHIN, ActiveScans, NetworkSchedule, Order, Outstanding, Part, ProbeQueue, Scan
from netscand.core.shared_addresses import PROBED_EVERY
from netscand.core.targets import MOST_REQUESTED, MOST_RUNS, ScanRequest, merge, resolve


class RequestedScan:
    """The next requested scan of one size: its id, and the union of all requests for it."""

    def __init__(self, schedules: Mapping[str, NetworkSchedule], budgets: Budgets) -> None:
        self.scan_id: int | None = None
        """None: no request waits."""
        self.request: ScanRequest = {}
        self.clients: set[object] = set()
        self._schedules = schedules
        self._budgets = budgets

    def start(self) -> tuple[int, set[object]]:
        """Return id and clients of the waiting scan, and clear it."""
        assert self.scan_id is not None
        taken = self.scan_id, self.clients
        self.scan_id, self.request, self.clients = None, {}, set()
        return taken

    def add(
        self, request: ScanRequest, scan_id: int, account: Hashable, client: object, rate: float, tries: int, now: float
    ) -> int:
        """Add a request; return the id of the waiting scan: `scan_id`, if there was none.

        `account` pays for the broadcasts that it adds, at `rate` a second and `tries` for each address; None: free of
        charge. Raises Busy.
        """
        merged = merge(self.request, request)
        if account is not None and rate:
            frames = (self.count(merged) - self.count(self.request)) * tries
            everything = sum(map(_most_requested, self._schedules.values())) * tries
            budget = ACCOUNT_BROADCASTS._replace(at_once=WHOLE_SCANS * everything, per_second=rate)
            if not self._budgets.take(budget, account, now, frames):
                wait = ceil(frames / rate)
                raise Busy(f"this account has requested the scan of too many addresses; try again in {wait} s")
        self.request = merged
        self.clients.add(client)
        if self.scan_id is None:
            self.scan_id = scan_id
        return self.scan_id

    def count(self, request: ScanRequest) -> int:
        """Return the number of addresses in a request."""
        return sum(self._size(network, runs) for network, runs in request.items())

    def _size(self, network: str, runs: Runs | None) -> int:
        if runs is not None:
            return len(runs)
        schedule = self._schedules.get(network)
        return len(schedule.offsets) if schedule is not None else 0


def _addresses_differ(one: Network, other: Network) -> bool:
    """Return whether two states of a network differ in the addresses that scheduled scans cover."""
    return (one.excluded, one.swept) != (other.excluded, other.swept)


def _most_requested(schedule: NetworkSchedule) -> int:
    """Return the maximum number of addresses of a network in one requested scan."""
    return min(len(schedule.network.offsets), MOST_REQUESTED)


# ---- planner -------------------------------------------------------------------------------------------------------
# The next probes to send: scheduled scans, requested scans and probes of presence, under one rate limit.
#
# Pure: it gets the time as an argument. `due` returns the probes to send now; `next_at` is when to call it again.

FULL_RATE_APART = 5.0
"""Minimum seconds between two scans of a whole network at the full rate."""

FLAPS_REMEMBERED = 256
"""Maximum networks that went down whose last scan is remembered."""

FIRST_SCAN_FAST = 1024
"""Maximum addresses of a network whose first scan uses the full rate, and of a requested scan that is not large."""

SCAN_SHARE = 0.8
"""Part of an interval's background frames that a scheduled scan may use."""

QUIET_AFTER, QUIET_COVERAGE = 600.0, 300.0
"""Seconds without a change after which a network counts as quiet, and seconds for a full scan of a quiet network."""

QUIET_SHARE = 0.1
"""Part of the frames of scheduled scans that a quiet network may use: for a /16, a tenth of those when it is busy."""

CHANGES = frozenset([
    EventKind.DISCOVERED, EventKind.ONLINE, EventKind.OFFLINE, EventKind.ADDRESS_ADDED, EventKind.ADDRESS_MOVED,
])  # fmt: skip
"""Events that a quiet network does not have."""

ECHOES_APART = (600.0, 1800.0)
"""Seconds between two echo requests to all nodes of an interface, which find quiet IPv6 devices."""

NEWCOMERS_RETRY = 0.1
"""Seconds until a scan for newcomers that share an address (core/disputes.py) is tried again while another one runs."""

SLICE = 0.005
"""Seconds of frames sent in one go."""

BUSY_FOR = 0.002
"""Seconds to wait for an interface whose queue was full."""


WINDOWS_FOR = 1.0
"""Seconds for which computed windows are used, unless something changes."""

ROUNDING = 1e-6
"""Tolerance for floating-point products, in addresses."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`[scan]`: frames per second (0: unlimited), and tries of a silent address."""

    rate: float = 1000.0
    background_rate: float = 50.0
    tries: int = 3


class Planner:
    """Planner of scans, scan requests and probes, under the limits of [scan]."""

    def __init__(self, inventory: Inventory, pace: Pace, now: float, rng: Random) -> None:
        self.next_at = now
        self.lease: float | None = None
        """Fastest interval that a client leases, in seconds."""
        self._inventory = inventory
        self._rng = rng
        self._schedules: dict[str, NetworkSchedule] = {}
        self._running = ActiveScans(inventory, self._schedules, self._reserve)
        self._probes = ProbeQueue(inventory, self._schedules, self._reserve)
        self._requested = {large: RequestedScan(self._schedules, inventory.budgets) for large in (False, True)}
        """Large or not → the next requested scan."""
        self._windows: tuple[float, dict[str, int]] = -inf, {}
        """When the windows of all networks were computed, and the windows."""
        self._scans_first = False
        self._last_fast: dict[str, float] = {}
        """Networks that went down → their last scan at the full rate; they may be up again within 5 s."""
        self._last_id = 0
        self._first = True
        self._busy: Set[str] = frozenset()
        self._rate, self._background = TokenBucket(pace.rate, now), TokenBucket(pace.background_rate, now)
        self.set_pace(pace, now)

    def set_pace(self, pace: Pace, now: float) -> None:
        """Set the limits of the configuration."""
        self.pace = pace
        self._windows = -inf, {}
        self._rate = self._rate.at(pace.rate, now)
        self._background = self._background.at(pace.background_rate, now)
        self._probes.set_rate(pace.rate, now)
        for schedule in self._schedules.values():
            self._set_buckets(schedule, now)

    # ---- schedules ----------------------------------------------------------------------------------------------

    @property
    def scanning(self) -> bool:
        """Return whether a scan is running."""
        return bool(self._running.scans)

    def last_scan_of(self, network: str) -> float | None:
        """Return when the last scan of a network ended."""
        schedule = self._schedules.get(network)
        return schedule.last_scan if schedule else None

    def coverage(self, network: str, now: float) -> Coverage:
        """Return the part of a network that one scheduled scan covers, and how long the whole takes."""
        schedule = self._schedules.get(network)
        if schedule is None or not schedule.offsets or self._inventory.shared_lans.main_of(network):
            return Coverage(0.0, 0.0)
        fraction = min(1.0, self._window(schedule, now) / len(schedule.offsets))
        return Coverage(fraction, self._interval(schedule) / fraction)

    def set_networks(self, now: float) -> None:
        """Follow the inventory's networks; one that is new or up again is scanned at once."""
        before = dict(self._schedules)
        self._windows = -inf, {}
        self._schedules.clear()  # not replaced: ActiveScans and ProbeQueue share this table
        for network in self._inventory.networks.values():
            if network.state not in SCANNED:
                continue
            schedule = before.get(network.id)
            if schedule is not None and schedule.network is network and not schedule.stands_by:
                self._schedules[network.id] = schedule
                continue
            if schedule is None or _addresses_differ(schedule.network, network):
                old, schedule = schedule, NetworkSchedule(network, now, self._rng)
                schedule.last_fast = self._last_fast.get(network.id, -inf)
                if old is not None:  # the same network with other excluded addresses
                    schedule.last_fast, schedule.last_scan = old.last_fast, old.last_scan
                    schedule.changed_at = old.changed_at
                schedule.cause = Cause.START if self._first else Cause.INTERFACE
            elif (schedule.network.index, schedule.network.own) != (network.index, network.own) or (
                schedule.stands_by and network.same_lan_as is None
            ):
                schedule.due, schedule.cause = now, Cause.INTERFACE
            if any(len(ip) == 4 for ip in without(network.ours, schedule.network.ours)):
                schedule.own_at = now
            schedule.network = network
            schedule.due = min(schedule.due, now + self._interval(schedule))  # the interval may be shorter now
            self._set_buckets(schedule, now)
            self._schedules[network.id] = schedule
        why: dict[str, str] = {}
        for network_id, gone in before.items():
            if gone is self._schedules.get(network_id):
                continue
            self._last_fast[network_id] = gone.last_fast
            while len(self._last_fast) > FLAPS_REMEMBERED:
                del self._last_fast[next(iter(self._last_fast))]
            still = network_id in self._schedules
            why[network_id] = "other addresses are excluded now" if still else "the network went down"
        if why:
            self.failed(why, now)
        self._first = False
        self.next_at = now

    def scan_soon(self, now: float) -> None:
        """Scan every network at once, after a suspend."""
        for schedule in self._schedules.values():
            schedule.due, schedule.cause = now, Cause.INTERFACE
        self.next_at = now

    def _set_buckets(self, schedule: NetworkSchedule, now: float) -> None:
        network = schedule.network
        schedule.rate = own_bucket(schedule.rate, network.rate, now)
        schedule.background = own_bucket(schedule.background, network.background_rate, now)
        rate = ACCOUNTS * (schedule.background or self._background).rate
        depth = ACCOUNTS * WHOLE_SCANS * _most_requested(schedule) * self.pace.tries
        schedule.requested = Allowance(depth, rate, now, schedule.requested) if rate else None

    def set_lease(self, seconds: float | None, now: float) -> None:
        """Set the fastest interval that a client leases; None: that of the configuration."""
        self.lease = seconds
        self._windows = -inf, {}
        for schedule in self._schedules.values():
            schedule.due = min(schedule.due, now + self._interval(schedule))
        self.next_at = now

    def _interval(self, schedule: NetworkSchedule) -> float:
        return schedule.network.interval if self.lease is None else min(self.lease, schedule.network.interval)

    def on_event(self, event: Event) -> None:
        """Note an event: a network whose devices change is scanned more often."""
        schedule = self._schedules.get(event.network or "")
        if schedule is not None and event.kind in CHANGES and not self._is_expected(event, schedule):
            if event.at - schedule.changed_at > QUIET_AFTER:
                self._windows = -inf, {}
            schedule.changed_at = event.at

    @staticmethod
    def _is_expected(event: Event, schedule: NetworkSchedule) -> bool:
        """Return whether an event shows no change of the network.

        Hosts make new IPv6 addresses at any time. The first scan of a large network takes long: a device that it finds
        was there before.
        """
        if event.kind is EventKind.ADDRESS_ADDED:
            return event.address is not None and len(event.address) == 16
        found = event.kind is EventKind.DISCOVERED and event.evidence is Evidence.ARP_REPLY
        return found and len(schedule.offsets) > FIRST_SCAN_FAST

    def _window(self, schedule: NetworkSchedule, now: float) -> int:
        """Return the number of addresses of a scheduled scan: what the limits allow, and fewer of a quiet network."""
        at, windows = self._windows
        if not at <= now < at + WINDOWS_FOR:
            self._windows = now, windows = now, self._shared_windows(now)
        return windows.get(schedule.network.id, 1)

    def _shared_windows(self, now: float) -> dict[str, int]:
        """Return the windows of all networks that are scanned.

        Those without a limit of their own share one: each gets what it needs or, if that is too much, an equal part.
        """
        windows = {}
        room = self._background.rate * SCAN_SHARE or inf
        main_of = self._inventory.shared_lans.main_of
        scanned = [each for each in self._schedules.values() if main_of(each.network.id) is None]
        wanted = sorted(((self._wanted(each, now), each) for each in scanned), key=itemgetter(0))
        left = sum(each.background is None for _, each in wanted)
        for rate, schedule in wanted:
            if schedule.background is None:
                rate = min(rate, room / left)
                room, left = room - rate, left - 1
            addresses = rate * self._interval(schedule)
            windows[schedule.network.id] = max(1, int(addresses + ROUNDING))
        return windows

    def _wanted(self, schedule: NetworkSchedule, now: float) -> float:
        """Return the addresses a second that scheduled scans of a network need, within its own limit."""
        network, interval = schedule.network, self._interval(schedule)
        count = len(schedule.offsets) if network.swept else self._inventory.addresses.count(network.id)
        room = (schedule.background or self._background).rate * SCAN_SHARE or inf
        rate = min(count / interval, room)
        if now - schedule.changed_at > QUIET_AFTER and not self._inventory.contested:
            rate = min(ceil(count * interval / QUIET_COVERAGE) / interval, rate if room == inf else QUIET_SHARE * room)
        return rate

    # ---- requests -----------------------------------------------------------------------------------------------

    def request_scan(self, targets: Sequence[str], now: float, account: Hashable = None, client: object = None) -> int:
        """Accept a `scan_now`; return the id of the scan that serves it. Raises BadTarget, Busy.

        It joins a running scan if that still covers all its targets, else the next one, which serves all waiting
        requests. `account` pays for the broadcasts that it adds; None: free of charge. `client`: see `leave_scans`.
        """
        scanned = [
            schedule.network
            for name, schedule in self._schedules.items()
            if name in targets or self._inventory.shared_lans.main_of(name) is None
        ]
        request = resolve(targets, scanned)
        for network, runs in request.items():
            count = len(runs if runs is not None else self._schedules[network].offsets)
            if (runs is None and not count) or count > MOST_REQUESTED:
                seen = self._inventory.addresses.seen_at(self._schedules[network].network, 0, MOST_RUNS)
                request[network] = seen if runs is None else seen.clipped(runs.ranges)
        large = self._requested[True].count(request) > FIRST_SCAN_FAST
        for scan in self._running.scans:
            if scan.cause is Cause.CLIENT and scan.large == large and scan.serves(request):
                scan.clients.add(client)
                return scan.id
        waiting = self._requested[large]
        rate, tries = self.pace.background_rate, self.pace.tries
        scan_id = waiting.add(request, self._last_id + 1, account, client, rate, tries, now)
        self._last_id = max(self._last_id, scan_id)
        self.next_at = now
        return scan_id

    def leave_scans(self, client: object, now: float) -> None:
        """End the large scans, running or waiting, that only this client requested."""
        for scan in tuple(self._running.scans):
            if scan.large and client in scan.clients:
                scan.clients.remove(client)
                if not scan.clients:
                    self._running.finish(scan, now)
        waiting = self._requested[True]
        if client in waiting.clients:
            waiting.clients.remove(client)
            if not waiting.clients:
                waiting.start()
        self.next_at = now

    # ---- replies ------------------------------------------------------------------------------------------------

    def record_reply(self, seen: Observation, network: Network) -> float | None:
        """Note an observation; return the round trip in seconds, if it answers a probe of ours."""
        schedule = self._schedules.get(network.id)
        if schedule is None or seen.ip is None:
            return None
        if seen.evidence is Evidence.PROXIED and not (seen.solicited and is_virtual(seen.mac)):
            return None
        rtt = None
        answers = seen.evidence is Evidence.ARP_REPLY or seen.solicited
        probe = schedule.outstanding.get(seen.ip) if answers else None
        if probe is not None and probe.mac in (None, seen.mac):  # a probe of another device confirms nothing
            rtt = probe.answer(seen.mac, seen.at)
            if rtt is not None and probe.others is None:
                schedule.sample(rtt)
            if rtt is not None and len(seen.ip) == 4:  # an unsolicited frame ends no scan: it is easily faked
                device = self._inventory.merged.primary(seen.mac)
                self.next_at = min(self.next_at, self._running.record_reply(network.id, seen.ip, device, seen.at))
        return rtt

    # ---- probes -------------------------------------------------------------------------------------------------

    def due(self, now: float, limit: int, busy: Set[str] = frozenset()) -> list[Probe]:
        """Return the probes to send now, at most `limit`, none on `busy` networks; sets `next_at`."""
        self.next_at = inf
        self._busy = busy
        self._forget_unanswered(now)
        self._start(now)
        probes: list[Probe] = []
        # Scans and presence take turns to be first, so that neither a large scan nor a large LAN starves the other.
        self._scans_first = not self._scans_first
        if self._scans_first:
            self._running.advance(probes, now, limit)
            self._probes.advance(probes, now, limit)
        else:
            self._probes.advance(probes, now, limit // 2 if self.scanning else limit)
            self._running.advance(probes, now, limit)
        self.next_at = min(self.next_at, self._running.next_at, self._probes.next_at)
        self._echo(probes, now, limit)
        self._probe_own(probes, now, limit)
        if len(probes) >= limit:
            self.next_at = now
        return probes

    def news(self) -> list[ScanNews]:
        """Return the messages about scans since the last call."""
        return self._running.news()

    def failed(self, why: Mapping[str, str], now: float) -> None:
        """End the scans and probes of networks that cannot be probed; the next scan still runs. `why`: as in `fail`."""
        self._inventory.drop_all_probes(why, now)
        self._running.fail(why, now)
        self.next_at = now

    def _forget_unanswered(self, now: float) -> None:
        for schedule in self._schedules.values():
            outstanding = schedule.outstanding
            while outstanding:
                ip = next(iter(outstanding))
                if outstanding[ip].at > now - ANSWER_WITHIN:
                    break
                del outstanding[ip]

    def _echo(self, probes: list[Probe], now: float, limit: int) -> None:
        """Request an echo of all nodes of each interface with IPv6, from time to time."""
        done = set()
        for schedule in self._schedules.values():
            network = schedule.network
            if network.own6 is None or network.index in done or schedule.stands_by:
                continue
            done.add(network.index)
            if schedule.echo_at <= now and len(probes) < limit:
                probe = Probe(network, ALL_NODES, None)
                room_at = self._reserve(probe, now, False)
                if room_at is None:
                    probes.append(probe)
                    schedule.echo_at = now + self._rng.uniform(*ECHOES_APART)
                else:
                    self.next_at = min(self.next_at, room_at)
                    continue
            self.next_at = min(self.next_at, schedule.echo_at)

    def _probe_own(self, probes: list[Probe], now: float, limit: int) -> None:
        """Probe this host's own addresses once an hour, all of them at once if one is new.

        Another host may have one, and be silent (RFC 5227).
        """
        for schedule in self._schedules.values():
            network = schedule.network
            if schedule.own_at <= now:
                schedule.own_at = now + PROBED_EVERY
                schedule.own_left = [ip for ip in own_v4(network) if not network.excludes(ip)]
            while schedule.own_left and len(probes) < limit:
                probe = Probe(network, schedule.own_left[0], None)
                room_at = self._reserve(probe, now, False)
                if room_at is not None:
                    self.next_at = min(self.next_at, room_at)
                    break
                probes.append(probe)
                del schedule.own_left[0]
            self.next_at = min(self.next_at, schedule.own_at)

    def spend(self, network: str, now: float, *, to_all: bool = True) -> bool:
        """Take a frame of another component from the limits, `to_all` or to one station; return whether it may go."""
        schedule = self._schedules.get(network)
        buckets = [(schedule and schedule.rate) or self._rate]
        if to_all:
            if schedule is None:
                return False
            buckets.append(schedule.background or self._background)
        if any(bucket.room(now) < 1 for bucket in buckets):
            return False
        for bucket in buckets:
            bucket.take()
        return True

    def _reserve(self, probe: Probe, now: float, fast: bool) -> float | None:
        """Take a probe from the limits; return None if it may be sent now, else when to try again."""
        if probe.network.id in self._busy:
            return now + BUSY_FOR
        schedule = self._schedules[probe.network.id]
        rate = schedule.rate or self._rate
        buckets = [rate] if rate.rate else []
        if probe.mac is None and not fast:
            buckets.append(schedule.background or self._background)
        elif probe.mac is None and schedule.requested is not None:
            buckets.append(schedule.requested)
        for bucket in buckets:
            if bucket.room(now) < 1:
                if bucket is schedule.requested:
                    self._inventory.budgets.refuse(NETWORK_BROADCASTS, now)
                return bucket.when(now, max(1.0, bucket.rate * SLICE))
        for bucket in buckets:
            bucket.take()
        schedule.outstanding.pop(probe.ip, None)
        schedule.outstanding[probe.ip] = Outstanding(now, probe.mac)
        return None

    # ---- scans --------------------------------------------------------------------------------------------------

    def _start(self, now: float) -> None:
        running = {scan.large for scan in self._running.scans if scan.cause is Cause.CLIENT}
        for large, waiting in self._requested.items():
            if waiting.scan_id is not None and large not in running:
                self._start_requested(waiting, large, now)
        busy = {network for scan in self._running.scans for network in scan.networks}
        disputes = self._inventory.addresses.disputes
        for schedule in self._schedules.values():
            idle_until = self._inventory.shared_lans.idle_until(schedule.network.id)
            if schedule.stands_by != (idle_until == inf):
                schedule.stands_by, self._windows = not schedule.stands_by, (-inf, {})
            if schedule.stands_by:
                continue
            if schedule.due <= now < idle_until:
                schedule.due = idle_until
            if disputes.to_scan.get(schedule.network.id, -inf) > now:
                if schedule.network.id in busy:
                    self.next_at = min(self.next_at, now + NEWCOMERS_RETRY)
                else:
                    schedule.due = min(schedule.due, now)
            if schedule.due <= now:
                if schedule.network.id not in busy:
                    self._start_timer(schedule, now)
                    disputes.to_scan.pop(schedule.network.id, None)
                interval = self._interval(schedule)
                schedule.due += interval * ((now - schedule.due) // interval + 1)
                schedule.cause = Cause.TIMER
            self.next_at = min(self.next_at, schedule.due)

    def _start_timer(self, schedule: NetworkSchedule, now: float) -> None:
        first = schedule.cause is not Cause.TIMER
        network, offsets, order = schedule.network, schedule.offsets, schedule.order
        total = len(offsets) if network.swept else self._inventory.addresses.count(network.id)
        fast = first and total <= FIRST_SCAN_FAST and now - schedule.last_fast >= FULL_RATE_APART
        count = total if fast else min(total, self._window(schedule, now))
        window = range(schedule.walked, schedule.walked + count)
        if not network.swept:
            offsets = self._inventory.addresses.seen_at(network, schedule.walked, count)
            order, window = Order(len(offsets), self._rng), range(len(offsets))
        schedule.walked = (schedule.walked + count) % max(total, 1)
        if fast:
            schedule.last_fast = now
        tries = self.pace.tries if fast else 1
        part = Part(network, offsets, order, window, tries=tries, thorough=False, fast=fast)
        self._last_id += 1
        self._running.begin(Scan(self._last_id, schedule.cause, [part], now))

    def _start_requested(self, waiting: RequestedScan, large: bool, now: float) -> None:
        wanted = waiting.request
        request = {network: runs for network, runs in wanted.items() if network in self._schedules}
        for network, runs in request.items():
            ready = self._schedules[network].last_fast + FULL_RATE_APART
            if runs is None and ready > now:
                self.next_at = min(self.next_at, ready)
                return
        scan_id, clients = waiting.start()
        for scan in tuple(self._running.scans):  # a scheduled scan yields to it
            if scan.cause is not Cause.CLIENT and any(network in request for network in scan.networks):
                self._running.finish(scan, now)
        parts = []
        for network, runs in request.items():
            schedule = self._schedules[network]
            chosen = (
                schedule.offsets
                if runs is None
                else runs.clipped(spans(schedule.network.cidr, schedule.network.excluded))
            )
            if runs is None:
                schedule.last_fast = now
            order = Order(len(chosen), self._rng)
            parts.append(
                Part(
                    schedule.network, chosen, order, range(len(chosen)), tries=self.pace.tries, thorough=True, fast=True
                )
            )
        vanished = [network for network in wanted if network not in self._schedules]
        self._running.begin(Scan(scan_id, Cause.CLIENT, parts, now, large=large, clients=clients), vanished)
