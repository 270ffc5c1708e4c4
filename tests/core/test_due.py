"""The queue of due checks."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from netscand.core.due import DueQueue
from tests.core.world import mac

TIMES = st.integers(0, 50).map(float)


@given(st.lists(st.tuples(TIMES, TIMES)))
def test_checks_are_due_in_order_whatever_order_they_came_in(steps: list[tuple[float, float]]) -> None:
    """Each push is followed by a pop of what is due; an entry is returned once, and not before its time."""
    queue, waiting = DueQueue(), list[tuple[float, int]]()
    for number, (at, now) in enumerate(steps):
        queue.push(at, mac(number))
        waiting.append((at, number))
        assert queue.next_at == min(waiting)[0]
        entry = queue.pop(now)
        if entry is None:
            assert min(waiting)[0] > now
        else:
            assert entry[0] == min(waiting)[0] <= now
            waiting.remove((entry[0], int.from_bytes(entry[1][3:])))
    while waiting:
        entry = queue.pop(50.0)
        assert entry is not None
        assert entry[0] == min(waiting)[0]
        waiting.remove((entry[0], int.from_bytes(entry[1][3:])))
    assert queue.pop(inf) is None
    assert queue.next_at == inf
