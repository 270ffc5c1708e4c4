"""Events by the minute, for the rules: a small world whose clock the test moves."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from netscanctl.services.notify.compose import Composer
from netscanctl.services.notify.rules import Engine
from netscanctl.services.notify.settings import Notify, Rule
from netscanctl.services.notify.state import Message, Rules
from netscand.protocol import Device, Event
from tests.ctl import messages

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()
"""Noon, a Monday."""
MINUTE, HOUR = 60.0, 3600.0


def rules_of(text: dict[str, Any]) -> dict[str, Rule]:
    """Return rules as the file has them, without the brackets."""
    return msgspec.convert({"ntfy": "https://ntfy.example/t", "rule": text}, Notify).rules


class World:
    """An engine and its clock; `sent` collects (seconds since START, channel, title)."""

    def __init__(self, channels: tuple[str, ...] = ("phone",), **rules: dict[str, Any]) -> None:
        self.rules, self.channels = rules_of(rules), channels
        self.state = Rules(now=START)
        self.sent: list[tuple[float, str, Message]] = []
        self.number = 0
        self.now = START
        self.restart()

    def restart(self) -> None:
        """Start the engine anew, from its state as the file would have it."""
        self.state = msgspec.json.decode(msgspec.json.encode(self.state), type=Rules)
        self.engine = Engine(self.rules, self.channels, Composer("https://scan.lan", UTC), self.state, UTC)

    def at(self, seconds: float) -> "World":
        """Move the clock to this many seconds after START, one agenda item at a time."""
        until = START + seconds
        while (due := self.engine.next_due) is not None and due < until:
            self.now = max(self.now, due)
            self._keep(self.engine.advance(due))
        self.now = max(self.now, until)
        self._keep(self.engine.advance(until))
        return self

    def event(self, kind: str, about: Device | None = None, **more: object) -> Event:
        """Give the engine an event that happens now."""
        self.number += 1
        stamp = datetime.fromtimestamp(self.now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event = messages.event(kind, about, f"k3f9-{self.number}", at=stamp, **more)
        self._keep(self.engine.take(event, self.now))
        return event

    def status(self, number: int, status: str, was: str = "", **more: str) -> None:
        """Let a device go online or offline now."""
        before = was or ("offline" if status == "online" else "online")
        self.event(status, messages.device(number, status, **more), previous={"status": before})

    def _keep(self, messages: list[tuple[str, Message]]) -> None:
        self.sent += [(self.now - START, channel, message) for channel, message in messages]

    @property
    def titles(self) -> list[str]:
        """Titles of all messages, in their order."""
        return [message.title for _, _, message in self.sent]

    @property
    def times(self) -> list[float]:
        """Seconds of all messages since START."""
        return [round(at, 3) for at, _, _ in self.sent]
