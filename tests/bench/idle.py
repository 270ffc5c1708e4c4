"""A quiet home, left alone: what the daemon costs it, beside the scans that others run there all day."""

import os
import time
from collections.abc import Callable

from tests.bench.measure import arp_scan, processor
from tests.bench.report import Figure, Options, Result, Row
from tests.lab.lan import Lab

DEVICES = 60
QUIET = 630.0
"""Seconds until a network counts as quiet, and a little more."""
MEASURED = 120.0
LEFT_OUT = Result([], notes=("left out: it takes thirteen minutes; --long runs it",))


def run(options: Options, say: Callable[[str], None]) -> Result:
    """Wait for ten quiet minutes, then look at two."""
    if not options.long:
        return LEFT_OUT
    with Lab() as lab:
        lab.crowd().populate(lab.addresses(DEVICES, start=100))
        daemon = lab.daemon(as_user=True)
        say(f"waiting {QUIET:.0f} s for a quiet network")
        time.sleep(QUIET)
        with lab.capture() as capture:
            used, begun = processor(daemon), time.monotonic()
            time.sleep(MEASURED)
            share = 100 * (processor(daemon) - used) / (time.monotonic() - begun)
            sent = capture.arp(outgoing=True)
        broadcast = 60 * sum(frame.broadcast for frame in sent) / MEASURED
        before = sum(os.times()[2:4])
        arp_scan(lab.host("10.77.0.9"), "10.77.0.0/24")
        peer = sum(os.times()[2:4]) - before
    figures = [
        Figure("processor", share, "%", most=0.5),
        Figure("broadcast frames a minute", broadcast, "", most=60),
        Figure("unicast frames a minute", 60 * sum(not frame.broadcast for frame in sent) / MEASURED),
        Figure("arp-scan every 2 min (WatchYourLAN), processor", 100 * peer / 120, "%"),
        Figure("arp-scan every 2 min, broadcast frames a minute", 254 * 2 / 2),
        Figure("arp-scan --retry=6 every 5 min (NetAlertX), broadcast frames a minute", 254 * 6 / 5),
    ]
    notes = ("frames of the peers are counted from their tries at a silent /24", f"{DEVICES} devices, default settings")
    return Result(figures, {}, notes)


ROW = Row("idle", "a /24 with 60 devices, after ten quiet minutes", run)
