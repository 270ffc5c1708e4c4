"""`./dev bench [--quick] [ROW…]`: runs the rows, prints the figures, and keeps them with their samples as JSON.

Everything happens in network namespaces of the lab, the daemon as an ordinary user with CAP_NET_RAW, as in its unit.
"""

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import (
    devices,
    growth,
    idle,
    memory,
    mqtt,
    old_way,
    page,
    presence,
    push,
    scan_16,
    scan_24,
    sites,
    snapshot,
)
from tests.bench.report import Options, Result, as_json, surroundings, table, write
from tests.lab.spaces import ROOT, sweep

ROWS = (
    scan_24.ROW, scan_16.ROW, push.ROW, push.FANOUT, mqtt.ROW, snapshot.ROW, memory.ROW, devices.ROW, growth.ROW,
    old_way.ROW, page.ROW, sites.ROW, presence.ROW, idle.ROW,
)  # fmt: skip
"""In the order in which they run."""


def main() -> int:
    """The exit code: 0 if every figure with a bound holds."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(row.name for row in ROWS))
    parser.add_argument("--quick", action="store_true", help="a tenth of the work; not to be quoted")
    parser.add_argument("--long", action="store_true", help="10,000 clients in fanout; the rows presence and idle")
    parser.add_argument("--write-docs", action="store_true", help="put the figures into docs/BENCHMARKS.md, row by row")
    parser.add_argument("--json", type=Path, help="where the figures are kept (default .bench/TIME.json)")
    asked = parser.parse_args()
    if asked.write_docs and asked.quick:
        parser.error("--quick is not to be quoted")
    if unknown := set(asked.rows) - {row.name for row in ROWS}:
        parser.error(f"no row {', '.join(sorted(unknown))}")
    sweep()
    about = surroundings()
    print("  ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    if os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1):
        print("  this machine is busy with other things: figures of milliseconds will show it", file=sys.stderr)
    results: dict[str, Result] = {}
    for row in ROWS:
        if not asked.rows or row.name in asked.rows:
            print(f"{row.name} …", file=sys.stderr, flush=True)
            load = f"{os.getloadavg()[0]:.1f} before it"
            results[row.name] = row.run(
                Options(asked.quick, asked.long), lambda text: print(f"  {text}", file=sys.stderr, flush=True)
            )
            print(table(row, results[row.name]), flush=True)
            if asked.write_docs:
                write(row, results[row.name], about | {"load": load})
    path = asked.json or ROOT / ".bench" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_json(results, about))
    print(f"kept in {path}", file=sys.stderr)
    return int(any(figure.holds is False for result in results.values() for figure in result.figures))


if __name__ == "__main__":
    sys.exit(main())
