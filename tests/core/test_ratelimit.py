"""The rate limit holds in every second, not on average (FAULTS T20)."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from netscand.core.ratelimit import TokenBucket


@given(
    rate=st.sampled_from([1.0, 2.0, 7.0, 50.0, 333.0, 1000.0, 5000.0]),
    naps=st.lists(st.floats(min_value=0.0001, max_value=0.7), min_size=1, max_size=200),
)
@example(rate=1000.0, naps=[0.019] * 60)  # just often enough to lose nothing: the depth and all of the refill
def test_no_second_holds_more_frames_than_the_rate(rate: float, naps: list[float]) -> None:
    """However late we wake, any window of one second holds at most `rate` frames."""
    now, sent = 100.0, []
    bucket = TokenBucket(rate, now)
    for nap in naps:
        now += nap
        while bucket.room(now) >= 1:
            bucket.take()
            sent.append(now)
    window = int(rate) + 1
    assert all(late - early > 1.0 for early, late in zip(sent, sent[window - 1 :], strict=False))
    assert all(early <= late for early, late in pairwise(sent))


def test_setting_the_rate_again_grants_no_extra_frames() -> None:
    """Every netlink change and each reload sets it again."""
    now, sent = 100.0, []
    bucket = TokenBucket(100.0, now)
    for turn in range(4000):
        now += 0.001
        bucket = bucket.at(100.0 if turn % 100 else 99.0, now)
        while bucket.room(now) >= 1:
            bucket.take()
            sent.append(now)
    assert all(late - early > 1.0 for early, late in zip(sent, sent[100:], strict=False))
    assert len(sent) > 200


def test_a_rate_of_zero_is_no_bound() -> None:
    bucket = TokenBucket(0.0, 0.0)
    for _ in range(10_000):
        assert bucket.room(0.0) >= 1
        bucket.take()


def test_when_is_never_now_while_there_is_no_room() -> None:
    """Or a rounded sum would make the engine spin."""
    bucket = TokenBucket(50.0, 0.0)
    now = 0.0
    for _ in range(1000):
        while bucket.room(now) >= 1:
            bucket.take()
        assert bucket.when(now) > now
        now = bucket.when(now)


def test_the_rate_is_nearly_used() -> None:
    """The strict bound costs less than 6 % of the rate."""
    now, sent = 0.0, 0
    bucket = TokenBucket(1000.0, now)
    while now < 10:
        while bucket.room(now) >= 1:
            bucket.take()
            sent += 1
        now = bucket.when(now, 5)
    assert sent >= 9400
