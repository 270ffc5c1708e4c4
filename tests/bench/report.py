"""A row of the benchmark, its figures and their bounds, as text, as JSON and in docs/BENCHMARKS.md."""

import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.bench.plot import Plot, svg
from tests.lab.spaces import ROOT


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    quick: bool = False
    """A tenth of the work: to see that it runs, not to quote."""
    long: bool = False
    """Also what takes more of the machine than others may like."""

    def times(self, whole: int) -> int:
        """How often to do what a whole run does `whole` times."""
        return max(2, whole // 10) if self.quick else whole


@dataclass(frozen=True)
class Figure:
    """One number. `most` and `least` are the bounds it is held to, where there are any."""

    name: str
    value: float
    unit: str = ""
    most: float | None = None
    least: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether it is within its bounds; None where it has none. What is no number holds nothing."""
        if self.most is None and self.least is None:
            return None
        if math.isnan(self.value):
            return False
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)


@dataclass(frozen=True)
class Result:
    """A row that was run; `samples` are what the figures were made of. Without figures: left out; a note says why."""

    figures: Sequence[Figure]
    samples: dict[str, list[float]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    plots: Sequence[Plot] = ()


@dataclass(frozen=True)
class Row:
    """`run` does the work in a lab of its own; it says on stderr, through `say`, how far it is."""

    name: str
    title: str
    run: Callable[[Options, Callable[[str], None]], Result]


def table(row: Row, result: Result) -> str:
    """The figures of one row, for people."""
    lines = [f"{row.name}: {row.title}"]
    width = max((len(figure.name) for figure in result.figures), default=0)
    for figure in result.figures:
        bound = f"  ≤ {figure.most:g}" if figure.most is not None else ""
        bound += f"  ≥ {figure.least:g}" if figure.least is not None else ""
        verdict = {None: "", True: "  holds", False: "  DOES NOT HOLD"}[figure.holds]
        lines.append(f"  {figure.name:<{width}}  {figure.value:>10.4g} {figure.unit:<3}{bound}{verdict}".rstrip())
    return "\n".join([*lines, *(f"  ({note})" for note in result.notes)])


def as_json(results: dict[str, Result], surroundings: dict[str, str]) -> str:
    """All of it, for machines."""
    rows = {
        name: {
            "figures": [asdict(figure) | {"holds": figure.holds} for figure in result.figures],
            "samples": result.samples,
            "notes": list(result.notes),
        }
        for name, result in results.items()
    }
    return json.dumps({"surroundings": surroundings, "rows": rows}, indent=1)


def median(values: Sequence[float]) -> float:
    """The middle one; not a number where there are none."""
    return quantile(values, 0.5)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed, interpolated; not a number where there are none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


# ---- docs/BENCHMARKS.md: the figures of each row's last run, between marks; the words around them are a person's

PAGE = ROOT / "docs" / "BENCHMARKS.md"
MARK = "<!-- {name}: written by ./dev bench --write-docs -->"
END = "<!-- end -->"


def write(row: Row, result: Result, surroundings: Mapping[str, str], page: Path = PAGE) -> None:
    """Put this row's figures in place of the last ones; at the end of the page where there were none. Plots beside it.

    Of a row that was left out the last ones stay.
    """
    if not result.figures:
        return
    mark = MARK.format(name=row.name)
    text = page.read_text()
    block = f"{mark}\n{section(row, result, surroundings)}\n{END}"
    found = re.compile(f"{re.escape(mark)}.*?{END}", re.DOTALL)
    page.write_text(found.sub(lambda _: block, text) if found.search(text) else f"{text.rstrip()}\n\n{block}\n")
    for plot in result.plots:
        page.with_name(_file_of(row, plot)).write_text(svg(plot))


def _file_of(row: Row, plot: Plot) -> str:
    return f"{row.name}-{plot.name}.svg"


def section(row: Row, result: Result, surroundings: Mapping[str, str]) -> str:
    """A heading, a table, the notes, and on what it was made."""
    lines = [f"### {row.name}", "", f"{row.title}.", "", "| | | bound | |", "|---|---:|---|---|"]
    lines += [line(figure) for figure in result.figures]
    lines += [""] if result.plots else []
    lines += [f"![{plot.title}]({_file_of(row, plot)})" for plot in result.plots]
    lines += ["", *(f"- {note}" for note in result.notes)]
    made = ", ".join(f"{name} {value}" for name, value in surroundings.items())
    return "\n".join([*lines, f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC: {made}"])


def line(figure: Figure) -> str:
    """One figure as a line of the table."""
    bounds = [f"≤ {figure.most:g}"] if figure.most is not None else []
    bounds += [f"≥ {figure.least:g}"] if figure.least is not None else []
    verdict = {None: "", True: "holds", False: "**does not hold**"}[figure.holds]
    return f"| {figure.name} | {shown(figure.value)} {figure.unit} | {' '.join(bounds)} | {verdict} |"


def shown(value: float) -> str:
    """Three digits that count, or all there are before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 99 else f"{value:.3g}"


# ---- on what the figures were made

PACKAGES = ("aiohttp", "msgspec", "scapy", "pyroute2", "websockets")


def surroundings() -> dict[str, str]:
    """Name → version, or a word on what is missing."""
    found = {
        "commit": _first_line(
            "git", "-C", str(ROOT), "-c", f"safe.directory={ROOT}", "describe", "--always", "--dirty"
        ),
        "python": sys.version.split()[0],
        "kernel": platform.release(),
        "processor": f"{os.cpu_count()} × {_processor()}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "arp-scan": _first_line("arp-scan", "--version").removeprefix("arp-scan "),
        "nmap": _first_line("nmap", "--version").removeprefix("Nmap version ").split(" ")[0],
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _first_line(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "not installed"
    return (done.stdout or done.stderr).strip().split("\n")[0]


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        found = re.search(r"^(?:model name|Processor)\s*: (.*)$", file.read(), re.MULTILINE)
    return found[1] if found else platform.machine()
