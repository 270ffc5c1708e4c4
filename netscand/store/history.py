"""The history as the engine and the server use it: events go in, are numbered and stored, and can be queried.

    append → a row → the writer → its report → `publish(cursor)`: only then may clients get an event (law 2)

The writer is a thread; while it is idle, the loop waits up to 3 ms for a few events. Nothing else waits for the disk.
If the disk refuses, or takes longer than a second, events are published all the same, and `problems()` says that a
restart would lose them.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import cast

from netscand import config
from netscand.core.merged import Merge
from netscand.core.model import Device, Event, Mac, Person
from netscand.core.restore import LEAST_TIME, Hangs, Memory
from netscand.off_loop import OffLoop
from netscand.store.database import is_older, new_epoch
from netscand.store.devices import DeviceRows
from netscand.store.erase import Erase
from netscand.store.lock import Lock
from netscand.store.maintenance import Maintenance
from netscand.store.opening import Opened, open_history
from netscand.store.paths import refuse_open
from netscand.store.reader import Answers, Decode, Reader
from netscand.store.restamp import Restamp
from netscand.store.retention import SET
from netscand.store.rows import Row, WallClock, event_row
from netscand.store.writer import Adopt, Alive, Devices, Events, Found, Noticed, Ping, Report, Stop, Trimmed, Writer

LATE = 1.0
"""Maximum seconds that an event waits for the disk."""

SLOW = f"the disk takes longer than {LATE:g} s: events are published before they are stored"

DAY = 86_400.0

WRONG, UNSURE_FOR = 60_000, 3_600_000
"""Milliseconds by which the wall clock must be set for new stamps; and for how long from the start of a run it is taken
as having been wrong then. Later, only if it was behind the last run: a virtual machine may have been paused."""

SAME_CLOCK = 2_000
"""Milliseconds by which the wall clock and the time since the boot may differ from one run to the next in a boot."""

CLOCK_EVERY = 5.0
"""Seconds between two looks at the wall clock while there is no event."""

CLOSE = 10.0
"""Seconds that the end waits for the disk; what was published is safe without it."""

ERASE, STORED = 25.0, 25.0
"""Seconds that a client waits for the deletion of a device's events, and for everything before a copy to be stored:
fewer than netscanctl waits for an answer."""

COPY, A_SECOND = 10.0, 2.0**20
"""Seconds that a copy of the history may take, and bytes for each further one."""

log = logging.getLogger(__name__)


class History(Answers):
    """`open`, then `run`, then `close`.

    `devices` are the inventory's. These are called on the loop: `publish` with the last cursor that may be published
    now; `forget` with a device that was not seen for as long as events are kept; `removed`, while events are removed by
    size, every half minute with their number. `decode`: see store/reader.py.
    """

    def __init__(
        self,
        settings: config.History,
        devices: Mapping[Mac, Device],
        clock: WallClock,
        decode: Decode,
        publish: Callable[[str], None],
        forget: Callable[[Mac], None],
        removed: Callable[[int], None] = lambda count: None,
    ) -> None:
        super().__init__(Path(os.path.realpath(settings.path)))  # SQLite puts its log beside the file, not the link
        self._settings = settings
        self._clock = clock
        self._ahead = self._shifted = 0
        """By how much the wall clock is ahead of the history's, and when it was last set: both in milliseconds."""
        self._began = monotonic()
        """When this run began, or the boot if the last run was in it; once open, in milliseconds by the history."""
        self._first = 0
        """The number of the first event since; 0: there was none."""
        self._was_behind = False
        """At the start, the wall clock was behind the end of the last run, or impossible."""
        self._decode = decode
        self._publish = publish
        self._removed = removed
        self._lock = Lock(self.path)
        self._sequence = self._skip = 0
        """The last event's number; the number up to which none may be given out."""
        self._epoch_from = 0
        """The last number before an epoch that was begun without the disk."""
        self._fresh_epoch = ""
        """That epoch, until the writer has it."""
        self._trouble = self._notice = ""
        self._slow = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rows: list[Row] = []
        self._shifts: list[Row] = []
        self._through = 0
        self._handover_due = False
        self._pending: deque[tuple[int, str]] = deque()
        """The last event of each batch that waits for its commit, with its cursor."""
        self._timer: asyncio.TimerHandle | None = None
        self._pings: dict[object, asyncio.Future[None]] = {}
        self._device_rows = DeviceRows(
            devices, clock, self._put_devices, lambda: self._sequence, forget, self._alive,
            lambda: self._writer.trimmed.aged,
        )  # fmt: skip
        self._writer: Writer
        self._maintenance: Maintenance

    # ---- life -----------------------------------------------------------------------------------------------------

    @property
    def takes_long(self) -> bool:
        """Return whether `open` has to copy the whole history first."""
        return is_older(self.path)

    def open(self) -> Memory:
        """Open the database; create, migrate or replace it if necessary; return what it remembers.

        Raises HistoryRefused, HistoryInUse. A disk that refuses is no reason not to start.
        """
        if (named := Path(self._settings.path)).is_symlink():
            refuse_open(named)
        found: Opened = open_history(self.path, self._lock, self._clock.milliseconds(monotonic()), self._decode)
        self._loop = asyncio.get_running_loop()
        self._epoch, self._sequence, self._skip = found.epoch, found.last, found.reserved
        self._stored = found.last
        self._detached, self._trouble, self._notice = found.database is None, found.trouble, found.notice
        self._age.open(found.clock.lived, found.clock.boot_at)
        self._ahead, self._shifted = found.clock.ahead, 0
        least = max(found.memory.alive_until, LEAST_TIME)
        self._was_behind = self._clock.milliseconds(monotonic()) < least * 1000
        self._began = self._age.now() - (monotonic() - self._began) * 1000
        memory = self._continue_boot(found)
        self._device_rows.begin(found.memory)
        self._writer = Writer(
            self.path, self._lock, found.database, self._age, self._device_rows.stay, self._report, found.trouble
        )
        self._maintenance = Maintenance(self.path, self._writer)
        self._reader = Reader(self.path, lambda: self._writer.generation)
        self.keep(self._settings)
        self._writer.start()
        self._maintenance.start()
        self._writer.put(Devices(alive=self._alive()))  # so that the next run knows this boot
        return memory

    def _continue_boot(self, found: Opened) -> Memory:
        """If the last run was in this boot, by the same wall clock, include its events; return what is remembered."""
        wall, on_for = self._clock.milliseconds(monotonic()), self._age.boot_at()
        passed = on_for - found.clock.boot_at
        if passed < 0 or abs(wall - found.clock.wall - passed) > SAME_CLOCK or found.database is None:
            return found.memory
        if on_for < UNSURE_FOR or self._was_behind:
            self._began = self._age.now() - on_for
            self._first = found.clock.set_before if found.clock.set_at >= self._began else 0
        return found.memory._replace(booted_at=(wall - on_for) / 1000)

    async def run(self) -> None:
        """Write the rows of devices from time to time, and look at the clock, until cancelled."""
        async with asyncio.TaskGroup() as beside:
            beside.create_task(self._watch_clock())
            await self._device_rows.run()

    async def _watch_clock(self) -> None:
        while True:
            await asyncio.sleep(CLOCK_EVERY)
            self._clock.sync()
            if not self._detached:
                self._check_clock(monotonic(), max(self._sequence, self._skip) + 1)

    def follow(self, people: Callable[[], Iterable[Person]], merges: Callable[[], Iterable[Merge]]) -> None:
        """Keep the rows of these people and merges up to date."""
        self._device_rows.people, self._device_rows.merges = people, merges

    def keep(self, settings: config.History) -> None:
        """Take new values of `keep_days` and `max_mib`; the path stays."""
        self._settings = settings
        self._writer.most = settings.max_mib * 2**20
        self._writer.keep = self._device_rows.keep = settings.keep_days * DAY

    def _alive(self) -> Alive:
        return Alive(self._clock.milliseconds(monotonic()), self._age.now(), self._age.boot_at())

    async def close(self) -> None:
        """Write the rest, and end the threads."""
        if self._loop is None:
            return
        self._device_rows.show_at_once()
        self._writer.put(Stop(self._sequence, self._alive()))
        with suppress(TimeoutError):
            await OffLoop(1).do(self._join, 3 * CLOSE)
        if self._timer is not None:
            self._timer.cancel()
        self._lock.release()

    def _join(self) -> None:
        self._maintenance.stop()
        self._stop_answering(CLOSE)
        self._writer.join(CLOSE)

    # ---- in -------------------------------------------------------------------------------------------------------

    @property
    def cursor(self) -> str:
        """Return the cursor of the last event: `EPOCH-SEQ`."""
        return f"{self._epoch}-{self._sequence}"

    @property
    def turned_at(self) -> float:
        """Return when the writer's loop last ran, for the watchdog."""
        return self._writer.turned_at

    def append(self, event: Event, body: bytes) -> str:
        """Number an event that happens now, and store it; return its cursor. `body`: its JSON, encoded just before."""
        self._sequence = max(self._sequence, self._skip) + 1
        if self._sequence > self._writer.durable and (self._trouble or self._slow):
            self._start_new_epoch()
        if not self._detached:
            self._first = self._first or self._sequence
            row = event_row(self._sequence, event, body, self._clock)
            self._rows.append(row)
            ahead = cast(int, row[1]) - int(event.at * 1000) - self._age.of_monotonic
            if abs(ahead - self._ahead) > SET:
                self._check_clock(event.at, self._sequence)
            if event.device is not None:
                self._device_rows.note(event.kind, event.device.mac)
            if event.person is not None:
                self._device_rows.note_people()
        self._through = self._sequence
        if not self._handover_due:
            self._handover_due = True
            assert self._loop is not None
            self._loop.call_soon(self.flush)
        return self.cursor

    def _check_clock(self, now: float, sequence: int) -> None:
        """Record that the wall clock was set before event `sequence`, unless the machine only slept."""
        self._age.sync()
        lived = int(now * 1000) + self._age.of_monotonic
        ahead, was = self._clock.milliseconds(now) - lived, self._ahead
        if abs(ahead - was) > SET:
            self._ahead, self._shifted = ahead, max(lived, self._shifted)
            self._shifts.append((sequence, self._shifted, ahead))
            if abs(ahead - was) >= WRONG and self._first and self._first < sequence:
                self._correct(sequence, lived, was)

    def _correct(self, sequence: int, lived: int, was: int) -> None:
        """Move the stamps of this run's events before `sequence` by as much as the wall clock was set, if it was wrong.

        The rows of devices are written again: their times follow the clock.
        """
        if lived - self._began < UNSURE_FOR or self._was_behind:
            self._was_behind = False
            began = int(self._began) + was
            log.warning(
                "the clock was wrong by %.0f s: correcting the times of this run's events", (self._ahead - was) / 1000
            )
            work = Restamp(self._first, sequence, began, self._ahead - was, self._ahead)
            assert self._loop is not None
            self._loop.call_soon(self._writer.put, work)  # after the events before it
        self._device_rows.note_all()

    def _start_new_epoch(self) -> None:
        """Continue under a new epoch: the reserved numbers have run out, and the disk accepts no reservation.

        The next start would give out the same numbers again. The epoch is stored when the disk accepts it.
        """
        if self._epoch_from <= self._stored and not self._detached:
            self.flush()
            self._epoch = self._fresh_epoch = new_epoch()
            self._epoch_from = self._sequence

    def flush(self) -> None:
        """Give the writer what was appended, as one batch: at the end of the turn, or before, by the engine."""
        if not self._handover_due:
            return
        self._handover_due = False
        rows, self._rows = self._rows, []
        shifts, self._shifts = self._shifts, []
        events = Events(rows, self._through, self._fresh_epoch, shifts)
        self._fresh_epoch = ""
        waits = self._slow or bool(self._pending)
        self._pending.append((self._through, f"{self._epoch}-{self._through}"))
        if waits:
            self._writer.put(events)
        elif report := self._writer.put_and_wait(events):
            self._on_report(report)
            return
        if self._slow:
            self._release(self._through)
        elif self._timer is None:
            self._start_timer()

    def _put_devices(self, work: Devices) -> None:
        self.flush()  # a row must not show an event that is not stored
        if not self._detached:
            self._writer.put(work)

    def _start_timer(self) -> None:
        """Wait up to LATE for the next events to be stored."""
        assert self._loop is not None
        self._timer = self._loop.call_later(LATE, self._publish_late)

    def _publish_late(self) -> None:
        """Publish what has waited for too long, and everything until the disk keeps up again."""
        self._timer = None
        if self._pending:
            self._slow = True
            log.error("%s", SLOW)
            self._release(self._through)

    def _release(self, through: int) -> None:
        last = ""
        while self._pending and self._pending[0][0] <= through:
            last = self._pending.popleft()[1]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending and not self._slow:
            self._start_timer()
        if last:
            self._publish(last)

    # ---- reports of the writer ------------------------------------------------------------------------------------

    def _report(self, report: Report | Found | Noticed | Trimmed | Ping) -> None:
        """Pass a report from the writer's thread to the loop."""
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._on_report, report)

    def _on_report(self, report: Report | Found | Noticed | Trimmed | Ping) -> None:
        if isinstance(report, Ping):
            future = self._pings.pop(report.token, None)
            if future is not None and not future.done():
                future.set_result(None)
        elif isinstance(report, Found):
            self._adopt(report)
        elif isinstance(report, Noticed):
            self._notice = report.notice
        elif isinstance(report, Trimmed):
            self._removed(report.removed)
        else:
            if self._trouble and not report.trouble:
                self._maintenance.trouble = ""  # that has ended, or it will find it again
            self._trouble = report.trouble
            self._stored = max(self._stored, report.stored)  # the loop may know of more already
            if report.losses > self._device_rows.losses:
                self._device_rows.losses = report.losses
                self._device_rows.note_all()
            if self._slow and report.stored >= self._through:
                self._slow = False
                log.info("the disk is fast enough again")
            self._release(report.through)

    def _adopt(self, found: Found) -> None:
        """Continue in a database that was opened while running, under a new epoch."""
        self.flush()
        self._epoch = new_epoch()
        self._sequence = self._through = max(self._sequence, found.reserved)
        self._skip = 0
        self._age.open(found.clock.lived, found.clock.boot_at)
        self._ahead, self._shifted, self._shifts, self._first = found.clock.ahead, 0, [], 0
        self._detached = False
        self._notice = found.notice or self._notice
        self._writer.put(Adopt(self._epoch, self._sequence))
        self._device_rows.note_all()

    def problems(self) -> tuple[str, ...]:
        """Return why what happens now may be lost, or what was lost."""
        trouble, slow = self._trouble or self._maintenance.trouble, SLOW if self._slow else ""
        found = (trouble, slow, *self._unreadable(), self._notice, self._maintenance.notice)
        return tuple(problem for problem in found if problem)

    def unstored(self) -> str:
        """Return why what happens now may be lost at a restart; "": it is stored."""
        return self._trouble or (SLOW if self._slow else "")

    async def erase(self, macs: Sequence[Mac]) -> int:
        """Delete the events of a device and those that name it, and its rows; return the number of events.

        `macs`: its own, and those that are merged into it. Raises Hangs if the disk does not accept it soon; it is done
        then when the disk does.
        """
        loop = self._loop
        assert loop is not None
        await self._device_rows.show()  # no other device depends on a deleted event
        self.flush()
        counts: list[asyncio.Future[int]] = []
        for mac in macs:
            counts.append(count := loop.create_future())
            self._writer.put(Erase(mac, partial(_pass_on, loop, count)))
        try:
            async with asyncio.timeout(ERASE):
                return sum([await count for count in counts])
        except TimeoutError:
            why = self._trouble or (SLOW if self._slow else "it takes longer than usual")
            raise Hangs(f"the events are not deleted yet: {why}; netscand continues to delete them") from None

    def size(self) -> int:
        """Return the bytes of the database's files. May wait for the disk: do not call it on the loop."""
        found = 0
        for end in ("", "-wal", "-shm"):
            with suppress(OSError):
                found += Path(f"{self.path}{end}").stat().st_size
        return found

    async def settled(self) -> None:
        """Wait until the writer has processed everything up to now."""
        self.flush()
        token = object()
        assert self._loop is not None
        future = self._pings[token] = self._loop.create_future()
        self._writer.put(Ping(token))
        await future

    def _on_damage(self) -> None:
        self._maintenance.suspect()

    def _copy_limit(self) -> float:
        return COPY + self._settings.max_mib * 2**20 / A_SECOND

    async def _all_stored(self) -> None:
        await self._device_rows.show()
        try:
            async with asyncio.timeout(STORED):
                await self.settled()
        except TimeoutError:
            raise Hangs("the disk does not accept what is to be copied") from None


def _pass_on(loop: asyncio.AbstractEventLoop, to: "asyncio.Future[int]", count: int) -> None:
    """Set the result of a future of a loop, from another thread."""
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(lambda: None if to.done() else to.set_result(count))
