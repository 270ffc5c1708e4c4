"""Processes of netscanctl, forked from one that has imported all modules.

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
    """Forked process: the part of subprocess.Popen that tests use."""

    def __init__(self, reader: int) -> None:
        self.returncode: int | None = None
        self._reader = reader
        (self.pid,) = STATUS.unpack(os.read(reader, STATUS.size))

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
        if self.returncode is None and select.select([self._reader], [], [], timeout)[0]:
            (status,) = STATUS.unpack(os.read(self._reader, STATUS.size))
            os.close(self._reader)
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class Nursery:
    """Parent process of all."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.ctl.nursery", str(theirs.fileno())], cwd=ROOT, pass_fds=[theirs.fileno()]
            )

    def start(
        self, args: Sequence[str], env: dict[str, str], stdin: int, stdout: int, stderr: int, *,
        fast: bool = False, terminal: bool = False,
    ) -> Child:  # fmt: skip
        """Start netscanctl; `terminal`: in a session of its own, with stdin as its terminal."""
        reader, writer = os.pipe()
        request = json.dumps({"args": list(args), "env": env, "fast": fast, "terminal": terminal})
        socket.send_fds(self._ours, [request.encode()], [stdin, stdout, stderr, writer])
        os.close(writer)
        return Child(reader)

    def close(self) -> None:
        """Stop it; its children keep running."""
        self._ours.close()
        self._process.wait(20)


# ---- in the process itself


def serve(requests: socket.socket) -> dict[str, object]:
    """Fork for each request; return it in the child."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        text, fds, _, _ = socket.recv_fds(requests, 65_536, 4)
        if not text:
            sys.exit()
        if not os.fork():
            requests.close()
            return between(json.loads(text), fds)
        for fd in fds:
            os.close(fd)


def between(request: dict[str, object], fds: list[int]) -> dict[str, object]:
    """Fork again, and report the exit of the child to the test; return in the child."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, writer = fds
    child = os.fork()
    if child:
        for fd in (0, 1, 2, *streams):
            os.close(fd)
        os.write(writer, STATUS.pack(child))
        status = os.waitpid(child, 0)[1]
        try:
            os.write(writer, STATUS.pack(status))
        finally:
            os._exit(0)
    os.close(writer)
    become(request, streams)
    return request


def become(request: dict[str, object], streams: list[int]) -> None:
    """Take over these streams, arguments and environment."""
    if request["terminal"]:
        os.setsid()
        fcntl.ioctl(streams[0], termios.TIOCSCTTY, 0)
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    env = request["env"]
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
    args = request["args"]
    assert isinstance(args, list)
    sys.argv = ["netscanctl", *args]


if __name__ == "__main__":
    import aiohttp  # noqa: F401

    from netscanctl import stream
    from netscanctl.__main__ import main
    from netscanctl.cli import cli

    cli.get_help(cli.make_context("netscanctl", [], resilient_parsing=True))  # imports every command
    wanted = serve(socket.socket(fileno=int(sys.argv[1])))
    if wanted["fast"]:
        defaults = stream.follow.__kwdefaults__
        assert defaults
        defaults["reconnect_delay"] = 0.1
    main()
