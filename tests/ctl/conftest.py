"""netscanctl in this process, or as a real process, beside a fake daemon on a real socket."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from netscanctl import cli, params
from netscanctl.client import DOCTOR, Client, NoDaemon
from tests.ctl.fake_daemon import DEADLINE, FakeDaemon
from tests.ctl.processes import Child

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


class Lines:
    """Lines of a pipe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._text = b""

    def next(self) -> str | None:
        """The next line; None at the end."""
        ends = time.monotonic() + DEADLINE
        while b"\n" not in self._text:
            assert select.select([self._fd], [], [], max(0.0, ends - time.monotonic()))[0], f"timeout: {self._text!r}"
            if not (piece := os.read(self._fd, 65536)):
                return None
            self._text += piece
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()


class Running:
    """Running netscanctl, with its lines of output."""

    def __init__(self, args: tuple[str, ...], env: dict[str, str], *, fast: bool) -> None:
        self._readers, writers = zip(os.pipe(), os.pipe(), strict=True)
        self.out, self.err = map(Lines, self._readers)
        self.process = Child(args, env, (NOTHING, *writers), fast=fast)
        for writer in writers:
            os.close(writer)

    def line(self) -> str:
        """The next line of stdout."""
        line = self.out.next()
        assert line is not None, f"stdout has ended; stderr: {self.err.next()}"
        return line

    def lines(self, count: int) -> list[str]:
        """The next `count` lines of stdout."""
        return [self.line() for _ in range(count)]

    def notice(self) -> str:
        """The next line of stderr."""
        line = self.err.next()
        assert line is not None, f"stderr has ended; stdout: {self.out.next()}"
        return line

    def end(self, number: int | None = signal.SIGINT) -> int:
        """Send a signal (None: none) and give the exit code."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def rest(self, lines: Lines) -> list[str]:
        """What was printed and not read; after `end`."""
        return list(iter(lines.next, None))

    def close(self) -> None:
        """Kill it."""
        self.end(signal.SIGKILL)
        for reader in self._readers:
            os.close(reader)


class OnTerminal:
    """Running netscanctl on a terminal (pty(7)) of `columns`, with all its output."""

    def __init__(self, args: tuple[str, ...], env: dict[str, str], columns: int) -> None:
        self.written = b""
        self._ours, theirs = pty.openpty()
        self.resize(24, columns)
        self.process = Child(args, env, (theirs,) * 3, fast=True, terminal=True)
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
            except OSError:  # EIO: the other end is closed
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
        """Return the environment, with the socket of the daemon."""
        return environment(**({"NETSCANCTL_SOCKET": str(self.daemon.socket)} | more))

    def run(self, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run netscanctl in this process, to its end."""
        code = 0
        with ExitStack() as stack:
            streams = [stack.enter_context(tempfile.TemporaryFile("w+", newline="")) for _ in range(2)]
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            for name in [name for name in os.environ if name.startswith(("NETSCANCTL_", "_NETSCANCTL"))]:
                patch.delenv(name)
            for name, value in self.env(**env).items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            for module in (cli, params):
                patch.setattr(module, "Client", lambda *args: stack.enter_context(closing(Client(*args))))
            try:
                cli.cli.main(args, prog_name="netscanctl")
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
            for stream in streams:
                stream.seek(0)
            out, err = (stream.read() for stream in streams)
        return subprocess.CompletedProcess(args, code, out, err)

    def fails(self, code: int, *args: str, **env: str) -> str:
        """Run it; it prints nothing, ends with this exit code, and with one message on stderr: return that.

        Each with exit code 3 ends with a hint to `doctor`, which is left out.
        """
        done = self.run(*args, **env)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith("netscanctl: ")
        assert done.stderr.find("\n") == len(done.stderr) - 1
        hint = f"; {DOCTOR}\n" if code == NoDaemon.exit_code else "\n"
        assert done.stderr.endswith(hint)
        return done.stderr[len("netscanctl: ") : -len(hint)]

    def process(self, *args: str, **env: str) -> "subprocess.CompletedProcess[bytes]":
        """Run it as users do, in a process of its own."""
        return subprocess.run(self.argv(*args), env=self.env(**env), cwd=ROOT, capture_output=True, timeout=DEADLINE)

    @staticmethod
    def argv(*args: str) -> list[str]:
        """Return its command line."""
        return [sys.executable, "-m", "netscanctl", *args]

    def start(self, *args: str, fast: bool = True, **env: str) -> Running:
        """Start it; unless `fast` is False, it reconnects without the delay of 3 s."""
        self._watching.append(running := Running(args, self.env(**env), fast=fast))
        return running

    def terminal(self, *args: str, columns: int = 120, **env: str) -> OnTerminal:
        """Start it on a terminal, also without the delay."""
        self._terminals.append(shown := OnTerminal(args, self.env(**env), columns))
        return shown

    def end(self) -> None:
        """Stop all processes."""
        for running in self._watching:
            running.close()
        for shown in self._terminals:
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
def far() -> Iterator[FakeDaemon]:
    """The same on TCP."""
    made = FakeDaemon()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def ctl(daemon: FakeDaemon, in_tokyo: None) -> Iterator[Ctl]:
    """netscanctl, with that daemon."""
    made = Ctl(daemon)
    yield made
    made.end()
