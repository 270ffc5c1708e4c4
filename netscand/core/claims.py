"""Claims to an address that another device holds: which are published, and how often.

Guarded addresses (core/guards.py) have budgets of their own, that no other claim can spend: each new claimant is
published at once, and where there are more than that allows, they are counted.
"""

from collections import Counter, OrderedDict
from math import inf

from netscand.core.budgets import (
    CLAIMS,
    CLAIMS_ON_STRANGERS,
    CONFLICTS,
    DAY,
    FIRST_CLAIMS,
    Budgets,
)
from netscand.core.guards import Guard
from netscand.core.model import Device, Ip, Mac, Network
from netscand.core.strangers import is_resident

APART = 600.0
"""Seconds between two events of a conflict that name the same claimant of the same address."""

APART_UNCHANGED = DAY
"""The same for a claim that changes nothing: a proxy that answers for a whole network, too, is one event a device and
day."""

MOST = 1_024
"""Claimants remembered."""


class Claims:
    """Published claims, and the count of those that were not."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._published: OrderedDict[tuple[str, Ip, Mac], float] = OrderedDict()
        self._counted: Counter[tuple[str, Ip]] = Counter()
        """Claims to a guarded address for which there was no room."""

    def would_publish(self, network: Network, ip: Ip, claimant: Mac, now: float, guard: Guard) -> bool:
        """Return whether a claim to a guarded address would be published."""
        return not self.is_known(network, ip, claimant, now) and self._budgets.has(guard.budget, guard.spender, now)

    def publish(
        self,
        network: Network,
        ip: Ip,
        claimant: Mac,
        old: Device,
        now: float,
        *,
        guard: Guard | None,
        in_conflict: bool,
        apart: float = APART,
    ) -> bool:
        """Return whether the claim of `claimant` to what `old` holds is to be published now; it counts as that then.

        `guard`: the address is guarded.
        """
        if in_conflict and self.is_known(network, ip, claimant, now, apart):
            return False
        if guard is not None:
            if not self._budgets.take(guard.budget, guard.spender, now):
                self._counted[network.id, ip] += 1
                return False
        elif not self._take(network, ip, old, now):
            return False
        if in_conflict:  # who holds it defends it: that is no claim to be published beside this one
            self._note(network, ip, claimant, now)
            self._note(network, ip, old.mac, now)
        return True

    def more(self, network: Network, ip: Ip) -> str:
        """Return what a reason says of claims that were counted since the last one published; none after that."""
        count = self._counted.pop((network.id, ip), 0)
        return f"; {count} more claims by other MACs since the last event" if count else ""

    def is_known(self, network: Network, ip: Ip, claimant: Mac, now: float, apart: float = APART) -> bool:
        """Return whether a conflict with that claimant was published within `apart` seconds."""
        return now < self._published.get((network.id, ip, claimant), -inf) + apart

    def _note(self, network: Network, ip: Ip, claimant: Mac, now: float) -> None:
        key = network.id, ip, claimant
        self._published[key] = now
        self._published.move_to_end(key)
        if len(self._published) > MOST:
            self._published.popitem(last=False)

    def _take(self, network: Network, ip: Ip, old: Device, now: float) -> bool:
        """Take from the budget of the address, and from that of all addresses of such devices or its first ones."""
        budgets, address = self._budgets, (network.id, ip)
        shared = CLAIMS if is_resident(old, now) else CLAIMS_ON_STRANGERS
        if not budgets.has(CONFLICTS, address, now):
            budgets.refuse(CONFLICTS, now)
            return False
        if budgets.has(shared, network.index, now):
            return budgets.take(shared, network.index, now) and budgets.take(CONFLICTS, address, now)
        if budgets.has(FIRST_CLAIMS, address, now):
            return budgets.take(FIRST_CLAIMS, address, now) and budgets.take(CONFLICTS, address, now)
        budgets.refuse(shared, now)
        return False
