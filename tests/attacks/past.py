"""A history as a hostile host leaves it: made-up devices that were renamed again and again, for days."""

import asyncio
import time
from pathlib import Path

from netscand.core.model import Event, EventKind
from tests.store.diary import FakeClock, device, diary, discovered

RENAMED = 240
"""Devices, each of them renamed in every round."""


def write_past(path: Path, rounds: int) -> int:
    """Write the history of `rounds` renamings of `RENAMED` devices into `path`; the number of events."""

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
