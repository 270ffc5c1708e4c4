"""The `changes` mode: a message for each event, and for the start, the progress and the end of a scan.

Clients without a filter come first. Filters are applied in slices, in order, and no other client waits for them; equal
filters are applied once. Applying each of many to each of many events takes longer than the loop may be held.

Before these messages, serve/websocket.py sends the snapshot, or what the client missed. serve/hub.py holds an event
until it is stored, and empties the queues of the clients.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator
from time import monotonic, perf_counter

from netscand import protocol
from netscand.core.model import ScanFailed, ScanFinished, ScanNews
from netscand.serve import websocket_frames
from netscand.serve.encode import Encoder, decoded, device_before, event_message
from netscand.serve.histograms import Measurements
from netscand.serve.query import Change, Filter
from netscand.serve.subscriber import Outgoing, Subscriber

HOLD = 0.002
"""Seconds that a slice of filters may hold the loop."""


class ChangesMode:
    """Clients of the `changes` mode, and the events and news of scans that wait for filters."""

    def __init__(self, offer: Callable[[Subscriber, Outgoing], None], encoder: Encoder, measures: Measurements) -> None:
        self._offer = offer
        self._encoder = encoder
        self._measures = measures
        self.without_filter: set[Subscriber] = set()
        self.by_filter: dict[Filter, set[Subscriber]] = {}
        self._works: deque[Iterator[None]] = deque()
        self._due = False

    def add(self, subscriber: Subscriber) -> None:
        """Send a client every message from now on."""
        if subscriber.fits:
            self.by_filter.setdefault(subscriber.fits, set()).add(subscriber)
        else:
            self.without_filter.add(subscriber)

    def discard(self, subscriber: Subscriber) -> None:
        """Send a client nothing more."""
        self.without_filter.discard(subscriber)
        if clients := self.by_filter.get(subscriber.fits):
            clients.discard(subscriber)
            if not clients:
                del self.by_filter[subscriber.fits]

    def publish_event(self, number: int, cursor: str, body: bytes, seen_at: float | None) -> None:
        """Publish an event, the hub's `number`th; `body` is its JSON, `seen_at` when its frame came."""
        if seen_at is not None:
            self._measures.event_lag.record(monotonic() - seen_at)
        message = websocket_frames.whole(event_message(cursor, body, self._encoder.now())), cursor
        for subscriber in self.without_filter:
            if number > subscriber.since:
                self._offer(subscriber, message)
        if self.by_filter:
            self._filter(self._event(number, Change(event := decoded(body), device_before(event)), message))

    def publish_news(self, number: int, news: ScanNews, content: protocol.Message) -> None:
        """Publish the progress of a scan."""
        message = websocket_frames.whole(protocol.encode(content)), None
        networks = (news.network,) if isinstance(news, ScanFailed) else news.networks

        def send(subscribers: Collection[Subscriber]) -> None:
            for subscriber in subscribers:
                if number <= subscriber.since:
                    continue
                if subscriber.fits.scan(networks) or news.scan_id in subscriber.requested:
                    self._offer(subscriber, message)
                if isinstance(news, ScanFinished):
                    subscriber.requested.discard(news.scan_id)

        send(self.without_filter)
        if self.by_filter:
            self._filter(self._each(send))

    # ---- filters --------------------------------------------------------------------------------------------------

    def _event(self, number: int, change: Change, message: Outgoing) -> Iterator[None]:
        for fits, clients in tuple(self.by_filter.items()):
            if fits.change(change):
                for subscriber in clients:
                    if number > subscriber.since:
                        self._offer(subscriber, message)
            yield

    def _each(self, send: Callable[[Collection[Subscriber]], None]) -> Iterator[None]:
        for clients in tuple(self.by_filter.values()):
            send(clients)
            yield

    def _filter(self, work: Iterator[None]) -> None:
        """Do this work after the work before, a filter at a step."""
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
