"""Budgets: what others may cause, how much of it at once and how much an hour (law 6, FAULTS T11).

Whatever a host on the LAN or a client can bring about at will has a row here. The one that causes the work spends the
budget, never the device or user that the work concerns: nothing known of real devices is spent on strangers.
"""

from collections import Counter, OrderedDict
from collections.abc import Hashable
from itertools import islice
from typing import NamedTuple

from netscand.core.tokens import Tokens

LIMITING_FOR = 60.0
"""Seconds after a refusal for which a budget is reported as limiting."""

MOST_SPENDERS = 4_096
"""Spenders of one budget that have a bucket of their own; more share one."""

LOOKED_AT = 16
"""Buckets checked for a full one, which may go, before a new spender has to share."""


class Budget(NamedTuple):
    """One row: `at_once` units, and `per_second` more after that, for each spender."""

    name: str
    """As in `status` and in metrics."""
    spender: str
    """Who has one of these: `device`, `interface`, `network`, `account`."""
    limits: str
    """What it limits, for docs and messages."""
    at_once: float
    per_second: float


class Budgets:
    """The buckets of every budget, and what they refused."""

    def __init__(self) -> None:
        self._buckets: dict[str, OrderedDict[Hashable, Tokens]] = {}
        self._shared: dict[str, Tokens] = {}
        self.refused: Counter[str] = Counter()
        """Refusals since the start, by the name of the budget."""
        self._refused_at: dict[str, float] = {}

    def take(self, budget: Budget, spender: Hashable, now: float) -> bool:
        """Return whether `spender` may cause one unit more at `now` (monotonic seconds); if so, it is spent."""
        if self._bucket(budget, spender, now).take(now):
            return True
        self.refuse(budget, now)
        return False

    def refuse(self, budget: Budget, now: float) -> None:
        """Count a refusal for which no bucket was asked (a table that is full)."""
        self.refused[budget.name] += 1
        self._refused_at[budget.name] = now

    def limiting(self, now: float) -> tuple[str, ...]:
        """Return the names of the budgets that refused something within the last minute."""
        return tuple(name for name, at in self._refused_at.items() if now - at < LIMITING_FOR)

    def _bucket(self, budget: Budget, spender: Hashable, now: float) -> Tokens:
        buckets = self._buckets.setdefault(budget.name, OrderedDict())
        bucket = buckets.get(spender)
        if bucket is not None:
            buckets.move_to_end(spender)
            return bucket
        if len(buckets) >= MOST_SPENDERS:
            full = next((key for key in islice(buckets, LOOKED_AT) if buckets[key].is_full(now)), None)
            if full is None:  # many names are no way to a full bucket
                return self._shared.setdefault(budget.name, Tokens(budget.at_once, budget.per_second))
            del buckets[full]
        bucket = buckets[spender] = Tokens(budget.at_once, budget.per_second)
        return bucket
