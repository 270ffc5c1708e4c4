"""Token buckets: limits on the frames that netscand sends, and on what others may cause."""

from collections import Counter, OrderedDict
from collections.abc import Hashable
from itertools import islice
from math import inf
from typing import NamedTuple

# ---- frames --------------------------------------------------------------------------------------------------------
# Limit on frames sent: a strict one on every second, not on the average (FAULTS T20).

BURST_S = 0.02
"""Seconds of frames that may be sent in one burst, to make up for a late wake-up."""

MARGIN = 0.97
"""Part of the rate that is used, because a frame may leave a time slice later than it was counted."""

SOONEST = 0.0005
"""Minimum seconds to wait: shorter waits are not worth it, and rounding must not lead to a wait of zero."""


class TokenBucket:
    """Token bucket that never exceeds `rate` frames in any second; 0: unlimited.

    In one second, a token bucket grants its depth plus its refill, so the depth is subtracted from the refill.
    """

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._depth = max(1.0, rate * BURST_S)
        self._refill = max(rate * MARGIN - self._depth, rate / 2)
        self._tokens = self._depth
        self._at = now

    def at(self, rate: float, now: float) -> "TokenBucket":
        """Return a bucket for another rate. It begins empty, so that no second exceeds either rate."""
        if rate == self.rate:
            return self
        other = TokenBucket(rate, now)
        other._tokens = 0.0
        return other

    def room(self, now: float) -> float:
        """Return the number of frames that may be sent now."""
        if not self.rate:
            return inf
        if now > self._at:
            self._tokens = min(self._depth, self._tokens + (now - self._at) * self._refill)
            self._at = now
        return self._tokens

    def take(self) -> None:
        """Count one frame; call `room` first."""
        self._tokens -= 1.0

    def when(self, now: float, frames: float = 1.0) -> float:
        """Return when there will be room for so many frames, at most the depth."""
        missing = min(frames, self._depth) - self.room(now)
        return now if missing <= 0 else now + max(missing / self._refill, SOONEST)


class Allowance(TokenBucket):
    """Token bucket with a burst of `depth` frames, then `rate` a second; a rate of 0: unlimited."""

    def __init__(self, depth: float, rate: float, now: float, before: "Allowance | None" = None) -> None:
        """Replace `before`, if given: frames sent already count."""
        super().__init__(rate, now)
        self._depth = depth
        self._refill = rate
        self._tokens = depth if before is None else min(depth, before.room(now))


def own_bucket(before: TokenBucket | None, rate: float | None, now: float) -> TokenBucket | None:
    """Return the bucket of a network with a `rate` of its own; None: it shares the common one."""
    if rate is None:
        return None
    return before.at(rate, now) if before else TokenBucket(rate, now)


# ---- budgets -------------------------------------------------------------------------------------------------------
# Budgets of what others may cause: how much at once, and how much in an hour (law 6, FAULTS T11).
#
# Everything that a host on the LAN or a client can cause at will has a row at the end of this file. The one that causes
# the work spends the budget, never the device or user that it concerns: strangers cannot spend what real devices need
# (core/limits.py defines strangers).

LIMITING_FOR = 60.0
"""Seconds after a refusal for which a budget is reported as limiting."""

MOST_SPENDERS, MOST_ADDRESSES = 4_096, 16_384
"""Maximum spenders, and addresses, that have a bucket of their own in one budget; further ones share one. Devices
always have their own: the inventory limits their number, and no device may use up the bucket of another."""

EXAMINED = 16
"""Buckets examined for full ones, which can be dropped, before a new spender gets one."""

ROUNDING = 1e-6
"""Tolerance for floating-point sums, in units."""

_SHARED = object()


class Budget(NamedTuple):
    """One row: a burst of `at_once` units for each spender, then `per_second`.

    Rows with 0 and 0 depend on the configuration: the caller of `take` replaces the figures.
    """

    name: str
    """Name in `status` and in metrics."""
    spender: str
    """Owner of a bucket: each `device`, `address`, `interface`, `network`, `account` or `source` (any MAC, known or
    not); or a single one: `history` `daemon`."""
    limits: str
    """What is limited, for docs and messages."""
    at_once: float
    per_second: float
    for_each_address: tuple[float, float] = (0.0, 0.0)
    """For an interface: the two figures for each address of its networks, used if that is more."""


class Refused(NamedTuple):
    """Refusals of one budget."""

    name: str
    refused: int
    """Units since the start."""
    limiting: bool
    """It refused something within the last minute."""


class Budgets:
    """Buckets of all budgets, and counts of their refusals."""

    def __init__(self) -> None:
        self._full_at: dict[str, OrderedDict[Hashable, float]] = {}
        """Budget → spender → when the bucket is full again; this one number is the whole bucket."""
        self.addresses: dict[Hashable, int] = {}
        """ifindex → addresses of its scanned networks."""
        self.refused: Counter[str] = Counter()
        """Name of the budget → units refused since the start."""
        self._refused_at: dict[str, float] = {}

    def take(self, budget: Budget, spender: Hashable, now: float, units: float = 1.0) -> bool:
        """Return whether `spender` may cause so many units at `now` (monotonic seconds); if so, spend them."""
        buckets, key, at_once, per_second = self._bucket(budget, spender, now)
        full_at = buckets.get(key, now)
        if full_at < now:
            full_at = now
        if (full_at - now) * per_second + units > at_once + ROUNDING:
            self.refuse(budget, now)
            return False
        buckets[key] = full_at + units / per_second
        buckets.move_to_end(key)
        return True

    def room(self, budget: Budget, spender: Hashable, now: float) -> int:
        """Return the number of whole units that `take` would grant, without spending."""
        buckets, key, at_once, per_second = self._bucket(budget, spender, now)
        return max(0, int(at_once + ROUNDING - (max(now, buckets.get(key, now)) - now) * per_second))

    def has(self, budget: Budget, spender: Hashable, now: float, units: float = 1.0) -> bool:
        """Return whether `take` would grant so many units, without spending."""
        buckets, key, at_once, per_second = self._bucket(budget, spender, now)
        return (max(now, buckets.get(key, now)) - now) * per_second + units <= at_once + ROUNDING

    def refuse(self, budget: Budget, now: float, units: int = 1) -> None:
        """Count a refusal made elsewhere (a full table); with 0 units, only report the budget as limiting."""
        self.refused[budget.name] += units
        self._refused_at[budget.name] = now

    def limiting(self, now: float) -> tuple[str, ...]:
        """Return the names of the budgets that refused something within the last minute."""
        return tuple(name for name, at in self._refused_at.items() if now - at < LIMITING_FOR)

    def report(self, now: float) -> list[Refused]:
        """Return the refusals of each budget that ever refused, by name."""
        limiting = set(self.limiting(now))
        return [Refused(name, count, name in limiting) for name, count in sorted(self.refused.items())]

    def _bucket(
        self, budget: Budget, spender: Hashable, now: float
    ) -> tuple[OrderedDict[Hashable, float], Hashable, float, float]:
        """Return the buckets of a budget, the key of the spender's bucket, and its size: at once, and per second."""
        at_once, per_second = budget.at_once, budget.per_second
        if budget.for_each_address[1] and (addresses := self.addresses.get(spender)):
            burst, rate = budget.for_each_address
            at_once, per_second = max(at_once, burst * addresses), max(per_second, rate * addresses)
        buckets = self._full_at.get(budget.name)
        if buckets is None:
            buckets = self._full_at[budget.name] = OrderedDict()
        elif spender in buckets:
            return buckets, spender, at_once, per_second
        for key in [key for key in islice(buckets, EXAMINED) if buckets[key] <= now]:
            del buckets[key]
        most = MOST_ADDRESSES if budget.spender == "address" else MOST_SPENDERS
        crowded = len(buckets) >= most and budget.spender != "device"
        key = _SHARED if crowded else spender  # so that many names get no further full bucket
        return buckets, key, at_once, per_second


def table() -> tuple[Budget, ...]:
    """Return every row of this file, in its order."""
    return tuple(value for value in globals().values() if isinstance(value, Budget))


# ---- the table ------------------------------------------------------------------------------------------------------

# Shared budgets have a small budget for each spender beside them, so that others cannot silence it: `first_changes`,
# `first_claims`.

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0

NEWCOMERS = Budget(
    "newcomers", "interface", "new devices that have not answered netscand yet", 256, 0.02,
)  # fmt: skip
NEWCOMERS_THAT_ANSWER = Budget(
    "newcomers_that_answer", "interface", "new devices that answered a request", 256, 0.02, (1.0, 4 / DAY),
)  # fmt: skip
NEWCOMERS_AGAIN = Budget(
    "newcomers_again", "interface", "new devices that were refused, and seen again 20 s later",
    32, 0.03, (0.0, 4 / DAY),
)  # fmt: skip
NEWCOMERS_AT = Budget(
    "newcomers_at", "address", "new devices that answered twice there, while one of the three above is used up",
    8, 48 / DAY,
)  # fmt: skip
FLOODS = Budget("floods", "interface", "`flood` events", 1, 1 / MINUTE)
STRANGERS = Budget(
    "strangers", "interface", "changes of strangers; a further address counts twice",
    1_024, 0.15, (1.0, 12 / DAY),
)  # fmt: skip
RESIDENTS = Budget(
    "residents", "interface", "changes of residents without annotations; a further address counts twice",
    1_024, 0.1, (4.0, 80 / DAY),
)  # fmt: skip
OWN_SHARES = Budget(
    "own_shares", "interface", "new devices that may use the next two budgets", 256, 12 / HOUR,
)  # fmt: skip
FIRST_CHANGES = Budget(
    "first_changes", "device", "changes while `strangers` or `residents` is used up", 11, 4 / DAY,
)  # fmt: skip
FIRST_ABSENCES = Budget("first_absences", "device", "`offline` events while one of those is used up", 6, 6 / DAY)
ABSENCES = Budget("absences", "device", "`offline` events; a refused one is tried again", 64, 12 / HOUR)
RENAMES = Budget("renames", "device", "names", 4, 6 / HOUR)
KIND_CHANGES = Budget("kind_changes", "device", "changes of a device's kind", 4, 6 / HOUR)
ADDRESSES = Budget("addresses", "device", "further addresses", 8, 1 / MINUTE)
CONFLICTS = Budget("conflicts", "address", "claims to an address that another device holds", 4, 6 / HOUR)
MOVES = Budget("moves", "address", "moves of an address whose holder does not answer there", 32, 12 / HOUR)
CLAIMS = Budget("claims", "interface", "the same, if a resident or an annotated device holds it", 256, 0.05)
CLAIMS_ON_STRANGERS = Budget("claims_on_strangers", "interface", "the same, if another device holds it", 256, 0.05)
FIRST_CLAIMS = Budget("first_claims", "address", "the same, while one of these two is used up", 2, 2 / DAY)
DISPUTES = Budget("disputes", "interface", "claims whose holder is probed first; others count as conflicts", 32, 1.0)
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
    "dhcp_servers_of_a_device", "device", "new DHCP servers that are reported by a device which has answered a request",
    2, 2 / DAY,
)  # fmt: skip
DHCP_SERVERS = Budget("dhcp_servers", "network", "new DHCP servers that all other sources report", 8, 1 / MINUTE)
DHCP_SERVERS_OF_A_SOURCE = Budget(
    "dhcp_servers_of_a_source", "source", "new DHCP servers that one such source reports", 2, 2 / DAY,
)  # fmt: skip
DHCP_IMPOSTORS = Budget(
    "dhcp_impostors", "address", "further MACs that serve DHCP with a known server's address", 4, 1 / MINUTE,
)  # fmt: skip
SILENCES = Budget("silences", "network", "`network_silent` events; a refused one is tried again", 3, 6 / HOUR)
RETURNS = Budget(
    "returns", "interface", "`online` events of strangers after `network_silent`; the device stays `unknown`",
    1_024, 0.15, (1.0, 12 / DAY),
)  # fmt: skip
FLAPS = Budget(
    "flaps", "network", "times that a network of this host goes down; beyond, its devices stay `unknown` for 5 minutes",
    128, 12 / HOUR,
)  # fmt: skip
HINTS = Budget("hints", "interface", "probes of devices that are probably present", 16, 2.0)
NAME_QUEUE = Budget("name_queue", "network", "strangers that wait for a name lookup: at most 512", 0, 0.0)
HISTORY_SIZE = Budget("history_size", "history", "events removed before their `keep_days`", 0, 0.0)

TALK = Budget("talk", "daemon", "frames decoded that are not ARP", 1_000, 1_000.0)
JOURNAL = Budget("journal", "daemon", "events written to the log, without warnings", 1_000, 20.0)

ANNOTATIONS = Budget(
    "annotations", "device", "changes that one account makes to the annotations of a device", 20, 1 / MINUTE,
)  # fmt: skip
SCAN_REQUESTS = Budget("scan_requests", "account", "scan requests of an account, with any targets", 10, 2.0)

ACCOUNT_BROADCASTS = Budget(
    "account_broadcasts", "account", "broadcast frames that scan requests of an account may cause", 0.0, 0.0
)
"""Depends on the networks: a burst of two scans (WHOLE_SCANS) of all of them, with `tries`; then `background_rate`."""

NETWORK_BROADCASTS = Budget(
    "network_broadcasts", "network", "broadcast frames at the full rate for scan requests on a network", 0.0, 0.0
)
"""The sum for three ACCOUNTS: two accounts that request all the time still leave a third its scan at the full rate."""

WHOLE_SCANS, ACCOUNTS = 2, 3
"""Scans of all networks that an account may request at once; accounts that may do so on one network."""

UNREAD = Budget("unread_bytes", "daemon", "bytes kept to send to clients, or received from them", 18 * 2**20, 0.0)
"""Counted, not taken from a bucket: bytes that are read become free again. For 1,080 connections of 18 accounts with
unread answers, the process grows by about three times as much (tests/attacks/test_connections.py)."""
