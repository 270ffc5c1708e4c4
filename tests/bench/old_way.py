"""The push document's own design (tests/bench/baseline.py) and netscand, one after the other in one lab."""

import json
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.clients import PONG, PONG_EVERY, connect, texts, unix
from tests.bench.measure import settle
from tests.bench.report import Figure, Options, Result, Row, median, quantile
from tests.bench.scan_24 import APART, scan_now
from tests.lab.lan import Lab

ALIVE = 34
CLIENTS = 100
AFTER = (2.0, 12.0, 22.0)
"""Seconds after the baseline's scan at which a device comes: early, midway and late in its 30 s of sleep."""
JOINS = 20
SILENT = 3
SILENT_APART = 5.0
PATIENCE = 120.0
ROOM = 1 << 16
QUIET = 0.005
"""Seconds without a word until what was read is understood."""

Heard = tuple[float, int, dict[str, Any]]


class Clients:
    """WebSocket clients of either, in this process."""

    def __init__(self, path: Path, count: int) -> None:
        self._poll = select.epoll()
        self._streams: dict[int, tuple[int, socket.socket, bytes]] = {}
        self._pong_at = time.monotonic() + PONG_EVERY
        for number in range(count):
            client, rest = connect(str(path))
            self._streams[client.fileno()] = (number, client, rest)
            self._poll.register(client, select.EPOLLIN)

    def hear(self, seconds: float) -> Iterator[Heard]:
        """For that long: when, which client, what. All that is there is read and stamped before any is understood."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            read: list[tuple[float, int, bytes]] = []
            ready = self._poll.poll(min(left, 1.0))
            while ready:
                read += [(time.time(), fd, self._streams[fd][1].recv(ROOM)) for fd, _ in ready]
                ready = self._poll.poll(QUIET)
            for at, fd, piece in read:
                number, client, rest = self._streams[fd]
                stream, place = rest + piece, 0
                for end, text in texts(stream):
                    if end > len(stream):
                        break
                    place = end
                    yield at, number, json.loads(text)
                self._streams[fd] = (number, client, stream[place:])
            if time.monotonic() > self._pong_at:
                self._pong_at = time.monotonic() + PONG_EVERY
                for _, client, _ in self._streams.values():
                    client.send(PONG)

    def close(self) -> None:
        """End them."""
        self._poll.close()
        for _, client, _ in self._streams.values():
            client.close()


@contextmanager
def clients(path: Path) -> Iterator[Clients]:
    """All of them, connected."""
    many = Clients(path, CLIENTS)
    try:
        yield many
    finally:
        many.close()


def baseline(lab: Lab, newcomers: list[str]) -> dict[str, list[float]]:
    """Its first two scans, and devices that come between them. Seconds, but for `update` (ms)."""
    crowd, path = lab.crowds[0], lab.folder / "baseline.sock"
    argv = [sys.executable, "-W", "ignore", "-m", "tests.bench.baseline"]
    server = lab.watcher.popen([*argv, lab.watcher.interface, str(lab.network), str(path)], stdout=subprocess.PIPE)
    assert server.stdout is not None
    server.stdout.readline()
    out: dict[str, list[float]] = {"scan": [], "found": [], "update": [], "last": [], "join": []}
    joined: dict[str, float] = {}
    with clients(path) as many:

        def update() -> dict[str, Any]:
            got, said, last = 0, {}, 0.0
            for at, _, message in many.hear(PATIENCE):
                if message["type"] == "scan_update":
                    got, said, last = got + 1, message, at
                    out["update"].append(1000 * (at - message["sent_at"]))
                if got == CLIENTS:
                    break
            out["scan"].append(said["took"])
            out["found"].append(len(said["devices"]))
            out["last"].append(1000 * (last - said["sent_at"]))
            return said | {"last": last}

        update()
        begun = time.monotonic()
        for ip, after in zip(newcomers, AFTER, strict=False):
            time.sleep(max(0.0, begun + after - time.monotonic()))
            crowd.join(ip)
            joined[ip] = time.time()
        said = update()
        told = {device["ip"] for device in said["devices"]}
        out["join"] = [said["last"] - at for ip, at in joined.items() if ip in told]
    lab.watcher.space.end(server, now=True)
    for ip in joined:
        crowd.leave(ip)
    return out


def ours(lab: Lab, newcomers: list[str], rounds: int) -> dict[str, list[float]]:
    """The same of netscand: devices that announce themselves, devices that do not, and a scan."""
    crowd = lab.crowds[0]
    daemon = lab.daemon("[listen]\nmax_clients = 1000\nmax_per_peer = 1000\n", as_user=True)
    settle(daemon, ALIVE)
    out: dict[str, list[float]] = {"scan": [], "found": [], "update": [], "last": [], "join": [], "silent": []}
    with daemon.websocket() as stream:
        for _ in range(rounds):
            time.sleep(APART)
            done = scan_now(stream)
            out["scan"].append(done.seconds)
            out["found"].append(done.found)

    def told(many: Clients, joined: dict[str, float], wait: float) -> dict[str, list[Heard]]:
        heard: dict[str, list[Heard]] = {ip: [] for ip in joined}
        for each in many.hear(wait):
            if each[2]["type"] == "event" and each[2]["address"] in heard:
                heard[each[2]["address"]].append(each)
            if all(len(those) == CLIENTS for those in heard.values()):
                return heard
        raise RuntimeError(f"{', '.join(joined)}: not told to all within {wait:g} s")

    with clients(daemon.socket) as many:
        for ip in newcomers[SILENT:]:
            crowd.join(ip)
            joined = time.time()
            heard = told(many, {ip: joined}, 10)[ip]
            out["update"] += [1000 * (at - (unix(message["sent_at"]) or 0)) for at, _, message in heard]
            out["last"].append(1000 * (heard[-1][0] - (unix(heard[0][2]["sent_at"]) or 0)))
            out["join"].append(heard[-1][0] - joined)
        quiet: dict[str, float] = {}
        for ip in newcomers[:SILENT]:
            crowd.join(ip, say="none")
            quiet[ip] = time.time()
            time.sleep(SILENT_APART)
        for ip, heard in told(many, quiet, PATIENCE).items():
            out["silent"].append(stamp(heard[0]) - quiet[ip])
    daemon.stop()
    return out


def stamp(heard: Heard) -> float:
    """When it was sent: these clients did not read all the while."""
    return unix(heard[2]["sent_at"]) or float("nan")


def run(options: Options, say: Callable[[str], None]) -> Result:
    """The baseline first: what it leaves in the lab is nothing."""
    with Lab() as lab:
        people = random.Random(24).sample(range(3, 254), ALIVE + JOINS + SILENT)
        addresses = [str(lab.network[n]) for n in people]
        lab.crowd(seed=24).populate(addresses[:ALIVE])
        lab.crowds[0].conditions(loss=0.05)
        newcomers = addresses[ALIVE:][: options.times(JOINS) + SILENT]
        old = baseline(lab, newcomers)
        say(f"baseline: a scan {median(old['scan']):.1f} s, a newcomer told after {median(old['join']):.1f} s")
        new = ours(lab, newcomers, options.times(5))
        say(f"netscand: a scan {median(new['scan']):.2f} s, a newcomer told after {1000 * median(new['join']):.1f} ms")
    scan = median(new["scan"]), median(old["scan"])
    figures = [
        Figure("scan, baseline, median of 2", scan[1], "s"),
        Figure("scan, netscand (scan_now), median", scan[0], "s"),
        Figure("scan, netscand / baseline", scan[0] / scan[1], "×"),
        Figure("a device joins, until the last client gets the event, baseline, median of 3", median(old["join"]), "s"),
        Figure("the same, baseline, worst", max(old["join"], default=float("nan")), "s"),
        Figure("the same, netscand, it announces itself, median", median(new["join"]), "s"),
        Figure("the same, netscand, it sends nothing, median of 3", median(new["silent"]), "s"),
        Figure("the same, netscand, it sends nothing, worst", max(new["silent"]), "s"),
        Figure(f"sent → a client's clock, {CLIENTS} clients, baseline, p50", median(old["update"]), "ms"),
        Figure("the same, baseline, p99", quantile(old["update"], 0.99), "ms"),
        Figure("the same, baseline, the last client, median of 2", median(old["last"]), "ms"),
        Figure("the same, netscand, p50", median(new["update"]), "ms"),
        Figure("the same, netscand, p99", quantile(new["update"], 0.99), "ms"),
        Figure("the same, netscand, the last client, median", median(new["last"]), "ms"),
    ]
    samples = {
        f"{who}, {name}": values
        for who, all_ in (("baseline", old), ("netscand", new))
        for name, values in all_.items()
    }
    return Result(figures, samples, NOTES)


NOTES = (
    "baseline: srp, timeout=3, retry=3, over the /24 in a thread; the whole list to each client in turn; 30 s of sleep",
    "its new devices join 2, 12 and 22 s after the end of a scan; on average, a device waits (30 + scan) / 2 + scan",
    "netscand finds silent new devices by its scans, every 30 s; after ten quiet minutes, that may take five minutes",
)

ROW = Row(
    "baseline",
    f"the push document's own design, in a small program, beside netscand; {ALIVE} of 254 alive, 5 % loss",
    run,
)
