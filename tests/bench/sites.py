"""Many sites: what they cost a NATS server and a hub; an event's way from a frame at a site to a client of a hub."""

import asyncio
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp

from netscanctl.service_status import timestamp
from netscanctl.services.report import Report
from netscanctl.services.uplink.publications import Publications
from netscanctl.services.uplink.sender import START, Pace, Place, Sender, find_place
from netscanctl.services.uplink.server import Server, connect
from netscanctl.services.uplink.settings import Uplink as Table
from netscanctl.stream import Received
from netscand.protocol import Event, decode_server, encode
from netscand.sites import LOG, STATE, Alive, alive_subject
from tests.bench.measure import announced, resident
from tests.bench.plot import Plot
from tests.bench.push import APART, JOINS, NETWORK, populated
from tests.bench.report import Figure, Options, Result, Row, median, quantile
from tests.ctl.messages import came, snapshot
from tests.engines.hub_process import Hub, until
from tests.engines.mosquitto import many
from tests.engines.nats_server import NatsServer
from tests.engines.test_uplink import Uplink
from tests.lab.lan import Lab
from tests.lab.spaces import temporary_folder

DEVICES = 100
"""Devices of a site."""
SITES = (10, 100, 1_000)
FEW = 100
"""Sites with ten times as many devices: the same number of devices as the last of SITES has."""
STARTS = 5
TOGETHER = 20
"""Sites that publish at the same time, over one connection."""
EVENTS = 10_000
CONNECTIONS = 400
PERCENT = ((50, 5.0), (99, 25.0))
"""Percentile, and the most milliseconds it may be."""
START_MOST = 5.0
RATES = (23, 230)
"""Events in a second: what 1,000 and 10,000 sites publish on average."""
SECONDS = 40
"""For which they are published at each rate."""
ALIVE = 33
"""Signs of life in a second: 1,000 sites, each every 30 s."""


def sender(server: Server, name: str, place: Place = START) -> Sender:
    """Return a site's part of netscand-uplink that publishes, at any pace."""
    return Sender(server, name, "bench", place, Pace(100_000), Report("uplink", name, lambda state: None))


async def publish(server: NatsServer, names: list[str], devices: int, events: int = 0) -> tuple[float, float]:
    """Publish a snapshot of each site, and events of the first; return the messages in a second of each."""
    table = Table(server=server.url, site="bench", instance="bench")
    first = snapshot(*many(devices))
    async with connect(table, server.admin_key, None) as opened:
        waiting = list(names)

        async def work() -> None:
            while waiting:
                name = waiting.pop()
                site, made = sender(opened, name), Publications(name, words=False)
                for message in made.on_message(Received(encode(first), first)):
                    await site.send(message)

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(TOGETHER):
                group.create_task(work())
        snapshots = len(names) * (devices + 2) / (time.monotonic() - began)
        site, made = sender(opened, names[0]), Publications(names[0], words=False, since=first.cursor)
        began = time.monotonic()
        for number in range(events):
            event = came(first.devices[number % devices], cursor=f"k3f9-{number + 2}")
            for message in made.on_message(Received(encode(event), event)):
                await site.send(message)
        await until(lambda: not site.behind)
        return snapshots, events / (time.monotonic() - began)


def started(server: NatsServer, folder: Path, devices: int, times: int) -> tuple[float, float]:
    """Return the seconds from the start of a hub to its first answer, the median, and its memory in MiB."""
    took, used = [], 0.0
    wait_for_copies(server)
    for number in range(times):
        hub = Hub(folder, server, f"{devices}-{number}")
        began = time.monotonic()
        hub.start()
        try:
            asyncio.run(hub.ready())
            took.append(time.monotonic() - began)
            known = sum(asyncio.run(hub.get("/api/status"))["devices"].values())
            if known != devices:
                raise RuntimeError(f"the hub knows {known} of {devices} devices")
            assert hub.process is not None
            used, _ = resident(hub.process.pid)
        finally:
            hub.close()
    return median(took), used


async def to_a_client(server: NatsServer, hub: Hub, names: list[str], seconds: float) -> dict[int, list[float]]:
    """Return the milliseconds from publishing to a client of the hub, by rate: of any site, at random moments."""
    draw, sent = random.Random(len(names)), dict[str, float]()
    took: dict[int, list[float]] = {}
    first = snapshot(*many(DEVICES))
    table = Table(server=server.url, site="bench", instance="bench")

    async def receive(socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            event = decode_server(message.data)
            if isinstance(event, Event) and event.kind == "online" and event.reason in sent:
                took[rate].append(1000 * (time.perf_counter() - sent.pop(event.reason)))

    async def live(opened: Server) -> None:
        while True:
            await asyncio.sleep(draw.expovariate(ALIVE))
            alive = Alive(cursor=None, now=timestamp(), instance="bench", version="0", backlog=0, commands=False)
            await opened.publish_alive(alive_subject(draw.choice(names)), encode(alive))

    async with connect(table, server.admin_key, None) as opened, hub.client() as session:
        made = {name: Publications(name, words=False, since=first.cursor) for name in names}
        numbers, senders = dict.fromkeys(names, 0), dict[str, Sender]()
        socket = await session.ws_connect("/ws?updates=changes", max_msg_size=0)
        more = True
        while more:
            more = getattr(decode_server((await socket.receive()).data), "more", False)
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(receive(socket)), group.create_task(live(opened))]
            for rate in RATES:
                took[rate] = []
                for number in range(round(rate * seconds)):
                    await asyncio.sleep(draw.expovariate(rate))
                    name = draw.choice(names)
                    numbers[name] += 1
                    if name not in senders:  # it continues its snapshot
                        senders[name] = sender(opened, name, await find_place(opened, name))
                    event = came(draw.choice(first.devices), cursor=f"k3f9-{numbers[name] + 1}")
                    event.reason = f"{rate}, {number}"
                    for message in made[name].on_message(Received(encode(event), event)):
                        sent[event.reason] = time.perf_counter()
                        await senders[name].send(message)
                await until(lambda: not sent)
            for other in others:
                other.cancel()
        await socket.close()
    return took


def wait_for_copies(server: NatsServer) -> None:
    """Wait until the server has copied the last values, however long its disk takes."""

    def subjects(stream: str) -> int:
        return int(server.request(f"$JS.API.STREAM.INFO.{stream}")["state"]["num_subjects"])

    while subjects(STATE) < subjects(LOG):
        time.sleep(0.2)


def clients_wait(server: NatsServer, folder: Path, names: list[str], seconds: float) -> dict[int, list[float]]:
    """Start a hub, and return how long its client waits for events (`to_a_client`)."""
    hub = Hub(folder, server, "waited-for")
    hub.start()
    try:
        asyncio.run(hub.ready())
        return asyncio.run(to_a_client(server, hub, names, seconds))
    finally:
        hub.close()


def connection_kib(server: NatsServer) -> float:
    """Return the KiB of memory that the server needs for a connection of a site, with its subscriptions."""
    assert server.process is not None
    process = server.process.pid

    async def measure() -> float:
        before, _ = resident(process)
        opened = [Server(f"site{number}") for number in range(CONNECTIONS)]
        try:
            for each in opened:
                await each.open(Table(server=server.url, site="bench", instance="bench"), server.admin_key, None)
            after, _ = resident(process)
        finally:
            for each in opened:
                await each.close()
        return 1024 * (after - before) / CONNECTIONS

    return asyncio.run(measure())


def delays(folder: Path, joins: int) -> list[float]:
    """Return the milliseconds from `seen_at` to a client of the hub, for each device that joins a real LAN."""
    draw = random.Random(joins)
    server = NatsServer(folder, "home")
    hub = Hub(folder, server)
    try:
        with Lab(NETWORK) as lab:
            newcomers = populated(lab, joins, joins)
            daemon = lab.daemon(as_user=True)
            for path in (lab.folder, daemon.folder):
                path.chmod(0o755)
            (secret := folder / "home.key").write_text(server.keys["home"])
            secret.chmod(0o644)
            uplink = Uplink(folder, daemon.socket, server=server.url, site="home", key_file=str(secret), instance="one")
            uplink.start()
            hub.start()
            try:
                asyncio.run(until_follows(hub, lambda: daemon.get("/api/status")["last_scan"]))
                heard = announced(lab, str(hub.socket), 1, newcomers, lambda: draw.uniform(*APART))
            finally:
                uplink.close()
    finally:
        hub.close()
        server.kill()
    if len(heard) < joins:
        raise RuntimeError(f"the client received {len(heard)} events, expected {joins}")
    return [1000 * (at - seen) for _, _, seen, _, at in heard]


async def until_follows(hub: Hub, scanned: Callable[[], object]) -> None:
    """Wait until the first scan is over, and the hub knows what it found."""
    await until(scanned)
    await hub.ready()

    async def known() -> bool:
        return bool((await hub.get("/api/status"))["devices"]["online"])

    await until(known)


def run(options: Options, say: Callable[[str], None]) -> Result:
    """Latency, then one server with more and more sites, then one with more devices at each."""
    folder = temporary_folder("bench-sites")
    folder.chmod(0o755)
    try:
        for name in ("latency", "sites", "devices"):
            (folder / name).mkdir(mode=0o755)
        took = delays(folder / "latency", options.times(JOINS))
        say(f"p50 {median(took):.2f} ms, p99 {quantile(took, 0.99):.2f} ms")
        return measured(folder, took, options, say)
    finally:
        shutil.rmtree(folder)


def measured(folder: Path, took: list[float], options: Options, say: Callable[[str], None]) -> Result:
    """Measure servers with many sites."""
    figures = [
        Figure(f"frame → client, p{percent}", quantile(took, percent / 100), "ms", most=most)
        for percent, most in PERCENT
    ]
    counts = [count // 10 for count in SITES[1:]] if options.quick else list(SITES)
    starts: list[tuple[float, float]] = []
    memories: list[tuple[float, float]] = []
    server, reached, speeds = NatsServer(folder / "sites", size=10 * SIZE), 0, []
    try:
        each = connection_kib(server)
        figures.append(Figure("memory of the server for each connection", each, "KiB"))
        for count in counts:
            names = [f"site{number}" for number in range(reached, count)]
            last = count == counts[-1]
            speeds.append(asyncio.run(publish(server, names, DEVICES, options.times(EVENTS) if last else 0)))
            reached = count
            total = count * DEVICES
            if last:
                for rate, ways in clients_wait(server, folder / "sites", names[1:], options.times(SECONDS)).items():
                    say(f"{rate} events/s: p50 {median(ways):.2f} ms, p99 {quantile(ways, 0.99):.2f} ms")
                    figures += [
                        Figure(f"{count:,} sites, {rate} events/s → client, p{percent}", quantile(ways, percent / 100),
                               "ms", most=most)
                        for percent, most in PERCENT
                    ]  # fmt: skip
            seconds, used = started(server, folder / "sites", total, options.times(STARTS))
            starts.append((count, seconds))
            memories.append((count, used))
            assert server.process is not None
            held, _ = resident(server.process.pid)
            say(f"{count:,} sites: start {seconds:.2f} s, hub {used:.0f} MiB, server {held:.0f} MiB")
            figures += [
                Figure(f"{count:,} sites, start of a hub", seconds, "s", most=START_MOST if last else None),
                Figure(f"{count:,} sites, memory of the hub", used, "MiB"),
                Figure(f"{count:,} sites, memory of the server", held, "MiB"),
            ]
        figures += [
            Figure(f"snapshots of {TOGETHER} sites at a time, published", speeds[-1][0], "/s"),
            Figure("events of one site, published", speeds[-1][1], "/s"),
        ]
        began = time.monotonic()
        server.kill()
        server.start()
        server.request(f"$JS.API.STREAM.INFO.{LOG}")
        figures.append(Figure(f"{counts[-1]:,} sites, restart of the server", time.monotonic() - began, "s"))
    finally:
        server.kill()
    few = counts[-1] // 10
    server = NatsServer(folder / "devices", size=10 * SIZE)
    try:
        asyncio.run(publish(server, [f"site{number}" for number in range(few)], 10 * DEVICES))
        seconds, used = started(server, folder / "devices", 10 * few * DEVICES, options.times(STARTS))
        say(f"{few:,} sites with {10 * DEVICES:,} devices each: start {seconds:.2f} s, hub {used:.0f} MiB")
        figures += [
            Figure(f"{few:,} sites with {10 * DEVICES:,} devices each, start of a hub", seconds, "s"),
            Figure(f"{few:,} sites with {10 * DEVICES:,} devices each, memory of the hub", used, "MiB"),
        ]
    finally:
        server.kill()
    plots = (
        Plot("start", "Start of a hub by sites", "sites", "seconds", {"until its first answer": starts}),
        Plot("memory", "Memory of a hub by sites", "sites", "MiB", {"resident": memories}),
    )
    return Result(figures, {"ms": [round(value, 4) for value in took]}, NOTES, plots)


SIZE = 64 * 2**20
"""Bytes of the log for each 10,000 devices."""
NOTES = (
    f"each site has {DEVICES} devices; start: from the process to the answer of /healthz, with the devices in it",
    "publishing: by netscand-uplink's own code in one process; each message is on disk before the answer",
    "site, server, hub and client are on this machine; the site has a LAN of its own",
)

ROW = Row("sites", "many sites: seen_at of a frame at a site → a client of a hub; what sites cost", run)
