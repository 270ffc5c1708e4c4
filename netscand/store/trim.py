"""Keeps the history within its days and its size, a slice at a time, so that events pass in between."""

import sqlite3

from netscand.store.schema import PAGE

SLICE = 500
"""Events that go at once: some milliseconds."""

FULL = 0.95
"""Of the size that is allowed: the oldest go from here on, so that the file never grows past it."""

PAGES = 128
"""Free pages that are given back at once."""


def trim(database: sqlite3.Connection, before: float, most: float) -> bool:
    """Let go of what is older than `before` (unix seconds) or more than `most` bytes; whether there is more to do.

    The floor rises with it: who stood before it gets a fresh snapshot. Raises sqlite3.Error.
    """
    rows = database.execute("SELECT sequence, at FROM event ORDER BY sequence LIMIT ?", (SLICE,)).fetchall()
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    (free,) = database.execute("PRAGMA freelist_count").fetchone()
    # The last one that is old, not all up to the first that is young: a clock that was wrong for a while holds none up.
    last = max((sequence for sequence, at in rows if at < before * 1000), default=None)
    if rows and (pages - free) * PAGE > most * FULL:
        last = rows[-1][0]
    if last is not None:
        database.execute("BEGIN IMMEDIATE")
        try:
            database.execute("DELETE FROM event WHERE sequence <= ?", (last,))
            database.execute("UPDATE state SET floor = max(floor, ?)", (last,))
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.rollback()
            raise
        return True
    if free and (pages * PAGE > most or free > max(pages // 4, 256)):
        database.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
        return True
    return False
