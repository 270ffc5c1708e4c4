"""The files of an open database: their loss and damage detected, and what can be saved.

store/maintenance.py looks for loss and damage. `Writer._repair` in store/writer.py saves, sets aside and opens again,
because only the writer's thread may replace its connection. Damage found at a start: store/opening.py.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from zlib import crc32

from netscand.store.database import back_up, connect
from netscand.store.paths import aside_name
from netscand.store.schema import what_is_missing

# ---- files ---------------------------------------------------------------------------------------------------------
# The files of an open database: whether they are still those that were opened, and what was written into them.
#
# SQLite does not notice: it continues in a file that has no name any more, and reads what others wrote into its pages.

ENDS = ("", "-wal", "-shm")

PAGE, LOG_HEADER, FRAME_HEADER = 4096, 32, 24
"""Bytes (sqlite.org/fileformat2.html, sections 4.1 and 4.2)."""

FRAME, AT_ONCE = FRAME_HEADER + PAGE, 256
"""Bytes of a frame of the log, and frames read at once. Each read gives up the interpreter, and has to wait for it."""

MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
SALTS = slice(16, 24)
"""Position in the log's header; each frame of this log repeats them, as its third and fourth number."""

ROOM = 4 * PAGE
"""Bytes that must be free for a write to succeed."""


class Files:
    """The files of a database that is open and has a log.

    The database and its `-shm` are never opened here: closing them would release SQLite's locks
    (sqlite.org/howtocorrupt.html, section 2.2). It has none on the log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = {end: _identity(os.stat(f"{path}{end}")) for end in ENDS}
        self._main = self._log = (0, 0)
        self._header = b""
        self._frames = self._checksum = 0
        """Number of frames that the log had, and the checksum of all of them."""
        self.wrote()

    def wrote(self) -> None:
        """Take the database as it is: netscand wrote into it."""
        self._main = _written(os.stat(self._path))

    def was_written(self) -> bool:
        """Return whether another process wrote into the database since `wrote`. Raises OSError."""
        return _written(os.stat(self._path)) != self._main

    def was_cut(self) -> str:
        """Return what is wrong with the end of the database since `wrote`; or nothing. Raises OSError."""
        return f"{self._path.name} was truncated" if os.stat(self._path).st_size < self._main[0] else ""

    def is_ours(self, end: str) -> bool:
        """Return whether the file with that name is still the one that was opened."""
        with suppress(OSError):
            return _identity(os.lstat(f"{self._path}{end}")) == self._opened[end]
        return False

    def gone(self) -> str:
        """Return which file is missing or replaced; or nothing. Raises OSError where that cannot be known."""
        for end in ENDS:
            name = f"{self._path.name}{end}"
            try:
                found = os.lstat(f"{self._path}{end}")
            except (FileNotFoundError, NotADirectoryError):
                return f"{name} is gone"
            if _identity(found) != self._opened[end]:
                return f"{name} is another file now"
        return ""

    def log_damage(self, resting: AbstractContextManager[object]) -> str:
        """Return what is wrong with frames that the log had at the last call; or nothing. Raises OSError.

        While `resting` is held, the writer does not write. A log that was restarted keeps its size, so a frame in it
        may be incomplete when its header is found. It is complete once the writer rests.
        """
        name = f"{self._path}-wal"
        with resting:
            state = os.stat(name)
        if _written(state) == self._log:
            return ""
        with open(name, "rb", buffering=0) as log:
            header = os.pread(log.fileno(), LOG_HEADER, 0)
            known, expected = (self._frames, self._checksum) if header == self._header else (0, 0)
            count = _committed(log.fileno(), header[SALTS], known, state.st_size)
            with resting:
                pass
            found = _checksum(log.fileno(), 0, known, 0)
            checksum = _checksum(log.fileno(), known, count, found)
            if os.pread(log.fileno(), LOG_HEADER, 0) != header:
                return ""  # it was restarted meanwhile: next time
        harmed = found != expected if header[:4] in MAGIC else self._frames or state.st_size
        if harmed:
            return f"{self._path.name}-wal was truncated or overwritten"
        self._log, self._header, self._frames, self._checksum = _written(state), header, count, checksum
        return ""

    def log_was_cut(self) -> None:
        """Take the log as it is: netscand truncated it."""
        self._log, self._header, self._frames = _written(os.stat(f"{self._path}-wal")), b"", 0

    def trouble(self) -> str:
        """Return why the files could not be written or opened again; or nothing. Raises OSError."""
        folder = self._path.parent
        for path, rights in ((folder, os.R_OK | os.W_OK | os.X_OK), (self._path, os.R_OK | os.W_OK)):
            disk = os.statvfs(path)
            if disk.f_flag & os.ST_RDONLY:
                return f"the file system of {path} is read-only"
            if not os.access(path, rights, effective_ids=True):
                return f"no permission to read and write {path}"
        free = disk.f_bavail if os.geteuid() else disk.f_bfree
        if disk.f_blocks and free * disk.f_frsize < ROOM:
            return f"the disk of {folder} is full"
        return ""


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _written(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _blocks(log: int, first: int, end: int) -> Iterator[bytes]:
    """Yield the frames of the log from `first` on up to `end`, AT_ONCE at a time."""
    for start in range(first, end, AT_ONCE):
        yield os.pread(log, (min(start + AT_ONCE, end) - start) * FRAME, LOG_HEADER + start * FRAME)


def _committed(log: int, salts: bytes, known: int, size: int) -> int:
    """Return how many frames at the beginning belong to the current log, up to the last commit; `known`: at least.

    SQLite may overwrite what follows a commit.
    """
    committed = number = known
    for block in _blocks(log, known, (size - LOG_HEADER) // FRAME):
        for at in range(0, len(block), FRAME):
            if block[at + 8 : at + 16] != salts:
                return committed
            number += 1
            if any(block[at + 4 : at + 8]):  # the size of the database after a commit
                committed = number
    return committed


def _checksum(log: int, first: int, end: int, before: int) -> int:
    """Return the checksum of frames; `before`: that of those before them."""
    for block in _blocks(log, first, end):
        before = crc32(block, before)
    return before


# ---- salvage -------------------------------------------------------------------------------------------------------
# Saves what can be saved when the files of an open database were removed, replaced or damaged (FAULTS F8).
#
# Either the open connection still has everything, in files without a name; or a copy is made of what a start would
# find: the database, and the undamaged part of its log. A copy replaces the old database only after it was checked.

PIECE = 4 * 2**20
"""Bytes copied between two calls of `alive`."""

STEPS = 1_000_000
"""Steps of SQLite between two calls of `alive`."""


def copy_of_open(database: sqlite3.Connection, path: Path, alive: Callable[[], object]) -> Path | None:
    """Copy what an open connection has to a file beside `path`; None if that is damaged. Raises OSError."""
    draft = _new_draft(path)
    try:
        back_up(database, draft, alive)
        return draft if _is_whole(draft, alive) else None
    except sqlite3.Error as wrong:
        if _is_about_room(wrong):
            raise
        return None


def copy_of_files(path: Path, alive: Callable[[], object]) -> Path | None:
    """Copy what a start would find to a file beside `path`; None if that is damaged. Raises OSError."""
    draft = _new_draft(path)
    try:
        _copy(path, draft, alive)
        with suppress(FileNotFoundError):
            _copy(Path(f"{path}-wal"), Path(f"{draft}-wal"), alive)
        return draft if _is_whole(draft, alive) else None
    except FileNotFoundError:
        return None
    except sqlite3.Error as wrong:
        if _is_about_room(wrong):
            raise
        return None


def put_in_place(draft: Path, path: Path, files: Files) -> None:
    """Move a copy to its path; files there that are not netscand's are renamed. Raises OSError."""
    aside = aside_name(path, "replaced")
    for end in ENDS:
        if os.path.lexists(f"{path}{end}") and not files.is_ours(end):
            os.rename(f"{path}{end}", f"{aside}{end}")
    for end in ENDS[1:]:
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{end}")
    os.rename(draft, path)


def is_empty(path: Path) -> bool:
    """Return whether there is no database, or an empty one with an empty log. Raises OSError."""
    if not path.exists():
        return True
    if path.stat().st_size:
        return False
    with suppress(sqlite3.Error), closing(connect(path)) as database:
        return bool(database.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,))
    return True


def take_draft(path: Path) -> bool:
    """Replace an empty database by the copy that a kill left, if it is undamaged; return whether. Raises OSError."""
    draft = _draft(path)
    with suppress(sqlite3.Error):
        if draft.exists() and _is_whole(draft, lambda: None):
            for end in ENDS[1:]:
                Path(f"{path}{end}").unlink(missing_ok=True)
            os.rename(draft, path)
            return True
    return False


def _draft(path: Path) -> Path:
    """Return the path of a copy; if a kill left one, the next start uses or removes it (store/opening.py)."""
    return path.with_name(f"{path.name}.copy-saved")


def _new_draft(path: Path) -> Path:
    draft = _draft(path)
    for end in ENDS:
        with suppress(FileNotFoundError):
            os.unlink(f"{draft}{end}")
    return draft


def _is_whole(draft: Path, alive: Callable[[], object]) -> bool:
    """Return whether a copy is an undamaged database with all tables; make it a single file."""
    with closing(connect(draft)) as database:
        database.set_progress_handler(lambda: bool(alive()) and False, STEPS)
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        whole = verdict == "ok" and not what_is_missing(database)
        database.execute("PRAGMA journal_mode = DELETE")
    return whole


def _copy(source: Path, target: Path, alive: Callable[[], object]) -> None:
    how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with source.open("rb", buffering=0) as reading, open(os.open(target, how, 0o600), "wb", buffering=0) as writing:
        while piece := reading.read(PIECE):
            writing.write(piece)
            alive()


def _is_about_room(wrong: sqlite3.Error) -> bool:
    """Return whether there was no room for the copy: the file that is copied may be undamaged."""
    return getattr(wrong, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN)
