"""The lock file of the history: one daemon at a time writes to it.

The Unix socket has a lock of its own (serve/listen.py).
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from netscand.store.paths import HistoryRefused, make_folder

KNOWN = b"a history was written\n"
"""In the lock file, after the process."""


class HistoryInUse(HistoryRefused):
    """Another daemon writes to it."""


class Lock:
    """Lock file that keeps a second daemon from the same database; held while the process lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self.known = False
        """A history was written here: the lock file says so, whatever happens to the database."""

    def take(self) -> None:
        """Take the lock. Raises HistoryInUse, with the process that has it; OSError."""
        if self._file >= 0:
            return
        make_folder(self._path)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(f"{self._path}.lock", flags, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(file, 16, 0).decode(errors="replace").partition("\n")[0]
            os.close(file)
            raise HistoryInUse(f"another netscand (process {pid or '?'}) writes to {self._path}") from None
        except OSError:
            os.close(file)
            raise
        self._file = file
        self.known |= KNOWN in os.pread(file, 64, 0)
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode() + (KNOWN if self.known else b""), 0)

    def mark(self) -> None:
        """Record that a history is written here. Raises OSError."""
        if not self.known and self._file >= 0:
            os.pwrite(self._file, KNOWN, len(f"{os.getpid()}\n"))
            self.known = True

    def hold(self) -> None:
        """Take the lock again if its file was removed or replaced. Raises as `take`."""
        if self._file >= 0:
            with suppress(OSError):
                if os.path.samestat(os.fstat(self._file), os.stat(f"{self._path}.lock")):
                    return
            self.release()
        self.take()

    def release(self) -> None:
        """Release the lock. The file stays: if it were removed, two processes could each lock a file of that name."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
