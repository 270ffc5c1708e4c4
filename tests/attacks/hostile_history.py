"""Histories as hostile hosts leave them.

A day of two of them in simulated time, through the core and into a history on a disk (FAULTS T23).

They make up devices that answer every request for them, and let each frame be one that was worth an event: a newcomer,
one more address, another name, a move, a claim to what another holds, somebody who leaves.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from random import Random

from netscand.core.model import Event, EventKind, Evidence, Ip, Mac, Observation, Status
from netscand.core.presence import Rules
from tests.core.world import World, check_counts, ip, mac, network
from tests.store.diary import Diary, FakeClock, device, diary, discovered, turned

DAY, HOUR = 86_400.0, 3600.0
DAYS = 88
"""Of the household's life before."""

BEGIN = 1000.0
"""Monotonic seconds at which the attack begins."""

MADE_UP = 0x100_000
"""Numbers of the MACs from here on are the attacker's."""

MOST = 1000
"""Made-up devices that are there at once."""


def clock(hours: float) -> FakeClock:
    """Wall time at which an attack of so many hours has just ended."""
    return FakeClock(time.time() - BEGIN - hours * HOUR)


async def live(book: Diary, residents: int) -> int:
    """Write 88 days of a household, `residents` devices that come and go five times a day; the number of events."""
    made = [device(number, BEGIN - DAYS * DAY) for number in range(residents)]
    await book.write(*(discovered(each, BEGIN - DAYS * DAY) for each in made))
    events = 0
    for day in range(DAYS):
        began = BEGIN - (DAYS - day) * DAY + 600
        for time_of_day in range(5):
            for status in (Status.OFFLINE, Status.ONLINE):
                at = began + time_of_day * 4 * HOUR + (1 if status is Status.ONLINE else 0) * HOUR
                await book.write(*(turned(each, status, at) for each in made))
                events += residents
    return events


class HostileHosts(World):
    """Two hosts that make `rate` frames a second each."""

    def __init__(self, book: Diary, rate: float) -> None:
        self.book = book
        self.rate = rate
        self.chance = Random(11)
        self.made: list[Mac] = []
        self.at: dict[Mac, str] = {}
        self.count = 0
        self.published: Counter[EventKind] = Counter()
        super().__init__(networks=[network("10.0.0.0/20", gateway="10.0.0.1")], rules=Rules(10, 60, 600))

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self.planner.on_event(event)
            self.published[event.kind] += 1
            self.book.append(event)

    def minute(self) -> None:
        """Sixty seconds of it."""
        for _ in range(60):
            for _ in range(int(2 * self.rate)):
                self._one()
            self.run_unchecked(1.0)
        check_counts(self.inventory)
        self.frames.clear()
        self.news.clear()

    def _one(self) -> None:
        self.count += 1
        kind = self.count % 8
        who = self.chance.choice(self.made) if self.made else None
        if who is None or kind == 0:
            self._newcomer()
        elif kind in (1, 2, 3):  # an address more: what made 215 events a second
            self._say(who, Ip(b"\xfe\x80" + self.chance.randbytes(14)), Evidence.NDP)
        elif kind == 4:
            self._say(who, ip(self.at[who]), Evidence.MDNS, f"name-{self.count}")
        elif kind == 5:
            self.hosts.pop((2, ip(self.at[who])), None)
            self._settle(who)
        elif kind == 6:
            self._say(who, ip(self.at[self.chance.choice(self.made)]), Evidence.ARP_ANNOUNCEMENT)
        else:
            self.hosts.pop((2, ip(self.at[who])), None)

    def _newcomer(self) -> None:
        who = mac(MADE_UP + self.count)
        self.made.append(who)
        if len(self.made) > MOST:
            gone = self.made.pop(0)
            self.hosts.pop((2, ip(self.at.pop(gone))), None)
        self._settle(who)

    def _settle(self, who: Mac) -> None:
        self.at[who] = f"10.0.{self.chance.randrange(1, 15)}.{self.chance.randrange(1, 255)}"
        self.hosts[2, ip(self.at[who])] = who
        self._say(who, ip(self.at[who]), Evidence.ARP_ANNOUNCEMENT)

    def _say(self, who: Mac, at: Ip, evidence: Evidence, name: str | None = None) -> None:
        joining = evidence is Evidence.ARP_ANNOUNCEMENT
        source = "mdns" if name else None
        self._hear(Observation(self.now, 2, who, at, evidence, joining=joining, name=name, name_source=source))


RENAMED = 240
"""Devices, each of them renamed in every round."""


def write_past(path: Path, rounds: int) -> int:
    """Write the history of `rounds` renamings of `RENAMED` made-up devices into `path`; the number of events."""

    async def write() -> None:
        now = time.monotonic()
        began = now - 6 * 86_400
        async with diary(path, FakeClock(time.time() - now)) as book:
            made = [device(number, began) for number in range(RENAMED)]
            await book.write(*(discovered(each, began) for each in made))
            for turn in range(rounds):
                at = began + 60 * turn
                events = []
                for number, each in enumerate(made):
                    before = {"hostname": each.hostname, "hostname_source": each.hostname_source}
                    each.hostname, each.hostname_source = f"name-{turn % 7}-{number}", "mdns"
                    renamed = Event(EventKind.RENAMED, at, None, each, reason="named by mdns", previous=before)
                    events.append(renamed._replace(seen_at=at))
                await book.write(*events)

    asyncio.run(write())
    return RENAMED * (rounds + 1)
