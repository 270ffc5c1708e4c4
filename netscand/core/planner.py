"""What to ask next, and when: scans on schedule, wishes, and what presence wants to know, under one budget.

Pure: told the time. `due` gives the frames that may leave now; `next_at` is when it wants to be called again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf
from random import Random

from netscand.core.budget import Bucket
from netscand.core.inventory import SCANNED, Inventory
from netscand.core.model import (
    Ask,
    Cause,
    Coverage,
    Evidence,
    Mac,
    Network,
    Observation,
    ScanFailed,
    ScanFinished,
    ScanNews,
    ScanProgress,
    ScanStarted,
)
from netscand.core.plan import Plan
from netscand.core.scan import Order, Part, Scan, Walk
from netscand.core.targets import Wish, merge, resolve

FULL_RATE_APART = 5.0
"""Seconds between two scans of a whole network at the full rate."""

FIRST_SCAN_FAST = 1024
"""Addresses up to which the first scan of a network goes at the full rate."""

SCAN_SHARE = 0.8
"""Part of the background budget of an interval that a timer's scan may plan with."""

QUIET_AFTER, QUIET_COVERAGE = 600.0, 300.0
"""Seconds without a change after which silent addresses are asked less, and in which all are asked once then."""

PROGRESS_APART, TIMER_PROGRESS_APART = 0.1, 1.0
"""Seconds between two `scan_progress`: of what somebody waits for, and of a timer's scan."""

ANSWER_WITHIN = 2.0
"""Seconds after an ask in which a reply is an answer to it."""

SLICE = 0.005
"""Seconds of frames that are sent in one go."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`[scan]`: frames per second (0: no bound), and tries of a silent address."""

    rate: float = 1000.0
    background_rate: float = 50.0
    tries: int = 3


class Planner:
    """Scans, wishes and probes, under the budget of [scan]."""

    def __init__(self, inventory: Inventory, pace: Pace, now: float, rng: Random) -> None:
        self.next_at = now
        self.lease: float | None = None
        """The fastest interval that a client holds, in seconds."""
        self._inventory = inventory
        self._rng = rng
        self._plans: dict[str, Plan] = {}
        self._running: list[Scan] = []
        self._waiting: tuple[int, Wish] | None = None
        self._news: list[ScanNews] = []
        self._last_id = 0
        self._first = True
        self.set_pace(pace, now)

    def set_pace(self, pace: Pace, now: float) -> None:
        """Take the budget of the configuration."""
        self.pace = pace
        self._rate = Bucket(pace.rate, now)
        self._background = Bucket(pace.background_rate, now)
        for plan in self._plans.values():
            self._set_buckets(plan, now)

    # ---- what is planned for ------------------------------------------------------------------------------------

    @property
    def scanning(self) -> bool:
        """Whether a scan is running."""
        return bool(self._running)

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
        before, self._plans = self._plans, {}
        for network in self._inventory.networks.values():
            if network.state not in SCANNED:
                continue
            plan = before.pop(network.id, None)
            if plan is None:
                plan = Plan(network, now, self._rng)
                plan.cause = Cause.START if self._first else Cause.INTERFACE
            elif (plan.network.index, plan.network.own) != (network.index, network.own):
                plan.due, plan.cause = now, Cause.INTERFACE
            plan.network = network
            self._set_buckets(plan, now)
            self._plans[network.id] = plan
        for network_id in before:
            self.failed(network_id, "the network went down", now)
        self._first = False
        self.next_at = now

    def scan_soon(self, now: float) -> None:
        """We slept: what we know is old, so scan every network at once."""
        for plan in self._plans.values():
            plan.due, plan.cause = now, Cause.INTERFACE
        self.next_at = now

    def _set_buckets(self, plan: Plan, now: float) -> None:
        network = plan.network
        plan.rate = None if network.rate is None else Bucket(network.rate, now)
        plan.background = None if network.background_rate is None else Bucket(network.background_rate, now)

    def set_lease(self, seconds: float | None, now: float) -> None:
        """Take the fastest interval that a client holds; None: the configuration's."""
        self.lease = seconds
        for plan in self._plans.values():
            plan.due = min(plan.due, now + self._interval(plan))
        self.next_at = now

    def _interval(self, plan: Plan) -> float:
        return plan.network.interval if self.lease is None else min(self.lease, plan.network.interval)

    def changed(self, network: str, now: float) -> None:
        """Somebody came or went: a network where that happens is asked more."""
        plan = self._plans.get(network)
        if plan is not None:
            plan.changed_at = now

    def _window(self, plan: Plan, now: float) -> int:
        """How many addresses a timer's scan asks: what the budget lets it, and less where all has been quiet."""
        interval, count = self._interval(plan), len(plan.offsets)
        rate = (plan.background or self._background).rate
        room = int(rate * interval * SCAN_SHARE) if rate else count
        if now - plan.changed_at > QUIET_AFTER:
            room = min(room, ceil(count * interval / QUIET_COVERAGE))
        return max(1, min(count, room))

    # ---- wishes -------------------------------------------------------------------------------------------------

    def wish(self, targets: Sequence[str], now: float) -> int:
        """Take a `scan_now`; the id of the scan that will serve it. Raises BadTarget.

        It joins a running one if none of its targets has been passed, else the one next scan, for all that wait.
        """
        wish = resolve(targets, [plan.network for plan in self._plans.values()])
        self.next_at = now
        for scan in self._running:
            if scan.cause is Cause.CLIENT and self._joins(scan, wish):
                return scan.id
        if self._waiting is None:
            self._last_id += 1
            self._waiting = self._last_id, wish
        else:
            merge(self._waiting[1], wish)
        return self._waiting[0]

    @staticmethod
    def _joins(scan: Scan, wish: Wish) -> bool:
        parts = {part.network.id: part for part in scan.parts}
        for network, offsets in wish.items():
            part = parts.get(network)
            if part is None:
                return False
            if offsets is None:
                if not part.whole or part.settled:
                    return False
            elif any(part.passed(offset) for offset in offsets):
                return False
        return True

    # ---- what is heard ------------------------------------------------------------------------------------------

    def heard(self, seen: Observation, network: Network) -> float | None:
        """Take an observation; the round trip in seconds, if it answers an ask of ours."""
        plan = self._plans.get(network.id)
        if plan is None or seen.ip is None or seen.evidence is Evidence.PROXIED:
            return None
        asked = plan.outstanding.pop(seen.ip, None)
        rtt = None
        if asked is not None and seen.evidence is Evidence.ARP_REPLY:
            rtt = max(0.0, seen.at - asked)
            if rtt > ANSWER_WITHIN:
                rtt = None
            else:
                plan.sample(rtt)
        if len(seen.ip) == 4:
            for scan in self._running:
                for part in scan.parts:
                    if part.network.id == network.id and part.heard(seen.ip, seen.mac):
                        self.next_at = min(self.next_at, max(seen.at, scan.tell_at))
        return rtt

    # ---- what leaves --------------------------------------------------------------------------------------------

    def due(self, now: float, limit: int) -> list[Ask]:
        """Give the frames that may leave now, at most `limit`; sets `next_at`."""
        self.next_at = inf
        self._forget_unanswered(now)
        self._start(now)
        asks: list[Ask] = []
        self._presence(asks, now, limit)
        for scan in tuple(self._running):
            self._advance(scan, asks, now, limit)
            self._tell(scan, now)
        if len(asks) >= limit:
            self.next_at = now
        return asks

    def news(self) -> list[ScanNews]:
        """Take what is to be told of scans since the last call."""
        news, self._news = self._news, []
        return news

    def failed(self, network: str, message: str, now: float) -> None:
        """End what runs on a network that cannot be asked; the next scan runs all the same."""
        kept = [ask for ask in self._inventory.wishes if ask.network.id != network]
        for ask in self._inventory.wishes:
            if ask.network.id == network:
                self._inventory.not_asked(ask, now)
        self._inventory.wishes.clear()
        self._inventory.wishes.extend(kept)
        for scan in tuple(self._running):
            if any(part.network.id == network for part in scan.parts):
                self._news.append(ScanFailed(scan.id, network, message))
                scan.parts = [part for part in scan.parts if part.network.id != network]
                self._tell(scan, now)
        self.next_at = now

    def _forget_unanswered(self, now: float) -> None:
        for plan in self._plans.values():
            outstanding = plan.outstanding
            while outstanding:
                ip = next(iter(outstanding))
                if outstanding[ip] > now - ANSWER_WITHIN:
                    break
                del outstanding[ip]

    def _presence(self, asks: list[Ask], now: float, limit: int) -> None:
        wishes = self._inventory.wishes
        while wishes and len(asks) < limit:
            ask = wishes[0]
            if ask.network.id not in self._plans or not self._inventory.wanted(ask, now):
                wishes.popleft()
            elif self._afford(ask, now, fast=False):
                asks.append(wishes.popleft())
            else:
                return

    def _afford(self, ask: Ask, now: float, *, fast: bool) -> bool:
        plan = self._plans[ask.network.id]
        buckets = [plan.rate or self._rate]
        if ask.mac is None and not fast:
            buckets.append(plan.background or self._background)
        for bucket in buckets:
            if bucket.room(now) < 1:
                self.next_at = min(self.next_at, bucket.when(now, max(1.0, bucket.rate * SLICE)))
                return False
        for bucket in buckets:
            bucket.take()
        plan.outstanding.pop(ask.ip, None)
        plan.outstanding[ask.ip] = now
        return True

    # ---- scans --------------------------------------------------------------------------------------------------

    def _start(self, now: float) -> None:
        if self._waiting is not None and not any(scan.cause is Cause.CLIENT for scan in self._running):
            self._start_wish(*self._waiting, now)
        busy = {network for scan in self._running for network in scan.networks}
        for plan in self._plans.values():
            if plan.due <= now:
                if plan.network.id not in busy:
                    self._start_timer(plan, now)
                interval = self._interval(plan)
                plan.due += interval * ((now - plan.due) // interval + 1)
                plan.cause = Cause.TIMER
            self.next_at = min(self.next_at, plan.due)

    def _start_timer(self, plan: Plan, now: float) -> None:
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
        self._begin(Scan(self._last_id, plan.cause, [part], now))

    def _start_wish(self, scan_id: int, wish: Wish, now: float) -> None:
        wish = {network: offsets for network, offsets in wish.items() if network in self._plans}
        for network, offsets in wish.items():
            ready = self._plans[network].last_fast + FULL_RATE_APART
            if offsets is None and ready > now:
                self.next_at = min(self.next_at, ready)
                return
        self._waiting = None
        for scan in tuple(self._running):  # a timer's scan gives way
            if any(network in wish for network in scan.networks):
                self._finish(scan, now)
        parts = []
        for network, offsets in wish.items():
            plan = self._plans[network]
            chosen = plan.offsets if offsets is None else tuple(sorted(offsets))
            if offsets is None:
                plan.last_fast = now
            order = Order(len(chosen), self._rng)
            parts.append(
                Part(plan.network, chosen, order, range(len(chosen)), tries=self.pace.tries, thorough=True, fast=True)
            )
        self._begin(Scan(scan_id, Cause.CLIENT, parts, now))

    def _begin(self, scan: Scan) -> None:
        self._running.append(scan)
        self._news.append(ScanStarted(scan.id, scan.networks, scan.cause))
        for part in scan.parts:
            part.now = scan.started_at
            part.walk = part.asks(self._inventory)

    def _advance(self, scan: Scan, asks: list[Ask], now: float, limit: int) -> None:
        scan.parts.append(scan.parts.pop(0))  # each network has the first go in its turn
        for part in tuple(scan.parts):
            part.now = now
            part.wait = self._plans[part.network.id].wait
            if part.walk is not None and self._walk(scan, part, part.walk, asks, now, limit):
                part.walk = None
                part.done = part.total

    def _walk(self, scan: Scan, part: Part, walk: Walk, asks: list[Ask], now: float, limit: int) -> bool:
        """Send what a part may send now; whether it has come to its end."""
        while len(asks) < limit:
            if part.pending is None:
                try:
                    part.pending = next(walk)
                except StopIteration:
                    return True
                if part.pending is None:  # it passed over many
                    self.next_at = now
                    return False
            if isinstance(part.pending, float):
                if part.pending > now and part.open:
                    self.next_at = min(self.next_at, part.pending)
                    return False
                part.pending = None
                continue
            if not self._afford(part.pending, now, fast=part.fast):
                return False
            asks.append(part.pending)
            if part.pending.mac is None:
                scan.broadcast += 1
            else:
                scan.unicast += 1
            part.pending = None
        return False

    def _tell(self, scan: Scan, now: float) -> None:
        """Tell progress, at once with the first find, then every 100 ms at most; and the end."""
        if not any(part.walk for part in scan.parts):
            self._finish(scan, now)
            return
        progress = scan.progress
        apart = TIMER_PROGRESS_APART if scan.cause is Cause.TIMER else PROGRESS_APART
        if progress == scan.told or not (progress[1] or now - scan.started_at >= apart):
            return
        if now >= scan.tell_at:
            scan.tell_at, scan.told = now + apart, progress
            self._news.append(self._progress(scan))
        else:
            self.next_at = min(self.next_at, scan.tell_at)

    @staticmethod
    def _progress(scan: Scan) -> ScanProgress:
        done, found = scan.progress
        return ScanProgress(scan.id, done, sum(part.total for part in scan.parts), found, scan.networks)

    def _finish(self, scan: Scan, now: float) -> None:
        self._running.remove(scan)
        self.next_at = now  # a wish may be waiting for it
        for part in scan.parts:
            plan = self._plans.get(part.network.id)
            if plan is not None:
                plan.last_scan = now
        found: tuple[Mac, ...] = tuple(scan.found)
        if scan.progress != scan.told:
            self._news.append(self._progress(scan))
        self._news.append(
            ScanFinished(scan.id, scan.networks, scan.started_at, now, scan.broadcast, scan.unicast, found)
        )
