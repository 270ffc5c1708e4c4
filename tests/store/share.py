"""A folder that the kernel takes for one of another machine: an empty file system in user space (fuse(4))."""

import ctypes
import errno
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

IN, OUT = struct.Struct("=IIQQIIII"), struct.Struct("=IiQ")
"""fuse_in_header: length, what is asked, number, node …; fuse_out_header: length, error, number (linux/fuse.h)."""

LOOKUP, FORGET, GETATTR, INIT = 1, 2, 3, 26

BUFFER = 2**17

LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def share(place: Path, kind: str = "fuse.sshfs") -> Iterator[Path]:
    """Mount it at `place`, a folder, while the block lasts. Needs root. Skips in a container that has no /dev/fuse."""
    if not Path("/dev/fuse").exists():
        pytest.skip("no /dev/fuse: systemd-nspawn --bind=/dev/fuse gives it to a container")
    place.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    if LIBC.mount(b"nas:/", bytes(place), kind.encode(), 0, options.encode()):
        raise OSError(ctypes.get_errno(), "mount")
    serving = threading.Thread(target=_serve, args=(device,), daemon=True)
    serving.start()
    try:
        yield place
    finally:
        LIBC.umount2(bytes(place), 2)  # MNT_DETACH: whatever is still asked is answered
        serving.join()


def _serve(device: int) -> None:
    with suppress(OSError), os.fdopen(device, "r+b", buffering=0):  # closed at the end, so that no process waits for us
        while True:  # ENODEV: unmounted
            asked = os.read(device, BUFFER)
            _, what, number, *_ = IN.unpack_from(asked)
            if what != FORGET:
                error, answer = _answer(what)
                os.write(device, OUT.pack(OUT.size + len(answer), -error, number) + answer)


def _answer(what: int) -> tuple[int, bytes]:
    if what == INIT:
        return 0, struct.pack("=IIIIHHI32x", 7, 31, 0, 0, 0, 0, 4096)
    if what == GETATTR:
        return 0, struct.pack("=16xQ52xIIIIII4x", 1, 0o40755, 2, 0, 0, 0, 4096)
    return (errno.ENOENT if what == LOOKUP else errno.ENOSYS), b""
