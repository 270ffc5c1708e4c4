"""The two ways to follow the daemon: every event at least once, and the current state.

Each uses a connection of its own. The events resume at the saved cursor, however old it is; the state begins with a
snapshot. So a target that does not answer delays events, which wait in the daemon's history, but never the state.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from netscanctl.client import Daemon, Failure, Incompatible
from netscanctl.cursor_file import CursorFile, DamagedCursor
from netscanctl.services.backoff import Backoff
from netscanctl.services.ledger import Ledger
from netscanctl.services.report import Report
from netscanctl.state import ClientState
from netscanctl.stream import RECONNECT_DELAY, Received, follow
from netscand.protocol import Event, InitialState, ServerMessage

MOST_PENDING = 1000
"""Events received and not accepted; then the stream is not read, and the daemon's history is the queue."""

Submit = Callable[[Received], "asyncio.Future[None]"]
"""Give the target an event; the future is done once it has accepted it."""


async def messages(daemon: Daemon, report: Report, part: str, since: str | None = None) -> AsyncGenerator[Received]:
    """Yield every message without end; a daemon that does not answer or refuses is a problem of `part` of the report.

    Raises Incompatible if the daemon is of another version.
    """
    backoff, is_away = Backoff(), False

    def lose(sentence: str) -> None:
        nonlocal is_away
        is_away = True
        report.problem(part, sentence)

    while True:
        delay = RECONNECT_DELAY * random.uniform(0.7, 1.3)  # noqa: S311 - no secret
        try:
            # follow() reconnects by itself once it was connected, and reports that with the same function.
            async with aclosing(follow(daemon, lose, since=since, reconnect_delay=delay)) as stream:
                async for received in stream:
                    if is_away:
                        is_away = False
                        report.problem(part, None)
                    yield received
        except Incompatible:
            raise
        except Failure as failure:
            lose(str(failure))
            await backoff.sleep()


async def follow_events(
    daemon: Daemon, report: Report, bookmark: CursorFile, submit: Submit, *, most: int = MOST_PENDING
) -> None:
    """Submit every event from the saved cursor on, and save the cursor once it is accepted; until cancelled."""
    try:
        since = bookmark.load()
    except DamagedCursor:
        since = None
        report.error("the saved cursor is damaged; events since the last run are lost")

    def save(cursor: str) -> None:
        try:
            bookmark.save(cursor)
        except Failure as failure:
            report.problem("cursor", str(failure))
        else:
            report.problem("cursor", None)

    ledger = Ledger(save)

    def settle(accepted: "asyncio.Future[None]") -> None:
        if not accepted.cancelled():
            report.accepted(ledger.behind)

    stream = messages(daemon, report, "events", since)
    async with aclosing(stream):
        async for received in stream:
            cursor = bookmark.advance(received.message)
            if isinstance(received.message, InitialState):
                if since is not None:
                    report.error(f"cursor {since} has expired: events since then are lost")
                since = None
            if isinstance(received.message, Event) and cursor is not None:
                await ledger.wait_below(most)
                accepted = submit(received)
                ledger.add(cursor, accepted)
                accepted.add_done_callback(settle)
                report.behind(ledger.behind)
            elif cursor is not None:
                ledger.skip(cursor)


class StateFollower:
    """The present state of the daemon; `changed` is called after each message with the events to show."""

    def __init__(
        self, daemon: Daemon, report: Report, changed: Callable[[ServerMessage, Sequence[Event]], None]
    ) -> None:
        self.state = ClientState()
        self._daemon = daemon
        self._report = report
        self._changed = changed

    async def run(self) -> None:
        """Follow until cancelled."""
        stream = messages(self._daemon, self._report, "daemon")
        async with aclosing(stream):
            async for received in stream:
                events = self.state.on_message(received.message)
                if received.message is not None:
                    self._changed(received.message, events)
