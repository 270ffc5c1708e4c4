"""One event to many clients: from the frame's arrival (`seen_at`) to the last client's clock."""

import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable

from tests.bench.crowded import settle
from tests.bench.row import Figure, Options, Result, Row, median
from tests.lab.lan import Lab

CLIENTS = {1_000: 50.0}
LONG = {10_000: 500.0}
"""Clients → the most milliseconds to the last of them; LONG with --long."""
EVENTS = 20
RESIDENTS = 60
APART = 0.25
"""Seconds between two events for 1,000 clients: each finds all of them idle. More for more."""
OURS = 256
"""Descriptors that either side needs besides its clients."""


def measure(clients: int, events: int) -> list[float]:
    """Milliseconds to the last of them, for each event."""
    room = clients + OURS
    config = f"[listen]\nmax_clients = {room}\nmax_per_peer = {room}\n"
    with Lab("10.77.0.0/22") as lab:
        crowd = lab.crowd(seed=7)
        addresses = lab.addresses(RESIDENTS + events)
        crowd.populate(addresses[:RESIDENTS])
        daemon = lab.daemon(config, as_user=True)
        settle(daemon, RESIDENTS)
        argv = [sys.executable, "-m", "tests.bench.listeners", str(daemon.socket), str(clients)]
        listeners = lab.watcher.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert listeners.stdout is not None
        if listeners.stdout.readline() != "ready\n":
            raise RuntimeError("the clients could not connect")
        first = int(daemon.get("/api/status")["cursor"].rpartition("-")[2])
        time.sleep(1)
        for ip in addresses[RESIDENTS:]:
            crowd.join(ip)
            time.sleep(APART * max(1, clients / 1000))
        said, _ = listeners.communicate(timeout=120)
    heard: dict[str, list[float]] = defaultdict(list)
    for _, cursor, seen, _, at in json.loads(said):
        if seen is not None and int(cursor.rpartition("-")[2]) > first:
            heard[cursor].append(1000 * (at - seen))
    whole = [max(took) for took in heard.values() if len(took) == clients]
    if len(whole) < events:
        raise RuntimeError(f"{len(whole)} of {events} events reached all of {clients} clients")
    return whole


def run(options: Options, say: Callable[[str], None]) -> Result:
    """A lab and a daemon for each number of clients."""
    figures, samples, notes = (
        [],
        {},
        ["all clients are in one process, which reads them one after another, on the same machine as the daemon"],
    )
    for clients, most in (CLIENTS | (LONG if options.long else {})).items():
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < clients + OURS:
            notes.append(f"{clients:,} clients: not run, too few descriptors (ulimit -Hn)")
            continue
        took = measure(clients, options.times(EVENTS))
        samples[f"{clients} clients, ms to the last"] = [round(value, 3) for value in took]
        figures.append(Figure(f"{clients:,} clients, until the last one has it, median", median(took), "ms", most=most))
        figures.append(Figure(f"{clients:,} clients, worst of {len(took)} events", max(took), "ms"))
        say(f"{clients} clients: median {median(took):.1f} ms, worst {max(took):.1f} ms")
    return Result(figures, samples, tuple(notes))


ROW = Row("fanout", "one event → the last of many clients", run)
