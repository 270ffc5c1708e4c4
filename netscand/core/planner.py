"""Scan requests of clients: the one scan that waits for its turn, for all of them, and the accounts that pay for it."""

from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass
from math import ceil, inf
from random import Random

from netscand.core.inventory import Inventory
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
from netscand.core.networks import SCANNED
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
from netscand.core.targets import ScanRequest, merge, resolve


class RequestedScan:
    """The scan that waits: its id, and all that was requested of it."""

    def __init__(self, plans: Mapping[str, NetworkSchedule], budgets: Budgets) -> None:
        self.scan_id: int | None = None
        """None: none waits."""
        self.request: ScanRequest = {}
        self._plans = plans
        self._budgets = budgets

    def start(self) -> tuple[int, ScanRequest]:
        """Give the scan that waits, and wait for no other."""
        assert self.scan_id is not None
        taken = self.scan_id, self.request
        self.scan_id, self.request = None, {}
        return taken

    def add(self, request: ScanRequest, scan_id: int, account: Hashable, rate: float, tries: int, now: float) -> int:
        """Add a request; return the id of the scan that waits: `scan_id`, if there was none.

        `account` pays for the broadcasts that it adds, at `rate` a second and `tries` an address; None: nobody pays.
        Raises Busy.
        """
        merged = merge(self.request, request)
        if account is not None and rate:
            frames = (self._count(merged) - self._count(self.request)) * tries
            everything = sum(len(plan.offsets) for plan in self._plans.values()) * tries
            budget = ACCOUNT_BROADCASTS._replace(at_once=WHOLE_SCANS * everything, per_second=rate)
            if not self._budgets.take(budget, account, now, frames):
                wait = ceil(frames / rate)
                raise Busy(f"this account has requested the scan of too many addresses; try again in {wait} s")
        self.request = merged
        if self.scan_id is None:
            self.scan_id = scan_id
        return self.scan_id

    def _count(self, request: ScanRequest) -> int:
        """Return the number of addresses in a request."""
        return sum(self._size(network, runs) for network, runs in request.items())

    def _size(self, network: str, runs: Runs | None) -> int:
        if runs is not None:
            return len(runs)
        plan = self._plans.get(network)
        return len(plan.offsets) if plan is not None else 0


# ---- planner -------------------------------------------------------------------------------------------------------
# What to ask next, and when: scans on schedule, scan requests, and probes of presence, under one budget.
#
# Pure: told the time. `due` gives the frames that may leave now; `next_at` is when it wants to be called again.

FULL_RATE_APART = 5.0
"""Seconds between two scans of a whole network at the full rate."""

FLAPS_REMEMBERED = 256
"""Networks that went down whose last scan is remembered."""

FIRST_SCAN_FAST = 1024
"""Addresses up to which the first scan of a network goes at the full rate."""

SCAN_SHARE = 0.8
"""Part of the background budget of an interval that a timer's scan may plan with."""

QUIET_AFTER, QUIET_COVERAGE = 600.0, 300.0
"""Seconds without a change after which silent addresses are asked less, and in which all are asked once then."""

CHANGES = frozenset([
    EventKind.DISCOVERED, EventKind.ONLINE, EventKind.OFFLINE, EventKind.ADDRESS_ADDED, EventKind.ADDRESS_MOVED,
])  # fmt: skip
"""What a quiet network does not have."""

ECHOES_APART = (600.0, 1800.0)
"""Seconds between two echoes that all nodes of an interface are asked for: they find who speaks IPv6 and is quiet."""

SLICE = 0.005
"""Seconds of frames that are sent in one go."""

BUSY_FOR = 0.002
"""Seconds that an interface whose queue was full is left alone."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`[scan]`: frames per second (0: no bound), and tries of a silent address."""

    rate: float = 1000.0
    background_rate: float = 50.0
    tries: int = 3


class Planner:
    """Scans, scan requests and probes, under the budget of [scan]."""

    def __init__(self, inventory: Inventory, pace: Pace, now: float, rng: Random) -> None:
        self.next_at = now
        self.lease: float | None = None
        """The fastest interval that a client holds, in seconds."""
        self._inventory = inventory
        self._rng = rng
        self._plans: dict[str, NetworkSchedule] = {}
        self._running = ActiveScans(inventory, self._plans, self._afford)
        self._probes = ProbeQueue(inventory, self._plans, self._afford)
        self._requested = RequestedScan(self._plans, inventory.budgets)
        self._scans_first = False
        self._last_fast: dict[str, float] = {}
        """When networks that went down were last asked at the full rate: they may be back within 5 s."""
        self._last_id = 0
        self._first = True
        self._busy: Set[str] = frozenset()
        self._rate, self._background = TokenBucket(pace.rate, now), TokenBucket(pace.background_rate, now)
        self.set_pace(pace, now)

    def set_pace(self, pace: Pace, now: float) -> None:
        """Take the budget of the configuration."""
        self.pace = pace
        self._rate = self._rate.at(pace.rate, now)
        self._background = self._background.at(pace.background_rate, now)
        self._probes.set_rate(pace.rate, now)
        for plan in self._plans.values():
            self._set_buckets(plan, now)

    # ---- what is planned for ------------------------------------------------------------------------------------

    @property
    def scanning(self) -> bool:
        """Whether a scan is running."""
        return bool(self._running.scans)

    def last_scan_of(self, network: str) -> float | None:
        """When the last scan of a network ended."""
        plan = self._plans.get(network)
        return plan.last_scan if plan else None

    def coverage(self, network: str, now: float) -> Coverage:
        """What one timer's scan asks of a network, and how long all of it takes."""
        plan = self._plans.get(network)
        if plan is None or not plan.offsets:
            return Coverage(0.0, 0.0)
        fraction = self._window(plan, now) / len(plan.offsets)
        return Coverage(fraction, self._interval(plan) / fraction)

    def set_networks(self, now: float) -> None:
        """Take the inventory's networks; one that is new or up again is scanned at once."""
        before = dict(self._plans)
        self._plans.clear()  # `running` reads this very table
        for network in self._inventory.networks.values():
            if network.state not in SCANNED:
                continue
            plan = before.get(network.id)
            if plan is None or plan.network.spared != network.spared:
                old, plan = plan, NetworkSchedule(network, now, self._rng)
                plan.last_fast = self._last_fast.get(network.id, -inf)
                if old is not None:  # the same network, of which other addresses are asked
                    plan.last_fast, plan.last_scan, plan.changed_at = old.last_fast, old.last_scan, old.changed_at
                plan.cause = Cause.START if self._first else Cause.INTERFACE
            elif (plan.network.index, plan.network.own) != (network.index, network.own):
                plan.due, plan.cause = now, Cause.INTERFACE
            plan.network = network
            plan.due = min(plan.due, now + self._interval(plan))  # the configuration may have quickened it
            self._set_buckets(plan, now)
            self._plans[network.id] = plan
        for network_id, gone in before.items():
            if gone is self._plans.get(network_id):
                continue
            self._last_fast[network_id] = gone.last_fast
            while len(self._last_fast) > FLAPS_REMEMBERED:
                del self._last_fast[next(iter(self._last_fast))]
            why = "other addresses are excluded now" if network_id in self._plans else "the network went down"
            self.failed(network_id, why, now)
        self._first = False
        self.next_at = now

    def scan_soon(self, now: float) -> None:
        """We slept: what we know is old, so scan every network at once."""
        for plan in self._plans.values():
            plan.due, plan.cause = now, Cause.INTERFACE
        self.next_at = now

    def _set_buckets(self, plan: NetworkSchedule, now: float) -> None:
        network = plan.network
        plan.rate = own_bucket(plan.rate, network.rate, now)
        plan.background = own_bucket(plan.background, network.background_rate, now)
        rate = ACCOUNTS * (plan.background or self._background).rate
        depth = ACCOUNTS * WHOLE_SCANS * len(plan.offsets) * self.pace.tries
        plan.requested = Allowance(depth, rate, now, plan.requested) if rate else None

    def set_lease(self, seconds: float | None, now: float) -> None:
        """Take the fastest interval that a client holds; None: the configuration's."""
        self.lease = seconds
        for plan in self._plans.values():
            plan.due = min(plan.due, now + self._interval(plan))
        self.next_at = now

    def _interval(self, plan: NetworkSchedule) -> float:
        return plan.network.interval if self.lease is None else min(self.lease, plan.network.interval)

    def on_event(self, event: Event) -> None:
        """Take what clients are told: a network where somebody comes or goes is asked more."""
        plan = self._plans.get(event.network or "")
        if plan is not None and event.kind in CHANGES:
            plan.changed_at = event.at

    def _window(self, plan: NetworkSchedule, now: float) -> int:
        """How many addresses a timer's scan asks: what the budget lets it, and less where all has been quiet."""
        interval, count = self._interval(plan), len(plan.offsets)
        rate = (plan.background or self._background).rate
        room = int(rate * interval * SCAN_SHARE) if rate else count
        if now - plan.changed_at > QUIET_AFTER and not self._inventory.contested:
            room = min(room, ceil(count * interval / QUIET_COVERAGE))
        return min(count, max(1, room))

    # ---- requests -----------------------------------------------------------------------------------------------

    def request_scan(self, targets: Sequence[str], now: float, account: Hashable = None) -> int:
        """Take a `scan_now`; return the id of the scan that will serve it. Raises BadTarget, Busy.

        It joins a running one if none of its targets has been passed, else the one next scan, for all that wait.
        `account` pays for the broadcasts that it adds; None: nobody has to.
        """
        request = resolve(targets, [plan.network for plan in self._plans.values()])
        for scan in self._running.scans:
            if scan.cause is Cause.CLIENT and scan.serves(request):
                return scan.id
        rate, tries = self.pace.background_rate, self.pace.tries
        scan_id = self._requested.add(request, self._last_id + 1, account, rate, tries, now)
        self._last_id = max(self._last_id, scan_id)
        self.next_at = now
        return scan_id

    # ---- what is heard ------------------------------------------------------------------------------------------

    def record_reply(self, seen: Observation, network: Network) -> float | None:
        """Take an observation; the round trip in seconds, if it answers an ask of ours."""
        plan = self._plans.get(network.id)
        if plan is None or seen.ip is None or seen.evidence is Evidence.PROXIED:
            return None
        rtt = None
        answers = seen.solicited or seen.evidence is Evidence.ARP_REPLY
        asked = plan.outstanding.get(seen.ip) if answers else None
        if asked is not None and asked.mac in (None, seen.mac):  # what another was asked confirms nothing
            rtt = asked.answer(seen.mac, seen.at)
            if rtt is not None and len(asked.answered) == 1:
                plan.sample(rtt)
            if rtt is not None and len(seen.ip) == 4:  # what nobody asked for ends no scan: anybody can say it
                self.next_at = min(self.next_at, self._running.record_reply(network.id, seen.ip, seen.mac, seen.at))
        return rtt

    # ---- what leaves --------------------------------------------------------------------------------------------

    def due(self, now: float, limit: int, busy: Set[str] = frozenset()) -> list[Probe]:
        """Give the frames that may leave now, at most `limit`, none to `busy` networks; sets `next_at`."""
        self.next_at = inf
        self._busy = busy
        self._forget_unanswered(now)
        self._start(now)
        asks: list[Probe] = []
        # Each has the first go in its turn, so that neither a large scan nor a large LAN starves the other.
        self._scans_first = not self._scans_first
        if self._scans_first:
            self._running.advance(asks, now, limit)
            self._probes.advance(asks, now, limit)
        else:
            self._probes.advance(asks, now, limit // 2 if self.scanning else limit)
            self._running.advance(asks, now, limit)
        self.next_at = min(self.next_at, self._running.next_at, self._probes.next_at)
        self._echo(asks, now, limit)
        if len(asks) >= limit:
            self.next_at = now
        return asks

    def news(self) -> list[ScanNews]:
        """Take what is to be told of scans since the last call."""
        return self._running.news()

    def failed(self, network: str, message: str, now: float) -> None:
        """End what runs on a network that cannot be asked; the next scan runs all the same."""
        self._inventory.give_up_all(network, now)
        self._running.fail(network, message, now)
        self.next_at = now

    def _forget_unanswered(self, now: float) -> None:
        for plan in self._plans.values():
            outstanding = plan.outstanding
            while outstanding:
                ip = next(iter(outstanding))
                if outstanding[ip].at > now - ANSWER_WITHIN:
                    break
                del outstanding[ip]

    def _echo(self, asks: list[Probe], now: float, limit: int) -> None:
        """Ask all nodes of each interface that has IPv6, once in a while."""
        done = set()
        for plan in self._plans.values():
            network = plan.network
            if network.own6 is None or network.index in done:
                continue
            done.add(network.index)
            if plan.echo_at <= now and len(asks) < limit:
                ask = Probe(network, ALL_NODES, None)
                room_at = self._afford(ask, now, False)
                if room_at is None:
                    asks.append(ask)
                    plan.echo_at = now + self._rng.uniform(*ECHOES_APART)
                else:
                    self.next_at = min(self.next_at, room_at)
                    continue
            self.next_at = min(self.next_at, plan.echo_at)

    def spend(self, network: str, now: float, *, to_all: bool = True) -> bool:
        """Count a frame that another room wants to send, `to_all` or to one; whether there is room for it."""
        plan = self._plans.get(network)
        buckets = [(plan and plan.rate) or self._rate]
        if to_all:
            if plan is None:
                return False
            buckets.append(plan.background or self._background)
        if any(bucket.room(now) < 1 for bucket in buckets):
            return False
        for bucket in buckets:
            bucket.take()
        return True

    def _afford(self, ask: Probe, now: float, fast: bool) -> float | None:
        """Count a frame that may leave now; or say when there will be room."""
        if ask.network.id in self._busy:
            return now + BUSY_FOR
        plan = self._plans[ask.network.id]
        buckets = [plan.rate or self._rate]
        if ask.mac is None and not fast:
            buckets.append(plan.background or self._background)
        elif ask.mac is None and plan.requested is not None:
            buckets.append(plan.requested)
        for bucket in buckets:
            if bucket.room(now) < 1:
                if bucket is plan.requested:
                    self._inventory.budgets.refuse(NETWORK_BROADCASTS, now)
                return bucket.when(now, max(1.0, bucket.rate * SLICE))
        for bucket in buckets:
            bucket.take()
        plan.outstanding.pop(ask.ip, None)
        plan.outstanding[ask.ip] = Outstanding(now, ask.mac, set())
        return None

    # ---- scans --------------------------------------------------------------------------------------------------

    def _start(self, now: float) -> None:
        if self._requested.request and not any(scan.cause is Cause.CLIENT for scan in self._running.scans):
            self._start_wish(now)
        busy = {network for scan in self._running.scans for network in scan.networks}
        for plan in self._plans.values():
            if plan.due <= now:
                if plan.network.id not in busy:
                    self._start_timer(plan, now)
                interval = self._interval(plan)
                plan.due += interval * ((now - plan.due) // interval + 1)
                plan.cause = Cause.TIMER
            self.next_at = min(self.next_at, plan.due)

    def _start_timer(self, plan: NetworkSchedule, now: float) -> None:
        first = plan.cause is not Cause.TIMER
        fast = first and len(plan.offsets) <= FIRST_SCAN_FAST and now - plan.last_fast >= FULL_RATE_APART
        count = len(plan.offsets) if fast else self._window(plan, now)
        window = range(plan.walked, plan.walked + count)
        plan.walked = (plan.walked + count) % max(len(plan.offsets), 1)
        if fast:
            plan.last_fast = now
        tries = self.pace.tries if fast else 1
        part = Part(plan.network, plan.offsets, plan.order, window, tries=tries, thorough=False, fast=fast)
        self._last_id += 1
        self._running.begin(Scan(self._last_id, plan.cause, [part], now))

    def _start_wish(self, now: float) -> None:
        wanted = self._requested.request
        request = {network: runs for network, runs in wanted.items() if network in self._plans}
        for network, runs in request.items():
            ready = self._plans[network].last_fast + FULL_RATE_APART
            if runs is None and ready > now:
                self.next_at = min(self.next_at, ready)
                return
        scan_id, _ = self._requested.start()
        for scan in tuple(self._running.scans):  # a timer's scan gives way
            if any(network in request for network in scan.networks):
                self._running.finish(scan, now)
        parts = []
        for network, runs in request.items():
            plan = self._plans[network]
            chosen = plan.offsets if runs is None else runs.clipped(spans(plan.network.cidr, plan.network.spared))
            if runs is None:
                plan.last_fast = now
            order = Order(len(chosen), self._rng)
            parts.append(
                Part(plan.network, chosen, order, range(len(chosen)), tries=self.pace.tries, thorough=True, fast=True)
            )
        vanished = [network for network in wanted if network not in self._plans]
        self._running.begin(Scan(scan_id, Cause.CLIENT, parts, now), vanished)
