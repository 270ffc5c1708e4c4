"""`netscanctl backup FILE`: a consistent copy of the history."""

import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from netscanctl.cli import Session
from netscanctl.client import Failure, Usage
from netscanctl.render import size
from netscanctl.whole_file import followed, replace

MAGIC = b"SQLite format 3\x00"
"""How a database begins (https://sqlite.org/fileformat2.html, 1.3)."""
SLOW = 300.0
"""Seconds that the daemon may need between two pieces: it copies all before it sends the first."""


@click.command("backup", short_help="Save a consistent copy of the history.")
@click.argument("file", metavar="FILE", type=click.Path(allow_dash=True))
@click.pass_obj
def command(session: Session, file: str) -> None:
    """Save a copy of the history, consistent while the daemon runs on, as FILE (-: to stdout).

    A FILE that is there is replaced when the copy is whole; nobody but you can read it.
    """

    def copy(write: Callable[[bytes], object]) -> int:
        written = Copy(write)
        session.client.fetch("/api/backup", written.take, patience=SLOW)
        written.take(b"")
        return written.size

    if file == "-":
        if session.terminal.is_terminal:
            raise Usage("a database is nothing for a terminal: name a file")
        copy(sys.stdout.buffer.write)
        sys.stdout.buffer.flush()
        return
    try:
        done = save(followed(file), copy)
    except OSError as wrong:
        raise Failure(f"cannot write {file}: {wrong.strerror or wrong}") from None
    session.terminal.talk(f"{file}: {size(done)}")


class Copy:
    """What comes, passed on and counted; it must begin as a database does."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.size = 0
        self._write = write

    def take(self, piece: bytes) -> None:
        """Pass it on; nothing is the end. Raises Failure for what is no database, and what the writer raises."""
        if not self.size and not piece.startswith(MAGIC):
            raise Failure("what the daemon sends is no database")
        self._write(piece)
        self.size += len(piece)


def save(path: Path, copy: Callable[[Callable[[bytes], object]], int]) -> int:
    """Write by `copy` what becomes `path`, for nobody else's eyes. Raises Failure, OSError."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise Failure(f"{path} is no regular file")
    return replace(path, lambda out: copy(out.write))
