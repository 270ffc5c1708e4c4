"""`netscanctl devices`, the whole process: what a person waits for at the prompt."""

import subprocess
import sys
import time
from collections.abc import Callable

from tests.bench.measure import settle
from tests.bench.report import Figure, Options, Result, Row, median, quantile
from tests.lab.lan import Lab

DEVICES = 60
RUNS = 21


def run(options: Options, say: Callable[[str], None]) -> Result:
    """Turn about with a Python that does nothing, started in the same way."""
    ours: list[float] = []
    nothing: list[float] = []
    with Lab() as lab:
        crowd = lab.crowd()
        crowd.populate(lab.addresses(DEVICES - 1))
        daemon = lab.daemon(as_user=True)
        settle(daemon, DEVICES - 1)
        argv = daemon.ctl_argv("devices")
        if (lines := len(lab.watcher.run(argv).stdout.splitlines())) < DEVICES:
            raise RuntimeError(f"netscanctl prints {lines} lines for {DEVICES} devices")
        for _ in range(options.times(RUNS)):
            nothing.append(whole([sys.executable, "-c", "pass"]))
            ours.append(whole(argv))
    say(f"median {median(ours):.3f} s, python -c pass {median(nothing):.3f} s")
    figures = [
        Figure("netscanctl devices, median", median(ours), "s", most=0.15),
        Figure("netscanctl devices, p90", quantile(ours, 0.9), "s"),
        Figure("python -c pass, median", median(nothing), "s"),
        Figure("netscanctl / python -c pass", median(ours) / median(nothing), "×"),
    ]
    return Result(figures, {"netscanctl devices, s": ours, "python -c pass, s": nothing}, NOTES)


def whole(argv: list[str]) -> float:
    """Seconds from the start of a process to its end; the socket is a file, so it may run outside of the lab."""
    begun = time.monotonic()
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begun


NOTES = ("60 devices, this host included; output to /dev/null; the bytecode of the modules is cached",)

ROW = Row("devices", f"netscanctl devices, {DEVICES} devices, the whole process", run)
