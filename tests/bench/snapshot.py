"""65,533 devices to a `changes` client that comes new, and how long the daemon's loop was held by it."""

import json
import sys
import time
from collections.abc import Callable

from tests.bench.measure import ALIVE, CONFIG, asked, counted_scan, crowded
from tests.bench.report import Figure, Options, Result, Row, median, quantile

TIMES = 7


def run(options: Options, say: Callable[[str], None]) -> Result:
    """One daemon that knows everybody; one client after another, and /healthz all the while."""
    seconds: list[float] = []
    sizes: list[float] = []
    held: list[float] = []
    with crowded(0.0) as (lab, _):
        daemon = lab.daemon(CONFIG, as_user=True)
        did, _ = counted_scan(lab, daemon)
        devices = did["found"]
        time.sleep(2)  # what the scan left to be done is done
        with asked(daemon) as idle:
            time.sleep(2)
        argv = [sys.executable, "-m", "tests.bench.clients", str(daemon.socket), "snapshot"]
        for number in range(options.times(TIMES)):
            with asked(daemon) as took:
                told = json.loads(lab.watcher.run(argv).stdout)
            if told["devices"] <= devices:
                raise RuntimeError(f"the snapshot holds {told['devices']} of {devices} devices")
            seconds.append(told["seconds"])
            sizes.append(told["bytes"])
            held.append(max(took))
            say(f"snapshot {number + 1}: {told['seconds']:.2f} s; /healthz at most {max(took):.1f} ms")
    figures = [
        Figure("devices known", devices, "", least=0.9999 * ALIVE),
        Figure("from the handshake to the last device, median", median(seconds), "s", most=1),
        Figure("bytes", median(sizes) / 1e6, "MB"),
        Figure("/healthz meanwhile, the slowest of each, median", median(held), "ms", most=20),
        Figure("/healthz meanwhile, the slowest of all", max(held), "ms"),
        Figure("/healthz before, without other clients, p99", quantile(idle, 0.99), "ms"),
        Figure("/healthz before, without other clients, the slowest", max(idle), "ms"),
    ]
    samples = {"seconds": seconds, "healthz slowest, ms": held, "healthz before, ms": idle}
    return Result(figures, samples, NOTES)


NOTES = (
    "the client counts devices without parsing them; it runs in a process of its own, on the same machine",
    "a request of /healthz 20 ms after each response, so that one of them meets every turn of the loop that is longer",
)

ROW = Row("snapshot", f"the snapshot of {ALIVE:,} devices, to a new `changes` client", run)
