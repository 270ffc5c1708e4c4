"""A hub and its sites, by nothing but the commands of docs/sites.md, as they are printed."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.nats_server import find_program
from tests.lab.asking import soon
from tests.lab.spaces import ROOT
from tests.system.conftest import Installed, install
from tests.system.machine import Machine, tree

HOST, CABIN = "10.77.0.2", "10.77.0.1"
AT_HUB = ("netscanctl", "--socket", "/run/netscand-hub/netscand-hub.sock")
MOST = 15
"""Commands that a newcomer types for a hub and two sites."""


@pytest.fixture
def cabin(debian13: Installed) -> Iterator[Machine]:
    """A second machine on the same LAN."""
    with Machine(tree("trixie"), debian13.lab, CABIN) as made:
        yield made


class Newcomer:
    """Types the commands of the page, and counts them."""

    def __init__(self, debs: Path) -> None:
        self.debs = debs
        self.count = 0
        page = (ROOT / "docs/sites.md").read_text()
        self.commands = re.findall(r"^sudo (.+?)(?: +#.*)?$", page.partition("\n## The configuration")[0], re.MULTILINE)

    def type(self, machine: Machine, beginning: str, *, exact: str | None = None) -> str:
        """Run the command of the page that begins so, or what a command printed; return what it prints."""
        self.count += 1
        (command, *_) = [one for one in self.commands if one.startswith(beginning)]
        line = (exact or command).removeprefix("sudo ").replace("hub.example.org", HOST)
        if line.startswith("apt install"):
            for deb in self.debs.glob("*.deb"):
                machine.put(deb, "/root")
            line = line.replace("apt install", "apt-get install --yes").replace("./dist/", "/root/")
        done = machine.run("sh", "-c", line, timeout=300, env={"DEBIAN_FRONTEND": "noninteractive"})
        return done.stdout.strip()

    def join(self, hub: Machine, site: Machine, name: str) -> None:
        """Three commands: one prints the next."""
        printed = self.type(hub, "netscand-hub add-site home", exact=f"netscand-hub add-site {name}")
        printed = self.type(site, "netscand-uplink join", exact=printed)
        self.type(hub, "netscand-hub add-site home --key", exact=printed)


def test_a_hub_and_two_sites_in_few_commands(debian13: Installed, cabin: Machine, deb: Path) -> None:
    """The hub shows every device of both, to root and the group; its doctor finds nothing; a removed site is out."""
    debian13.ready()
    hub, user = debian13.machine, Newcomer(deb.parent)
    services = hub.path("/etc/netscand/services.toml").read_text()
    try:
        user.type(hub, "apt install ./dist/netscand_0.1.0_all.deb ./dist/netscand-hub")
        said = user.type(hub, "netscand-hub init")
        assert "nats-server.service: stopped and disabled" in said
        assert said.count(": made") == 4
        user.type(cabin, "apt install ./dist/netscand_0.1.0_all.deb python3-nacl")
        user.join(hub, hub, "home")
        user.join(hub, cabin, "cabin")

        everyone = set(debian13.people.values())

        def devices(as_user: str | None = None) -> list[str]:
            return hub.run(*AT_HUB, "devices", user=as_user, check=False).stdout.split()

        def shows_all() -> bool:
            shown = devices()
            return all(shown.count(mac) == 2 for mac in everyone)

        def why() -> str:
            journal = hub.run("journalctl", "--no-pager", "--unit=netscand-hub", "--unit=netscand-uplink").stdout
            return "\n".join([*devices()[:20], hub.run("netscand-hub", "doctor", check=False).stdout, journal])

        assert soon(shows_all, 120), why()
        assert user.count < MOST
        assert not devices("ann")
        hub.run("usermod", "--append", "--groups=netscan", "ann")
        assert everyone <= set(devices("ann"))
        doctor = user.type(hub, "netscand-hub doctor")
        assert {line.split()[0] for line in doctor.splitlines()} == {"ok"}
        assert "2 of 2 are connected, have this version" in doctor
        for machine in (hub, cabin):
            status = machine.out("netscanctl", "status")
            assert "uplink running, up to date" in status
            assert "not running" not in status
        for unit in ("netscand-nats", "netscand-hub", "netscand-uplink"):
            assert hub.show(unit, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}
        hub.run("netscand-hub", "remove-site", "cabin")
        assert soon(lambda: "Authorization Violation" in cabin.out("netscanctl", "status"), 60)
    finally:
        hub.run("systemctl", "disable", "--now", "netscand-uplink", check=False)
        hub.write("/etc/netscand/services.toml", services)
        hub.run("apt-get", "purge", "--yes", "netscand-hub", "nats-server", check=False, timeout=300)
        for unit in ("netscand-nats", "netscand-hub"):
            assert hub.show(unit, "ActiveState") == {"ActiveState": "inactive"}
        hub.run("gpasswd", "--delete", "ann", "netscan", check=False)
        for place in ("/etc/credstore/netscand-uplink.key", "/etc/netscand/uplink-ca.pem"):
            hub.run("rm", "-rf", place)


def test_a_hub_of_packaging_install(debian12: Installed) -> None:
    """It is its own site; an upgrade restarts it, and its server stays. Nothing of it is left afterwards."""
    debian12.ready()
    hub, user, everyone = debian12.machine, Newcomer(Path()), set(debian12.people.values())
    services = hub.path("/etc/netscand/services.toml").read_text()
    units = ("netscand-nats", "netscand-hub", "netscand-uplink")

    def pids() -> list[int]:
        return [hub.main_pid(unit) for unit in units]

    def shows_all() -> bool:
        return everyone <= set(hub.run(*AT_HUB, "devices", check=False).stdout.split())

    def why() -> str:
        return "\n".join([
            hub.run("netscand-hub", "doctor", check=False).stdout,
            hub.run("journalctl", "--no-pager", *(f"--unit={unit}" for unit in units)).stdout,
        ])  # fmt: skip

    try:
        assert pids() == [0, 0, 0]
        shutil.copy(find_program(), hub.path("/usr/sbin/nats-server"))  # Debian 12 has an older one
        hub.write("/etc/hosts", "127.0.0.1 localhost\n")  # the installer of Debian writes it
        assert user.type(hub, "netscand-hub init").count(": made") == 4
        user.join(hub, hub, "home")
        assert soon(shows_all, 120), why()
        nats, former, _ = pids()
        install(hub)
        assert soon(shows_all, 120), why()
        assert pids()[0] == nats
        assert pids()[1] != former
        doctor = user.type(hub, "netscand-hub doctor")
        assert {line.split()[0] for line in doctor.splitlines()} == {"ok"}, doctor
    finally:
        hub.run("systemctl", "disable", "--now", *units, check=False)
        hub.write("/etc/netscand/services.toml", services)
        made = (
            "/etc/netscand/nats", "/etc/netscand/hub.toml", "/etc/netscand/uplink-ca.pem", "/var/lib/netscand-nats",
            "/etc/credstore/netscand-hub.key", "/etc/credstore/netscand-uplink.key", "/usr/sbin/nats-server",
            "/var/lib/private/netscand-nats",
        )  # fmt: skip
        hub.run("rm", "-rf", *made)


def test_a_host_that_gets_both_packages_at_once_scans_nothing(machines: None, deb: Path) -> None:
    """The hub works; an upgrade starts nothing; and netscand runs when its administrator enables it."""
    with Machine(tree("trixie")) as hub:
        user, units = Newcomer(deb.parent), ("netscand.service", "netscand.socket")

        def states() -> set[str]:
            return {" ".join(hub.show(unit, "ActiveState", "UnitFileState").values()) for unit in units}

        both = "apt install ./dist/netscand_0.1.0_all.deb ./dist/netscand-hub"
        assert "netscand: off, because this host is a hub" in user.type(hub, both)
        assert states() == {"inactive disabled"}
        assert "netscand-hub.service: running" in user.type(hub, "netscand-hub init")
        user.type(hub, "apt", exact="apt install --reinstall ./dist/netscand_0.1.0_all.deb")
        assert states() == {"inactive disabled"}
        hub.run("systemctl", "enable", "--now", *reversed(units))
        assert states() == {"active enabled"}
        user.type(hub, "apt", exact="apt install --reinstall ./dist/netscand_0.1.0_all.deb")
        assert states() == {"active enabled"}
