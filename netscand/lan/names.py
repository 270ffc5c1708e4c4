"""Names that have to be asked for: reverse DNS, mDNS, NBNS. Never in the way of anything, and seldom.

What devices say by themselves is heard by the wire. Here, a device that has no name, or a less trusted one, is asked
for: a name server at once, the LAN at its own slow pace (lan/asking.py). All questions are within the budget of scans.

A question is about an address, and the answer may be another's by then. So a device is asked at the address that it
has when its turn comes, and the answer is taken while it still has that, and nobody disputes it (core/names.py).

Made-up devices keep no other device waiting, however many there are: lan/name_queue.py. Nor do questions that a name
server does not answer: each is tried for a moment, and then again in a queue of its own, less and less often.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Container, Mapping
from math import inf
from time import monotonic
from typing import Protocol

from netscand.core.model import Ip, Mac, Network, NetworkState, is_link_local
from netscand.lan.asking import TOGETHER, WAIT, Questions
from netscand.lan.heard.frames import Answer
from netscand.lan.name_queue import NameQueue, Wanted
from netscand.lan.resolver import Effort, Resolver, Unanswered

AT_ONCE, AGAIN_AT_ONCE = 8, 2
"""Questions to DNS on their way: the first ones about a device, and those that are repeated as nobody answered."""

DNS_APART = 0.125
"""Seconds between two questions of one of those: 80 a second in all, at most."""

QUICK, PATIENT = Effort(0.4, 2), Effort(2.0, 2)
"""What is tried at first, and again."""

AGAIN, AGAIN_AT_LEAST = 15.0, 900.0
"""Seconds until a question is repeated that no name server answered, at first; each time twice as many, up to this."""

MDNS_APART = 1.0
"""Seconds between two frames to all; where several devices wait on one network, one frame asks for some of them."""

NBNS_APART = 0.125
"""Seconds between two frames that ask one device each."""

SETTLE = 1.0
"""Seconds before a device is asked for: it has just come, and its name may follow by itself, or reach DNS."""

ONCE_MORE = 30.0
"""Seconds after which a device whose name nobody knew is asked for again, once."""

APART = 3600.0
"""Seconds between two rounds of questions for a device at an address."""

NO_ROOM = 1.0
"""Seconds after which a question is tried again for which the budget had no room."""

FAILURES, REPORTED_APART = 3, 3600.0
"""So many questions in a row without an answer are reported in the log, and not again within so many seconds."""

MOST_REMEMBERED = 16_384
"""Devices whose last round is remembered."""

log = logging.getLogger(__name__)


class House(Protocol):
    """What this needs of the engine."""

    @property
    def networks(self) -> Mapping[str, Network]:
        """Every network, by id, as it is now."""

    def lacks(self, mac: Mac) -> Container[str]:
        """The sources that a device could still get a better name from."""

    def may_ask(self, network: str, to_all: bool) -> bool:
        """Whether the budget of that network has room for one more frame, to all (True) or to one."""

    def name_at(self, mac: Mac, network: str, *, by_dns: bool) -> Ip | None:
        """The address at which a device may be asked for its name now: one that it has, and nobody disputes."""

    def named(self, mac: Mac, name: str, source: str, at: float, network: str, ip: Ip) -> None:
        """Take what was found out by asking at that address, at that monotonic time."""


class Names:
    """Asks for the names of devices, the more urgent ones first. `say` sends a frame on a network (OSError).

    `refused` is called for each device that lost its place in a queue, with its network.
    """

    def __init__(
        self,
        house: House,
        urgency: Callable[[Mac], int],
        say: Callable[[Network, bytes], None],
        resolver: Resolver | None = None,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._house = house
        self._refused = refused
        self._resolver = resolver or Resolver()
        self._questions = Questions(say)
        self._for_dns, self._for_mdns, self._for_nbns = NameQueue(urgency), NameQueue(urgency), NameQueue(urgency)
        self._for_dns_again = NameQueue(urgency)
        self._next_round: OrderedDict[tuple[Mac, Ip], float] = OrderedDict()
        self._failures = 0
        self._reported_at = -inf

    def want(self, mac: Mac, ip: Ip, network: Network) -> None:
        """Ask for a device that came to that address, soon, and not if it was asked for within the hour."""
        now = monotonic()
        key = mac, ip
        if now < self._next_round.get(key, now):
            return
        self._next_round.pop(key, None)
        if len(self._next_round) >= MOST_REMEMBERED:
            self._next_round.popitem(last=False)
        self._next_round[key] = now + APART
        wanted = Wanted(mac, ip, network.id)
        if not is_link_local(ip):
            self._wait(self._for_dns, now + SETTLE, wanted)
        self._wait(self._for_mdns, now + SETTLE, wanted)

    def _wait(self, queue: NameQueue, due: float, wanted: Wanted) -> None:
        gone = queue.put(due, wanted)
        if gone is not None:  # it is asked for when it is next heard of
            self._next_round.pop((gone.mac, gone.ip), None)
            self._refused(gone.network)

    def answered(self, answer: Answer) -> None:
        """Take what may be an answer from the LAN. What `named` raises comes out."""
        found = self._questions.name_in(answer)
        if found is not None:
            mac, name, source, network = found
            self._house.named(mac, name, source, answer.sender.at, network, answer.sender.ip)

    async def run(self) -> None:
        """Ask, until cancelled. What `named` raises ends this."""
        try:
            async with asyncio.TaskGroup() as askers:
                for _ in range(AT_ONCE):
                    askers.create_task(self._ask_dns(self._for_dns, QUICK))
                for _ in range(AGAIN_AT_ONCE):
                    askers.create_task(self._ask_dns(self._for_dns_again, PATIENT))
                askers.create_task(self._ask_mdns())
                askers.create_task(self._ask_nbns())
        finally:
            self._questions.close()

    def _network(self, wanted: Wanted) -> Network | None:
        """The network as it is now: our address in it may be another. A device of one that is gone is not asked for."""
        network = self._house.networks.get(wanted.network)
        return network if network is not None and network.state in (NetworkState.UP, NetworkState.SILENT) else None

    async def _ask_dns(self, queue: NameQueue, effort: Effort) -> None:
        while True:
            for (wanted,) in await queue.get():
                if "dns" not in self._house.lacks(wanted.mac) or not self._network(wanted):
                    continue
                ip = self._house.name_at(wanted.mac, wanted.network, by_dns=True)
                if ip is None:
                    wait = ONCE_MORE if wanted.is_first else APART
                    self._wait(self._for_dns, monotonic() + wait, wanted._replace(is_first=False))
                elif not self._house.may_ask(wanted.network, False):  # a scan has it all just now
                    self._wait(queue, monotonic() + NO_ROOM, wanted)
                    await asyncio.sleep(DNS_APART)
                else:
                    await self._ask_a_server(wanted, ip, effort)
                    await asyncio.sleep(DNS_APART)

    async def _ask_a_server(self, wanted: Wanted, ip: Ip, effort: Effort) -> None:
        try:
            name = await self._resolver.name_of(ip, effort)
        except Unanswered as why:
            self._failed(why)
            wait = min(2 * wanted.waited or AGAIN, AGAIN_AT_LEAST)
            self._wait(self._for_dns_again, monotonic() + wait, wanted._replace(waited=wait))
            return
        self._failures = 0
        if name:
            self._house.named(wanted.mac, name, "dns", monotonic(), wanted.network, ip)
        wait = ONCE_MORE if wanted.is_first and not name else APART
        self._wait(self._for_dns, monotonic() + wait, wanted._replace(is_first=False, waited=0.0))

    def _failed(self, why: Unanswered) -> None:
        self._failures += 1
        if self._failures >= FAILURES and monotonic() - self._reported_at >= REPORTED_APART:
            self._reported_at = monotonic()
            log.info("no name server answers for some addresses (%s): asking on, less often", why)

    async def _ask_mdns(self) -> None:
        while True:
            asked = False
            for together in await self._for_mdns.get(max(TOGETHER.values())):
                fitting: list[tuple[Wanted, Ip]] = []
                for wanted in together:
                    ip = self._house.name_at(wanted.mac, wanted.network, by_dns=False)
                    if ip is None or "mdns" not in self._house.lacks(wanted.mac):
                        self._then_nbns(wanted, 0.0)
                    elif len(fitting) < TOGETHER[len(ip)] and all(len(other) == len(ip) for _, other in fitting):
                        fitting.append((wanted, ip))
                    else:
                        self._wait(self._for_mdns, monotonic(), wanted)
                if fitting:
                    asked = True
                    self._ask_together(fitting)
            if asked:
                await asyncio.sleep(MDNS_APART)

    def _ask_together(self, together: list[tuple[Wanted, Ip]]) -> None:
        network = self._network(together[0][0])
        if network is None:
            return
        if not self._house.may_ask(network.id, True):
            for wanted, _ in together:
                self._wait(self._for_mdns, monotonic() + NO_ROOM, wanted)
            return
        try:
            self._questions.by_mdns(network, [(wanted.mac, ip) for wanted, ip in together])
        except OSError as refused:
            log.debug("cannot ask for names on %s: %s", network.id, refused)
        for wanted, _ in together:
            self._then_nbns(wanted, WAIT)

    def _then_nbns(self, wanted: Wanted, wait: float) -> None:
        self._wait(self._for_nbns, monotonic() + wait, wanted)

    async def _ask_nbns(self) -> None:
        while True:
            asked = False
            for (wanted,) in await self._for_nbns.get():
                network = self._network(wanted)
                if network is None:
                    continue
                ip = self._house.name_at(wanted.mac, network.id, by_dns=False)
                if ip is not None and len(ip) == 4 and "nbns" in self._house.lacks(wanted.mac):
                    asked = True
                    if not self._house.may_ask(network.id, False):
                        self._wait(self._for_nbns, monotonic() + NO_ROOM, wanted)
                        continue
                    try:
                        self._questions.by_nbns(network, wanted.mac, ip)
                    except OSError as refused:
                        log.debug("cannot ask for names on %s: %s", network.id, refused)
                self._once_more(wanted)
            if asked:
                await asyncio.sleep(NBNS_APART)

    def _once_more(self, wanted: Wanted) -> None:
        if wanted.is_first and any(source in self._house.lacks(wanted.mac) for source in ("mdns", "nbns")):
            self._wait(self._for_mdns, monotonic() + ONCE_MORE, wanted._replace(is_first=False))
