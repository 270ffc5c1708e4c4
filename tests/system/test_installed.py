"""What an installation has put where, and what it leaves to whom."""

import json
import re
from pathlib import Path

import pytest

from tests.lab.asking import soon
from tests.lab.spaces import ROOT
from tests.system.conftest import Installed
from tests.system.test_service import CONFIG, status

COMPLETIONS = {
    "bash": ("bash-completion/completions/netscanctl",) * 2,
    "zsh": ("zsh/vendor-completions/_netscanctl", "zsh/site-functions/_netscanctl"),
    "fish": ("fish/vendor_completions.d/netscanctl.fish",) * 2,
}
"""Below share: of the package, and of packaging/install."""


def test_an_ordinary_user_scans_the_lan(installed: Installed) -> None:
    """Through the sandbox, on its cable: `scan-now` finds who answers, and one who said nothing before."""
    assert soon(lambda: status(installed)["devices"]["online"] >= len(installed.people))
    quiet = installed.crowd.join("10.77.0.253", "02:00:00:00:77:01", say="none")
    try:
        told = installed.machine.run("netscanctl", "scan-now", "--json", user="ann").stdout
        (update,) = [told for line in told.splitlines() if (told := json.loads(line))["type"] == "scan_update"]
        assert {device["mac"] for device in update["devices"]} >= {*installed.people.values(), quiet}
        refused = installed.machine.run("netscanctl", "scan-now", "192.0.2.1", user="ann", check=False)
        assert (refused.returncode, "192.0.2.1" in refused.stderr) == (1, True)
    finally:
        installed.crowd.leave(quiet)


@pytest.mark.parametrize("shell", COMPLETIONS)
def test_the_completions_stand_where_each_shell_looks(installed: Installed, shell: str) -> None:
    """They are what this netscanctl says."""
    share = "/usr/share" if installed.by_package else "/usr/local/share"
    file = installed.machine.path(f"{share}/{COMPLETIONS[shell][not installed.by_package]}")
    assert file.read_text() == installed.machine.run("netscanctl", "completion", shell).stdout


def test_the_configuration_is_the_users(debian13: Installed) -> None:
    """Conffiles: dpkg never writes over what the user changed."""
    shown = debian13.machine.out("dpkg-query", "--show", "--showformat=${Conffiles}", "netscand")
    assert {line.split()[0] for line in shown.splitlines()} == {CONFIG, str(Path(CONFIG).with_name("services.toml"))}


def test_a_page_of_the_docs_leads_from_a_clean_debian_to_a_name(debian13: Installed) -> None:
    """docs/phone.md, its commands as they are printed: another host opens the page by name, and names a device."""
    debian13.ready()
    machine, configuration = debian13.machine, debian13.machine.path(CONFIG).read_text()
    steps = (ROOT / "docs/phone.md").read_text().partition("\n## ")[0]
    install, *commands = re.findall(r"^sudo (.+)$", steps, re.MULTILINE)
    assert f"sudo {install}\n" in (ROOT / "README.md").read_text()
    assert len(commands) < 9
    phone = debian13.lab.watcher
    try:
        said = "".join(machine.run("sh", "-c", command).stdout for command in commands)
        (token,) = re.findall(r"^link +http://10\.77\.0\.2:8000/#token=(\S+)$", said, re.MULTILINE)
        name = f"{machine.out('uname', '-n').partition('.')[0]}.local"
        url, mac = f"http://{name}:8000", next(iter(debian13.people.values()))
        curl = ["curl", "--silent", "--fail-with-body", "--noproxy", "*", "--resolve", f"{name}:8000:10.77.0.2"]
        assert "<title>netscand</title>" in phone.run([*curl, f"{url}/"]).stdout
        change = ["--request", "PATCH", "--json", '{"label": "printer"}', "--header", f"Origin: {url}"]
        phone.run([*curl, *change, "--header", f"Authorization: Bearer {token}", f"{url}/api/devices/{mac}"])
        assert machine.out("netscanctl", "show", "printer", "--json").count(mac)
        hint = machine.run("netscanctl", "doctor", check=False).stdout
        assert machine.path(re.findall(r"see (/\S+/phone\.md)", hint)[0]).exists()
    finally:
        machine.write(CONFIG, configuration)
        machine.run("systemctl", "reload", "netscand")
        machine.path("/etc/netscand/tokens").unlink(missing_ok=True)
        machine.run("systemctl", "reload", "netscand")
