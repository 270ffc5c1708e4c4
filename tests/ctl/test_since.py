"""From when on."""

from datetime import datetime, timedelta, timezone

import pytest

from netscanctl.client import Usage
from netscanctl.params import parse_cursor, parse_since

TOKYO = timezone(timedelta(hours=9))
NOW = datetime(2026, 11, 24, 7, 2, 11, 42_000, TOKYO)


@pytest.mark.parametrize("cursor", ["k3f9-118", "0a1b2c-0", "2026-118"])
def test_a_cursor_is_not_changed(cursor: str) -> None:
    assert parse_since(cursor, NOW) == cursor


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", "2026-11-23T22:00:41.042Z"), ("30m", "2026-11-23T21:32:11.042Z"), ("30 min", "2026-11-23T21:32:11.042Z"),
     ("2h", "2026-11-23T20:02:11.042Z"), ("3d", "2026-11-20T22:02:11.042Z"), ("1w", "2026-11-16T22:02:11.042Z"),
     ("0.5h", "2026-11-23T21:32:11.042Z"), ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00.000Z"),
     ("2026-11-23T10:00:00.5+01:00", "2026-11-23T09:00:00.500Z")],
)  # fmt: skip
def test_a_time_or_an_age_becomes_utc(text: str, expected: str) -> None:
    assert parse_since(text, NOW) == expected


@pytest.mark.parametrize(
    ("text", "hour"), [("2026-11-24", 0), ("2026-11-24 03:30", 3), ("3:30", 3), ("03:30:00", 3), ("today", 0)]
)
def test_a_time_without_a_zone_is_local(text: str, hour: int) -> None:
    local = datetime.fromisoformat(parse_since(text, NOW)).astimezone()
    assert (local.day, local.hour, local.minute) == (24, hour, 30 if hour else 0)


@pytest.mark.usefixtures("in_tokyo")
@pytest.mark.parametrize(
    ("text", "expected"),
    [("today", "2026-11-23T15:00:00.000Z"), ("yesterday", "2026-11-22T15:00:00.000Z"),
     ("03:30", "2026-11-23T18:30:00.000Z"), ("2026-11-24 03:30", "2026-11-23T18:30:00.000Z")],
)  # fmt: skip
def test_a_day_starts_at_local_midnight(text: str, expected: str) -> None:
    assert parse_since(text, NOW) == expected


@pytest.mark.parametrize("text", ["soon", "2h", "today", "2026-11-23", ""])
def test_watch_since_accepts_only_a_cursor(text: str) -> None:
    message = f'--since "{text}": expected a cursor (such as k3f9-118)'
    with pytest.raises(Usage) as refused:
        parse_cursor(text)
    assert str(refused.value).startswith(message)
    assert parse_cursor("k3f9-118") == "k3f9-118"
    with pytest.raises(Usage) as refused:
        parse_since(f"{text}!", NOW)
    assert str(refused.value).startswith(f'--since "{text}!": expected a cursor')


@pytest.mark.parametrize(
    "text", ["7", "2026", "", "soon", "2026-13-01", "25:00", "5 years", "99999999999d", "K3F9-1", "-1h", "1-x"]
)
def test_an_invalid_since_is_a_usage_error(text: str) -> None:
    with pytest.raises(Usage, match="--since"):
        parse_since(text, NOW)
