"""Events that wait to be written, in one transaction; bounded, where a disk refuses for long."""

import sqlite3
from typing import cast

from netscand.store.rows import EVENT_COLUMNS, Row
from netscand.store.schema import SIZES, insert, transaction
from netscand.store.work import Events

BACKLOG = 20_000
"""Events that wait for such a disk, at most: some 10 MB."""


class Backlog:
    """Rows of events, with the words and shifts that they need."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._words: list[Row] = []
        self._shifts: list[Row] = []
        self._dropped = 0
        """The last event that found no room."""
        self._epoch = ""
        """Of the numbering that these go on in, where the database does not say so yet."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def through(self) -> int:
        """The number of the last event."""
        return cast(int, self.rows[-1][0])

    def add(self, events: Events) -> None:
        """Take more events."""
        self.rows += events.rows
        self._words += events.words
        self._shifts += events.shifts
        self._epoch = events.epoch or self._epoch

    def clear(self, *, dropped: bool = False) -> None:
        """Forget them; `dropped`: what found no room, too."""
        self.rows, self._words, self._shifts, self._epoch = [], [], [], ""
        if dropped:
            self._dropped = 0

    def overflow(self) -> None:
        """Drop the oldest, where there are too many: who resumes from before them gets a fresh snapshot."""
        if len(self.rows) > BACKLOG:
            spare = len(self.rows) - BACKLOG // 2
            self._dropped = cast(int, self.rows[spare - 1][0])
            del self.rows[:spare]

    def write(self, database: sqlite3.Connection, reserved: int) -> None:
        """Write them, and (not 0) which numbers are reserved from now on. Raises sqlite3.Error; then nothing is."""
        if not (self._words or self._shifts or self._dropped or self._epoch or reserved) and len(self.rows) in SIZES:
            insert(database, "event", EVENT_COLUMNS, self.rows)  # one statement is a transaction of its own
        else:
            with transaction(database):
                insert(database, "word", ("number", "text"), self._words, replace=True)
                insert(database, "event", EVENT_COLUMNS, self.rows)
                insert(database, "shift", ("sequence", "lived", "ahead"), self._shifts, replace=True)
                if self._dropped:
                    database.execute("UPDATE state SET floor = max(floor, ?)", (self._dropped,))
                if self._epoch:
                    database.execute("UPDATE state SET epoch = ?", (self._epoch,))
                if reserved:
                    database.execute("UPDATE state SET reserved = ?", (reserved,))
        self.clear(dropped=True)
