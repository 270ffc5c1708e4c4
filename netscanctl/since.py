"""From when on: a cursor, a time, or so long ago. Pure."""

import re
from datetime import UTC, datetime, timedelta

from netscanctl.client import Usage
from netscanctl.duration import seconds_in

_CURSOR = re.compile(r"[0-9a-z]+[-~][0-9]+")
_NO_CURSOR = "--since {}: expected a cursor (such as k3f9-118)"


def place_or_time(text: str, now: datetime) -> str:
    """What the API calls `since`: a cursor as it is; a local time, or so long before `now`, as UTC. Raises Usage."""
    text = text.strip()
    if text in ("today", "yesterday"):
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        return _utc(midnight - timedelta(days=text == "yesterday"))
    try:
        if not text[-1:].isdigit() and (ago := seconds_in(text)) is not None:  # 2026 is no duration
            return _utc(now - timedelta(seconds=ago))
        if re.match(r"\d{4}-\d\d-\d\d", text):
            return _utc(datetime.fromisoformat(text))
        if re.fullmatch(r"\d\d?:\d\d(:\d\d)?", text):
            return _utc(datetime.fromisoformat(f"{now:%Y-%m-%d} {text:0>5}"))
    except (ValueError, OverflowError):
        pass
    if _CURSOR.fullmatch(text):
        return text
    raise Usage(f"{_NO_CURSOR.format(text)}, a time (2026-11-23 10:00, 10:00, today), or so long ago (2h, 3d)")


def place(text: str) -> str:
    """A cursor as it is, where nothing else serves. Raises Usage."""
    if _CURSOR.fullmatch(text.strip()):
        return text.strip()
    raise Usage(f"{_NO_CURSOR.format(text)}; netscanctl events --since takes times, too")


def _utc(at: datetime) -> str:
    """RFC 3339; a time without a zone is local."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
