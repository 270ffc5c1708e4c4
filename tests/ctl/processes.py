"""Processes of netscanctl, forked from one that has imported all modules: each start saves 0.1 to 0.3 s of CPU."""

import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from multiprocessing import reduction

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["aiohttp", "netscanctl.__main__", "netscanctl.commands.watch", "netscanctl.progress"])


class Child:
    """netscanctl with descriptors, environment and, with `terminal`, a session and terminal (stdin) of its own.

    It has the part of subprocess.Popen that tests use. `fast`: it reconnects without the delay of 3 s.
    """

    def __init__(
        self, args: Sequence[str], env: dict[str, str], streams: Sequence[int], *,
        fast: bool = False, terminal: bool = False,
    ) -> None:  # fmt: skip
        how = ([_Descriptor(fd) for fd in streams], list(args), env, fast, terminal)
        self._process = CONTEXT.Process(target=_run, args=how)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    def poll(self) -> int | None:
        """Return its exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Return the same, when it has ended. Raises TimeoutExpired."""
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired("netscanctl", timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it runs."""
        self.send_signal(signal.SIGKILL)


class _Descriptor:
    """A descriptor that is passed to the child."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object]]:
        return _detach, (reduction.DupFd(self.fd),)


def _detach(passed: reduction.DupFd) -> int:  # type: ignore[valid-type]
    return int(passed.detach())  # type: ignore[attr-defined]


def _run(streams: list[int], args: list[str], env: dict[str, str], fast: bool, terminal: bool) -> None:
    """Take over these streams and this environment, and run netscanctl."""
    if terminal:
        os.setsid()
        fcntl.ioctl(streams[0], termios.TIOCSCTTY, 0)
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    for fd in set(streams):
        os.close(fd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["netscanctl", *args]
    from netscanctl import stream
    from netscanctl.__main__ import main

    if fast:
        defaults = stream.follow.__kwdefaults__
        assert defaults
        defaults["reconnect_delay"] = 0.1
    main()
