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
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ctl.fake import DEADLINE, FakeDaemon

ROOT = Path(__file__).parents[2]
ZONE = "Asia/Tokyo"
"""Nine hours before UTC, no summer time: people must see 07:02 where the wire says 22:02."""


def command(*args: str, hasty: bool = False) -> list[str]:
    return [sys.executable, "-m", "tests.ctl.hasty" if hasty else "netscanctl", *args]


def environment(**more: str) -> dict[str, str]:
    """A plain one: nothing of the machine's decides how netscanctl behaves."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "PYTHONPATH", "VIRTUAL_ENV") if key in os.environ}
    return {**kept, "LANG": "C.UTF-8", "TERM": "xterm-256color", "TZ": ZONE, **more}


class Running:
    """A netscanctl that runs: its lines as they come."""

    def __init__(self, args: tuple[str, ...], env: dict[str, str], *, hasty: bool = True) -> None:
        self.process = subprocess.Popen(
            command(*args, hasty=hasty), cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.out: queue.Queue[str | None] = queue.Queue()
        self.err: queue.Queue[str | None] = queue.Queue()
        self._readers = [
            threading.Thread(target=_read, args=pair)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def line(self) -> str:
        """The next line of stdout."""
        return _next(self.out, self.err)

    def lines(self, count: int) -> list[str]:
        """The next `count` lines of stdout."""
        return [self.line() for _ in range(count)]

    def talk(self) -> str:
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
        assert self.process.stdout and self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def rest(self, lines: "queue.Queue[str | None]") -> list[str]:
        """What was printed and not read; after `end`."""
        found = []
        while (line := lines.get(timeout=DEADLINE)) is not None:
            found.append(line)
        return found


def _read(stream: "subprocess.IO[str]", lines: "queue.Queue[str | None]") -> None:  # type: ignore[name-defined]
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put(None)


def _next(lines: "queue.Queue[str | None]", other: "queue.Queue[str | None]") -> str:
    try:
        line = lines.get(timeout=DEADLINE)
    except queue.Empty:
        line = None
    assert line is not None, f"no line came; the other stream said {list(other.queue)}"
    return line


class OnTerminal:
    """A netscanctl on a terminal of its own (pty(7)), `columns` wide; all that it wrote there."""

    def __init__(self, args: tuple[str, ...], env: dict[str, str], columns: int = 120) -> None:
        self.written = b""
        self._ours, theirs = pty.openpty()
        self.resize(24, columns)
        self.process = subprocess.Popen(
            command(*args, hasty=True), cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C is then a signal, as at a real one
        )  # fmt: skip
        os.close(theirs)

    def until(self, wanted: str | Callable[[], bool]) -> str:
        """Read until this was written, or is so; everything so far."""
        return self._read((lambda: wanted.encode() in self.written) if isinstance(wanted, str) else wanted)

    def resize(self, rows: int, columns: int) -> None:
        """Pull at its corner; whoever runs there gets SIGWINCH."""
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

    def __init__(self, daemon: FakeDaemon) -> None:
        self.daemon = daemon
        self._watching: list[Running] = []
        self._terminals: list[OnTerminal] = []

    def env(self, **more: str) -> dict[str, str]:
        """Where the daemon is."""
        return environment(**({"NETSCANCTL_SOCKET": str(self.daemon.socket)} | more))

    def run(self, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """To its end."""
        return subprocess.run(
            command(*args), cwd=ROOT, env=self.env(**env), capture_output=True, text=True, timeout=DEADLINE, check=False
        )

    def start(self, *args: str, hasty: bool = True, **env: str) -> Running:
        """And let it run; unless told otherwise, it does not wait for 3 s after a lost connection."""
        running = Running(args, self.env(**env), hasty=hasty)
        self._watching.append(running)
        return running

    def terminal(self, *args: str, columns: int = 120, **env: str) -> OnTerminal:
        """On a terminal."""
        shown = OnTerminal(args, self.env(**env), columns)
        self._terminals.append(shown)
        return shown

    def end(self) -> None:
        """Let nothing run on."""
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


@pytest.fixture
def ctl(daemon: FakeDaemon) -> Iterator[Ctl]:
    """Give netscanctl, with that daemon."""
    made = Ctl(daemon)
    yield made
    made.end()
