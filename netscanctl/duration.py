"""How long: seconds, or with a unit, as people type it: `90`, `90s`, `30m`, `1.5 h`, `3d`, `1w`. Pure."""

import re
from collections.abc import Callable

import click

UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
"""Unit → seconds."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|m|h|d|w|)")

Callback = Callable[[click.Context, click.Parameter, str | None], float | None]


def seconds_in(text: str) -> float | None:
    """Seconds; None where the text is no duration."""
    found = _DURATION.fullmatch(text.strip())
    return float(found[1]) * UNITS[found[2]] if found else None


def duration(least: float, most: float = 0.0, word: str = "") -> Callback:
    """What reads an option: seconds from `least` to `most` (0: any number); None where it is `word`, or not given.

    The callback raises BadParameter.
    """
    bounds = f"{least:g} to {most:g} seconds" if most else f"at least {least:g} seconds"
    expected = f"expected {bounds}, also with a unit (90s, 30m, 2h)" + (f", or {word}" if word else "")

    def read(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
        if text is None or (word and text == word):
            return None
        seconds = seconds_in(text)
        if seconds is None or seconds < least or (most and seconds > most):
            raise click.BadParameter(f"{text}: {expected}")
        return seconds

    return read
