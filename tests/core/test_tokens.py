"""A token bucket: what hostile devices can bring about is told so often, and no oftener."""

from hypothesis import given
from hypothesis import strategies as st

from netscand.core.tokens import Tokens


def test_so_many_at_once_and_then_so_many_a_second() -> None:
    tokens = Tokens(3, 0.5)
    assert [tokens.take(100) for _ in range(4)] == [True, True, True, False]
    assert not tokens.take(101.5)
    assert [tokens.take(102.5), tokens.take(102.5)] == [True, False]


def test_a_long_silence_saves_up_no_more_than_what_may_be_told_at_once() -> None:
    tokens = Tokens(2, 10)
    assert [tokens.take(1e6) for _ in range(3)] == [True, True, False]


def test_an_earlier_time_brings_none_and_is_not_counted_twice() -> None:
    tokens = Tokens(1, 1)
    assert [tokens.take(10), tokens.take(5), tokens.take(10.5), tokens.take(6), tokens.take(10.9)] == [
        True,
        *[False] * 4,
    ]
    assert tokens.take(11)


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=60).map(sorted), st.integers(1, 5), st.sampled_from([0.25, 1, 4])
)
def test_no_span_of_time_holds_more_than_both_allow(asked: list[float], at_once: int, a_second: float) -> None:
    tokens = Tokens(at_once, a_second)
    told = [at for at in asked if tokens.take(at)]
    for number, begun in enumerate(told):
        for count, ended in enumerate(told[number:], 1):
            assert count <= at_once + (ended - begun) * a_second + 1e-6
