"""Two machines, made once a run: Debian 13 with the package, Debian 12 with packaging/install."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.lab.crowd import Crowd
from tests.lab.lan import Lab
from tests.lab.spaces import ROOT, command
from tests.system.machine import Machine, tree
from tests.system.wheels import wheelhouse

OLD_PYTHON = "3.11"
"""Debian 12's."""

PARTS = (
    "CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "docs", "examples", "netscand", "netscanctl", "packaging",
    "pyproject.toml", "requirements", "systemd",
)  # fmt: skip
"""What of the checkout an installation needs."""

PEOPLE = 250
"""Devices on the LAN of each machine: a /24, nearly full."""


def pytest_configure(config: pytest.Config) -> None:
    """Markers of this ring."""
    config.addinivalue_line("markers", "last: after all others, because it takes away what they stand on")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The last come last, whatever the order of the rest; machine by machine, so that no two run at once."""

    def place(item: pytest.Item) -> tuple[bool, bool]:
        names = {item.name, *getattr(item, "fixturenames", ())}
        return any("debian12" in name for name in names), item.get_closest_marker("last") is not None

    items.sort(key=place)


@dataclass
class Installed:
    """A machine with netscand on it, and its LAN."""

    machine: Machine
    lab: Lab
    crowd: Crowd
    seen_after: float = 0.0
    """Seconds from the end of the installation until an ordinary user had seen every device."""
    said: str = ""
    """What the installation said."""
    by_package: bool = True
    people: dict[str, str] = field(default_factory=dict)
    """IP → MAC"""

    def ready(self, seconds: float = 60.0) -> int:
        """Wait until the daemon is ready; its main process."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            shown = self.machine.show("netscand", "ActiveState", "SubState", "MainPID")
            if shown["ActiveState"] == "active" and shown["SubState"] == "running":
                return int(shown["MainPID"])
            time.sleep(0.05)
        raise AssertionError(
            f"netscand is not ready: {self.machine.run('systemctl', 'status', 'netscand', check=False)}"
        )

    def signal(self, name: str, pid: int) -> None:
        """Send a process of the machine a signal; a small Debian has no kill but the shell's."""
        self.machine.run("sh", "-c", f"kill -{name} {pid}")

    def drop_in(self, text: str, *, wait: bool = True) -> None:
        """Change the unit ('' puts it back) and restart it. Do not `wait` for a start that fails: it is tried again."""
        place = self.machine.path("/run/systemd/system/netscand.service.d")
        shutil.rmtree(place, ignore_errors=True)
        if text:
            self.machine.write("/run/systemd/system/netscand.service.d/test.conf", text)
        self.machine.run("systemctl", "daemon-reload")
        self.machine.run("systemctl", "reset-failed", "netscand.service", "netscand.socket", check=False)
        self.machine.run("systemctl", "start", "netscand.socket")
        self.machine.run("systemctl", "restart", *([] if wait else ["--no-block"]), "netscand", check=False)


@pytest.fixture(scope="session")
def machines() -> None:
    """For tests that boot machines."""
    if os.geteuid():
        pytest.skip("machines are booted by root: run ./dev test as root or through sudo")
    missing = [
        tool
        for tool in ("debootstrap", "systemd-nspawn")
        if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin")
    ]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; ./dev setup --test installs it")


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a package is made of, as it is at this moment, whatever is changed in the checkout meanwhile."""
    folder = tmp_path_factory.mktemp("sources")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder / part)
    return folder


@pytest.fixture(scope="session")
def deb(machines: None, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built; lintian had nothing to say."""
    tree("build")
    return build_deb(sources, tmp_path_factory.mktemp("deb"))


def build_deb(sources: Path, folder: Path) -> Path:
    """Build both packages of a checkout that has no environment of its own; return the one of netscand."""
    return Path(command("env", f"PYTHON={sys.executable}", sources / "packaging" / "deb", folder).strip())


@pytest.fixture(scope="session")
def debian13(deb: Path) -> Iterator[Installed]:
    """A Debian 13 with nothing but the package installed."""
    with lan() as lab, Machine(tree("trixie"), lab) as machine:
        machine.run("useradd", "--create-home", "ann")
        made = populated(machine, lab)
        package = machine.put(deb, "/root")
        said = machine.run(
            "apt-get", "install", "--yes", package, timeout=300, env={"DEBIAN_FRONTEND": "noninteractive"}
        )
        made.said = said.stdout + said.stderr
        made.seen_after = seen_by_ann(made)
        yield made


@pytest.fixture(scope="session")
def debian12(machines: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """A Debian 12 with netscand from a checkout, by packaging/install."""
    place = tree("bookworm")
    wheels = wheelhouse(place.parent / "wheels", OLD_PYTHON)
    with lan() as lab, Machine(place, lab) as machine:
        machine.run("useradd", "--create-home", "ann")
        made = populated(machine, lab)
        made.by_package = False
        copy_checkout(machine)
        machine.put(wheels, "/root")
        said = install(machine)
        made.said = said
        made.seen_after = seen_by_ann(made)
        yield made


@pytest.fixture(params=["debian13", "debian12"])
def installed(request: pytest.FixtureRequest) -> Installed:
    """Each of the two, as a test finds it: running, with its own unit and configuration."""
    made: Installed = request.getfixturevalue(request.param)
    made.ready()
    return made


def copy_checkout(machine: Machine) -> None:
    """The checkout at /root/netscand, as far as an installation needs it."""
    machine.path("/root/netscand").mkdir(exist_ok=True)
    for part in PARTS:
        machine.put(ROOT / part, "/root/netscand")


def install(machine: Machine, *how: str) -> str:
    """Run packaging/install in the machine; what it said."""
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/root/wheels"}
    return machine.run("/root/netscand/packaging/install", *how, env=env, timeout=300).stderr


def lan() -> Lab:
    """The LAN of one machine."""
    return Lab("10.77.0.0/24", watcher_ip="10.77.0.254")


def populated(machine: Machine, lab: Lab) -> Installed:
    """With a crowd that nearly fills it."""
    crowd = lab.crowd()
    people = crowd.populate(lab.addresses(PEOPLE, start=3))
    return Installed(machine, lab, crowd, people=people)


def seen_by_ann(made: Installed) -> float:
    """Seconds until `netscanctl watch`, by an ordinary user, has shown every device; nothing else is done for it."""
    begun = time.monotonic()
    left = set(made.people.values())
    watch = made.machine.popen("netscanctl", "watch", user="ann")
    try:
        assert watch.stdout is not None
        for line in watch.stdout:
            left -= set(line.split())
            if not left or time.monotonic() > begun + 60:
                break
    finally:
        watch.kill()
        watch.communicate()
    if left:
        journal = made.machine.run("journalctl", "--unit=netscand", "--no-pager", "--lines=40", check=False).stdout
        raise AssertionError(f"{len(left)} devices were not seen\n{journal}")
    return time.monotonic() - begun
