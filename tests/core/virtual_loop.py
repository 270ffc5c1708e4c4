"""An event loop whose clock jumps to the next timer: hours of asyncio in a moment."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    """One that does not wait, but moves the clock."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits, and nothing is due"
            self.now += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; `time` is its own clock."""

    def __init__(self) -> None:
        self.clock = _Selector()
        super().__init__(self.clock)

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self.clock.now


def run(loop: VirtualLoop, main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in it to its end."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)
