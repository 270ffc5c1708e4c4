"""Paths of the history: a folder of netscand's own, on a disk of this machine."""

import logging
import os
import re
import stat
import time
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

REMOTE = frozenset((
    "9p", "afs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.davfs", "fuse.glusterfs", "fuse.rclone",
    "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb3",
    "smbfs",
))  # fmt: skip
"""File systems that other machines share: WAL needs memory shared by all processes that open the file
(sqlite.org/wal.html), and their locks are unreliable."""


class HistoryRefused(Exception):
    """A history that must not be used; the text is one line with the reason and the remedy."""


def prepare(path: Path) -> None:
    """Create the folder and the file with modes 0700 and 0600; SQLite would use the umask (FAULTS T19).

    Raises HistoryRefused, OSError.
    """
    refuse_remote(path)
    make_folder(path)
    refuse_open(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    if not path.exists():
        os.close(os.open(path, flags, 0o600))
    elif path.stat().st_mode & 0o077:
        path.chmod(0o600)  # SQLite gives -wal and -shm the mode of the database


def refuse_open(path: Path) -> None:
    """Refuse a folder that others may write to, and a file of another user. Raises HistoryRefused, OSError."""
    for named in dict.fromkeys((path, Path(os.path.realpath(path)))):
        for folder in named.parents:
            if who := _writers(folder, above=folder != named.parent):
                raise HistoryRefused(
                    f"[history] path: {who} may write to {folder}, and could read or replace the history; "
                    "use a path in a folder of its own"
                )
    owner = path.stat().st_uid if path.exists() else 0
    if owner not in (0, os.geteuid()):
        raise HistoryRefused(f"[history] path: {path} belongs to the user {owner}, who can read it; use another path")


def _writers(folder: Path, *, above: bool) -> str:
    """Return who else may put a file into a folder; with `above`: or replace a folder in it."""
    found = folder.stat()
    if found.st_mode & stat.S_IWOTH and not (above and found.st_mode & stat.S_ISVTX):
        return "every user"
    if found.st_mode & stat.S_IWGRP and not above and found.st_gid not in (0, os.getegid()):
        return f"the group {found.st_gid}"
    return ""


def make_folder(path: Path) -> None:
    """Create the folder of a database, if it is missing, with mode 0700. Raises OSError."""
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True)


def refuse_remote(path: Path, mounts: str | None = None) -> None:
    """Refuse a file system that is shared over the network. `mounts`: text as of /proc/self/mountinfo (proc(5)).

    Raises HistoryRefused.
    """
    text = Path("/proc/self/mountinfo").read_text() if mounts is None else mounts
    real = os.path.realpath(path)
    kind, longest = "", -1
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, rest = left.split(" "), right.split(" ")
        if len(fields) < 5 or not rest:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:  # of two mounts at one point the later covers the earlier
            kind, longest = rest[0], len(point)
    if kind in REMOTE:
        raise HistoryRefused(
            f"[history] path: {path} is on {kind}, a network file system, where SQLite can lose or break it; "
            "use a path on a disk of this machine"
        )


def aside_name(path: Path, why: str) -> Path:
    """Return an unused name for a file that is set aside."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = path.with_name(f"{path.name}.{why}-{stamp}")
    count = 1
    while target.exists():
        count += 1
        target = path.with_name(f"{path.name}.{why}-{stamp}-{count}")
    return target


def set_aside(path: Path, why: str) -> str:
    """Rename a damaged database and its other files; return its new name. Raises OSError."""
    target = aside_name(path, "corrupt")
    for end in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.rename(f"{path}{end}", f"{target}{end}")
    log.error("the history %s is damaged (%s); it is set aside as %s", path, why, target.name)
    return target.name
