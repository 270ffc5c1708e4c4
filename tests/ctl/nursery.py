"""Processes of netscanctl that need not start anew: forked from one that has read all modules.

Each has descriptors, environment, session and terminal of its own. Tests start hundreds, and a start takes 0.1 to 0.3 s
of CPU.

    nursery = Nursery()
    child = nursery.start(["devices"], environment, stdin, stdout, stderr)
    child.wait(20)
"""

import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATUS = struct.Struct("i")


class Child:
    """One of them: as much of subprocess.Popen as tests use."""

    def __init__(self, told: int) -> None:
        self.returncode: int | None = None
        self._told = told
        (self.pid,) = STATUS.unpack(os.read(told, STATUS.size))

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self._ended(0.0)

    def wait(self, timeout: float) -> int:
        """The same, when it has ended. Raises TimeoutExpired."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("netscanctl", timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], timeout)[0]:
            (status,) = STATUS.unpack(os.read(self._told, STATUS.size))
            os.close(self._told)
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class Nursery:
    """The process that they are forked from."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.ctl.nursery", str(theirs.fileno())], cwd=ROOT, pass_fds=[theirs.fileno()]
            )

    def start(
        self, args: Sequence[str], env: dict[str, str], stdin: int, stdout: int, stderr: int, *,
        hasty: bool = False, terminal: bool = False,
    ) -> Child:  # fmt: skip
        """One netscanctl; `terminal`: stdin becomes that of a session of its own."""
        hears, told = os.pipe()
        wish = json.dumps({"args": list(args), "env": env, "hasty": hasty, "terminal": terminal})
        socket.send_fds(self._ours, [wish.encode()], [stdin, stdout, stderr, told])
        os.close(told)
        return Child(hears)

    def close(self) -> None:
        """End it; its children go on."""
        self._ours.close()
        self._process.wait(20)


# ---- in the process itself


def serve(asked: socket.socket) -> dict[str, object]:
    """Fork for each wish; return it in the child."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        text, fds, _, _ = socket.recv_fds(asked, 65_536, 4)
        if not text:
            sys.exit()
        if not os.fork():
            asked.close()
            return between(json.loads(text), fds)
        for fd in fds:
            os.close(fd)


def between(wish: dict[str, object], fds: list[int]) -> dict[str, object]:
    """Fork once more and wait for it, for whoever asked; return in the child."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, told = fds
    child = os.fork()
    if child:
        for fd in (0, 1, 2, *streams):
            os.close(fd)
        os.write(told, STATUS.pack(child))
        status = os.waitpid(child, 0)[1]
        try:
            os.write(told, STATUS.pack(status))
        finally:
            os._exit(0)
    os.close(told)
    become(wish, streams)
    return wish


def become(wish: dict[str, object], streams: list[int]) -> None:
    """Be as one that was started with these streams and this environment."""
    if wish["terminal"]:
        os.setsid()
        fcntl.ioctl(streams[0], termios.TIOCSCTTY, 0)
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    env = wish["env"]
    assert isinstance(env, dict)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        errors = "backslashreplace" if name == "stderr" else "strict"
        stream = open(number, "w" if number else "r", encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        if name == "stderr":
            stream.reconfigure(line_buffering=True)
        setattr(sys, name, stream)
    args = wish["args"]
    assert isinstance(args, list)
    sys.argv = ["netscanctl", *args]


if __name__ == "__main__":
    import aiohttp  # noqa: F401

    from netscanctl import stream
    from netscanctl.__main__ import main
    from netscanctl.cli import cli

    cli.get_help(cli.make_context("netscanctl", [], resilient_parsing=True))  # reads every verb
    wanted = serve(socket.socket(fileno=int(sys.argv[1])))
    if wanted["hasty"]:
        defaults = stream.follow.__kwdefaults__
        assert defaults
        defaults["reconnect_delay"] = 0.1
    main()
