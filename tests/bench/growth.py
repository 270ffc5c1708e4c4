"""How times and memory grow with devices, with clients and with the history: curves, not bounds."""

import asyncio
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from netscand.core.model import Status
from tests.bench import push
from tests.bench.measure import CONFIG, asked, counted_scan, memory, processor
from tests.bench.plot import Plot
from tests.bench.report import Figure, Options, Result, Row, median
from tests.lab.lan import Lab
from tests.lab.ordinary import NOBODY
from tests.store.diary import FakeClock, device, diary, discovered, turned

PREFIXES = (28, 24, 20, 16)
"""Networks in which every address is alive: 13, 253, 4,093 and 65,533 devices."""
APART = 5.5
"""Seconds between two requests: a whole network is scanned at the full rate at most once in 5 s."""
CLIENTS = (1, 10, 100, 1_000)
JOINS = 60
EVENTS = (100, 1_000, 10_000, 100_000)
HOME = 60
"""Devices that the events are about."""
STARTS = 5

Samples = dict[str, list[float]]
Curve = list[tuple[float, float]]


def with_devices(prefix: int, options: Options) -> dict[str, float]:
    """Measure a daemon that knows every device of a network."""
    with Lab(f"10.77.0.0/{prefix}") as lab:
        ips = [str(ip) for ip in lab.network.hosts() if str(ip) != lab.watcher.ip]
        lab.crowd(seed=prefix).populate(ips)
        daemon = lab.daemon(CONFIG, as_user=True)
        counted_scan(lab, daemon)
        time.sleep(APART)
        before = processor(daemon)
        warm, _ = counted_scan(lab, daemon)
        used = processor(daemon) - before
        if warm["found"] < 0.9999 * len(ips):
            raise RuntimeError(f"{warm['found']} of {len(ips)} devices are known")
        argv = [sys.executable, "-m", "tests.bench.clients", str(daemon.socket), "snapshot"]
        took = [json.loads(lab.watcher.run(argv).stdout)["seconds"] for _ in range(options.times(STARTS))]
        resident, _ = memory(daemon)
        with asked(daemon) as held:
            lab.watcher.down()
            time.sleep(1)
        return {
            "devices": len(ips), "scan": warm["ended"], "processor": used, "memory": resident,
            "snapshot": median(took), "held": max(held),
        }  # fmt: skip


def write_history(path: Path, events: int) -> None:
    """Write the history of a home in which devices come and go."""

    async def play() -> None:
        now = time.monotonic()
        async with diary(path, FakeClock(time.time() - now)) as book:
            home = [device(number, now) for number in range(1, HOME + 1)]
            await book.write(*(discovered(each, now) for each in home))
            for number in range(events - HOME):
                each = home[number % HOME]
                book.append(turned(each, Status.ONLINE if each.status is Status.OFFLINE else Status.OFFLINE, now))
                if not number % 500:
                    await book.history.settled()

    asyncio.run(play())


def starts(events: int, options: Options) -> list[float]:
    """Return the seconds from the start of the process to its readiness, with a history of so many events."""
    took = []
    with TemporaryDirectory() as folder, Lab() as lab:
        write_history(written := Path(folder) / "h.db", events)
        for _ in range(options.times(STARTS)):
            daemon = lab.daemon(as_user=True, start=False)
            shutil.copyfile(written, daemon.history)
            os.chown(daemon.history, NOBODY, NOBODY)
            began = time.monotonic()
            daemon.start()
            took.append(time.monotonic() - began)
            daemon.stop()
    return took


def run(options: Options, say: Callable[[str], None]) -> Result:
    """Devices, then clients, then events."""
    by_devices = []
    for prefix in PREFIXES:
        by_devices.append(found := with_devices(prefix, options))
        say(
            f"{found['devices']:,} devices: scan {found['scan']:.2f} s, processor {found['processor']:.2f} s,"
            f" {found['memory']:.1f} MiB, snapshot {found['snapshot']:.3f} s, network_down {found['held']:.1f} ms"
        )
    ours: Curve = []
    least: Curve = []
    notes = list(NOTES)
    for clients in CLIENTS:
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < clients + push.OURS:
            notes.append(f"{clients:,} clients: not run, too few descriptors (ulimit -Hn)")
            continue
        joins = options.times(JOINS)
        ours.append((clients, median(push.netscand(clients, joins)[0])))
        least.append((clients, median(push.barest(clients, joins))))
        say(f"{clients:,} clients: p50 {ours[-1][1]:.3f} ms, the barest push {least[-1][1]:.3f} ms")
    start: Curve = []
    for events in EVENTS:
        start.append((events, median(starts(events, options))))
        say(f"{events:,} events: ready after {start[-1][1]:.3f} s")

    def curve(name: str) -> Curve:
        return [(found["devices"], found[name]) for found in by_devices if found[name] > 0]  # the kernel counts 10 ms

    seconds = {
        "scan, all known": curve("scan"), "processor for it": curve("processor"), "snapshot": curve("snapshot"),
    }  # fmt: skip
    plots = (
        Plot("devices", "Time by devices", "devices", "seconds", seconds),
        Plot("memory", "Memory by devices", "devices", "MiB", {"resident": curve("memory")}),
        Plot("clients", "Push by clients", "clients", "ms, median", {"netscand": ours, "the barest push": least}),
        Plot("history", "Start by size of the history", "events", "seconds", {"until it is ready": start}),
    )
    samples = {f"{plot.title}: {name}": [y for _, y in line] for plot in plots for name, line in plot.series.items()}
    return Result(figures(by_devices, ours, start), samples, notes, plots)


def figures(by_devices: list[dict[str, float]], ours: Curve, start: Curve) -> list[Figure]:
    """Return the ends of the curves, and what network_down costs."""
    few, many = by_devices[0], by_devices[-1]
    count = f"{many['devices']:,} devices"
    return [
        Figure("memory of each further device", 1024 * (many["memory"] - few["memory"]) / many["devices"], "KiB"),
        Figure(f"{count}, processor of a scan, for each", 1e6 * many["processor"] / many["devices"], "µs"),
        Figure(f"{count}, snapshot, for each", 1e6 * many["snapshot"] / many["devices"], "µs"),
        Figure(f"{count}, network_down, the slowest /healthz", many["held"], "ms", most=20),
        Figure(f"{ours[-1][0]:,} clients, push p50, for each", 1000 * ours[-1][1] / ours[-1][0], "µs"),
        Figure(f"{start[-1][0]:,} events, until it is ready", start[-1][1], "s"),
    ]


NOTES = (
    "devices: all addresses of a /28, /24, /20 and /16, rate = 0; the scan is a second one, of devices that are known",
    "clients: as in the row push; history: events of 60 devices that come and go, the process from its start to READY",
)

ROW = Row("growth", "how times and memory grow with devices, clients and the history", run)
