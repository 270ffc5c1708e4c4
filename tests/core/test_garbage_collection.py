"""Full collections at a bounded cost."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from netscand.garbage_collection import FEW, Collector


class Knot:
    """A reference cycle."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def old() -> Iterator["weakref.ref[Knot]"]:
    """A cycle in the oldest generation that nothing refers to any more."""
    gc.disable()
    knot = Knot()
    found = weakref.ref(knot)
    gc.collect(1)
    gc.collect(1)
    del knot
    gc.collect(1)
    assert found() is not None, "Python collects it with the young ones"
    yield found
    gc.unfreeze()
    gc.enable()


def test_an_old_cycle_is_freed(old: "weakref.ref[Knot]") -> None:
    """A cycle that has outlived the collections of young objects is freed by the next full one."""
    Collector(lambda: 10).collect()
    assert old() is None


def test_many_new_devices_are_left_out(old: "weakref.ref[Knot]") -> None:
    """Where devices were added, no full collection looks at them; the next one looks at what is newer."""
    there = FEW + 1
    collector = Collector(lambda: there)
    collector.collect()
    assert old() is not None
    assert gc.get_freeze_count() > 0
    later = weakref.ref(Knot())
    collector.collect()
    assert later() is None


def test_devices_that_come_and_go_are_left_out_once(old: "weakref.ref[Knot]") -> None:
    """Objects are frozen only for more devices than ever before, so that no garbage is frozen repeatedly."""
    there = FEW + 1
    collector = Collector(lambda: there)
    collector.collect()
    frozen = gc.get_freeze_count()
    kept = [Knot() for _ in range(100)]
    for there in (0, FEW + 1, 0, FEW + FEW, 10):  # noqa: B007 - the collector asks for it
        collector.collect()
    assert gc.get_freeze_count() <= frozen
    found = weakref.ref(kept[0])
    kept.clear()
    collector.collect()
    assert found() is None
