"""An event's way to its clients, from the frame's arrival (`seen_at`, the kernel's stamp) to a client's clock."""

import json
import random
import resource
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from tempfile import TemporaryDirectory

from tests.bench.measure import announced, settle
from tests.bench.report import Figure, Options, Result, Row, median, quantile
from tests.lab.lan import Lab

NETWORK = "10.77.0.0/22"
RESIDENTS = 60

# ---- push: each of 1, 10 and 100 clients

CLIENTS = (1, 10, 100)
JOINS = 200
"""Devices that come, each with a gratuitous ARP; fewer than a flood."""
APART = (0.02, 0.08)
"""Seconds between two of them, drawn evenly: no beat of the daemon's own can hide behind it."""
CONFIG = "[listen]\nmax_clients = 1000\nmax_per_peer = 1000\n"
PERCENT = ((50, 1.0), (99, 5.0))
"""Percentile, and the most milliseconds it may be with 100 clients."""
RATIO = {1: 1.5, 100: 2.5}
"""Clients → the most times of the barest push that the median may be."""


def populated(lab: Lab, seed: int, joins: int) -> list[str]:
    """Populate the LAN; return the addresses of the devices that will come."""
    addresses = lab.addresses(RESIDENTS + joins)
    lab.crowd(seed).populate(addresses[:RESIDENTS])
    return addresses[RESIDENTS:]


def listened(lab: Lab, path: str, clients: int, newcomers: list[str]) -> tuple[list[float], list[float]]:
    """Return milliseconds from `seen_at` to each client's clock, and from `seen_at` to `sent_at`, for each event."""
    draw = random.Random(clients)
    events = announced(lab, path, clients, newcomers, lambda: draw.uniform(*APART))
    if len(events) < clients * len(newcomers):
        raise RuntimeError(f"{clients} clients received {len(events)} events, expected {clients * len(newcomers)}")
    heard = [1000 * (at - seen) for _, _, seen, _, at in events]
    left = [1000 * (sent - seen) for number, _, seen, sent, _ in events if number == 0]
    return heard, left


def netscand(clients: int, joins: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of `listened` for a daemon."""
    with Lab(NETWORK) as lab:
        newcomers = populated(lab, clients, joins)
        daemon = lab.daemon(CONFIG, as_user=True)
        with daemon.websocket() as stream:
            while json.loads(stream.recv(timeout=30))["type"] != "scan_update":  # the first scan is over
                pass
        return listened(lab, str(daemon.socket), clients, newcomers)


def barest(clients: int, joins: int) -> list[float]:
    """Return the same of the least that Python can do (tests/bench/barest_push.py): milliseconds to each client."""
    with Lab(NETWORK) as lab, TemporaryDirectory() as folder:
        newcomers = populated(lab, clients, joins)
        path = f"{folder}/socket"
        argv = [sys.executable, "-m", "tests.bench.barest_push", lab.watcher.interface, path, f"{folder}/db"]
        server = lab.watcher.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        if server.stdout.readline() != "ready\n":
            raise RuntimeError("the barest push did not start")
        heard, _ = listened(lab, path, clients, newcomers)
        server.communicate(timeout=10)
        return heard


def push(options: Options, say: Callable[[str], None]) -> Result:
    """Measure netscand and the barest push in turn, in a new lab each, for each number of clients."""
    figures, samples = [], {}
    for clients in CLIENTS:
        heard, left = netscand(clients, options.times(JOINS))
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


# ---- fanout: the last of many clients

MANY = {1_000: 50.0}
LONG = {10_000: 500.0}
"""Clients → the most milliseconds to the last of them; LONG with --long."""
EVENTS = 20
EVENTS_APART = 0.25
"""Seconds between two events for 1,000 clients: each finds all of them idle. More for more."""
OURS = 256
"""Descriptors that either side needs besides its clients."""


def last_client(clients: int, events: int) -> list[float]:
    """Milliseconds to the last of them, for each event."""
    room = clients + OURS
    config = f"[listen]\nmax_clients = {room}\nmax_per_peer = {room}\n"
    heard: dict[str, list[float]] = defaultdict(list)
    with Lab(NETWORK) as lab:
        newcomers = populated(lab, 7, events)
        daemon = lab.daemon(config, as_user=True)
        settle(daemon, RESIDENTS)
        apart = EVENTS_APART * max(1, clients / 1000)
        for _, cursor, seen, _, at in announced(lab, str(daemon.socket), clients, newcomers, lambda: apart):
            heard[cursor].append(1000 * (at - seen))
    whole = [max(took) for took in heard.values() if len(took) == clients]
    if len(whole) < events:
        raise RuntimeError(f"{len(whole)} of {events} events reached all of {clients} clients")
    return whole


def fanout(options: Options, say: Callable[[str], None]) -> Result:
    """A lab and a daemon for each number of clients."""
    figures, samples = [], {}
    notes = ["all clients are in one process, which reads them one after another, on the same machine as the daemon"]
    for clients, most in (MANY | (LONG if options.long else {})).items():
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < clients + OURS:
            notes.append(f"{clients:,} clients: not run, too few descriptors (ulimit -Hn)")
            continue
        took = last_client(clients, options.times(EVENTS))
        samples[f"{clients} clients, ms to the last"] = [round(value, 3) for value in took]
        figures.append(Figure(f"{clients:,} clients, until the last one has it, median", median(took), "ms", most=most))
        figures.append(Figure(f"{clients:,} clients, worst of {len(took)} events", max(took), "ms"))
        say(f"{clients} clients: median {median(took):.1f} ms, worst {max(took):.1f} ms")
    return Result(figures, samples, tuple(notes))


ROW = Row("push", "seen_at of a gratuitous ARP → a client's clock on the same machine", push)
FANOUT = Row("fanout", "one event → the last of many clients", fanout)
