"""netscand-hub as a process, and clients of it."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from netscanctl.state import ClientState
from netscand import protocol
from netscand.protocol import Event, ServerMessage
from tests.ctl.conftest import ROOT, environment
from tests.ctl.fake_daemon import DEADLINE
from tests.engines.nats_server import NatsServer


class Hub:
    """A hub that listens on a Unix socket, and with tokens on TCP."""

    program: Sequence[str] = ("netscand.hub",)

    def __init__(self, folder: Path, server: NatsServer, name: str = "hub", tokens: str = "", more: str = "") -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.socket = self.folder / "hub.sock"
        (self.folder / "key").write_text(server.hub_key)
        (self.folder / "key").chmod(0o600)
        if tokens:
            (self.folder / "hub-tokens").write_text(tokens)
            (self.folder / "hub-tokens").chmod(0o600)
        self.config = self.folder / "hub.toml"
        self.config.write_text(
            f'[hub]\nserver = "{server.url}"\nkey_file = "{self.folder}/key"\n'
            f'[listen]\nunix = "{self.socket}"\ntcp = []\n{more}'
        )
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        argv = [sys.executable, "-m", *self.program, "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, env=environment(), cwd=ROOT, stdout=log, stderr=log)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        """End it, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @asynccontextmanager
    async def client(self, token: str = "") -> AsyncIterator[aiohttp.ClientSession]:
        """A session on the Unix socket."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connector = aiohttp.UnixConnector(str(self.socket))
        async with aiohttp.ClientSession("http://hub", connector=connector, headers=headers) as session:
            yield session

    async def get(self, path: str, token: str = "", status: int = 200) -> Any:  # noqa: ANN401
        """The answer to a request."""
        async with self.client(token) as session, session.get(path) as answer:
            found = await answer.read()
            assert answer.status == status, (answer.status, found)
            return json.loads(found) if answer.content_type == "application/json" else found.decode()

    async def devices(self, query: str = "") -> dict[tuple[str, str], dict[str, Any]]:
        """Site and MAC → device."""
        found = await self.get(f"/api/devices{query}")
        return {(each["site"], each["mac"]): each for each in found["devices"]}

    async def ready(self) -> None:
        """Wait until it serves."""
        assert self.process is not None
        ends = time.monotonic() + DEADLINE
        while time.monotonic() < ends:
            assert self.process.poll() is None, self.log.read_text()
            try:
                await self.get("/healthz")
            except (aiohttp.ClientError, AssertionError):
                await asyncio.sleep(0.02)
            else:
                return
        raise AssertionError(self.log.read_text())


async def until(condition: Any, what: str = "") -> None:  # noqa: ANN401
    """Wait until a condition, which may be a coroutine function, is true."""
    ends = time.monotonic() + DEADLINE
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < ends, f"timeout: {what or condition}"
        await asyncio.sleep(0.01)


class Follower:
    """A client of the stream in the mode `changes` that keeps what it got, and resumes where it ended."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.sites: dict[str, protocol.Site] = {}
        self.cursor = ""
        self.snapshots = 0
        self._state = ClientState()
        self._next = ""
        """Cursor of a snapshot that is not complete."""

    @property
    def devices(self) -> dict[tuple[str, str], protocol.Device]:
        """Site and MAC → device, as netscanctl has it: a network or a site changes many without an event for each."""
        return {(str(each.site), each.mac): each for each in self._state.devices.values()}

    def history(self, site: str) -> list[str]:
        """What devices of a site did, in order, as far as it came here."""
        return [
            f"{each.device.mac[-2:]} {each.kind}"
            for each in self.events
            if each.site == site and each.device and each.kind in ("online", "offline")
        ]

    def has(self, site: str, count: int) -> bool:
        """Whether it got so many of these."""
        return len(self.history(site)) >= count

    def take(self, message: ServerMessage) -> None:
        """Take a message."""
        self._state.on_message(message)
        match message:
            case protocol.InitialState() | protocol.Devices():
                if isinstance(message, protocol.InitialState):
                    self.cursor, self._next = "", message.cursor
                    self.sites = {each.site: each for each in message.sites or ()}
                if not message.more:
                    self.cursor, self.snapshots = self._next, self.snapshots + 1
            case protocol.Resumed():
                self.sites = {each.site: each for each in message.sites or ()}
            case Event():
                self.cursor = message.cursor
                self.events.append(message)
                if isinstance(message.state, protocol.Site):
                    self.sites[message.state.site] = message.state

    async def follow(self, hub: Hub, query: str = "", token: str = "") -> None:
        """Follow until the connection ends."""
        since = f"&since={self.cursor}" if self.cursor else ""
        async with hub.client(token) as session, session.ws_connect(f"/ws?updates=changes{query}{since}") as socket:
            async for message in socket:
                self.take(protocol.decode_server(message.data))
