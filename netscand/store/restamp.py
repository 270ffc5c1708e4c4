"""New stamps for the events of this run, when the clock turns out to have been wrong (docs/history.md, ADR 57)."""

import re
import sqlite3
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from netscand.store.database import transaction
from netscand.store.rows import pack, unpack

SLICE = 100
"""Events in one transaction: some milliseconds."""

MOST = 20_000
"""The latest events that get new stamps, at most."""

LATER = 1_000
"""Milliseconds by which a stamp of an event may be later than the event itself."""

STAMP = re.compile(rb'"(at|seen_at|status_since|first_seen|last_seen)":"([0-9T:.-]{23,26})Z"')
"""A stamp in the JSON of an event. Text in a string cannot look like it: its quotes are escaped."""


class Restamp(NamedTuple):
    """Move the stamps of the events from `first` to the one before `before`. All times are in milliseconds."""

    first: int
    before: int
    began: int
    """When this run began, by the wrong clock: earlier stamps are of earlier runs, and stay."""
    by: int
    ahead: int
    """By how much the right clock is ahead of the history's own (store/retention.py)."""
    most: int = MOST

    def turn(self, database: sqlite3.Connection) -> "Restamp | None":
        """Move the stamps of the last events; return the remaining work, None if there is none. Raises sqlite3.Error.

        Stamps that were not moved when the process ends stay as they are, with their own row of `shift`.
        """
        rows = database.execute(
            "SELECT sequence, at, was_since, body FROM event WHERE sequence >= ? AND sequence < ? "
            "ORDER BY sequence DESC LIMIT ?", (self.first, self.before, min(SLICE, self.most)),
        ).fetchall()  # fmt: skip
        if not rows:
            return None
        lowest, at = rows[-1][:2]
        with transaction(database):
            for sequence, *row in rows:
                database.execute(
                    "UPDATE event SET at = ?, was_since = ?, body = ? WHERE sequence = ?",
                    (*self._moved(*row), sequence),
                )
            database.execute("DELETE FROM shift WHERE sequence >= ? AND sequence <= ?", (lowest, self.before))
            database.execute("INSERT INTO shift VALUES (?, ?, ?)", (lowest, at + self.by - self.ahead, self.ahead))
        return self._replace(before=lowest, most=self.most - len(rows))

    def _moved(self, at: int, was_since: int | None, stored: bytes) -> tuple[int, int | None, bytes]:
        if was_since is not None and not self.began <= at - was_since <= at + LATER:
            was_since += self.by  # the status began in an earlier run
        with suppress(ValueError):  # damaged: it stays so
            stored = pack(moved(unpack(stored), self.began, at + LATER, self.by))
        return at + self.by, was_since, stored


def moved(body: bytes, begin: int, end: int, by: int) -> bytes:
    """Return the JSON of an event with its stamps from `begin` to `end` moved; all in milliseconds."""

    def move(found: "re.Match[bytes]") -> bytes:
        text = found[2].decode()
        time = datetime.fromisoformat(f"{text}+00:00")
        if not begin <= time.timestamp() * 1000 <= end:
            return found[0]
        time += timedelta(milliseconds=by)
        precision = "milliseconds" if len(text) == len("2026-01-01T00:00:00.000") else "microseconds"
        return b'"%b":"%bZ"' % (found[1], time.replace(tzinfo=None).isoformat(timespec=precision).encode())

    return STAMP.sub(move, body)
