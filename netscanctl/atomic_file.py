"""Atomic replacement of files named by the user, without following symbolic links planted by other users."""

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

T = TypeVar("T")

MAX_LINKS = 40
"""Links followed for one path, as in the kernel (path_resolution(7))."""


def resolve_links(path: str) -> Path:
    """Resolve all symbolic links in the path of a file, so that a link stays a link; the file need not exist.

    Raises OSError, and PermissionError for a link of another user in a folder that others can write to, such as /tmp:
    it could lead to any file of the user who runs us (proc(5), protected_symlinks).
    """
    return _resolve(Path.cwd() / path, MAX_LINKS)


def _resolve(path: Path, links_left: int) -> Path:
    resolved = Path("/")
    for part in path.parts[1:]:
        resolved = resolved.parent if part == ".." else resolved / part
        if not resolved.is_symlink():
            continue
        folder, owner = resolved.parent.stat(), resolved.lstat().st_uid
        if folder.st_mode & (stat.S_IWOTH | stat.S_IWGRP) and owner not in (0, os.geteuid(), folder.st_uid):
            raise PermissionError(
                errno.EPERM, f"{resolved} is a symbolic link of another user, in a folder that others can write to"
            )
        if not links_left:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        resolved = _resolve(resolved.parent / os.readlink(resolved), links_left - 1)
    return resolved


def write_atomically(
    path: Path, write: Callable[[BinaryIO], T], mode: int = 0o600, *, owner: tuple[int, int] | None = None
) -> T:
    """Call `write` with a temporary file, and move it to `path` once it is on the disk; return the result of `write`.

    `owner`: uid and gid of the file.

    Raises OSError, and the exceptions of `write`.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # an unpredictable name
    try:
        with open(descriptor, "wb") as out:
            result = write(out)
            out.flush()
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    return result
