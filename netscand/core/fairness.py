"""Fair order: first in, first out within an account; accounts take turns (serve/fair_turns.py, store/turns.py)."""

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Queue that is first in, first out within an account, and round robin over accounts."""

    def __init__(self) -> None:
        self._of: dict[Hashable, deque[T]] = {}
        """Account → its items; the account whose turn is next comes first."""

    def __bool__(self) -> bool:
        """Return whether the queue has items."""
        return bool(self._of)

    def push(self, account: Hashable, item: T) -> None:
        """Append an item."""
        self._of.setdefault(account, deque()).append(item)

    def push_back(self, account: Hashable, item: T) -> None:
        """Put an item back that was taken but not finished: it is the first of its account again."""
        self._of.setdefault(account, deque()).appendleft(item)

    def pop(self) -> T:
        """Take the next item; its account becomes the last. Raises StopIteration if the queue is empty."""
        account = next(iter(self._of))
        items = self._of.pop(account)
        item = items.popleft()
        if items:
            self._of[account] = items
        return item
