"""Budgets: each spender has its own, many names share one, and what is refused is reported."""

from hypothesis import given
from hypothesis import strategies as st

from netscand.core.budgets import LIMITING_FOR, MOST_SPENDERS, Budget, Budgets

ROW = Budget("renames", "device", "names of one device", 2, 0.5)


def test_each_spender_has_its_own() -> None:
    budgets = Budgets()
    assert [budgets.take(ROW, "a", 0.0) for _ in range(3)] == [True, True, False]
    assert budgets.take(ROW, "b", 0.0)


def test_what_is_refused_is_reported_for_a_minute() -> None:
    budgets = Budgets()
    for _ in range(5):
        budgets.take(ROW, "a", 10.0)
    assert budgets.refused == {"renames": 3}
    assert budgets.limiting(10.0 + LIMITING_FOR - 1) == ("renames",)
    assert budgets.limiting(10.0 + LIMITING_FOR) == ()


def test_many_names_are_no_way_around_it() -> None:
    """A million spenders within a second take what the table holds, and then what one may."""
    budgets = Budgets()
    granted = sum(budgets.take(ROW, number // 2, 0.0) for number in range(50_000))
    assert granted <= 2 * MOST_SPENDERS + ROW.at_once


def test_whose_bucket_is_full_again_makes_room() -> None:
    budgets = Budgets()
    for number in range(MOST_SPENDERS):
        budgets.take(ROW, number, 0.0)
    later = 60.0
    assert all(budgets.take(ROW, f"later {number}", later) for number in range(1_000))


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 60)), max_size=80))
def test_no_spender_takes_more_than_its_row_allows(asked: list[tuple[int, float]]) -> None:
    """Law 6: at_once, and per_second after that, whoever else asks."""
    budgets = Budgets()
    granted: dict[int, int] = {}
    for spender, at in sorted(asked, key=lambda each: each[1]):
        granted[spender] = granted.get(spender, 0) + budgets.take(ROW, spender, at)
    assert all(count <= ROW.at_once + 60 * ROW.per_second for count in granted.values())
