"""The lab is what it says: were it not, every test that stands on it would prove nothing."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.lab.asking import ask, received, silent, soon
from tests.lab.crowd import Crowd
from tests.lab.lan import Lab
from tests.lab.ordinary import ordinary
from tests.lab.spaces import NAMESPACES, ROOT, command, ours, sweep, temporary_folder


def test_cable_address_and_link_do_what_they_say(lab: Lab) -> None:
    """A kernel host is unplugged, replugged, readdressed, down, up, robbed of its interface and given it back."""
    host, ip = lab.host("10.77.0.90", mac="00:11:32:aa:bb:cc"), "10.77.0.90"
    assert ask(lab, ip) == "00:11:32:aa:bb:cc"
    host.unplug()
    assert silent(lab, ip)
    host.replug()
    assert ask(lab, ip) == host.mac
    host.set_address("10.77.0.91")
    assert (silent(lab, ip), ask(lab, "10.77.0.91")) == (True, host.mac)
    host.down()
    assert silent(lab, "10.77.0.91")
    host.up()
    assert soon(lambda: ask(lab, "10.77.0.91", seconds=0.5) == host.mac)
    host.remove_interface()
    assert silent(lab, "10.77.0.91")
    host.plug()
    assert ask(lab, "10.77.0.91") == host.mac
    with lab.capture() as capture:
        host.announce()
        (said,) = received(capture)
        assert (said.source, said.sender_ip, said.target_ip) == (host.mac, host.ip, host.ip)
    host.delete()
    assert silent(lab, "10.77.0.91")


def test_the_lab_is_quiet(lab: Lab) -> None:
    """On a LAN where no device is to speak, none speaks: no IPv6, no STP, no multicast queries."""
    lab.host("10.77.0.5")
    lab.crowd().populate(lab.addresses(10, start=20))
    with lab.capture() as capture:
        time.sleep(1.0)
        assert list(capture.frames()) == []


def test_a_capture_with_gaps_says_so(shared_lab: Lab, crowd: Crowd) -> None:
    """A capture whose ring was too small raises, since absence in it proves nothing."""
    with shared_lab.capture(slots=1024) as capture:
        crowd.flood(rate=20_000, seconds=0.2, macs=10)
        assert soon(lambda: crowd.counts()["flooded"] == 4000)
        with pytest.raises(BufferError, match="lost"):
            list(capture.frames())


def test_no_link_is_made_outside_of_our_namespaces(shared_lab: Lab, crowd: Crowd) -> None:
    """The machine's own namespace has the links that it had: ours, and their peers, are all inside."""
    links = command("ip", "-o", "link", "show")
    with Lab("10.79.0.0/24") as other:
        other.host()
        other.crowd()
        assert command("ip", "-o", "link", "show") == links


def test_everything_is_gone_afterwards() -> None:
    """Namespaces, processes and folder end with the block, and when it fails."""

    class Stop(Exception):
        pass

    before = ours()
    with pytest.raises(Stop), Lab("10.79.0.0/24") as lab:
        lab.crowd()
        sleeper = lab.watcher.popen(["sleep", "1000"])
        child = lab.watcher.popen(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE)
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        folder = lab.folder
        assert set(ours()) > set(before)
        raise Stop
    assert ours() == before
    assert sleeper.poll() is not None
    with suppress(FileNotFoundError, ProcessLookupError):
        assert "Z" in Path(f"/proc/{grandchild}/stat").read_text().split()
    assert not folder.exists()
    lab.close()


LEAVES_IT = """
import sys, time
from tests.lab.lan import Lab
with Lab("10.79.0.0/24") as lab:
    lab.crowd()
    lab.watcher.popen(["sleep", "1000"])
    print(lab.watcher.space.name, lab.folder, flush=True)
    time.sleep(1000)
"""


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cleans_up_too(number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C unwind the lab."""
    with subprocess.Popen([sys.executable, "-c", LEAVES_IT], cwd=ROOT, stdout=subprocess.PIPE, stderr=-3) as process:
        assert process.stdout is not None
        name, folder = process.stdout.readline().decode().split()
        assert (NAMESPACES / name).exists()
        process.send_signal(number)
        process.wait(60)
    assert not (NAMESPACES / name).exists()
    assert not Path(folder).exists()


@pytest.mark.usefixtures("root")
def test_what_a_killed_lab_left_is_swept() -> None:
    """After kill -9 the next lab's owner removes namespaces and folder; the processes have died by themselves."""
    with subprocess.Popen([sys.executable, "-c", LEAVES_IT], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        name, folder = process.stdout.readline().decode().split()
        process.kill()
    assert soon(lambda: not (NAMESPACES / name).exists() or command("ip", "netns", "pids", name) == "")
    assert Path(folder).is_dir()
    kept = temporary_folder("kept")
    sweep()
    assert not (NAMESPACES / name).exists()
    assert not Path(folder).exists()
    assert kept.is_dir()
    kept.rmdir()


def test_the_ordinary_user_has_one_capability(shared_lab: Lab) -> None:
    """What the daemon is in its unit: not root, CAP_NET_RAW (13) alone, and the project can be imported."""
    (shared_lab.folder / "hold").mkdir()
    program = "import os, netscand, msgspec; print(os.getuid(), open('/proc/self/status').read())"
    said = shared_lab.watcher.run(ordinary([sys.executable, "-c", program], shared_lab.folder / "hold")).stdout
    assert said.startswith("65534 ")
    sets = dict(re.findall(r"^Cap(\w+):\s+(\w+)$", said, re.MULTILINE))
    assert {name: int(value, 16) for name, value in sets.items()} == dict.fromkeys(
        ("Inh", "Prm", "Eff", "Bnd", "Amb"), 1 << 13
    )
    assert not os.listdir(shared_lab.folder / "hold"), "its mounts are its own"
