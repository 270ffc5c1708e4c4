"""Presence: the status of one device, by its own silences.

Patience, the time that a device may be silent, is learned from silences during which it was probed and after which it
came back. Each counts one, and half as much five days later. What caused the longest silence that occurred four times
recently may occur twice in a row: patience is up to 1.6 times that silence. A few accidents have no effect. A silence
that looks like an absence (it ended in a join, or was very long) counts only if it is a habit.
`tests/bench/simulation` judges every number here.
"""

import struct
from dataclasses import dataclass
from enum import Enum, auto
from math import ceil, inf, isfinite, log2
from typing import NamedTuple

HOUR = 3600.0
DAY = 24 * HOUR

SHORTEST = 8.0
"""Minimum silence that counts, in seconds: a shorter one is a late answer."""

LONG = 900.0
"""A longer silence looks like an absence …"""

LONGEST = HOUR
"""… and one longer than this, or than the maximum patience of the rules, is one."""

BUCKETS = 8
"""Resolution of the histogram: buckets in each octave of seconds, from SHORTEST."""

HALF_LIFE = 5 * DAY
"""Seconds after which a silence counts half."""

REPETITIONS = 3.5
"""Patience is calculated from the longest silence that, with all longer ones, counts REPETITIONS: four recent ones."""

MARGIN = 0.6
"""What causes a silence may occur twice in a row: two bursts of loss, or two sleeps, and no frame shows the wake
between them. So the margin, which patience adds to the silence, is the silence again, less SHORTEST, which passes
before the first probe. For a sleeper, that is too late, and two of its longest sleeps in a row are rare: the margin is
at most MARGIN of the silence, and at most LONG, since the longest silences of a battery device are several sleeps
already."""

SETTLED = 5.0
"""Seconds after a return in which a join still shows that the device had left: IPv6 and mDNS often precede DHCP."""

ABSENCE_HALF_LIFE = DAY
ALIKE = BUCKETS // 2
HABIT = 7.0
"""A silence that ended in a join or was longer than LONG looks like an absence: it is counted separately, with a
half-life of one day. If HABIT of them lie within ALIKE buckets, they are no absences."""

REVIEW = 600.0
"""Seconds between two calculations of the patience, if no new silence is recorded."""

NEW = 900.0
NEW_PATIENCE = 90.0
"""Seconds for which a device is new, and its minimum patience meanwhile: nothing is known of its silences."""

SLEEPER = 60.0
SLEEPER_PATIENCE = 600.0
"""A device whose patience exceeds SLEEPER in its first day sleeps at times, and its longest sleep is still to come: it
gets at least SLEEPER_PATIENCE."""

FORMAT = 1
"""Format version: the first byte of `to_bytes`."""

Counts = dict[int, float] | None
"""Bucket of lengths → count of silences; old ones count less. None: no silence yet."""


class Silence(NamedTuple):
    """A silence of `seconds` that ended `at`."""

    seconds: float
    at: float


class SilenceHistogram:
    """Histogram of one device's silences, first seen at `now`."""

    __slots__ = ("_absences", "_counts", "_decayed_at", "_ended", "_first_seen", "_reviewed_at", "patience")

    def __init__(self, now: float) -> None:
        self._first_seen = self._decayed_at = self._reviewed_at = now  # one object: there may be 65,533 devices
        self._counts: Counts = None
        self._absences: Counts = None
        self._ended: Silence | None = None
        self.patience = NEW_PATIENCE
        """Learned patience in seconds, not limited by the rules; 0: the minimum is enough."""

    def record_activity(self, at: float, *, joined: bool) -> None:
        """Note a sign of life; a join soon after a silence shows that it was an absence."""
        ended = self._ended
        if ended and (joined or at - ended.at > SETTLED):
            self._learn(ended, absence=joined and at - ended.at <= SETTLED)
            self._ended = None
        reviewed_at, first_seen = self._reviewed_at, self._first_seen
        if at >= (reviewed_at + REVIEW if reviewed_at - first_seen >= NEW else first_seen + NEW):
            self._review(at)

    def record_silence(self, seconds: float, at: float, *, joined: bool, most: float) -> None:
        """Record a silence with unanswered probes that ended `at`. `most`: the maximum patience of the rules."""
        if SHORTEST <= seconds <= max(LONGEST, most):
            if joined:
                self._learn(Silence(seconds, at), absence=True)
            else:
                self._ended = Silence(seconds, at)

    def to_bytes(self) -> bytes:
        """Serialise the histogram for the history; `from_bytes` reads it."""
        age = struct.pack("<Bd", FORMAT, self._decayed_at - self._first_seen)
        if not self._counts:
            return age
        return age + b"".join(struct.pack("<Hf", *entry) for entry in sorted(self._counts.items()))

    @classmethod
    def from_bytes(cls, now: float, kept: bytes, age: float) -> "SilenceHistogram":
        """Restore a histogram that `to_bytes` wrote `age` seconds ago; an empty one from invalid bytes."""
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
            if alike < HABIT - 0.5:  # those of today have decayed a little
                return
        self._counts = _incremented(self._counts, bucket)
        self._review(at)

    def _decay(self, now: float) -> None:
        elapsed = now - self._decayed_at
        self._counts = _decayed(self._counts, 0.5 ** (elapsed / HALF_LIFE))
        self._absences = _decayed(self._absences, 0.5 ** (elapsed / ABSENCE_HALF_LIFE))
        self._decayed_at = now

    def _review(self, now: float) -> None:
        """Calculate the patience from the histogram."""
        self._decay(now)
        age = now - self._first_seen
        self._reviewed_at = now
        required = min(
            0.5 + age / DAY, REPETITIONS
        )  # in its first day the longest silence counts, were it the only one
        total = patience = 0.0
        for bucket, count in sorted((self._counts or {}).items(), reverse=True):
            total += count
            if total >= required:
                longest = SHORTEST * 2 ** ((bucket + 1) / BUCKETS)
                patience = longest + min(longest - SHORTEST, MARGIN * longest, LONG)
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
# The status of one device, and the probes while it is silent.
#
# Pure: no clock and no I/O. The owner of a `Presence` reports activity and sent probes, in monotonic seconds, and calls
# `step` at `next_at`. A device is offline when it has been silent for its patience, and at least three probes and one
# request went unanswered.

PROBES = 3
"""Probes that must go unanswered before `offline`."""

REQUESTS_ONLY = 4
"""Requests that replace the three probes and the request, if a device answers only broadcasts."""

UNICAST_MISSES = 3
"""Silences in a row that a request ended and no probe did, after which a device counts as answering only broadcasts."""

REQUEST_INTERVAL = 60.0
"""Seconds between requests to such a device: 60 an hour."""

ALIGNED_TO = 0.5
"""Seconds: first probes of different devices are aligned to multiples of this, so that the daemon wakes less often."""

ANSWER_WAIT = 1.0
"""Seconds until a probe counts as unanswered: three times the slowest answer of an awake laptop."""

LAST_REQUEST = 3.0
"""Seconds before the verdict at which the one request is sent, so that a short silence costs no broadcast."""

MOST_PAUSE = 30.0
"""Maximum seconds between probes, if the patience is up to 15 min."""

LONG_PAUSE = 300.0
"""Seconds between probes, if the patience is above 15 min: 12 an hour, to save batteries."""

COST = 360 / 348
EASE = 30.0
"""Each probe costs COST probe intervals; a device that owes n of them is probed n² / EASE of them later. So the probes
after a miss are hardly delayed, and yet no device is probed more than 360 times an hour, whatever it answers, and even
if others spoof its goodbyes."""

QUICK_PATIENCE = 60.0
"""Maximum patience, in seconds, of a device that is probed at once after a goodbye."""


@dataclass(frozen=True, slots=True)
class Rules:
    """`[presence]`: rules for every device, in seconds."""

    probe_interval: float = 10.0
    """Minimum silence before a device is probed."""
    least: float = 10.0
    most: float = 3600.0


class Step(Enum):
    """The action that is due."""

    NOTHING = auto()
    PROBE = auto()
    REQUEST = auto()
    OFFLINE = auto()


NOTHING, PROBE = Step.NOTHING, Step.PROBE  # a lookup in the enum takes 50 ns

NEVER = -inf
"""One object for all devices: the expression makes another one each time."""


class Presence:
    """Presence of one device, first seen at `now`."""

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
        """Patience that a user set for this device; overrides the learned one and the limits of the rules."""
        self._since = now
        self._unicast = self._broadcast = 0
        self._first_probe = self._probed_at = self._owed_until = NEVER
        self._restarted = self._offline = self._goodbye = False
        self._unicast_misses = 0
        self._silences = SilenceHistogram(now)

    @property
    def patience(self) -> float:
        """Return the patience in force, in seconds."""
        if self.chosen is not None:
            return self.chosen
        rules = self.rules
        patience = rules.least
        if not self._goodbye and self._silences.patience > patience:
            patience = self._silences.patience
        return patience if patience < rules.most else rules.most

    @property
    def since(self) -> float:
        """Return the start of its silence: when it was seen last, or when we could see it again."""
        return self._since

    @property
    def broadcast_only(self) -> bool:
        """Return whether the device has shown that it answers only broadcasts."""
        return self._unicast_misses >= UNICAST_MISSES

    def is_last(self, step: Step) -> bool:
        """Return whether a probe, sent as `step`, is one of the last before a verdict."""
        if self._unicast_misses >= UNICAST_MISSES:
            return self._broadcast >= REQUESTS_ONLY - 1
        return step is Step.REQUEST or self._broadcast > 0

    @property
    def probed_since(self) -> float:
        """Return when the first probe in this silence was sent; inf: none was."""
        return self._first_probe if self._unicast + self._broadcast else inf

    # ---- reports ------------------------------------------------------------------------------------------------

    def record_activity(self, at: float, *, joined: bool = False, unprobed: bool = False) -> None:
        """Note evidence of any kind except `proxied`; `joined`: DHCP or an announcement. Older evidence is ignored.

        `unprobed`: the device cannot be probed, so nothing interrupts its silence, and the silence is learned.
        """
        if at <= self._since and not self._offline:
            return
        self._silences.record_activity(at, joined=joined)
        if self._unicast + self._broadcast:
            self._end_silence(at, joined)
        elif unprobed and not self._restarted:
            self._silences.record_silence(at - self._since, at, joined=joined, most=self.rules.most)
        self._since = max(at, self._since)
        self._restarted = self._offline = self._goodbye = False

    def goodbye(self, at: float) -> None:
        """Note a goodbye of the device: it is probed at once, with the minimum patience; its status stays."""
        self.record_activity(at)
        if at >= self._since and self.patience <= QUICK_PATIENCE:
            self._goodbye = True

    def record_sent(self, at: float, *, broadcast: bool) -> None:
        """Note that a probe, or a request (`broadcast`), was really sent."""
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
        """Note that the device is offline: nothing is due until it is seen again."""
        self._offline = True

    def restart_silence(self, now: float) -> None:
        """Restart the silence at `now`, after we could not see: unanswered probes do not count, nothing is learned."""
        self._since = max(now, self._since)
        self._restarted = True
        self._goodbye = False
        self._unicast = self._broadcast = 0

    # ---- due steps ----------------------------------------------------------------------------------------------

    @property
    def next_at(self) -> float:
        """Return when to call `step` next; inf while the device is offline."""
        return self._aligned(self._due()[0])

    def step(self, now: float) -> Step:
        """Return the step that is due at `now`; the same one until a method above reports a change."""
        return self.next_step(now)[0]

    def next_step(self, now: float) -> tuple[Step, float]:
        """Return the same, and when to ask again if it is NOTHING."""
        at, what = self._due()
        return (what, now) if now >= at else (NOTHING, self._aligned(at))

    def _aligned(self, at: float) -> float:
        return at if self._unicast + self._broadcast or at == inf else ceil(at / ALIGNED_TO) * ALIGNED_TO

    def offline_reason(self, now: float) -> str:
        """Return the reason of an `offline` event: "3 probes and 1 request unanswered, silent for 11.2 s"."""
        probes = f"{self._unicast} probe{'s' * (self._unicast != 1)}"
        requests = f"{self._broadcast} request{'s' * (self._broadcast != 1)}"
        return f"{probes} and {requests} unanswered, silent for {now - self._since:.1f} s"

    def _due(self) -> tuple[float, Step]:
        """Return the next step, and when it is due."""
        if self._offline:
            return inf, Step.NOTHING
        patience = self.patience
        last_probe, probes, requests = self._probed_at, self._unicast, self._broadcast
        broadcast_only = self._unicast_misses >= UNICAST_MISSES
        if not probes + requests:
            if broadcast_only:
                return max(self._since + self.rules.probe_interval, last_probe + REQUEST_INTERVAL), Step.REQUEST
            at = self._since + self._first_wait(patience)
            if self._owed_until > at:
                at += (self._owed_until - at) ** 2 / (EASE * self.rules.probe_interval)
            return at, PROBE
        verdict = self._since + patience
        final_probe_at = verdict - ANSWER_WAIT  # leaves the last probe time for its answer
        enough = (probes >= PROBES and requests > 0) or (broadcast_only and requests >= REQUESTS_ONLY)
        if enough and last_probe >= final_probe_at:
            return last_probe + ANSWER_WAIT, Step.OFFLINE
        if broadcast_only:
            again = last_probe + REQUEST_INTERVAL
            return (final_probe_at, Step.PROBE) if enough and again > final_probe_at else (again, Step.REQUEST)
        probe = last_probe + self._pause(patience)
        if probes < PROBES:
            return min(probe, max(last_probe + ANSWER_WAIT, verdict - LAST_REQUEST)), Step.PROBE
        request = inf if requests else max(last_probe, verdict - LAST_REQUEST)
        probe = min(probe, final_probe_at) if last_probe < final_probe_at else inf
        return (request, Step.REQUEST) if request <= probe else (probe, Step.PROBE)

    def _first_wait(self, patience: float) -> float:
        """Return the seconds from the last sign of life to the first probe."""
        if self._goodbye:
            return 0.5
        return max(LONG_PAUSE if patience > LONG else min(patience / 24, MOST_PAUSE), self.rules.probe_interval)

    def _pause(self, patience: float) -> float:
        """Return the seconds from the latest probe to the next."""
        if patience > LONG:
            return LONG_PAUSE
        if self._unicast < PROBES:  # soon, so that lost frames make no long silence
            return ANSWER_WAIT
        return min((self._unicast + 1) / 2 * max(1.0, patience / 60), MOST_PAUSE)

    # ---- learning -----------------------------------------------------------------------------------------------

    def _end_silence(self, at: float, joined: bool) -> None:
        """Learn from a silence with probes, unless we could not see, or the first probe was answered."""
        answered = at - self._probed_at <= ANSWER_WAIT
        if not self._restarted and (self._unicast + self._broadcast > 1 or not answered):
            seconds = at - self._since
            if answered and self._unicast_misses < UNICAST_MISSES:  # an earlier probe would have been answered earlier
                seconds -= max(0.0, self._first_probe - self._since - self.rules.probe_interval)
            self._silences.record_silence(seconds, at, joined=joined, most=self.rules.most)
        if answered and not self._broadcast:
            self._unicast_misses = 0
        elif answered and self._unicast >= PROBES:
            self._unicast_misses = min(self._unicast_misses + 1, UNICAST_MISSES)
        self._unicast = self._broadcast = 0

    def learned(self) -> bytes:
        """Return what was learned, for the history; `restored` reads it."""
        return struct.pack("<B", self._unicast_misses) + self._silences.to_bytes()

    @classmethod
    def restored(cls, now: float, rules: Rules, learned: bytes, age: float) -> "Presence":
        """Restore a presence from `learned` of `age` seconds ago; invalid bytes are ignored."""
        presence = cls(now, rules)
        presence._restarted = True  # its silence began before this start
        presence._silences = SilenceHistogram.from_bytes(now, learned[1:], age)
        if learned and learned[0] <= UNICAST_MISSES:
            presence._unicast_misses = learned[0]
        return presence
