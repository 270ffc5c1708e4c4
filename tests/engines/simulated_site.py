"""A site whose devices and events are a list, published by netscand-uplink's own code, with its headers and pace."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec

from netscanctl.client import find_daemon
from netscanctl.services.program import Context
from netscanctl.services.report import Report
from netscanctl.services.uplink.sender import Sender
from netscanctl.services.uplink.service import UplinkService
from netscanctl.services.uplink.settings import Uplink
from netscanctl.stream import Received
from netscand import protocol
from netscand.protocol import Device, Event
from tests.ctl.messages import AT, LATER, device, network

KEPT = 100_000
"""Events that a site keeps."""


class SimulatedSite(UplinkService):
    """One site; `happen` lets something happen, and a new `epoch` stands for a history that was lost."""

    def __init__(self, url: str, name: str, seed: str, folder: Path, devices: int = 3, **keys: Any) -> None:  # noqa: ANN401
        (secret := folder / f"{name}.key").write_text(seed)
        table = msgspec.convert(
            {"server": url, "site": name, "key_file": str(secret), "instance": f"of-{name}", "spread": 0.2,
             "rate": 100_000, **keys},
            Uplink,
        )  # fmt: skip
        super().__init__(table, Context(find_daemon(str(folder / "none"), None, None), _report(name), None))
        self.name = name
        self.epoch = "k3f9"
        self.devices: dict[str, Device] = {each.mac: each for each in map(device, range(1, devices + 1))}
        self.networks = [network()]
        self.events: list[Event] = []
        self.number = 1
        self.scans: list[list[str]] = []
        self._happened = asyncio.Condition()

    @property
    def cursor(self) -> str:
        """Cursor of the last event."""
        return f"{self.epoch}-{self.number}"

    async def happen(self, count: int = 1) -> list[str]:
        """Let devices come and go, in turn; return the cursors."""
        macs = sorted(self.devices)
        return [await self.change(macs[self.number % len(macs)]) for _ in range(count)]

    async def change(self, mac: str, kind: str = "", **fields: Any) -> str:  # noqa: ANN401
        """Let the status of a device change, or these fields; return the cursor."""
        before = self.devices[mac]
        now = "offline" if before.status == "online" else "online"
        fields = fields or {"status": now, "status_since": LATER, "reason": f"turned {now}"}
        previous = {name: getattr(before, name) for name in fields}
        changed = self.devices[mac] = msgspec.structs.replace(before, **fields)
        return await self.add(kind or changed.status, device=changed, previous=previous, reason=changed.reason)

    async def add(self, kind: str, **fields: Any) -> str:  # noqa: ANN401
        """Add any event; return its cursor."""
        async with self._happened:
            self.number += 1
            self.events.append(Event(cursor=self.cursor, kind=kind, at=LATER, **fields))
            del self.events[:-KEPT]
            self._happened.notify_all()
            return self.cursor

    async def forget(self, mac: str) -> str:
        """Remove a device."""
        return await self.add("forgotten", device=self.devices.pop(mac))

    def lose_history(self, epoch: str) -> None:
        """Begin another history, as after a restore; the next connection publishes a snapshot."""
        self.epoch, self.number, self.events = epoch, 1, []

    async def _stream(self, sender: Sender, since: str | None) -> AsyncGenerator[Received]:
        """Yield what the daemon would send behind a cursor."""
        epoch, _, number = (since or "").rpartition("-")
        if epoch != self.epoch:
            epoch, number = self.epoch, str(self.number)
            yield _received(protocol.InitialState(
                protocol=protocol.PROTOCOL, version="0.1.0", cursor=self.cursor, interval=30, scanning=False,
                last_scan=AT, role="read", networks=self.networks, devices=list(self.devices.values()),
            ))  # fmt: skip
        else:
            yield _received(protocol.Resumed(
                cursor=since or "", version="0.1.0", protocol=protocol.PROTOCOL, interval=30, scanning=False,
                role="read", networks=self.networks,
            ))  # fmt: skip
        reached = int(number)
        while self.epoch == epoch:
            async with self._happened:
                while self.number <= reached:
                    await self._happened.wait()
            for event in [each for each in self.events if _number(each) > reached]:
                reached = _number(event)
                yield _received(event)


def _number(event: Event) -> int:
    return int(event.cursor.rpartition("-")[2])


def _received(message: protocol.Message) -> Received:
    return Received(protocol.encode(message), message)  # type: ignore[arg-type]


def _report(name: str) -> Report:
    return Report("uplink", name, lambda state: None)
