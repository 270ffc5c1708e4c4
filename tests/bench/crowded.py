"""The largest network that is scanned by itself, everybody there; and what a daemon is asked while it works on it."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab

NETWORK = "10.77.0.0/16"
ALIVE = 65_533
"""Every address but the network's, the broadcast address and the watcher's own."""

CONFIG: dict[str, Any] = {"scan": {"rate": 0, "tries": 4, "interval": 3600, "background_rate": 0.1}}
"""As fast as the interface takes it; and nearly nothing is asked before the wish, so that it meets a cold daemon."""

BEAT = 0.02
"""Seconds between an answer of /healthz and the next question: more would be work of its own."""


@contextmanager
def crowded(loss: float) -> Iterator[tuple[Lab, Crowd]]:
    """A lab with all of them."""
    with Lab(NETWORK) as lab:
        crowd = lab.crowd(seed=16)
        crowd.populate(str(ip) for ip in lab.network.hosts() if str(ip) != lab.watcher.ip)
        crowd.conditions(loss=loss)
        yield lab, crowd


def counted_scan(lab: Lab, daemon: Daemon) -> tuple[dict[str, float], list[float]]:
    """A `scan_now` seen from tests/bench/counter.py, and how long /healthz took meanwhile (ms)."""
    argv = [sys.executable, "-m", "tests.bench.counter", str(daemon.socket), "scan"]
    counter = lab.watcher.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert counter.stdout is not None
    if counter.stdout.readline() != "ready\n":
        raise RuntimeError("the counter did not start")
    with asked(daemon) as took:
        said, _ = counter.communicate("go\n", timeout=120)
    return json.loads(said), took


@contextmanager
def asked(daemon: Daemon) -> Iterator[list[float]]:
    """GET /healthz, one after another on one connection, while the block lasts: how long each took, in milliseconds.

    Whatever holds the loop for longer than BEAT is met by one of them, and that one takes as long.
    """
    took: list[float] = []
    over = threading.Event()

    def ask() -> None:
        connection = _Unix(daemon.socket)
        while not over.wait(BEAT):
            begun = time.monotonic()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            took.append(1000 * (time.monotonic() - begun))
        connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def memory(daemon: Daemon) -> tuple[float, float]:
    """Its resident memory now and at its highest, in MiB, as the kernel counts them."""
    lines = Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest}
    return kib["VmRSS"] / 1024, kib["VmHWM"] / 1024


def processor(daemon: Daemon) -> float:
    """Seconds of processor that it has used since its start: a busy machine changes it less than the clock."""
    words = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def stop(daemon: Daemon, timeout: float = 30.0) -> float:
    """SIGTERM: the seconds until it has ended. Raises subprocess.TimeoutExpired."""
    assert daemon.process is not None
    begun = time.monotonic()
    daemon.process.terminate()
    daemon.process.wait(timeout)
    return time.monotonic() - begun


def settle(daemon: Daemon, online: int, timeout: float = 60.0) -> None:
    """Until that many are online. Raises RuntimeError."""
    ends = time.monotonic() + timeout
    while time.monotonic() < ends:
        with suppress(OSError):
            if daemon.get("/api/status")["devices"]["online"] >= online:
                return
        time.sleep(0.2)
    raise RuntimeError(f"fewer than {online} devices after {timeout:g} s")
