"""Curves as SVG: a line for each series on two logarithmic axes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 48, 48
"""Pixels around the curves: for the labels of the axes, and for the names at the ends of the lines."""

COLORS = ("#0b6bcb", "#c2410c", "#15803d", "#7e22ce")


class Plot(NamedTuple):
    """A figure: the title, the names of the axes, and for each series its points, all greater than 0."""

    name: str
    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[tuple[float, float]]]


class _Axis:
    """Maps values to pixels, from whole decades to whole decades."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        return self._start + (self._end - self._start) * (math.log10(value) - self.low) / (self.high - self.low)

    def decades(self) -> Iterator[float]:
        return (10.0**power for power in range(self.low, self.high + 1))


def svg(plot: Plot) -> str:
    """Return the text of the file."""
    points = [point for series in plot.series.values() for point in series]
    across = _Axis([x for x, _ in points], LEFT, WIDTH - RIGHT)
    up = _Axis([y for _, y in points], HEIGHT - BOTTOM, TOP)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
            f' font-size="12" role="img"><title>{escape(plot.title)}</title>',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
            _text(LEFT, 22, plot.title, size=15),
            *(_line((across.at(x), TOP), (across.at(x), HEIGHT - BOTTOM)) for x in across.decades()),
            *(_line((LEFT, up.at(y)), (WIDTH - RIGHT, up.at(y))) for y in up.decades()),
            *(_text(across.at(x), HEIGHT - BOTTOM + 16, f"{x:,g}", anchor="middle") for x in across.decades()),
            *(_text(LEFT - 6, up.at(y) + 4, f"{y:,g}", anchor="end") for y in up.decades()),
            _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, plot.x, anchor="middle"),
            _text(LEFT, TOP - 6, plot.y),
            *_curves(plot, across, up),
            "</svg>\n",
        ]
    )


def _curves(plot: Plot, across: _Axis, up: _Axis) -> Iterator[str]:
    """Yield the lines; a name that would cover the one below it moves up."""
    names = []
    for color, (name, series) in zip(cycle(COLORS), plot.series.items(), strict=False):
        places = [(across.at(x), up.at(y)) for x, y in series]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places)
        names.append((places[-1][1], name, color))
    above = math.inf
    for y, name, color in sorted(names, reverse=True):
        above = min(y, above - 14)
        yield _text(WIDTH - RIGHT + 8, above + 4, name, color=color)


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    return f'<path d="M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}" stroke="#d4d4d8"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, color: str = "#27272a") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{color}">{escape(text)}</text>'
    )
