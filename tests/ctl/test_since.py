"""From when on."""

from datetime import datetime, timedelta, timezone

import pytest

from netscanctl.client import Usage
from netscanctl.since import parse_cursor, parse_since

TOKYO = timezone(timedelta(hours=9))
NOW = datetime(2026, 11, 24, 7, 2, 11, 42_000, TOKYO)


@pytest.mark.parametrize("cursor", ["k3f9-118", "0a1b2c-0", "2026-118"])
def test_a_cursor_stays_as_it_is(cursor: str) -> None:
    assert parse_since(cursor, NOW) == cursor


@pytest.mark.parametrize(
    ("said", "meant"),
    [("90s", "2026-11-23T22:00:41.042Z"), ("30m", "2026-11-23T21:32:11.042Z"), ("30 min", "2026-11-23T21:32:11.042Z"),
     ("2h", "2026-11-23T20:02:11.042Z"), ("3d", "2026-11-20T22:02:11.042Z"), ("1w", "2026-11-16T22:02:11.042Z"),
     ("0.5h", "2026-11-23T21:32:11.042Z"), ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00.000Z"),
     ("2026-11-23T10:00:00.5+01:00", "2026-11-23T09:00:00.500Z")],
)  # fmt: skip
def test_a_time_or_so_long_ago_is_said_in_utc(said: str, meant: str) -> None:
    assert parse_since(said, NOW) == meant


@pytest.mark.parametrize(
    ("said", "hour"), [("2026-11-24", 0), ("2026-11-24 03:30", 3), ("3:30", 3), ("03:30:00", 3), ("today", 0)]
)
def test_a_time_without_a_zone_is_local(said: str, hour: int) -> None:
    meant = datetime.fromisoformat(parse_since(said, NOW)).astimezone()
    assert (meant.day, meant.hour, meant.minute) == (24, hour, 30 if hour else 0)


@pytest.mark.usefixtures("in_tokyo")
@pytest.mark.parametrize(
    ("said", "meant"),
    [("today", "2026-11-23T15:00:00.000Z"), ("yesterday", "2026-11-22T15:00:00.000Z"),
     ("03:30", "2026-11-23T18:30:00.000Z"), ("2026-11-24 03:30", "2026-11-23T18:30:00.000Z")],
)  # fmt: skip
def test_a_day_begins_at_the_local_midnight(said: str, meant: str) -> None:
    assert parse_since(said, NOW) == meant


@pytest.mark.parametrize("text", ["soon", "2h", "today", "2026-11-23", ""])
def test_where_only_a_cursor_serves_all_else_is_refused_in_the_same_words(text: str) -> None:
    said = f'--since "{text}": expected a cursor (such as k3f9-118)'
    with pytest.raises(Usage) as refused:
        parse_cursor(text)
    assert str(refused.value).startswith(said)
    assert parse_cursor("k3f9-118") == "k3f9-118"
    with pytest.raises(Usage) as refused:
        parse_since(f"{text}!", NOW)
    assert str(refused.value).startswith(f'--since "{text}!": expected a cursor')


@pytest.mark.parametrize(
    "text", ["7", "2026", "", "soon", "2026-13-01", "25:00", "5 years", "99999999999d", "K3F9-1", "-1h", "1-x"]
)
def test_what_is_none_of_these_is_a_usage_error(text: str) -> None:
    with pytest.raises(Usage, match="--since"):
        parse_since(text, NOW)
