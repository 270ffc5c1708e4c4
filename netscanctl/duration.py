"""Durations on the command line: seconds, or with a unit: `90`, `90s`, `30m`, `1.5 h`, `3d`, `1w`. Pure."""

import re
from collections.abc import Callable

import click

UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
"""Unit → seconds."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|m|h|d|w|)")

Callback = Callable[[click.Context, click.Parameter, str | None], float | None]


def parse_seconds(text: str) -> float | None:
    """Return the seconds; None if the text is not a duration."""
    found = _DURATION.fullmatch(text.strip())
    return float(found[1]) * UNITS[found[2]] if found else None


def duration(minimum: float, maximum: float = 0.0, keyword: str = "") -> Callback:
    """Return a click callback for seconds from `minimum` to `maximum` (0: no limit).

    The callback returns None for `keyword` or a missing option, and raises BadParameter.
    """
    bounds = f"{minimum:g} to {maximum:g} seconds" if maximum else f"at least {minimum:g} seconds"
    expected = f"expected {bounds}, optionally with a unit (90s, 30m, 2h)" + (f', or "{keyword}"' if keyword else "")

    def parse(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
        if text is None or (keyword and text == keyword):
            return None
        seconds = parse_seconds(text)
        if seconds is None or seconds < minimum or (maximum and seconds > maximum):
            raise click.BadParameter(f'"{text}": {expected}')
        return seconds

    return parse
