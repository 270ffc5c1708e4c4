"""The stream cursor, saved in a file between runs: of `watch --cursor-file`, and of the services."""

import asyncio
import errno
import os
import re
import stat
from pathlib import Path

from netscanctl.atomic_file import resolve_links, write_atomically
from netscanctl.client import Failure, Usage
from netscanctl.stream import CursorTracker
from netscand.protocol import ServerMessage

CURSOR = re.compile(r"[!-~]{1,128}")

WRITE_INTERVAL = 1.0
"""Seconds between two writes: each waits for the disk, and thousands of events may arrive at once."""


class DamagedCursor(Usage):
    """The file contains something else than a cursor."""


class CursorFile:
    """Cursor file; `path` None: nothing is saved. Messages name the `option` that gives the path."""

    def __init__(self, path: str | None, option: str = "--cursor-file") -> None:
        self._option = path
        self._name = option
        self._path: Path | None = None
        self._tracker = CursorTracker()
        self._saved: str | None = None
        self._pending: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failure: Failure | None = None

    def load(self) -> str | None:
        """Return the cursor in the file; None if the file is missing or empty.

        Raises Usage if the folder is not writable, and DamagedCursor; `save` replaces a damaged file.
        """
        if self._option is None:
            return None
        try:
            self._path = resolve_links(self._option)
            if not os.access(self._path.parent.resolve(strict=True), os.W_OK | os.X_OK):  # for the temporary file
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            text = self._path.read_bytes().decode(errors="replace").strip() if self._path.exists() else ""
        except OSError as error:
            raise Usage(f"{self._name}: {self._path or self._option}: {error.strerror}") from None
        if text and not CURSOR.fullmatch(text):
            raise DamagedCursor(
                f"{self._name}: {self._path} does not contain a cursor; use another file, or delete this one"
            )
        return text or None

    def advance(self, message: ServerMessage | None) -> str | None:
        """Return the cursor after a message; `save` stores it once the message has been processed."""
        self._tracker.advance(message)
        return self._tracker.cursor

    def save(self, cursor: str | None) -> None:
        """Store the cursor now or within WRITE_INTERVAL. Raises Failure, also for an earlier delayed write."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._path is None or cursor is None:
            return
        self._pending = cursor
        if self._timer is None and cursor != self._saved:
            self._write(self._path, cursor)
            self._timer = asyncio.get_running_loop().call_later(WRITE_INTERVAL, self._save_pending)

    def close(self) -> None:
        """Store the pending cursor. Raises Failure."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._path is not None and self._pending is not None and self._pending != self._saved:
            self._write(self._path, self._pending)

    def _save_pending(self) -> None:
        self._timer = None
        try:
            self.save(self._pending)
        except Failure as failure:
            self._failure = failure  # raised by the next `save`

    def _write(self, path: Path, cursor: str) -> None:
        try:
            write_atomically(path, lambda out: out.write(f"{cursor}\n".encode()), _mode(path))
        except OSError as error:
            raise Failure(f"{self._name}: {path}: {error.strerror}") from None
        self._saved = cursor


def _mode(path: Path) -> int:
    """Return the mode of the existing file if we own it, else the default mode of a new file."""
    try:
        status = path.stat()
        if status.st_uid == os.geteuid():
            return stat.S_IMODE(status.st_mode)
    except FileNotFoundError:
        pass
    os.umask(mask := os.umask(0o077))
    return 0o666 & ~mask
