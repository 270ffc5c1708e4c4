"""What is asked of the history, on a connection and in a thread of its own, so that no question holds the loop."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from netscand.core.model import Mac, Status
from netscand.core.recorded import (
    CursorGone,
    Memory,
    Page,
    PresenceOfDay,
    Question,
    Recorded,
    Remembered,
    Standing,
)
from netscand.store.rows import (
    DEVICE_COLUMNS,
    EVENT_COLUMNS,
    KINDS,
    STATUS_OF,
    EventCodec,
    Words,
    device_of,
    mac_number,
    seconds,
)
from netscand.store.schema import back_up, connect, new_epoch

T = TypeVar("T")

EVENT = f"SELECT {', '.join(EVENT_COLUMNS)} FROM event"  # noqa: S608 - the names are ours
DEVICE = f"SELECT {', '.join('device.' + name for name in DEVICE_COLUMNS)}, seen.at, seen.confirmed FROM device"  # noqa: S608

MOST_CHANGES = 20_000
"""Later changes that one page looks at."""

DAY = 86_400.0


class Reader:
    """Answers in a thread; each method may be awaited by many at once, and they take turns."""

    def __init__(self, path: Path, generation: Callable[[], int]) -> None:
        self._path = path
        self._generation = generation
        self._opened = 0
        self._connection: sqlite3.Connection | None = None
        self.pool = ThreadPoolExecutor(1, "history reader")

    def close(self) -> None:
        """End the thread."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        if self._connection is not None:
            self._connection.close()

    def events(self, question: Question) -> Page:
        """What was asked for. Raises CursorGone, sqlite3.Error."""
        database = self._database()
        database.execute("BEGIN")  # one state of the database for all of the answer
        try:
            if question.since is not None:
                self._judge(database, question.since)
            return _page(database, question)
        finally:
            database.rollback()

    def begin_of_last(self, question: Question) -> int:
        """The number after which the last `limit` events begin that fit. Raises sqlite3.Error."""
        where, given = _where(question)
        text = f"SELECT sequence FROM event WHERE {where} ORDER BY sequence DESC LIMIT 1 OFFSET ?"  # noqa: S608
        found = self._database().execute(text, (*given, question.limit)).fetchone()
        return found[0] if found else 0

    def count(self, question: Question) -> int:
        """How many events fit. Raises sqlite3.Error."""
        where, given = _where(question)
        (found,) = self._database().execute(f"SELECT count(*) FROM event WHERE {where}", given).fetchone()  # noqa: S608
        return int(found)

    def presence(self, mac: Mac, now: float, days: int, standing: Standing | None) -> list[PresenceOfDay]:
        """How long a device was online, and unknown, on each of the last days; `standing` as it is now.

        Raises sqlite3.Error.
        """
        database = self._database()
        # From before those days too: who came then may have stayed. Without an index it takes no longer.
        rows = database.execute(
            "SELECT at, kind, was, was_since FROM event WHERE mac = ? AND kind IN (1, 2, 3, 10) ORDER BY sequence",
            (mac_number(mac),),
        ).fetchall()
        oldest = database.execute("SELECT at FROM event ORDER BY sequence LIMIT 1").fetchone()
        first = (now // DAY - days + 1) * DAY
        return by_day(spans(rows, standing, now, seconds(oldest[0]) if oldest else now), first, now)

    def copy(self, target: Path) -> None:
        """Make a consistent copy, under a numbering of its own: it may live on from an older point than the original.

        Raises sqlite3.Error, OSError.
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
        generation = self._generation()
        if self._connection is None or self._opened != generation:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._connection = connect(self._path)
            self._connection.execute("PRAGMA query_only = ON")
            self._opened = generation
        return self._connection

    @staticmethod
    def _judge(database: sqlite3.Connection, since: int) -> None:
        """Every number that a client may stand at is the floor or a stored event's."""
        (floor,) = database.execute("SELECT floor FROM state").fetchone()
        if since < floor:
            raise CursorGone("the events after it are no longer kept")
        stored = database.execute("SELECT 1 FROM event WHERE sequence = ?", (since,)).fetchone()
        if since != floor and stored is None:
            raise CursorGone("no such place in the history")


def _where(question: Question) -> tuple[str, list[int]]:
    where, given = ["sequence > ?", "sequence <= ?"], [question.since or 0, question.through]
    if question.after is not None:
        where.append("at > ?")
        given.append(int(question.after * 1000))
    if question.kinds:
        where.append(f"kind IN ({', '.join(str(KINDS[kind]) for kind in question.kinds)})")
    if question.mac is not None:
        where.append("mac = ?")
        given.append(mac_number(question.mac))
    return " AND ".join(where), given


def _page(database: sqlite3.Connection, question: Question) -> Page:
    where, given = _where(question)
    codec = _codec(database)
    rows = database.execute(f"{EVENT} WHERE {where} ORDER BY sequence LIMIT ?", (*given, question.limit))
    found = [codec.event(row) for row in rows]
    through = found[-1].sequence if len(found) == question.limit else question.through
    return Page(found, _changes(database, codec, found, question.through), through)


def _changes(
    database: sqlite3.Connection, codec: EventCodec, found: Sequence[Recorded], through: int
) -> dict[Mac, list[Recorded]]:
    """Of the devices in a page: what else changed them from its beginning on, more than their presence."""
    macs = {event.mac for event in found if event.mac is not None}
    shown = {event.sequence for event in found}
    changes: dict[Mac, list[Recorded]] = {}
    for mac in macs:
        rows = database.execute(
            f"{EVENT} WHERE mac = ? AND more IS NOT NULL AND sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?",
            (mac_number(mac), found[0].sequence, through, MOST_CHANGES),
        )
        if events := [codec.event(row) for row in rows if row[0] not in shown]:
            changes[mac] = events
    return changes


def _codec(database: sqlite3.Connection) -> EventCodec:
    words = Words()
    words.learn(database.execute("SELECT number, text FROM word").fetchall())
    return EventCodec(words)


def remember(database: sqlite3.Connection) -> Memory:
    """What a start finds. Raises sqlite3.Error."""
    shown, alive_at = database.execute("SELECT shown, alive_at FROM state").fetchone()
    devices: list[Remembered] = [
        device_of(row[:-2], *row[-2:])
        for row in database.execute(f"{DEVICE} LEFT JOIN seen USING (mac) ORDER BY device.mac")
    ]
    codec = _codec(database)
    events = [codec.event(row) for row in database.execute(f"{EVENT} WHERE sequence > ? ORDER BY sequence", (shown,))]
    latest = max((event.event.at for event in events), default=0.0)
    return Memory(devices, events, max(seconds(alive_at) if alive_at else 0.0, latest))


# ---- how long ------------------------------------------------------------------------------------------------------

Span = tuple[float, float, Status]
"""From, to (unix seconds), and what a device was meanwhile."""


def spans(
    rows: Sequence[tuple[int, int, int | None, int | None]], now_is: Standing | None, now: float, kept: float
) -> Iterator[Span]:
    """A device's life from the rows of its verdicts: each tells what it was before, and since when.

    `kept`: since when events are. Only who was online becomes unknown: where no verdict is kept, it was from then on.
    """
    since: float | None = None
    status: Status | None = None
    for at_ms, kind, was, was_since in rows:
        at = seconds(at_ms)
        if was is not None and was_since is not None:
            yield from _until(since, status, seconds(at_ms - was_since), STATUS_OF[was], at, kept)
        status = {1: Status.ONLINE, 2: Status.ONLINE, 3: Status.OFFLINE}.get(kind)
        since = at if status else None
    if now_is is not None:
        yield from _until(since, status, now_is.status_since, now_is.status, now, kept)


def _until(
    since: float | None, status: Status | None, turned: float, then: Status, at: float, kept: float
) -> Iterator[Span]:
    """From one verdict to the next moment we know: it may have become unknown in between, which no event tells."""
    if status is not None and since is not None and then is not status:
        turned = max(since, min(turned, at))
        yield since, turned, status
        yield turned, at, then
    else:
        if since is None and then is Status.UNKNOWN:
            yield min(kept, turned), turned, Status.ONLINE
        yield (turned if since is None else since), at, then


def by_day(lived: Iterator[Span], first: float, now: float) -> list[PresenceOfDay]:
    """Seconds a UTC day."""
    days = []
    held = [span for span in lived if span[1] > first]
    start = first
    while start <= now:
        totals = {Status.ONLINE: 0.0, Status.OFFLINE: 0.0, Status.UNKNOWN: 0.0}
        for begin, end, status in held:
            totals[status] += max(0.0, min(end, start + DAY, now) - max(begin, start))
        days.append(PresenceOfDay(start, totals[Status.ONLINE], totals[Status.UNKNOWN]))
        start += DAY
    return days
