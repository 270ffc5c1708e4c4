"""Option `--since`: a cursor, a time, or an age. Pure."""

import re
from datetime import UTC, datetime, timedelta

from netscanctl.client import Usage
from netscanctl.duration import parse_seconds

_CURSOR = re.compile(r"[0-9a-z]+[-~][0-9]+")
_EXPECTED = '--since "{}": expected a cursor (such as k3f9-118)'


def parse_since(text: str, now: datetime) -> str:
    """Return the API parameter `since`: a cursor as it is; a local time, or an age, as a time in UTC. Raises Usage."""
    text = text.strip()
    if text in ("today", "yesterday"):
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        return _utc(midnight - timedelta(days=text == "yesterday"))
    try:
        if not text[-1:].isdigit() and (age := parse_seconds(text)) is not None:  # 2026 is not a duration
            return _utc(now - timedelta(seconds=age))
        if re.match(r"\d{4}-\d\d-\d\d", text):
            return _utc(datetime.fromisoformat(text))
        if re.fullmatch(r"\d\d?:\d\d(:\d\d)?", text):
            return _utc(datetime.fromisoformat(f"{now:%Y-%m-%d} {text:0>5}"))
    except (ValueError, OverflowError):
        pass
    if _CURSOR.fullmatch(text):
        return text
    raise Usage(f"{_EXPECTED.format(text)}, a time (2026-11-23 10:00, 10:00, today), or an age (2h, 3d)")


def parse_cursor(text: str) -> str:
    """Return a cursor as it is. Raises Usage."""
    if _CURSOR.fullmatch(text.strip()):
        return text.strip()
    raise Usage(f"{_EXPECTED.format(text)}; for a time or an age: netscanctl events --since")


def _utc(at: datetime) -> str:
    """Format a time as RFC 3339; a time without a zone is local."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
