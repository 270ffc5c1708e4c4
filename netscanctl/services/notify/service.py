"""The service: events in, messages out. Between the two stands one file, so that a kill loses nothing."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing

from netscanctl.client import Failure
from netscanctl.services.following import StateFollower, messages
from netscanctl.services.notify.compose import Composer
from netscanctl.services.notify.outbox import Outbox, Store, state_folder
from netscanctl.services.notify.rules import Engine, event_time, unmatched
from netscanctl.services.notify.senders import make_sender
from netscanctl.services.notify.settings import Notify, faults
from netscanctl.services.program import Context
from netscanctl.stream import CursorTracker, Received
from netscand.config import ConfigError
from netscand.protocol import Devices, Event, InitialState, ScanUpdate, ServerMessage

log = logging.getLogger(__name__)

LAG = 0.5
"""Seconds by which the time of the rules lags behind: what happened before may still be on its way."""
QUIET_STREAM = 0.5
"""Seconds without an event after which missed events count as complete."""
LIVE = 5.0
"""Maximum age, in seconds, of an event that was not missed."""
LONGEST_SLEEP = 5.0
"""Seconds until the clock is checked again."""
CLOCK_SET = 5.0
"""Seconds by which the wall clock departs from the elapsed time if it was set."""


def elapsed() -> float:
    """Return seconds that go on while the machine sleeps, and do not jump."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class NotifyService:
    """netscand-notify."""

    wants_state = True
    wants_events = False  # it follows the events itself: its cursor is in the same file as their results

    def __init__(
        self, table: Notify, context: Context, store: Store,
        clock: Callable[[], float] = time.time, steady_clock: Callable[[], float] = elapsed,
    ) -> None:  # fmt: skip
        self._context, self._store, self._clock, self._steady_clock = context, store, clock, steady_clock
        channels, self._rules = table.channels, table.rules
        self._follower: StateFollower | None = None
        """Until the rules are compared with what exists."""
        senders = {name: make_sender(name, channel, context.credentials) for name, channel in channels.items()}
        self._outbox = Outbox(senders, store, context.report)
        for name, rule in store.stored.rules.rules.items():
            if name not in table.rules and (count := rule.waiting):
                words = f"{count} event{'s' if count > 1 else ''} that waited {'are' if count > 1 else 'is'} dropped"
                context.report.error(f'rule "{name}" is no longer configured: {words}')
        self._engine = Engine(table.rules, channels, Composer(table.page), store.stored.rules)
        self._channels = tuple(channels)
        self._wake = asyncio.Event()
        self._last_event = (0.0, 0.0)
        """When the last event arrived (elapsed time), and when it happened (wall clock)."""
        self._set = clock() - steady_clock()
        if self._engine.state.now > clock() + CLOCK_SET:
            self._engine.shift(clock() - self._engine.state.now)

    async def run(self, follower: StateFollower) -> None:
        """Work until cancelled."""
        self._follower = follower
        async with asyncio.TaskGroup() as group:
            for work in (self._store.run(), self._follow(), self._tick(), *map(self._outbox.deliver, self._channels)):
                group.create_task(work)

    def submit(self, received: Received) -> "asyncio.Future[None]":
        """Take no event: see `wants_events`."""
        raise NotImplementedError

    def on_message(self, message: ServerMessage, events: Iterable[Event]) -> None:
        """Warn once about rules that fit nothing; otherwise ignore the state: events have all that is needed."""
        if self._follower is None or not (state := self._follower.state).complete:
            return
        is_hub = any(device.site for device in state.devices.values())  # which lists no people
        people = None if is_hub else [person.name for person in state.people.values()]
        for line in unmatched(self._rules, state.devices.values(), people, state.networks):
            log.warning("%s", line)
        self._follower = None

    # ---- events

    async def _follow(self) -> None:
        stored, report = self._store.stored, self._context.report
        tracker = CursorTracker(stored.cursor)
        async with aclosing(messages(self._context.daemon, report, "events", stored.cursor)) as stream:
            async for received in stream:
                tracker.advance(received.message)
                if received.message is not None:
                    self._take(received.message)
                if tracker.cursor != stored.cursor:
                    stored.cursor = tracker.cursor
                    self._store.changed()

    def _take(self, message: ServerMessage) -> None:
        now = self._clock()
        match message:
            case InitialState():
                if self._store.stored.cursor is not None:
                    self._context.report.error(
                        f"cursor {self._store.stored.cursor} has expired: events since then are lost"
                    )
                self._engine.start(message.networks, now)
                self._engine.reconcile(message.devices)
            case Devices():
                self._engine.reconcile(message.devices)
            case ScanUpdate() if message.scan_id is not None:
                self._engine.scanned(message.networks, now)
            case Event():
                at = event_time(message, now)
                self._last_event = (self._steady_clock(), at)
                self._outbox.put(self._engine.take(message, at))
                self._wake.set()

    # ---- time

    async def _tick(self) -> None:
        while True:
            self._tick_once()
            due = self._engine.next_due
            pause = LONGEST_SLEEP if due is None else min(max(due + LAG - self._clock(), 0.05), LONGEST_SLEEP)
            self._wake.clear()
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(0.05)  # thousands of events at once are one turn

    def _tick_once(self) -> None:
        now, steady = self._clock(), self._steady_clock()
        if abs(now - steady - self._set) > CLOCK_SET:
            self._engine.shift(now - steady - self._set)
            self._store.changed()
        self._set = now - steady
        arrived, happened = self._last_event
        due = self._engine.next_due
        if due is None or due > now - LAG:
            return
        if steady - arrived > QUIET_STREAM or now - happened < LIVE:
            self._outbox.put(self._engine.advance(now - LAG))


def build(table: Notify, context: Context) -> NotifyService:
    """Make the service. Raises ConfigError."""
    if wrong := list(faults(table, context.credentials)):
        raise ConfigError(*(f"[notify] {fault}" for fault in wrong))
    try:
        return NotifyService(table, context, Store(state_folder(), context.report))
    except Failure as failure:
        raise ConfigError(str(failure)) from None
