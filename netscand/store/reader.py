"""Queries to the history, each a piece at a time on a thread of their own."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from time import thread_time
from typing import BinaryIO, TypeVar

from netscand.core.model import EventKind, Mac, Status
from netscand.core.restore import (
    CursorGone,
    Later,
    Memory,
    Page,
    PresenceOfDay,
    Question,
    Recorded,
    Remembered,
    Standing,
    TooLong,
    Unreadable,
)
from netscand.store.database import RARE, back_up, connect, is_broken, new_epoch
from netscand.store.retention import AgeClock, Shift, TrueTimes
from netscand.store.rows import (
    DEVICE_COLUMNS,
    EVENT_COLUMNS,
    KINDS,
    RARE_KINDS,
    STATUS_OF,
    EventCodec,
    Row,
    Words,
    mac_number,
    remembered,
    seconds,
)
from netscand.store.turns import Steps, Turns

# ---- days ----------------------------------------------------------------------------------------------------------
# How long a device was online on each of some days, by its verdicts: each tells what it was before, and since when.

DAY = 86_400.0

Span = tuple[float, float, Status]
"""From, to (unix seconds), and what a device was meanwhile."""

BECOMES = {1: Status.ONLINE, 2: Status.ONLINE, 3: Status.OFFLINE}
"""What a device is after an event, by the number of its kind (store/rows.py); `forgotten` is none."""


class Days:
    """The last `days` UTC days up to `now`, in unix seconds; verdicts are added in order.

    `kept`: since when events are. Only who was online becomes unknown: where no verdict is kept, it was from then on.
    """

    def __init__(self, days: int, now: float, kept: float) -> None:
        self._now = now
        self._kept = kept
        self._first = (now // DAY - days + 1) * DAY
        self._online = [0.0] * days
        self._unknown = [0.0] * days
        self._since: float | None = None
        self._status: Status | None = None
        self._latest = -inf

    def add(self, at_ms: int, kind: int, was: int | None, was_since: int | None) -> None:
        """Take the next verdict, by the columns of its row."""
        at = min(max(seconds(at_ms), self._latest), self._now)  # a clock that was set makes no second count twice
        self._latest = at
        if was is not None and was_since is not None:
            self._count(self._until(at - was_since / 1000, STATUS_OF[was], at))
        self._status = BECOMES.get(kind)
        self._since = at if self._status else None

    def end(self, standing: Standing | None) -> list[PresenceOfDay]:
        """Take what the device is now, and give the days."""
        if standing is not None:
            self._count(self._until(standing.status_since, standing.status, self._now))
        return [
            PresenceOfDay(self._first + number * DAY, online, unknown)
            for number, (online, unknown) in enumerate(zip(self._online, self._unknown, strict=True))
        ]

    def _until(self, turned: float, then: Status, at: float) -> Iterator[Span]:
        """From one verdict to the next moment we know: it may have become unknown in between, which no event tells."""
        since, status = self._since, self._status
        if status is not None and since is not None and then is not status:
            turned = max(since, min(turned, at))
            yield since, turned, status
            yield turned, at, then
        else:
            if since is None and then is Status.UNKNOWN:
                yield min(self._kept, turned), turned, Status.ONLINE
            yield (turned if since is None else since), at, then

    def _count(self, lived: Iterator[Span]) -> None:
        for begin, end, status in lived:
            if status is Status.OFFLINE:
                continue
            totals = self._online if status is Status.ONLINE else self._unknown
            begin, end = max(begin, self._first), min(end, self._now)
            while begin < end:
                number = int((begin - self._first) // DAY)
                next_day = min(end, self._first + (number + 1) * DAY)
                totals[number] += next_day - begin
                begin = next_day


# ---- reader --------------------------------------------------------------------------------------------------------
# What is asked of the history: on a connection of its own, a piece at a time (store/turns.py), never on the loop.

COLUMNS = ", ".join(EVENT_COLUMNS)
DEVICE = f"SELECT {', '.join('device.' + name for name in DEVICE_COLUMNS)}, seen.at, seen.confirmed FROM device"  # noqa: S608

LOOKED_AT, FOUND = 10_000, 200
"""Numbers of events that one piece of a question looks through, and events that it finds: some milliseconds."""

TAKES = 1.0
"""Seconds of the processor after which a piece is ended: none should take a fiftieth of it."""

CHECKED_EVERY = 20_000
"""Steps of SQLite between two looks at the time."""

CHANGING = (
    EventKind.ADDRESS_ADDED, EventKind.ADDRESS_REMOVED, EventKind.ADDRESS_MOVED, EventKind.ADDRESS_CONFLICT,
    EventKind.GATEWAY_CHANGED, EventKind.RENAMED, EventKind.FORGOTTEN,
)  # fmt: skip
"""Events that may change more of a device than its standing; those that do change the same. LABELLED is apart."""

LATER = (
    f"SELECT {COLUMNS} FROM event INDEXED BY event_changed WHERE mac = ?1 AND kind = ?2 "  # noqa: S608
    "AND more IS NOT NULL AND sequence > ?3 AND sequence <= ?4 ORDER BY sequence LIMIT 256"
)
"""Of one device, the events of such a kind within a range; the first that changed something is enough. A claim to an
address that the device has already changes nothing, and there are few of them (core/ratelimit.py)."""

LABELLED = (
    f"SELECT {COLUMNS} FROM event INDEXED BY event_changed WHERE mac = ?1 AND kind = {KINDS[EventKind.LABELLED]} "  # noqa: S608
    "AND more IS NOT NULL AND sequence > ?2 AND sequence <= ?3 ORDER BY sequence LIMIT 100"
)


class Reader:
    """Makes the questions; each is for one thread at a time, the same for all."""

    def __init__(self, path: Path, generation: Callable[[], int]) -> None:
        self._path = path
        self._generation = generation
        self.opened = 0
        """The generation of the database that it reads."""
        self._connection: sqlite3.Connection | None = None
        self._codec = EventCodec(Words())
        self._words = -1
        """How many the codec knows."""
        self._piece_ends = 0.0
        self.ends = False
        """Ends the piece under way."""

    def close(self) -> None:
        """Close the connection, when nothing asks any more."""
        if self._connection is not None:
            self._connection.close()

    def events(self, question: Question, most: int | None = None) -> Steps[Page]:
        """Give what was asked for: all of it, no more than `most`, or none. Raises CursorGone, sqlite3.Error."""
        found: list[Recorded] = []
        later: list[Later] = []
        at = question.since or 0
        if question.since is not None and not question.gaps:
            self._judge(self._database(), question.since)
        if most is not None and self._count(question, most) > most:
            raise CursorGone("a snapshot is shorter than all that happened since")
        while True:
            database = self._database()
            database.execute("BEGIN")  # one state of the database for all of a piece
            try:
                codec = self._known_words(database)
                limit = min(question.limit - len(found), FOUND)
                rows, at = _piece(database, replace(question, since=at, limit=limit))
                events = [codec.event(row) for row in rows]
                later += _later(database, codec, events, question.through)
                found += events
            finally:
                database.rollback()
            if len(found) == question.limit or at >= question.through:
                return Page(found, later, at)
            yield

    def begin_of_last(self, question: Question) -> Steps[int]:
        """Give the number after which the last `limit` events begin that fit. Raises sqlite3.Error."""
        left, through = question.limit + 1, question.through
        while through > 0:
            database = self._database()
            top = "SELECT max(sequence) FROM event WHERE sequence <= ?"
            (through,) = database.execute(top, (through,)).fetchone()
            if through is None:
                break
            since = 0 if _is_quick(question) else max(0, through - LOOKED_AT)
            where, given = _where(replace(question, since=since, through=through))
            text = f"SELECT sequence FROM {where} ORDER BY sequence DESC LIMIT ?"  # noqa: S608
            rows = database.execute(text, (*given, left)).fetchall()
            left -= len(rows)
            if left == 0:
                return int(rows[-1][0])
            through = since
            yield
        return 0

    def presence(
        self, mac: Mac, now: float, days: int, standing: Standing | None, lived: int
    ) -> Steps[list[PresenceOfDay]]:
        """Give how long a device was online, and unknown, on each of the last days; `standing` as it is now.

        `lived`: what the history's clock shows at `now`. Raises sqlite3.Error.
        """
        database = self._database()
        shifts = database.execute("SELECT sequence, lived, ahead FROM shift ORDER BY sequence")
        true = TrueTimes([Shift(*shift) for shift in shifts], int(now * 1000) - lived)
        next_one = "SELECT sequence, at FROM event WHERE sequence > ? ORDER BY sequence LIMIT 1"
        first = database.execute(next_one, (0,)).fetchone()
        counted = Days(days, now, seconds(true.of(*first)) if first else now)
        while first is not None:  # from before those days too: who came then may have stayed
            through = first[0] - 1 + LOOKED_AT
            for sequence, at, *verdict in database.execute(
                "SELECT sequence, at, kind, was, was_since FROM event WHERE mac = ? AND kind IN (1, 2, 3, 10) "
                "AND sequence >= ? AND sequence <= ? ORDER BY sequence",
                (mac_number(mac), first[0], through),
            ):
                counted.add(true.of(sequence, at), *verdict)
            yield
            database = self._database()
            first = database.execute(next_one, (through,)).fetchone()
        return counted.end(standing)

    def look(self) -> Steps[None]:
        """Read a little of what changes and of what does not, to see whether it can be read. Raises sqlite3.Error."""
        database = self._database()
        database.execute("SELECT * FROM state").fetchall()
        database.execute("SELECT * FROM event ORDER BY sequence DESC LIMIT 1").fetchall()
        return
        yield

    def copy(self, target: Path) -> None:
        """Make a consistent copy, under a numbering of its own: it may live on from an older point than the original.

        In any thread. Raises sqlite3.Error, OSError.
        """
        with closing(connect(self._path)) as database:
            back_up(database, target)
        try:
            with closing(connect(target)) as copied:
                copied.execute("UPDATE state SET epoch = ?", (new_epoch(),))
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def _database(self) -> sqlite3.Connection:
        """The connection, for one piece from now on."""
        generation = self._generation()
        if self._connection is None or self.opened != generation:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._connection = connect(self._path)
            self._connection.execute("PRAGMA query_only = ON")
            self._connection.set_progress_handler(self._is_over, CHECKED_EVERY)
            self.opened, self._words = generation, -1
        self._piece_ends = thread_time() + TAKES
        return self._connection

    def _is_over(self) -> bool:
        return self.ends or thread_time() > self._piece_ends

    def _known_words(self, database: sqlite3.Connection) -> EventCodec:
        (count,) = database.execute("SELECT count(*) FROM word").fetchone()
        if count != self._words:
            self._codec, self._words = _codec(database), count
        return self._codec

    def _count(self, question: Question, most: int) -> int:
        """How many events fit, as far as they are no more than `most` and one."""
        where, given = _where(question)
        text = f"SELECT count(*) FROM (SELECT 1 FROM {where} LIMIT ?)"  # noqa: S608
        (found,) = self._database().execute(text, (*given, most + 1)).fetchone()
        return int(found)

    @staticmethod
    def _judge(database: sqlite3.Connection, since: int) -> None:
        """Every number that a client may stand at is that of a stored event, or of the last one that was removed."""
        floor, hole = database.execute("SELECT floor, hole FROM state").fetchone()
        if since < max(floor, hole):
            raise CursorGone("not all of the events after it are kept")
        stored = database.execute("SELECT 1 FROM event WHERE sequence = ?", (since,)).fetchone()
        if since not in (floor, hole) and stored is None:
            raise CursorGone("no such place in the history")


def too_long(wrong: sqlite3.Error) -> bool:
    """Whether it was ended because it took too long."""
    return getattr(wrong, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT


def _where(question: Question) -> tuple[str, list[int]]:
    """The table and what must hold, as SQL."""
    where, given = ["sequence > ?", "sequence <= ?"], [question.since or 0, question.through]
    if question.after is not None:
        where.append("at > ?")
        given.append(int(question.after * 1000))
    if question.kinds:
        where.append(f"kind IN ({', '.join(str(KINDS[kind]) for kind in question.kinds)})")
    if question.mac is not None:
        where.append("mac = ?")
        given.append(mac_number(question.mac))
    table = f"event INDEXED BY event_rare WHERE {RARE}" if _are_rare(question.kinds) else "event WHERE 1"
    return f"{table} AND {' AND '.join(where)}", given


def _are_rare(kinds: Sequence[EventKind]) -> bool:
    return bool(kinds) and set(RARE_KINDS).issuperset(kinds)


def _is_quick(question: Question) -> bool:
    """Whether all that fits is found without looking at what does not."""
    return _are_rare(question.kinds) or (not question.kinds and question.mac is None and question.after is None)


def _piece(database: sqlite3.Connection, question: Question) -> tuple[list[Row], int]:
    """The next events that fit, no more than `limit`; and the last number that was looked at."""
    through = question.through
    if not _is_quick(question):
        first = "SELECT min(sequence) FROM event WHERE sequence > ?"
        (start,) = database.execute(first, (question.since,)).fetchone()
        if start is None:
            return [], through
        through = min(through, start - 1 + LOOKED_AT)
    where, given = _where(replace(question, through=through))
    text = f"SELECT {COLUMNS} FROM {where} ORDER BY sequence LIMIT ?"  # noqa: S608 - the names are ours
    rows = database.execute(text, (*given, question.limit)).fetchall()
    return rows, int(rows[-1][0]) if len(rows) == question.limit else through


def _later(database: sqlite3.Connection, codec: EventCodec, found: Sequence[Recorded], through: int) -> list[Later]:
    """Of each event of a page: what its device had right after it, where that changed up to `through`."""
    read = {event.sequence: event for event in found}
    later: dict[Mac, tuple[int, Later]] = {}
    answer: list[Later] = []
    for event in reversed(found):
        if event.mac is None:
            answer.append(NOTHING)
            continue
        known_from, known = later.get(event.mac, (through, NOTHING))
        given = (mac_number(event.mac), event.sequence, known_from)
        changes = [read.get(row[0]) or codec.event(row) for row in database.execute(LABELLED, given)]
        for kind in CHANGING:
            for row in database.execute(LATER, (given[0], KINDS[kind], *given[1:])):
                change = read.get(row[0]) or codec.event(row)
                if change.event.previous or change.whole is not None:
                    changes.append(change)
                    break
        known = _joined(known, sorted(changes, key=lambda change: change.sequence))
        later[event.mac] = event.sequence, known
        answer.append(known)
    answer.reverse()
    return answer


NOTHING = Later({}, None)


def _joined(known: Later, changes: Sequence[Recorded]) -> Later:
    """What is known from later on, with the changes before it, in order: the first that changed a field tells."""
    fields: Mapping[str, object] = known.fields
    whole = known.whole
    for change in reversed(changes):
        if change.whole is not None:
            fields, whole = {}, change.whole
        fields = {**fields, **(change.event.previous or {})}
    return Later(fields, whole)


def _codec(database: sqlite3.Connection) -> EventCodec:
    words = Words()
    words.learn(database.execute("SELECT number, text FROM word").fetchall())
    return EventCodec(words)


def remember(database: sqlite3.Connection) -> Memory:
    """What a start finds. Raises sqlite3.Error."""
    shown, alive_at, lived = database.execute("SELECT shown, alive_at, lived FROM state").fetchone()
    devices: list[Remembered] = [
        remembered(row[:-2], *row[-2:])
        for row in database.execute(f"{DEVICE} LEFT JOIN seen USING (mac) ORDER BY device.mac")
    ]
    codec = _codec(database)
    rows = database.execute(f"SELECT {COLUMNS} FROM event WHERE sequence > ? ORDER BY sequence", (shown,))  # noqa: S608
    events = [codec.event(row) for row in rows]
    latest = max((event.event.at for event in events), default=0.0)
    alive_until = max(seconds(alive_at) if alive_at else 0.0, latest)
    return Memory(devices, events, alive_until, min(lived / 1000, alive_until))


# ---- answers -------------------------------------------------------------------------------------------------------
# The history as it is asked: places in the stream, events of the past, days, copies. No question holds the loop.
#
# The questions of each account wait for one another; accounts take turns (store/turns.py).

T = TypeVar("T")

DIGITS = 18
"""Of a sequence number: what SQLite can keep."""

TRY_AGAIN = 5.0
"""Seconds between two tries to read what could not be read."""


class Answers:
    """What clients ask of the history."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._age = AgeClock()
        self._epoch = ""
        self._stored = 0
        """The last event that is stored."""
        self._blind = False
        """There is no database: nothing is stored until one is found."""
        self._failed: dict[str, tuple[str, Callable[[], Steps[object]]]] = {}
        """By kind of question: why the last that failed was not answered, and the same question again."""
        self._trying: asyncio.TimerHandle | None = None
        self._turns = Turns("history reader")
        self._copies = 0
        self._reader: Reader

    def _broken(self) -> None:
        """Take that a question showed the file to be damaged."""
        raise NotImplementedError

    async def _written(self) -> None:
        """Wait until everything up to now is in the file."""
        raise NotImplementedError

    def _ask_no_more(self) -> None:
        """End what is asked, and the thread. Waits for the piece under way."""
        self._reader.ends = True
        self._turns.close()
        self._reader.close()

    # ---- places ---------------------------------------------------------------------------------------------------

    def sequence_of(self, cursor: str) -> int:
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

    # ---- questions ------------------------------------------------------------------------------------------------

    async def events(self, question: Question, *, whole: bool = False, most: int | None = None) -> Page:
        """Events of the past; `whole`: all of them up to `through`, no more than `most`, or none.

        Raises CursorGone, Unreadable.
        """
        behind = self._blind or self._stored < question.through
        if behind and (whole or (self._blind and question.since is not None)):
            raise CursorGone("the history has a gap there")
        if self._blind:
            return Page((), (), question.through)
        return await self._ask("events", question.account, lambda: self._reader.events(question, most))

    async def begin_of_last(self, question: Question) -> int:
        """The number after which the last `limit` events begin that fit. Raises Unreadable."""
        return (
            0
            if self._blind
            else await self._ask("places", question.account, lambda: self._reader.begin_of_last(question))
        )

    async def presence(
        self, mac: Mac, days: int, standing: Standing | None, now: float, *, account: Hashable = None
    ) -> Sequence[PresenceOfDay]:
        """How long a device was online on each of the last UTC days; times in unix seconds. Raises Unreadable."""
        if self._blind:
            return ()
        lived = self._age.now()
        return await self._ask("days", account, lambda: self._reader.presence(mac, now, days, standing, lived))

    async def backup(self) -> BinaryIO:
        """A consistent copy of the database, open to be read, without a name. Raises Unreadable."""
        if self._blind:
            raise Unreadable("there is no history to copy")
        await self._written()
        self._copies += 1
        target = self.path.with_name(f"{self.path.name}.copy-{self._copies}")

        def copy() -> BinaryIO:
            self._reader.copy(target)
            file = target.open("rb")
            target.unlink()
            return file

        return await self._judged("copies", self._reader.look, asyncio.to_thread(copy))

    async def _ask(self, kind: str, account: Hashable, ask: Callable[[], Steps[T]]) -> T:
        return await self._judged(kind, ask, self._turns.ask(account, ask()))

    async def _judged(
        self, kind: str, ask: Callable[[], Steps[object]], answer: "asyncio.Future[T] | Coroutine[None, None, T]"
    ) -> T:
        """Wait for an answer; note why there is none, until `ask` is answered. Raises Unreadable, CursorGone."""
        try:
            return await answer
        except (sqlite3.Error, OSError) as wrong:
            if isinstance(wrong, sqlite3.Error) and too_long(wrong):
                raise TooLong("the history was read for too long: ask for less") from None
            raise Unreadable(self._note(kind, ask, wrong)) from None

    def _note(self, kind: str, ask: Callable[[], Steps[object]], wrong: sqlite3.Error | OSError) -> str:
        """Note a question that failed, and ask it again soon: nobody else may, and another answer proves nothing."""
        if isinstance(wrong, sqlite3.Error) and is_broken(wrong):
            self._reader.opened = 0  # in case its connection alone is at fault
            self._broken()
        said = (wrong.strerror if isinstance(wrong, OSError) else None) or str(wrong)
        why = f"the history cannot be read: {said}"
        self._failed[kind] = why, ask
        if self._trying is None:
            self._trying = asyncio.get_running_loop().call_later(TRY_AGAIN, self._try)
        return why

    def _unreadable(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(why for why, _ in self._failed.values()))

    def _try(self) -> None:
        self._trying = None
        for kind, (_, ask) in tuple(self._failed.items()):
            again = self._turns.ask(None, ask())
            again.add_done_callback(partial(self._tried, kind, ask))

    def _tried(self, kind: str, ask: Callable[[], Steps[object]], answer: "asyncio.Future[object]") -> None:
        if answer.cancelled():
            return
        wrong = answer.exception()
        if isinstance(wrong, sqlite3.Error | OSError) and not (isinstance(wrong, sqlite3.Error) and too_long(wrong)):
            self._note(kind, ask, wrong)
        elif kind in self._failed and self._failed[kind][1] is ask:
            del self._failed[kind]
