"""A hub and two sites on Debian 13, by nothing but the commands of docs/sites.md, as they are printed."""

import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.asking import soon
from tests.lab.spaces import ROOT
from tests.system.conftest import Installed
from tests.system.machine import Machine, tree

HOST, CABIN = "10.77.0.2", "10.77.0.1"
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
        if "pip install" in line:  # there is no network: as if it had been fetched
            for name in ("nats", "nkeys"):
                found = importlib.util.find_spec(name)
                assert found is not None and found.submodule_search_locations
                place = Path(next(iter(found.submodule_search_locations)))
                target = machine.path("/opt/netscand-sites") / name
                shutil.copytree(place, target, ignore=shutil.ignore_patterns("__pycache__"))
            return ""
        if line.startswith("apt install"):
            for deb in self.debs.glob("*.deb"):
                machine.put(deb, "/root")
            line = (
                line.replace("apt install", "apt-get install --yes")
                .replace("./dist/", "/root/")
                .replace(" python3-pip", "")
            )
        done = machine.run("sh", "-c", line, timeout=300, env={"DEBIAN_FRONTEND": "noninteractive"})
        return done.stdout.strip()

    def join(self, hub: Machine, site: Machine, name: str) -> None:
        """Three commands: one prints the next."""
        printed = self.type(hub, "netscand-hub add-site home", exact=f"netscand-hub add-site {name}")
        printed = self.type(site, "netscand-uplink join", exact=printed)
        self.type(hub, "netscand-hub add-site home --key", exact=printed)


def test_a_hub_and_two_sites_in_few_commands(debian13: Installed, cabin: Machine, deb: Path) -> None:
    """Both sites publish: each is the owner of its name at the server. tests/engines test what the hub shows."""
    debian13.ready()
    hub, user = debian13.machine, Newcomer(deb.parent)
    services = hub.path("/etc/netscand/services.toml").read_text()
    try:
        user.type(hub, "apt install ./dist/netscand_0.1.0_all.deb ./dist/netscand-hub")
        user.type(hub, "python3 -m pip")
        said = user.type(hub, "netscand-hub init")
        assert "nats-server.service: stopped and disabled" in said
        assert said.count(": made") == 4
        user.type(cabin, "apt install ./dist/netscand_0.1.0_all.deb python3-nacl")
        user.type(cabin, "python3 -m pip")
        user.join(hub, hub, "home")
        user.join(hub, cabin, "cabin")

        def doctor() -> str:
            return hub.run("netscand-hub", "doctor", check=False).stdout

        assert soon(lambda: re.search(r"KV_NETSCAN_OWNER +2 messages", doctor()), 120), doctor()
        assert user.count < MOST
    finally:
        hub.run("systemctl", "disable", "--now", "netscand-uplink", check=False)
        hub.write("/etc/netscand/services.toml", services)
        hub.run("apt-get", "purge", "--yes", "netscand-hub", "nats-server", check=False, timeout=300)
        for place in ("/opt/netscand-sites", "/etc/credstore/netscand-uplink.key", "/etc/netscand/uplink-ca.pem"):
            hub.run("rm", "-rf", place)
