"""Token buckets: what netscand itself may send, and what others may cause."""

from collections import Counter, OrderedDict
from collections.abc import Hashable
from itertools import islice
from math import inf
from typing import NamedTuple

# ---- budget --------------------------------------------------------------------------------------------------------
# How many frames may leave: a strict bound on every second, not on the average (FAULTS T20).

BURST_S = 0.02
"""Frames of so many seconds may leave at once, to make up for a late wake-up."""

MARGIN = 0.97
"""Part of the rate that is used: a frame leaves up to a slice later than it was counted."""

SOONEST = 0.0005
"""Seconds: waking earlier than this is not worth it, and a rounded sum must not ask for now again."""


class TokenBucket:
    """At most `rate` frames in any second; 0: no bound.

    What a token bucket lets out in a second is its depth and its refill together, so the depth is taken off the refill.
    """

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._depth = max(1.0, rate * BURST_S)
        self._refill = max(rate * MARGIN - self._depth, rate / 2)
        self._tokens = self._depth
        self._at = now

    def at(self, rate: float, now: float) -> "TokenBucket":
        """One for another rate, or the same: what left just now counts. It begins empty, for no second is let off."""
        if rate == self.rate:
            return self
        other = TokenBucket(rate, now)
        other._tokens = 0.0
        return other

    def room(self, now: float) -> float:
        """Frames that may leave now."""
        if not self.rate:
            return inf
        if now > self._at:
            self._tokens = min(self._depth, self._tokens + (now - self._at) * self._refill)
            self._at = now
        return self._tokens

    def take(self) -> None:
        """Count one frame; `room` was asked before."""
        self._tokens -= 1.0

    def when(self, now: float, frames: float = 1.0) -> float:
        """When there will be room for so many frames, or for as many as ever."""
        missing = min(frames, self._depth) - self.room(now)
        return now if missing <= 0 else now + max(missing / self._refill, SOONEST)


class Allowance(TokenBucket):
    """`depth` frames at once, and `rate` a second after that; a rate of 0: no bound."""

    def __init__(self, depth: float, rate: float, now: float, before: "Allowance | None" = None) -> None:
        """Take the place of `before`, if there is one: what left counts."""
        super().__init__(rate, now)
        self._depth = depth
        self._refill = rate
        self._tokens = depth if before is None else min(depth, before.room(now))


def own_bucket(before: TokenBucket | None, rate: float | None, now: float) -> TokenBucket | None:
    """A network's own, for a `rate` of its own; None: it has none, and shares that of all."""
    if rate is None:
        return None
    return before.at(rate, now) if before else TokenBucket(rate, now)


# ---- budgets -------------------------------------------------------------------------------------------------------
# Budgets: what others may cause, how much of it at once and how much an hour (law 6, FAULTS T11).
#
# Whatever a host on the LAN or a client can bring about at will has a row at the end of this file. The one that causes
# the work spends the budget, never the device or user that the work concerns: nothing known of real devices is spent on
# strangers (core/limits.py says which devices those are).

LIMITING_FOR = 60.0
"""Seconds after a refusal for which a budget is reported as limiting."""

MOST_SPENDERS, MOST_ADDRESSES = 4_096, 16_384
"""Spenders of one budget that have a bucket of their own, and addresses; more share one. Devices always have their own:
the inventory bounds how many there are, and no device may use up another's."""

EXAMINED = 16
"""Buckets checked for full ones, which may go, before a new spender gets one."""

ROUNDING = 1e-6
"""Of a unit: what sums of floating point may be wrong by."""

_SHARED = object()


class Budget(NamedTuple):
    """One row: `at_once` units, and `per_second` more after that, for each spender.

    0 and 0 depend on the configuration: whoever takes from it gives the row its figures.
    """

    name: str
    """As in `status` and in metrics."""
    spender: str
    """One bucket for each `device`, `address`, `interface`, `network`, `account`, `source` (any MAC, known or not);
    or one in all: `history` `daemon`."""
    limits: str
    """The limited thing, for docs and messages."""
    at_once: float
    per_second: float
    for_each_address: tuple[float, float] = (0.0, 0.0)
    """Of an interface: the same for each address that its networks have, where that is more."""


class Refused(NamedTuple):
    """Units that one budget refused."""

    name: str
    refused: int
    """Units since the start."""
    limiting: bool
    """It refused something within the last minute."""


class Budgets:
    """The buckets of every budget, and what they refused."""

    def __init__(self) -> None:
        self._full_at: dict[str, OrderedDict[Hashable, float]] = {}
        """By budget and spender: when the bucket is full again. That one number is the whole bucket."""
        self.addresses: dict[Hashable, int] = {}
        """Addresses that the scanned networks of each interface have."""
        self.refused: Counter[str] = Counter()
        """Refusals since the start, by the name of the budget."""
        self._refused_at: dict[str, float] = {}

    def take(self, budget: Budget, spender: Hashable, now: float, units: float = 1.0) -> bool:
        """Return whether `spender` may cause so many units more at `now` (monotonic seconds); if so, they are spent."""
        buckets, key = self._bucket(budget, spender, now)
        at_once, per_second = self._size(budget, spender)
        full_at = max(now, buckets.get(key, now))
        if (full_at - now) * per_second + units > at_once + ROUNDING:
            self.refuse(budget, now)
            return False
        buckets[key] = full_at + units / per_second
        buckets.move_to_end(key)
        return True

    def room(self, budget: Budget, spender: Hashable, now: float) -> int:
        """Return how many whole units `take` would grant, and spend nothing."""
        buckets, key = self._bucket(budget, spender, now)
        at_once, per_second = self._size(budget, spender)
        return max(0, int(at_once + ROUNDING - (max(now, buckets.get(key, now)) - now) * per_second))

    def has(self, budget: Budget, spender: Hashable, now: float, units: float = 1.0) -> bool:
        """Return whether `take` would grant so many units, and spend nothing."""
        buckets, key = self._bucket(budget, spender, now)
        at_once, per_second = self._size(budget, spender)
        return (max(now, buckets.get(key, now)) - now) * per_second + units <= at_once + ROUNDING

    def refuse(self, budget: Budget, now: float, units: int = 1) -> None:
        """Count a refusal for which no bucket was asked (a table that is full); 0 units: it limits still."""
        self.refused[budget.name] += units
        self._refused_at[budget.name] = now

    def limiting(self, now: float) -> tuple[str, ...]:
        """Return the names of the budgets that refused something within the last minute."""
        return tuple(name for name, at in self._refused_at.items() if now - at < LIMITING_FOR)

    def report(self, now: float) -> list[Refused]:
        """Return what each budget refused that ever did, by name."""
        limiting = set(self.limiting(now))
        return [Refused(name, count, name in limiting) for name, count in sorted(self.refused.items())]

    def _size(self, budget: Budget, spender: Hashable) -> tuple[float, float]:
        at_once, per_second = budget.for_each_address
        if not at_once and not per_second:
            return budget.at_once, budget.per_second
        addresses = self.addresses.get(spender, 0)
        return max(budget.at_once, at_once * addresses), max(budget.per_second, per_second * addresses)

    def _bucket(self, budget: Budget, spender: Hashable, now: float) -> tuple[OrderedDict[Hashable, float], Hashable]:
        """Return the buckets of a budget, and the key of the one that `spender` has."""
        buckets = self._full_at.setdefault(budget.name, OrderedDict())
        if spender in buckets:
            return buckets, spender
        for key in [key for key in islice(buckets, EXAMINED) if buckets[key] <= now]:
            del buckets[key]
        most = MOST_ADDRESSES if budget.spender == "address" else MOST_SPENDERS
        crowded = len(buckets) >= most and budget.spender != "device"
        return buckets, _SHARED if crowded else spender  # many names are no way to a full bucket


def table() -> tuple[Budget, ...]:
    """Return every row of this file, in its order."""
    return tuple(value for value in globals().values() if isinstance(value, Budget))


# ---- the table ------------------------------------------------------------------------------------------------------

# What many share has beside it a budget of each, so that nobody is silenced by others: `first_changes`, `first_claims`.

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0

NEWCOMERS = Budget(
    "newcomers", "interface", "new devices that did not answer netscand yet", 256, 0.02,
)  # fmt: skip
NEWCOMERS_THAT_ANSWER = Budget(
    "newcomers_that_answer", "interface", "new devices that answered a request", 256, 0.02, (1.0, 4 / DAY),
)  # fmt: skip
NEWCOMERS_AGAIN = Budget(
    "newcomers_again", "interface", "new devices that were refused, and heard again 20 s later",
    32, 0.03, (0.0, 4 / DAY),
)  # fmt: skip
NEWCOMERS_AT = Budget(
    "newcomers_at", "address", "new devices that answered twice there, while one of these three is used up",
    8, 48 / DAY,
)  # fmt: skip
FLOODS = Budget("floods", "interface", "`flood` events", 1, 1 / MINUTE)
STRANGERS = Budget(
    "strangers", "interface", "changes of devices that are no residents; a further address is two",
    1_024, 0.15, (1.0, 12 / DAY),
)  # fmt: skip
RESIDENTS = Budget(
    "residents", "interface", "changes of residents, without a user's words; a further address is two",
    1_024, 0.1, (4.0, 80 / DAY),
)  # fmt: skip
OWN_SHARES = Budget(
    "own_shares", "interface", "new devices with changes of their own, which are the next two", 256, 12 / HOUR,
)  # fmt: skip
FIRST_CHANGES = Budget(
    "first_changes", "device", "changes while `strangers` or `residents` is used up", 11, 4 / DAY,
)  # fmt: skip
FIRST_ABSENCES = Budget("first_absences", "device", "`offline` events while one of those is used up", 6, 6 / DAY)
ABSENCES = Budget("absences", "device", "`offline` events; the verdict waits", 64, 12 / HOUR)
RENAMES = Budget("renames", "device", "names", 4, 6 / HOUR)
ADDRESSES = Budget("addresses", "device", "further addresses", 8, 1 / MINUTE)
CONFLICTS = Budget("conflicts", "address", "claims to an address that another device holds", 4, 6 / HOUR)
CLAIMS = Budget("claims", "interface", "the same, where a resident or a labelled device holds it", 256, 0.05)
CLAIMS_ON_STRANGERS = Budget("claims_on_strangers", "interface", "the same, where another device does", 256, 0.05)
FIRST_CLAIMS = Budget("first_claims", "address", "the same, while one of these two is used up", 2, 2 / DAY)
DISPUTES = Budget("disputes", "interface", "claims of which the holder is asked first; others are conflicts", 32, 1.0)
GATEWAY_CLAIMS = Budget(
    "gateway_claims", "network", "further MACs at the gateway's address; those beyond are counted", 8, 1 / MINUTE,
)  # fmt: skip
OWN_CLAIMS = Budget(
    "own_claims", "network", "further MACs at this host's address; those beyond are counted", 8, 1 / MINUTE,
)  # fmt: skip
ROUTER_CLAIMS = Budget(
    "router_claims", "device", "further MACs at the addresses of an IPv6 router; those beyond are counted",
    8, 1 / MINUTE,
)  # fmt: skip
DHCP_SERVERS_OF_A_DEVICE = Budget(
    "dhcp_servers_of_a_device", "device", "DHCP servers not seen before, by a device that answered a request",
    2, 2 / DAY,
)  # fmt: skip
DHCP_SERVERS = Budget("dhcp_servers", "network", "the same, by all other sources", 8, 1 / MINUTE)
DHCP_SERVERS_OF_A_SOURCE = Budget("dhcp_servers_of_a_source", "source", "the same, by one of these", 2, 2 / DAY)
DHCP_IMPOSTORS = Budget(
    "dhcp_impostors", "address", "further MACs that serve DHCP with a known server's address", 4, 1 / MINUTE,
)  # fmt: skip
SILENCES = Budget("silences", "network", "`network_silent` events; the verdict waits", 3, 6 / HOUR)
RETURNS = Budget(
    "returns", "interface", "`online` events of strangers after `network_silent`; the device stays `unknown`",
    1_024, 0.15, (1.0, 12 / DAY),
)  # fmt: skip
HINTS = Budget("hints", "interface", "probes of devices that something suggests are there", 16, 2.0)
NAME_QUEUE = Budget("name_queue", "network", "devices that wait to be asked for their names: 512 strangers", 0, 0.0)
HISTORY_SIZE = Budget("history_size", "history", "events kept: those removed before their `keep_days`", 0, 0.0)

TALK = Budget("talk", "daemon", "frames decoded that are not ARP", 1_000, 1_000.0)
JOURNAL = Budget("journal", "daemon", "events written to the log, but for warnings", 1_000, 20.0)

ANNOTATIONS = Budget(
    "annotations", "device", "changes that one account makes to a user's words of it", 20, 1 / MINUTE,
)  # fmt: skip
SCAN_REQUESTS = Budget("scan_requests", "account", "scan requests of an account, whatever they name", 10, 2.0)

ACCOUNT_BROADCASTS = Budget(
    "account_broadcasts", "account", "broadcast frames that scan requests of an account may cause", 0.0, 0.0
)
"""Depends on the networks: all of them twice (WHOLE_SCANS) at once, with `tries`; then `background_rate`."""

NETWORK_BROADCASTS = Budget(
    "network_broadcasts", "network", "broadcast frames at the full rate for scan requests on a network", 0.0, 0.0
)
"""The sum for three ACCOUNTS: two that request without end leave another one its scan at the full rate."""

WHOLE_SCANS, ACCOUNTS = 2, 3
"""Scans of everything that an account may request at once; accounts that may do so on one network."""

UNREAD = Budget("unread_bytes", "daemon", "bytes kept for clients, or of what they sent", 24 * 2**20, 0.0)
"""Counted, not taken from a bucket: what is read is free again."""
