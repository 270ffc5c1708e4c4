"""What happened, and may not be told before the history has stored it (law 2); in the order in which it happened."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic, perf_counter
from typing import NamedTuple

from netscand import protocol
from netscand.core.batches import by_mac
from netscand.core.model import (
    Event,
    EventKind,
    Mac,
    ScanFailed,
    ScanFinished,
    ScanNews,
    ScanProgress,
    ScanStarted,
    Status,
)
from netscand.serve import frames
from netscand.serve.encode import Encoder
from netscand.serve.fair_turns import OURS, Account, FairTurns
from netscand.serve.filtered import Filtered
from netscand.serve.histograms import Measurements
from netscand.serve.ports import Scanner
from netscand.serve.query import EVERYTHING, Change, Filter, Searched
from netscand.serve.snapshot import PastView, Snapshot, as_before
from netscand.serve.subscriber import Bounds, Subscriber, Told


class _Entry(NamedTuple):
    tell: Callable[[], None]
    cursor: str | None
    """An event's; None: it waits only for those before it."""


HOLD = 0.005
"""Seconds of events that are told in one turn of the loop: a commit may bring thousands."""


class DurabilityGate:
    """A queue that the history opens, event by event. Who reads the devices' state waits here too (`settled`)."""

    def __init__(self) -> None:
        self._queue: deque[_Entry] = deque()
        self._through: str | None = None
        """The last event that may be told, and was not yet."""

    def event(self, tell: Callable[[], None], cursor: str) -> None:
        """Hold an event until `release`."""
        self._queue.append(_Entry(tell, cursor))

    def after(self, tell: Callable[[], None]) -> None:
        """Do this after the events that are held now; at once where there are none."""
        if self._queue:
            self._queue.append(_Entry(tell, None))
        else:
            tell()

    def release(self, cursor: str) -> None:
        """The history has stored everything up to this event: tell it, what is more than can be told now soon."""
        telling = self._through is not None
        self._through = cursor
        if not telling:
            self._publish()

    def _publish(self) -> None:
        try:
            self._publish_some()
        except BaseException:
            self._through = None  # the next release goes on, whatever became of this one
            raise

    def _publish_some(self) -> None:
        queue, through = self._queue, self._through
        until = perf_counter() + HOLD
        while perf_counter() < until:
            if not queue:
                self._through = None
                return
            entry = queue.popleft()
            entry.tell()
            if entry.cursor == through:
                self._through = None
                while queue and queue[0].cursor is None:
                    queue.popleft().tell()
                return
        asyncio.get_running_loop().call_soon(self._publish)

    async def settled(self) -> None:
        """Until everything that happened up to now is stored: only then may its effects be shown."""
        if self._queue:
            future = asyncio.get_running_loop().create_future()
            self.after(lambda: None if future.done() else future.set_result(None))
            await future


# ---- hub -----------------------------------------------------------------------------------------------------------
# Fan-out: one bounded queue a client, nobody waits for the slowest (laws 3 and 4).
#
# Publishing puts one frame, made once, into each client's queue. The queues are emptied at the end of the turn, so
# that what happens together leaves in one write, and in slices, so that thousands of clients do not hold the loop.
# (Measured: for a single event as quick as to write at once. In a burst the first would wait for the last; so a burst
# that takes long is sent as it goes, for at most half of the time.)

SOON = 0.001
"""Seconds that the first event of a burst waits for the rest of it; or as long as sending takes, if that is longer."""

log = logging.getLogger(__name__)


class Finish(NamedTuple):
    """A scan's end, and where in the stream it came."""

    cursor: str
    scan: ScanFinished


class Hub:
    """Everyone who listens. `publish` and `tell` are synchronous and never raise for a client's sake."""

    def __init__(self, translator: Encoder, bounds: Bounds = Bounds()) -> None:  # noqa: B008 - a frozen value
        self.bounds = bounds
        self.measures = Measurements()
        self.stirred = asyncio.Event()
        """Something happened that the whole lists of `full` clients do not show yet."""
        self.scan_ended = asyncio.Event()
        """The same, that cannot wait for the second to be over."""
        self.finished: deque[Finish] = deque()
        """Scans whose end `full` clients were not told yet."""
        self.holds = False
        """Events are told when `release` comes, not at once: there is a history, which stores them first (law 2)."""
        self._translator = translator
        self._scanner: Scanner | None = None
        self._held = DurabilityGate()
        self._happened = 0
        """What was published or told so far, released or not."""
        self._moments: set[PastView] = set()
        self._changes: set[Subscriber] = set()
        """Without a filter."""
        self._filtered = Filtered(self._offer)
        self._full: set[Subscriber] = set()
        self._snapshots: set[Snapshot] = set()
        self.turns = FairTurns()
        """Of whatever clients cause."""
        self._roster: tuple[Mac, ...] | None = None
        """The MACs of all devices, in the order in which they came; None: some came or went since."""
        self._behind: deque[Subscriber] = deque()
        self._flush_due = False
        self._behind_since = 0.0
        self._send_takes = SOON
        self._waiting: dict[int, list[asyncio.Future[Finish]]] = {}

    # ---- who listens ----------------------------------------------------------------------------------------------

    def attach(self, scanner: Scanner) -> None:
        """Learn whose devices snapshots show."""
        self._scanner = scanner

    def subscribe(self, subscriber: Subscriber) -> None:
        """From now on it misses nothing. Take its snapshot before the next await."""
        subscriber.since = self._happened
        if subscriber.full:
            self._full.add(subscriber)
        elif subscriber.fits:
            self._filtered.add(subscriber)
        else:
            self._changes.add(subscriber)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Send it nothing more."""
        self._full.discard(subscriber)
        self._changes.discard(subscriber)
        self._filtered.discard(subscriber)

    def full_clients(self) -> Iterable[Subscriber]:
        """Clients of the whole list."""
        return tuple(self._full)

    @contextmanager
    def snapshot(
        self,
        fits: Filter = EVERYTHING,
        *,
        macs: Iterable[Mac] | None = None,
        after: Mac | None = None,
        account: Account = OURS,
    ) -> Iterator[Snapshot]:
        """The devices as they are now, while the block lasts; told in turns of `account`.

        By MAC, where these are given: `macs` only, or those `after` one; else as they came, which is nearer in memory.
        """
        assert self._scanner is not None, "attach() comes first"
        devices, chosen = self._scanner.devices, self._all_macs()
        if macs is not None:
            chosen = tuple(mac for mac in macs if mac in devices)
        elif after:
            chosen = tuple(mac for mac in chosen if mac > after)
        order = iter(chosen) if macs is None and after is None else by_mac(chosen)
        taken = Snapshot(
            self._scanner.cursor, devices, order, len(chosen), fits, account, self._translator, self.turns, self.settled
        )
        self._snapshots.add(taken)
        try:
            yield taken
        finally:
            self._snapshots.discard(taken)

    def _all_macs(self) -> tuple[Mac, ...]:
        """One tuple for all snapshots between two changes of who is known: a slow client would keep one of its own."""
        assert self._scanner is not None
        if self._roster is None or len(self._roster) != len(self._scanner.devices):
            self._roster = tuple(self._scanner.devices)
        return self._roster

    @contextmanager
    def moment(self) -> Iterator[PastView]:
        """Any device as it is now, while the block lasts."""
        assert self._scanner is not None, "attach() comes first"
        moment = PastView(self._scanner.cursor, self._scanner.devices)
        self._moments.add(moment)
        try:
            yield moment
        finally:
            self._moments.discard(moment)

    async def settled(self) -> None:
        """Until what happened up to now may be shown: what a client saw survives us (law 2)."""
        await self._held.settled()

    @contextmanager
    def waiting_for(self, scan_id: int) -> Iterator["asyncio.Future[Finish]"]:
        """A future of the end of a scan."""
        future: asyncio.Future[Finish] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(scan_id, []).append(future)
        try:
            yield future
        finally:
            left = self._waiting.get(scan_id, [])
            if future in left:
                left.remove(future)
            if not left:
                self._waiting.pop(scan_id, None)

    # ---- what the engine tells ------------------------------------------------------------------------------------

    def publish(self, cursor: str, event: Event) -> None:
        """Tell an event to everyone who listens."""
        before: protocol.Device | None = None
        if event.kind in (EventKind.DISCOVERED, EventKind.FORGOTTEN):
            self._roster = None
        if (device := event.device) is not None:
            if snapshots := [snapshot for snapshot in self._snapshots if snapshot.needs(event)]:
                before = self._translator.device_before(event)
                assert before is not None
                kept = Searched(before), protocol.encode(before)
                for snapshot in snapshots:
                    snapshot.keep(device.mac, kept)
            if moments := [moment for moment in self._moments if moment.needs(device.mac)]:
                was = as_before(event)
                for moment in moments:
                    moment.keep(device.mac, was)
        if self._full:
            self.stirred.set()
        self._happened += 1
        if self._changes or self._filtered:
            told = self._translator.event(cursor, event)
            if self._filtered:
                before = before or self._translator.device_before(event)
            self._held.event(partial(self._publish_event, self._happened, told, before, event.seen_at), cursor)
        else:  # who comes later sees it in a snapshot
            self._held.event(lambda: None, cursor)
        if not self.holds:
            self._held.release(cursor)

    def release(self, cursor: str) -> None:
        """The history has stored the events up to this one: tell them."""
        self._held.release(cursor)

    def _publish_event(
        self, number: int, told: protocol.Event, before: protocol.Device | None, seen_at: float | None
    ) -> None:
        told.sent_at = self._translator.now()
        if seen_at is not None:
            self.measures.event_lag.record(monotonic() - seen_at)
        message = frames.whole(protocol.encode(told)), told.cursor
        for subscriber in self._changes:
            if number > subscriber.since:
                self._offer(subscriber, message)
        self._filtered.event(number, Change(told, before), message)
        if self._behind and perf_counter() > self._behind_since + self._send_takes:
            self._send_now()

    def publish_scan(self, news: ScanNews) -> None:
        """Tell how a scan goes."""
        if self._scanner is not None and isinstance(news, ScanFinished):
            finish = Finish(self._scanner.cursor, news)
            for future in self._waiting.pop(news.scan_id, []):
                if not future.done():
                    future.set_result(finish)
            if self._full:
                self.finished.append(finish)
                self.scan_ended.set()
                self.stirred.set()
        self._happened += 1
        if self._changes or self._filtered:
            self._held.after(partial(self._publish_news, self._happened, news, self._message(news)))

    def _publish_news(self, number: int, news: ScanNews, told: protocol.Message) -> None:
        message = frames.whole(protocol.encode(told)), None
        networks = (news.network,) if isinstance(news, ScanFailed) else news.networks

        def send(subscribers: Collection[Subscriber]) -> None:
            for subscriber in subscribers:
                if number <= subscriber.since:
                    continue
                if subscriber.fits.scan(networks) or news.scan_id in subscriber.requested:
                    self._offer(subscriber, message)
                if isinstance(news, ScanFinished):
                    subscriber.requested.discard(news.scan_id)

        send(self._changes)
        self._filtered.each(send)

    def _message(self, news: ScanNews) -> protocol.Message:
        if isinstance(news, ScanStarted):
            return protocol.ScanStarted(scan_id=news.scan_id, networks=list(news.networks), requested_by=news.cause)
        if isinstance(news, ScanProgress):
            return protocol.ScanProgress(scan_id=news.scan_id, done=news.done, total=news.total, found=news.found)
        if isinstance(news, ScanFailed):
            return protocol.ScanError(scan_id=news.scan_id, network=news.network, message=news.message)
        assert self._scanner is not None
        return scan_update(Finish(self._scanner.cursor, news), self.online(), self._translator)

    def online(self) -> int:
        """Devices online, this host left out."""
        assert self._scanner is not None
        return sum(device.status is Status.ONLINE and not device.is_self for device in self._scanner.devices.values())

    # ---- sending --------------------------------------------------------------------------------------------------

    def _offer(self, subscriber: Subscriber, told: Told) -> None:
        subscriber.offer(told)
        if not subscriber.queued:
            subscriber.queued = True
            self._behind.append(subscriber)
            self._at_turns_end()

    def answer(self, subscriber: Subscriber, message: protocol.Message) -> None:
        """Send one client an answer, after what it was told before."""
        self._offer(subscriber, (frames.whole(protocol.encode(message)), None))

    def _at_turns_end(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._behind_since = perf_counter()
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self._send_now()

    def _send_now(self) -> None:
        began = now = perf_counter()
        while self._behind and now < began + HOLD:
            subscriber = self._behind.popleft()
            subscriber.queued = False
            subscriber.drain()
            now = perf_counter()
        self._behind_since = now
        self._send_takes = max(now - began, SOON)
        if self._behind:
            self._at_turns_end()


def scan_update(
    finish: Finish, online: int, translator: Encoder, devices: list[protocol.Device] | None = None
) -> protocol.ScanUpdate:
    """The message at the end of a scan."""
    scan = finish.scan
    return protocol.ScanUpdate(
        scan_id=scan.scan_id,
        cursor=finish.cursor,
        networks=list(scan.networks),
        started_at=translator.time(scan.started_at),
        finished_at=translator.time(scan.finished_at),
        online=online,
        frames=protocol.Frames(broadcast=scan.broadcast, unicast=scan.unicast),
        devices=devices or [],
    )
