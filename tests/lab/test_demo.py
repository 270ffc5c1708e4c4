"""The story of `./dev demo`, to its end, its page and its refusal: tests/lab/test_dev.py sees its first seconds."""

import json
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.lab.asking import answering
from tests.lab.demo import AT_HOME, BY_DHCP, BY_MDNS, LASTS, VISITOR, VISITORS_MAC, story
from tests.lab.forward import Forwarder, listener
from tests.lab.lan import Lab
from tests.lab.spaces import ROOT
from tests.lab.test_daemon import wait_for


def test_each_step_of_the_story_can_be_taken(lab: Lab) -> None:
    """In order and in time; the visitor comes and goes, and who was away is back at the end."""
    computer = lab.host("10.77.0.5")
    crowd = lab.crowd()
    crowd.populate(AT_HOME, AT_HOME.values())
    at = [0.0]
    visited = set()
    for step in story(crowd, computer):
        at.append(step.at)
        there = answering(lab, "-r", "1")
        visited |= {ip for ip, mac in there.items() if mac == VISITORS_MAC}
    assert all(early < late for early, late in pairwise([*at, LASTS]))
    assert visited == {VISITOR, "10.77.0.111"}
    assert answering(lab) == AT_HOME | {computer.ip: computer.mac}


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The addresses that a demo prints: of the page, and the line for netscanctl."""
    argv = ["./dev", "demo", "--seconds", "600"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found: list[str] = []
        for line in process.stderr:
            found += [line.partition(": ")[2].strip()] if "— page: " in line or "another terminal: " in line else []
            if len(found) == 2:
                break
        try:
            yield found
        finally:
            process.terminate()
            process.stderr.read()


@pytest.mark.usefixtures("root")
def test_the_demo_can_be_looked_at(lines: list[str]) -> None:
    """Its page, on loopback, which may name devices; its devices by netscanctl, as printed; six have host names."""
    page, command = lines
    url = page.split()[0]
    with urllib.request.urlopen(url) as answer:
        assert b"<title>netscand</title>" in answer.read()

    def names() -> dict[str, tuple[str, str]]:
        with urllib.request.urlopen(f"{url}api/devices") as answer:
            devices = json.load(answer)["devices"]
        return {each["ip"]: (each["hostname"], each["hostname_source"]) for each in devices if each["hostname"]}

    said = {ip: (name, "mdns") for ip, name in BY_MDNS.items()} | {ip: (name, "dhcp") for ip, name in BY_DHCP.items()}
    assert len(said) == 6
    wait_for("names", lambda: said.items() <= names().items())
    assert url.startswith("http://127.0.0.1:")
    headers = {"Origin": url.rstrip("/"), "Content-Type": "application/json"}
    device = f"{url}api/devices/{AT_HOME['10.77.0.101']}"
    change = urllib.request.Request(device, b'{"label": "laptop"}', headers, method="PATCH")
    with urllib.request.urlopen(change) as answer:
        assert json.load(answer)["label"] == "laptop"
    shown = subprocess.run(shlex.split(command), cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "laptop" in shown
    assert "janes-phone" in shown


def test_only_the_port_of_the_page_is_forwarded(lab: Lab) -> None:
    """From loopback to the same port of the namespace; after the end nothing listens."""
    listening = listener(0)
    address = listening.getsockname()
    assert address[0] == "127.0.0.1"
    url = f"http://127.0.0.1:{address[1]}/healthz"
    with Forwarder(lab.watcher.space, listening):
        with pytest.raises(OSError):
            urllib.request.urlopen(url, timeout=5)
        lab.daemon(f'[listen]\ntcp = ["127.0.0.1:{address[1]}"]\n')
        for _ in range(5):
            with urllib.request.urlopen(url) as answer:
                assert json.load(answer) == {"status": "ok"}
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=5)


@pytest.mark.usefixtures("root")
def test_the_demo_says_what_it_needs() -> None:
    """Without CAP_SYS_ADMIN, as in a container: one sentence."""
    argv = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "./dev", "demo", "--seconds", "3"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("dev: the demo needs network namespaces")
    assert len(done.stderr.splitlines()) == 1
    assert "CAP_SYS_ADMIN" in done.stderr
