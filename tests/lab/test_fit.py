"""A library that does not fit: a sentence and exit 69 instead of a service that answers nobody (ATTACKED M10)."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.lab.lan import Lab
from tests.lab.spaces import DEADLINE, ROOT
from tests.lab.test_daemon import wait_for

QUICK = "import netscand.serve.selftest as selftest\nselftest.TIMEOUT = 2.0\n"
SWALLOWS = f"{QUICK}import aiohttp.web as web\nweb.RequestHandler.data_received = lambda self, data: None\n"


def altered(folder: Path, program: str) -> dict[str, str]:
    """The environment of a Python that runs a program first: as if another version were installed."""
    (folder / "sitecustomize.py").write_text(program)
    return {"PYTHONPATH": f"{folder}:{ROOT}"}


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import aiohttp.web as web\ndel web.RequestHandler.handle_error\n", "has no web.RequestHandler.handle_error"),
        ("import aiohttp\ndel aiohttp.WSCloseCode\n", "cannot import name 'WSCloseCode' from 'aiohttp'"),
        ("import aiohttp.web as web\ndel web.RequestHandler\n", "has no attribute 'RequestHandler'"),
        (SWALLOWS, "the self-test of the server failed (GET /healthz: no answer within 2 s)"),
    ],
    ids=["a method is gone", "a name is gone", "a class is gone", "bytes go elsewhere"],
)
def test_the_daemon_says_what_does_not_fit(lab: Lab, tmp_path: Path, program: str, said: str) -> None:
    """One line with the library and its version, no traceback, and never READY."""
    daemon = lab.daemon({"names": {"sources": []}}, start=False, env=altered(tmp_path, program))
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(DEADLINE) == 69, daemon.log()
    (line,) = [line for line in daemon.log().splitlines() if line.startswith("netscand: ")]
    assert said in line
    assert "aiohttp 3." in line
    assert "Traceback" not in daemon.log()
    assert not any("READY=1" in told for told in daemon.notified)


def test_a_server_that_falls_silent_is_not_fed(lab: Lab, tmp_path: Path) -> None:
    """The watchdog's fourth tick: the engine and all others live, and no client is answered."""
    later = f"import threading\ndef spoil():\n    exec({SWALLOWS!r}, {{}})\nthreading.Timer(3.0, spoil).start()\n"
    environment = altered(tmp_path, later) | {"WATCHDOG_USEC": "4000000"}
    daemon = lab.daemon({"names": {"sources": []}}, env=environment)
    assert daemon.healthy()
    wait_for("the watchdog's word", lambda: "server hangs" in daemon.log())
    fed = daemon.notified.count("WATCHDOG=1")
    assert fed > 0
    time.sleep(3)
    assert daemon.notified.count("WATCHDOG=1") == fed
    assert "engine hangs" not in daemon.log()
    assert daemon.process is not None
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.process.wait(0)
