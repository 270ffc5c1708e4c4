"""A fake scanner, and the real server around it on a Unix socket and on loopback."""

import asyncio
import grp
import json
import os
import time
from collections.abc import AsyncIterator, Hashable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol
from yarl import URL

from netscand import config, protocol
from netscand.core.annotations import annotate
from netscand.core.conflicts import Conflict
from netscand.core.merged import MergedMacs
from netscand.core.model import (
    Address,
    BadTarget,
    Cause,
    Coverage,
    Device,
    Event,
    EventKind,
    Evidence,
    Ip,
    Load,
    Mac,
    Network,
    NetworkState,
    ScanFinished,
    ScanStarted,
    Status,
)
from netscand.core.people import People
from netscand.core.presence import Presence, Rules
from netscand.core.ratelimit import Budgets
from netscand.core.restore import DAY, CursorGone, EventQuery, Page, PresencePart, Standing, Unreadable
from netscand.core.status import StatusCounts
from netscand.serve.encode import Encoder
from netscand.serve.hub import Hub
from netscand.serve.ports import FrameRecorder, HistoryPort
from netscand.serve.server import Server
from netscand.serve.subscriber import Bounds

LAN = "10.0.0.0/16@eth0"
OTHER = "192.168.7.0/24@wlan0"
BOOT = 1_700_000_000.0
"""Wall time when the monotonic clock was 0, in these tests."""


def network(name: str = LAN, index: int = 2) -> Network:
    cidr, interface = name.split("@")
    prefix = IPv4Network(cidr)
    own = Ip(prefix[2].packed)
    return Network(
        name, prefix, interface, index, Mac(b"\x02" * 6), own, NetworkState.UP, "Ethernet", Ip(prefix[1].packed)
    )


def mac(number: int) -> Mac:
    return Mac(b"\xa4\x83" + number.to_bytes(4, "big"))


class FakeScanner:
    """Stands for the engine: devices that change, and events that go to the hub."""

    def __init__(self, hub: Hub, devices: int = 3) -> None:
        self.hub = hub
        self.devices: dict[Mac, Device] = {}
        self.people, self.merged = People(self.devices), MergedMacs()
        self.networks = {name: network(name, index) for index, name in enumerate((LAN, OTHER), 2)}
        self.sequence = 0
        self.interval = 30.0
        self.observations = {"arp_reply": 7, "dhcp": 2}
        self.budgets = Budgets()
        self.scanning = False
        self.started_at = time.monotonic()
        self.last_scan: float | None = None
        self.troubles: tuple[str, ...] = ()
        self.conflicting: list[Conflict] = []
        self.requested: list[tuple[str, ...]] = []
        self.clients: list[object] = []
        self.left: list[object] = []
        """Clients that left their scans."""
        self.leases: dict[object, float] = {}
        self.scan_id = 41
        self.budgets = Budgets()
        for number in range(devices):
            self.add(number)

    @property
    def cursor(self) -> str:
        return f"k3f9-{self.sequence}"

    @property
    def counts(self) -> StatusCounts:
        counts = StatusCounts()
        for device in self.devices.values():
            device.counted = None
            counts.add(device)
        return counts

    def add(self, number: int, name: str = LAN) -> Device:
        now = time.monotonic()
        held = self.networks[name]
        ip = Ip((int(held.cidr.network_address) + 10 + number).to_bytes(4, "big"))
        address = Address(ip, name, held.interface, Evidence.ARP_REPLY, now, now)
        device = Device(
            mac(number),
            now,
            now,
            Presence(now, Rules()),
            status_since=now,
            reason="answered a request",
            addresses=[address],
        )
        self.devices[device.mac] = device
        return device

    def publish(self, event: Event) -> str:
        self.sequence += 1
        cursor = self.cursor
        self.hub.publish(cursor, event, self.hub._encoder.event(event))
        for more in self.people.after(event):
            self.publish(more)
        return cursor

    def join(self, number: int, name: str = LAN) -> str:
        device = self.add(number, name)
        now = device.first_seen
        return self.publish(
            Event(
                EventKind.DISCOVERED, now, name, device, device.ip, None, Evidence.ARP_REPLY, device.reason, None, now
            )
        )

    def turn(self, number: int, status: Status) -> str:
        """Turn a device online or offline."""
        device = self.devices[mac(number)]
        now = time.monotonic()
        previous = {"status": device.status, "status_since": device.status_since, "reason": device.reason}
        device.status, device.status_since, device.reason = status, now, f"turned {status}"
        kind = EventKind.ONLINE if status is Status.ONLINE else EventKind.OFFLINE
        name = device.addresses[0].network
        return self.publish(Event(kind, now, name, device, device.ip, None, None, device.reason, previous, now))

    def label(self, mac: Mac, requested: Mapping[str, object]) -> None:
        if event := annotate(self.devices[mac], requested, time.monotonic()):
            self.publish(event)

    def set_person(
        self, name: str, add: Mapping[Mac, bool], remove: Iterable[Mac] = (), rename: str | None = None
    ) -> None:
        for event in self.people.change(name, add, remove, rename, time.monotonic()):
            self.publish(event)

    def merge(self, mac: Mac, other: Mac) -> None:
        raise ValueError("no merges here; tests/core/test_merged.py has them")

    def split(self, mac: Mac) -> None:
        raise KeyError(mac)

    def remove_person(self, name: str) -> None:
        self.publish(self.people.remove(name, time.monotonic()))

    def forget(self, mac: Mac) -> None:
        self.publish(Event(EventKind.FORGOTTEN, time.monotonic(), None, self.devices.pop(mac)))

    async def wake(self, mac: Mac) -> Sequence[str]:
        return [address.network for address in self.devices[mac].addresses]

    def scan_now(
        self, targets: Sequence[str], account: Hashable = None, client: object = None, site: str | None = None
    ) -> int:
        if "203.0.113.1" in targets:
            raise BadTarget("203.0.113.1: not within a scanned network")
        self.requested.append(tuple(targets))
        self.clients.append(client)
        self.scan_id += 1
        self.scanning = True
        self.hub.publish_scan(ScanStarted(self.scan_id, (LAN,), Cause.CLIENT))
        return self.scan_id

    def leave_scans(self, client: object) -> None:
        self.left.append(client)

    def finish(self, scan_id: int, found: Sequence[Mac] = (), networks: tuple[str, ...] = (LAN,)) -> None:
        now = time.monotonic()
        self.scanning = False
        self.last_scan = now
        self.hub.publish_scan(ScanFinished(scan_id, networks, now - 0.1, now, 237, 17, tuple(found)))

    def lease(self, client: object, seconds: float | None) -> float:
        if seconds is None:
            self.leases.pop(client, None)
        elif not 1 <= seconds <= self.interval:
            raise ValueError(f"seconds: expected 1 to {self.interval:g}, or null")
        else:
            self.leases[client] = seconds
        return min((self.interval, *self.leases.values()))

    def last_scan_of(self, network: str) -> float | None:
        return self.last_scan if network == LAN else None

    def coverage(self, network: str) -> Coverage:
        return Coverage(1.0, 30.0)

    def load(self) -> Load:
        return Load(1, 2, 3, 4, 5, 1000.0, 50.0, 6.0, 8)

    def conflicts(self) -> Sequence[Conflict]:
        return self.conflicting

    def problems(self) -> tuple[str, ...]:
        return self.troubles


class EmptyHistory:
    """History that stores nothing."""

    def sequence_of(self, cursor: str) -> int:
        epoch, _, number = cursor.rpartition("-")
        if not epoch.isalnum() or not number.isdigit():
            raise ValueError(cursor)
        if epoch != "k3f9":
            raise CursorGone("it is of another history")
        return int(number)

    def cursor_of(self, number: int) -> str:
        return f"k3f9-{number}"

    async def events(self, question: EventQuery, *, whole: bool = False, most: int | None = None) -> Page:
        if whole or question.since is not None:
            raise CursorGone("nothing is kept")
        return Page((), question.through)

    async def begin_of_last(self, question: EventQuery) -> int:
        return 0

    async def presence(
        self, mac: Mac, days: int, standing: Standing | None, now: float, step: float = DAY, *,
        others: Sequence[Mac] = (), account: Hashable = None,
    ) -> Sequence[PresencePart]:  # fmt: skip
        return ()

    def problems(self) -> tuple[str, ...]:
        return ()

    def unstored(self) -> str:
        return ""

    def size(self) -> int:
        return 4096

    async def erase(self, macs: Sequence[Mac]) -> int:
        return 0

    async def backup(self) -> BinaryIO:
        raise Unreadable("nothing is kept")


class House:
    """Running server, and ways to talk to it."""

    def __init__(self, server: Server, scanner: FakeScanner, path: Path) -> None:
        self.server = server
        self.scanner = scanner
        self.hub = scanner.hub
        self.path = path

    @property
    def port(self) -> int:
        return int(self.server.addresses[0].rpartition(":")[2])

    def ws(
        self,
        query: str = "?updates=changes",
        *,
        tcp: bool = False,
        headers: Sequence[tuple[str, str]] = (),
        subprotocols: Sequence[Subprotocol] | None = None,
        max_queue: int | None = 16,
    ) -> connect:
        """Return a WebSocket client of another library than the server's."""
        common: dict[str, Any] = {
            "additional_headers": list(headers),
            "subprotocols": subprotocols,
            "max_queue": max_queue,
            "max_size": None,
            "proxy": None,
        }
        if tcp:
            return connect(f"ws://127.0.0.1:{self.port}/ws{query}", **common)
        return unix_connect(str(self.path), f"ws://localhost/ws{query}", **common)

    async def ask(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], Any]:
        """Send a request on the Unix socket; return status, headers and JSON."""
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.path))) as session,
            session.request(method, URL(f"http://localhost{path}", encoded=True), data=body, headers=headers) as answer,
        ):
            text = await answer.read()
            return answer.status, answer.headers, json.loads(text) if text else None

    async def connection(self, said: bytes) -> asyncio.StreamWriter:
        """Open a connection on the Unix socket, and send bytes."""
        _, writer = await asyncio.open_unix_connection(str(self.path))
        writer.write(said)
        return writer

    async def head(self, request: bytes) -> bytes:
        """Return the head of the answer to bytes on a TCP connection of their own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        try:
            async with asyncio.timeout(30):
                return await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.close()

    async def raw(self, request: bytes, *, tcp: bool = True) -> bytes:
        """Return the answer to bytes on a connection of their own, until the server closes it."""
        if tcp:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        else:
            reader, writer = await asyncio.open_unix_connection(str(self.path))
        writer.write(request)
        try:
            async with asyncio.timeout(30):
                return await reader.read()
        finally:
            writer.close()


def allowed(**access: Any) -> config.Access:  # noqa: ANN401
    """Return `[access]` that makes this process admin: as root, or by its group."""
    mine = {"group": grp.getgrgid(os.getegid()).gr_name} if os.geteuid() else {}
    return config.Access(**(mine | access))


@asynccontextmanager
async def house(
    path: Path,
    *,
    devices: int = 3,
    listen: dict[str, Any] | None = None,
    access: dict[str, Any] | None = None,
    bounds: Bounds | None = None,
    archive: HistoryPort | None = None,
    recorder: FrameRecorder | None = None,
) -> AsyncIterator[House]:
    """Run a server on `path`/s and on a port of loopback, during the block."""
    translator = Encoder(lambda: BOOT, lambda of: "Apple, Inc." if of[:2] == b"\xa4\x83" else None)
    hub = Hub(translator, bounds or Bounds())
    scanner = FakeScanner(hub, devices)
    socket_path = path / "s"
    chosen = {"unix": str(socket_path), "tcp": ("127.0.0.1:0",), **(listen or {})}
    kept = archive or EmptyHistory()
    server = Server(
        scanner, hub, config.Listen(**chosen), allowed(**(access or {})), translator, (), kept, recorder=recorder
    )
    server.config_file = path / "netscand.toml"

    async def reload() -> str:
        server.reload(allowed(**(access or {})))
        return ""

    server.reload_configuration = reload
    await server.open()
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(server.run())
            await asyncio.sleep(0)
            yield House(server, scanner, socket_path)
            running.cancel()
    finally:
        await server.close()


TOKENS = {role: f"{role}-{'0123456789abcdef' * 2}~" for role in ("read", "scan", "admin")}
"""One token of each role."""


def token_file(folder: Path, mode: int = 0o640) -> str:
    """Write a token file; return its path."""
    path = folder / "tokens"
    path.write_text("# who may what\n\n" + "".join(f"{role}  {token}\n" for role, token in TOKENS.items()))
    path.chmod(mode)
    return str(path)


async def receive(client: ClientConnection) -> protocol.ServerMessage:
    """Return the next message, as a struct."""
    async with asyncio.timeout(30):
        return protocol.decode_server(await client.recv())


async def receive_all(client: ClientConnection, quiet: float = 0.2, least: int = 0) -> list[protocol.ServerMessage]:
    """Return the messages until none comes for `quiet` seconds; wait for the first `least` as long as needed."""
    heard = [await receive(client) for _ in range(least)]
    while True:
        try:
            async with asyncio.timeout(quiet):
                heard.append(protocol.decode_server(await client.recv()))
        except TimeoutError:
            return heard


def handshake(path: str, host: str = "localhost", extra: str = "") -> bytes:
    """Return the handshake of a WebSocket client."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{extra}\r\n"
    ).encode()


async def read_out(client: ClientConnection) -> list[str | bytes]:
    """Return every message until the server closes."""
    heard: list[str | bytes] = []
    async with asyncio.timeout(30):
        with suppress(ConnectionClosed):
            while True:
                heard.append(await client.recv())
    return heard
