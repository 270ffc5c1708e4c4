"""`watch --cursor-file`: the place in the stream, kept in a file from one run to the next."""

import asyncio
import errno
import os
import re
import stat
from pathlib import Path

from netscanctl.client import Failure, Usage
from netscanctl.stream import Place
from netscanctl.whole_file import followed, replace
from netscand.protocol import ServerMessage

CURSOR = re.compile(r"[!-~]{1,128}")

APART = 1.0
"""Seconds between two writes: each waits for the disk, and thousands of events may come at once."""


class Bookmark:
    """Where to go on, in a file; None: nowhere."""

    def __init__(self, path: str | None) -> None:
        self._named = path
        self._path: Path | None = None
        self._place = Place()
        self._kept: str | None = None
        self._wanted: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failed: Failure | None = None

    def read(self) -> str | None:
        """The cursor in the file; None where there is no file yet, or an empty one.

        Raises Usage, also where none could be kept.
        """
        if self._named is None:
            return None
        try:
            self._path = followed(self._named)
            if not os.access(self._path.parent.resolve(strict=True), os.W_OK | os.X_OK):  # where each place is drafted
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            text = self._path.read_bytes().decode(errors="replace").strip() if self._path.exists() else ""
        except OSError as wrong:
            raise Usage(f"--cursor-file: {self._path or self._named}: {wrong.strerror}") from None
        if text and not CURSOR.fullmatch(text):
            raise Usage(f"--cursor-file: {self._path}: expected one cursor")
        return text or None

    def note(self, message: ServerMessage | None) -> str | None:
        """The place behind a message."""
        self._place.note(message)
        return self._place.cursor

    def keep(self, cursor: str | None) -> None:
        """Write it down, now or within a second: all up to it is told. Raises Failure."""
        if self._failed is not None:
            raise self._failed
        if self._path is None or cursor is None:
            return
        self._wanted = cursor
        if self._timer is None and cursor != self._kept:
            self._write(self._path, cursor)
            self._timer = asyncio.get_running_loop().call_later(APART, self._again)

    def close(self) -> None:
        """Write down what waits for its second. Raises Failure."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._path is not None and self._wanted is not None and self._wanted != self._kept:
            self._write(self._path, self._wanted)

    def _again(self) -> None:
        self._timer = None
        try:
            self.keep(self._wanted)
        except Failure as wrong:
            self._failed = wrong  # for who keeps the next one

    def _write(self, path: Path, cursor: str) -> None:
        try:
            replace(path, lambda out: out.write(f"{cursor}\n".encode()), _mode(path))
        except OSError as wrong:
            raise Failure(f"--cursor-file: {path}: {wrong.strerror}") from None
        self._kept = cursor


def _mode(path: Path) -> int:
    """The mode of the file that is there, if it is ours, else that of any new file."""
    try:
        found = path.stat()
        if found.st_uid == os.geteuid():
            return stat.S_IMODE(found.st_mode)
    except FileNotFoundError:
        pass
    os.umask(mask := os.umask(0o077))
    return 0o666 & ~mask
