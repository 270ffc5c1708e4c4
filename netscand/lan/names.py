"""Names that have to be asked for: reverse DNS, mDNS, NBNS. Never in the way of anything, and seldom.

What devices say by themselves is heard by the wire. Here, a device that has no name, or a less trusted one, is asked
for: a name server at once, the LAN at its own slow pace (lan/asking.py). All questions are within the budget of scans.

Made-up devices keep no other device waiting, however many there are: lan/name_queue.py.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Container
from time import monotonic

from netscand.core.model import Ip, Mac, Network
from netscand.lan.asking import TOGETHER, WAIT, Questions
from netscand.lan.heard.frames import Answer
from netscand.lan.heard.hosts import is_link_local
from netscand.lan.name_queue import NameQueue, Wanted
from netscand.lan.resolver import Resolver, Unanswered

AT_ONCE = 4
"""Questions to DNS on their way."""

DNS_APART = 0.05
"""Seconds between two questions of one of those: 80 a second in all, at most."""

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

REST = 60.0
FAILURES = 3
"""So many times in a row no resolver answered: DNS is left alone for a while."""

MOST_REMEMBERED = 16_384
"""Devices whose last round is remembered."""

log = logging.getLogger(__name__)


class Names:
    """Tells `named` (MAC, name, source, monotonic time) what it finds out.

    `lacks` gives the sources that a device could still get a better name from, and `urgency` how soon it is asked for.
    `may_ask` says, before each question, whether the budget of that network has room for one more frame, to all (True)
    or to one, and `say` sends it.
    """

    def __init__(
        self,
        named: Callable[[Mac, str, str, float], None],
        lacks: Callable[[Mac], Container[str]],
        urgency: Callable[[Mac], int],
        may_ask: Callable[[str, bool], bool],
        say: Callable[[Network, bytes], None],
        resolver: Resolver | None = None,
    ) -> None:
        self._named = named
        self._lacks = lacks
        self._may_ask = may_ask
        self._resolver = resolver or Resolver()
        self._questions = Questions(say)
        self._for_dns, self._for_mdns, self._for_nbns = NameQueue(urgency), NameQueue(urgency), NameQueue(urgency)
        self._next_round: OrderedDict[tuple[Mac, Ip], float] = OrderedDict()
        self._failures = 0

    def want(self, mac: Mac, ip: Ip, network: Network) -> None:
        """Ask for a device at that address, soon, and not if it was asked for within the hour."""
        now = monotonic()
        key = mac, ip
        if now < self._next_round.get(key, now):
            return
        self._next_round.pop(key, None)
        if len(self._next_round) >= MOST_REMEMBERED:
            self._next_round.popitem(last=False)
        self._next_round[key] = now + APART
        wanted = Wanted(mac, ip, network)
        if not is_link_local(ip):
            self._wait(self._for_dns, now + SETTLE, wanted)
        self._wait(self._for_mdns, now + SETTLE, wanted)

    def _wait(self, queue: NameQueue, due: float, wanted: Wanted) -> None:
        gone = queue.put(due, wanted)
        if gone is not None:  # it is asked for when it is next heard of
            self._next_round.pop((gone.mac, gone.ip), None)

    def answered(self, answer: Answer) -> None:
        """Take what may be an answer from the LAN. What `named` raises comes out."""
        named = self._questions.name_in(answer)
        if named is not None:
            self._named(*named, answer.sender.at)

    async def run(self) -> None:
        """Ask, until cancelled. What `named` raises ends this."""
        try:
            async with asyncio.TaskGroup() as askers:
                for _ in range(AT_ONCE):
                    askers.create_task(self._ask_dns())
                askers.create_task(self._ask_mdns())
                askers.create_task(self._ask_nbns())
        finally:
            self._questions.close()

    async def _ask_dns(self) -> None:
        while True:
            for (wanted,) in await self._for_dns.get():
                if "dns" in self._lacks(wanted.mac):
                    await self._ask_a_server(wanted)

    async def _ask_a_server(self, wanted: Wanted) -> None:
        if not self._may_ask(wanted.network.id, False):  # a scan has it all just now
            self._wait(self._for_dns, monotonic() + NO_ROOM, wanted)
            await asyncio.sleep(DNS_APART)
            return
        try:
            name = await self._resolver.name_of(wanted.ip)
        except Unanswered as why:
            self._failures += 1
            if self._failures == FAILURES:
                log.info("no name server answers (%s): going on without", why)
            self._wait(self._for_dns, monotonic() + REST, wanted)
            await asyncio.sleep(REST if self._failures >= FAILURES else DNS_APART)
            return
        self._failures = 0
        if name:
            self._named(wanted.mac, name, "dns", monotonic())
        wait = ONCE_MORE if wanted.is_first and not name else APART
        self._wait(self._for_dns, monotonic() + wait, wanted._replace(is_first=False))
        await asyncio.sleep(DNS_APART)

    async def _ask_mdns(self) -> None:
        while True:
            asked = False
            for together in await self._for_mdns.get(max(TOGETHER.values())):
                fitting: list[Wanted] = []
                for wanted in together:
                    length = len(wanted.ip)
                    if "mdns" not in self._lacks(wanted.mac):
                        self._then_nbns(wanted, 0.0)
                    elif len(fitting) < TOGETHER[length] and all(len(other.ip) == length for other in fitting):
                        fitting.append(wanted)
                    else:
                        self._wait(self._for_mdns, monotonic(), wanted)
                if fitting:
                    asked = True
                    self._ask_together(fitting)
            if asked:
                await asyncio.sleep(MDNS_APART)

    def _ask_together(self, together: list[Wanted]) -> None:
        network = together[-1].network
        if not self._may_ask(network.id, True):
            for wanted in together:
                self._wait(self._for_mdns, monotonic() + NO_ROOM, wanted)
            return
        try:
            self._questions.by_mdns(network, [(wanted.mac, wanted.ip) for wanted in together])
        except OSError as refused:
            log.debug("cannot ask for names on %s: %s", network.id, refused)
        for wanted in together:
            self._then_nbns(wanted, WAIT)

    def _then_nbns(self, wanted: Wanted, wait: float) -> None:
        if len(wanted.ip) == 4:
            self._wait(self._for_nbns, monotonic() + wait, wanted)
        else:
            self._once_more(wanted)

    async def _ask_nbns(self) -> None:
        while True:
            asked = False
            for (wanted,) in await self._for_nbns.get():
                if "nbns" in self._lacks(wanted.mac):
                    asked = True
                    if not self._may_ask(wanted.network.id, False):
                        self._wait(self._for_nbns, monotonic() + NO_ROOM, wanted)
                        continue
                    try:
                        self._questions.by_nbns(wanted.network, wanted.mac, wanted.ip)
                    except OSError as refused:
                        log.debug("cannot ask for names on %s: %s", wanted.network.id, refused)
                self._once_more(wanted)
            if asked:
                await asyncio.sleep(NBNS_APART)

    def _once_more(self, wanted: Wanted) -> None:
        if wanted.is_first and any(source in self._lacks(wanted.mac) for source in ("mdns", "nbns")):
            self._wait(self._for_mdns, monotonic() + ONCE_MORE, wanted._replace(is_first=False))
