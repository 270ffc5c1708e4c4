"""Presence: scripts of observations and probes, and properties."""

import struct
import tracemalloc
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netscand.core.presence import ALIGNED_TO, DAY, HOUR, NEW_PATIENCE, Presence, Rules, Step

RULES = Rules()

BUCKET = 2 ** (1 / 8)
"""A learned silence is rounded up by this factor at most."""

Answers = Callable[[float, bool], float | None]
"""Asked at a time, by broadcast or not: when it answers."""


class Life:
    """A device and the asking of it: `run` does what presence wants, at once, until a verdict or a time."""

    def __init__(self, rules: Rules = RULES, *, age: float = 0.0, now: float = 1000.0) -> None:
        self.now = now
        self.presence = Presence(now, rules)
        if age:
            self.presence = Presence.restored(now, rules, Presence(now, rules).learned(), age)
            self.presence.record_activity(now + 1e-6)
        self.probes: list[float] = []
        self.requests: list[float] = []
        self.seen_at = now

    def run(self, until: float, answers: Answers = lambda at, broadcast: None) -> bool:
        """Whether the verdict came."""
        answer: float | None = None
        while True:
            at = min(self.presence.next_at, answer or inf)
            if at >= until:
                self.now = max(self.now, until)
                return False
            self.now = max(self.now, at)
            if answer is not None and answer <= self.now:
                self.hear(answer)
                answer = None
                continue
            step = self.presence.step(self.now)
            assert step is not Step.NOTHING, "next_at has come, and nothing is due"
            if step is Step.OFFLINE:
                return True
            (self.requests if step is Step.REQUEST else self.probes).append(self.now)
            self.presence.record_sent(self.now, broadcast=step is Step.REQUEST)
            answer = answer or answers(self.now, step is Step.REQUEST)

    def hear(self, at: float, *, joined: bool = False) -> None:
        self.now = max(self.now, at)
        self.presence.record_activity(at, joined=joined)
        self.seen_at = at

    def silence(self, seconds: float, *, joined: bool = False) -> None:
        """Fall silent, and come back for a minute, whatever others claimed meanwhile."""
        back = self.seen_at + seconds
        if self.run(back):
            self.presence.set_offline(self.now)
        self.hear(back, joined=joined)
        self.run(back + 60, promptly)

    def leave(self) -> float:
        """Fall silent permanently; give the seconds until it is offline."""
        self.probes.clear()
        self.requests.clear()
        assert self.run(inf)
        return self.now - self.seen_at


def promptly(at: float, broadcast: bool) -> float:
    return at + 0.001


def known() -> Life:
    """A device known for a week, that always answered."""
    return Life(age=7 * DAY)


# ---- the verdict ---------------------------------------------------------------------------------------------------


def test_offline_is_a_verdict_with_its_reason() -> None:
    """Three probes and a request unanswered, and patience over; the reason says so."""
    life = known()
    assert life.presence.patience == 10
    assert 12 < life.leave() < 15
    assert (len(life.probes), len(life.requests)) == (3, 1)
    assert (
        life.presence.offline_reason(life.now)
        == f"3 probes and 1 request unanswered, silent for {life.now - 1000:.1f} s"
    )


def test_a_probe_is_due_until_it_is_sent() -> None:
    """A probe that the budget delays does not count, however long it takes."""
    life = known()
    for later in (11, 100, 10_000):
        assert life.presence.step(1000 + later) is Step.PROBE
    assert life.presence.next_at < 1011


def test_the_last_probe_has_time_for_an_answer() -> None:
    """No verdict in the second after a probe, even if probes were sent late."""
    life = known()
    at = 5000.0
    while (step := life.presence.step(at)) is not Step.OFFLINE:
        if step is not Step.NOTHING:
            life.presence.record_sent(at, broadcast=step is Step.REQUEST)
            last = at
        at += 0.01
    assert at - last >= 1


def test_broadcasts_are_no_probes() -> None:
    """A scan's requests do not make a device offline that was not probed."""
    presence = known().presence
    for second in range(20):
        presence.record_sent(1020.0 + second, broadcast=True)
    assert presence.step(1100) is Step.PROBE


def test_a_verdict_stands_until_the_device_is_seen() -> None:
    """Offline: nothing is due, probes of scans do not count, any frame revives it."""
    life = known()
    life.leave()
    life.presence.set_offline(life.now)
    assert life.presence.next_at == inf
    assert life.presence.step(life.now + 1e6) is Step.NOTHING
    why = life.presence.offline_reason(life.now)
    life.presence.record_sent(life.now + 5, broadcast=True)
    assert life.presence.offline_reason(life.now) == why
    life.hear(life.now + 10)
    assert life.presence.next_at < inf
    assert life.presence.offline_reason(life.now).startswith("0 probes and 0 requests")


def test_an_older_frame_only_revives_an_offline_device() -> None:
    """Kernel timestamps of several sockets may be out of order."""
    life = known()
    life.hear(1005)
    life.run(1016.5)
    due, why = life.presence.next_at, life.presence.offline_reason(1017)
    assert why.startswith("2 probes")
    life.presence.record_activity(1001)
    life.presence.record_sent(1004, broadcast=False)
    assert (life.presence.next_at, life.presence.offline_reason(1017)) == (due, why)
    life.leave()
    life.presence.set_offline(life.now)
    life.presence.record_activity(1003)
    assert life.presence.step(life.now + 1) is Step.PROBE  # a little later: the probes so far are owed


def test_the_users_patience_wins() -> None:
    """Over what was learned, and over the bounds of the rules."""
    life = known()
    for _ in range(6):
        life.silence(100)
    life.presence.chosen = 7200.0
    assert life.presence.patience == 7200
    assert 7200 <= life.leave() < 7202
    life = known()
    life.presence.chosen = 4.0
    assert life.presence.patience == 4
    assert life.leave() < 15


def test_our_own_blindness_teaches_nothing_and_counts_nothing() -> None:
    """The silence restarts, and the next one does not count: it began before we could see."""
    life = known()
    for _ in range(10):
        life.run(life.now + 13)
        life.presence.restart_silence(life.now + 300)
        assert life.presence.next_at > life.now + 300
        life.run(life.now + 320)
        life.hear(life.now + 2)
    assert life.presence.patience == 10
    life.presence.restart_silence(life.now + 50)
    assert life.presence.offline_reason(life.now + 51).startswith(
        "0 probes and 0 requests unanswered, silent for 1.0 s"
    )


# ---- asking --------------------------------------------------------------------------------------------------------


def test_a_goodbye_is_probed_at_once_and_is_no_verdict() -> None:
    """Then the minimum patience is enough, and an answer restores the old one."""
    life = known()
    for _ in range(6):
        life.silence(20)
    life.run(life.now + HOUR, promptly)
    usual = life.presence.patience
    assert usual > 25
    life.presence.goodbye(life.now + 1)
    life.seen_at = life.now + 1
    asked_at = life.presence.next_at
    assert asked_at - life.seen_at < 2
    assert 10 <= life.leave() < 12
    assert len(life.probes) >= 3
    life.presence.goodbye(life.now + 1)
    life.run(life.now + 20, promptly)
    assert life.presence.patience == usual


def test_a_goodbye_of_a_sleeper_causes_no_probe() -> None:
    """Its patience is too long for that."""
    life = known()
    for _ in range(6):
        life.silence(200)
    due = life.presence.next_at
    life.presence.goodbye(life.now)
    assert life.presence.next_at >= due


def test_patient_devices_are_probed_rarely() -> None:
    """With a patience above 15 min: at most 30 unicasts in every hour of its silence."""
    life = known()
    life.presence.chosen = 3 * HOUR
    life.leave()
    assert len(life.requests) == 1
    assert _most_within_an_hour(life.probes) <= 30


def test_a_broadcast_only_device_gets_broadcasts() -> None:
    """After that is known, it is probed by broadcast once a minute, and four requests are its verdict."""
    life = known()

    def by_broadcast(at: float, broadcast: bool) -> float | None:
        return at + 0.01 if broadcast else None

    assert not life.run(life.now + DAY, by_broadcast)
    life.probes.clear()
    life.requests.clear()
    assert not life.run(life.now + DAY, by_broadcast)
    assert not life.probes
    assert len(life.requests) >= 50 * 24
    assert min(b - a for a, b in pairwise(life.requests)) >= 60
    life.leave()
    assert len(life.requests) >= 4


def test_a_device_that_sometimes_answers_probes_is_probed() -> None:
    """Only three silences *in a row* that a request ended make it broadcast-only."""
    life = known()
    life.presence.chosen = 30.0
    for turn in range(9):
        life.probes.clear()
        ends_by_request = turn % 3 < 2

        def at_last(at: float, broadcast: bool, ends_by_request: bool = ends_by_request) -> float | None:
            return at + 0.01 if broadcast == ends_by_request else None

        assert not life.run(life.now + 29, at_last)
        assert life.probes


@pytest.mark.parametrize("usual", [11.5, 300.0])
def test_three_probes_follow_each_other_in_two_seconds(usual: float) -> None:
    """So one or two lost frames make a silence of 12 s at most, however patient we are."""
    life = known()
    for _ in range(6):
        life.silence(usual)
    life.run(life.now + HOUR, promptly)
    life.leave()
    assert life.probes[2] - life.probes[0] == 2


def test_a_silence_before_the_verdict_costs_no_broadcast() -> None:
    """The one request is sent in the last three seconds; until then a sleeper is probed at least every half minute."""
    life = known()
    for _ in range(6):
        life.silence(200)
    life.requests.clear()
    life.probes.clear()
    life.silence(life.presence.patience - 5)
    assert not life.requests
    gaps = [later - sooner for sooner, later in pairwise(life.probes)]
    assert max(gaps) <= 30


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=6),
    st.booleans(),
    st.lists(st.floats(10, 300), max_size=8),
)
@settings(max_examples=40)
def test_no_device_is_probed_over_360_times_an_hour(pattern: list[int], goodbyes: bool, silences: list[float]) -> None:
    """Whatever it answers, and even with spoofed goodbyes: on average at most every ten seconds."""
    life = known()
    for seconds in silences:
        life.silence(seconds)
    life.probes.clear()
    started, turn, probes = life.now, 0, 0

    def now_and_then(at: float, broadcast: bool) -> float | None:
        nonlocal turn, probes
        probes += 1
        if probes < pattern[turn % len(pattern)]:
            return None
        turn, probes = turn + 1, 0
        return at + 0.001

    while life.now < started + 2 * HOUR:
        if life.run(life.now + 30, now_and_then):
            life.hear(life.now + 0.001)
            probes = 0
        if goodbyes:
            life.presence.goodbye(life.now)
    assert _most_within_an_hour(life.probes) <= 360


def _most_within_an_hour(times: list[float]) -> int:
    return max((bisect_left(times, at + HOUR) - index for index, at in enumerate(times)), default=0)


# ---- learning ------------------------------------------------------------------------------------------------------


def test_the_new_are_given_time() -> None:
    """Nothing is known of a new device's silences: 90 s in its first quarter of an hour, unless the rules say less."""
    life = Life()
    assert life.presence.patience == NEW_PATIENCE
    life.run(life.now + 1000, promptly)
    assert life.presence.patience == RULES.least
    assert Presence(0, Rules(most=20)).patience == 20


def test_silences_that_it_comes_back_from_are_waited_for() -> None:
    """Patience is above the silences that are its habit, and no accident of one day moves it."""
    life = known()
    for _ in range(3):
        life.silence(300)
    assert life.presence.patience == RULES.least
    life.silence(300)
    assert 300 < life.presence.patience < 300 * 1.6 * BUCKET


@pytest.mark.parametrize("usual", [12.0, 14.2, 17.0, 19.0, 25.0, 60.0, 400.0, 850.0, 1400.0, 2000.0])
def test_patience_allows_for_the_usual_twice(usual: float) -> None:
    """Twice a silence, less the 8 s before it counts; from 20 s on it is 1.6 times, from 25 min on 15 min more."""
    life = known()
    for _ in range(4 if usual < 900 else 12):  # a longer one must be a habit
        life.silence(usual)
        life.run(life.now + HOUR, promptly)  # so that no probes are owed

    def expected(longest: float) -> float:
        return min(2 * longest - 8, 1.6 * longest, longest + 900)

    assert expected(usual - ALIGNED_TO) <= life.presence.patience <= expected(usual * BUCKET)


@pytest.mark.parametrize(("usual", "once"), [(19.0, 29.0), (25.0, 39.0), (400.0, 630.0)])
def test_two_interruptions_in_a_row_are_no_absence(usual: float, once: float) -> None:
    """A second burst of loss, or a second sleep where the frame of the wake between was lost (issue 13, item 7)."""
    life = known()
    for _ in range(6):
        life.silence(usual)
    assert not life.run(life.seen_at + once)


def test_the_first_silence_of_a_new_device_is_believed() -> None:
    """In the first day one is enough: better slow than wrong about what one does not know."""
    life = Life()
    life.silence(120)
    assert life.presence.patience >= 600


def test_what_was_learned_is_forgotten_in_weeks() -> None:
    life = known()
    for _ in range(6):
        life.silence(200)
    assert life.presence.patience > 200
    for day in range(1, 31):
        life.hear(life.now + DAY)
        if day == 2:
            assert life.presence.patience > 200
    assert life.presence.patience == RULES.least


def test_our_own_slowness_teaches_nothing() -> None:
    """Where patience is long we ask late; a frame lost then makes a long silence, and means a short one."""
    life = known()
    for _ in range(6):
        life.silence(400)
    assert life.presence.patience > 400
    probes = 0

    def the_second_time(at: float, broadcast: bool) -> float | None:
        nonlocal probes
        probes += 1
        return at + 0.001 if probes % 2 == 0 else None

    life.run(life.now + HOUR, the_second_time)
    for _ in range(30):
        life.hear(life.now + DAY / 2)
    assert life.presence.patience < 20


def test_a_silence_without_probes_teaches_nothing() -> None:
    """Nor does one whose only probe was answered."""
    life = known()
    for _ in range(20):
        life.hear(life.now + 500)
    life.run(life.now + 2000, promptly)
    assert life.presence.patience == RULES.least


def test_absences_are_no_silences() -> None:
    """What ended in a join, or took long, is an absence, unless it is a habit."""
    life = known()
    for hour in range(6):
        life.silence(400, joined=True)
        life.run(life.now + HOUR * (1 + hour % 3), promptly)
    for hour in range(5):
        life.silence(1000 + 50 * hour)
        life.run(life.now + HOUR * (1 + hour % 3), promptly)
    assert life.presence.patience == RULES.least


def test_what_takes_longer_than_patience_may_be_is_an_absence() -> None:
    """However often; a device that sleeps for longer has its patience by the user."""
    life = known()
    for _ in range(20):
        life.silence(5000)
    assert life.presence.patience == RULES.least


def test_a_join_soon_after_a_return_shows_an_absence() -> None:
    """IPv6 and mDNS send frames before DHCP has its answer."""
    life = known()
    for _ in range(5):
        life.silence(300)
        life.presence.record_activity(life.seen_at + 0.5)
    assert life.presence.patience > 300
    life = known()
    for _ in range(5):
        back = life.seen_at + 300
        life.run(back)
        life.hear(back)
        life.hear(back + 2, joined=True)
        life.run(life.now + 60, promptly)
    assert life.presence.patience == RULES.least


def test_a_sensor_that_boots_at_each_wake_is_understood() -> None:
    """DHCP at each wake, every ten minutes: a habit, and no leave; so with wakes each half an hour."""
    for seconds, joined in ((600, True), (1800, False)):
        life = known()
        for _ in range(30):
            life.silence(seconds, joined=joined)
        assert life.presence.patience > seconds


def test_new_rules_hold_at_once() -> None:
    """A reload replaces them."""
    life = known()
    life.presence.rules = Rules(probe_interval=5, least=30, most=40)
    assert life.presence.patience == 30
    assert 1005 < life.presence.next_at <= 1005 + ALIGNED_TO


# ---- properties ----------------------------------------------------------------------------------------------------

moves = st.one_of(
    st.tuples(st.just("frame"), st.floats(-5, 4000), st.booleans()),
    st.tuples(st.just("goodbye"), st.floats(0, 100), st.booleans()),
    st.tuples(st.just("restart"), st.floats(0, 4000), st.booleans()),
    st.tuples(st.just("probe"), st.floats(0, 100), st.booleans()),
    st.tuples(st.just("follow"), st.floats(0, 8000), st.booleans()),
)


def _play(presence: Presence, now: float, script: list[tuple[str, float, bool]]) -> Iterator[tuple[float, Step, str]]:
    """Play any story, and yield each step with its reason."""
    for what, seconds, flag in script:
        at = now + seconds
        now = max(now, at)
        if what == "frame":
            presence.record_activity(at, joined=flag)
        elif what == "goodbye":
            presence.goodbye(at)
        elif what == "restart":
            presence.restart_silence(at)
        elif what == "probe":
            presence.record_sent(at, broadcast=flag)
        else:
            end, due = now, now - seconds
            while (due := max(due, presence.next_at)) <= end:
                step = presence.step(due)
                yield due, step, presence.offline_reason(due)
                if step is Step.OFFLINE:
                    if flag:
                        presence.set_offline(due)
                    break
                presence.record_sent(due, broadcast=step is Step.REQUEST)


@given(st.lists(moves, max_size=40), st.sampled_from([None, 3.0, 90.0, 2000.0]))
@settings(max_examples=200)
def test_never_offline_without_probes_and_patience(script: list[tuple[str, float, bool]], chosen: float | None) -> None:
    """Three probes and a request unanswered (or four requests, if only those are answered), silent for its patience.

    And `next_at` never promises what `step` does not keep, patience stays within the rules, and it all ends.
    """
    presence = Presence(0.0, RULES)
    presence.chosen = chosen
    for steps, (_, step, why) in enumerate(_play(presence, 0.0, script)):
        assert step is not Step.NOTHING
        assert steps < 40 * 1000
        assert presence.patience == chosen or RULES.least <= presence.patience <= RULES.most
        if step is Step.OFFLINE:
            words = why.split()
            probes, requests, silent = int(words[0]), int(words[3]), float(words[-2])
            assert (probes >= 3 and requests >= 1) or requests >= 4
            assert silent >= presence.patience - 0.051


@given(st.lists(moves, max_size=40), st.floats(0, 30 * DAY))
@settings(max_examples=100)
def test_what_was_learned_survives_a_restart(script: list[tuple[str, float, bool]], age: float) -> None:
    """At once it is the same to the byte; later it has faded, and the device is older."""
    presence = Presence(0.0, RULES)
    for _ in _play(presence, 0.0, script):
        pass
    kept = presence.learned()
    again = Presence.restored(5.0, RULES, kept, 0)
    assert again.learned() == kept
    later = Presence.restored(5.0, RULES, kept, age)
    assert RULES.least <= later.patience <= RULES.most


def test_a_restart_changes_no_patience() -> None:
    life = known()
    for seconds in (200, 210, 190, 220, 230, 90, 40):
        life.silence(seconds)
    again = Presence.restored(50.0, RULES, life.presence.learned(), 60.0)
    assert again.patience == life.presence.patience > 200


def test_the_silence_across_a_restart_teaches_nothing() -> None:
    """We were not there when it began."""
    presence = Presence.restored(0.0, RULES, Presence(0.0, RULES).learned(), HOUR)
    for at in (11.0, 12.0, 13.0):
        presence.record_sent(at, broadcast=False)
    for at in (50.0, 60.0, 700.0):
        presence.record_activity(at)
    assert presence.patience == RULES.least


@given(st.one_of(st.binary(max_size=64), st.binary(max_size=48).map(lambda rest: b"\x00\x01" + rest)))
def test_bytes_without_sense_teach_nothing(learned: bytes) -> None:
    """The history's file may be broken; presence is not."""
    presence = Presence.restored(0.0, RULES, learned, 10.0)
    assert RULES.least <= presence.patience <= RULES.most
    presence.record_activity(1.0)
    assert presence.next_at >= 11


def test_numbers_without_sense_teach_nothing() -> None:
    """Of another form, not finite, negative, beyond all buckets, or of the future: as if it were new."""
    for form, known_for, age, bucket, count in (
        (9, 1e9, 0.0, 40, 5.0), (1, inf, 0.0, 40, 5.0), (1, -1.0, 0.0, 40, 5.0), (1, 1e9, -1.0, 40, 5.0),
        (1, 1e9, 0.0, 40, inf), (1, 1e9, 0.0, 40, -5.0), (1, 1e9, 0.0, 65535, 5.0),
    ):  # fmt: skip
        learned = struct.pack("<BBdHf", 0, form, known_for, bucket, count)
        assert Presence.restored(0.0, RULES, learned, age).patience == NEW_PATIENCE
    assert Presence.restored(0.0, RULES, struct.pack("<BBdHf", 0, 1, 1e9, 40, 5.0), 0.0).patience > 300
    assert Presence.restored(0.0, RULES, b"\xff", 0.0).step(100.0) is Step.PROBE


def test_65536_devices_fit() -> None:
    """30 MiB while they have learned nothing."""
    tracemalloc.start()
    crowd = [Presence(1e6 + number / 7, RULES) for number in range(8192)]
    for number, presence in enumerate(crowd):
        presence.record_sent(1e6 + 11 + number / 7, broadcast=False)
        presence.record_activity(1e6 + 11.001 + number / 7)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert size * 8 < 30 * 2**20


def test_first_probes_are_aligned_to_half_seconds() -> None:
    """So a quiet house of 60 devices causes two wake-ups a second, not twelve; later probes are on time."""
    lives = [Presence(1000 + number * 0.013, Rules()) for number in range(100)]
    due = {life.next_at for life in lives}
    assert len(due) <= 4
    for life in lives:
        assert life.since + 10 <= life.next_at <= life.since + 10 + ALIGNED_TO
        life.record_sent(1011.2345, broadcast=False)
        assert life.next_at == 1012.2345
