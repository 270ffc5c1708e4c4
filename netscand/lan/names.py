"""Names that have to be asked for: reverse DNS, mDNS, NBNS. Never in the way of anything, and seldom.

What devices say by themselves is heard by the wire. Here, whoever has no name, or a less trusted one, is asked for:
DNS is asked at once; the LAN is asked for one device after the other. All questions are within the budget of scans.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Container
from heapq import heappop, heappush
from time import monotonic
from typing import NamedTuple

from netscand.core.model import Ip, Mac, Network
from netscand.lan import asking
from netscand.lan.heard.hosts import is_link_local
from netscand.lan.resolver import Resolver, Unanswered

AT_ONCE = 4
"""Questions to DNS on their way."""

DNS_APART = 0.05
"""Seconds between two questions of one of those: 80 a second in all, at most."""

LAN_APART = 1.0
"""Seconds between two questions on the LAN."""

SETTLE = 1.0
"""Seconds before a device is asked for: it has just come, and its name may follow by itself, or reach DNS."""

ONCE_MORE = 30.0
"""Seconds after which one whose name nobody knew is asked for again, once."""

APART = 3600.0
"""Seconds between two rounds of questions for a device at an address."""

REST = 60.0
FAILURES = 3
"""So many times in a row no resolver answered: DNS is left alone for a while."""

MOST_WAITING, MOST_REMEMBERED = 4_096, 16_384
"""Devices that wait to be asked for; those whose last round is remembered."""

log = logging.getLogger(__name__)


class Wish(NamedTuple):
    """Somebody to ask for."""

    mac: Mac
    ip: Ip
    network: Network
    is_first: bool = True


class _Queue:
    """Wishes, by the time they are due; full, it takes no more, and half full, no repeated ones."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Wish]] = []
        self._count = 0
        self._changed = asyncio.Event()

    @property
    def full(self) -> bool:
        return len(self._heap) >= MOST_WAITING

    def put(self, due: float, wish: Wish) -> None:
        if len(self._heap) < (MOST_WAITING if wish.is_first else MOST_WAITING // 2):
            self._count += 1
            heappush(self._heap, (due, self._count, wish))
            self._changed.set()

    async def get(self) -> Wish:
        while True:
            wait = self._heap[0][0] - monotonic() if self._heap else None
            if wait is not None and wait <= 0:
                return heappop(self._heap)[2]
            self._changed.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue


class Names:
    """Tells `named` (MAC, name, source, monotonic time) what it finds out.

    `lacks` is asked which sources a device could still get a better name from, and `may_ask`, before each question,
    whether the budget of that network has room for one more frame, to all (True) or to a name server.
    """

    def __init__(
        self,
        named: Callable[[Mac, str, str, float], None],
        lacks: Callable[[Mac], Container[str]],
        may_ask: Callable[[str, bool], bool],
        resolver: Resolver | None = None,
    ) -> None:
        self._named = named
        self._lacks = lacks
        self._may_ask = may_ask
        self._resolver = resolver or Resolver()
        self._for_dns, self._for_lan = _Queue(), _Queue()
        self._next_round: OrderedDict[tuple[Mac, Ip], float] = OrderedDict()
        self._failures = 0

    @property
    def full(self) -> bool:
        """So many wait that a wish would be forgotten: let the device be told of when it is heard anew."""
        return self._for_dns.full and self._for_lan.full

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
        wish = Wish(mac, ip, network)
        if not is_link_local(ip):
            self._for_dns.put(now + SETTLE, wish)
        self._for_lan.put(now + SETTLE, wish)

    async def run(self) -> None:
        """Ask, until cancelled. What `named` raises ends this."""
        async with asyncio.TaskGroup() as askers:
            for _ in range(AT_ONCE):
                askers.create_task(self._ask_dns())
            askers.create_task(self._ask_lan())

    async def _ask_dns(self) -> None:
        while True:
            wish = await self._for_dns.get()
            if "dns" not in self._lacks(wish.mac):
                continue
            if not self._may_ask(wish.network.id, False):  # a scan has it all just now
                self._for_dns.put(monotonic() + LAN_APART, wish)
                await asyncio.sleep(DNS_APART)
                continue
            try:
                name = await self._resolver.name_of(wish.ip)
            except Unanswered as why:
                self._failures += 1
                if self._failures == FAILURES:
                    log.info("no name server answers (%s): going on without", why)
                self._for_dns.put(monotonic() + REST, wish)
                await asyncio.sleep(REST if self._failures >= FAILURES else DNS_APART)
                continue
            self._failures = 0
            if name:
                self._named(wish.mac, name, "dns", monotonic())
            wait = ONCE_MORE if wish.is_first and not name else APART
            self._for_dns.put(monotonic() + wait, wish._replace(is_first=False))
            await asyncio.sleep(DNS_APART)

    async def _ask_lan(self) -> None:
        while True:
            wish = await self._for_lan.get()
            # By NBNS one is asked; but the kernel may have to ask all for its MAC.
            if await self._ask("mdns", asking.by_mdns, wish) or await self._ask("nbns", asking.by_nbns, wish):
                continue
            if wish.is_first and any(source in self._lacks(wish.mac) for source in ("mdns", "nbns")):
                self._for_lan.put(monotonic() + ONCE_MORE, wish._replace(is_first=False))

    async def _ask(self, source: str, ask: Callable[[Network, Ip], Awaitable[str | None]], wish: Wish) -> bool:
        """Whether there was an answer."""
        if source not in self._lacks(wish.mac):
            return False
        if not self._may_ask(wish.network.id, True):
            await asyncio.sleep(LAN_APART)
            return False
        began = monotonic()
        try:
            name = await ask(wish.network, wish.ip)
        except OSError as refused:
            log.debug("cannot ask for names on %s: %s", wish.network.id, refused)
            name = None
        if name:
            self._named(wish.mac, name, source, monotonic())
        await asyncio.sleep(max(0.0, began + LAN_APART - monotonic()))
        return name is not None
