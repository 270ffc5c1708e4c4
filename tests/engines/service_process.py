"""A service as a process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import msgspec

from netscanctl.service_status import ServiceStatus
from tests.ctl.conftest import ROOT, environment
from tests.ctl.fake_daemon import DEADLINE
from tests.engines.mosquitto import inside
from tests.lab.spaces import Space

NOTHING = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
NOBODY = [*NOTHING, "--reuid=65534", "--regid=65534", "--clear-groups"]


class Running:
    """A service, netscand-mqtt by default; with root, as nobody and without any capability, as in its unit.

    In a network namespace, or in ours.
    """

    name = "mqtt"
    runner: Sequence[str] = ()
    """Module that runs the service's."""

    def __init__(self, folder: Path, daemon_socket: Path, *, space: Space | None = None, **keys: object) -> None:
        self.folder, self.space = folder, space
        self.state, self.run = folder / "state", folder / "run"
        for made in (self.state, self.run):
            made.mkdir(mode=0o777, exist_ok=True)
            made.chmod(0o777)
        self.log = folder / "service.log"
        self.config = folder / "services.toml"
        values = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
        self.config.write_text(f'[daemon]\nsocket = "{daemon_socket}"\n[{self.name}]\n{values}\n')
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        env = environment(
            STATE_DIRECTORY=str(self.state), RUNTIME_DIRECTORY=str(self.run), PYTHONPATH=str(ROOT),
            PYTHONDONTWRITEBYTECODE="1",
        )  # fmt: skip
        argv = [sys.executable, "-m", *self.runner, f"netscanctl.services.{self.name}", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*inside(self.space), *self._user(), *argv], env=env, cwd="/", stdout=log, stderr=log
            )

    def _user(self) -> list[str]:
        if os.geteuid():
            return []
        return NOBODY if _nobody_may_run() else NOTHING

    def status(self) -> ServiceStatus:
        """What it reports; before its first report, as if it had just started."""
        if not (self.run / "status.json").exists():
            return ServiceStatus(name=self.name, version="", daemon="", updated_at="", problems=["starting"])
        return msgspec.json.decode((self.run / "status.json").read_bytes(), type=ServiceStatus)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        """Kill it, if it runs; its log must not contain a traceback."""
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)
        if self.log.exists():
            text = self.log.read_text()
            sys.stderr.write(text)
            assert "Traceback" not in text, text


@cache
def _nobody_may_run() -> bool:
    """Return whether the interpreter and the checkout can be read by nobody, as in a package or in CI."""
    check = [*NOBODY, sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import netscanctl"]
    return subprocess.run(check, capture_output=True, cwd="/", check=False).returncode == 0
