"""The history as the engine and the server know it: events go in and are numbered, and come out again.

    append → a row → the writer → its report → `told(cursor)`: only then may clients hear of an event (law 2)

The writer is a thread; for a few events, while it idles, the loop waits 3 ms at most. Nothing else waits for the disk.
One that refuses, or takes longer than a second, holds no event back: they are told, and `problems()` says that a
restart would lose them.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import cast

from netscand import config
from netscand.core.model import Device, Event, Mac
from netscand.core.restore import Memory
from netscand.store.database import is_older, new_epoch
from netscand.store.devices import DeviceRows
from netscand.store.maintenance import Maintenance
from netscand.store.opening import Opened, open_history
from netscand.store.paths import Lock, refuse_open
from netscand.store.reader import Answers, Reader
from netscand.store.retention import SET
from netscand.store.rows import EventCodec, Row, WallClock, Words
from netscand.store.writer import Adopt, Alive, Devices, Events, Found, Noticed, Report, Say, Stop, Trimmed, Writer

LATE = 1.0
"""Seconds that an event waits for the disk, at most."""

DAY = 86_400.0

CLOSE = 10.0
"""Seconds that the end waits for the disk; what was told is safe without it."""

log = logging.getLogger(__name__)


class History(Answers):
    """`open`, then `run`, then `close`.

    `devices` are the inventory's; `told` is called on the loop with the last cursor that clients may now hear, `forget`
    with a device that was not heard for as long as events are kept. While size is what removes events, `removed` is
    called every half minute with how many went since.
    """

    def __init__(
        self,
        settings: config.History,
        devices: Mapping[Mac, Device],
        clock: WallClock,
        told: Callable[[str], None],
        forget: Callable[[Mac], None],
        removed: Callable[[int], None] = lambda count: None,
    ) -> None:
        super().__init__(Path(os.path.realpath(settings.path)))  # SQLite puts its log beside the file, not the link
        self._settings = settings
        self._clock = clock
        self._ahead = self._shifted = 0
        """By how much the wall clock is ahead of the history's, and when it was last set: both in milliseconds."""
        self._told = told
        self._removed = removed
        self._lock = Lock(self.path)
        self._words = Words()
        self._codec = EventCodec(self._words)
        self._sequence = self._skip = 0
        """The last event's number; the number up to which none is given out."""
        self._astray = 0
        """The first number of an epoch that is not stored until this event is."""
        self._fresh_epoch = ""
        """The same epoch, that the writer has not heard of yet."""
        self._trouble = self._notice = ""
        self._late = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rows: list[Row] = []
        self._shifts: list[Row] = []
        self._through = 0
        self._handing_over = False
        self._pending: deque[tuple[int, str]] = deque()
        """Events that wait for their commit, with their cursors."""
        self._timer: asyncio.TimerHandle | None = None
        self._awaited: dict[object, asyncio.Future[None]] = {}
        self._rounds = DeviceRows(
            devices, clock, self._put_devices, lambda: self._sequence, forget, self._alive,
            lambda: self._writer.trimmed.aged,
        )  # fmt: skip
        self._writer: Writer
        self._keeper: Maintenance

    # ---- life -----------------------------------------------------------------------------------------------------

    @property
    def takes_long(self) -> bool:
        """Whether `open` has to copy the whole history first."""
        return is_older(self.path)

    def open(self) -> Memory:
        """Open the database, made, migrated or replaced where needed; what it remembers.

        Raises HistoryRefused, HistoryInUse. A disk that refuses is no reason not to start.
        """
        if (named := Path(self._settings.path)).is_symlink():
            refuse_open(named)
        found: Opened = open_history(self.path, self._lock, self._clock.milliseconds(monotonic()))
        self._loop = asyncio.get_running_loop()
        self._epoch, self._sequence, self._skip = found.epoch, found.last, found.reserved
        self._stored = found.last
        self._blind, self._trouble, self._notice = found.database is None, found.trouble, found.notice
        self._words.learn(found.words)
        self._age.open(found.clock.lived, found.clock.boot_at)
        self._ahead, self._shifted = found.clock.ahead, 0
        self._rounds.begin(found.memory)
        self._writer = Writer(
            self.path, self._lock, found.database, self._age, self._rounds.stay, self._report, found.trouble
        )
        self._keeper = Maintenance(self.path, self._writer)
        self._reader = Reader(self.path, lambda: self._writer.generation)
        self.keep(self._settings)
        self._writer.start()
        self._keeper.start()
        return found.memory

    async def run(self) -> None:
        """Write the devices down in their own time, until cancelled."""
        await self._rounds.run()

    def keep(self, settings: config.History) -> None:
        """Take other days and another size; the path stays."""
        self._settings = settings
        self._writer.most = settings.max_mib * 2**20
        self._writer.keep = self._rounds.keep = settings.keep_days * DAY

    def _alive(self) -> Alive:
        return Alive(self._clock.milliseconds(monotonic()), self._age.now(), self._age.boot_at())

    async def close(self) -> None:
        """Write the rest, and end the threads."""
        if self._loop is None:
            return
        self._rounds.show_at_once()
        self._writer.put(Stop(self._sequence, self._alive()))
        await asyncio.to_thread(self._join)
        if self._timer is not None:
            self._timer.cancel()
        self._lock.release()

    def _join(self) -> None:
        self._keeper.stop()
        self._ask_no_more()
        self._writer.join(CLOSE)

    # ---- in -------------------------------------------------------------------------------------------------------

    @property
    def cursor(self) -> str:
        """The place of the last event in the stream: `EPOCH-SEQ`."""
        return f"{self._epoch}-{self._sequence}"

    @property
    def turned_at(self) -> float:
        """When the writer's thread last came round, for the watchdog."""
        return self._writer.turned_at

    def append(self, event: Event) -> str:
        """Number an event that happens now and send it on its way; its cursor."""
        self._sequence = max(self._sequence, self._skip) + 1
        if self._sequence > self._writer.durable and (self._trouble or self._late):
            self._start_new_epoch()
        if not self._blind:
            self._clock.sync()
            row = self._codec.row(self._sequence, event, self._clock)
            self._rows.append(row)
            ahead = cast(int, row[1]) - int(event.at * 1000) - self._age.of_monotonic
            if abs(ahead - self._ahead) > SET:
                self._look_at_the_clock(event)
            if event.device is not None:
                self._rounds.note(event.kind, event.device.mac)
        cursor = self.cursor
        self._pending.append((self._sequence, cursor))
        self._through = self._sequence
        if not self._handing_over:
            self._handing_over = True
            assert self._loop is not None
            self._loop.call_soon(self._hand_over)
        return cursor

    def _look_at_the_clock(self, event: Event) -> None:
        """Note that the wall clock was set, if it was so and we did not only sleep."""
        self._age.sync()
        lived = int(event.at * 1000) + self._age.of_monotonic
        ahead = self._clock.milliseconds(event.at) - lived
        if abs(ahead - self._ahead) > SET:
            self._ahead, self._shifted = ahead, max(lived, self._shifted)
            self._shifts.append((self._sequence, self._shifted, ahead))

    def _start_new_epoch(self) -> None:
        """Give out no number that the next start would give out again: go on under a name that it does not know.

        What is reserved has run out, and the disk does not let us reserve more. When it does, the name is written down.
        """
        if self._astray <= self._stored and not self._blind:
            self._hand_over()
            self._epoch = self._fresh_epoch = new_epoch()
            self._astray = self._sequence

    def _hand_over(self) -> None:
        """What happened in one turn of the loop is one batch."""
        if not self._handing_over:
            return
        self._handing_over = False
        rows, self._rows = self._rows, []
        words, self._words.fresh = self._words.fresh, []
        shifts, self._shifts = self._shifts, []
        events = Events(rows, words, self._through, self._fresh_epoch, shifts)
        self._fresh_epoch = ""
        if self._late or len(self._pending) > len(rows):
            self._writer.put(events)
        elif report := self._writer.at_once(events):
            self._on_report(report)
            return
        if self._late:
            self._release(self._through)
        elif self._timer is None:
            self._wait()

    def _put_devices(self, work: Devices) -> None:
        self._hand_over()  # a row must not show what is not stored
        if not self._blind:
            self._writer.put(work)

    def _wait(self) -> None:
        """Give the writer so long to store the next ones."""
        assert self._loop is not None
        self._timer = self._loop.call_later(LATE, self._look)

    def _look(self) -> None:
        """Let go of what waits for too long, until the disk comes back."""
        self._timer = None
        if self._pending:
            self._late = True
            log.error("the disk takes longer than %g s: events are told before they are stored", LATE)
            self._release(self._through)

    def _release(self, through: int) -> None:
        last = ""
        while self._pending and self._pending[0][0] <= through:
            last = self._pending.popleft()[1]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending and not self._late:
            self._wait()
        if last:
            self._told(last)

    # ---- what the writer says -------------------------------------------------------------------------------------

    def _report(self, said: Report | Found | Noticed | Trimmed | Say) -> None:
        """From the writer's thread to the loop."""
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is over
            self._loop.call_soon_threadsafe(self._on_report, said)

    def _on_report(self, said: Report | Found | Noticed | Trimmed | Say) -> None:
        if isinstance(said, Say):
            if future := self._awaited.pop(said.token, None):
                future.set_result(None)
        elif isinstance(said, Found):
            self._adopt(said)
        elif isinstance(said, Noticed):
            self._notice = said.notice
        elif isinstance(said, Trimmed):
            self._removed(said.removed)
        else:
            if self._trouble and not said.trouble:
                self._keeper.trouble = ""  # what it saw is over, or it will see it again
            self._trouble = said.trouble
            self._stored = max(self._stored, said.stored)  # the loop itself may know of more already
            if said.losses > self._rounds.losses:
                self._rounds.losses = said.losses
                self._rounds.note_all()
            if self._late and said.stored >= self._through:
                self._late = False
                log.info("the disk is back in time")
            self._release(said.through)

    def _adopt(self, found: Found) -> None:
        """A database was found while running: go on in it, under a numbering that no client knows."""
        self._hand_over()
        self._epoch = new_epoch()
        self._sequence = self._through = max(self._sequence, found.reserved)
        self._skip = 0
        self._words.learn(found.words)
        self._age.open(found.clock.lived, found.clock.boot_at)
        self._ahead, self._shifted, self._shifts = found.clock.ahead, 0, []
        self._blind = False
        self._notice = found.notice or self._notice
        self._writer.put(Adopt(self._epoch, self._sequence))
        self._rounds.note_all()

    def problems(self) -> tuple[str, ...]:
        """Why what happens now may be lost, or something was."""
        late = f"the disk takes longer than {LATE:g} s: events are told before they are stored" if self._late else ""
        kept = self._trouble or self._keeper.trouble
        return tuple(
            problem for problem in (kept, late, *self._unreadable(), self._notice, self._keeper.notice) if problem
        )

    def size(self) -> int:
        """Bytes of the database's files. May wait for the disk: not to be called on the loop."""
        found = 0
        for end in ("", "-wal", "-shm"):
            with suppress(OSError):
                found += Path(f"{self.path}{end}").stat().st_size
        return found

    async def settled(self) -> None:
        """Until the writer has dealt with everything up to now."""
        self._hand_over()
        token = object()
        assert self._loop is not None
        future = self._awaited[token] = self._loop.create_future()
        self._writer.put(Say(token))
        await future

    def _broken(self) -> None:
        self._keeper.suspect()

    async def _written(self) -> None:
        await self._rounds.show()
        await self.settled()
