"""`./dev hub-demo`: a hub with three made-up sites. Touches no real interface.

The NATS server, netscand-hub and the uplinks are in a network namespace of their own, beside those of the three LANs.
Only the port of the page is forwarded, to loopback.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.engines.mosquitto import wait
from tests.engines.nats_server import NatsServer
from tests.lab.daemon import toml
from tests.lab.demo import AT_HOME, BY_DHCP, BY_MDNS, CONFIG, NETSCANCTL, a_lab, introduce, say
from tests.lab.forward import LOOPBACK, Forwarder, listener
from tests.lab.lan import Lab
from tests.lab.spaces import DEADLINE, Space, sweep, temporary_folder

PORT = 8010
"""Port of the page, unless it is taken."""
PHONE = AT_HOME["10.77.0.102"]
PHONE_AT_OFFICE = "10.77.1.102"


@dataclass(frozen=True)
class Place:
    """A LAN: MACs, and the names that devices send by mDNS and DHCP, by address."""

    network: str
    macs: Mapping[str, str]
    by_mdns: Mapping[str, str] = field(default_factory=dict)
    by_dhcp: Mapping[str, str] = field(default_factory=dict)


PLACES = {
    "home": Place("10.77.0.0/24", AT_HOME, BY_MDNS, BY_DHCP),
    "office": Place(
        "10.77.1.0/24",
        {
            "10.77.1.10": "00:11:32:7a:40:0a",  # a Synology box
            "10.77.1.20": "3c:d9:2b:10:55:14",  # an HP printer
            "10.77.1.31": "3c:52:82:04:11:1f",
            "10.77.1.32": "3c:52:82:04:3a:20",
            "10.77.1.33": "a4:83:e7:90:7d:21",
        },
        {"10.77.1.10": "fileserver", "10.77.1.20": "HP105514"},
        {"10.77.1.33": "Reception"},
    ),
    "cabin": Place(
        "10.77.2.0/24",
        {
            "10.77.2.10": "b8:27:eb:91:0c:0a",  # a Raspberry Pi
            "10.77.2.20": "24:0a:c4:22:7e:14",  # an ESP32
        },
        {"10.77.2.10": "weather-station"},
    ),
}


class Processes:
    """Programs of this checkout in one namespace, each with a log in `folder`."""

    def __init__(self, space: Space, folder: Path) -> None:
        self.space, self.folder = space, folder
        self._running: dict[str, subprocess.Popen[Any]] = {}

    def start(self, name: str, module: str, config: Mapping[str, Any]) -> None:
        """Start it with this configuration, and its files in `folder`/`name`."""
        (folder := self.folder / name).mkdir(exist_ok=True)
        (path := folder / "config.toml").write_text(toml(config))
        env = {"STATE_DIRECTORY": str(folder), "RUNTIME_DIRECTORY": str(folder)}
        with (folder / "log").open("ab") as log:
            argv = [sys.executable, "-m", module, "--config", str(path)]
            self._running[name] = self.space.popen(argv, env=env, stdout=log, stderr=log)

    def end(self, name: str) -> None:
        """End it."""
        self.space.end(self._running.pop(name))

    def check(self) -> None:
        """Exit with the end of its log if one has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                lines = (self.folder / name / "log").read_text(errors="replace").splitlines()[-20:]
                sys.exit(f"dev: {name} ended, exit {process.returncode}; the end of its log:\n" + "\n".join(lines))


class Site:
    """A LAN with its netscand, whose uplink is one of `processes`."""

    def __init__(self, name: str, lab: Lab, processes: Processes, server: NatsServer) -> None:
        self.name, self._processes, place = name, processes, PLACES[name]
        lab.gateway()
        for host in lab.hosts:  # each lab numbers its hosts: the same MAC would be one device on several sites
            host.mac = f"52:54:00:{list(PLACES).index(name):02x}:{host.mac[12:]}"
            host.space.ip(f"link set {host.interface} address {host.mac}")
        self.crowd = lab.crowd()
        self.crowd.populate(place.macs, place.macs.values())
        self._daemon = lab.daemon(CONFIG, start=False)
        self._daemon.start(wait=False)
        (key := processes.folder / f"{name}.key").write_text(server.keys[name])
        key.chmod(0o600)
        uplink = {"server": server.url, "site": name, "key_file": str(key), "instance": name, "spread": 0.2}
        allowed = {"words": True, "commands": True}  # so that the page of the hub may name devices
        self._config = {"daemon": {"socket": str(self._daemon.socket)}, "uplink": uplink | allowed}

    def begin(self) -> None:
        """When its netscand is ready, let the devices send their names, and connect."""
        self._daemon.wait_ready(DEADLINE)
        place = PLACES[self.name]
        introduce(self.crowd, place.macs, place.by_mdns, place.by_dhcp)
        self.connect()

    def connect(self) -> None:
        """Start its uplink."""
        self._processes.start(self.name, "netscanctl.services.uplink", self._config)

    def cut_off(self) -> None:
        """End its uplink."""
        self._processes.end(self.name)


def story(home: Site, office: Site, cabin: Site) -> Iterator[tuple[float, str]]:
    """What happens, for ever: seconds, then a sentence. Each step is taken when the next is asked for."""
    while True:
        yield 10, "Jane's phone leaves home, and joins the LAN of the office: one device, on two sites"
        home.crowd.leave(PHONE)
        office.crowd.join(PHONE_AT_OFFICE, PHONE)
        yield 15, "the line of the cabin is cut: after 90 s the site is silent, its devices are unknown, not offline"
        cabin.cut_off()
        yield 120, "the line of the cabin is back"
        cabin.connect()
        yield 15, "Jane's phone leaves the office, and is home again"
        office.crowd.leave(PHONE)
        home.crowd.join("10.77.0.102", PHONE)


def demo() -> None:
    """Build, and play the story until Ctrl-C; then tidy up."""
    sweep()
    with ExitStack() as stack:
        listening = stack.enter_context(listener(PORT))
        port = listening.getsockname()[1]
        say("simulating three LANs, in network namespaces (no real interface is used); starting everything")
        labs = {name: stack.enter_context(a_lab(place.network)) for name, place in PLACES.items()}
        folder = temporary_folder("hubdemo")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        space = Space(f"nsd-{os.getpid()}-0-hub")
        stack.callback(space.delete)
        server = NatsServer(folder, *PLACES, space=space)
        processes = Processes(space, folder)
        (key := folder / "hub.key").write_text(server.hub_key)
        key.chmod(0o600)
        processes.start("hub", "netscand.hub", {
            "hub": {"server": server.url, "key_file": str(key)},
            "listen": {"unix": str(folder / "hub.sock"), "tcp": [f"{LOOPBACK}:{port}"]},
            "access": {"others": "read", "loopback_admin": True},
        })  # fmt: skip
        sites = {name: Site(name, lab, processes, server) for name, lab in labs.items()}
        for site in sites.values():
            site.begin()
        url = f"http://{LOOPBACK}:{port}"
        stack.enter_context(Forwarder(space, listening))

        def connected() -> bool:
            processes.check()
            return _connected(url) == PLACES.keys()

        wait("the hub shows three sites", connected)
        say(f"page: {url}/   (while the demo runs, and on this machine only)")
        say(f"in another terminal: {NETSCANCTL} --url {url} sites")
        say(f"or: {NETSCANCTL} --url {url} watch   (Ctrl-C here ends the demo)")
        for pause, says in story(**sites):
            ends = time.monotonic() + pause
            while time.monotonic() < ends:
                processes.check()
                time.sleep(0.5)
            say(says)


def _connected(url: str) -> set[str]:
    """The sites that are connected, as the hub shows them; none while it does not answer."""
    try:
        with urllib.request.urlopen(f"{url}/api/sites", timeout=5) as answer:
            return {each["site"] for each in json.load(answer)["sites"] if each["state"] == "connected"}
    except OSError:
        return set()


def main() -> int:
    """Read the arguments; the exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # sh lets what it starts with & ignore Ctrl-C
    argparse.ArgumentParser(prog="./dev hub-demo", description=__doc__, allow_abbrev=False).parse_args()
    try:
        demo()
    except KeyboardInterrupt:
        say("the simulated LANs and the hub are removed; to set up your own: docs/sites.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
