"""What a device's silences say of the patience it needs.

Only silences count that the device fell into though it was asked, and came back from. Each counts one, and half as
much five days later; patience is 1.4 times the longest that was met four times recently. So a few accidents teach
nothing, and what looks like an absence (it ended in a join, or was very long) counts only when it is a habit.
`tests/bench/simulation` is the judge of every number here.
"""

import struct
from dataclasses import dataclass
from enum import Enum, auto
from math import ceil, inf, isfinite, log2
from typing import NamedTuple

HOUR = 3600.0
DAY = 24 * HOUR

SHORTEST = 8.0
"""A shorter silence says nothing: an answer that came late."""

LONG = 900.0
"""A longer one looks like an absence …"""

LONGEST = HOUR
"""… and one beyond this, or beyond the most patience that the rules allow, is one."""

BUCKETS = 8
"""The ledger's fineness: buckets in each octave of seconds from SHORTEST on."""

HALF_LIFE = 5 * DAY
"""A silence counts one, and by half less after so long."""

REPETITIONS = 3.5
MARGIN = 1.4
"""Patience is MARGIN times the longest silence that, with all longer ones, counts OFTEN: four recently."""

SETTLED = 5.0
"""Seconds after its return in which a join still tells that it had left: IPv6 and mDNS often speak before DHCP does."""

ABSENCE_HALF_LIFE = DAY
ALIKE = BUCKETS // 2
HABIT = 7.0
"""A silence that ended in a join, or was above LONG, looks like an absence: it is kept apart, and fades by half in a
day. HABIT of them within ALIKE buckets are no absences."""

REVIEW = 600.0
"""Seconds after which what was learned is looked at again, if nothing new is."""

NEW = 900.0
NEW_PATIENCE = 90.0
"""For so many seconds a device is new, and nothing is known of its silences: wait at least so long."""

SLEEPER = 60.0
SLEEPER_PATIENCE = 600.0
"""Whose patience would be above SLEEPER in the first day falls asleep, and its longest sleep is still to come."""

FORMAT = 1
"""The first byte of what `kept` gives."""

Counts = dict[int, float] | None
"""How many silences of each length, by bucket; those of long ago count less. None: none yet."""


class Silence(NamedTuple):
    """One that ended `at`, `seconds` long."""

    seconds: float
    at: float


class SilenceHistogram:
    """One device's, from `now` on, when it was first heard."""

    __slots__ = ("_absences", "_counts", "_decayed_at", "_ended", "_first_seen", "_review_at", "patience")

    def __init__(self, now: float) -> None:
        self._first_seen = self._decayed_at = now
        self._counts: Counts = None
        self._absences: Counts = None
        self._ended: Silence | None = None
        self._review_at = now + NEW
        self.patience = NEW_PATIENCE
        """Seconds, between no bounds but reason's; 0: nothing speaks against the least."""

    def record_activity(self, at: float, *, joined: bool) -> None:
        """Take a sign of life: a join soon after a silence tells that it was an absence."""
        ended = self._ended
        if ended and (joined or at - ended.at > SETTLED):
            self._learn(ended, absence=joined and at - ended.at <= SETTLED)
            self._ended = None
        if at >= self._review_at:
            self._review(at)

    def record_silence(self, seconds: float, at: float, *, joined: bool, most: float) -> None:
        """Take a silence, though asked, that ended `at`, in a join or not. `most`: the most patience allowed."""
        if SHORTEST <= seconds <= max(LONGEST, most):
            if joined:
                self._learn(Silence(seconds, at), absence=True)
            else:
                self._ended = Silence(seconds, at)

    def to_bytes(self) -> bytes:
        """Give what was learned, for the history; `recalled` takes it."""
        age = struct.pack("<Bd", FORMAT, self._decayed_at - self._first_seen)
        return age + b"".join(struct.pack("<Hf", *entry) for entry in sorted((self._counts or {}).items()))

    @classmethod
    def from_bytes(cls, now: float, kept: bytes, age: float) -> "SilenceHistogram":
        """Make them anew from what `kept` gave, `age` seconds ago. Bytes without sense teach nothing."""
        silences = cls(now)
        try:
            format_, known_for = struct.unpack_from("<Bd", kept)
            counts = dict(struct.iter_unpack("<Hf", kept[struct.calcsize("<Bd") :]))
        except struct.error:
            return silences
        numbers = (known_for, age, *counts.values())
        if format_ == FORMAT and all(isfinite(each) and each >= 0 for each in numbers) and max(counts, default=0) < 256:
            silences._decayed_at = now - age
            silences._first_seen = now - age - known_for
            silences._counts = counts or None
            silences._review(now)
        return silences

    def _learn(self, silence: Silence, *, absence: bool) -> None:
        seconds, at = silence
        self._decay(at)
        bucket = int(BUCKETS * log2(seconds / SHORTEST))
        if absence or seconds > LONG:
            self._absences = _incremented(self._absences, bucket)
            alike = sum(count for other, count in self._absences.items() if abs(other - bucket) <= ALIKE)
            if alike < HABIT - 0.5:  # those of today have faded a little
                return
        self._counts = _incremented(self._counts, bucket)
        self._review(at)

    def _decay(self, now: float) -> None:
        elapsed = now - self._decayed_at
        self._counts = _decayed(self._counts, 0.5 ** (elapsed / HALF_LIFE))
        self._absences = _decayed(self._absences, 0.5 ** (elapsed / ABSENCE_HALF_LIFE))
        self._decayed_at = now

    def _review(self, now: float) -> None:
        """What the ledger says of patience, here and now."""
        self._decay(now)
        age = now - self._first_seen
        self._review_at = now + REVIEW if age >= NEW else self._first_seen + NEW
        required = min(
            0.5 + age / DAY, REPETITIONS
        )  # in its first day the longest silence counts, were it the only one
        total = patience = 0.0
        for bucket, count in sorted((self._counts or {}).items(), reverse=True):
            total += count
            if total >= required:
                patience = MARGIN * SHORTEST * 2 ** ((bucket + 1) / BUCKETS)
                break
        if age < DAY and patience > SLEEPER:
            patience = max(patience, SLEEPER_PATIENCE)
        if age < NEW:
            patience = max(patience, NEW_PATIENCE)
        self.patience = patience


def _incremented(counts: Counts, bucket: int) -> dict[int, float]:
    counts = counts or {}
    counts[bucket] = counts.get(bucket, 0.0) + 1
    return counts


def _decayed(counts: Counts, left: float) -> Counts:
    return {bucket: count * left for bucket, count in counts.items() if count * left > 0.05} if counts else None


# ---- presence ------------------------------------------------------------------------------------------------------
# Is this device online? One device's evidence, and the asking into its silence.
#
# Pure: no clock and no I/O. Whoever holds a `Presence` tells it what was heard and what was asked, in monotonic
# seconds, and calls `step` when `next_at` has come. A device is offline when it was silent for as long as its patience
# and at least three probes and one request since then went unanswered. Patience is learned: see `silences`.

PROBES = 3
"""Probes that must have gone unanswered."""

REQUESTS_ONLY = 4
"""Requests that serve as the three probes and the request, where a device answers broadcast alone."""

UNICAST_MISSES = 3
"""Silences in a row that a request ended and no probe could: this device answers broadcast alone."""

REQUEST_INTERVAL = 60.0
"""Seconds between the requests to such a device: 60 an hour."""

ALIGNED_TO = 0.5
"""Seconds: first asks into a silence wait for each other, up to so long, so that a quiet house sleeps in between."""

ANSWER_WAIT = 1.0
"""Seconds an ask may remain unanswered before it counts: three times the slowest answer of an awake laptop."""

LAST_REQUEST = 3.0
"""Seconds before the verdict the one request is sent; so who only fell silent for a while costs no broadcast."""

MOST_PAUSE = 30.0
"""Seconds between asks, at most, where the patience is up to 15 min."""

LONG_PAUSE = 300.0
"""Seconds between asks where the patience is above 15 min: 12 an hour, for the batteries' sake."""

COST = 360 / 348
EASE = 30.0
"""Each probe is paid with COST probe intervals; who owes n of them is next asked n² / EASE of them later. So the probes
after a miss cost little delay, and yet nobody is probed more than 360 times an hour, whatever it answers and whoever
spoofs its goodbyes."""

QUICK_PATIENCE = 60.0
"""Where the patience is at most this, a goodbye is asked into at once."""


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

    __slots__ = (
        "_broadcast",
        "_first_probe",
        "_goodbye",
        "_offline",
        "_owed_until",
        "_probed_at",
        "_restarted",
        "_silences",
        "_since",
        "_unicast",
        "_unicast_misses",
        "chosen",
        "rules",
    )  # fmt: skip

    def __init__(self, now: float, rules: Rules) -> None:
        self.rules = rules
        self.chosen: float | None = None
        """The user's patience for this device: wins over the learned one, and over the rules' bounds."""
        self._since = now
        self._unicast = self._broadcast = 0
        self._first_probe = self._probed_at = self._owed_until = -inf
        self._restarted = self._offline = self._goodbye = False
        self._unicast_misses = 0
        self._silences = SilenceHistogram(now)

    @property
    def patience(self) -> float:
        """Seconds of silence in force before a verdict."""
        if self.chosen is not None:
            return self.chosen
        rules = self.rules
        return min(max(rules.least, 0.0 if self._goodbye else self._silences.patience), rules.most)

    @property
    def since(self) -> float:
        """From when its silence counts: when it was heard last, or since when we can hear it again."""
        return self._since

    @property
    def probes_sent(self) -> int:
        """Probes and requests into this silence so far."""
        return self._unicast + self._broadcast

    @property
    def broadcast_only(self) -> bool:
        """Whether it answers requests alone, by experience."""
        return self._unicast_misses >= UNICAST_MISSES

    def is_last(self, step: Step) -> bool:
        """Whether an ask, sent as `step`, is one of the last before a verdict."""
        if self._unicast_misses >= UNICAST_MISSES:
            return self._broadcast >= REQUESTS_ONLY - 1
        return step is Step.REQUEST or self._broadcast > 0

    @property
    def probed_since(self) -> float:
        """When the first ask into this silence left; inf: none did."""
        return self._first_probe if self._unicast + self._broadcast else inf

    # ---- what happened ------------------------------------------------------------------------------------------

    def record_activity(self, at: float, *, joined: bool = False) -> None:
        """Take any evidence of life but `proxied`; `joined`: DHCP or announcement. Older than the last: harmless."""
        if at <= self._since and not self._offline:
            return
        self._silences.record_activity(at, joined=joined)
        if self._unicast + self._broadcast:
            self._end_silence(at, joined)
        self._since = max(at, self._since)
        self._restarted = self._offline = self._goodbye = False

    def goodbye(self, at: float) -> None:
        """Take its word that it leaves: a reason to ask at once and to wait no longer than the least. No verdict."""
        self.record_activity(at)
        if at >= self._since and self.patience <= QUICK_PATIENCE:
            self._goodbye = True

    def record_sent(self, at: float, *, broadcast: bool) -> None:
        """Note that a probe, or a request (`broadcast`), really left."""
        if at < self._since or self._offline:
            return
        if not self._unicast + self._broadcast:
            self._first_probe = at
        self._probed_at = max(at, self._probed_at)
        if broadcast:
            self._broadcast += 1
        else:
            self._unicast += 1
            self._owed_until = max(at, self._owed_until) + COST * self.rules.probe_interval

    def set_offline(self, now: float) -> None:
        """Rest: the inventory has set it offline, and nothing is due until it is heard."""
        self._offline = True

    def restart_silence(self, now: float) -> None:
        """Start the silence anew at `now`: we were blind. Unanswered asks are forgotten, nothing is learned."""
        self._since = max(now, self._since)
        self._restarted = True
        self._goodbye = False
        self._unicast = self._broadcast = 0

    # ---- what is due --------------------------------------------------------------------------------------------

    @property
    def next_at(self) -> float:
        """When `step` is next to be called; inf while it is offline."""
        at = self._due()[0]
        return at if self.probes_sent or at == inf else ceil(at / ALIGNED_TO) * ALIGNED_TO

    def step(self, now: float) -> Step:
        """Say what is due at `now`: an ask until `asked` reports it; OFFLINE until `lost`, `heard` or `excuse`."""
        at, what = self._due()
        return what if now >= at else Step.NOTHING

    def offline_reason(self, now: float) -> str:
        """Give the reason as it is told: "3 probes and 1 request unanswered, silent for 11.2 s"."""
        probes = f"{self._unicast} probe{'s' * (self._unicast != 1)}"
        requests = f"{self._broadcast} request{'s' * (self._broadcast != 1)}"
        return f"{probes} and {requests} unanswered, silent for {now - self._since:.1f} s"

    def _due(self) -> tuple[float, Step]:
        """The next thing to do, and when."""
        if self._offline:
            return inf, Step.NOTHING
        patience = self.patience
        last_probe, probes, requests = self._probed_at, self._unicast, self._broadcast
        broadcast_only = self._unicast_misses >= UNICAST_MISSES
        if not probes + requests:
            if broadcast_only:
                return max(self._since + self.rules.probe_interval, last_probe + REQUEST_INTERVAL), Step.REQUEST
            at = self._since + self._first_wait(patience)
            owed = max(0.0, self._owed_until - at)
            return at + owed * owed / (EASE * self.rules.probe_interval), Step.PROBE
        verdict = self._since + patience
        final_probe_at = verdict - ANSWER_WAIT  # the last probe is sent then, and has its time to be answered
        enough = (probes >= PROBES and requests > 0) or (broadcast_only and requests >= REQUESTS_ONLY)
        if enough and last_probe >= final_probe_at:
            return last_probe + ANSWER_WAIT, Step.OFFLINE
        if broadcast_only:
            again = last_probe + REQUEST_INTERVAL
            return (final_probe_at, Step.PROBE) if enough and again > final_probe_at else (again, Step.REQUEST)
        probe = last_probe + self._pause(patience)
        if probes < PROBES:
            return min(probe, max(last_probe + (probes + 1) / 2, verdict - LAST_REQUEST)), Step.PROBE
        request = inf if requests else max(last_probe, verdict - LAST_REQUEST)
        probe = min(probe, final_probe_at) if last_probe < final_probe_at else inf
        return (request, Step.REQUEST) if request <= probe else (probe, Step.PROBE)

    def _first_wait(self, patience: float) -> float:
        """From the last sign of life to the first probe."""
        if self._goodbye:
            return 0.5
        return max(LONG_PAUSE if patience > LONG else min(patience / 24, MOST_PAUSE), self.rules.probe_interval)

    def _pause(self, patience: float) -> float:
        """From the latest probe to the next."""
        if patience > LONG:
            return LONG_PAUSE
        if self._unicast < 2:  # at once, so that a lost frame makes no long silence
            return 1.0
        return min((self._unicast + 1) / 2 * max(1.0, patience / 60), MOST_PAUSE)

    # ---- what it teaches ----------------------------------------------------------------------------------------

    def _end_silence(self, at: float, joined: bool) -> None:
        """Learn from a silence that was asked into, unless it was our own or the first ask was answered."""
        answered = at - self._probed_at <= ANSWER_WAIT
        if not self._restarted and (self._unicast + self._broadcast > 1 or not answered):
            seconds = at - self._since
            if answered and self._unicast_misses < UNICAST_MISSES:  # had it been asked sooner, it had answered sooner
                seconds -= max(0.0, self._first_probe - self._since - self.rules.probe_interval)
            self._silences.record_silence(seconds, at, joined=joined, most=self.rules.most)
        if answered and not self._broadcast:
            self._unicast_misses = 0
        elif answered and self._unicast >= PROBES:
            self._unicast_misses = min(self._unicast_misses + 1, UNICAST_MISSES)
        self._unicast = self._broadcast = 0

    def learned(self) -> bytes:
        """Give what its silences taught, for the history; `recalled` takes it."""
        return struct.pack("<B", self._unicast_misses) + self._silences.to_bytes()

    @classmethod
    def restored(cls, now: float, rules: Rules, learned: bytes, age: float) -> "Presence":
        """Make a device known before: what `learned` gave, `age` seconds ago. Bytes without sense teach nothing."""
        presence = cls(now, rules)
        presence._restarted = True  # its silence began before we could hear
        presence._silences = SilenceHistogram.from_bytes(now, learned[1:], age)
        if learned and learned[0] <= UNICAST_MISSES:
            presence._unicast_misses = learned[0]
        return presence
