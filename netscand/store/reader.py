"""Queries to the history, a piece at a time on a thread of their own."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Coroutine, Hashable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import thread_time
from typing import Any, BinaryIO, TypeVar

from netscand.core.model import EventKind, Mac
from netscand.core.restore import (
    DAY,
    CursorGone,
    EventQuery,
    Hangs,
    Page,
    PresencePart,
    Remembered,
    RememberedPerson,
    Standing,
    TooLong,
    Unreadable,
)
from netscand.off_loop import OffLoop
from netscand.store.database import back_up, connect, is_broken, new_epoch
from netscand.store.presence_days import Days, Span
from netscand.store.retention import AgeClock, Shift, TrueTimes
from netscand.store.rows import (
    KINDS,
    OTHER_KINDS,
    PERSON_KINDS,
    RARE_KINDS,
    WRONG,
    is_about_person,
    mac_number,
    other_of,
    seconds,
    unpack,
)
from netscand.store.schema import RARE
from netscand.store.turns import Steps, Turns

log = logging.getLogger(__name__)

# ---- reader --------------------------------------------------------------------------------------------------------
# Queries on a connection of their own, a piece at a time (store/turns.py), never on the loop.

Decode = Callable[[bytes], Remembered | RememberedPerson | None]
"""Returns the device or person that an event shows, of its JSON; None if it is about none. Raises ValueError."""

LOOKED_AT, FOUND = 10_000, 200
"""Numbers of events that one piece of a query examines, and events that it finds: some milliseconds. Events in which a
device may be the `other` count as found, because their bodies are read."""

TAKES = 1.0
"""Seconds of processor time after which a piece is ended: none should take a fiftieth of it."""

CHECKED_EVERY = 20_000
"""Steps of SQLite between two checks of the time."""

LOGGED = 100
"""Damaged events that are logged, at most."""


class Reader:
    """Answers to queries; for one thread, which reads for all."""

    def __init__(self, path: Path, generation: Callable[[], int]) -> None:
        self._path = path
        self._generation = generation
        self.opened = 0
        """Generation of the database that it reads."""
        self._connection: sqlite3.Connection | None = None
        self.damaged: set[int] = set()
        """Events that were left out because they cannot be decoded."""
        self._piece_ends = 0.0
        self.ends = False
        """Ends the piece in work."""

    def close(self) -> None:
        """Close the connection, after the last query."""
        if self._connection is not None:
            self._connection.close()

    def events(self, query: EventQuery, most: int | None = None, *, whole: bool = False) -> Steps[Page]:
        """Return events that fit. Raises CursorGone, sqlite3.Error.

        More than `most` events are an error. With `whole`, a damaged event is an error, too; otherwise it is left out.
        """
        found: list[tuple[int, bytes]] = []
        at = query.since or 0
        if query.since is not None and not query.gaps:
            self._check_cursor(self._database(), query.since)
        if most is not None and self._count(query, most) > most:
            raise CursorGone("a snapshot is shorter than all that happened since")
        while True:
            limit = min(query.limit - len(found), FOUND)
            rows, at = _piece(self._database(), replace(query, since=at, limit=limit))
            for number, stored in rows:
                try:
                    found.append((number, unpack(stored)))
                except ValueError as wrong:
                    self._leave_out(number, wrong)
                    if whole:
                        raise CursorGone(f"event {number} cannot be decoded") from None
            if len(found) == query.limit or at >= query.through:
                return Page(found, at)
            yield

    def begin_of_last(self, query: EventQuery) -> Steps[int]:
        """Return the number after which the last `limit` events begin that fit. Raises sqlite3.Error."""
        left, through = query.limit + 1, query.through
        while through > 0:
            database = self._database()
            top = "SELECT max(sequence) FROM event WHERE sequence <= ?"
            (through,) = database.execute(top, (through,)).fetchone()
            if through is None:
                break
            since = 0 if _is_quick(query) else max(0, through - LOOKED_AT)
            most = FOUND if _is_narrow(query) else left
            rows = _rows(database, replace(query, since=since, through=through), most, "DESC")
            found = _about(query, rows)
            if len(found) >= left:
                return int(found[left - 1][0])
            left -= len(found)
            through = since if len(rows) < most else int(rows[-1][0]) - 1
            yield
        return 0

    def presence(
        self, macs: Sequence[Mac], now: float, days: int, step: float, standing: Standing | None, lived: int
    ) -> Steps[list[PresencePart]]:
        """Return how long a device was online, and unknown, in each part of the last days; `standing`: its status now.

        `macs`: the device's own, then those that were merged into it, whose devices ended then.
        `lived`: the history's clock at `now`. Raises sqlite3.Error.
        """
        database = self._database()
        shifts = database.execute("SELECT sequence, lived, ahead FROM shift ORDER BY sequence")
        true = TrueTimes([Shift(*shift) for shift in shifts], int(now * 1000) - lived)
        next_one = "SELECT sequence, at FROM event WHERE sequence > ? ORDER BY sequence LIMIT 1"
        begin = database.execute(next_one, (0,)).fetchone()
        kept = seconds(true.of(*begin)) if begin else now
        spans: list[Span] = []
        for mac in macs:
            first, counted = begin, Days(days, step, now, kept)
            counted.spans = spans if len(macs) > 1 else None
            while first is not None:  # from before those days too: a device that came then may have stayed
                through = first[0] - 1 + LOOKED_AT
                for sequence, at, *change in database.execute(
                    "SELECT sequence, at, kind, was, was_since FROM event WHERE mac = ? AND kind IN (1, 2, 3, 10, 27) "
                    "AND sequence >= ? AND sequence <= ? ORDER BY sequence",
                    (mac_number(mac), first[0], through),
                ):
                    try:
                        counted.add(true.of(sequence, at), *change)
                    except WRONG as wrong:
                        self._leave_out(sequence, wrong)
                yield
                database = self._database()
                first = database.execute(next_one, (through,)).fetchone()
            if len(macs) == 1:
                return counted.end(standing)
            counted.end(standing if mac == macs[0] else None)
        joint = Days(days, step, now, kept)
        joint.count_all(spans)
        return joint.end(None)

    def look(self) -> Steps[None]:
        """Read a few rows, some that change and some that do not. Raises sqlite3.Error if that is not possible."""
        database = self._database()
        database.execute("SELECT * FROM state").fetchall()
        database.execute("SELECT * FROM event ORDER BY sequence DESC LIMIT 1").fetchall()
        return
        yield

    def copy(self, target: Path) -> None:
        """Make a consistent copy, with a new epoch: its numbers continue from an older point than the original's.

        May be called on any thread. Raises sqlite3.Error, OSError.
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
        """Return the connection, for one piece from now on."""
        generation = self._generation()
        if self._connection is None or self.opened != generation:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._connection = connect(self._path)
            self._connection.execute("PRAGMA query_only = ON")
            self._connection.set_progress_handler(self._is_over, CHECKED_EVERY)
            self.opened = generation
        self._piece_ends = thread_time() + TAKES
        return self._connection

    def _is_over(self) -> bool:
        return self.ends or thread_time() > self._piece_ends

    def _leave_out(self, number: int, wrong: Exception) -> None:
        if number not in self.damaged and len(self.damaged) < LOGGED:
            self.damaged.add(number)
            log.error("stored event %d is damaged (%s); it is omitted", number, wrong)

    def _count(self, query: EventQuery, most: int) -> int:
        """Return how many events fit; `most` + 1 if they are more than `most`."""
        where, given = _where(query)
        text = f"SELECT count(*) FROM (SELECT 1 FROM {where} LIMIT ?)"  # noqa: S608
        (found,) = self._database().execute(text, (*given, most + 1)).fetchone()
        return int(found)

    @staticmethod
    def _check_cursor(database: sqlite3.Connection, since: int) -> None:
        """Raise CursorGone unless a number is that of a stored event, or of the last one that was removed."""
        floor, hole = database.execute("SELECT floor, hole FROM state").fetchone()
        if since < max(floor, hole):
            raise CursorGone("some of the events after it were removed")
        stored = database.execute("SELECT 1 FROM event WHERE sequence = ?", (since,)).fetchone()
        if since not in (floor, hole) and stored is None:
            raise CursorGone("the history has no such event")


def too_long(wrong: sqlite3.Error) -> bool:
    """Return whether a query was ended because it took too long."""
    return getattr(wrong, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT


def _where(query: EventQuery) -> tuple[str, list[int]]:
    """Return the table and the conditions, as SQL. Of the rows, those that `_about` rejects do not fit."""
    where, given = ["sequence > ?", "sequence <= ?"], [query.since or 0, query.through]
    if query.after is not None:
        where.append("at > ?")
        given.append(int(query.after * 1000))
    if query.before is not None:
        where.append("at <= ?")
        given.append(int(query.before * 1000))
    if query.kinds:
        where.append(f"kind IN ({', '.join(str(KINDS[EventKind(kind)]) for kind in query.kinds if kind in KINDS)})")
    if query.person is not None:
        where.append(f"kind IN ({', '.join(str(KINDS[kind]) for kind in PERSON_KINDS)})")
    if query.macs is not None:
        numbers = ", ".join(str(mac_number(mac)) for mac in query.macs)
        where.append(f"(mac IN ({numbers}) OR kind IN ({', '.join(str(KINDS[kind]) for kind in OTHER_KINDS)}))")
    table = f"event INDEXED BY event_rare WHERE {RARE}" if _are_rare(query.kinds) else "event WHERE 1"
    return f"{table} AND {' AND '.join(where)}", given


def _are_rare(kinds: Sequence[str]) -> bool:
    return bool(kinds) and set(RARE_KINDS).issuperset(kinds)


def _is_quick(query: EventQuery) -> bool:
    """Return whether what fits is found without examining what does not.

    The index by kind has the events of several kinds in no common order, and those of a device are read piece by piece.
    """
    if _is_narrow(query):
        return _are_rare(query.kinds) and len(set(query.kinds)) == 1
    return _are_rare(query.kinds) or (not query.kinds and query.after is None and query.before is None)


def _is_narrow(query: EventQuery) -> bool:
    """Return whether `_about` rejects some of the rows."""
    return query.macs is not None or query.person is not None


def _rows(database: sqlite3.Connection, query: EventQuery, most: int, order: str = "") -> list[tuple[Any, ...]]:
    """Return number, MAC and body of the next events, at most `most`, for `_about`."""
    where, given = _where(query)
    text = f"SELECT sequence, mac, body FROM {where} ORDER BY sequence {order} LIMIT ?"  # noqa: S608 - constants
    return database.execute(text, (*given, most)).fetchall()


def _about(query: EventQuery, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the events that are about the person or a device of a query, or have such a device as their `other`."""
    if query.person is not None:
        return [row for row in rows if is_about_person(row[2], query.person)]
    if (macs := query.macs) is None:
        return rows
    numbers = set(map(mac_number, macs))
    return [row for row in rows if row[1] in numbers or other_of(row[2]) in macs]


def _piece(database: sqlite3.Connection, query: EventQuery) -> tuple[list[tuple[int, Any]], int]:
    """Return the next events that fit, at most `limit`, and the last number that was examined."""
    through = query.through
    if not _is_quick(query):
        first = "SELECT min(sequence) FROM event WHERE sequence > ?"
        (start,) = database.execute(first, (query.since,)).fetchone()
        if start is None:
            return [], through
        through = min(through, start - 1 + LOOKED_AT)
    most = FOUND if _is_narrow(query) else query.limit
    rows = _rows(database, replace(query, through=through), most)
    found = [(int(row[0]), row[2]) for row in _about(query, rows)][: query.limit]
    if len(found) == query.limit:
        return found, found[-1][0]
    return found, int(rows[-1][0]) if len(rows) == most else through


# ---- answers -------------------------------------------------------------------------------------------------------
# The queries of clients: cursors, events, presence by day, copies. None of them holds the loop.
#
# The queries of one account wait for one another; accounts take turns (store/turns.py).

T = TypeVar("T")

DIGITS = 18
"""Digits of a sequence number that SQLite can store."""

TRY_AGAIN = 5.0
"""Seconds between two attempts to read what could not be read."""

LOOK = 1.0
"""Seconds between two looks at whether the disk still answers, while a query waits."""

MOST_COPIES = 2
"""Copies of the history that are made at a time."""

HANGING = "the history cannot be read: the disk does not answer"


class Answers:
    """Answers of the history to clients."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._age = AgeClock()
        self._epoch = ""
        self._stored = 0
        """The last event that is stored."""
        self._detached = False
        """There is no database: nothing is stored until one can be opened."""
        self._failed: dict[str, tuple[str, Callable[[], Steps[object]]]] = {}
        """By kind of query: why the last one failed, and the same query again."""
        self._trying: asyncio.TimerHandle | None = None
        self._turns = Turns("history reader", lambda: self._reader.close())
        self._copies = 0
        self._copying = OffLoop(MOST_COPIES)
        self._reader: Reader

    def _on_damage(self) -> None:
        """Take note that a query found damage."""
        raise NotImplementedError

    async def _all_stored(self) -> None:
        """Wait until everything up to now is stored. Raises Hangs."""
        raise NotImplementedError

    def _copy_limit(self) -> float:
        """Return the seconds that a copy may take."""
        raise NotImplementedError

    def _stop_answering(self, within: float) -> None:
        """Cancel all queries; end the thread. Waits so many seconds for the piece in work."""
        self._reader.ends = True
        self._turns.close(within)

    # ---- cursors --------------------------------------------------------------------------------------------------

    def sequence_of(self, cursor: str) -> int:
        """Return the number of a cursor. Raises CursorGone for another epoch, ValueError if it is not a cursor."""
        epoch, _, digits = cursor.rpartition("-")
        if not (epoch.isascii() and epoch.isalnum() and digits.isascii() and digits.isdigit()):
            raise ValueError(f"{cursor[:64]!r} is not a cursor")
        if epoch != self._epoch or len(digits) > DIGITS:
            raise CursorGone("it belongs to another history")
        return int(digits)

    def cursor_of(self, number: int) -> str:
        """Return the cursor of a number."""
        return f"{self._epoch}-{number}"

    # ---- queries ------------------------------------------------------------------------------------------------

    async def events(self, query: EventQuery, *, whole: bool = False, most: int | None = None) -> Page:
        """Return events; with `whole`, all of them up to `through`, no more than `most`, or none.

        Raises CursorGone, Unreadable.
        """
        behind = self._detached or self._stored < query.through
        if behind and (whole or (self._detached and query.since is not None)):
            raise CursorGone("the history has a gap there")
        if self._detached:
            return Page((), query.through)
        return await self._run("events", query.account, lambda: self._reader.events(query, most, whole=whole))

    async def begin_of_last(self, query: EventQuery) -> int:
        """Return the number after which the last `limit` events begin that fit. Raises Unreadable."""
        if self._detached:
            return 0
        return await self._run("cursors", query.account, lambda: self._reader.begin_of_last(query))

    async def presence(
        self, mac: Mac, days: int, standing: Standing | None, now: float, step: float = DAY, *,
        others: Sequence[Mac] = (), account: Hashable = None,
    ) -> Sequence[PresencePart]:  # fmt: skip
        """Return how long a device was online in each part of the last UTC days. Raises Unreadable.

        `others`: MACs that were merged into it.
        """
        if self._detached:
            return ()
        lived = self._age.now()
        return await self._run(
            "days", account, lambda: self._reader.presence((mac, *others), now, days, step, standing, lived)
        )

    async def backup(self) -> BinaryIO:
        """Return a consistent copy of the database, open for reading, without a name. Raises Unreadable."""
        if self._detached:
            raise Unreadable("there is no history to copy")
        await self._all_stored()
        self._copies += 1
        target = self.path.with_name(f"{self.path.name}.copy-{self._copies}")

        def copy() -> BinaryIO:
            self._reader.copy(target)
            file = target.open("rb")
            target.unlink()
            return file

        copying = self._copying.do(copy, self._copy_limit(), late=lambda file: file.close())
        return await self._watched("copies", self._reader.look, copying)

    async def _run(self, kind: str, account: Hashable, repeat: Callable[[], Steps[T]]) -> T:
        return await self._watched(kind, repeat, self._answer(account, repeat()))

    async def _answer(self, account: Hashable, steps: Steps[T]) -> T:
        """Return the answer to a query; it has waited for others, but not for a disk that hangs. Raises Hangs."""
        if self._turns.hangs:
            raise Hangs(HANGING)
        answer = self._turns.submit(account, steps)
        try:
            while not answer.done():
                await asyncio.wait((answer,), timeout=LOOK)
                if self._turns.hangs and not answer.done():
                    raise Hangs(HANGING)
            return answer.result()
        finally:
            answer.cancel()

    async def _watched(self, kind: str, repeat: Callable[[], Steps[object]], answer: Coroutine[None, None, T]) -> T:
        """Wait for an answer; if it fails, that is a problem until `repeat` succeeds. Raises Unreadable, CursorGone."""
        try:
            return await answer
        except TimeoutError:
            raise Hangs("the disk is too slow to copy the history, or does not answer") from None
        except (sqlite3.Error, OSError) as wrong:
            if isinstance(wrong, sqlite3.Error) and too_long(wrong):
                raise TooLong("reading the history took too long; ask for less") from None
            raise Unreadable(self._note(kind, repeat, wrong)) from None

    def _note(self, kind: str, repeat: Callable[[], Steps[object]], wrong: sqlite3.Error | OSError) -> str:
        """Record a query that failed, and repeat it soon: the answer to another query would prove nothing."""
        if isinstance(wrong, sqlite3.Error) and is_broken(wrong):
            self._reader.opened = 0  # perhaps only its connection is damaged
            self._on_damage()
        reason = (wrong.strerror if isinstance(wrong, OSError) else None) or str(wrong)
        why = f"the history cannot be read: {reason}"
        self._failed[kind] = why, repeat
        if self._trying is None:
            self._trying = asyncio.get_running_loop().call_later(TRY_AGAIN, self._try)
        return why

    def _unreadable(self) -> tuple[str, ...]:
        hanging = (HANGING,) if self._turns.hangs else ()
        return tuple(dict.fromkeys((*hanging, *(why for why, _ in self._failed.values()))))

    def _try(self) -> None:
        self._trying = None
        for kind, (_, repeat) in tuple(self._failed.items()):
            again = self._turns.submit(None, repeat())
            again.add_done_callback(partial(self._tried, kind, repeat))

    def _tried(self, kind: str, repeat: Callable[[], Steps[object]], answer: "asyncio.Future[object]") -> None:
        if answer.cancelled():
            return
        wrong = answer.exception()
        if isinstance(wrong, sqlite3.Error | OSError) and not (isinstance(wrong, sqlite3.Error) and too_long(wrong)):
            self._note(kind, repeat, wrong)
        elif kind in self._failed and self._failed[kind][1] is repeat:
            del self._failed[kind]
