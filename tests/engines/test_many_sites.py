"""Forty simulated sites and three real ones, two hubs and clients that move between them, while everything fails.

What is simulated is the daemon of a site: what is published, and how, is netscand-uplink. In the end the log, both hubs
and each client have exactly what the sites published: each event once, in order.
"""

import asyncio
import os
import random
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import nats.errors
import pytest
from nats.aio.client import Client as NatsClient

from netscanctl.services.uplink import service as uplink_service
from netscanctl.stream import Received
from netscand import sites
from netscand.core.model import Status
from netscand.hub import connection as hub_connection
from netscand.hub.connection import Message
from netscand.hub.settings import Hub as HubTable
from netscand.protocol import Devices, Event, InitialState, ServerMessage
from tests.ctl.fake_daemon import DEADLINE
from tests.ctl.messages import LATER
from tests.engines import hasty
from tests.engines.hub_process import Follower, Hub, until
from tests.engines.mosquitto import wait
from tests.engines.nats_server import Entry, NatsServer, free_port, is_event
from tests.engines.nats_server import view as read_log
from tests.engines.simulated_site import SimulatedSite
from tests.engines.test_hub import Scene, scene
from tests.engines.test_uplink import Uplink
from tests.engines.test_uplink_lab import SITES as HOMES
from tests.engines.test_uplink_lab import Site as LabSite
from tests.lab.lan import Lab
from tests.store.diary import FakeClock, diary, discovered, turned
from tests.store.diary import device as written

COUNT, LONG, MINUTES = 40, 300, 10
WEEK, DAY = 14_000, 2_000
"""Events of a site in a week (0.023 in a second), and in a day of much traffic."""
CUT_OFF, POISONED, RESTORED, LATE, TWICE = "site-00", "site-01", "site-02", "site-03", "site-04"
STREAMS = (sites.LOG, sites.STATE, sites.CURSOR, f"KV_{sites.OWNER}")
NUMBER = "number "


class Site(SimulatedSite):
    """A site whose events are numbered, also over its epochs."""

    def __init__(self, *args: Any, **keys: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **keys)
        self.last = 0
        self.poisoned = 0
        """Number of the event that the site publishes in a way that nobody can read."""

    async def change(self, mac: str, kind: str = "", **fields: Any) -> str:  # noqa: ANN401
        """Let the status of a device change, with the number as its reason."""
        self.last += 1
        now = "offline" if self.devices[mac].status == "online" else "online"
        return await super().change(mac, kind, status=now, status_since=LATER, reason=f"{NUMBER}{self.last}")

    async def _stream(self, *args: Any) -> AsyncIterator[Received]:  # type: ignore[override]  # noqa: ANN401
        async for received in super()._stream(*args):
            event = received.message
            if isinstance(event, Event) and self.poisoned and number_of(event.reason) == self.poisoned:
                received = received._replace(raw=b'{"type":"event","cursor":7}')
            yield received


def number_of(reason: str | None) -> int:
    """The number of an event, or of the last event of a device; 0: none yet."""
    return int(reason.removeprefix(NUMBER)) if reason and reason.startswith(NUMBER) else 0


class Client(Follower):
    """A client that checks what it gets: each event of a site is the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.reached: dict[str, int] = {}
        self.poisoned: dict[str, int] = {}
        self.statuses: dict[str, set[str]] = defaultdict(set)
        """Site → kinds of its events."""
        self.on_first: Callable[[], None] | None = None

    def take(self, message: ServerMessage) -> None:
        """Take and check a message."""
        super().take(message)
        if self.on_first is not None:
            self.on_first()
        if isinstance(message, InitialState):
            self.reached = {}
        if isinstance(message, InitialState | Devices):
            for device in message.devices:
                name = str(device.site)
                self.reached[name] = max(self.reached.get(name, 0), number_of(device.reason))
        if not isinstance(message, Event) or message.device is None or not message.site:
            return
        site, number = str(message.site), number_of(message.device.reason)
        before = self.reached.get(site, 0)
        if message.kind == "snapshot":
            self.reached[site] = max(before, number)
        elif message.kind in ("online", "offline") and number:
            self.statuses[site].add(message.kind)
            self.reached[site] = number
            skipped = self.poisoned.get(site)
            if number != before + 1 and not (skipped == before + 1 and number == before + 2):
                self.faults.append(f"{site}: {number} after {before}, with cursor {message.cursor}")

    async def wander(self, hubs: Sequence[Hub], draw: random.Random) -> None:
        """Follow one hub after another, each for a moment after its first message, however late that is."""
        while True:
            for hub in hubs:
                with suppress(TimeoutError, aiohttp.ClientError):
                    async with asyncio.timeout(None) as limit:
                        self.on_first = partial(self._stay, limit, draw.uniform(0.3, 1.2))
                        await self.follow(hub)
                await asyncio.sleep(0.05)

    def _stay(self, limit: asyncio.Timeout, seconds: float) -> None:
        self.on_first = None
        limit.reschedule(asyncio.get_running_loop().time() + seconds)


class Home(LabSite):
    """A LAN with its daemon and its uplink, all real; each step, a device joins or leaves."""

    def __init__(self, name: str, lab: Lab, server: NatsServer, folder: Path) -> None:
        super().__init__(name, lab, server, folder)
        self._free = [f"10.77.0.{number}" for number in range(10, 250)]
        self._there: list[str] = []

    def live(self, draw: random.Random) -> None:
        """A device joins or leaves."""
        if self._there and draw.random() < 0.4:
            self.crowd.leave(self._there.pop(0))
        else:
            self._there.append(self._free.pop())
            self.crowd.join(self._there[-1])

    async def be_away(self, events: int) -> None:
        """So many events are in the history when daemon and uplink come back."""
        self.uplink.end(signal.SIGKILL)
        await asyncio.to_thread(self.daemon.stop)
        owner = self.daemon.history.stat()
        self._give(0, 0)  # the history refuses a file that another user can read
        now = time.monotonic()
        async with diary(self.daemon.history, FakeClock(time.time() - now)) as book:
            one = written(1, now)
            await book.write(discovered(one, now))
            for number in range(events):
                one_status = Status.OFFLINE if one.status is Status.ONLINE else Status.ONLINE
                book.append(turned(one, one_status, now))
                if not number % 500:
                    await book.history.settled()
        self._give(owner.st_uid, owner.st_gid)
        await asyncio.to_thread(self.daemon.start)
        self.uplink.start()

    def _give(self, uid: int, gid: int) -> None:
        for path in self.daemon.folder.glob(f"{self.daemon.history.name}*"):
            os.chown(path, uid, gid)

    def statuses(self) -> dict[str, str]:
        """MAC → status of each device that the daemon has."""
        return {one["mac"]: one["status"] for one in self.daemon.get("/api/devices")["devices"]}

    def past(self, since: str) -> list[dict[str, Any]]:
        """Every event of the daemon behind a cursor."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.daemon.get(f"/api/events?since={since}&limit=5000")
            found += page["events"]
            if not page["more"]:
                return found
            since = page["cursor"]


class Play:
    """All of them, and what happens to them."""

    def __init__(self, here: Scene, hubs: Sequence[Hub], draw: random.Random) -> None:
        self.here, self.hubs, self.draw = here, hubs, draw
        self.server = here.server
        self.sites: dict[str, Site] = {}
        self.homes: list[Home] = []
        self.clients = [Client() for _ in range(4)]
        self.copies: list[Path] = []

    def join(self, name: str, **keys: Any) -> Site:  # noqa: ANN401
        """A site begins to publish; if it did before, it goes on."""
        if name not in self.sites:
            self.sites[name] = Site(self.server.url, name, self.server.keys[name], self.here.folder, **keys)
            self.here.sites[name] = self.sites[name]
        self.here.publishing[name] = self.here.start(self.sites[name].run(None))  # type: ignore[arg-type]
        return self.sites[name]

    async def leave(self, name: str) -> None:
        """A site is cut off."""
        task = self.here.publishing.pop(name)
        task.cancel()
        await asyncio.wait([task])

    async def live(self, events: int) -> None:
        """Devices come and go at all sites."""
        for _ in range(events):
            for home in self.homes:
                home.live(self.draw)
            for site in self.draw.sample(list(self.sites.values()), k=len(self.sites) // 2):
                await site.happen(self.draw.randint(1, 2))
            await asyncio.sleep(0.01)

    async def kill(self, *, meanwhile: int = 5, keep: bool = False, give: Sequence[Path | None] = ()) -> None:
        """Kill the server while sites publish; keep a copy of its disk, or give it copies of streams; start it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.live(meanwhile))
            await asyncio.sleep(self.draw.uniform(0.02, 0.06) * meanwhile)
            self.server.kill()
            await self._start_again(keep=keep, give=give)

    async def _start_again(self, *, keep: bool, give: Sequence[Path | None]) -> None:
        if keep:
            self.copies.append(self.here.folder / f"copy{len(self.copies)}")
            await asyncio.to_thread(shutil.copytree, self.server.store, self.copies[-1])
        for stream, copy in zip(STREAMS, give, strict=False):
            if copy is not None:
                await asyncio.to_thread(replace_stream, self.server.store, copy, stream)
        await asyncio.to_thread(self.server.start)

    async def until_exact(self) -> None:
        """Let each site publish one more event, and wait until hubs and clients have the last one of each device."""
        for site in self.sites.values():
            await site.happen()
        await self.until_shown()

    async def until_shown(self) -> None:
        """Wait until hubs and clients have the last event of each device."""
        await self.until_none(self.differences)
        for home in self.homes:
            await self.until_none(partial(self.differences_of, home))

    async def until_none(self, find: Callable[[], Awaitable[list[tuple[object, ...]]]]) -> None:
        """Wait until there are no differences: on a busy machine for minutes, while clients get events."""
        last, ends = -1, 0.0
        while found := await find():
            if (events := sum(len(client.events) for client in self.clients)) != last:
                last, ends = events, time.monotonic() + DEADLINE
            if time.monotonic() > ends:
                why = [(await hub.get("/api/sites"), hub.log.read_text()[-3000:]) for hub in self.hubs]
                raise AssertionError(found[:20], why)
            await asyncio.sleep(0.1)

    async def differences(self) -> list[tuple[object, ...]]:
        """Where hubs or clients show something else than the sites have: who, site and MAC, what it shows, what is."""
        wanted = {(name, mac): device.reason for name, mac, device in self.devices()}
        found: dict[object, dict[tuple[str, str], str]] = {
            number: {key: one.reason for key, one in client.devices.items()}
            for number, client in enumerate(self.clients)
        }
        if all(wanted.items() <= shown.items() for shown in found.values()):
            for hub in self.hubs:
                found[hub.folder.name] = {key: one["reason"] for key, one in (await hub.devices()).items()}
        return [
            (who, key, shown.get(key), wanted.get(key))
            for who, shown in found.items()
            for key in shown.keys() | wanted.keys()
            if key[0] in self.sites and shown.get(key) != wanted.get(key)
        ]

    async def differences_of(self, home: Home) -> list[tuple[object, ...]]:
        """Where they show something else: hub or client, MAC, what it shows, what is."""
        wanted = await asyncio.to_thread(home.statuses)
        shown: dict[object, dict[str, str]] = {
            number: {mac: str(one.status) for (site, mac), one in client.devices.items() if site == home.name}
            for number, client in enumerate(self.clients)
        }
        for hub in self.hubs:
            found = await hub.devices(f"?site={home.name}")
            shown[hub.folder.name] = {mac: one["status"] for (_, mac), one in found.items()}
        return [
            (who, mac, found.get(mac), wanted.get(mac))
            for who, found in shown.items()
            for mac in sorted(found.keys() | wanted.keys())
            if found.get(mac) != wanted.get(mac)
        ]

    def devices(self) -> Iterator[tuple[str, str, Any]]:
        """Every device of each site."""
        for name, site in self.sites.items():
            for mac, device in site.devices.items():
                yield name, mac, device

    async def shown(self, hub: Hub) -> bool:
        """Whether a hub shows the devices of all simulated sites as they are."""
        found = {key: (one["status"], one["reason"]) for key, one in (await hub.devices()).items()}
        return {key: one for key, one in found.items() if key[0] in self.sites} == {
            (name, mac): (device.status, device.reason) for name, mac, device in self.devices()
        }


def replace_stream(store: Path, copy: Path, stream: str) -> None:
    """Give a stream the state of a copy."""
    (now,) = store.rglob(stream)
    (then,) = copy.rglob(stream)
    shutil.rmtree(now)
    shutil.copytree(then, now)


async def read(server: NatsServer, stream: str, start: int = 1) -> list[Entry]:
    """Everything in a stream from a number on, in order."""
    table = HubTable(server=server.url)

    def entry(message: Message) -> Entry:
        headers = {name.decode(): value.decode() for name, value in message.headers.items()}
        try:
            content = msgspec.json.decode(message.data)
        except msgspec.DecodeError:
            content = {"type": "unreadable"}
        return Entry(message.sequence, message.subject, headers, content)

    found: list[Entry] = []
    beginning = {"deliver_policy": "by_start_sequence", "opt_start_seq": start}
    ends = time.monotonic() + 5 * DEADLINE
    while True:  # this process may be too busy with 300 sites to connect in time
        try:
            async with hub_connection.connect(table, server.hub_key) as opened:
                if (await opened.stream_state(stream)).last >= start:
                    await opened.follow(stream, beginning, lambda one: found.append(entry(one)), until_idle=True)
            return found
        except hub_connection.ServerError:
            found.clear()
            if time.monotonic() > ends:
                raise


async def check_log(play: Play, server: NatsServer) -> None:
    """A reader of the log has every event of each site once and in order; the last values are those of the log."""
    log = await read(server, sites.LOG)
    by_site: dict[str, list[Entry]] = defaultdict(list)
    for entry in log:
        by_site[entry.subject.split(".")[2]].append(entry)
    for name, site in play.sites.items():
        if name == POISONED:
            continue  # its log is not one of JSON events
        shown, statuses = read_log(by_site[name])
        own = [event.cursor for event in site.events]
        of_epoch = [cursor for cursor in shown if cursor.startswith(f"{site.epoch}-")]
        assert len(shown) == len(set(shown)), name
        assert of_epoch == own[len(own) - len(of_epoch) :], name
        assert name == RESTORED or shown == own, name
        assert statuses == {mac: one.status for mac, one in site.devices.items()}, name
    for home in play.homes:
        shown, _ = read_log(by_site[home.name])
        (start,) = [one.cursor for one in by_site[home.name] if one.content["type"] == "snapshot_ended"]
        past = {one["cursor"]: one for one in home.past(str(start))}
        assert shown == list(past)[: len(shown)], home.name  # it may have published more since the log was read
        for one in filter(is_event, by_site[home.name]):
            assert one.content | {"sent_at": None} == past[one.content["cursor"]] | {"sent_at": None}, home.name

    last: dict[str, Any] = {}

    async def has_last_values() -> bool:
        start = max((entry.sequence for entry in log), default=0) + 1
        log.extend(await read(server, sites.LOG, start))
        last.update({entry.subject: entry.content for entry in log})
        return {entry.subject: entry.content for entry in await read(server, sites.STATE)} == last

    await until(has_last_values, "the last values are those of the log")  # the server copies them later


@asynccontextmanager
async def played(folder: Path, count: int, draw: random.Random, homes: Sequence[str] = ()) -> AsyncIterator[Play]:
    """A server, two hubs, sites and clients; `homes`: names of real sites."""
    names = [f"site-{at:02}" for at in range(count)]
    server = await asyncio.to_thread(NatsServer, folder, *names, *homes)
    try:
        async with scene(folder, server) as here:
            hubs = [await here.hub(name) for name in ("one", "two")]
            play = Play(here, hubs, draw)
            for name in homes:
                home = await asyncio.to_thread(Home, name, here.stack.enter_context(Lab()), server, folder)
                here.stack.callback(home.uplink.close)
                play.homes.append(home)
            for name in names:
                play.join(name, words=name == POISONED)
            for number, client in enumerate(play.clients):
                client.poisoned = {POISONED: 1}
                here.start(client.wander(hubs, random.Random(number)))
            await play.until_shown()
            yield play
            for hub in hubs:
                _, traceback, rest = hub.log.read_text().partition("Traceback")
                assert not traceback, rest
    finally:
        server.kill()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silences of seconds."""
    monkeypatch.setattr(sites, "ALIVE_INTERVAL", hasty.ALIVE_INTERVAL)
    monkeypatch.setattr(uplink_service, "LONGEST", hasty.LONGEST)
    monkeypatch.setattr(Hub, "program", ("tests.engines.hasty", "netscand.hub"))
    monkeypatch.setattr(Uplink, "runner", ("tests.engines.hasty",))


@pytest.mark.long
async def test_forty_sites(folder: Path, short: None) -> None:
    """Seven kills, three of them with roll-backs; a week's backlog, an epoch, a duplicate, a poison, a site cut off."""
    draw = random.Random(16)
    async with played(folder, COUNT, draw, HOMES if os.geteuid() == 0 else ()) as play:
        site = play.sites
        site[POISONED].poisoned = 1
        await play.kill(keep=True)
        # A LAN is away for a week, a site for a day; another one is cut off, and two machines have one name.
        await play.leave(LATE)
        await play.leave(CUT_OFF)
        await site[LATE].happen(DAY)
        for home in play.homes[:1]:
            await home.be_away(WEEK)
        twin = Site(play.server.url, TWICE, play.server.keys[TWICE], play.here.folder, instance="another")
        play.here.start(twin.run(None))  # type: ignore[arg-type]
        await play.kill(keep=True)
        for hub in play.hubs:
            await until(lambda hub=hub: state_of(hub, CUT_OFF, "silent"))
            devices = (await hub.devices(f"?site={CUT_OFF}")).values()
            assert {one["status"] for one in devices} == {"unknown"}
        before = {number: len(client.events) for number, client in enumerate(play.clients)}
        play.join(LATE)
        await play.leave(RESTORED)
        restored = site[RESTORED].devices
        restored.pop(min(restored, key=lambda mac: number_of(restored[mac].reason)))
        site[RESTORED].lose_history("zzzz")
        play.join(RESTORED)
        young, middle = play.copies
        await play.kill(meanwhile=10, give=(middle,) * 4)
        for number, client in enumerate(play.clients):
            since = client.events[before[number] :]
            assert not [one for one in since if one.site == CUT_OFF and one.kind == "offline"]
        await until(lambda: any("belongs to" in one for one in twin._report.status.problems))
        play.join(CUT_OFF)
        await play.until_exact()
        for _ in range(2):
            await play.kill(keep=True)
        _, _, late, last = play.copies
        # The log, the last values and the cursors, each of another age.
        await play.kill(give=(late, None, young))
        await play.until_exact()
        await play.kill(give=(last, late, None))
        await play.until_exact()
        for client in play.clients:
            assert client.faults == []
        await check_log(play, play.server)
        other = await play.here.hub("other")
        await until(lambda: play.shown(other))
        assert not any(one.headers[sites.INSTANCE] == "another" for one in await read(play.server, sites.LOG))


async def state_of(hub: Hub, site: str, state: str) -> bool:
    """Whether a hub shows a site in this state."""
    (found,) = (await hub.get(f"/api/sites?site={site}"))["sites"]
    return bool(found["state"] == state)


@pytest.mark.long
async def test_three_hundred_sites(folder: Path, short: None) -> None:
    """Ten minutes of kills, and of roll-backs of all streams or of each to another age."""
    draw = random.Random(300)
    async with played(folder, LONG, draw) as play:
        await play.kill(keep=True)
        ends = time.monotonic() + MINUTES * 60
        while time.monotonic() < ends:
            await play.kill(meanwhile=20, keep=draw.random() < 0.3)
            give = (
                [draw.choice(play.copies) for _ in STREAMS] if draw.random() < 0.5 else [draw.choice(play.copies)] * 3
            )
            if draw.random() < 0.4:
                await play.kill(give=give)
            await play.until_exact()
        for client in play.clients:
            assert client.faults == []
        await check_log(play, play.server)


class Cluster:
    """Three servers with three replicas of each stream."""

    def __init__(self, folder: Path, *names: str) -> None:
        ports = [free_port() for _ in range(3)]
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        self.servers: list[NatsServer] = []
        for number, port in enumerate(ports):
            (own := folder / f"n{number}").mkdir()
            more = f'server_name: n{number}\ncluster {{ name: c, listen: "127.0.0.1:{port}", routes: [{routes}] }}'
            first = self.servers[0] if self.servers else None
            self.servers.append(NatsServer(own, *names, tls=more, first=first, streams=False))
        try:
            wait("the servers have a leader", self._make_streams)
        except BaseException:
            self.kill()
            raise

    def _make_streams(self) -> bool:
        """Make the streams; without a leader, a server does not answer at all."""

        async def make(client: NatsClient) -> None:
            answer = await client.request("$JS.API.INFO", b"", timeout=1)
            assert "error" not in msgspec.json.decode(answer.data), answer.data
            await self.servers[0].make_streams(client, replicas=3)

        try:
            self.servers[0].ask(make)
        except (AssertionError, nats.errors.Error):
            return False
        return True

    def leader(self) -> NatsServer:
        """The server that leads the log."""
        found = self.servers[0].request(f"$JS.API.STREAM.INFO.{sites.LOG}")["cluster"]["leader"]
        return self.servers[int(found[1:])]

    def kill(self) -> None:
        """End all."""
        for server in self.servers:
            server.kill()


@pytest.mark.long
async def test_leaders_of_three_replicas_are_killed(folder: Path, short: None) -> None:
    """Four times; each site is at one of the servers, each hub at another: nothing is lost, all is in order."""
    names = [f"site-{at:02}" for at in range(12)]
    cluster = await asyncio.to_thread(Cluster, folder, *names)
    try:
        async with scene(folder, cluster.servers[0]) as here:
            hubs = []
            for number, name in enumerate(("one", "two")):
                here.server = cluster.servers[number]
                hubs.append(await here.hub(name))
            play = Play(here, hubs, random.Random(3))
            for number, name in enumerate(names):
                play.server = cluster.servers[number % 3]
                play.join(name)
            for number, client in enumerate(play.clients):
                here.start(client.wander(hubs, random.Random(number)))
            await play.until_shown()  # an event before it is part of the snapshot
            for _ in range(4):
                play.server = await asyncio.to_thread(cluster.leader)
                await play.kill(meanwhile=40)
                await play.until_exact()
            for client in play.clients:
                assert client.faults == []
                assert client.snapshots == 1, "".join(hub.log.read_text() for hub in hubs)
            await check_log(play, play.server)
    finally:
        cluster.kill()
