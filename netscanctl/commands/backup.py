"""`netscanctl backup FILE`: a consistent copy of the history."""

import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import click

from netscanctl.atomic_file import resolve_links, write_atomically
from netscanctl.cli import Session
from netscanctl.client import Failure, Usage
from netscanctl.render import size

T = TypeVar("T")
MAGIC = b"SQLite format 3\x00"
"""First bytes of a database (https://sqlite.org/fileformat2.html, 1.3)."""
TIMEOUT = 300.0
"""Seconds between two chunks: the daemon copies the whole database before it sends the first."""


@click.command("backup", short_help="Save a consistent copy of the history.")
@click.argument("file", metavar="FILE", type=click.Path(allow_dash=True))
@click.pass_obj
def command(session: Session, file: str) -> None:
    """Save a consistent copy of the history as FILE (-: stdout), while the daemon keeps running.

    An existing FILE is replaced once the copy is complete. Only you can read the file.
    """

    def download(write: Callable[[bytes], object]) -> int:
        copy = DatabaseWriter(write)
        session.client.fetch("/api/backup", copy.write, timeout=TIMEOUT)
        copy.write(b"")  # raises Failure for an empty answer
        return copy.size

    if file == "-":
        if session.terminal.is_terminal:
            raise Usage("refusing to write a binary database to the terminal; give a file name")
        download(sys.stdout.buffer.write)
        sys.stdout.buffer.flush()
        return
    try:
        saved = save(resolve_links(file), download)
    except OSError as error:
        raise Failure(f"cannot write {file}: {error.strerror or error}") from None
    session.terminal.notice(f"saved {file} ({size(saved)})")


class DatabaseWriter:
    """Writer that checks the header of a database, and counts the bytes."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.size = 0
        self._write = write

    def write(self, chunk: bytes) -> None:
        """Write a chunk. Raises Failure if the data is not a database, and the exceptions of the writer."""
        if not self.size and not chunk.startswith(MAGIC):
            raise Failure("the daemon sent invalid data: not an SQLite database")
        self._write(chunk)
        self.size += len(chunk)


def save(path: Path, download: Callable[[Callable[[bytes], object]], T]) -> T:
    """Replace `path` by the download, readable by the user only; return its result. Raises Failure, OSError."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise Failure(f"{path} is not a regular file; give another file name")
    return write_atomically(path, lambda out: download(out.write))
