"""What a row of the benchmark is: one piece of work, its figures, and the bounds they are held to."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field


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
