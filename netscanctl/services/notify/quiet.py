"""Durations and quiet hours, as the configuration writes them. Pure: the time is an argument."""

import re
from collections.abc import Sequence
from datetime import datetime, time, timedelta, tzinfo
from functools import lru_cache

_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*(s|m|min|h|d|)")
_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_PERIOD = re.compile(r"(\d\d?):(\d\d)\s*-\s*(\d\d?):(\d\d)")
LONGEST = 30 * 86_400.0
"""Maximum seconds of a duration."""
DAY = 24 * 60
"""Minutes."""


def parse_duration(text: str) -> float:
    """Return the seconds of `90s`, `2m`, `1.5h`, `1d`. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else -1.0
    if not 0 <= seconds <= LONGEST:
        raise ValueError(text)
    return seconds


@lru_cache(maxsize=256)
def parse_period(text: str) -> tuple[int, int]:
    """Return the first minute of the day that `22:00-07:00` contains, and the one after its last. Raises ValueError."""
    found = _PERIOD.fullmatch(text.strip())
    if not found:
        raise ValueError(text)
    first, last = (_minute(int(found[at]), int(found[at + 1])) for at in (1, 3))
    if first == last:
        raise ValueError(text)
    return first, last


def _minute(hour: int, minute: int) -> int:
    if (hour, minute) == (24, 0):
        return 0
    at = time(hour, minute)
    return 60 * at.hour + at.minute


def covers_day(periods: Sequence[str]) -> bool:
    """Return whether the periods together leave no minute of the day."""
    return all(_end(periods, minute) is not None for minute in range(DAY))


def _end(periods: Sequence[str], minute: int) -> int | None:
    """Return the minute at which the period that contains `minute` ends; None: no period contains it."""
    for first, last in map(parse_period, periods):
        if first <= minute < last or (last < first and (minute >= first or minute < last)):
            return last
    return None


def quiet_until(periods: Sequence[str], now: float, zone: tzinfo | None = None) -> float | None:
    """Return when the quiet hours that contain `now` end, in local time (or that of `zone`); None: it is not quiet.

    The clock may be put forward or back in between: the end is a time of the clock on the wall.
    """
    at, found = now, None
    for _ in range(2 * len(periods)):  # one period may begin when another one ends
        local = datetime.fromtimestamp(at, zone)
        end = _end(periods, 60 * local.hour + local.minute)
        if end is None:
            break
        day = local.date() + timedelta(days=end <= 60 * local.hour + local.minute)
        wall = datetime.combine(day, time(end // 60, end % 60), zone)
        at = found = max(wall.timestamp(), at + 1)
    return found
