"""Publishing: an event leaves when the history has stored it (law 2), to all clients, in the order of events."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import NamedTuple

from netscand import protocol
from netscand.core.batches import by_mac
from netscand.core.model import (
    EventKind,
    Mac,
    ScanFailed,
    ScanFinished,
    ScanNews,
    ScanProgress,
    ScanStarted,
)
from netscand.serve import websocket_frames
from netscand.serve.changes_mode import ChangesMode
from netscand.serve.encode import Encoder, decoded, device_before
from netscand.serve.fair_turns import OURS, Account, FairTurns
from netscand.serve.histograms import Measurements
from netscand.serve.ports import PublishedChange, Scanner
from netscand.serve.query import EVERYTHING, Filter
from netscand.serve.snapshot import Snapshot
from netscand.serve.subscriber import Bounds, Outgoing, Subscriber

HOLD = 0.005
"""Seconds of events that are published in one turn of the loop: a commit may release thousands."""


class DurabilityGate:
    """A queue that the history opens, event by event. Readers of the devices' state wait here too (`settled`)."""

    def __init__(self) -> None:
        self._queue: deque[tuple[Callable[[], None], str | None]] = deque()
        """What to call, and the cursor of its event; None: it only waits for those before it."""
        self._through: str | None = None
        """The last event that may be published, and was not yet."""

    def event(self, publish: Callable[[], None], cursor: str) -> None:
        """Hold an event until `release`."""
        self._queue.append((publish, cursor))

    def after(self, publish: Callable[[], None]) -> None:
        """Call after the events that are held now; at once if there are none."""
        if self._queue:
            self._queue.append((publish, None))
        else:
            publish()

    def release(self, cursor: str) -> None:
        """Publish everything up to this event, which the history has stored; what takes too long now, soon."""
        publishing = self._through is not None
        self._through = cursor
        if not publishing:
            self._publish()

    def _publish(self) -> None:
        try:
            self._publish_some()
        except BaseException:
            self._through = None  # the next release continues, whatever happened to this one
            raise

    def _publish_some(self) -> None:
        queue, through = self._queue, self._through
        until = perf_counter() + HOLD
        while perf_counter() < until:
            if not queue:
                self._through = None
                return
            publish, cursor = queue.popleft()
            publish()
            if cursor == through:
                self._through = None
                while queue and queue[0][1] is None:
                    queue.popleft()[0]()
                return
        asyncio.get_running_loop().call_soon(self._publish)

    async def settled(self) -> None:
        """Wait until everything that happened up to now is stored: only then may its effects be shown."""
        if self._queue:
            future = asyncio.get_running_loop().create_future()
            self.after(lambda: None if future.done() else future.set_result(None))
            await future


# ---- hub -----------------------------------------------------------------------------------------------------------
# Fan-out: one bounded queue a client; none waits for the slowest (laws 3 and 4).
#
# Publishing puts one frame, made once, into each client's queue. What a commit of the history released is sent at once;
# else the queues are emptied at the end of the turn, so that what happens together leaves in one write. Both go in
# slices, so that thousands of clients do not hold the loop. In a burst the first event would wait for the last; so a
# burst that takes long is sent as it goes, for at most half of the time.

SOON = 0.001
"""Seconds that the first event of a burst waits for the rest; or as long as sending takes, if that is longer."""

CHANGES_OF_LIST = frozenset([EventKind.DISCOVERED, EventKind.FORGOTTEN, EventKind.LABELLED, EventKind.SPLIT])
"""Events with which a device enters or leaves the list; a device may be labelled before it is seen."""

log = logging.getLogger(__name__)


class Finish(NamedTuple):
    """End of a scan, and the cursor at that moment."""

    cursor: str
    scan: ScanFinished


class Hub:
    """All clients of the stream. `publish` and `publish_scan` are synchronous, and no client makes them raise."""

    def __init__(self, encoder: Encoder, bounds: Bounds = Bounds()) -> None:  # noqa: B008 - a frozen value
        self.bounds = bounds
        self.measures = Measurements()
        self.stirred = asyncio.Event()
        """Something happened that the lists of `full` clients do not show yet."""
        self.scan_ended = asyncio.Event()
        """The same, but a scan ended: the list does not wait for the second to be over."""
        self.finished: deque[Finish] = deque()
        """Scans whose end was not sent to `full` clients yet."""
        self.holds = False
        """Events are published on `release`, not at once: there is a history, which stores them first (law 2)."""
        self._encoder = encoder
        self._scanner: Scanner | None = None
        self._gate = DurabilityGate()
        self._happened = 0
        """Number of events and messages so far, released or not."""
        self._changes = ChangesMode(self._offer, encoder, self.measures)
        self._full: set[Subscriber] = set()
        self._snapshots: set[Snapshot] = set()
        self.turns = FairTurns()
        """Turns of the work that clients cause."""
        self._roster: tuple[Mac, ...] | None = None
        """The MACs of all devices, in the order in which they came; None: the set of devices has changed since."""
        self._behind: deque[Subscriber] = deque()
        self._flush_due = False
        self._behind_since = 0.0
        self._send_takes = SOON
        self._waiting: dict[int, list[asyncio.Future[Finish]]] = {}

    # ---- clients --------------------------------------------------------------------------------------------------

    def attach(self, scanner: Scanner) -> None:
        """Set the scanner whose devices snapshots show."""
        self._scanner = scanner

    def subscribe(self, subscriber: Subscriber) -> None:
        """Send a client every message from now on. Take its snapshot before the next await."""
        subscriber.since = self._happened
        if subscriber.full:
            self._full.add(subscriber)
        else:
            self._changes.add(subscriber)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Send a client nothing more."""
        self._full.discard(subscriber)
        self._changes.discard(subscriber)

    def full_clients(self) -> Iterable[Subscriber]:
        """Return the clients of the `full` mode."""
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
        """Take the devices as they are now, while the block lasts; encoded in turns of `account`.

        With `macs` only these, with `after` those after one, by MAC; else in the order in which they came, which is
        faster to read.
        """
        assert self._scanner is not None, "attach() comes first"
        devices, chosen = self._scanner.devices, self._all_macs()
        if macs is not None:
            chosen = tuple(mac for mac in macs if mac in devices)
        elif after:
            chosen = tuple(mac for mac in chosen if mac > after)
        order = iter(chosen) if macs is None and after is None else by_mac(chosen)
        taken = Snapshot(
            self._scanner.cursor, devices, order, len(chosen), fits, account, self._encoder, self.turns, self.settled
        )
        self._snapshots.add(taken)
        try:
            yield taken
        finally:
            self._snapshots.discard(taken)

    def _all_macs(self) -> tuple[Mac, ...]:
        """Return one tuple for all snapshots until the set of devices changes: a slow client would keep its own."""
        assert self._scanner is not None
        if self._roster is None or len(self._roster) != len(self._scanner.devices):
            self._roster = tuple(self._scanner.devices)
        return self._roster

    def list_changed(self) -> None:
        """Note that a device entered or left the list."""
        self._roster = None

    async def settled(self) -> None:
        """Wait until what happened up to now is stored, and may be shown (law 2)."""
        await self._gate.settled()

    @contextmanager
    def waiting_for(self, scan_id: int) -> Iterator["asyncio.Future[Finish]"]:
        """Return a future of the end of a scan."""
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

    # ---- publishing -----------------------------------------------------------------------------------------------

    def publish(self, cursor: str, event: PublishedChange, body: bytes) -> None:
        """Publish an event; `body` is its JSON, encoded once (serve/encode.py)."""
        if event.kind in CHANGES_OF_LIST:
            self.list_changed()
        if self._snapshots and (snapshots := [snapshot for snapshot in self._snapshots if snapshot.needs(event)]):
            self._keep_before(event, body, snapshots)
        if self._full:
            self.stirred.set()
        self._happened += 1
        if self._changes.without_filter or self._changes.by_filter:
            self._gate.event(partial(self._publish_event, self._happened, cursor, body, event.seen_at), cursor)
        else:  # a later client has it in its snapshot
            self._gate.event(lambda: None, cursor)
        if not self.holds:
            self._gate.release(cursor)

    @staticmethod
    def _keep_before(event: PublishedChange, body: bytes, snapshots: Collection[Snapshot]) -> None:
        """Keep the device of an event as it was before, for snapshots that have not encoded it yet."""
        before = device_before(decoded(body))
        assert event.device is not None
        assert before is not None
        text = protocol.encode(before)
        for snapshot in snapshots:
            snapshot.keep(event.device.key, text, len(snapshots))

    def release(self, cursor: str) -> None:
        """Publish the events up to this one, which the history has stored, and send them without waiting for a turn.

        What was stored together leaves together. At the turn's end, the engine's own turn would come first.
        """
        self._gate.release(cursor)
        if self._behind:
            self._send_now()

    def _publish_event(self, number: int, cursor: str, body: bytes, seen_at: float | None) -> None:
        self._changes.publish_event(number, cursor, body, seen_at)
        if self._behind and perf_counter() > self._behind_since + self._send_takes:
            self._send_now()

    def publish_scan(self, news: ScanNews) -> None:
        """Publish how a scan goes."""
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
        if self._changes.without_filter or self._changes.by_filter:
            self._gate.after(partial(self._changes.publish_news, self._happened, news, self._message(news)))

    def _message(self, news: ScanNews) -> protocol.Message:
        if isinstance(news, ScanStarted):
            return protocol.ScanStarted(scan_id=news.scan_id, networks=list(news.networks), requested_by=news.cause)
        if isinstance(news, ScanProgress):
            return protocol.ScanProgress(scan_id=news.scan_id, done=news.done, total=news.total, found=news.found)
        if isinstance(news, ScanFailed):
            return protocol.ScanError(scan_id=news.scan_id, network=news.network, message=news.message)
        assert self._scanner is not None
        return scan_update(Finish(self._scanner.cursor, news), self._scanner.counts.total[0], self._encoder)

    # ---- sending --------------------------------------------------------------------------------------------------

    def _offer(self, subscriber: Subscriber, message: Outgoing) -> None:
        subscriber.offer(message)
        if not subscriber.queued:
            subscriber.queued = True
            self._behind.append(subscriber)
            self._at_turns_end()

    def answer(self, subscriber: Subscriber, message: protocol.Message) -> None:
        """Send one client an answer, after what was sent to it before."""
        self._offer(subscriber, (websocket_frames.whole(protocol.encode(message)), None))

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
    finish: Finish, online: int, encoder: Encoder, devices: list[protocol.Device] | None = None
) -> protocol.ScanUpdate:
    """Return the message at the end of a scan."""
    scan = finish.scan
    return protocol.ScanUpdate(
        scan_id=scan.scan_id,
        cursor=finish.cursor,
        networks=list(scan.networks),
        started_at=encoder.time(scan.started_at),
        finished_at=encoder.time(scan.finished_at),
        online=online,
        frames=protocol.Frames(broadcast=scan.broadcast, unicast=scan.unicast),
        devices=devices or [],
    )
