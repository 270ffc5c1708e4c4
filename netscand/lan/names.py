"""Names that have to be looked up: the queue of devices that wait, and the lookup in its turns."""

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
from netscand.lan.name_lookup import LAN_WAIT, QUERIES_PER_FRAME, Effort, Queries, Resolver, Unanswered

# ---- name queue ----------------------------------------------------------------------------------------------------
# Devices that wait to be asked for their names: network by network, the most urgent first, and nobody behind a crowd.
#
# Of the same urgency, the one that is due last is first: a crowd of made-up devices, which can answer at once but not
# come without end, delays nobody that comes after it.
#
# The urgency of a device (core/claims.py) is 0 where a user described it, 1 where it answered us, and else STRANGER.
# Strangers have little room of their own, and the newest stay: a real device is no stranger for long, for the next scan
# or probe that it answers puts it before them all.

MOST_WAITING, MOST_STRANGERS = 4_096, 512
"""Devices of one urgency that wait on a network, for the first time or again; strangers that do."""

STRANGER = 2


class Lookup(NamedTuple):
    """A device to ask for."""

    mac: Mac
    ip: Ip
    """Where it was when this was requested. It is asked at the address that it has when its turn comes."""
    network: str
    is_first: bool = True
    """It is asked for the first time in this round."""
    waited: float = 0.0
    """Seconds, after the last question of those that no name server answered."""


class _Waiting(NamedTuple):
    due: float
    number: int
    lookup: Lookup


class _UrgencyQueue(NamedTuple):
    """Devices of one urgency."""

    later: list[_Waiting]
    """A heap, by when they are due."""
    due: list[_Waiting]
    """The last one is taken first, so that a crowd that came at once delays nobody who comes later."""


class _NetworkQueue:
    """The queue of one network; each device stands in it once, however many addresses it has."""

    def __init__(self, urgency: Callable[[Mac], int]) -> None:
        self._urgency = urgency
        self._by_urgency = tuple(_UrgencyQueue([], []) for _ in range(2 * STRANGER))
        """By urgency, and of the same urgency those that are asked for the first time before the others."""

        self._strangers: deque[_Waiting] = deque()
        self._entries: dict[Mac, _Waiting] = {}
        """The place of each; what else the lists hold is void."""

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, waiting: _Waiting) -> Lookup | None:
        lookup = waiting.lookup
        current = self._entries.get(lookup.mac)
        if current is not None and current.due <= waiting.due and current.lookup.is_first >= lookup.is_first:
            return None
        urgency = self._urgency(lookup.mac)
        if urgency >= STRANGER:
            self._strangers.append(waiting)
            self._entries[lookup.mac] = waiting
            if len(self._strangers) <= MOST_STRANGERS:
                return None
            oldest = self._strangers.popleft()
            return self._remove(oldest)
        later, due = self._by_urgency[2 * urgency + (not lookup.is_first)]
        if len(later) + len(due) >= MOST_WAITING:
            later[:] = filter(self._is_current, later)
            due[:] = filter(self._is_current, due)
            heapify(later)
            if len(later) + len(due) >= MOST_WAITING:
                return lookup
        heappush(later, waiting)
        self._entries[lookup.mac] = waiting
        return None

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
        """Give its place up; None where it has another one."""
        if not self._is_current(waiting):
            return None
        del self._entries[waiting.lookup.mac]
        return waiting.lookup


class NameQueue:
    """The queues of all networks, each of which has its turn. `urgency` of a device may change while it waits."""

    def __init__(self, urgency: Callable[[Mac], int]) -> None:
        self._urgency = urgency
        self._queues: dict[str, _NetworkQueue] = {}
        self._numbers = count()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def put(self, due: float, lookup: Lookup) -> Lookup | None:
        """Let a device wait until `due`; return the one for which there is no room, if any.

        That is the stranger which has waited longest, or the device itself.
        """
        self._changed.set()
        queue = self._queues.get(lookup.network)
        if queue is None:
            queue = self._queues[lookup.network] = _NetworkQueue(self._urgency)
        return queue.put(_Waiting(due, next(self._numbers), lookup))

    async def get(self, most: int = 1) -> list[list[Lookup]]:
        """Return, as soon as some are due, at most `most` of them of each network; after a turn of the loop."""
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
# Names that have to be asked for: reverse DNS, mDNS, NBNS. Never in the way of anything, and seldom.
#
# What devices say by themselves is heard by the wire. Here, a device that has no name, or a less trusted one, is asked
# for: a name server at once, the LAN at its own slow pace (lan/name_lookup.py). All questions are within the budget of
# scans.
#
# A question is about an address, and the answer may be another's by then. So a device is asked at the address that it
# has when its turn comes, and the answer is taken while it still has that, and nobody disputes it (core/claims.py).
#
# Made-up devices keep no other device waiting, however many there are: lan/names.py. Nor do questions that a name
# server does not answer: each is tried for a moment, and then again in a queue of its own, less and less often.

PARALLEL, PARALLEL_RETRIES = 8, 2
"""Questions to DNS on their way: the first ones about a device, and those that are repeated as nobody answered."""

DNS_APART = 0.125
"""Seconds between two questions of one of those: 80 a second in all, at most."""

QUICK, PATIENT = Effort(0.4, 2), Effort(2.0, 2)
"""What is tried at first, and again."""

FIRST_RETRY, LONGEST_RETRY = 15.0, 900.0
"""Seconds until a question is repeated that no name server answered, at first; each time twice as many, up to this."""

MDNS_APART = 1.0
"""Seconds between two frames to all; where several devices wait on one network, one frame asks for some of them."""

NBNS_APART = 0.125
"""Seconds between two frames that ask one device each."""

SETTLE = 1.0
"""Seconds before a device is asked for: it has just come, and its name may follow by itself, or reach DNS."""

RETRY_AFTER = 30.0
"""Seconds after which a device whose name nobody knew is asked for again, once."""

ROUND_APART = 3600.0
"""Seconds between two rounds of questions for a device at an address."""

NO_ROOM = 1.0
"""Seconds after which a question is tried again for which the budget had no room."""

FAILURES, REPORTED_APART = 3, 3600.0
"""So many questions in a row without an answer are reported in the log, and not again within so many seconds."""

MOST_REMEMBERED = 16_384
"""Devices whose last round is remembered."""

log = logging.getLogger(__name__)


class EngineView(Protocol):
    """What this needs of the engine."""

    @property
    def networks(self) -> Mapping[str, Network]:
        """Every network, by id, as it is now."""

    def missing_sources(self, mac: Mac) -> Container[str]:
        """The sources that a device could still get a better name from."""

    def may_probe(self, network: str, to_all: bool) -> bool:
        """Whether the budget of that network has room for one more frame, to all (True) or to one."""

    def query_address(self, mac: Mac, network: str, *, by_dns: bool) -> Ip | None:
        """The address at which a device may be asked for its name now: one that it has, and nobody disputes."""

    def named(self, mac: Mac, name: str, source: str, at: float, network: str, ip: Ip) -> None:
        """Take what was found out by asking at that address, at that monotonic time."""


class Names:
    """Asks for the names of devices, the more urgent ones first. `say` sends a frame on a network (OSError).

    `refused` is called for each device that lost its place in a queue, with its network.
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
        """Ask for a device that came to that address, soon, and not if it was asked for within the hour."""
        now = monotonic()
        key = mac, ip
        if now < self._next_round.get(key, now):
            return
        self._next_round.pop(key, None)
        if len(self._next_round) >= MOST_REMEMBERED:
            self._next_round.popitem(last=False)
        self._next_round[key] = now + ROUND_APART
        lookup = Lookup(mac, ip, network.id)
        if not is_link_local(ip):
            self._wait(self._for_dns, now + SETTLE, lookup)
        self._wait(self._for_mdns, now + SETTLE, lookup)

    def _wait(self, queue: NameQueue, due: float, lookup: Lookup) -> None:
        dropped = queue.put(due, lookup)
        if dropped is not None:  # it is asked for when it is next heard of
            self._next_round.pop((dropped.mac, dropped.ip), None)
            self._refused(dropped.network)

    def answered(self, answer: Answer) -> None:
        """Take what may be an answer from the LAN. What `named` raises comes out."""
        found = self._queries.name_in(answer)
        if found is not None:
            mac, name, source, network = found
            self._engine.named(mac, name, source, answer.sender.at, network, answer.sender.ip)

    async def run(self) -> None:
        """Ask, until cancelled. What `named` raises ends this."""
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
        """The network as it is now: our address in it may be another. A device of one that is gone is not asked for."""
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
                elif not self._engine.may_probe(lookup.network, False):  # a scan has it all just now
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
            log.info("no name server answers for some addresses (%s): asking on, less often", why)

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
            log.debug("cannot ask for names on %s: %s", network.id, refused)
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
                        log.debug("cannot ask for names on %s: %s", network.id, refused)
                self._retry_later(lookup)
            if sent:
                await asyncio.sleep(NBNS_APART)

    def _retry_later(self, lookup: Lookup) -> None:
        if lookup.is_first and any(source in self._engine.missing_sources(lookup.mac) for source in ("mdns", "nbns")):
            self._wait(self._for_mdns, monotonic() + RETRY_AFTER, lookup._replace(is_first=False))
