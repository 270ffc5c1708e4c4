"""From a frame's arrival (`seen_at`, the kernel's stamp) to a client's clock, for 1, 10 and 100 clients."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory

from tests.bench.row import Figure, Options, Result, Row, median, quantile
from tests.lab.crowd import Crowd
from tests.lab.lan import Lab

NETWORK = "10.77.0.0/22"
CLIENTS = (1, 10, 100)
JOINS = 200
"""Devices that come, each with a gratuitous ARP; fewer than a flood."""
APART = (0.02, 0.08)
"""Seconds between two of them, drawn evenly: no beat of the daemon's own can hide behind it."""
RESIDENTS = 60

CONFIG = "[listen]\nmax_clients = 1000\nmax_per_peer = 1000\n"
PERCENT = ((50, 1.0), (99, 5.0))
"""Percentile, and the most milliseconds it may be with 100 clients."""
RATIO = {1: 1.5, 100: 2.5}
"""Clients → the most times of the barest push that the median may be."""


def prepare(clients: int, joins: int, lab: Lab) -> tuple[Crowd, list[str]]:
    """Populate the LAN; return its crowd, and the addresses of the devices that will come."""
    crowd = lab.crowd(seed=clients)
    addresses = lab.addresses(RESIDENTS + joins)
    crowd.populate(addresses[:RESIDENTS])
    return crowd, addresses[RESIDENTS:]


def measure(clients: int, joins: int) -> tuple[list[float], list[float]]:
    """Return milliseconds from `seen_at` to each client's clock, and from `seen_at` to `sent_at`, for each event."""
    with Lab(NETWORK) as lab:
        crowd, addresses = prepare(clients, joins, lab)
        daemon = lab.daemon(CONFIG, as_user=True)
        with daemon.websocket() as stream:
            while json.loads(stream.recv(timeout=30))["type"] != "scan_update":  # the first scan is over
                pass
        return listened(lab, crowd, str(daemon.socket), addresses, clients)


def barest(clients: int, joins: int) -> list[float]:
    """Return the same of the least that Python can do (tests/bench/barest_push.py): milliseconds to each client."""
    with Lab(NETWORK) as lab, TemporaryDirectory() as folder:
        crowd, addresses = prepare(clients, joins, lab)
        path = f"{folder}/socket"
        argv = [sys.executable, "-m", "tests.bench.barest_push", lab.watcher.interface, path, f"{folder}/db"]
        server = lab.watcher.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        if server.stdout.readline() != "ready\n":
            raise RuntimeError("the barest push did not start")
        heard, _ = listened(lab, crowd, path, addresses, clients)
        server.communicate(timeout=10)
        return heard


def listened(
    lab: Lab, crowd: Crowd, path: str, addresses: Sequence[str], clients: int
) -> tuple[list[float], list[float]]:
    """Let devices come while clients listen at `path`."""
    draw = random.Random(clients)
    argv = [sys.executable, "-m", "tests.bench.listeners", path, str(clients)]
    listeners = lab.watcher.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert listeners.stdout is not None
    assert listeners.stdout.readline() == "ready\n"
    time.sleep(0.5)
    began = time.time()
    for ip in addresses:
        crowd.join(ip)
        time.sleep(draw.uniform(*APART))
    time.sleep(0.5)
    output, _ = listeners.communicate(timeout=60)
    events = [event for event in json.loads(output) if event[2] and event[2] >= began]
    if len(events) < clients * len(addresses):
        raise RuntimeError(f"{clients} clients received {len(events)} events, expected {clients * len(addresses)}")
    heard = [1000 * (at - seen) for _, _, seen, _, at in events]
    left = [1000 * (sent - seen) for number, _, seen, sent, _ in events if number == 0]
    return heard, left


def run(options: Options, say: Callable[[str], None]) -> Result:
    """Measure netscand and the barest push in turn, in a new lab each, for each number of clients."""
    figures, samples = [], {}
    for clients in CLIENTS:
        heard, left = measure(clients, options.times(JOINS))
        least = barest(clients, options.times(JOINS))
        samples[f"{clients} clients, ms"] = [round(value, 4) for value in heard]
        samples[f"{clients} clients, seen_at to sent_at, ms"] = [round(value, 4) for value in left]
        samples[f"{clients} clients, the barest push, ms"] = [round(value, 4) for value in least]
        for percent, most in PERCENT:
            value = quantile(heard, percent / 100)
            figures.append(Figure(f"{clients} clients, p{percent}", value, "ms", most=most))
        figures.append(Figure(f"{clients} clients, to sent_at, p50", quantile(left, 0.5), "ms"))
        figures.append(Figure(f"{clients} clients, the barest push, p50", median(least), "ms"))
        ratio = median(heard) / median(least)
        figures.append(Figure(f"{clients} clients, netscand / barest, p50", ratio, "×", most=RATIO.get(clients)))
        say(
            f"{clients} clients: p50 {median(heard):.3f} ms, p99 {quantile(heard, 0.99):.3f} ms;"
            f" barest p50 {median(least):.3f} ms, p99 {quantile(least, 0.99):.3f} ms"
        )
    notes = (
        "clients run in processes of their own, on the same machine as the daemon",
        "the barest push (tests/bench/barest_push.py): ring, struct, one row committed, one frame to each client",
    )
    return Result(figures, samples, notes)


ROW = Row("push", "seen_at of a gratuitous ARP → a client's clock on the same machine", run)
