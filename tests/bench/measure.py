"""What rows share: a full /16, other scanners on the same LAN, clients, and measures of a daemon while it works."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.lan import Host, Lab

NETWORK = "10.77.0.0/16"
ALIVE = 65_533
"""Every address but the network's, the broadcast address and the watcher's own."""

CONFIG: dict[str, Any] = {"scan": {"rate": 0, "tries": 4, "interval": 3600, "background_rate": 0.1}}
"""As fast as the interface takes it; and nearly nothing is asked before the request, so that it meets a cold daemon."""

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
    """A `scan_now` seen from tests/bench/clients.py, and how long /healthz took meanwhile (ms)."""
    argv = [sys.executable, "-m", "tests.bench.clients", str(daemon.socket), "scan"]
    counter = lab.watcher.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert counter.stdout is not None
    if counter.stdout.readline() != "ready\n":
        raise RuntimeError("the counter did not start")
    with asked(daemon) as took:
        said, _ = counter.communicate("go\n", timeout=120)
    return json.loads(said), took


def announced(
    lab: Lab, path: str, clients: int, newcomers: Sequence[str], pause: Callable[[], float]
) -> list[tuple[int, str, float, float, float]]:
    """Let devices announce themselves; each event at each client: client, cursor, seen_at, sent_at, received."""
    argv = [sys.executable, "-m", "tests.bench.clients", path, "listen", str(clients)]
    listeners = lab.watcher.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert listeners.stdout is not None
    if listeners.stdout.readline() != "ready\n":
        raise RuntimeError("the clients could not connect")
    time.sleep(0.5)
    began = time.time()
    for ip in newcomers:
        lab.crowds[0].join(ip)
        time.sleep(pause())
    time.sleep(0.5)
    output, _ = listeners.communicate(timeout=120)
    return [tuple(event) for event in json.loads(output) if event[2] and event[2] >= began]


@contextmanager
def asked(daemon: Daemon) -> Iterator[list[float]]:
    """GET /healthz, one after another on one connection, while the block lasts: how long each took, in milliseconds.

    Whatever holds the loop for longer than BEAT is met by one of them, and that one takes as long.
    """
    took: list[float] = []
    over = threading.Event()

    def ask() -> None:
        connection = daemon.connection()
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


def memory(daemon: Daemon) -> tuple[float, float]:
    """Its resident memory now and at its highest, in MiB, as the kernel counts them."""
    return resident(daemon.pid)


def resident(process: int) -> tuple[float, float]:
    """The same of any process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
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


# ---- how others scan a LAN: seconds as they report them, without their start, and the addresses that they found

Scan = tuple[float, set[str]]
ADDRESS = re.compile(r"^\d+\.\d+\.\d+\.\d+$")


def arp_scan(host: Host, network: str, *how: str) -> Scan:
    """arp-scan as it comes (2 tries, 500 ms, 256 kbit/s), or with these options."""
    said = host.run(["arp-scan", "-I", host.interface, *how, network]).stdout
    took = re.search(r"scanned in ([\d.]+) seconds", said)
    assert took, said
    found = {line.split("\t")[0] for line in said.splitlines() if "\t" in line}
    return float(took[1]), {ip for ip in found if ADDRESS.match(ip)}


def nmap(host: Host, network: str) -> Scan:
    """`nmap -sn -PR -n`; it counts its own address, which is left out here."""
    said = host.run(["nmap", "-sn", "-PR", "-n", "-e", host.interface, "-oG", "-", network]).stdout
    took = re.search(r"scanned in ([\d.]+) seconds", said)
    assert took, said
    return float(took[1]), set(re.findall(r"^Host: (\S+) .*Status: Up", said, re.MULTILINE)) - {host.ip}


SRP = """
import json, sys, time
from scapy.config import conf
from scapy.layers.l2 import ARP, Ether
from scapy.sendrecv import srp
interface, network = sys.argv[1:]
begun = time.monotonic()
answered, _ = srp(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=network), iface=interface, timeout=3, retry=3, verbose=0)
print(json.dumps([time.monotonic() - begun, sorted({reply.psrc for _, reply in answered})]))
"""


def scapy_srp(host: Host, network: str) -> Scan:
    """The push document's way: srp with its time-out of 3 s and 3 retries."""
    seconds, found = json.loads(host.run([sys.executable, "-W", "ignore", "-c", SRP, host.interface, network]).stdout)
    return seconds, set(found)


PEERS: dict[str, tuple[Callable[[Host, str], Scan], float]] = {
    "arp-scan": (arp_scan, 1.0),
    "nmap": (nmap, 1.0),
    "scapy srp": (scapy_srp, 0.2),
}
"""Name → how, and in what share of the rounds: srp takes twelve seconds."""
