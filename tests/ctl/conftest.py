"""netscanctl as a real process, beside a fake daemon on a real socket."""

import fcntl
import os
import pty
import queue
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ctl.fake import DEADLINE, FakeDaemon
from tests.ctl.nursery import Nursery

ROOT = Path(__file__).parents[2]
NOTHING = os.open(os.devnull, os.O_RDWR)
ZONE = "Asia/Tokyo"
"""Nine hours before UTC, no summer time: people must see 07:02 where the wire says 22:02."""


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local time of this process is ZONE's."""
    monkeypatch.setenv("TZ", ZONE)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def environment(**more: str) -> dict[str, str]:
    """Return an environment without settings of this machine."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "PYTHONPATH", "VIRTUAL_ENV") if key in os.environ}
    return {**kept, "LANG": "C.UTF-8", "TERM": "xterm-256color", "TZ": ZONE, **more}


@contextmanager
def pipes(count: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the read and write ends of pipes; the write ends are closed at the end of the block."""
    readers, writers = zip(*(os.pipe() for _ in range(count)), strict=True)
    try:
        yield list(readers), list(writers)
    finally:
        for end in writers:
            os.close(end)


def drained(*fds: int) -> list[str]:
    """Return the output of each pipe, up to its end."""
    output = dict.fromkeys(fds, b"")
    left, ends = set(fds), time.monotonic() + DEADLINE
    while left:
        ready, _, _ = select.select(left, [], [], max(0.0, ends - time.monotonic()))
        assert ready, f"timeout: {output}"
        for fd in ready:
            piece = os.read(fd, 65536)
            output[fd] += piece
            if not piece:
                os.close(fd)
                left.remove(fd)
    return [text.decode() for text in output.values()]


class Running:
    """Running netscanctl, with its lines of output."""

    def __init__(self, nursery: Nursery, args: tuple[str, ...], env: dict[str, str], *, fast: bool) -> None:
        self.out: queue.Queue[str | None] = queue.Queue()
        self.err: queue.Queue[str | None] = queue.Queue()
        with pipes(2) as (readers, writers):
            self.process = nursery.start(args, env, NOTHING, *writers, fast=fast)
        self._readers = [
            threading.Thread(target=_read, args=pair) for pair in zip(readers, (self.out, self.err), strict=True)
        ]
        for reader in self._readers:
            reader.start()

    def line(self) -> str:
        """The next line of stdout."""
        return _next(self.out, self.err)

    def lines(self, count: int) -> list[str]:
        """The next `count` lines of stdout."""
        return [self.line() for _ in range(count)]

    def notice(self) -> str:
        """The next line of stderr."""
        return _next(self.err, self.out)

    def quiet(self) -> bool:
        """Whether nothing more was printed on stdout."""
        return self.out.empty()

    def end(self, number: int | None = signal.SIGINT) -> int:
        """Send a signal (None: none) and give the exit code."""
        if number is not None and self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(DEADLINE)
        for reader in self._readers:
            reader.join(DEADLINE)
        return code

    def rest(self, lines: "queue.Queue[str | None]") -> list[str]:
        """What was printed and not read; after `end`."""
        found = []
        while (line := lines.get(timeout=DEADLINE)) is not None:
            found.append(line)
        return found


def _read(fd: int, lines: "queue.Queue[str | None]") -> None:
    with open(fd) as stream:
        for line in stream:
            lines.put(line.rstrip("\n"))
    lines.put(None)


def _next(lines: "queue.Queue[str | None]", other: "queue.Queue[str | None]") -> str:
    try:
        line = lines.get(timeout=DEADLINE)
    except queue.Empty:
        line = None
    assert line is not None, f"no line came; the other stream has {list(other.queue)}"
    return line


class OnTerminal:
    """Running netscanctl on a terminal (pty(7)) of `columns`, with all its output."""

    def __init__(self, nursery: Nursery, args: tuple[str, ...], env: dict[str, str], columns: int) -> None:
        self.written = b""
        self._ours, theirs = pty.openpty()
        self.resize(24, columns)
        self.process = nursery.start(args, env, theirs, theirs, theirs, fast=True, terminal=True)
        os.close(theirs)

    def until(self, wanted: str | Callable[[], bool]) -> str:
        """Read until this was written, or is so; everything so far."""
        return self._read((lambda: wanted.encode() in self.written) if isinstance(wanted, str) else wanted)

    def resize(self, rows: int, columns: int) -> None:
        """Resize the terminal, which sends SIGWINCH."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def echoes(self) -> bool:
        """Whether keys show as they are typed."""
        return bool(termios.tcgetattr(self._ours)[3] & termios.ECHO)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._ours, text.encode())

    def end(self) -> tuple[int, str]:
        """Read to the end; the exit code, and everything."""
        self._read(lambda: False)
        os.close(self._ours)
        return self.process.wait(DEADLINE), self.written.decode()

    def _read(self, enough: Callable[[], bool]) -> str:
        ends = time.monotonic() + DEADLINE
        while not enough():
            ready, _, _ = select.select([self._ours], [], [], max(0.0, ends - time.monotonic()))
            assert ready, f"it never came: {self.written!r}"
            try:
                more = os.read(self._ours, 65536)
            except OSError:  # EIO: nobody holds the other end any more
                break
            if not more:
                break
            self.written += more
        return self.written.decode(errors="replace")


def bare(text: str) -> str:
    """Without colours and the bar's own movements: what is left is what came from elsewhere."""
    return re.sub(r"\x1b\[(\d+(;\d+)*)?[mK]", "", text)


class Ctl:
    """Runs netscanctl, by default against the fake daemon."""

    def __init__(self, daemon: FakeDaemon, nursery: Nursery) -> None:
        self.daemon = daemon
        self._nursery = nursery
        self._watching: list[Running] = []
        self._terminals: list[OnTerminal] = []

    def env(self, **more: str) -> dict[str, str]:
        """Return the environment, with the socket of the daemon."""
        return environment(**({"NETSCANCTL_SOCKET": str(self.daemon.socket)} | more))

    def run(self, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run netscanctl to its end."""
        with pipes(2) as (readers, writers):
            process = self._nursery.start(args, self.env(**env), NOTHING, *writers)
        try:
            out, err = drained(*readers)
            return subprocess.CompletedProcess(args, process.wait(DEADLINE), out, err)
        finally:
            process.kill()

    def start(self, *args: str, fast: bool = True, **env: str) -> Running:
        """Start it; unless `fast` is False, it reconnects without the delay of 3 s."""
        running = Running(self._nursery, args, self.env(**env), fast=fast)
        self._watching.append(running)
        return running

    def terminal(self, *args: str, columns: int = 120, **env: str) -> OnTerminal:
        """Start it on a terminal, also without the delay."""
        shown = OnTerminal(self._nursery, args, self.env(**env), columns)
        self._terminals.append(shown)
        return shown

    def end(self) -> None:
        """Stop all processes."""
        for running in self._watching:
            if running.process.poll() is None:
                running.end(signal.SIGKILL)
        for shown in self._terminals:
            if shown.process.poll() is None:
                shown.process.kill()
                shown.process.wait(DEADLINE)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    """A daemon with three devices, two of them online, on a Unix socket."""
    made = FakeDaemon(tmp_path / "netscand.sock")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Parent process of all netscanctl processes."""
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def ctl(daemon: FakeDaemon, nursery: Nursery) -> Iterator[Ctl]:
    """Give netscanctl, with that daemon."""
    made = Ctl(daemon, nursery)
    yield made
    made.end()
