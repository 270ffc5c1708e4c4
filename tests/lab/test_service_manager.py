"""What a real daemon sends to the service manager: signs of life while every room lives, and one clean line."""

import signal
import time
from pathlib import Path

import pytest

from tests.lab.lan import Lab
from tests.lab.test_daemon import wait_for

HANGS = {
    "engine": ("netscand.engine", "Engine", "run", "asyncio.Event().wait()"),
    "receive path": ("netscand.lan.wire", "Wire", "_listen", "asyncio.Event().wait()"),
    "history": ("netscand.store.writer", "Writer", "_take", "threading.Event().wait()"),
}
"""Rooms, and how each is made to hang by itself, whatever the others do: module, class, method, and an endless wait."""

PATCH = """
import asyncio, sys, threading
class Hang:
    def find_spec(self, name, path=None, target=None):
        module = sys.modules.get("{}")
        if hasattr(module, "{}"):  # imported, and not yet used: the daemon imports more
            module.{}.{} = lambda self: {}
sys.meta_path.insert(0, Hang())
"""


@pytest.mark.parametrize("room", HANGS)
def test_a_room_that_hangs_alone_gets_no_sign_of_life(lab: Lab, tmp_path: Path, room: str) -> None:
    """FAULTS F3: systemd hears no more of us though the loop goes on, and the log says which room it is."""
    module, kind, method, forever = HANGS[room]
    (tmp_path / "sitecustomize.py").write_text(PATCH.format(module, kind, kind, method, forever))
    daemon = lab.daemon(env={"WATCHDOG_USEC": "6000000", "PYTHONPATH": str(tmp_path)})
    wait_for("the word of it", lambda: f"{room} hangs" in daemon.log(100))
    fed = daemon.notified.count("WATCHDOG=1")
    time.sleep(3.5)  # twice the time between two looks
    assert daemon.notified.count("WATCHDOG=1") == fed
    assert daemon.healthy()
    assert daemon.log(100).count(" hangs") == 1


def test_the_status_is_one_clean_line_whatever_is_wrong(lab: Lab) -> None:
    """FAULTS T8: a problem repeats what it found, and `systemctl status` shows it to a terminal; in UTF-8."""
    daemon = lab.daemon()
    daemon.config.write_text(daemon.config.read_text() + '["Zoë 本\\u001b[2J\\nREADY=0\\u202e"]\nx = 1\n')
    daemon.signal(signal.SIGHUP)
    wait_for("the refusal", lambda: any("was not reloaded" in told for told in daemon.notified))
    (told,) = {told for told in daemon.notified if "was not reloaded" in told}
    assert told.startswith("STATUS=")
    assert told.isprintable()
    assert "[Zoë 本\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}READY=0\N{REPLACEMENT CHARACTER}]" in told
