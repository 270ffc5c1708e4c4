"""What came of a rule: false words, delays, missed visits, frames; and the best that one fixed patience could do."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from math import inf

from netscand.core.presence import LONGEST
from tests.bench.simulation.life import DAY, HOUR, Span, Trace, within
from tests.bench.simulation.rules import QUIET, Said

LEARNT = 3 * DAY
"""What comes sooner is the time of learning, and counted apart."""


@dataclass
class Figures:
    """Sums over devices of one class, under one rule. Adding two gives those of both."""

    devices: int = 0
    days: float = 0.0
    """Present and reachable, after LEARNT."""
    false: int = 0
    cut_off: int = 0
    """Shown offline while an outage held it: true words of a device that did not leave."""
    false_first_day: int = 0
    shown_offline: float = 0.0
    """Seconds reachable, and shown offline."""
    delays: list[float] = field(default_factory=list)
    """Of absences of half an hour and more, but for those that ended before any patience did and were not noticed."""
    unnoticed: int = 0
    """Absences of half an hour and more that ended before they were noticed."""
    short: int = 0
    """Absences of 1 to 15 min."""
    short_noticed: int = 0
    visits: int = 0
    """Of 20 s and more."""
    missed: int = 0
    unicast: int = 0
    broadcast: int = 0
    hours: float = 0.0
    """Shown online."""
    unicast_worst: int = 0
    """In the worst hour of the worst device."""
    broadcast_worst: int = 0
    patient_worst: int = 0
    silences: list[float] = field(default_factory=list)
    """Those it was reachable all through, not sorted yet."""
    torn: list[tuple[Span, list[Span]]] = field(default_factory=list)
    """The others: from one sign of life to the next, and when it was reachable meanwhile."""
    last_heard: list[float] = field(default_factory=list)
    """For each of `delays`: seconds from the last sign of life to the leave."""

    def __add__(self, other: "Figures") -> "Figures":
        """Sum both."""
        both = Figures()
        for name, mine in vars(self).items():
            theirs = getattr(other, name)
            setattr(both, name, max(mine, theirs) if name.endswith("_worst") else mine + theirs)
        return both


def judge(trace: Trace, said: Said) -> Figures:
    """The figures of one device."""
    out = Figures(devices=1)
    shown = _spans(said.changes, trace.end)
    for at, online in said.changes:
        if online:
            continue
        if within(trace.reachable, at):
            out.false += at >= LEARNT
            out.false_first_day += at < DAY
        elif within(trace.visits, at):
            out.cut_off += at >= LEARNT
    for start, end in trace.reachable:
        if (start := max(start, LEARNT)) < (end := min(end, trace.end)):
            out.days += (end - start) / DAY
            out.shown_offline += end - start - _overlap(shown, start, end)
    _absences(trace, said, shown, out)
    out.hours = sum(end - start for start, end in shown) / HOUR
    out.unicast, out.broadcast = sum(said.unicast), sum(said.broadcast)
    out.unicast_worst, out.broadcast_worst = max(said.unicast, default=0), max(said.broadcast, default=0)
    out.patient_worst = max(said.patient, default=0)
    for start, end in said.silences:
        if start < LEARNT:
            continue
        inside = [
            (max(start, a), min(end, b))
            for a, b in trace.reachable[max(bisect_right(trace.reachable, (start, inf)) - 1, 0) :]
            if a < end and b > start
        ] if end - start > QUIET else []  # fmt: skip
        if inside == [(start, end)]:
            out.silences.append(end - start)
        else:
            out.torn.append(((start, end), inside))
    return out


def _absences(trace: Trace, said: Said, shown: list[Span], out: Figures) -> None:
    for index, (start, left) in enumerate(trace.visits):
        if left >= trace.end:
            continue
        back = trace.visits[index + 1][0] if index + 1 < len(trace.visits) else inf
        if start >= LEARNT and left - start >= 20:
            out.visits += 1
            out.missed += not _overlap(shown, start, left)
        if left < LEARNT or min(back, trace.end) - left < 60 or not within(shown, left):
            continue
        told = shown[bisect_right(shown, (left, inf)) - 1][1]
        noticed = told < min(back, trace.end)
        if back - left <= 900:
            out.short += 1
            out.short_noticed += noticed
        elif back - left >= 1800 and trace.end - left > 2 * HOUR:
            out.unnoticed += not noticed
            if noticed or min(back, trace.end) - left > 1.5 * LONGEST:  # or who never says a word were never late
                out.delays.append(min(told, back) - left)
                out.last_heard.append(left - _last(said.silences, left))


def _last(silences: list[Span], left: float) -> float:
    """When it was last heard before it left."""
    index = bisect_right(silences, (left, inf)) - 1
    return silences[index][0] if index >= 0 and silences[index][1] > left else left


def _spans(changes: list[tuple[float, bool]], end: float) -> list[Span]:
    """When it is shown online."""
    ups = [at for at, online in changes if online]
    downs = [at for at, online in changes if not online]
    return list(zip(ups, [*downs, end][: len(ups)], strict=True))


def _overlap(spans: list[Span], start: float, end: float) -> float:
    """Seconds of `spans` within start … end."""
    total = 0.0
    index = max(bisect_right(spans, (start, inf)) - 1, 0)
    while index < len(spans) and spans[index][0] < end:
        total += max(0.0, min(spans[index][1], end) - max(spans[index][0], start))
        index += 1
    return total


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of all do not exceed; nan of none."""
    ranked = sorted(values)
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)] if ranked else float("nan")


def best_fixed(seen: Figures) -> tuple[float, list[float]]:
    """The smallest fixed patience that would have been false as seldom in these silences, and its delays."""
    silences = sorted(seen.silences)

    def false(patience: float) -> int:
        whole = len(silences) - bisect_left(silences, patience)
        return whole + sum(
            start + patience < end and within(inside, start + patience) for (start, end), inside in seen.torn
        )

    patience = QUIET
    while patience < 4000 and false(patience) > seen.false:
        patience *= 1.01
    return patience, [max(patience - ago, 0.0) for ago in seen.last_heard]
