"""The history as the engine and the server know it: events go in and are numbered, and come out again.

    append → a row → the writer → its report → `told(cursor)`: only then may clients hear of an event (law 2)

The writer is a thread; a few events, while it idles, are written by the loop itself. Nothing here waits for the disk.
One that refuses, or takes longer than a second, holds no event back: they are told, and `problems()` says that a
restart would lose them.
"""

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from time import monotonic
from typing import BinaryIO, TypeVar

from netscand import config
from netscand.core.model import Device, Event, Mac
from netscand.core.recorded import CursorGone, Memory, Page, PresenceOfDay, Question, Standing, Unreadable
from netscand.store.found import Opened, open_history
from netscand.store.keeper import Keeper
from netscand.store.place import Lock
from netscand.store.reader import Reader
from netscand.store.rounds import Rounds
from netscand.store.rows import EventCodec, Row, WallClock, Words
from netscand.store.schema import is_broken, new_epoch
from netscand.store.work import Adopt, Broken, Devices, Events, Found, Report, Say, Stop
from netscand.store.writer import Writer

T = TypeVar("T")

LATE = 1.0
"""Seconds that an event waits for the disk, at most."""

DAY = 86_400.0

CLOSE = 10.0
"""Seconds that the end waits for the disk; what was told is safe without it."""

DIGITS = 18
"""Of a sequence number: what SQLite can keep."""

log = logging.getLogger(__name__)


class History:
    """`open`, then `run`, then `close`.

    `devices` are the inventory's; `told` is called on the loop with the last cursor that clients may now hear, `forget`
    with a device that was not heard for as long as events are kept.
    """

    def __init__(
        self,
        settings: config.History,
        devices: Mapping[Mac, Device],
        clock: WallClock,
        told: Callable[[str], None],
        forget: Callable[[Mac], None],
    ) -> None:
        self.path = Path(settings.path)
        self._settings = settings
        self._clock = clock
        self._told = told
        self._lock = Lock(self.path)
        self._words = Words()
        self._codec = EventCodec(self._words)
        self._epoch = ""
        self._sequence = self._skip = self._stored = 0
        """The last event's number; the number up to which none is given out; the last that is stored."""
        self._astray = 0
        """The first number of an epoch that is not stored until this event is."""
        self._fresh_epoch = ""
        """The same epoch, that the writer has not heard of yet."""
        self._blind = False
        """There is no database: nothing is stored until one is found."""
        self._trouble = self._notice = ""
        self._late = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rows: list[Row] = []
        self._through = 0
        self._handing_over = False
        self._pending: deque[tuple[int, str]] = deque()
        """Events that wait for their commit, with their cursors."""
        self._timer: asyncio.TimerHandle | None = None
        self._copies = 0
        self._away = 0.0
        """Seconds from when we last ran to this start, if the clock is right."""
        self._awaited: dict[object, asyncio.Future[None]] = {}
        self._rounds = Rounds(devices, clock, self._put_devices, lambda: self._sequence, forget)
        self._writer: Writer
        self._keeper: Keeper
        self._reader: Reader

    # ---- life -----------------------------------------------------------------------------------------------------

    def open(self) -> Memory:
        """Open the database, made, migrated or replaced where needed; what it remembers.

        Raises HistoryRefused, HistoryInUse. A disk that refuses is no reason not to start.
        """
        found: Opened = open_history(self.path, self._lock)
        self._loop = asyncio.get_running_loop()
        self._epoch, self._sequence, self._skip = found.epoch, found.last, found.reserved
        self._stored = found.last
        self._blind, self._trouble, self._notice = found.database is None, found.trouble, found.notice
        self._words.learn(found.words)
        for recorded in found.memory.events:  # no row shows them yet
            if recorded.mac is not None:
                self._rounds.note(recorded.event.kind, recorded.mac)
        self._writer = Writer(
            self.path, self._lock, found.database, self._settings.max_mib * 2**20,
            self._tell, found.trouble,
        )  # fmt: skip
        self._keeper = Keeper(self.path, self._writer)
        self._reader = Reader(self.path, lambda: self._writer.generation)
        now = self._clock.milliseconds(monotonic()) / 1000
        self._away = now - found.memory.alive_until if found.memory.alive_until else 0.0
        self._writer.keep = self._rounds.keep = self._days()
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
        self._writer.keep = self._rounds.keep = self._days()

    def _days(self) -> float:
        """Seconds that things are kept. For ever in a run that began with a leap of the clock: it may be wrong."""
        days = self._settings.keep_days * DAY
        return days if self._away < days / 2 else inf

    async def close(self) -> None:
        """Write the rest, and end the threads."""
        if self._loop is None:
            return
        self._rounds.show_at_once()
        self._writer.put(Stop(self._sequence, self._clock.milliseconds(monotonic())))
        await asyncio.to_thread(self._join)
        if self._timer is not None:
            self._timer.cancel()
        self._lock.release()

    def _join(self) -> None:
        self._keeper.stop()
        self._reader.close()
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
            self._go_astray()
        if not self._blind:
            self._clock.sync()
            self._rows.append(self._codec.row(self._sequence, event, self._clock))
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

    def _go_astray(self) -> None:
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
        events = Events(rows, words, self._through, self._fresh_epoch)
        self._fresh_epoch = ""
        if len(self._pending) == len(rows) and not self._late and (report := self._writer.at_once(events)):
            self._hear(report)
            return
        self._writer.put(events)
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

    def _tell(self, said: Report | Found | Say) -> None:
        """From the writer's thread to the loop."""
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is over
            self._loop.call_soon_threadsafe(self._hear, said)

    def _hear(self, said: Report | Found | Say) -> None:
        if isinstance(said, Say):
            if future := self._awaited.pop(said.token, None):
                future.set_result(None)
        elif isinstance(said, Found):
            self._adopt(said)
        else:
            self._trouble = said.trouble
            self._stored = max(self._stored, said.stored)  # the loop itself may have stored more meanwhile
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
        self._blind = False
        if found.set_aside:
            self._notice = notice(found.set_aside)
        self._writer.put(Adopt(self._epoch, self._sequence))
        self._rounds.note_all()

    def problems(self) -> tuple[str, ...]:
        """Why what happens now may be lost, or something was."""
        late = f"the disk takes longer than {LATE:g} s: events are told before they are stored" if self._late else ""
        return tuple(problem for problem in (self._trouble, late, self._notice) if problem)

    def size(self) -> int:
        """Bytes of the database's files. May wait for the disk: not to be called on the loop."""
        found = 0
        for end in ("", "-wal", "-shm"):
            with suppress(OSError):
                found += Path(f"{self.path}{end}").stat().st_size
        return found

    # ---- out ------------------------------------------------------------------------------------------------------

    def place(self, cursor: str) -> int:
        """The number of a cursor. Raises CursorGone where it is of another epoch, ValueError where it is none."""
        epoch, _, digits = cursor.rpartition("-")
        if not (epoch.isascii() and epoch.isalnum() and digits.isascii() and digits.isdigit()):
            raise ValueError(f"{cursor[:64]!r} is no cursor")
        if epoch != self._epoch or len(digits) > DIGITS:
            raise CursorGone("it is of another history")
        return int(digits)

    def cursor_of(self, number: int) -> str:
        """The cursor of a number."""
        return f"{self._epoch}-{number}"

    async def events(self, question: Question, *, whole: bool = False, most: int | None = None) -> Page:
        """Events of the past; `whole`: all of them up to `through`, no more than `most`, or none.

        Raises CursorGone, Unreadable.
        """
        behind = self._blind or self._stored < question.through
        if behind and (whole or (self._blind and question.since is not None)):
            raise CursorGone("the history has a gap there")
        if self._blind:
            return Page((), {}, question.through)

        def read() -> Page:
            if most is not None and self._reader.count(question) > most:
                raise CursorGone("a snapshot is shorter than all that happened since")
            return self._reader.events(question)

        return await self._ask(read)

    async def begin_of_last(self, question: Question) -> int:
        """The number after which the last `limit` events begin that fit. Raises Unreadable."""
        return 0 if self._blind else await self._ask(lambda: self._reader.begin_of_last(question))

    async def presence(self, mac: Mac, days: int, standing: Standing | None, now: float) -> Sequence[PresenceOfDay]:
        """How long a device was online on each of the last UTC days; times in unix seconds. Raises Unreadable."""
        return () if self._blind else await self._ask(lambda: self._reader.presence(mac, now, days, standing))

    async def backup(self) -> BinaryIO:
        """A consistent copy of the database, open to be read, without a name. Raises Unreadable."""
        if self._blind:
            raise Unreadable("there is no history to copy")
        await self._rounds.show()
        await self.settled()
        self._copies += 1
        target = self.path.with_name(f"{self.path.name}.copy-{self._copies}")

        def copy() -> BinaryIO:
            self._reader.copy(target)
            file = target.open("rb")
            target.unlink()
            return file

        return await asyncio.to_thread(self._guarded, copy)

    async def settled(self) -> None:
        """Until the writer has dealt with everything up to now."""
        self._hand_over()
        token = object()
        assert self._loop is not None
        future = self._awaited[token] = self._loop.create_future()
        self._writer.put(Say(token))
        await future

    async def _ask(self, work: Callable[[], T]) -> T:
        assert self._loop is not None
        return await self._loop.run_in_executor(self._reader.pool, self._guarded, work)

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (sqlite3.Error, OSError) as wrong:
            if isinstance(wrong, sqlite3.Error) and is_broken(wrong):
                self._writer.put(Broken(str(wrong)))
            raise Unreadable(f"the history cannot be read: {wrong}") from None


def notice(set_aside: str) -> str:
    """The problem that stays until a restart, so that somebody sees it."""
    return f"the history was broken: it is set aside as {set_aside}, and a new one began"
