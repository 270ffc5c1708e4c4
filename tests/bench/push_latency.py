"""From a frame's arrival (`seen_at`, the kernel's stamp) to a client's clock, for 1, 10 and 100 clients."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable

from tests.bench.row import Figure, Options, Result, Row, quantile
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


def measure(clients: int, joins: int) -> tuple[list[float], list[float]]:
    """Milliseconds from `seen_at` to each client's clock, and from `seen_at` to `sent_at`, for each event."""
    draw = random.Random(clients)
    with Lab(NETWORK) as lab:
        crowd = lab.crowd(seed=clients)
        addresses = lab.addresses(RESIDENTS + joins)
        crowd.populate(addresses[:RESIDENTS])
        daemon = lab.daemon(CONFIG, as_user=True)
        with daemon.websocket() as stream:
            while json.loads(stream.recv(timeout=30))["type"] != "scan_update":  # the first scan is over
                pass
        argv = [sys.executable, "-m", "tests.bench.listeners", str(daemon.socket), str(clients)]
        listeners = lab.watcher.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert listeners.stdout is not None
        assert listeners.stdout.readline() == "ready\n"
        before = daemon.get("/api/status")["cursor"]
        time.sleep(0.5)
        for ip in addresses[RESIDENTS:]:
            crowd.join(ip)
            time.sleep(draw.uniform(*APART))
        time.sleep(0.5)
        said, _ = listeners.communicate(timeout=60)
        first = int(before.rpartition("-")[2])
        events = [event for event in json.loads(said) if event[2] and int(event[1].rpartition("-")[2]) > first]
        if len(events) < clients * joins:
            raise RuntimeError(f"{clients} clients heard {len(events)} events, expected {clients * joins}")
        heard = [1000 * (at - seen) for _, _, seen, _, at in events]
        left = [1000 * (sent - seen) for number, _, seen, sent, _ in events if number == 0]
        return heard, left


def run(options: Options, say: Callable[[str], None]) -> Result:
    """A fresh daemon and lab for each number of clients."""
    figures, samples = [], {}
    for clients in CLIENTS:
        heard, left = measure(clients, options.times(JOINS))
        samples[f"{clients} clients, ms"] = [round(value, 4) for value in heard]
        samples[f"{clients} clients, seen_at to sent_at, ms"] = [round(value, 4) for value in left]
        for percent, most in PERCENT:
            value = quantile(heard, percent / 100)
            figures.append(Figure(f"{clients} clients, p{percent}", value, "ms", most=most))
        figures.append(Figure(f"{clients} clients, to sent_at, p50", quantile(left, 0.5), "ms"))
        say(f"{clients} clients: p50 {quantile(heard, 0.5):.3f} ms, p99 {quantile(heard, 0.99):.3f} ms")
    return Result(figures, samples, ("clients share two things with the daemon: the machine, and nothing else",))


ROW = Row("push", "seen_at of a gratuitous ARP → a client's clock on the same machine", run)
