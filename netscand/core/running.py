"""Scans under way: what they ask now, what is told of them, and their end."""

from collections.abc import Mapping, Sequence
from math import inf

from netscand.core.inventory import Inventory
from netscand.core.model import Ask, Cause, Ip, Mac, ScanFailed, ScanFinished, ScanNews, ScanProgress, ScanStarted
from netscand.core.plan import Plan
from netscand.core.probes import Afford
from netscand.core.scan import Part, Scan, Walk

PROGRESS_APART, TIMER_PROGRESS_APART = 0.1, 1.0
"""Seconds between two `scan_progress`: of what somebody waits for, and of a timer's scan."""


class Running:
    """The scans that run. `next_at` is when `advance` next wants to be called."""

    def __init__(self, inventory: Inventory, plans: Mapping[str, Plan], afford: Afford) -> None:
        self.scans: list[Scan] = []
        self.next_at = inf
        self._inventory = inventory
        self._plans = plans
        self._afford = afford
        self._news: list[ScanNews] = []

    def news(self) -> list[ScanNews]:
        """Take what is to be told since the last call."""
        news, self._news = self._news, []
        return news

    def heard(self, network: str, ip: Ip, mac: Mac, at: float) -> float:
        """Take an answer to an ask of ours; return when it may be published as progress."""
        soonest = inf
        for scan in self.scans:
            for part in scan.parts:
                if part.network.id == network and part.heard(ip, mac, self._inventory):
                    soonest = min(soonest, max(at, scan.tell_at))
        return soonest

    def advance(self, asks: list[Ask], now: float, limit: int) -> None:
        """Add to `asks` what may leave now, up to `limit` in all."""
        self.next_at = inf
        for scan in tuple(self.scans):
            self._advance(scan, asks, now, limit)
            self._tell(scan, now)

    def fail(self, network: str, message: str, now: float) -> None:
        """End what runs on a network that cannot be asked."""
        for scan in tuple(self.scans):
            if any(part.network.id == network for part in scan.parts):
                self._news.append(ScanFailed(scan.id, network, message))
                scan.parts = [part for part in scan.parts if part.network.id != network]
                self._tell(scan, now)

    def begin(self, scan: Scan, vanished: Sequence[str] = ()) -> None:
        """Start a scan; of the networks that went while it was waited for, tell that."""
        self.scans.append(scan)
        self._news.append(ScanStarted(scan.id, scan.networks, scan.cause))
        self._news += [ScanFailed(scan.id, network, "the network went down") for network in vanished]
        for part in scan.parts:
            part.now = scan.started_at
            part.walk = part.asks(self._inventory)

    def _advance(self, scan: Scan, asks: list[Ask], now: float, limit: int) -> None:
        if scan.parts:
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
            room_at = self._afford(part.pending, now, part.fast)
            if room_at is not None:
                self.next_at = min(self.next_at, room_at)
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
            self.finish(scan, now)
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

    def finish(self, scan: Scan, now: float) -> None:
        """End a scan, with what it has."""
        self.scans.remove(scan)
        self.next_at = now  # a wish may be waiting for it
        for part in scan.parts:
            plan = self._plans.get(part.network.id)
            if plan is not None:
                plan.last_scan = now
        for mac in [mac for mac in scan.found if mac not in self._inventory.devices]:
            del scan.found[mac]  # refused: there is no device of that MAC
        found: tuple[Mac, ...] = tuple(scan.found)
        if scan.progress != scan.told:
            self._news.append(self._progress(scan))
        self._news.append(
            ScanFinished(scan.id, scan.networks, scan.started_at, now, scan.broadcast, scan.unicast, found)
        )
