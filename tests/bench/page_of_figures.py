"""docs/BENCHMARKS.md: the figures of each row's last run, between marks; the words around them are a person's."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.row import Figure, Result, Row
from tests.lab.spaces import ROOT

PAGE = ROOT / "docs" / "BENCHMARKS.md"
MARK = "<!-- {name}: written by ./dev bench --write-docs -->"
END = "<!-- end -->"


def write(row: Row, result: Result, surroundings: Mapping[str, str], page: Path = PAGE) -> None:
    """Put this row's figures in place of the last ones; at the end of the page where there were none.

    Of a row that was left out the last ones stay.
    """
    if not result.figures:
        return
    mark = MARK.format(name=row.name)
    text = page.read_text()
    block = f"{mark}\n{section(row, result, surroundings)}\n{END}"
    found = re.compile(f"{re.escape(mark)}.*?{END}", re.DOTALL)
    page.write_text(found.sub(lambda _: block, text) if found.search(text) else f"{text.rstrip()}\n\n{block}\n")


def section(row: Row, result: Result, surroundings: Mapping[str, str]) -> str:
    """A heading, a table, the notes, and on what it was made."""
    lines = [f"### {row.name}", "", f"{row.title}.", "", "| | | bound | |", "|---|---:|---|---|"]
    lines += [line(figure) for figure in result.figures]
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
