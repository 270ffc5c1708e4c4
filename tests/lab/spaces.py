"""Network namespaces of our own, and processes in them. Nothing here ever makes or touches a link outside of one.

A name is `nsd-PID-N-WORD`: whose process made it, which lab of it, and what for. What a lab that was killed left behind
is swept by the next (`sweep`), known by a PID that no longer runs; so are its folders, and whatever else tests leave
among temporary files under such a name (`temporary_folder`).
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

NAMESPACES = Path("/run/netns")
CLONE_NEWNET = 0x40000000
PATIENCE = 3.0
"""Seconds a process has to end after SIGTERM."""

DEADLINE = 60.0
"""Seconds for what only has to happen, on a machine that is busy with other things: two scans, where one missed it."""

Argv = Sequence[str | os.PathLike[str]]


class CommandFailed(Exception):
    """A command of the lab's own ended badly; the text is its line and what it said."""


def command(*argv: str | os.PathLike[str], text: str | None = None) -> str:
    """Run it, with `text` on its stdin; its stdout. Raises CommandFailed."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        line = " ".join(map(str, argv)) + (f" <<< {text!r}" if text else "")
        raise CommandFailed(f"{line}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def ours() -> list[str]:
    """The names of the namespaces that this process made and has not removed."""
    prefix = f"nsd-{os.getpid()}-"
    return sorted(entry.name for entry in _entries() if entry.name.startswith(prefix))


def sweep() -> list[str]:
    """Remove the namespaces and temporary files whose process is gone, with what still runs in them; their names."""
    gone = [entry for entry in _entries() if _is_orphan(entry)]
    for entry in gone:
        with contextlib.suppress(CommandFailed):  # another sweeper was faster
            _clear(entry.name)
    left = [path for path in Path(tempfile.gettempdir()).glob("nsd-*") if _is_orphan(path)]
    for path in left:
        with contextlib.suppress(FileNotFoundError):
            if path.lstat().st_uid == os.geteuid():
                path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in (*gone, *left)]


def temporary_folder(word: str) -> Path:
    """Make one that is swept should we be killed."""
    return Path(tempfile.mkdtemp(prefix=f"nsd-{os.getpid()}-{word}-"))


def _is_orphan(path: Path) -> bool:
    words = path.name.split("-")
    return words[0] == "nsd" and len(words) >= 4 and words[1].isdigit() and not Path("/proc", words[1]).exists()


def _entries() -> list[Path]:
    return list(NAMESPACES.iterdir()) if NAMESPACES.exists() else []


def _clear(name: str) -> None:
    """End what runs in the namespace `name`, which is ours, and remove it."""
    for _ in range(50):
        pids = [int(pid) for pid in command("ip", "netns", "pids", name).split()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not pids:
            break
        time.sleep(0.02)
    command("ip", "netns", "delete", name)


class Space:
    """One namespace: loopback up, IPv6 off on whatever is plugged in later unless `ipv6`."""

    def __init__(self, name: str, *, ipv6: bool = False) -> None:
        self.name = name
        self._running: list[subprocess.Popen[Any]] = []
        command("ip", "netns", "add", name)
        try:
            self.ip("link set lo up")
            if not ipv6:
                self.sysctl("ipv6.conf.default.disable_ipv6", 1)
        except BaseException:
            self.delete()
            raise

    def ip(self, *lines: str) -> None:
        """Lines of `ip -batch`, here. Raises CommandFailed at the first that fails."""
        command("ip", "-n", self.name, "-batch", "-", text="\n".join(lines))

    def until_up(self, interface: str) -> None:
        """Wait for it: until the kernel has put a queue to a link that came up, it throws away what is sent."""
        ends = time.monotonic() + DEADLINE
        while " state UP " not in command("ip", "-n", self.name, "-o", "link", "show", interface):
            assert time.monotonic() < ends, f"{interface} of {self.name} does not come up"
            time.sleep(0.01)

    def until_usable(self, interface: str) -> None:
        """Wait for its link-local IPv6 address: the kernel sends from none that it still checks (RFC 4862, 5.4)."""
        ends = time.monotonic() + DEADLINE
        while not command("ip", "-n", self.name, "-6", "-o", "address", "show", "dev", interface, "-tentative"):
            assert time.monotonic() < ends, f"{interface} of {self.name} gets no IPv6 address"
            time.sleep(0.05)

    def sysctl(self, key: str, value: int) -> None:
        """Set `net.KEY` here."""
        path = "/proc/sys/net/" + key.replace(".", "/")
        self.within(lambda: Path(path).write_text(str(value)))

    def run(
        self,
        argv: Argv,
        *,
        timeout: float | None = 60,
        check: bool = True,
        **options: Any,  # noqa: ANN401
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` here to its end, at most `timeout` seconds; its output as text. Options as of subprocess.run.

        Raises CommandFailed where `check` and it does not exit 0; subprocess.TimeoutExpired, with the process killed.
        """
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        text = options.pop("input", None)
        if text is not None:
            options["stdin"] = subprocess.PIPE
        with self.popen(argv, **options) as process:
            try:
                out, err = process.communicate(text, timeout)
            except BaseException:
                self.end(process, now=True)
                raise
        self._running.remove(process)
        if check and process.returncode:
            raise CommandFailed(f"{' '.join(map(str, argv))}: exit {process.returncode}: {err or out}")
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def popen(
        self,
        argv: Argv,
        *,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> "subprocess.Popen[Any]":
        """Start `argv` here; it dies with the thread that calls this, and with the lab.

        `env` is added to ours. Options as of Popen.
        """
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | dict(env or {})
        # What starts after we have died would never get the signal of our death: it looks for us first.
        dies_with_us = ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"']
        inside = ["ip", "netns", "exec", self.name, *dies_with_us, str(os.getpid()), *argv]
        process = subprocess.Popen(inside, stdin=stdin, env=environment, cwd=ROOT, **options)
        self._running.append(process)
        return process

    def end(self, process: "subprocess.Popen[Any]", *, now: bool = False) -> int:
        """SIGTERM, and SIGKILL after `PATIENCE` seconds, or SIGKILL at once; the exit code."""
        if process.poll() is None:
            process.kill() if now else process.terminate()
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this namespace: it stays here wherever it is used."""
        return self.within(lambda: socket.socket(family, kind, protocol))

    def within(self, work: Callable[[], T]) -> T:
        """What `work` gives when a thread does it that has entered this namespace (setns(2) is a thread's own)."""
        results: list[T] = []
        failures: list[BaseException] = []

        def enter_and_work() -> None:
            try:
                with (NAMESPACES / self.name).open() as place:
                    if _libc.setns(place.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), f"setns {self.name}")
                results.append(work())
            except BaseException as wrong:  # raised again where it belongs
                failures.append(wrong)

        thread = threading.Thread(target=enter_and_work)
        thread.start()
        thread.join()
        if failures:
            raise failures[0]
        return results[0]

    def delete(self) -> None:
        """End what was started here and remove the namespace."""
        for process in self._running:
            if process.poll() is None:
                process.terminate()
        for process in self._running:
            self.end(process)
        _clear(self.name)
        # Only now: a thread that reads a pipe would hold us here while a child still has its other end.
        for process in self._running:
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
        self._running.clear()
