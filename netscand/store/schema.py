"""The schema of the database: its tables, its versions, and the migrations between them.

Versions 1 and 2 are from before the first release; their events are in columns that this version does not read.
Version 4: as 3, which had no `kind`, `kind_reason` and `evidence` of a device
Version 5: as 4, which had no `tags` and `not_same_as` of a device, and no people and merges
Version 6: as 5, which had of a merged device only its annotations and `first_seen`
Version 7: as 6, which had no rows of events with a common text (`Filled`)
    event   an event a row, by sequence number (store/rows.py)
    device  a device a row, as of some event; `seen`: when it was last seen, apart, because that changes all the time
    person  a person a row, as JSON; merged: a device that users merged into another one, a row (store/rows.py)
    shift   the event from which on the wall clock was set to another time (store/retention.py)
    state   one row: what belongs to the database as a whole
"""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import cache

from netscand.store.rows import DEVICE_COLUMNS, EVENT_COLUMNS, KINDS, RARE_KINDS

VERSION = 7

RARE = f"kind IN ({', '.join(str(KINDS[kind]) for kind in RARE_KINDS)})"
"""The condition of the index by kind; SQLite uses that index for a query that contains the same condition."""

EVENT = f"CREATE TABLE event ({EVENT_COLUMNS[0]} INTEGER PRIMARY KEY, {', '.join(EVENT_COLUMNS[1:])})"

INDEX = f"CREATE INDEX event_rare ON event (kind) WHERE {RARE}"

PEOPLE = "CREATE TABLE person (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID"
MERGED = "CREATE TABLE merged (mac INTEGER PRIMARY KEY, body TEXT NOT NULL, device BLOB)"

TABLES = f"""
{EVENT};
{INDEX};
CREATE TABLE device ({DEVICE_COLUMNS[0]} INTEGER PRIMARY KEY, {", ".join(DEVICE_COLUMNS[1:])});
CREATE TABLE seen (mac INTEGER PRIMARY KEY, at INTEGER NOT NULL, confirmed INTEGER NOT NULL);
{PEOPLE};
{MERGED};
CREATE TABLE shift (sequence INTEGER PRIMARY KEY, lived INTEGER NOT NULL, ahead INTEGER NOT NULL);
CREATE TABLE state (
    epoch TEXT NOT NULL,      -- names the numbering: cursors are EPOCH-SEQUENCE
    reserved INTEGER NOT NULL,-- numbers up to this one may have been given out
    floor INTEGER NOT NULL,   -- every event up to this one was removed or never stored
    shown INTEGER NOT NULL,   -- the rows of the devices show every event up to this one
    alive_at INTEGER NOT NULL,-- when the daemon was last known to run, unix milliseconds
    lived INTEGER NOT NULL DEFAULT 0,   -- the history's own clock, milliseconds; 0: it never ran
    boot_at INTEGER NOT NULL DEFAULT 0, -- how long the machine had been on then, milliseconds
    aged INTEGER NOT NULL DEFAULT 0,    -- every event up to this one is older than its days
    hole INTEGER NOT NULL DEFAULT 0,    -- the last event that was removed by size: cursors before it have expired
    sized_at INTEGER NOT NULL DEFAULT 0 -- when the last event was removed by size, by the history's clock
);
"""


def _to_3(database: sqlite3.Connection) -> None:
    """Keep the devices, and remove the events, which are in the copy made before."""
    last = "max(floor, hole, (SELECT ifnull(max(sequence), 0) FROM event))"
    database.execute(f"UPDATE state SET floor = {last}, shown = {last}")  # noqa: S608 - a constant
    for statement in ("DROP TABLE event", "DROP TABLE word", EVENT, INDEX):
        database.execute(statement)


def _to_4(database: sqlite3.Connection) -> None:
    """Add the kind of a device, and the evidence for it."""
    for column in ("kind", "kind_reason", "evidence"):
        database.execute(f"ALTER TABLE device ADD COLUMN {column}")


def _to_5(database: sqlite3.Connection) -> None:
    """Add the tags of devices, people, and merged devices."""
    columns = (f"ALTER TABLE device ADD COLUMN {name}" for name in ("tags", "not_same_as"))
    for statement in (*columns, PEOPLE, "CREATE TABLE merged (mac INTEGER PRIMARY KEY, body TEXT NOT NULL)"):
        database.execute(statement)


def _to_6(database: sqlite3.Connection) -> None:
    """Add what was known of a merged device; an earlier version kept only its annotations and `first_seen`."""
    database.execute("ALTER TABLE merged ADD COLUMN device BLOB")


def _to_7(database: sqlite3.Connection) -> None:
    """Change nothing; an earlier version would take the new rows for damaged ones."""


MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {2: _to_3, 3: _to_4, 4: _to_5, 5: _to_6, 6: _to_7}
"""From this version to the next, statement by statement: `executescript` would commit in between. A database older
than the oldest of them is set aside."""


def what_is_missing(database: sqlite3.Connection, *, indexes: bool = False) -> str:
    """Return the first table, column, row of `state` or (with `indexes`) index that is missing, as a message; or "".

    SQLite does not notice if another process removed one. Raises sqlite3.Error.
    """
    for name, columns in tables().items():
        found = {row[1] for row in database.execute(f"PRAGMA table_info({name})")}
        if not found:
            return f"its table {name} is missing"
        if missing := sorted(columns - found):
            return f"its column {name}.{missing[0]} is missing"
    if database.execute("SELECT count(*) FROM state").fetchone() != (1,):
        return "its state is missing"
    names = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
    if indexes and (lost := sorted(indexes_of_schema().keys() - names)):
        return f"its index {lost[0]} is missing"
    return ""


@cache
def tables() -> Mapping[str, frozenset[str]]:
    """Return the columns of each table."""
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(TABLES)
        names = [name for (name,) in model.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: frozenset(row[1] for row in model.execute(f"PRAGMA table_info({name})")) for name in names}


@cache
def indexes_of_schema() -> Mapping[str, str]:
    """Return the statement that creates each index."""
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(TABLES)
        return dict(model.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index'"))
