"""What the broker does not have yet: the newest payload of each retained topic, and events in order. Pure."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple


class Publication(NamedTuple):
    """Message to publish; an event has the future of its acceptance."""

    topic: str
    payload: bytes
    accepted: "asyncio.Future[None] | None" = None


class Outbox:
    """Queue that is bounded by the number of retained topics and by the pending events (`following.MOST_PENDING`)."""

    def __init__(self, event_topic: str, last: str) -> None:
        self._event_topic = event_topic
        self._last = last
        """Topic that is published after all others on a new connection: availability."""
        self.wanted: dict[str, bytes] = {}
        """Retained topic → newest payload; empty: to be deleted."""
        self._there: dict[str, bytes] = {}
        """Retained topic → payload that the broker has, or gets next on this connection."""
        self._changed: dict[str, None] = {}
        """Topics whose payload the broker does not have, in order."""
        self._events: deque[tuple[bytes, asyncio.Future[None]]] = deque()
        self._event_is_next = False

    def set(self, topic: str, payload: bytes) -> None:
        """Set the payload of a retained topic; empty: delete it."""
        if not payload and topic not in self.wanted and topic not in self._there:
            return
        self.wanted[topic] = payload
        if self._there.get(topic, b"") != payload:
            self._changed[topic] = None
        else:
            self._changed.pop(topic, None)

    def add_event(self, payload: bytes, accepted: "asyncio.Future[None]") -> None:
        """Add an event."""
        self._events.append((payload, accepted))

    def drop_deletions(self) -> None:
        """Drop deletions that the broker does not have yet: what it retains shows which ones are still needed."""
        for topic in [topic for topic, payload in self.wanted.items() if not payload]:
            del self.wanted[topic]
            self._changed.pop(topic, None)

    def connect(self, there: Mapping[str, bytes]) -> None:
        """Begin a connection to a broker that has these retained messages."""
        self._there = dict(there)
        self.republish(only_changed=True)

    def republish(self, *, only_changed: bool = False) -> None:
        """Publish every retained topic again."""
        topics = sorted(self.wanted, key=self._last.__eq__)
        self._changed = dict.fromkeys(
            topic for topic in topics if not only_changed or self._there.get(topic, b"") != self.wanted[topic]
        )

    def next(self) -> Publication | None:
        """Return the next message, an event and a retained one in turn; None: the broker has everything."""
        if self._events and (self._event_is_next or not self._changed):
            self._event_is_next = False
            payload, accepted = self._events.popleft()
            return Publication(self._event_topic, payload, accepted)
        self._event_is_next = True
        if not self._changed:
            return None
        topic = next(iter(self._changed))
        del self._changed[topic]
        payload = self.wanted[topic]
        if payload:
            self._there[topic] = payload
        else:
            self._there.pop(topic, None)
            del self.wanted[topic]
        return Publication(topic, payload)

    def give_back(self, unconfirmed: list[Publication]) -> None:
        """Take back what was not acknowledged on a connection that ended: events, in order, before the others."""
        events = [(one.payload, one.accepted) for one in unconfirmed if one.accepted is not None]
        self._events.extendleft(reversed(events))

    @property
    def is_empty(self) -> bool:
        """Return whether nothing retained is left to publish; what was published may not be confirmed yet."""
        return not self._changed
