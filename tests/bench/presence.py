"""Presence, judged on days of device life in simulated time: ours and the rules of others, on the same traces."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from math import isnan
from pathlib import Path

from tests.bench.report import Figure, Options, Result, Row
from tests.bench.simulation.__main__ import GENERATORS
from tests.lab.spaces import ROOT

SEEDS = "501-504"
"""None that the rule was tuned on."""

LEFT_OUT = Result([], notes=("left out: it takes minutes of processor; --long runs it",))


def run(options: Options, say: Callable[[str], None]) -> Result:
    """The whole trial of `python -m tests.bench.simulation`, on the traces of each generator."""
    if not options.long:
        return LEFT_OUT
    figures = []
    for generator in GENERATORS:
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) / "trial.json"
            argv = [sys.executable, "-m", "tests.bench.simulation", "--seeds", SEEDS, "--generator", generator]
            argv += ["--jobs", str(os.cpu_count() or 1), "--json", str(kept)]
            done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
            say("\n".join(done.stdout.splitlines()[-3:]))
            bounds = json.loads(kept.read_text())["bounds"]
        figures += [
            Figure(f"{generator}, {told['class']}: {told['bound']}", told["figure"], most=told["most"])
            for told in bounds
            if not isnan(told["figure"])  # nothing of that kind happened
        ]
    return Result(
        figures, {}, (f"seeds {SEEDS}; `python -m tests.bench.simulation` prints the rules of others beside",)
    )


ROW = Row("presence", "false offline, delays and frames, against the bounds", run)
