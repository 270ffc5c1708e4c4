"""`scan_now` on a /24, 34 of 254 alive, 5 % loss, beside arp-scan, nmap and scapy."""

import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from websockets.sync.client import ClientConnection

from tests.bench.measure import PEERS
from tests.bench.report import Figure, Options, Result, Row, median
from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab

NETWORK = "10.77.0.0/24"
ALIVE = 34
LOSS = 0.05
SCANS = 20
COLD_SCANS = 5
APART = 5.5
"""Seconds between two requests: a whole network is asked at `rate` at most once in 5 s, and the wait is not counted."""


class Scan(NamedTuple):
    """One `scan_now`, seen from its client."""

    seconds: float
    """From the request to its `scan_update`."""
    first: float
    """To the first event, or the first progress with something found."""
    found: int


def scan_now(stream: ClientConnection) -> Scan:
    """Request a scan of everything; what came of it."""
    with suppress(TimeoutError):  # what waits is of before
        while True:
            stream.recv(timeout=0)
    begun = time.monotonic()
    stream.send(json.dumps({"type": "scan_now", "request": "bench"}))
    scan_id, first, found = None, float("nan"), 0
    while True:
        message = json.loads(stream.recv(timeout=30))
        now = time.monotonic() - begun
        match message["type"]:
            case "scan_accepted":
                scan_id = message["scan_id"]
            case "event" if first != first:
                first = now
            case "scan_progress" if message["scan_id"] == scan_id:
                found = message["found"]
                if found and first != first:
                    first = now
            case "scan_update" if scan_id is not None and message["scan_id"] == scan_id:
                return Scan(now, first, found)
            case "error" | "scan_error":
                raise RuntimeError(f"the daemon refused: {message}")


def run(options: Options, say: Callable[[str], None]) -> Result:
    """The daemon at the watcher; the peers at another host, so that none of their answers teach the daemon anything.

    That host is one of the 34 that the daemon sees, as the watcher is one of the 34 that the peers see.
    """
    alive = random.Random(24).sample(range(3, 254), ALIVE - 1)
    samples: dict[str, list[float]] = {}
    missed: dict[str, list[float]] = {}

    def note(who: str, seconds: float, found: int) -> None:
        samples.setdefault(f"{who}, seconds", []).append(seconds)
        missed.setdefault(f"{who}, missed", []).append(ALIVE - found)

    with Lab(NETWORK) as lab:
        peer = lab.host(str(lab.network[254]), name="peer")
        crowd = lab.crowd(seed=24)
        crowd.populate(str(lab.network[n]) for n in alive)
        crowd.conditions(loss=LOSS)
        daemon = lab.daemon(as_user=True)
        firsts = []
        with daemon.websocket() as stream:
            rounds = options.times(SCANS)
            for number in range(rounds):
                ends = time.monotonic() + APART
                for name, (scan, share) in PEERS.items():
                    if number < rounds * share:
                        seconds, ips = scan(peer, NETWORK)
                        note(name, seconds, len(ips))
                time.sleep(max(0.0, ends - time.monotonic()))
                done = scan_now(stream)
                note("netscand", done.seconds, done.found)
                firsts.append(done.first)
                say(f"round {number + 1} of {rounds}: {done.found} of {ALIVE} in {done.seconds:.3f} s")
        daemon.stop()
        samples["netscand, first found"] = firsts
        for _ in range(options.times(COLD_SCANS)):
            done = cold(lab, crowd)
            note("netscand cold", done.seconds, done.found)
            say(f"cold: {done.found} of {ALIVE} in {done.seconds:.3f} s")
    return Result(figures(samples, missed), samples | missed, NOTES)


def cold(lab: Lab, crowd: Crowd) -> Scan:
    """A daemon that never heard of anyone but the peer: the crowd slept through its first scan."""
    people = [str(lab.network[n]) for n in random.Random(24).sample(range(3, 254), ALIVE - 1)]
    for who in people:
        crowd.sleep(who)
    daemon: Daemon = lab.daemon(as_user=True)
    with daemon.websocket() as stream:
        while json.loads(stream.recv(timeout=30))["type"] != "scan_update":
            pass
        for who in people:
            crowd.wake(who, say="none")
        time.sleep(APART)
        done = scan_now(stream)
    daemon.stop()
    return done


def figures(samples: dict[str, list[float]], missed: dict[str, list[float]]) -> list[Figure]:
    """The medians, their ratios, and the share of the devices that each found."""
    ours = median(samples["netscand, seconds"])
    share = {who.partition(",")[0]: 1 - sum(many) / len(many) / ALIVE for who, many in missed.items()}
    peers = {name: median(samples[f"{name}, seconds"]) for name in PEERS}
    bounds = {"arp-scan": 0.5, "nmap": 0.7}
    return [
        Figure("netscand scan_now, median", ours, "s"),
        Figure("netscand scan_now, cold, median", median(samples["netscand cold, seconds"]), "s"),
        *(Figure(f"{name}, median", seconds, "s") for name, seconds in peers.items()),
        *(Figure(f"netscand / {name}", ours / seconds, "×", most=bounds.get(name)) for name, seconds in peers.items()),
        Figure("found by netscand", 100 * share["netscand"], "%", least=100 * max(share[name] for name in PEERS)),
        Figure("found by netscand, cold", 100 * share["netscand cold"], "%"),
        *(Figure(f"found by {name}", 100 * share[name], "%") for name in PEERS),
        Figure("first found at a client, median", 1000 * median(samples["netscand, first found"]), "ms", most=20),
    ]


NOTES = (
    "netscand: from the request of a WebSocket client to its scan_update; peers: seconds that they report",
    "5 % loss: each request stays unanswered with that probability; peers run on another host of the same lab",
    "cold: 33 of the 34 devices are new to the daemon",
)

ROW = Row("scan-24", f"scan_now on a /24, {ALIVE} of 254 alive, 5 % loss, default settings", run)
