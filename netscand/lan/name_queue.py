"""Name lookups: the queue of devices, and the tasks that query DNS, mDNS and NBNS."""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Container, Iterator, Mapping
from heapq import heapify, heappop, heappush
from itertools import chain, count
from math import inf
from time import monotonic
from typing import NamedTuple, Protocol

from netscand.core.model import Ip, Mac, Network, NetworkState, is_link_local
from netscand.lan.decode import Answer
from netscand.lan.mdns import QUERIES_PER_FRAME
from netscand.lan.name_lookup import LAN_WAIT, Effort, Queries, Resolver, Unanswered

# ---- name queue ----------------------------------------------------------------------------------------------------
# Queue of lookups: for each network, the most urgent first; a crowd of devices does not delay others.
#
# Among devices of the same urgency, the one that became due last is first: a crowd of made-up devices, which appears at
# once but not without end, does not delay later devices.
#
# The urgency of a device (core/claims.py) is 0 if a user annotated it, 1 if it answered us, else STRANGER. The queue of
# strangers is short, and keeps the newest: a real device does not stay a stranger, because the next scan or probe that
# it answers puts it before them all.

MOST_WAITING, MOST_STRANGERS = 4_096, 512
"""Maximum devices of one urgency that wait on a network, for the first time or again; maximum strangers."""

ANSWERED, STRANGER = 1, 2


class Lookup(NamedTuple):
    """Lookup of a device's name."""

    mac: Mac
    ip: Ip
    """Its address at the request. The query uses the address that it has when its turn comes."""
    network: str
    is_first: bool = True
    """It is the first query in this round."""
    waited: float = 0.0
    """Seconds of the last wait for a retry, if no name server answered."""


class _Waiting(NamedTuple):
    due: float
    number: int
    lookup: Lookup


class _UrgencyQueue(NamedTuple):
    """Lookups of one urgency."""

    later: list[_Waiting]
    """Heap by due time."""
    due: list[_Waiting]
    """Stack: the last one is taken first, so that a crowd does not delay later devices."""


class _NetworkQueue:
    """Queue of one network, with at most one lookup for each device, however many addresses it has."""

    def __init__(self, urgency: Callable[[Mac], int]) -> None:
        self._urgency = urgency
        self._by_urgency = tuple(_UrgencyQueue([], []) for _ in range(2 * STRANGER))
        """By urgency; within the same urgency, first queries before repeated ones."""

        self._full: set[int] = set()
        """Queues without room, from which no entry was removed since that was counted."""
        self._has_void: set[int] = set()
        """Queues that may contain void entries."""
        self._strangers: deque[_Waiting] = deque()
        self._entries: dict[Mac, _Waiting] = {}
        """MAC → its current entry; other entries in the lists are void."""

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, waiting: _Waiting) -> Lookup | None:
        lookup = waiting.lookup
        current = self._entries.get(lookup.mac)
        if current is not None and current.due <= waiting.due and current.lookup.is_first >= lookup.is_first:
            return None
        if current is not None:
            self._full.clear()
            self._has_void.update(range(len(self._by_urgency)))
        urgency = self._urgency(lookup.mac)
        if urgency >= STRANGER:
            self._strangers.append(waiting)
            self._entries[lookup.mac] = waiting
            if len(self._strangers) <= MOST_STRANGERS:
                return None
            oldest = self._strangers.popleft()
            return self._remove(oldest)
        number = 2 * urgency + (not lookup.is_first)
        later, due = self._by_urgency[number]
        if number in self._full:
            return lookup
        if len(later) + len(due) >= MOST_WAITING:
            if number in self._has_void:
                self._has_void.discard(number)
                later[:] = filter(self._is_current, later)
                due[:] = filter(self._is_current, due)
                heapify(later)
            if len(later) + len(due) >= MOST_WAITING:
                self._full.add(number)
                return lookup
        heappush(later, waiting)
        self._entries[lookup.mac] = waiting
        return None

    def is_full(self, urgency: int) -> bool:
        """Return whether there is no room for first queries of this urgency."""
        return 2 * urgency in self._full

    def refuses(self, mac: Mac) -> bool:
        """Return whether there is no room for the first query of a device."""
        return bool(self._full) and 2 * self._urgency(mac) in self._full and mac not in self._entries

    def take(self, now: float, most: int) -> list[Lookup]:
        strangers: list[_Waiting] = []
        for waiting in [each for each in self._strangers if each.due <= now]:
            if not self._is_current(waiting):
                self._strangers.remove(waiting)
            elif self._urgency(waiting.lookup.mac) >= STRANGER:
                strangers.append(waiting)
            else:  # it has answered us since
                self._strangers.remove(waiting)
                self._remove(waiting)
                self.put(waiting)
        taken: list[Lookup] = []
        for later, due in self._by_urgency:
            while later and later[0].due <= now:
                due.append(heappop(later))
            while due and len(taken) < most:
                if lookup := self._remove(due.pop()):
                    taken.append(lookup)
        for waiting in strangers[: most - len(taken)]:
            self._strangers.remove(waiting)
            if lookup := self._remove(waiting):
                taken.append(lookup)
        return taken

    def next(self) -> Iterator[float]:
        yield from (later[0].due for later, _ in self._by_urgency if later)
        yield from (waiting.due for waiting in self._strangers)

    def _is_current(self, waiting: _Waiting) -> bool:
        return self._entries.get(waiting.lookup.mac) is waiting

    def _remove(self, waiting: _Waiting) -> Lookup | None:
        """Remove an entry; None if it is void."""
        if not self._is_current(waiting):
            return None
        self._full.clear()
        del self._entries[waiting.lookup.mac]
        return waiting.lookup


class NameQueue:
    """Queues of all networks, which take turns. The `urgency` of a device may change while it waits."""

    def __init__(self, urgency: Callable[[Mac], int]) -> None:
        self._urgency = urgency
        self._queues: dict[str, _NetworkQueue] = {}
        self._numbers = count()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def put(self, due: float, lookup: Lookup) -> Lookup | None:
        """Add a lookup for the time `due`; return the one dropped for lack of room, if any.

        That is the stranger that has waited longest, or the lookup itself.
        """
        self._changed.set()
        queue = self._queues.get(lookup.network)
        if queue is None:
            queue = self._queues[lookup.network] = _NetworkQueue(self._urgency)
        return queue.put(_Waiting(due, next(self._numbers), lookup))

    def is_full(self, network: str, urgency: int) -> bool:
        """Return whether `put` would drop first queries of this urgency on a network."""
        queue = self._queues.get(network)
        return queue is not None and queue.is_full(urgency)

    def refuses(self, network: str, mac: Mac) -> bool:
        """Return whether `put` would drop the first query of a device on a network."""
        queue = self._queues.get(network)
        return queue is not None and queue.refuses(mac)

    async def get(self, most: int = 1) -> list[list[Lookup]]:
        """Return at most `most` lookups of each network, as soon as any is due; yields to the loop first."""
        await asyncio.sleep(0)
        while True:
            now = monotonic()
            if taken := [lookup for queue in self._queues.values() if (lookup := queue.take(now, most))]:
                return taken
            self._queues = {network: queue for network, queue in self._queues.items() if len(queue)}
            self._changed.clear()
            soonest = min(chain.from_iterable(queue.next() for queue in self._queues.values()), default=None)
            try:
                async with asyncio.timeout(None if soonest is None else max(0.001, soonest - now)):
                    await self._changed.wait()
            except TimeoutError:
                continue


# ---- names ---------------------------------------------------------------------------------------------------------
# The lookup tasks: reverse DNS, mDNS, NBNS. They use little bandwidth and never delay anything else.
#
# The wire receives the names that devices announce. Here, devices without a name, or with one of a less trusted source,
# are looked up: DNS at once, the LAN at a slow pace (lan/name_lookup.py). All queries count against the scan limits.
#
# A query is about an address, which may belong to another device when the answer arrives. So a query uses the current
# address, and the answer counts only while the device still holds that address, undisputed (core/claims.py).
#
# Made-up devices do not delay others, however many there are. Nor do queries that a name server does not answer: they
# are tried briefly, then repeated from a queue of their own, less and less often.

PARALLEL, PARALLEL_RETRIES = 8, 2
"""Parallel DNS queries: first ones, and repeated ones."""

DNS_APART = 0.125
"""Seconds between two queries of one task: at most 80 a second in all."""

QUICK, PATIENT = Effort(0.4, 2), Effort(2.0, 2)
"""Effort of first and of repeated queries."""

FIRST_RETRY, LONGEST_RETRY = 15.0, 900.0
"""Seconds until an unanswered DNS query is repeated: the first time, and at most; each time twice as many."""

MDNS_APART = 1.0
"""Seconds between two multicast queries; one frame can ask for several devices of a network."""

NBNS_APART = 0.125
"""Seconds between two unicast queries."""

SETTLE = 1.0
"""Seconds before a new device is looked up: it may announce its name by itself, or register it in DNS."""

RETRY_AFTER = 30.0
"""Seconds after which a lookup without a result is repeated, once."""

ROUND_APART = 3600.0
"""Seconds between two rounds of queries for a device at an address."""

NO_ROOM = 1.0
"""Seconds after which a query that the budget refused is tried again."""

FAILURES, REPORTED_APART = 3, 86_400.0
"""Unanswered queries in a row that are logged, and minimum seconds between two such log lines."""

MOST_REMEMBERED = 16_384
"""Maximum devices whose last round is remembered."""

log = logging.getLogger(__name__)


class EngineView(Protocol):
    """The part of the engine that lookups need."""

    @property
    def networks(self) -> Mapping[str, Network]:
        """Return every network by id."""

    def missing_sources(self, mac: Mac) -> Container[str]:
        """Return the sources that may give a device a better name."""

    def may_probe(self, network: str, to_all: bool) -> bool:
        """Take one frame, broadcast (`to_all`) or not, from the network's limits; return whether it may be sent."""

    def query_address(self, mac: Mac, network: str, *, by_dns: bool) -> Ip | None:
        """Return the address to look a device's name up at: one that it holds, undisputed; None: none."""

    def named(self, mac: Mac, name: str, source: str, at: float, network: str, ip: Ip) -> None:
        """Set a name found at an address, at that monotonic time."""


class Names:
    """Lookups of device names, more urgent ones first. `send` sends a frame on a network (OSError).

    `refused` is called with the network of each lookup that is dropped for lack of room.
    """

    def __init__(
        self,
        engine: EngineView,
        urgency: Callable[[Mac], int],
        send: Callable[[Network, bytes], None],
        resolver: Resolver | None = None,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._refused = refused
        self._resolver = resolver or Resolver()
        self._queries = Queries(send)
        self._for_dns, self._for_mdns, self._for_nbns = NameQueue(urgency), NameQueue(urgency), NameQueue(urgency)
        self._for_dns_again = NameQueue(urgency)
        self._next_round: OrderedDict[tuple[Mac, Ip], float] = OrderedDict()
        self._failures = 0
        self._reported_at = -inf

    def request_name(self, mac: Mac, ip: Ip, network: Network) -> None:
        """Look up a device that appeared at an address, unless it was looked up within the hour."""
        now = monotonic()
        key = mac, ip
        if now < self._next_round.get(key, now):
            return
        self._next_round.pop(key, None)
        queues = (self._for_mdns,) if is_link_local(ip) else (self._for_dns, self._for_mdns)
        if queues[0].refuses(network.id, mac) and queues[-1].refuses(network.id, mac):  # when it is seen again
            for _ in queues:
                self._refused(network.id)
            return
        if len(self._next_round) >= MOST_REMEMBERED:
            self._next_round.popitem(last=False)
        self._next_round[key] = now + ROUND_APART
        lookup = Lookup(mac, ip, network.id)
        for queue in queues:
            self._wait(queue, now + SETTLE, lookup)

    def refuses_newcomer(self, network: str) -> bool:
        """Return whether there is no room for a new device that answered us; if so, count that as a request."""
        queues = self._for_dns, self._for_mdns
        if not all(queue.is_full(network, ANSWERED) for queue in queues):
            return False
        for _ in queues:
            self._refused(network)
        return True

    def restart_rounds(self) -> None:
        """Forget when devices were looked up, so that `request_name` looks all of them up."""
        self._next_round.clear()

    def _wait(self, queue: NameQueue, due: float, lookup: Lookup) -> None:
        dropped = queue.put(due, lookup)
        if dropped is not None:  # it is looked up when it is seen again
            self._next_round.pop((dropped.mac, dropped.ip), None)
            self._refused(dropped.network)

    def answered(self, answer: Answer) -> None:
        """Process a possible answer from the LAN. Exceptions of `named` propagate."""
        found = self._queries.name_in(answer)
        if found is not None:
            mac, name, source, network = found
            self._engine.named(mac, name, source, answer.sender.at, network, answer.sender.ip)

    async def run(self) -> None:
        """Run the tasks until cancelled. Exceptions of `named` end this."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(PARALLEL):
                    tasks.create_task(self._query_dns(self._for_dns, QUICK))
                for _ in range(PARALLEL_RETRIES):
                    tasks.create_task(self._query_dns(self._for_dns_again, PATIENT))
                tasks.create_task(self._query_mdns())
                tasks.create_task(self._query_nbns())
        finally:
            self._queries.close()

    def _network(self, lookup: Lookup) -> Network | None:
        """Return the network of a lookup as it is now; None if it is no longer scanned."""
        network = self._engine.networks.get(lookup.network)
        return network if network is not None and network.state in (NetworkState.UP, NetworkState.SILENT) else None

    async def _query_dns(self, queue: NameQueue, effort: Effort) -> None:
        while True:
            for (lookup,) in await queue.get():
                if "dns" not in self._engine.missing_sources(lookup.mac) or not self._network(lookup):
                    continue
                ip = self._engine.query_address(lookup.mac, lookup.network, by_dns=True)
                if ip is None:
                    wait = RETRY_AFTER if lookup.is_first else ROUND_APART
                    self._wait(self._for_dns, monotonic() + wait, lookup._replace(is_first=False))
                elif not self._engine.may_probe(lookup.network, False):  # a scan is using the budget
                    self._wait(queue, monotonic() + NO_ROOM, lookup)
                    await asyncio.sleep(DNS_APART)
                else:
                    await self._query_server(lookup, ip, effort)
                    await asyncio.sleep(DNS_APART)

    async def _query_server(self, lookup: Lookup, ip: Ip, effort: Effort) -> None:
        try:
            name = await self._resolver.name_of(ip, effort)
        except Unanswered as why:
            self._failed(why)
            wait = min(2 * lookup.waited or FIRST_RETRY, LONGEST_RETRY)
            self._wait(self._for_dns_again, monotonic() + wait, lookup._replace(waited=wait))
            return
        self._failures = 0
        if name:
            self._engine.named(lookup.mac, name, "dns", monotonic(), lookup.network, ip)
        wait = RETRY_AFTER if lookup.is_first and not name else ROUND_APART
        self._wait(self._for_dns, monotonic() + wait, lookup._replace(is_first=False, waited=0.0))

    def _failed(self, why: Unanswered) -> None:
        self._failures += 1
        if self._failures >= FAILURES and monotonic() - self._reported_at >= REPORTED_APART:
            self._reported_at = monotonic()
            log.info("no name server answers for some addresses (%s); trying again, less often", why)

    async def _query_mdns(self) -> None:
        while True:
            sent = False
            for group in await self._for_mdns.get(max(QUERIES_PER_FRAME.values())):
                fitting: list[tuple[Lookup, Ip]] = []
                for lookup in group:
                    ip = self._engine.query_address(lookup.mac, lookup.network, by_dns=False)
                    if ip is None or "mdns" not in self._engine.missing_sources(lookup.mac):
                        self._then_nbns(lookup, 0.0)
                    elif len(fitting) < QUERIES_PER_FRAME[len(ip)] and all(
                        len(other) == len(ip) for _, other in fitting
                    ):
                        fitting.append((lookup, ip))
                    else:
                        self._wait(self._for_mdns, monotonic(), lookup)
                if fitting:
                    sent = True
                    self._query_group(fitting)
            if sent:
                await asyncio.sleep(MDNS_APART)

    def _query_group(self, group: list[tuple[Lookup, Ip]]) -> None:
        network = self._network(group[0][0])
        if network is None:
            return
        if not self._engine.may_probe(network.id, True):
            for lookup, _ in group:
                self._wait(self._for_mdns, monotonic() + NO_ROOM, lookup)
            return
        try:
            self._queries.by_mdns(network, [(lookup.mac, ip) for lookup, ip in group])
        except OSError as refused:
            log.debug("cannot send name queries on %s: %s", network.id, refused)
        for lookup, _ in group:
            self._then_nbns(lookup, LAN_WAIT)

    def _then_nbns(self, lookup: Lookup, wait: float) -> None:
        self._wait(self._for_nbns, monotonic() + wait, lookup)

    async def _query_nbns(self) -> None:
        while True:
            sent = False
            for (lookup,) in await self._for_nbns.get():
                network = self._network(lookup)
                if network is None:
                    continue
                ip = self._engine.query_address(lookup.mac, network.id, by_dns=False)
                if ip is not None and len(ip) == 4 and "nbns" in self._engine.missing_sources(lookup.mac):
                    sent = True
                    if not self._engine.may_probe(network.id, False):
                        self._wait(self._for_nbns, monotonic() + NO_ROOM, lookup)
                        continue
                    try:
                        self._queries.by_nbns(network, lookup.mac, ip)
                    except OSError as refused:
                        log.debug("cannot send name queries on %s: %s", network.id, refused)
                self._retry_later(lookup)
            if sent:
                await asyncio.sleep(NBNS_APART)

    def _retry_later(self, lookup: Lookup) -> None:
        if lookup.is_first and any(source in self._engine.missing_sources(lookup.mac) for source in ("mdns", "nbns")):
            self._wait(self._for_mdns, monotonic() + RETRY_AFTER, lookup._replace(is_first=False))
