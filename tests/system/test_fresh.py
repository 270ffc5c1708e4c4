"""A newcomer's first minute: a minimal Debian, a checkout, `sudo ./dev run`. The network is for packages alone."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.lan import Lab
from tests.lab.spaces import DEADLINE, ROOT, command
from tests.lab.test_dev import Shown
from tests.system.fresh import Fresh, broken_release
from tests.system.machine import tree

PACKAGES = re.compile(r"^([\w.-]+)==", re.MULTILINE)


@pytest.fixture(scope="module", params=["bare13", pytest.param("bare12", marks=pytest.mark.long)])
def fresh(machines: None, request: pytest.FixtureRequest) -> Iterator[Fresh]:
    """Debian 13; Debian 12 with --long."""
    with Fresh(tree(request.param)) as made:
        yield made


def services(fresh: Fresh) -> set[str]:
    """Units that are enabled, and daemons that init scripts would start."""
    places = ("etc/systemd/system", "etc/init.d", "etc/rc2.d")
    return {str(path) for place in places for path in (fresh.root / place).rglob("*") if not path.is_dir()}


def test_setup_and_the_first_minute(fresh: Fresh, lab: Lab) -> None:
    """`setup` installs the locked versions though newer ones exist, and no service; `run` shows a device.

    Without a network it says so in a sentence; where everything is there, nothing is fetched.
    """
    done = fresh.run("./dev", "setup", network=False)
    lines = done.stdout.strip().splitlines()
    assert done.returncode == 1
    assert len(lines) <= 2
    assert re.fullmatch(
        r"dev: cannot install the Debian packages .*python3.* is there a network\? Install .*", lines[-1]
    )
    releases = fresh.root / "root/releases"
    releases.mkdir()
    sets = [(ROOT / "requirements" / f"{name}.txt").read_text() for name in ("build", "run")]
    for name in PACKAGES.findall("".join(sets)):
        broken_release(releases, name)
    before = services(fresh)
    done = fresh.run("./dev", "setup", env={"PIP_FIND_LINKS": "/root/releases"})
    assert done.returncode == 0, done.stdout
    assert "MB" in done.stdout
    assert services(fresh) == before
    there = set(fresh.run(".venv/bin/pip", "list", "--format=freeze").stdout.replace("_", "-").lower().split())
    locked = re.findall(r"^([\w.-]+==[\w.-]+) \\$", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE)
    assert len(locked) > 10
    assert set(locked) <= there
    done = fresh.run("./dev", "setup", network=False)
    assert (done.returncode, done.stdout) == (0, "")

    crowd = lab.crowd()
    crowd.populate(["10.77.0.50"])
    process = lab.watcher.popen(
        fresh.argv("env", "--default-signal=INT", "./dev", "run"), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    shown = Shown(process)
    shown.until("10.77.0.50")
    crowd.join("10.77.0.51")
    shown.until("10.77.0.51")
    assert "installing" not in shown.text()
    interrupt(lab)
    assert process.wait(DEADLINE) == 130
    assert "Traceback" not in shown.text()


def interrupt(lab: Lab) -> None:
    """Ctrl-C for what runs in the watcher's namespace below `./dev`."""
    for pid in map(int, command("ip", "netns", "pids", lab.watcher.space.name).split()):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"./dev" in words and b"run" in words and Path(f"/proc/{pid}/comm").read_text() != "ip\n":
            os.kill(pid, signal.SIGINT)
