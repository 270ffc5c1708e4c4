"""A real netscand at the watcher, with its configuration, socket, history and log in a folder of the lab."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab.ordinary import NOBODY, ordinary
from tests.lab.spaces import Space

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

START = 20.0
"""Seconds a daemon has to be ready, or to end, on a machine that is busy with other things."""


class DaemonFailed(Exception):
    """It ended, or was not ready in time; the text holds the end of its log."""


class Daemon:
    """`config` is TOML (text or tables); what it does not say of sockets and history is put into `folder`.

    As root, or, `as_user`, as an ordinary user with CAP_NET_RAW only. `env` is added to its environment. `files`: paths
    that exist on this machine, and what this daemon alone finds in them.
    """

    def __init__(
        self,
        space: Space,
        folder: Path,
        config: str | Mapping[str, Any] = "",
        *,
        as_user: bool = False,
        env: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        self.space = space
        self.folder = folder
        self.config = folder / "netscand.toml"
        self.socket = folder / "netscand.sock"
        self.history = folder / "netscand.db"
        self.log_file = folder / "log"
        self.notified: list[str] = []
        """Its messages to the service manager, in order; `notified_at`: when (monotonic seconds)."""
        self.notified_at: list[float] = []
        self.process: subprocess.Popen[Any] | None = None
        self._told_before = 0
        self._as_user = as_user
        self.environment = dict(env or {})
        self._files = dict(files or {})
        (folder / "hold").mkdir(parents=True)
        self.configure(config)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        # Always read, as systemd reads: ten unread messages, and the daemon would wait for us at the eleventh.
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()
        if as_user:
            os.chown(folder, NOBODY, NOBODY)
            (folder / "notify").chmod(0o777)

    def configure(self, config: str | Mapping[str, Any]) -> None:
        """Write the configuration file; a running daemon reads it at `reload`."""
        tables = dict(tomllib.loads(config) if isinstance(config, str) else config)
        tables["listen"] = {"unix": str(self.socket)} | tables.get("listen", {})
        tables["history"] = {"path": str(self.history)} | tables.get("history", {})
        self.config.write_text(toml(tables))

    def start(self, *, wait: bool = True) -> None:
        """Start it; return when it is ready. Raises DaemonFailed."""
        argv = [sys.executable, "-m", "netscand", "--config", str(self.config)]
        environment = self.environment | {"NOTIFY_SOCKET": str(self.folder / "notify"), "HOME": str(self.folder)}
        self._told_before = len(self.notified)
        argv = ordinary(argv, self.folder / "hold") if self._as_user else argv
        for number, (path, text) in enumerate(self._files.items()):  # mounts of this process alone: ip-netns(8), exec
            (mine := self.folder / f"file{number}").write_text(text)
            mount = 'mount --bind "$0" "$1" && shift && exec "$@"'
            argv = ["sh", "-c", mount, str(mine), os.path.realpath(path), *argv]
        with self.log_file.open("ab") as log:
            self.process = self.space.popen(argv, env=environment, stdout=log, stderr=log)
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout: float = START) -> None:
        """Until it has said READY. Raises DaemonFailed."""
        ends = time.monotonic() + timeout
        while time.monotonic() < ends:
            if any("READY=1" in said for said in self.notified[self._told_before :]):
                return
            if self.process is None or self.process.poll() is not None:
                raise DaemonFailed(f"netscand ended, exit {self.process and self.process.returncode}\n{self.log()}")
            time.sleep(0.01)
        raise DaemonFailed(f"netscand was not ready within {timeout:g} s\n{self.log()}")

    def _hear(self) -> None:
        while said := self._notify.recv(4096):
            self.notified_at.append(time.monotonic())
            self.notified.append(said.decode())

    def stop(self) -> int:
        """SIGTERM; the exit code. Raises DaemonFailed if it has to be killed."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(START)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise DaemonFailed(f"netscand did not end within {START:g} s of SIGTERM\n{self.log()}") from None

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def signal(self, number: int) -> None:
        """Send it a signal: SIGHUP to reload, SIGSTOP, SIGCONT."""
        assert self.process is not None
        self.process.send_signal(number)

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.process is not None
        return self.process.pid

    def log(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """One request over the Unix socket, as root: the status, and the JSON of the answer. Raises OSError."""
        connection = self.connection()
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"} if content else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def connection(self) -> http.client.HTTPConnection:
        """For requests over the Unix socket, as root."""
        return _UnixConnection(self.socket)

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """The answer to a GET that must succeed."""
        status, answer = self.request("GET", path)
        assert status == 200, f"GET {path}: {status} {answer}"
        return answer

    def healthy(self) -> bool:
        """Whether it answers."""
        try:
            return self.request("GET", "/healthz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def devices(self) -> dict[str, Any]:
        """IP → device, of those that have one."""
        return {device["ip"]: device for device in self.get("/api/devices")["devices"] if device["ip"]}

    def websocket(self, query: str = "updates=changes", **options: Any) -> "ClientConnection":  # noqa: ANN401
        """A stream, by a library that is not the daemon's. Its pings show that it lives; no missing pong ends it."""
        from websockets.sync.client import unix_connect  # the demo does without it

        options = {"max_size": None, "open_timeout": START, "ping_timeout": None} | options
        return unix_connect(str(self.socket), uri=f"ws://localhost/ws?{query}", **options)

    def ctl(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401
        """Run netscanctl against it; whatever its exit code."""
        return self.space.run(self.ctl_argv(*argv), **({"check": False} | options))

    def ctl_argv(self, *argv: str) -> list[str]:
        """The command line of a netscanctl that talks to it."""
        return [sys.executable, "-m", "netscanctl", "--socket", str(self.socket), *argv]

    def close(self) -> None:
        """End it, if it runs."""
        if self.process is not None:
            self.space.end(self.process)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.folder / "notify"))  # an empty word ends the hearing
        self._hearing.join()
        self._notify.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=START)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def toml(tables: Mapping[str, Any]) -> str:
    """These tables as TOML; a list of tables becomes an array of tables. The standard library only reads it."""
    lines: list[str] = []
    for name, table in tables.items():
        for entry in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
    return "\n".join(lines) + "\n"
