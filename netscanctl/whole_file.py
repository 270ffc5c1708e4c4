"""Files that a user names: replaced by a whole one or not at all, and never through a link that others planted."""

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

T = TypeVar("T")

LINKS = 40
"""Followed on the way to one file; the kernel follows as many (path_resolution(7))."""


def followed(path: str) -> Path:
    """Follow every link on the way to a file, so that a link stays a link; the file need not be there.

    Raises PermissionError for one that another user may have planted: whoever writes to a folder that others may write
    to, such as /tmp, must not be led to files of his own (proc(5), protected_symlinks). Raises OSError.
    """
    return _followed(Path.cwd() / path, LINKS)


def _followed(path: Path, most: int) -> Path:
    place = Path("/")
    for part in path.parts[1:]:
        place = place.parent if part == ".." else place / part
        if not place.is_symlink():
            continue
        folder, owner = place.parent.stat(), place.lstat().st_uid
        if folder.st_mode & (stat.S_IWOTH | stat.S_IWGRP) and owner not in (0, os.geteuid(), folder.st_uid):
            raise PermissionError(errno.EPERM, f"{place} is another user's link, in a folder that others may write to")
        if not most:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        place = _followed(place.parent / os.readlink(place), most - 1)
    return place


def replace(path: Path, write: Callable[[BinaryIO], T], mode: int = 0o600) -> T:
    """Let `write` write what becomes `path` only when it is whole and on the disk. Raises OSError, and as `write`."""
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # a name that nobody can plant
    try:
        with open(descriptor, "wb") as out:
            done = write(out)
            out.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise
    return done
