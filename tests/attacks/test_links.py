"""Links that others planted: nothing is changed or written through them."""

import os
import shutil
import signal
import stat
import time
from functools import partial
from pathlib import Path

import pytest

from tests.attacks.conftest import QUICK
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.ordinary import NOBODY
from tests.lab.test_daemon import wait_for


@pytest.mark.parametrize("kind", ["link", "hard link", "link to a folder"])
def test_a_reload_changes_the_mode_of_its_own_socket_alone(lab: Lab, kind: str) -> None:
    """FAULTS T36: others may write to the folder, and put a file of the daemon's user in the socket's place."""
    secret = lab.folder / "secret"
    secret.mkdir() if "folder" in kind else secret.write_text("x")
    shutil.chown(secret, NOBODY, NOBODY)
    secret.chmod(0o600)
    (folder := lab.folder / "open").mkdir()
    shutil.chown(folder, NOBODY, NOBODY)
    daemon = lab.daemon(QUICK, as_user=True, start=False)
    daemon.socket = folder / "s"
    daemon.configure(QUICK | {"listen": {"unix": str(daemon.socket), "tcp": []}, "access": {"others": "none"}})
    daemon.start()
    folder.chmod(0o777)
    daemon.socket.rename(folder / "away")
    if kind == "hard link":
        os.link(secret, daemon.socket)
    else:
        daemon.socket.symlink_to(secret)
    daemon.configure(QUICK | {"listen": {"unix": str(daemon.socket), "tcp": []}, "access": {"others": "scan"}})
    for number in (1, 2):
        daemon.signal(signal.SIGHUP)
        wait_for("the reload", partial(reloaded, daemon, number))
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def reloaded(daemon: Daemon, times: int) -> bool:
    return daemon.log(1000).count("configuration reloaded") >= times


def test_a_cursor_is_not_written_through_a_link(lab: Lab) -> None:
    """FAULTS T37: `watch --cursor-file`, where others have planted the name under which it is first written."""
    daemon = lab.daemon(QUICK)
    (folder := lab.folder / "shared").mkdir()
    folder.chmod(0o1777)
    victim = lab.folder / "victim"
    victim.write_text("mine")
    for name in (".place.new", "place.new", ".place.tmp", "place.tmp"):
        (folder / name).symlink_to(victim)
    watching = daemon.space.popen(daemon.ctl_argv("watch", "--cursor-file", str(folder / "place")), stdout=-3)
    place: Path = folder / "place"
    wait_for("the cursor", place.exists)
    assert victim.read_text() == "mine"
    lab.crowd().join("10.77.0.99")
    before = place.read_text()
    wait_for("the next cursor", lambda: place.read_text() != before)
    watching.send_signal(signal.SIGINT)
    watching.wait(10)
    time.sleep(0.1)
    assert victim.read_text() == "mine"
    assert place.read_text().strip()
    assert not place.is_symlink()
