"""Presence of a device on the last days, as a small bar. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from netscanctl.render import span
from netscand.protocol import PresenceDay

LEVELS = "▁▂▃▄▅▆▇█"
"""Share of a day online, from a little to (almost) all of it."""
NEVER, UNKNOWN, BEFORE = "_", "?", "·"
"""Not online at all; mostly unknown; before the device was first seen."""
IN_ASCII = str.maketrans(f"{LEVELS}{BEFORE}", "12345678-")
"""For locales without these characters."""
ALWAYS = 0.99
"""Share that counts as the whole day; a restart of the daemon leaves a few seconds unknown."""


def presence_bar(days: Sequence[PresenceDay], first_seen: str, now: datetime, *, plain: bool = False) -> str:
    """Return one character per UTC day, and the share since first seen: `·_▃█████ online 71 %, unknown 2 %`.

    `plain`: in ASCII.
    """
    characters, online, unknown, total = [], 0.0, 0.0, 0.0
    for day in days:
        try:
            length = _length(day.date, first_seen, now)
        except (ValueError, TypeError):  # invalid time
            return ""
        if length <= 0:
            characters.append(BEFORE)
            continue
        on, unsure = min(day.online_seconds, length), min(day.unknown_seconds, length)
        characters.append(_character(on / length, unsure / length))
        online, unknown, total = online + on, unknown + unsure, total + length
    if not total:
        return ""
    shares = f"online {online / total:.0%}" + (f", unknown {unknown / total:.0%}" if unknown / total >= 0.005 else "")
    bar = "".join(characters).translate(IN_ASCII) if plain else "".join(characters)
    return f"{bar}  {shares} of the last {span(total)}".replace("%", " %")


def _character(online: float, unknown: float) -> str:
    if unknown > 0.5:
        return UNKNOWN
    if online <= 0:
        return NEVER
    return LEVELS[-1] if online >= ALWAYS else LEVELS[min(int(online * len(LEVELS)), len(LEVELS) - 2)]


def _length(date: str, first_seen: str, now: datetime) -> float:
    """Return the seconds of a day between the first sighting of the device and now."""
    begin = datetime.fromisoformat(date).replace(tzinfo=UTC)
    end = min(begin + timedelta(days=1), now)
    return (end - max(begin, datetime.fromisoformat(first_seen))) / timedelta(seconds=1)
