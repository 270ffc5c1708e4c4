"""A library that changes: a daemon that cannot answer ends with a message, or is restarted; it is never silent."""

import re
import shutil
import time
from pathlib import Path

import aiohttp
import pytest

from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.spaces import DEADLINE, ROOT
from tests.lab.test_daemon import wait_for

HANDLER = "web_protocol.py"
"""Where aiohttp has its connections."""

CHANGES = {
    "the queue has another name": (r"\b_messages\b", "_queued"),
    "the request in hand has another name": (r"\b_current_request\b", "_request_in_hand"),
    "nothing is ever answered": (r"(    async def start\(self\) -> None:\n)", r"\1        await asyncio.sleep(3600)\n"),
    "every connection is closed": (
        r"(    def data_received\(self, data: bytes\) -> None:\n)",
        r"\1        self.transport.close(); return\n",
    ),
}
"""What a later aiohttp may be like: what is replaced in its code, by what."""

DEAF = r"\1        if __import__('os').path.exists({!r}): return\n"
"""Once a file is there, no byte of a client is taken any more."""


def changed(lab: Lab, pattern: str, by: str) -> dict[str, str]:
    """A copy of aiohttp with that in its code; the environment in which it is found before the real one."""
    folder = lab.folder / "libraries"
    shutil.copytree(Path(aiohttp.__file__).parent, folder / "aiohttp", ignore=shutil.ignore_patterns("__pycache__"))
    code = folder / "aiohttp" / HANDLER
    text, count = re.subn(pattern, by, code.read_text())
    assert count, f"aiohttp {aiohttp.__version__} has no {pattern}: nothing is changed, and nothing proved"
    code.write_text(text)
    return {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "WATCHDOG_USEC": "4000000"}


def ready(daemon: Daemon) -> bool:
    return any("READY=1" in sent for sent in daemon.notified)


SLOW = ("nothing is ever answered",)
"""What is only known when a time-out is over."""


@pytest.mark.parametrize(
    "change", [pytest.param(each, marks=pytest.mark.long if each in SLOW else ()) for each in CHANGES]
)
def test_a_daemon_that_cannot_answer_is_not_ready(lab: Lab, change: str) -> None:
    """FAULTS F24: it asks itself first. It was READY, fed its watchdog, and closed every connection unanswered.

    A change that does no harm may be survived: then it answers.
    """
    daemon = lab.daemon(as_user=True, start=False, env=changed(lab, *CHANGES[change]))
    daemon.start(wait=False)
    assert daemon.process is not None
    ends = time.monotonic() + DEADLINE
    while daemon.process.poll() is None and not ready(daemon) and time.monotonic() < ends:
        time.sleep(0.02)
    if ready(daemon):
        assert daemon.healthy(), "READY=1, and no answer"
    else:
        assert daemon.process.poll() not in (None, 0), f"neither ready nor ended\n{daemon.log()}"
        assert any("netscand" in line for line in daemon.log().splitlines()), "it ended without a message"


def test_a_server_that_stops_answering_is_restarted(lab: Lab) -> None:
    """FAULTS F24: the watchdog's fourth tick. The engine, the receive path and the history live all the while."""
    trigger = lab.folder / "deaf"
    pattern = r"(    def data_received\(self, data: bytes\) -> None:\n)"
    daemon = lab.daemon(as_user=True, env=changed(lab, pattern, DEAF.format(str(trigger))))
    wait_for("a sign of life", lambda: "WATCHDOG=1" in daemon.notified)
    assert daemon.healthy()
    trigger.touch()
    wait_for("the reason", lambda: "server hangs" in daemon.log(100))
    fed = daemon.notified.count("WATCHDOG=1")
    time.sleep(3)
    assert daemon.notified.count("WATCHDOG=1") == fed, "it goes on feeding the watchdog"
    assert "engine hangs" not in daemon.log(100)
    assert daemon.process is not None
    assert daemon.process.poll() is None


SWALLOWS = """
import netscand.serve.selftest as selftest
selftest.TIMEOUT = 2.0
import aiohttp.web as web
web.RequestHandler.data_received = lambda self, data: None
"""


@pytest.mark.parametrize(
    ("program", "message"),
    [("import aiohttp.web as web\ndel web.RequestHandler.handle_error\n", "has no web.RequestHandler.handle_error"),
     ("import aiohttp\ndel aiohttp.WSCloseCode\n", "cannot import name 'WSCloseCode' from 'aiohttp'"),
     ("import aiohttp.web as web\ndel web.RequestHandler\n", "has no attribute 'RequestHandler'"),
     (SWALLOWS, "the self-test of the server failed (GET /healthz: no answer within 2 s)")],
    ids=["a method is gone", "a name is gone", "a class is gone", "bytes go elsewhere"],
)  # fmt: skip
def test_the_daemon_says_what_does_not_fit(lab: Lab, tmp_path: Path, program: str, message: str) -> None:
    """ATTACKED M10: exit 69, one line with the library and its version, no traceback, and never READY."""
    (tmp_path / "sitecustomize.py").write_text(program)
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    daemon = lab.daemon({"names": {"sources": []}}, start=False, env=env)
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(DEADLINE) == 69, daemon.log()
    (line,) = [line for line in daemon.log().splitlines() if line.startswith("netscand: ")]
    assert message in line
    assert "aiohttp 3." in line
    assert "Traceback" not in daemon.log()
    assert not ready(daemon)
