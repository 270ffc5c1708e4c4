"""Deletion of what the history has of one device, from the disk (docs/history.md, ADR 67)."""

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from netscand.core.model import EventKind, Mac
from netscand.store.database import transaction
from netscand.store.rows import KINDS, OTHER_KINDS, PERSON_KINDS, mac_number, mentions

SLICE = 5_000
"""Events examined at once: some milliseconds."""

PAGES = 128
"""Free pages removed from the file at once."""

NAMING = ", ".join(str(KINDS[kind]) for kind in (*OTHER_KINDS, *PERSON_KINDS, EventKind.FLOOD))
"""Events of other devices, or of none, whose `other` or `reason` may name a MAC, or whose person has the device."""

FOUND = (
    f"SELECT sequence, mac, CASE WHEN mac = ?1 THEN NULL ELSE body END FROM event "  # noqa: S608 - ours
    f"WHERE sequence > ?2 AND sequence <= ?3 AND (mac = ?1 OR kind IN ({NAMING})) ORDER BY sequence"
)


class Erase(NamedTuple):
    """Delete the events of a device and those that name its MAC, and its rows. Called on the writer's thread."""

    mac: Mac
    done: Callable[[int], None]
    """Called at the end, with the number of events."""
    after: int = 0
    """Events up to this one were examined."""
    through: int | None = None
    """The last event to examine; what comes later is of a device that is new."""
    removed: int = 0

    def turn(self, database: sqlite3.Connection) -> "Erase | None":
        """Delete those of the next events; return the remaining work, None if there is none. Raises sqlite3.Error.

        The space of deleted events is overwritten with zeros. Free pages, which may contain events that were deleted
        before, are removed from the file.
        """
        database.execute("PRAGMA secure_delete = ON")
        try:
            if self.through is None:
                return self._begin(database)
            if self.after < self.through:
                return self._slice(database, self.through)
        finally:
            database.execute("PRAGMA secure_delete = FAST")
        if _free_pages(database):
            database.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
            return self
        self.done(self.removed)
        return None

    def again(self) -> "Erase":
        """Return the same work from the beginning, for another database."""
        return self._replace(after=0, through=None)

    def _begin(self, database: sqlite3.Connection) -> "Erase":
        number = mac_number(self.mac)
        with transaction(database):
            database.execute("DELETE FROM device WHERE mac = ?", (number,))
            database.execute("DELETE FROM seen WHERE mac = ?", (number,))
        (last,) = database.execute("SELECT ifnull(max(sequence), 0) FROM event").fetchone()
        (first,) = database.execute("SELECT ifnull(min(sequence), 1) FROM event").fetchone()
        return self._replace(after=first - 1, through=last)

    def _slice(self, database: sqlite3.Connection, through: int) -> "Erase":
        """A client that resumes from before a deleted event gets a fresh snapshot (`hole`)."""
        until = min(self.after + SLICE, through)
        rows = database.execute(FOUND, (mac_number(self.mac), self.after, until)).fetchall()
        found = [sequence for sequence, _, body in rows if body is None or mentions(body, self.mac)]
        if found:
            with transaction(database):
                database.executemany("DELETE FROM event WHERE sequence = ?", [(number,) for number in found])
                database.execute("UPDATE state SET hole = max(hole, ?)", (found[-1],))
        return self._replace(after=until, removed=self.removed + len(found))


def _free_pages(database: sqlite3.Connection) -> bool:
    """Return whether there are free pages that a database of netscand can remove."""
    incremental = database.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    return incremental and bool(database.execute("PRAGMA freelist_count").fetchone()[0])
