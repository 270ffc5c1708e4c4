"""A server over a real history, with a small scanner whose events are stored."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from netscand import config
from netscand.core.model import Device, Event, Mac
from netscand.core.people import People
from netscand.serve.encode import Encoder, remembered_by
from netscand.serve.hub import Hub
from netscand.serve.server import Server
from netscand.store.history import History
from tests.serve.house import FakeScanner, House, allowed


class Kept(FakeScanner):
    """Numbers events as the engine does: history first, then the hub."""

    def __init__(self, hub: Hub, history: History, devices: dict[Mac, Device]) -> None:
        self.history = history
        super().__init__(hub, devices=0)
        self.devices, self.people = devices, People(devices)

    @property
    def cursor(self) -> str:
        return self.history.cursor

    def publish(self, event: Event) -> str:
        body = self.hub._encoder.event(event)
        cursor = self.history.append(event, body)
        self.hub.publish(cursor, event, body)
        for more in self.people.after(event):
            self.publish(more)
        return cursor

    def problems(self) -> tuple[str, ...]:
        return self.history.problems()


@asynccontextmanager
async def kept_house(path: Path, **access: Any) -> AsyncIterator[tuple[House, Kept]]:  # noqa: ANN401
    """The server on `path`/s, its history `path`/h.db."""
    boot = time.time() - time.monotonic()  # the real one: old events are removed
    translator = Encoder(lambda: boot, lambda _: "Apple, Inc.")
    hub = Hub(translator)
    hub.holds = True
    devices: dict[Mac, Device] = {}
    kept = config.History(path=str(path / "h.db"))
    history = History(kept, devices, translator, remembered_by, hub.release, lambda mac: None)
    scanner = Kept(hub, history, devices)
    listen = config.Listen(unix=str(path / "s"), tcp=("127.0.0.1:0",))
    server = Server(scanner, hub, listen, allowed(**access), translator, (), history)
    history.open()
    await server.open()
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(server.run())
            await asyncio.sleep(0)
            yield House(server, scanner, path / "s"), scanner
            running.cancel()
    finally:
        await server.close()
        await history.close()
