"""docs/commands.md: each example with jq runs, and prints what it should."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ctl.conftest import ROOT, Ctl
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import device, event, left

SECTION = (ROOT / "docs/commands.md").read_text().partition("### Examples with `jq`")[2].partition("\n## ")[0]
EXAMPLES = re.findall(r"(?m)^# (.*)\n(netscanctl .*)$", SECTION)
PRINTED = {
    "names and addresses": "TV\t192.168.1.7\nhost20\t192.168.1.20\n",
    "devices that are not": "a4:83:e7:00:00:14\na4:83:e7:00:00:08\n",
    "number of devices": "2\tApple, Inc.\n1\t\n",
    "how often": "      2 a4:83:e7:00:00:08\n",
    "one line": "a4:83:e7:00:00:09\n",
    "is the printer": "true\n",
}


@pytest.mark.skipif(shutil.which("jq") is None, reason="not installed: jq")
@pytest.mark.parametrize(("what", "command"), EXAMPLES, ids=[what for what, _ in EXAMPLES])
def test_an_example_with_jq_runs(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path, what: str, command: str) -> None:
    daemon.devices[0] = device(7, label="TV", known=True, hostname="printer")
    daemon.devices[1].vendor = None
    gone = device(8, "offline")
    daemon.events = [event("discovered", gone, "k3f9-1"), left(gone, cursor="k3f9-2"), left(gone, cursor="k3f9-3")]
    shim = tmp_path / "netscanctl"
    ends = "timeout 5 " if " watch " in command else ""
    shim.write_text(f'#!/bin/sh\nexec {ends}{sys.executable} -m netscanctl "$@"\n')
    shim.chmod(0o755)
    env = ctl.env(PYTHONPATH=str(ROOT))
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    with subprocess.Popen(["sh", "-c", command], env=env, stdout=subprocess.PIPE, text=True) as running:
        if ends:
            daemon.until_watched()
            daemon.send(left(gone), event("discovered", device(9), "k3f9-9"))
        out, _ = running.communicate(timeout=60)
    assert out == next(text for begin, text in PRINTED.items() if what.startswith(begin))


def test_every_example_has_a_result() -> None:
    assert len(EXAMPLES) == len(PRINTED)
