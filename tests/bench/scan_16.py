"""`scan_now` on a /16 where all are alive, 5 % loss, by a new daemon and once more, beside arp-scan at its fastest."""

import json
import sys
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory

from tests.bench.measure import ALIVE, CONFIG, NETWORK, arp_scan, counted_scan, crowded, memory, processor, stop
from tests.bench.report import Figure, Options, Result, Row, median, quantile
from tests.lab.lan import Lab

LOSS = 0.05
ROUNDS = 5
ENOUGH = 0.9999
"""The share that has to be found: of ours, and of what counts as loss-free of arp-scan."""

SPEEDS = ("200M", "100M", "50M", "20M")
APART = 5.5
"""Seconds between the two scans: a whole network is scanned at the full rate at most once in 5 s."""

TIMEOUT = 50
"""Milliseconds, where 500 are usual: the lab answers sooner, and each retry multiplies it by 1.5. Shorter is faster."""


def peer(lab: Lab, speed: str) -> tuple[float, int]:
    """arp-scan with four retries: its seconds, and how many it found."""
    seconds, ips = arp_scan(
        lab.watcher, NETWORK, f"--bandwidth={speed}", "--retry=4", f"--timeout={TIMEOUT}", "-q", "-g"
    )
    return seconds, len(ips)


def barest(lab: Lab) -> float:
    """Seconds of the least that Python can do (tests/bench/barest.py)."""
    with TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "tests.bench.barest", lab.watcher.interface, lab.watcher.ip, NETWORK, folder]
        return float(json.loads(lab.watcher.run(argv).stdout)["seconds"])


def fastest(lab: Lab, say: Callable[[str], None]) -> str:
    """The speed with which it finds enough in the least time."""
    tried: list[tuple[float, str]] = []
    for speed in SPEEDS:
        seconds, found = peer(lab, speed)
        say(f"arp-scan --bandwidth={speed}: {found} in {seconds:.2f} s")
        if found >= ENOUGH * ALIVE:
            tried.append((seconds, speed))
    if not tried:
        raise RuntimeError("arp-scan finds too few at any speed")
    return min(tried)[1]


def run(options: Options, say: Callable[[str], None]) -> Result:
    """Turn about: arp-scan, and then a new daemon at the same host."""
    samples: dict[str, list[float]] = {}

    def note(**values: float) -> None:
        for name, value in values.items():
            samples.setdefault(name, []).append(round(value, 4))

    with crowded(LOSS) as (lab, _):
        speed = fastest(lab, say)
        for number in range(options.times(ROUNDS)):
            seconds, found = peer(lab, speed)
            note(arp_scan_seconds=seconds, arp_scan_found=found, barest_seconds=barest(lab))
            daemon = lab.daemon(CONFIG, as_user=True)
            before = processor(daemon)
            did, took = counted_scan(lab, daemon)
            note(processor=processor(daemon) - before)
            resident, highest = memory(daemon)
            time.sleep(APART)
            before = processor(daemon)
            warm, _ = counted_scan(lab, daemon)
            note(warm=warm["ended"], warm_processor=processor(daemon) - before)
            note(stopped=stop(daemon))
            note(seconds=did["last"], ended=did["ended"], found=did["found"])
            note(health_p99=quantile(took, 0.99), health_max=max(took), resident=resident, highest=highest)
            say(
                f"round {number + 1}: {did['found']:.0f} in {did['last']:.2f} s, once more in {warm['ended']:.2f} s,"
                f" the barest {samples['barest_seconds'][-1]:.2f} s, arp-scan {found} in {seconds:.2f} s;"
                f" /healthz p99 {quantile(took, 0.99):.1f} max {max(took):.1f} ms"
            )
    return Result(figures(samples), samples, notes(speed))


def figures(samples: dict[str, list[float]]) -> list[Figure]:
    """Medians, except where the worst is asked for."""
    ours, theirs = median(samples["seconds"]), median(samples["arp_scan_seconds"])
    warm, least = median(samples["warm"]), median(samples["barest_seconds"])
    return [
        Figure("netscand, until the last device is published, median", ours, "s"),
        Figure("netscand, to its scan_update, median", median(samples["ended"]), "s"),
        Figure("processor that the daemon used for it, median", median(samples["processor"]), "s"),
        Figure("arp-scan, median", theirs, "s"),
        Figure("netscand / arp-scan", ours / theirs, "×", most=3),
        Figure("the barest Python / arp-scan", least / theirs, "×"),
        Figure("netscand / the barest Python", ours / least, "×", most=1.5),
        Figure("warm: all known, to its scan_update, median", warm, "s"),
        Figure("warm, processor that the daemon used for it, median", median(samples["warm_processor"]), "s"),
        Figure("warm / the barest Python, which is cold", warm / least, "×", most=1),
        Figure("found by netscand", 100 * sum(samples["found"]) / len(samples["found"]) / ALIVE, "%", least=99.99),
        Figure("found by arp-scan", 100 * sum(samples["arp_scan_found"]) / len(samples["arp_scan_found"]) / ALIVE, "%"),
        Figure("/healthz meanwhile, p99, median of the rounds", median(samples["health_p99"]), "ms"),
        Figure("/healthz meanwhile, the slowest of all", max(samples["health_max"]), "ms", most=50),
        Figure("memory after it, median", median(samples["resident"]), "MiB", most=256),
        Figure("memory at its highest, worst", max(samples["highest"]), "MiB"),
        Figure("SIGTERM right after it, to its end, median", median(samples["stopped"]), "s"),
    ]


def notes(speed: str) -> tuple[str, ...]:
    """What was done."""
    return (
        f"warm: the same daemon scans again, {APART:g} s later",
        "cold: a new daemon each round, rate = 0, tries = 4, background_rate = 0.1 (so it is still cold)",
        f"arp-scan --retry=4 --bandwidth={speed} --timeout={TIMEOUT} -g: the fastest that found ≥ 99.99 % here",
        "the barest Python (tests/bench/barest.py) scans, receives, stores and publishes, without presence and rules",
        "published: a `changes` client in a process of its own has read the event, which is stored before it is sent",
    )


ROW = Row("scan16", f"scan_now on a /16, {ALIVE:,} alive, {100 * LOSS:g} % loss, rate = 0, tries = 4, cold", run)
