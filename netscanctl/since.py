"""From when on: a cursor, a time, or so long ago. Pure."""

import re
from datetime import UTC, datetime, timedelta

from netscanctl.client import Usage

UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
"""Unit → seconds."""
_AGO = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|m|h|d|w)")
_CURSOR = re.compile(r"[0-9a-z]+-[0-9]+")


def place_or_time(text: str, now: datetime) -> str:
    """What the API calls `since`: a cursor as it is; a local time, or so long before `now`, as UTC. Raises Usage."""
    text = text.strip()
    if text in ("today", "yesterday"):
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        return _utc(midnight - timedelta(days=text == "yesterday"))
    try:
        if ago := _AGO.fullmatch(text):
            return _utc(now - timedelta(seconds=float(ago[1]) * UNITS[ago[2]]))
        if re.match(r"\d{4}-\d\d-\d\d", text):
            return _utc(datetime.fromisoformat(text))
        if re.fullmatch(r"\d\d?:\d\d(:\d\d)?", text):
            return _utc(datetime.fromisoformat(f"{now:%Y-%m-%d} {text:0>5}"))
    except (ValueError, OverflowError) as wrong:
        raise Usage(f"--since {text}: {wrong}") from None
    if _CURSOR.fullmatch(text):
        return text
    raise Usage(f"--since {text}: expected a cursor, a time (2026-11-23 10:00, 10:00, today), or so long ago (2h, 3d)")


def _utc(at: datetime) -> str:
    """RFC 3339; a time without a zone is local."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
