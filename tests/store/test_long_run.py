"""FAULTS F16: days of a household's life, in simulated time, through the core and into a history on a disk."""

import asyncio
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest

from netscand.core import disputes
from netscand.core.model import Event, Evidence, Mac, NetworkState, Observation
from netscand.core.presence import Rules
from netscand.store import devices, maintenance, writer
from tests.core.world import World, ip, mac, network
from tests.store.diary import Diary, FakeClock, diary

pytestmark = pytest.mark.slow

KEEP = 2.0
"""Days."""

SETTLED = 3
"""Days after which there is as much as is ever kept."""

A_DEVICE = 20
"""Blocks of memory, roughly: there are more guests on one day than on another."""

RESIDENTS = [(mac(number), f"10.0.0.{9 + number}") for number in range(1, 13)]
GUESTS_A_DAY = 40


class Household(World):
    """Residents come and go, guests come with new MACs, the link fails, users annotate devices."""

    def __init__(self, book: Diary) -> None:
        self.book = book
        self.chance = Random(16)
        self.guests = 0
        super().__init__(networks=[network("10.0.0.0/26", interval=900.0)], rules=Rules(60, 60, 1200))

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self.book.append(event)

    def say(self, sender: Mac, at: str, evidence: Evidence, name: str | None = None) -> None:
        source = "dhcp" if name else None
        self._hear(Observation(self.now, 2, sender, ip(at), evidence, joining=True, name=name, name_source=source))

    def hour(self) -> None:
        for _ in range(6):
            for resident, at in RESIDENTS:
                if self.chance.random() < 0.1:
                    self.move(resident, at, f"resident {self.chance.randrange(3)}")
            if self.chance.random() < GUESTS_A_DAY / 144:
                self.guests += 1
                self.move(mac(1000 + self.guests), f"10.0.0.{30 + self.guests % 30}", f"guest {self.guests}")
            if self.chance.random() < 0.02:
                self.set_networks([network("10.0.0.0/26", interval=900.0, state=NetworkState.DOWN)])
                self.run(20)
                self.set_networks([network("10.0.0.0/26", interval=900.0)])
            if self.chance.random() < 0.05:
                changes = {"label": f"label {self.chance.randrange(5)}"}
                self._tell(self.inventory.label(self.chance.choice(RESIDENTS)[0], changes, self.now))
            self.run(600)
        self.frames.clear()
        self.news.clear()
        self.book.published.clear()

    def move(self, who: Mac, at: str, name: str) -> None:
        """Leave, or come back, sometimes at the address of another device."""
        if self.hosts.pop((2, ip(at)), None) != who:
            self.hosts[2, ip(at)] = who
            self.say(who, at, Evidence.DHCP, name)
            self.say(who, at, Evidence.ARP_ANNOUNCEMENT)

    def forget(self, who: Mac) -> None:
        self._tell([self.inventory.forget(who, self.now, "not seen for long")])


def live(days: int, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(writer, "TRIM_EVERY", 0.05)
    monkeypatch.setattr(maintenance, "SYNC_EVERY", 0.1)
    monkeypatch.setattr(maintenance, "TURN", 0.05)
    monkeypatch.setattr(
        disputes, "MOST_REPORTED", 16
    )  # a table that is full after months has its bound, but would grow meanwhile
    grown: list[tuple[int, int, int]] = []  # blocks of memory beside the devices', descriptors, threads

    async def play() -> None:
        async with diary(path, FakeClock(time.time() - 1000.0), keep_days=KEEP, max_mib=1) as book:
            world = Household(book)
            monkeypatch.setattr(devices, "monotonic", lambda: world.now)
            keeping = book.history._device_rows
            keeping._devices, keeping._forget = world.inventory.devices, world.forget
            for who, at in RESIDENTS:
                world.move(who, at, "resident")
            for _ in range(days):
                for _ in range(24):
                    world.hour()
                    await keeping.show()
                    await keeping._round()
                    await book.history.settled()
                assert len(world.inventory.devices) <= 1 + len(RESIDENTS) + 2 * GUESTS_A_DAY * (KEEP + 1)
                assert path.stat().st_size < 2 * 2**20
                gc.collect()
                blocks = sys.getallocatedblocks() - A_DEVICE * len(world.inventory.devices)
                grown.append((blocks, len(os.listdir("/proc/self/fd")), threading.active_count()))
            assert world.guests > GUESTS_A_DAY * days / 2
            assert book.history.problems() == ()

    caplog.set_level(logging.WARNING)
    asyncio.run(play())
    assert not caplog.records
    (settled, files, threads), *later = grown[SETTLED:]
    print(f"{days} days, {grown[SETTLED]} to {later[-1]}")
    # Of some 60 bytes; less than one for each guest of 90 days. A day may end with a batch in work, not the next too.
    assert min(blocks for blocks, _, _ in later[-2:]) < settled + 2000 + 20 * days
    assert min(files for _, files, _ in later[-2:]) <= files + 1  # maintenance may be syncing at the end of a day
    assert {threads for _, _, threads in later} == {threads}


def test_days_leave_memory_and_descriptors_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once as much is stored as is kept, nothing grows, and nothing is logged."""
    live(8, tmp_path / "h.db", monkeypatch, caplog)


@pytest.mark.long
def test_90_days_leave_memory_and_descriptors_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    live(90, tmp_path / "h.db", monkeypatch, caplog)
