"""A device's last days as a small bar."""

from datetime import UTC, datetime

import pytest

from netscanctl.presence import BEFORE, LEVELS, NEVER, UNKNOWN, presence_bar
from netscand.protocol import PresenceDay

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LONG_AGO = "2026-01-01T00:00:00.000Z"


def day(number: int, online: float, unknown: float = 0.0) -> PresenceDay:
    """One of November, in hours."""
    return PresenceDay(date=f"2026-11-{number}", online_seconds=online * 3600, unknown_seconds=unknown * 3600)


def test_a_sign_tells_a_day_and_words_the_whole() -> None:
    bar = presence_bar([day(22, 24), day(23, 12), day(24, 0)], LONG_AGO, NOON)
    assert bar == f"█▅{NEVER}  online 60 % of the last 2 d 12 h"


def test_today_counts_so_far() -> None:
    assert presence_bar([day(24, 12)], LONG_AGO, NOON) == "█  online 100 % of the last 12 h"


def test_what_was_before_the_first_time_it_was_seen_counts_for_nothing() -> None:
    bar = presence_bar([day(22, 0), day(23, 6), day(24, 12)], "2026-11-23T18:00:00.000Z", NOON)
    assert bar == f"{BEFORE}██  online 100 % of the last 18 h"


def test_a_day_that_we_mostly_could_not_tell_says_so() -> None:
    assert presence_bar([day(23, 4, 20)], LONG_AGO, NOON) == f"{UNKNOWN}  online 17 %, unknown 83 % of the last 1 d"
    assert presence_bar([day(23, 20, 4)], LONG_AGO, NOON)[0] in LEVELS


@pytest.mark.parametrize(("hours", "sign"), [(0.01, "▁"), (3, "▂"), (12, "▅"), (23.7, "▇"), (23.8, "█"), (30, "█")])
def test_the_more_the_higher_and_only_a_whole_day_is_full(hours: float, sign: str) -> None:
    assert presence_bar([day(23, hours)], LONG_AGO, NOON)[0] == sign


def test_in_ascii_every_sign_has_another() -> None:
    days = [day(21, 0), *(day(22, hours) for hours in range(0, 25, 2)), day(23, 0, 24)]
    bar = presence_bar(days, "2026-11-22T00:00:00.000Z", NOON, plain=True)
    assert bar.partition(" ")[0] == "-_123345567778?"
    assert bar.isascii()


def test_nothing_known_is_no_bar() -> None:
    assert presence_bar([], LONG_AGO, NOON) == ""
    assert presence_bar([day(23, 0)], "2026-11-24T13:00:00.000Z", NOON) == ""
    assert presence_bar([day(23, 1)], "\x1b[2J", NOON) == ""
    assert presence_bar([PresenceDay(date="\x1b[2J", online_seconds=1, unknown_seconds=0)], LONG_AGO, NOON) == ""
