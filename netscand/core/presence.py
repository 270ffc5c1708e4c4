"""Is this device online? One device's evidence, and the patience to judge its silence by.

Pure: no clock and no I/O. Whoever holds a `Presence` tells it what was heard and what was asked, in monotonic
seconds, and calls `step` when `next_at` has come. A device is offline when it was silent for as long as its patience
and at least three probes and one request since then went unanswered.
"""

from dataclasses import dataclass
from enum import Enum, auto
from math import inf

PROBES = 3
"""Probes that must have gone unanswered."""

REQUESTS_ONLY = 4
"""Requests that serve as the three probes and the request, where a device answers broadcast alone."""

ANSWER_WAIT = 1.0
"""Seconds an ask may remain unanswered before it counts: some twice the slowest Wi-Fi answer (PRESENCE.md)."""


@dataclass(frozen=True, slots=True)
class Rules:
    """`[presence]`: what holds for every device. Seconds."""

    probe_interval: float = 10.0
    """The shortest silence that is asked into."""
    least: float = 10.0
    most: float = 3600.0


class Step(Enum):
    """What is due."""

    NOTHING = auto()
    PROBE = auto()
    REQUEST = auto()
    OFFLINE = auto()


class Presence:
    """One device's evidence of life, from `now` on, when it was first heard."""

    __slots__ = ("_asked_at", "_broadcast", "_lost", "_since", "_unicast", "chosen", "rules")

    def __init__(self, now: float, rules: Rules) -> None:
        self.rules = rules
        self.chosen: float | None = None
        """The user's patience for this device: wins over the learned one, and over the rules' bounds."""
        self._since = now
        self._asked_at = -inf
        self._unicast = 0
        self._broadcast = 0
        self._lost = False

    @property
    def patience(self) -> float:
        """Seconds of silence in force before a verdict."""
        if self.chosen is not None:
            return self.chosen
        return min(max(60.0, self.rules.least), self.rules.most)

    def heard(self, at: float, *, joined: bool = False) -> None:
        """Take any evidence of life but `proxied`; `joined`: DHCP or an announcement. Older than the last is harmless."""
        if at <= self._since and not self._lost:
            return
        self._since = max(at, self._since)
        self._unicast = self._broadcast = 0
        self._asked_at = -inf
        self._lost = False

    def goodbye(self, at: float) -> None:
        """Take its word that it leaves: a reason to ask at once, never a verdict."""

    def asked(self, at: float, *, broadcast: bool) -> None:
        """Note that a probe, or a request (`broadcast`), really left."""
        if at < self._since:
            return
        self._asked_at = max(at, self._asked_at)
        if broadcast:
            self._broadcast += 1
        else:
            self._unicast += 1

    def lost(self, now: float) -> None:
        """Rest: the inventory has set it offline, and nothing is due until it is heard."""
        self._lost = True

    def excuse(self, now: float) -> None:
        """We were blind: the silence starts anew at `now`, the unanswered asks are forgotten, nothing is learned."""
        self._since = max(now, self._since)
        self._unicast = self._broadcast = 0
        self._asked_at = -inf

    @property
    def next_at(self) -> float:
        """When `step` next wants to be called; inf while it is offline."""
        if self._lost:
            return inf
        verdict = max(self._since + self.patience, self._asked_at + ANSWER_WAIT)
        if self._enough():
            return min(verdict, max(self._next_ask(), self._asked_at + ANSWER_WAIT))
        return self._next_ask()

    def step(self, now: float) -> Step:
        """Say what is due at `now`: an ask until `asked` reports it; OFFLINE until `lost`, `heard` or `excuse`."""
        if now < self.next_at:
            return Step.NOTHING
        patience = self.patience
        if self._enough() and now >= max(self._since + patience, self._asked_at + ANSWER_WAIT):
            return Step.OFFLINE
        last_chance = (
            self._unicast + self._broadcast >= PROBES - 1 if patience <= 60 else now >= self._since + patience - 3
        )
        return Step.REQUEST if not self._broadcast and last_chance else Step.PROBE

    def why(self, now: float) -> str:
        """Give the reason as it is told: "3 probes and 1 request unanswered, silent for 11.2 s"."""
        probes = f"{self._unicast} probe{'s' * (self._unicast != 1)}"
        requests = f"{self._broadcast} request{'s' * (self._broadcast != 1)}"
        return f"{probes} and {requests} unanswered, silent for {now - self._since:.1f} s"

    def learned(self) -> bytes:
        """Give what its silences taught, for the history; `recalled` takes it."""
        return b""

    @classmethod
    def recalled(cls, now: float, rules: Rules, learned: bytes, age: float) -> "Presence":
        """Make a device known before: `learned` as it gave it, `age` s old. Bytes without sense teach nothing."""
        return cls(now, rules)

    def _enough(self) -> bool:
        return (self._unicast >= PROBES and self._broadcast >= 1) or self._broadcast >= REQUESTS_ONLY

    def _next_ask(self) -> float:
        asks = self._unicast + self._broadcast
        if not asks:
            return self._since + self.rules.probe_interval
        return self._asked_at + min(float(asks), 30.0)
