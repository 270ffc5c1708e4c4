"""Cursors of the events that a target has not accepted yet. Pure, but for the futures."""

import asyncio
from collections import deque
from collections.abc import Callable


class Ledger:
    """Pending events in the order of the stream; `save` gets the cursor up to which every event was accepted."""

    def __init__(self, save: Callable[[str], None]) -> None:
        self._save = save
        self._pending: deque[tuple[str, asyncio.Future[None]]] = deque()
        self._progress = asyncio.Event()

    @property
    def behind(self) -> int:
        """Return how many events are not accepted yet."""
        return len(self._pending)

    def add(self, cursor: str, accepted: "asyncio.Future[None]") -> None:
        """Add an event with the cursor after it; `accepted` is done once the target has it."""
        self._pending.append((cursor, accepted))
        accepted.add_done_callback(self._settle)

    def skip(self, cursor: str) -> None:
        """Move the cursor over messages that are not for the target."""
        if self._pending:
            self._pending[-1] = (cursor, self._pending[-1][1])
        else:
            self._save(cursor)

    async def wait_below(self, limit: int) -> None:
        """Wait until fewer than `limit` events are pending."""
        while len(self._pending) >= limit:
            self._progress.clear()
            await self._progress.wait()

    def _settle(self, _accepted: "asyncio.Future[None]") -> None:
        """Save the cursor of the last event up to which all are accepted; a cancelled one was not."""
        last = None
        while self._pending and self._pending[0][1].done() and not self._pending[0][1].cancelled():
            last = self._pending.popleft()[0]
        if last is not None:
            self._save(last)
            self._progress.set()
