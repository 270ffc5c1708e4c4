"""`watch --cursor-file`: the place in the stream, kept in a file from one run to the next."""

import errno
import os
import re
from pathlib import Path

from netscanctl.client import Failure, Usage
from netscanctl.stream import Place
from netscand.protocol import ServerMessage

CURSOR = re.compile(r"[!-~]{1,128}")


class Bookmark:
    """Where to go on, in a file; None: nowhere."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(os.path.realpath(path)) if path else None
        self._place = Place()
        self._kept: str | None = None

    def read(self) -> str | None:
        """The cursor in the file; None where there is no file yet, or an empty one.

        Raises Usage, also where none could be kept.
        """
        if self._path is None:
            return None
        try:
            if not os.access(self._path.parent.resolve(strict=True), os.W_OK | os.X_OK):  # where each place is drafted
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            text = self._path.read_bytes().decode(errors="replace").strip() if self._path.exists() else ""
        except OSError as wrong:
            raise Usage(f"--cursor-file: {self._path}: {wrong.strerror}") from None
        if text and not CURSOR.fullmatch(text):
            raise Usage(f"--cursor-file: {self._path}: expected one cursor")
        return text or None

    def note(self, message: ServerMessage | None) -> str | None:
        """The place behind a message."""
        self._place.note(message)
        return self._place.cursor

    def keep(self, cursor: str | None) -> None:
        """Write it down: all up to it is told. Raises Failure."""
        if self._path is None or cursor is None or cursor == self._kept:
            return
        draft = self._path.with_name(f".{self._path.name}.new")
        try:
            draft.write_text(f"{cursor}\n")
            draft.replace(self._path)
        except OSError as wrong:
            raise Failure(f"--cursor-file: {self._path}: {wrong.strerror}") from None
        self._kept = cursor
