"""What the push document describes, written small: a whole list to every client, one after another, after each scan.

Run as `python -m tests.bench.baseline INTERFACE NETWORK SOCKET`: serves `/ws` on the Unix socket, so that the same
clients can listen to it as to netscand. scapy's `srp` with timeout=3 and retry=3 in a thread, every 30 s after each,
`send_json` in turn; `scan_now` scans at once. Each `scan_update` has when its sending began (`sent_at`), and
how long its scan took (`took`).
"""

import asyncio
import sys
import time
from typing import Any

from aiohttp import WSMsgType, web

INTERVAL = 30


class ScannerState:
    """The devices as of the last scan, and who listens."""

    def __init__(self, interface: str, network: str) -> None:
        self.interface = interface
        self.network = network
        self.devices: list[dict[str, str]] = []
        self.connections: list[web.WebSocketResponse] = []
        self.lock = asyncio.Lock()

    def scan(self) -> list[dict[str, str]]:
        """In a thread: ask everybody, wait for everybody."""
        from scapy.layers.l2 import ARP, Ether
        from scapy.sendrecv import srp

        asked = Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=self.network)
        answered, _ = srp(asked, iface=self.interface, timeout=3, retry=3, verbose=0)
        return [{"ip": reply.psrc, "mac": reply.hwsrc, "status": "online"} for _, reply in answered]

    async def scan_and_tell(self) -> None:
        """One scan at a time; each client gets its result."""
        async with self.lock:
            begun = time.monotonic()
            self.devices = await asyncio.to_thread(self.scan)
            took = time.monotonic() - begun
            await self.broadcast({"type": "scan_update", "devices": self.devices, "took": took, "sent_at": time.time()})

    async def broadcast(self, message: dict[str, Any]) -> None:
        """One after another."""
        for connection in list(self.connections):
            try:
                await connection.send_json(message)
            except ConnectionError:
                self.connections.remove(connection)

    async def continuous(self) -> None:
        """Scan, send, sleep."""
        while True:
            await self.scan_and_tell()
            await asyncio.sleep(INTERVAL)

    async def listen(self, request: web.Request) -> web.WebSocketResponse:
        """`/ws`."""
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        await connection.send_json({"type": "initial_state", "devices": self.devices})
        self.connections.append(connection)
        async for message in connection:
            if message.type is WSMsgType.TEXT and message.json()["type"] == "scan_now":
                await self.scan_and_tell()
        self.connections.remove(connection)
        return connection


async def serve(interface: str, network: str, path: str) -> None:
    """Until it is ended."""
    state = ScannerState(interface, network)
    app = web.Application()
    app.router.add_get("/ws", state.listen)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, path).start()
    print("ready", flush=True)
    await state.continuous()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
