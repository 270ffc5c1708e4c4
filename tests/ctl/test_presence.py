"""A device's last days as a small bar."""

from datetime import UTC, datetime

import pytest

from netscanctl.render import BEFORE, LEVELS, NEVER, UNKNOWN, presence_bar
from netscand.protocol import PresenceDay

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LONG_AGO = "2026-01-01T00:00:00.000Z"


def day(number: int, online: float, unknown: float = 0.0) -> PresenceDay:
    """One of November, in hours."""
    return PresenceDay(date=f"2026-11-{number}", online_seconds=online * 3600, unknown_seconds=unknown * 3600)


def test_the_bar_has_a_character_per_day_and_a_summary() -> None:
    bar = presence_bar([day(22, 24), day(23, 12), day(24, 0)], LONG_AGO, NOON)
    assert bar == f"█▅{NEVER}  online 60 % of the last 2 d 12 h"


def test_today_counts_until_now() -> None:
    assert presence_bar([day(24, 12)], LONG_AGO, NOON) == "█  online 100 % of the last 12 h"


def test_time_before_first_seen_does_not_count() -> None:
    bar = presence_bar([day(22, 0), day(23, 6), day(24, 12)], "2026-11-23T18:00:00.000Z", NOON)
    assert bar == f"{BEFORE}██  online 100 % of the last 18 h"


def test_a_mostly_unknown_day_is_a_question_mark() -> None:
    assert presence_bar([day(23, 4, 20)], LONG_AGO, NOON) == f"{UNKNOWN}  online 17 %, unknown 83 % of the last 1 d"
    assert presence_bar([day(23, 20, 4)], LONG_AGO, NOON)[0] in LEVELS


@pytest.mark.parametrize(("hours", "sign"), [(0.01, "▁"), (3, "▂"), (12, "▅"), (23.7, "▇"), (23.8, "█"), (30, "█")])
def test_only_a_whole_day_is_a_full_bar(hours: float, sign: str) -> None:
    assert presence_bar([day(23, hours)], LONG_AGO, NOON)[0] == sign


def test_every_character_has_an_ascii_form() -> None:
    days = [day(21, 0), *(day(22, hours) for hours in range(0, 25, 2)), day(23, 0, 24)]
    bar = presence_bar(days, "2026-11-22T00:00:00.000Z", NOON, plain=True)
    assert bar.partition(" ")[0] == "-_123345567778?"
    assert bar.isascii()


def test_no_data_yields_no_bar() -> None:
    assert presence_bar([], LONG_AGO, NOON) == ""
    assert presence_bar([day(23, 0)], "2026-11-24T13:00:00.000Z", NOON) == ""
    assert presence_bar([day(23, 1)], "\x1b[2J", NOON) == ""
    assert presence_bar([PresenceDay(date="\x1b[2J", online_seconds=1, unknown_seconds=0)], LONG_AGO, NOON) == ""
