"""Measurement of the longest turn of an event loop, in seconds of work, independent of other load on the machine."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import thread_time


class Longest:
    """The longest turn so far."""

    seconds = 0.0


@contextmanager
def longest_turn() -> Iterator[Longest]:
    """Watch the running loop while the block lasts, turn by turn: it never sleeps meanwhile."""
    longest = Longest()

    async def watch() -> None:
        before = thread_time()
        while True:
            await asyncio.sleep(0)
            now = thread_time()
            longest.seconds = max(longest.seconds, now - before)
            before = now

    watching = asyncio.get_running_loop().create_task(watch())
    try:
        yield longest
    finally:
        watching.cancel()
