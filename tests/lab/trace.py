"""strace(1) on a process that runs already: what it opens and what it executes."""

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

CALLS = "execve,execveat,fork,vfork,%file"
ATTACHED = 60.0
"""Seconds that strace may need to hold every thread."""

LINE = re.compile(r'\d+ +(?:<\.\.\. )?(\w+)\((?:AT_FDCWD(?:<[^>]*>)?, |\d+(?:<[^>]*>)?, )?(?:"((?:[^"\\]|\\.)*)")?')


class Call(NamedTuple):
    """A system call, and the first path it was given."""

    name: str
    path: str


class Trace:
    """From the beginning of the block to its end, with all threads, and children if there were any."""

    def __init__(self, pid: int, file: Path) -> None:
        self._pid = pid
        self._file = file
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        argv = ["strace", "-f", "-qq", "-s", "4096", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(self._file)]
        self._process = subprocess.Popen([*argv, "-p", str(self._pid)], stderr=subprocess.PIPE)
        ends = time.monotonic() + ATTACHED
        while not all(_is_traced(task) for task in Path(f"/proc/{self._pid}/task").iterdir()):
            assert self._process.poll() is None, self._process.stderr and self._process.stderr.read().decode()
            assert time.monotonic() < ends, "strace did not attach"
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(ATTACHED)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def calls(self) -> Iterator[Call]:
        """What it did; after the block."""
        for line in self._file.read_text(errors="replace").splitlines():
            if found := LINE.match(line):
                yield Call(found[1], found[2] or "")


def _is_traced(task: Path) -> bool:
    try:
        status = (task / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return "\nTracerPid:\t0\n" not in status
