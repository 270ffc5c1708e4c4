"""`./dev hub-demo`, as a newcomer uses it."""

import json
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.hub_demo import PHONE, PLACES
from tests.engines.mosquitto import wait
from tests.lab.spaces import NAMESPACES, ROOT

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def demo() -> Iterator["subprocess.Popen[str]"]:
    """The demo, in a session of its own, as on a terminal: Ctrl-C reaches everything that runs in it."""
    argv = ["/usr/bin/env", "--default-signal=INT", "./dev", "hub-demo"]
    with subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def test_three_sites_are_shown_and_nothing_is_left(demo: "subprocess.Popen[str]") -> None:
    """Each is connected, with its devices, by the command that is printed; a phone moves; Ctrl-C removes everything."""
    assert demo.stderr is not None
    page = next(line for line in demo.stderr if "— page: " in line).split()[2]
    assert page.startswith("http://127.0.0.1:")
    command = shlex.split(next(line for line in demo.stderr if line.endswith(" sites\n")).partition(": ")[2])

    def ask(*words: str) -> Any:  # noqa: ANN401 - JSON
        done = subprocess.run([*command[:-1], *words, "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def shown() -> bool:
        """Whether all are; each has its gateway, too, and the phone of one may be away."""
        found = {each["site"]: each for each in ask("sites")["sites"]}
        return found.keys() == PLACES.keys() and all(
            each["state"] == "connected" and each["devices"]["online"] >= len(PLACES[name].macs)
            for name, each in found.items()
        )

    wait("three sites", shown)

    def at_office() -> set[str]:
        return {each["mac"] for each in ask("devices", "--site", "office")["devices"]}

    wait("the phone is at the office", lambda: PHONE in at_office())
    assert list(NAMESPACES.glob(f"nsd-{demo.pid}-*-hub"))
    os.killpg(demo.pid, signal.SIGINT)
    said = demo.communicate()[1]
    assert demo.returncode == 0, said
    assert "Traceback" not in said
    assert not list(NAMESPACES.glob(f"nsd-{demo.pid}-*"))
    assert not list(Path(tempfile.gettempdir()).glob(f"nsd-{demo.pid}-*"))
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)
