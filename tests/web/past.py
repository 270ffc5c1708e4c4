"""Four weeks of events for pictures: what a netscand that has run for long has in its history."""

import asyncio
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from random import Random

from netscand.core.model import Address, Device, Evidence, Ip, Mac, Status
from netscand.core.presence import Presence, Rules
from tests.store.diary import FakeClock, diary, discovered, turned

DAYS = 26
WORKDAY, WEEKEND = ((7.2, 8.4), (17.5, 23.1)), ((9.5, 23.1),)
"""Hours of a day at which a laptop is at home."""


def device(mac: str, ip: str, network: str, at: float) -> Device:
    """Return a device that is first seen at `at`."""
    made = Device(Mac(bytes.fromhex(mac.replace(":", ""))), at, at, Presence(at, Rules()), status_since=at)
    made.reason = "answered an ARP request"
    made.addresses = [Address(Ip(IPv4Address(ip).packed), network, "eth0", Evidence.ARP_REPLY, at, at)]
    return made


def stays(chance: Random, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield when a laptop comes and goes, in local time."""
    for back in range(DAYS - 1, 0, -1):
        day = (now - timedelta(days=back)).replace(hour=0, minute=0, second=0, microsecond=0)
        for begin, end in WEEKEND if day.weekday() >= 5 else WORKDAY:
            if chance.random() < 0.9:
                comes, goes = (day + timedelta(hours=hour + chance.uniform(-0.7, 0.7)) for hour in (begin, end))
                yield comes, goes


def write_past(path: Path, laptop: str, always: Collection[str], ips: Mapping[str, str], network: str) -> None:
    """Write the history: `laptop` comes and goes, the others (MACs) have been there all the time."""
    asyncio.run(_write(path, laptop, always, ips, network))


async def _write(path: Path, laptop: str, always: Collection[str], ips: Mapping[str, str], network: str) -> None:
    boot = time.time() - time.monotonic()
    now = datetime.now().astimezone()
    start = time.monotonic() - DAYS * 86_400
    async with diary(path, FakeClock(boot)) as book:
        for mac in always:
            await book.write(discovered(device(mac, ips[mac], network, start), start))
        one = device(laptop, ips[laptop], network, start)
        await book.write(discovered(one, start))
        await book.write(turned(one, Status.OFFLINE, start + 600))
        for comes, goes in stays(Random(7), now):
            for status, at in ((Status.ONLINE, comes), (Status.OFFLINE, goes)):
                one.last_seen = at.timestamp() - boot - 13.2
                await book.write(turned(one, status, at.timestamp() - boot))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM shift")  # the clock was not wrong: all this was written in a moment
