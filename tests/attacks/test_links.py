"""Links that others planted: nothing is changed or written through them."""

import os
import shutil
import signal
import stat
from functools import partial

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
