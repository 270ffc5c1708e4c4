"""The daemon's resident memory, as the kernel counts it: a home, and the largest network that is scanned by itself."""

import time
from collections.abc import Callable

from tests.bench.measure import ALIVE, CONFIG, counted_scan, crowded, memory, settle
from tests.bench.report import Figure, Options, Result, Row
from tests.lab.lan import Lab

SMALL = 253
"""A /24 but for the watcher, who is the 254th."""
REST = 10.0
"""Seconds between the last device and the reading."""


def small(options: Options) -> tuple[float, float]:
    """A whole /24 alive, default settings."""
    with Lab() as lab:
        crowd = lab.crowd()
        crowd.populate(str(ip) for ip in lab.network.hosts() if str(ip) != lab.watcher.ip)
        daemon = lab.daemon(as_user=True)
        settle(daemon, SMALL)
        time.sleep(options.times(int(REST)))
        return memory(daemon)


def large(options: Options) -> tuple[float, float, float]:
    """A whole /16 found by one scan at full speed: MiB now, MiB at most, devices."""
    with crowded(0.0) as (lab, _):
        daemon = lab.daemon(CONFIG, as_user=True)
        did, _ = counted_scan(lab, daemon)
        time.sleep(options.times(int(REST)))
        return *memory(daemon), did["found"]


def run(options: Options, say: Callable[[str], None]) -> Result:
    """One daemon for each: what is counted does not vary as time does."""
    few, few_most = small(options)
    say(f"{SMALL + 1} devices: {few:.1f} MiB")
    many, many_most, devices = large(options)
    say(f"{devices:.0f} devices: {many:.1f} MiB")
    figures = [
        Figure(f"{SMALL + 1} devices", few, "MiB", most=50),
        Figure(f"{SMALL + 1} devices, at its highest", few_most, "MiB"),
        Figure(f"{ALIVE:,} devices", many, "MiB", most=150),
        Figure(f"{ALIVE:,} devices, at its highest", many_most, "MiB"),
    ]
    return Result(figures, {}, ("VmRSS and VmHWM of one run each, ten seconds after the last device was found",))


ROW = Row("memory", "resident memory of the daemon", run)
