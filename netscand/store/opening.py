"""Opening at a start: a database, none yet, a damaged one, or a disk that refuses."""

import logging
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netscand.core.model import NEVER_SEEN, EventKind, Mac, PersonStatus, Status
from netscand.core.restore import Memory, Remembered, RememberedMerge, RememberedPerson
from netscand.store.database import (
    HistoryBroken,
    is_broken,
    new_epoch,
    open_database,
    refuse_foreign,
)
from netscand.store.lock import Lock
from netscand.store.paths import prepare, refuse_remote, set_aside
from netscand.store.reader import Decode
from netscand.store.repair import is_empty, take_draft
from netscand.store.retention import Clock, clock_of
from netscand.store.rows import (
    DEVICE_COLUMNS,
    KINDS,
    PERSON_KINDS,
    WRONG,
    mac_number,
    mac_of,
    remembered,
    remembered_merge,
    remembered_person,
    seconds,
    unpack,
)
from netscand.store.writer import RESERVED, cannot_be_written

log = logging.getLogger(__name__)

NEVER_RAN = Clock(0, 0, 0)

DEVICE = f"SELECT {', '.join('device.' + name for name in DEVICE_COLUMNS)}, seen.at, seen.confirmed FROM device"  # noqa: S608


@dataclass(slots=True)
class Opened:
    """The result: `database` is None if nothing can be written; then `trouble` says why, and the numbering is new."""

    memory: Memory
    database: sqlite3.Connection | None = None
    epoch: str = field(default_factory=new_epoch)
    last: int = 0
    """The last number that a client may have."""
    reserved: int = 0
    """No number up to this one may be given out again."""
    clock: Clock = NEVER_RAN
    trouble: str = ""
    notice: str = ""


def open_history(path: Path, lock: Lock, wall: int, decode: Decode) -> Opened:
    """Open the database to write; create, migrate, or set it aside and create a new one, if necessary.

    `wall`: the wall clock, in milliseconds; `decode`: see Decode. Raises HistoryRefused (a network file system, a
    file of another program, a newer schema), HistoryInUse.
    """
    refuse_remote(path)
    refuse_foreign(path)
    notice = ""
    try:
        lock.take()
        if lock.known and is_empty(path):
            taken = take_draft(path)
            left = "a copy that netscand had made replaces it" if taken else "a new one was created"
            notice = f"the history {path.name} was empty or missing, though it had been written; {left}"
            log.error("%s", notice)
        _sweep(path)
        try:
            opened = _open(path, wall, decode)
            opened.notice = notice
            return opened
        except HistoryBroken as wrong:
            why = str(wrong)
        except sqlite3.DatabaseError as wrong:
            if not is_broken(wrong):
                raise
            why = str(wrong)
        name = set_aside(path, why)
        notice = f"the history was damaged and set aside as {name}; a new one was created"
        opened = _open(path, wall, decode)
    except (sqlite3.Error, OSError) as wrong:
        trouble = cannot_be_written(wrong)
        log.error("%s", trouble)
        return Opened(_read_only(path, decode), clock=Clock(wall, 0, 0), trouble=trouble, notice=notice)
    opened.notice = notice
    return opened


def _open(path: Path, wall: int, decode: Decode) -> Opened:
    prepare(path)
    database = open_database(path)
    try:
        memory = remember(database, decode)
        epoch, reserved, last = database.execute(
            "SELECT epoch, reserved, max(floor, hole, (SELECT ifnull(max(sequence), 0) FROM event)) FROM state"
        ).fetchone()
        clock = clock_of(database, wall)
        reserved = max(reserved, last)
        # Synced, so that no number of this run is given out again after a power loss.
        database.execute("PRAGMA synchronous = FULL")
        database.execute("UPDATE state SET reserved = ?", (reserved + RESERVED,))
        database.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        database.close()
        raise
    return Opened(memory, database, epoch, last, reserved, clock)


def _read_only(path: Path, decode: Decode) -> Memory:
    """Return what a database contains that can only be read: names and labels are better than none."""
    # Without a log the file is complete by itself; with one, SQLite can read it only if it can write or has it open.
    how = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as database,
    ):
        return remember(database, decode)
    return Memory((), 0.0)


def _sweep(path: Path) -> None:
    """Remove copies that a backup left when the daemon was killed."""
    for left in path.parent.glob(f"{path.name}.copy-*"):
        left.unlink()


# ---- what a start finds ----------------------------------------------------------------------------------------------


def remember(database: sqlite3.Connection, decode: Decode) -> Memory:
    """Return what a start finds: the rows of devices, and for those that changed later, their last events.

    Raises sqlite3.Error.
    """
    shown, alive_at, lived = database.execute("SELECT shown, alive_at, lived FROM state").fetchone()
    stored = database.execute(f"{DEVICE} LEFT JOIN seen USING (mac) ORDER BY device.mac")
    devices = {row[0]: remembered(row[:-2], *row[-2:]) for row in stored}
    latest, last, gone, of_people = _last_events(database, devices, shown)
    people, damaged = _people(database), []
    for sequence, kind, body in of_people:
        try:
            person = decode(unpack(body))
        except WRONG:
            damaged.append(sequence)
            continue
        if isinstance(person, RememberedPerson):
            was = people.pop((person.former_name or person.name).casefold(), None)
            if was is not None and person.status is PersonStatus.UNKNOWN:  # an event does not show it
                person = person._replace(last_since=was.last_since)
            if kind != KINDS[EventKind.PERSON_REMOVED]:
                people[person.name.casefold()] = person
    for mac, (sequence, confirmed, chosen, body) in last.items():
        try:
            device = decode(unpack(body))
        except WRONG:
            damaged.append(sequence)
            continue
        if isinstance(device, Remembered):
            device.sequence, device.chosen, device.confirmed = sequence, chosen, bool(confirmed)
            devices[mac] = _joined(device, devices.get(mac))
    if damaged:
        log.error("stored event %d is damaged (of %d); its device is restored without it", damaged[0], len(damaged))
    alive_until = max(seconds(alive_at) if alive_at else 0.0, latest)
    known_time = min(lived / 1000, alive_until)
    return Memory(
        tuple(devices.values()),
        alive_until,
        known_time,
        lived / 1000,
        unwritten={mac_of(mac) for mac in last},
        gone=gone,
        people=tuple(people.values()),
        merges=_merges(database, [devices[mac] for mac in last if mac in devices], shown, decode),
    )


def _merges(
    database: sqlite3.Connection, latest: Sequence[Remembered], shown: int, decode: Decode
) -> tuple[RememberedMerge, ...]:
    """Return the merged MACs of their table, without those that are damaged; of the `latest` devices, as these show."""
    merges = {}
    for mac, *values in database.execute("SELECT mac, body, device FROM merged"):
        try:
            merges[mac_of(mac)] = remembered_merge(mac, *values)
        except WRONG as wrong:
            log.error("the merge of MAC %r is damaged (%r); it is omitted", mac, wrong)
    for device in latest:
        if device.merged is not None:
            of_it = {mac: merge for mac, merge in merges.items() if merge.into == device.mac}
            for mac in of_it.keys() - set(device.merged):
                del merges[mac]
            for mac in device.merged:
                merges[mac] = of_it.get(mac) or RememberedMerge(
                    _forgotten(database, mac, device, shown, decode), device.mac
                )
    return tuple(merges.values())


def _forgotten(database: sqlite3.Connection, mac: Mac, into: Remembered, shown: int, decode: Decode) -> Remembered:
    """Return a device as the event shows it by which it was forgotten when it was merged."""
    found = database.execute(
        "SELECT body, confirmed, chosen FROM event WHERE sequence > ? AND mac = ? AND kind = ? ORDER BY sequence DESC",
        (shown, mac_number(mac), KINDS[EventKind.FORGOTTEN]),
    ).fetchone()
    with suppress(*WRONG):
        if found is not None and isinstance(was := decode(unpack(found[0])), Remembered):
            was.confirmed, was.chosen = bool(found[1]), found[2]
            return was
    return Remembered(mac, into.first_seen, into.first_seen, Status.UNKNOWN, into.first_seen, "")


def _people(database: sqlite3.Connection) -> dict[str, RememberedPerson]:
    """Return the people of their table, by name in lower case; without those that are damaged."""
    people = {}
    for name, body in database.execute("SELECT name, body FROM person"):
        try:
            people[name] = remembered_person(body)
        except WRONG as wrong:
            log.error("person %r is damaged (%r); it is omitted", name, wrong)
    return people


def _last_events(
    database: sqlite3.Connection, devices: dict[int, Remembered], shown: int
) -> tuple[float, dict[int, tuple[Any, ...]], set[Mac], list[tuple[int, int, Any]]]:
    """Return the time of the last event, the last event of each MAC that no row shows, and forgotten MACs.

    And the events about people. A device that was forgotten is removed from `devices`.
    """
    latest, last, gone, of_people = 0.0, dict[int, tuple[Any, ...]](), set[Mac](), list[tuple[int, int, Any]]()
    person_kinds = {KINDS[each] for each in PERSON_KINDS}
    text = "SELECT sequence, at, kind, mac, confirmed, chosen, body FROM event WHERE sequence > ? ORDER BY sequence"
    for sequence, at, kind, mac, *rest in database.execute(text, (shown,)):
        try:
            latest = max(latest, seconds(at))
            device = mac_of(mac) if mac is not None else None
        except WRONG:
            continue
        if kind in person_kinds:
            of_people.append((sequence, kind, rest[-1]))
        if device is None or ((row := devices.get(mac)) is not None and row.sequence >= sequence):
            continue
        if kind == KINDS[EventKind.FORGOTTEN]:
            devices.pop(mac, None)
            last.pop(mac, None)
            gone.add(device)
        else:
            last[mac] = (sequence, *rest)
            gone.discard(device)
    return latest, last, gone, of_people


def _joined(device: Remembered, row: Remembered | None) -> Remembered:
    """Return a device as an event shows it, completed from its older row."""
    if row is not None and row.reason != NEVER_SEEN:
        device.first_seen, device.last_seen = row.first_seen, max(device.last_seen, row.last_seen)
        device.confirmed = device.confirmed or row.confirmed
        device.learned, device.learned_at = row.learned, row.learned_at
        device.vendor_class, device.parameters, device.services = row.vendor_class, row.parameters, row.services
    return device
