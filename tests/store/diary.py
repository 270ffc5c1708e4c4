"""A history in a folder of a test, driven as the engine drives it, and killed by copying what is on the disk."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from netscand import config, protocol
from netscand.core.model import Address, Device, Event, EventKind, Evidence, Ip, Mac, Status, StoredTime
from netscand.core.presence import Presence, Rules
from netscand.core.restore import EventQuery, Memory, Page
from netscand.serve.encode import Encoder, decoded, remembered_by
from netscand.store.history import History

BOOT = 1_700_000_000.0
"""Wall time when the monotonic clock was 0, in these tests."""

LAN = "10.0.0.0/24@eth0"


class FakeClock:
    """The clocks of an encoder, without drift."""

    def __init__(self, boot: float = BOOT) -> None:
        self.boot = boot

    def sync(self) -> None:
        pass

    def milliseconds(self, at: float) -> int:
        return int((at.unix if isinstance(at, StoredTime) else at + self.boot) * 1000)

    def encode(self, event: Event) -> bytes:
        return Encoder(lambda: self.boot, lambda of: None, lambda: 1.0).event(event)


def mac(number: int) -> Mac:
    return Mac(b"\xa4\x83" + number.to_bytes(4, "big"))


def device(number: int, at: float = 100.0, ip: str = "") -> Device:
    made = Device(mac(number), at, at, Presence(at, Rules()), status_since=at, reason="answered an ARP request")
    made.addresses = [Address(Ip(bytes([10, 0, 0, number & 255])), LAN, "eth0", Evidence.ARP_REPLY, at, at)]
    return made


def discovered(of: Device, at: float = 100.0) -> Event:
    return Event(
        EventKind.DISCOVERED, at, LAN, of, of.ip, None, Evidence.ARP_REPLY, "answered an ARP request", None, at
    )


def turned(of: Device, status: Status, at: float, reason: str | None = None) -> Event:
    """Change the status of a device, as the inventory does it; return the event."""
    previous = {"status": of.status, "status_since": of.status_since, "reason": of.reason}
    silent = f"3 probes and 1 request unanswered, silent for {at - of.last_seen:.1f} s"
    reason = reason or ("announced its address" if status is Status.ONLINE else silent)
    of.status, of.status_since, of.reason = status, at, reason
    kind = EventKind.ONLINE if status is Status.ONLINE else EventKind.OFFLINE
    seen_at = at if status is Status.ONLINE else None
    if seen_at:
        of.last_seen = seen_at
    evidence = Evidence.ARP_ANNOUNCEMENT if seen_at else None
    return Event(kind, at, LAN, of, of.ip, None, evidence, reason, previous, seen_at)


class Diary:
    """An open history."""

    def __init__(
        self,
        history: History,
        memory: Memory,
        clock: FakeClock,
        published: list[str],
        devices: dict[Mac, Device],
        forgotten: list[Mac],
        removed: list[int],
    ) -> None:
        self.history = history
        self.clock = clock
        self.removed = removed
        """Numbers of events that were removed by size, as reported."""
        self.forgotten = forgotten
        self.devices = devices
        self.memory = memory
        self.published = published
        """Cursors that may be published, as reported: each stands for all events before it."""
        self._first = max(history._sequence, history._skip) + 1

    def append(self, event: Event) -> str:
        return self.history.append(event, self.clock.encode(event))

    async def until_published(self, cursor: str) -> None:
        number = int(cursor.rpartition("-")[2])
        async with asyncio.timeout(30):
            while not self.published or int(self.published[-1].rpartition("-")[2]) < number:
                await asyncio.sleep(0.001)

    async def write(self, *events: Event) -> str:
        """Append these; return when the last may be published."""
        cursor = ""
        for event in events:
            if event.device and event.kind is not EventKind.FORGOTTEN:
                self.devices[event.device.mac] = event.device
            cursor = self.append(event)
        await self.until_published(cursor)
        return cursor

    def all_published(self) -> list[str]:
        """Return the cursor of every event that may be published."""
        first, last = self._first, int(self.published[-1].rpartition("-")[2]) if self.published else 0
        return [self.history.cursor_of(number) for number in range(first, last + 1)]

    async def page(self, **query: Any) -> Page:  # noqa: ANN401
        await self.history.settled()
        through = self.history.sequence_of(self.history.cursor)
        return await self.history.events(EventQuery(**{"through": through, **query}))

    async def events(self, **query: Any) -> list[protocol.Event]:  # noqa: ANN401
        return [decoded(body) for _, body in (await self.page(**query)).events]

    def killed(self, into: Path) -> Path:
        """Copy what kill -9 would leave at this moment: the files as they are in the page cache."""
        into.mkdir()
        path = self.history.path
        for end in ("", "-wal"):
            if Path(f"{path}{end}").exists():
                shutil.copyfile(f"{path}{end}", into / f"{path.name}{end}")
        return into / path.name


@asynccontextmanager
async def diary(
    path: Path,
    clock: FakeClock | None = None,
    **settings: Any,  # noqa: ANN401
) -> AsyncIterator[Diary]:
    """Open a history, and close it as a daemon that stops does."""
    published: list[str] = []
    devices: dict[Mac, Device] = {}
    forgotten: list[Mac] = []
    removed: list[int] = []
    clock = clock or FakeClock()
    kept = config.History(path=str(path), **settings)
    history = History(kept, devices, clock, remembered_by, published.append, forgotten.append, removed.append)
    memory = history.open()
    try:
        yield Diary(history, memory, clock, published, devices, forgotten, removed)
    finally:
        await history.close()


def sequences(page: Page) -> Sequence[int]:
    return [number for number, _ in page.events]
