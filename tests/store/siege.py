"""A household's history, and one host that makes events at will (ATTACKED H2), as rows, in simulated time."""

import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from netscand.core.model import EventKind
from netscand.store.database import insert, open_database, transaction
from netscand.store.maintenance import CHECKPOINT_AFTER
from netscand.store.retention import Retention
from netscand.store.rows import EVENT_COLUMNS, KINDS, Row, pack

BEGIN = 1_700_000_000_000
"""When the household's history begins, unix milliseconds."""

DAY = 86_400_000

HOUSEHOLD, STRANGERS = 1 << 40, 2 << 40
"""MACs from these on, as numbers."""

PRESENT = 4_096
"""Devices of the attacker at a time: core/limits.py admits no more that never answered."""

PLAIN = 150
"""Bytes of an event that changes nothing but the status."""


class Siege:
    """A history on a disk; `household`, then attacks, with what the writer does meanwhile."""

    def __init__(self, path: Path, most: float, days: float = 90.0) -> None:
        path.touch()
        self.database: sqlite3.Connection = open_database(path)
        weakref.finalize(self, self.database.close)
        self.trim = Retention(self._stay)
        self.most = most
        self.keep = days * DAY
        self.now = BEGIN
        self.sequence = 0
        self.meanwhile: Callable[[], object] = lambda: None
        """What happens between two turns."""
        self.pieces: list[float] = []
        """Seconds that each turn of removal took."""
        self.log = 0
        """Bytes that the log took at most."""
        self._wal = Path(f"{path}-wal")
        self._written = 0
        self._chance = Random(2)
        self._bodies: dict[int, bytes] = {}
        self.waiting: list[Row] = []
        self._strangers: dict[int, int] = {}
        """Who is there: MAC and first seen."""

    def event(self, kind: EventKind, mac: int | None, size: int = 0) -> int:
        """Add an event, now."""
        self.sequence += 1
        was = (None, None) if kind is EventKind.DISCOVERED else (1, 3_600_000)
        body = self._bodies.get(size) or self._bodies.setdefault(size, pack(self._chance.randbytes(PLAIN + size)))
        values = (self.sequence, self.now, KINDS[kind], mac, *was, 1, None, body)
        assert len(values) == len(EVENT_COLUMNS)
        self.waiting.append(values)
        if len(self.waiting) >= 2_000:
            self.write()
        return self.sequence

    def write(self, *, trim: bool = True) -> None:
        """Do what the writer does with a batch, and its removal after it."""
        with transaction(self.database):
            insert(self.database, "event", EVENT_COLUMNS, self.waiting)
        self._checkpoint(1 + len(self.waiting) // 32)
        self.waiting = []
        turns = 0
        while trim and self._turn():
            self.meanwhile()
            turns += 1
            assert turns < 20_000, "there is no end to it"

    def _stay(self, mac: int) -> float:
        if mac < STRANGERS:
            return 90 * 86_400.0
        first = self._strangers.get(mac)
        return -1.0 if first is None else (self.now - first) / 1000

    def _turn(self) -> int:
        began = time.perf_counter()
        worth = self.trim.turn(self.database, self.now, self.keep, self.most)
        self.pieces.append(time.perf_counter() - began)
        self._checkpoint(worth)
        return worth

    def _checkpoint(self, worth: int) -> None:
        """Do what maintenance does in its thread."""
        self._written += worth
        if self._written >= CHECKPOINT_AFTER:
            self._written = 0
            self.log = max(self.log, self._wal.stat().st_size)
            self.database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def household(self, devices: int, events_a_day: int, days: float) -> list[int]:
        """Write devices that come and go; return the numbers of their events."""
        count = int(devices * events_a_day * days)
        numbers = []
        for number in range(count):
            self.now = BEGIN + int(days * DAY * number / count)
            kind = (EventKind.ONLINE, EventKind.OFFLINE)[number // devices % 2]
            numbers.append(self.event(kind, HOUSEHOLD + number % devices, 150 if number % 20 == 0 else 0))
        self.write()
        return numbers

    def answering(self, hosts: int, rate: float, seconds: float) -> Iterator[None]:
        """Write made-up MACs that answered, and take address after address."""
        for number in range(hosts):
            self._strangers[STRANGERS + number] = self.now
        begin = self.now
        for number in range(int(rate * seconds)):
            self.now = begin + int(number / rate * 1000)
            self.event(EventKind.ADDRESS_ADDED, STRANGERS + number % hosts, 330)
            yield
        self.write()

    def passing(self, rate: float, seconds: float) -> Iterator[None]:
        """Write new MACs: each is discovered, renamed, offline, and forgotten when newer ones need the room."""
        begin = self.now
        queue = [mac for mac in self._strangers if mac >= STRANGERS]
        for number in range(int(rate * seconds / 4)):
            self.now = begin + int(number * 4 / rate * 1000)
            mac = STRANGERS + (1 << 20) + number
            self._strangers[mac] = self.now
            queue.append(mac)
            for kind, size in (
                (EventKind.DISCOVERED, 0), (EventKind.RENAMED, 90), (EventKind.OFFLINE, 0),
            ):  # fmt: skip
                self.event(kind, mac, size)
            if len(queue) > PRESENT:
                gone = queue.pop(0)
                del self._strangers[gone]
                self.event(EventKind.FORGOTTEN, gone, 140)
            yield
        self.write()

    def kept(self) -> set[int]:
        """Return the numbers of all events."""
        return {number for (number,) in self.database.execute("SELECT sequence FROM event")}

    def size(self) -> int:
        """Return the bytes of pages in use."""
        (pages,) = self.database.execute("PRAGMA page_count").fetchone()
        (free,) = self.database.execute("PRAGMA freelist_count").fetchone()
        return int((pages - free) * 4096)
