"""Clients of `changes` that have a filter: it is applied in slices, in order, and no other client waits for it.

Equal filters are applied once. Applying each of many to each of many events takes longer than the loop may be held.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator
from time import perf_counter

from netscand.serve.query import Change, Filter
from netscand.serve.subscriber import Outgoing, Subscriber

HOLD = 0.002
"""Seconds that a slice may hold the loop."""


class Filtered:
    """Clients by filter, and the events and news of scans that wait for it."""

    def __init__(self, offer: Callable[[Subscriber, Outgoing], None]) -> None:
        self._offer = offer
        self._clients: dict[Filter, set[Subscriber]] = {}
        self._works: deque[Iterator[None]] = deque()
        self._due = False

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._clients)

    def add(self, subscriber: Subscriber) -> None:
        """Send it everything from now on."""
        self._clients.setdefault(subscriber.fits, set()).add(subscriber)

    def discard(self, subscriber: Subscriber) -> None:
        """Send it nothing more."""
        if clients := self._clients.get(subscriber.fits):
            clients.discard(subscriber)
            if not clients:
                del self._clients[subscriber.fits]

    def event(self, number: int, change: Change, message: Outgoing) -> None:
        """Send an event to the clients that it fits."""
        self._do(self._event(number, change, message))

    def each(self, send: Callable[[Collection[Subscriber]], None]) -> None:
        """Call `send` with the clients of each filter, after the events before."""
        self._do(self._each(send))

    def _event(self, number: int, change: Change, message: Outgoing) -> Iterator[None]:
        for fits, clients in tuple(self._clients.items()):
            if fits.change(change):
                for subscriber in clients:
                    if number > subscriber.since:
                        self._offer(subscriber, message)
            yield

    def _each(self, send: Callable[[Collection[Subscriber]], None]) -> Iterator[None]:
        for clients in tuple(self._clients.values()):
            send(clients)
            yield

    def _do(self, work: Iterator[None]) -> None:
        if self._clients:
            self._works.append(work)
            if not self._due:
                self._slice()

    def _slice(self) -> None:
        """Work for up to HOLD; do the rest in the next turn."""
        self._due = False
        until = perf_counter() + HOLD
        try:
            while self._works:
                if next(self._works[0], self) is self:
                    self._works.popleft()
                elif perf_counter() > until:
                    break
        finally:  # a work that failed has ended
            if self._works:
                self._due = True
                asyncio.get_running_loop().call_soon(self._slice)
