"""The files of an open database: whether they are still those that were opened, and what was written into them.

SQLite does not notice: it goes on in a file that has no name any more, and reads what others wrote into its pages.
"""

import os
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from zlib import crc32

ENDS = ("", "-wal", "-shm")

PAGE, LOG_HEADER, FRAME_HEADER = 4096, 32, 24
"""Bytes (sqlite.org/fileformat2.html, sections 4.1 and 4.2)."""

MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
SALTS = slice(16, 24)
"""Of the log's header; each frame that belongs to it repeats them, as its third and fourth number."""

ROOM = 4 * PAGE
"""Bytes that must be free for anything to be written."""


class Files:
    """Made when a database was opened, and has a log.

    Never opens the database or its `-shm`: to close them would take SQLite's locks away
    (sqlite.org/howtocorrupt.html, section 2.2). It has none on the log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = {end: _identity(os.stat(f"{path}{end}")) for end in ENDS}
        self._main = self._log = (0, 0)
        self._header = b""
        self._frames: list[int] = []
        """A checksum of each frame of the log, as it was when it was first seen."""
        self.wrote()

    def wrote(self) -> None:
        """Take the database as it is: we ourselves wrote into it."""
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

        While `resting` is held nobody writes. A log that began anew keeps its size, so a frame within it may be half
        written when its header is found. It is complete once nobody writes.
        """
        name = f"{self._path}-wal"
        with resting:
            state = os.stat(name)
        if _written(state) == self._log:
            return ""
        with open(name, "rb", buffering=0) as log:
            header = os.pread(log.fileno(), LOG_HEADER, 0)
            count = _committed(log.fileno(), header[SALTS], state.st_size)
            with resting:
                pass
            frames = _checksums(log.fileno(), count)
            if os.pread(log.fileno(), LOG_HEADER, 0) != header:
                return ""  # it began anew meanwhile: next time
        if header[:4] not in MAGIC:
            harmed = bool(self._frames or state.st_size)
        else:
            harmed = header == self._header and frames[: len(self._frames)] != self._frames
        if harmed:
            return f"{self._path.name}-wal was truncated or overwritten"
        self._log, self._header, self._frames = _written(state), header, frames
        return ""

    def trouble(self) -> str:
        """Why nothing could be written or read anew; or nothing. Raises OSError."""
        folder = self._path.parent
        for place, rights in ((folder, os.R_OK | os.W_OK | os.X_OK), (self._path, os.R_OK | os.W_OK)):
            disk = os.statvfs(place)
            if disk.f_flag & os.ST_RDONLY:
                return f"the file system of {place} is read-only"
            if not os.access(place, rights, effective_ids=True):
                return f"no right to read and write {place}"
        free = disk.f_bavail if os.geteuid() else disk.f_bfree
        if disk.f_blocks and free * disk.f_frsize < ROOM:
            return f"the disk of {folder} is full"
        return ""


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _written(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _committed(log: int, salts: bytes, size: int) -> int:
    """Return how many frames at the beginning belong to the log as it was begun last, up to the last commit.

    What follows a commit may be overwritten: SQLite gave it up.
    """
    committed, step = 0, FRAME_HEADER + PAGE
    for number in range((size - LOG_HEADER) // step):
        header = os.pread(log, FRAME_HEADER, LOG_HEADER + number * step)
        if header[8:16] != salts:
            break
        if any(header[4:8]):  # the size of the database after a commit
            committed = number + 1
    return committed


def _checksums(log: int, count: int) -> list[int]:
    step = FRAME_HEADER + PAGE
    return [crc32(os.pread(log, step, LOG_HEADER + number * step)) for number in range(count)]
