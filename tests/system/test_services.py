"""netscand-mqtt as people have it: from the package or packaging/install, by docs/mqtt.md, with a broker on the LAN."""

import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.asking import soon
from tests.lab.spaces import temporary_folder
from tests.system.conftest import Installed

BROKER, BROKER_MAC = "10.77.0.1", "52:54:00:00:18:83"
"""Always the same: to another MAC, the kernel of the machine needs half a minute to find the way."""
PASSWORD = "/etc/credstore/netscand-mqtt.password"
LINES = f'[mqtt]\nbroker = "mqtt://{BROKER}"\nusername = "netscand"\n'
"""Step 2 of docs/mqtt.md."""
Subscribe = Callable[[str], str]


@pytest.fixture
def subscribe(installed: Installed) -> Iterator[Subscribe]:
    """Run a broker on the LAN; wait for the next message of a topic."""
    if shutil.which("mosquitto") is None or shutil.which("mosquitto_sub") is None:
        pytest.skip("not installed: mosquitto; sudo ./dev setup --test fetches it, ./dev test finds it")
    host, folder = installed.lab.host(BROKER, BROKER_MAC), temporary_folder("broker")
    (folder / "conf").write_text(f"user root\nlistener 1883 {BROKER}\nallow_anonymous true\n")
    broker = host.popen(["mosquitto", "-c", str(folder / "conf")])
    yield lambda topic: host.run(["mosquitto_sub", "-h", BROKER, "-t", topic, "-C", "1", "-W", "60"]).stdout.strip()
    host.space.end(broker)
    host.delete()
    shutil.rmtree(folder)


@pytest.fixture
def enabled(installed: Installed, subscribe: Subscribe) -> Iterator[Installed]:
    """Follow the steps of docs/mqtt.md; put everything back."""
    machine = installed.machine
    put_library(installed)
    shipped = machine.path("/etc/netscand/services.toml").read_text()
    machine.write("/etc/netscand/services.toml", LINES)
    machine.path("/etc/credstore").mkdir(mode=0o700, exist_ok=True)
    machine.write(PASSWORD, "s3cret\n", 0o600)
    assert machine.run("netscand-mqtt", "--check-config", "/etc/netscand/services.toml").stdout.endswith("good\n")
    machine.run("systemctl", "enable", "--now", "netscand-mqtt")
    yield installed
    machine.run("systemctl", "disable", "--now", "netscand-mqtt")
    machine.write("/etc/netscand/services.toml", shipped)


def put_library(installed: Installed) -> None:
    """Install paho-mqtt where the package would be; packaging/install has its own."""
    if not installed.by_package:
        return
    found = importlib.util.find_spec("paho")
    assert found is not None and found.submodule_search_locations
    place = installed.machine.path("/usr/lib/python3/dist-packages/paho")
    if not place.exists():
        shutil.copytree(Path(next(iter(found.submodule_search_locations))), place)


def line_of_status(installed: Installed) -> str:
    """What an ordinary user sees of it."""
    shown = installed.machine.run("netscanctl", "status", user="ann").stdout
    return "".join(line for line in shown.splitlines() if line.startswith("service"))


def test_two_lines_bring_a_device_to_the_broker(enabled: Installed, subscribe: Subscribe) -> None:
    """A device marked as known is there with its discovery; every local user sees that the service works."""
    mac = next(iter(enabled.people.values()))
    enabled.machine.run("netscanctl", "label", mac, "Jane's phone")
    enabled.machine.run("netscanctl", "known", mac)
    compact = mac.replace(":", "")
    assert subscribe("netscand/home/bridge") == "online"
    assert json.loads(subscribe(f"netscand/home/device/{compact}"))["presence"] == "home"
    config = json.loads(subscribe(f"homeassistant/device/netscand_home_{compact}/config"))
    assert config["dev"]["name"] == "Jane's phone"
    assert soon(lambda: "mqtt running, up to date" in line_of_status(enabled)), line_of_status(enabled)


def test_it_has_a_user_of_its_own_and_no_capability(enabled: Installed, subscribe: Subscribe) -> None:
    """In the kernel's own words; and systemd reads its status."""
    subscribe("netscand/home/bridge")
    machine = enabled.machine
    facts = machine.out("cat", f"/proc/{machine.main_pid('netscand-mqtt')}/status")
    assert int(re.findall(r"Uid:\s+(\d+)", facts)[0]) >= 61184  # systemd.exec(5), DynamicUser=
    assert set(re.findall(r"Cap(?:Inh|Prm|Eff|Bnd|Amb):\s+(\w+)", facts)) == {"0" * 16}
    assert soon(lambda: machine.show("netscand-mqtt", "StatusText")["StatusText"] == "up to date")
    assert machine.run("ls", "/var/lib/netscand-mqtt/", user="ann", check=False).returncode != 0


def test_one_that_does_not_run_is_shown(enabled: Installed) -> None:
    """An invalid configuration ends it, and is not tried again; `netscanctl status` says where to look."""
    enabled.machine.write("/etc/netscand/services.toml", LINES + "devices = 1\n")
    enabled.machine.run("systemctl", "restart", "netscand-mqtt", check=False)
    assert soon(lambda: enabled.machine.show("netscand-mqtt", "ActiveState")["ActiveState"] == "failed")
    assert line_of_status(enabled).endswith("mqtt is not running; see journalctl -u netscand-mqtt -n 20")
    found = [entry["MESSAGE"] for entry in enabled.machine.journal("_SYSTEMD_UNIT=netscand-mqtt.service")]
    assert any("[mqtt] devices: expected one of all, known, not 1" in message for message in found)
