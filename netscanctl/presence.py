"""A device's last days as a small bar. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from netscanctl.render import span
from netscand.protocol import PresenceDay

LEVELS = "▁▂▃▄▅▆▇█"
"""How much of a day it was online: from hardly ever to (almost) always."""
NEVER, UNSURE, BEFORE = "_", "?", "·"
"""Not online at all; mostly unknown; not seen yet."""
IN_ASCII = str.maketrans(f"{LEVELS}{BEFORE}", "12345678-")
"""For a terminal that has no such signs."""
ALWAYS = 0.99
"""Of a day; a restart of the daemon leaves a few seconds in doubt."""


def presence_bar(days: Sequence[PresenceDay], first_seen: str, now: datetime, *, plain: bool = False) -> str:
    """One sign a UTC day, and the share of the time since it was first seen: `·_▃█████ online 71 %, unknown 2 %`.

    `plain`: in ASCII.
    """
    signs, online, unknown, lived = [], 0.0, 0.0, 0.0
    for day in days:
        try:
            took = _lived(day.date, first_seen, now)
        except (ValueError, TypeError):  # not a time as the wire has it
            return ""
        if took <= 0:
            signs.append(BEFORE)
            continue
        on, unsure = min(day.online_seconds, took), min(day.unknown_seconds, took)
        signs.append(_sign(on / took, unsure / took))
        online, unknown, lived = online + on, unknown + unsure, lived + took
    if not lived:
        return ""
    words = f"online {online / lived:.0%}" + (f", unknown {unknown / lived:.0%}" if unknown / lived >= 0.005 else "")
    bar = "".join(signs).translate(IN_ASCII) if plain else "".join(signs)
    return f"{bar}  {words} of the last {span(lived)}".replace("%", " %")


def _sign(on: float, unsure: float) -> str:
    if unsure > 0.5:
        return UNSURE
    if on <= 0:
        return NEVER
    return LEVELS[-1] if on >= ALWAYS else LEVELS[min(int(on * len(LEVELS)), len(LEVELS) - 2)]


def _lived(date: str, first_seen: str, now: datetime) -> float:
    """Seconds of a day between the first that was seen of a device and now."""
    begin = datetime.fromisoformat(date).replace(tzinfo=UTC)
    end = min(begin + timedelta(days=1), now)
    return (end - max(begin, datetime.fromisoformat(first_seen))) / timedelta(seconds=1)
