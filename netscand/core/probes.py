"""What presence wants to ask, and when it may: one of each lane in turn, so that a full one holds no other up."""

from collections import deque
from collections.abc import Callable, Mapping
from math import inf

from netscand.core.budget import Bucket
from netscand.core.inventory import Inventory
from netscand.core.model import Ask

WATCH_RATE = 1000.0
"""Frames/s that presence asks at most, also where `rate` is 0: thousands of devices are watched, not pressed."""

SKIPS = 1024
"""Wishes that no longer stand and are passed over at once, some milliseconds' work: after a suspend all are such."""

Afford = Callable[[Ask, float, bool], float | None]
"""(ask, now, fast) → None: it may leave, and is counted; else when there will be room for it."""


class Probes:
    """The inventory's wishes. `next_at` is when `advance` next wants to be called for them."""

    def __init__(self, inventory: Inventory, plans: Mapping[str, object], afford: Afford) -> None:
        self.next_at = inf
        self._inventory = inventory
        self._plans = plans
        self._afford = afford
        self._bucket = Bucket(WATCH_RATE, 0.0)

    def set_rate(self, rate: float, now: float) -> None:
        """Take the budget of the configuration; 0: no bound."""
        self._bucket = self._bucket.at(min(rate or WATCH_RATE, WATCH_RATE), now)

    def advance(self, asks: list[Ask], now: float, limit: int) -> None:
        """Add to `asks` what may leave now, up to `limit` in all: one of each lane in turn."""
        self.next_at = inf
        wishes = self._inventory.wishes
        lanes = deque(wishes)
        skips = SKIPS
        while lanes and len(asks) < limit:
            lane = lanes.popleft()
            if lane.network not in self._plans:
                del wishes[lane]
                continue
            queue = wishes[lane]
            while queue and skips and not self._inventory.wanted(queue[0], now):
                queue.popleft()
                skips -= 1
            if not queue:
                del wishes[lane]
                continue
            if not skips:
                self.next_at = now
                return
            if self._bucket.room(now) < 1:
                self.next_at = min(self.next_at, self._bucket.when(now))
                return
            room_at = self._afford(queue[0], now, False)
            if room_at is None:
                self._bucket.take()
                asks.append(queue.popleft())
                wishes[lane] = wishes.pop(lane)  # behind the others, which are first the next time
                lanes.append(lane)
            else:
                self.next_at = min(self.next_at, room_at)
