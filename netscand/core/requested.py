"""Scan requests of clients: the one scan that waits for its turn, for all of them, and the accounts that pay for it."""

from collections.abc import Hashable, Mapping
from math import ceil

from netscand.core.budgets import ACCOUNT_BROADCASTS, WHOLE_SCANS, Budgets
from netscand.core.hosts import Runs
from netscand.core.model import Busy
from netscand.core.plan import Plan
from netscand.core.targets import Wish, merge


class Requested:
    """The scan that waits: its id, and all that was requested of it."""

    def __init__(self, plans: Mapping[str, Plan], budgets: Budgets) -> None:
        self.scan_id: int | None = None
        """None: none waits."""
        self.wish: Wish = {}
        self._plans = plans
        self._budgets = budgets

    def take(self) -> tuple[int, Wish]:
        """Give the scan that waits, and wait for no other."""
        assert self.scan_id is not None
        taken = self.scan_id, self.wish
        self.scan_id, self.wish = None, {}
        return taken

    def add(self, wish: Wish, scan_id: int, account: Hashable, rate: float, tries: int, now: float) -> int:
        """Add a request; return the id of the scan that waits: `scan_id`, if there was none.

        `account` pays for the broadcasts that it adds, at `rate` a second and `tries` an address; None: nobody pays.
        Raises Busy.
        """
        merged = merge(self.wish, wish)
        if account is not None and rate:
            frames = (self._count(merged) - self._count(self.wish)) * tries
            everything = sum(len(plan.offsets) for plan in self._plans.values()) * tries
            budget = ACCOUNT_BROADCASTS._replace(at_once=WHOLE_SCANS * everything, per_second=rate)
            if not self._budgets.take(budget, account, now, frames):
                wait = ceil(frames / rate)
                raise Busy(f"this account has requested the scan of too many addresses; try again in {wait} s")
        self.wish = merged
        if self.scan_id is None:
            self.scan_id = scan_id
        return self.scan_id

    def _count(self, wish: Wish) -> int:
        """Addresses in a wish."""
        return sum(self._size(network, runs) for network, runs in wish.items())

    def _size(self, network: str, runs: Runs | None) -> int:
        if runs is not None:
            return len(runs)
        plan = self._plans.get(network)
        return len(plan.offsets) if plan is not None else 0
