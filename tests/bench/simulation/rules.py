"""Who listens and asks: the real Presence, and the rules of other systems (PEERS), on the same trace.

A rule is a function of a trace, a site and its own chance, and gives what it said: `Said`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from random import Random

from netscand.core.presence import LONG, Presence, Rules, Step
from tests.bench.simulation.life import HOUR, Says, Site, Span, Trace


@dataclass
class Said:
    """What a rule said of one device, and what it cost."""

    changes: list[tuple[float, bool]] = field(default_factory=list)
    """When it was first shown so: online or not. Offline before the first."""
    unicast: list[int] = field(default_factory=list)
    """Probes in each hour that it was shown online."""
    broadcast: list[int] = field(default_factory=list)
    patient: list[int] = field(default_factory=list)
    """Probes in each hour sent while its patience was above 15 min."""
    silences: list[Span] = field(default_factory=list)
    """Those beyond QUIET, from one sign of life to the next."""

    def show(self, at: float, online: bool) -> None:
        """Note what is shown from `at` on."""
        if online != self.online:
            self.changes.append((at, online))

    @property
    def online(self) -> bool:
        """Whether it is shown online now."""
        return bool(self.changes) and self.changes[-1][1]

    def asked(self, at: float, *, broadcast: bool) -> None:
        """Count an ask into the life of one that is shown online; for the absent, everybody's scans look."""
        if self.online:
            hours, hour = self.broadcast if broadcast else self.unicast, int(at / HOUR)
            hours += [0] * (hour + 1 - len(hours))
            hours[hour] += 1


Rule = Callable[[Trace, Site, Random], Said]

QUIET = 10.6
"""Silences up to this are what an answered first probe leaves."""


class Ear:
    """The device's side of an ask. Asked in the order of time."""

    def __init__(self, trace: Trace, random: Random) -> None:
        self.trace = trace
        self.kind = trace.kind
        self.random = random
        self._hears = 0
        self._could = 0
        self._visit = 0
        self._woken_until = -inf

    def answers(self, at: float, broadcast: bool) -> float | None:
        """When its answer to an ask at `at` arrives."""
        kind, random = self.kind, self.random
        if not broadcast and not kind.answers_unicast:
            return None
        spans = self.trace.hears
        index = self._hears
        while index < len(spans) and spans[index][1] <= at:
            index += 1
        self._hears = index
        if not (index < len(spans) and spans[index][0] <= at) and not self._wakes(at, broadcast):
            return None
        if kind.loss and random.random() < kind.loss:
            return None
        if broadcast and random.random() < self.trace.broadcast_loss:
            return None
        return at + random.uniform(*kind.answer)

    def _wakes(self, at: float, broadcast: bool) -> bool:
        if not self.kind.woken:
            return False
        spans = self.trace.could
        while self._could < len(spans) and spans[self._could][1] <= at:
            self._could += 1
        if not (self._could < len(spans) and spans[self._could][0] <= at):
            return False
        if at >= self._woken_until and not broadcast and self.random.random() < self.kind.woken:
            self._woken_until = at + self.random.uniform(*self.kind.awake)
        return at < self._woken_until

    def proxied(self, at: float) -> bool:
        """Whether somebody answers a request for it: for rules that cannot distinguish, it is there."""
        if not self.kind.proxy:
            return False
        visits = self.trace.visits
        while self._visit < len(visits) and visits[self._visit][1] + self.kind.proxy <= at:
            self._visit += 1
        return self._visit < len(visits) and visits[self._visit][0] <= at


def ours(trace: Trace, site: Site, random: Random, rules: Rules | None = None, chosen: float | None = None) -> Said:
    """Our own rule: the real Presence, driven as the engine drives it."""
    said = Said()
    said.patient = [0] * (int(trace.end / HOUR) + 1)
    ear, frames = Ear(trace, random), iter(trace.frames)
    frame = next(frames, None)
    answers: list[float] = []
    presence: Presence | None = None
    online = False
    due, last = inf, 0.0
    scan, changed = random.uniform(0, site.scan), 0.0
    turn, spread = site.turn[0], site.turn[1] - site.turn[0]
    while True:
        at = min(frame.at if frame else inf, due, answers[0] if answers else inf, inf if online else scan)
        if at >= trace.end:
            return said
        says: Says | None = None
        if answers and at == answers[0]:
            heappop(answers)
            says = Says.SPEECH
        elif frame and at == frame.at:
            says = frame.says
            frame = next(frames, None)
        if says is not None:
            if at - last > QUIET:
                said.silences.append((last, at))
            last = at
            if presence is None:
                presence = Presence(at, rules or Rules())
                presence.chosen = chosen
            elif says is Says.GOODBYE:
                presence.goodbye(at)
            else:
                presence.record_activity(at, joined=says is Says.JOIN)
            if not online:
                online = True
                said.show(at, True)
        elif not online:
            scan += site.scan if at - changed < site.quiet_after else site.quiet_scan
            if answer := ear.answers(at, True):
                heappush(answers, answer)
            continue
        elif presence is not None:
            step = presence.step(at)
            if step is Step.OFFLINE:
                presence.set_offline(at)
                online = False
                said.show(at, False)
                scan, changed = at + random.uniform(0, site.scan), at
            elif step is not Step.NOTHING:
                broadcast = step is Step.REQUEST
                presence.record_sent(at, broadcast=broadcast)
                said.asked(at, broadcast=broadcast)
                if not broadcast and presence.patience > LONG:
                    said.patient[int(at / HOUR)] += 1
                if answer := ear.answers(at, broadcast):
                    heappush(answers, answer)
        if presence is not None:
            due = max(presence.next_at, at) + turn + spread * random.random()


def _sweeps(
    period: tuple[float, float], tries: tuple[float, ...], wait: float, grace: float
) -> Callable[[Trace, Site, Random], Said]:
    """Broadcast sweeps alone: offline at the end of a sweep that missed, `grace` after the first that did."""

    def rule(trace: Trace, site: Site, random: Random) -> Said:
        said, ear = Said(), Ear(trace, random)
        at = random.uniform(0, period[1])
        missed: float | None = None
        while at < trace.end:
            seen = False
            for offset in tries:
                said.asked(at + offset, broadcast=True)
                answer = ear.answers(at + offset, True)
                if answer or ear.proxied(at + offset):
                    said.show(answer or at + offset, True)
                    seen = True
                    break
            done = at + tries[-1] + wait
            if seen:
                missed = None
            else:
                missed = done if missed is None else missed
                if done - missed >= grace:
                    said.show(done, False)
            at += random.uniform(*period)
        return said

    return rule


def _houserat(trace: Trace, site: Site, random: Random) -> Said:
    """Every 20 s a probe to each that is online; three unanswered: gone. ARP and DHCP are signs of life."""
    said, ear = Said(), Ear(trace, random)
    frames = iter(trace.frames)
    frame = next(frames, None)
    missed = 0
    online = False
    at = random.uniform(0, 20)
    while at < trace.end:
        while frame and frame.at <= at:
            # It hears ARP and DHCP alone.
            if frame.says is Says.JOIN or (frame.says is Says.SPEECH and random.random() < trace.kind.arp):
                said.show(frame.at, True)
                online, missed = True, 0
            frame = next(frames, None)
        if online and missed >= 3:
            said.show(at, False)
            online = False
        if online:
            said.asked(at, broadcast=False)
            missed = 0 if ear.answers(at, False) else missed + 1
        at += 20.0
    return said


def _lanlens(trace: Trace, site: Site, random: Random) -> Said:
    """One try each 5 min, and gone when unseen for 15."""
    said, ear = Said(), Ear(trace, random)
    at = random.uniform(0, 300)
    seen: float | None = None
    while at < trace.end:
        said.asked(at, broadcast=True)
        answer = ear.answers(at, True)
        if seen is not None and (answer or at + 300) - seen > 900:
            said.show(seen + 900, False)
            seen = None
        if answer or ear.proxied(at):
            seen = answer or at
            said.show(seen, True)
        at += 300.0
    return said


OTHERS: dict[str, Rule] = {
    # arp-scan --retry=6 every 5 min: a time-out of 0.5 s, times 1.5 at each try (PEERS)
    "NetAlertX": _sweeps((300, 300), (0, 0.5, 1.25, 2.375, 4.0625, 6.59375), 3.8, 0),
    # arp-scan's 2 tries; 120 s, rounded up by a loop of 60 s
    "WatchYourLAN": _sweeps((120, 180), (0, 0.5), 0.75, 0),
    # nmap -sn: one retransmission; not_home `consider_home` after the first miss
    "Home Assistant": _sweeps((120, 120), (0, 0.2), 0.2, 180),
    "houserat": _houserat,
    "LanLens": _lanlens,
}
