"""From frames on three LANs to the log of one NATS server: daemons, netscand-uplink and the server, all real."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from netscand import sites
from tests.engines.mosquitto import wait
from tests.engines.nats_server import Entry, NatsServer, is_event, view
from tests.engines.test_uplink import Uplink
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab

SITES = ("home", "school", "office")
FAST = "[presence]\nprobe_interval = 1\npatience = [1, 2]\n"


class Site:
    """A LAN with its daemon and its uplink."""

    def __init__(self, name: str, lab: Lab, server: NatsServer, folder: Path) -> None:
        self.name, self.crowd = name, lab.crowd()
        self.daemon: Daemon = lab.daemon(FAST, as_user=True)
        for path in (lab.folder, self.daemon.folder):
            path.chmod(0o755)
        (where := folder / name).mkdir()
        where.chmod(0o755)
        (secret := where / "key").write_text(server.keys[name])
        secret.chmod(0o644)
        self.uplink = Uplink(
            where, self.daemon.socket, server=server.url, site=name, key_file=str(secret), instance=name, spread=0.2,
            rate=100_000,
        )  # fmt: skip
        self.uplink.start()

    def view(self, server: NatsServer) -> tuple[list[str], dict[str, str]]:
        """What a reader of the log knows of it."""
        return view(self.entries(server))

    def entries(self, server: NatsServer) -> list[Entry]:
        """Its messages in the log."""
        return [one for one in server.entries() if one.subject.startswith(f"{sites.PREFIX}.{self.name}.")]

    def join(self, ip: str) -> str:
        """A device joins, and the daemon sees it; its MAC."""
        mac = self.crowd.join(ip)
        wait("seen", lambda: ip in self.daemon.devices())
        return mac

    def until_in_view(self, server: NatsServer, *macs: str) -> None:
        """Wait until a reader of the log knows these devices."""
        wait("in the view", lambda: set(macs) <= set(self.view(server)[1]))

    def history(self) -> list[dict[str, Any]]:
        """Every event that the daemon has."""
        found: list[dict[str, Any]] = self.daemon.get("/api/events?last=1000")["events"]
        return found


@pytest.fixture
def server(folder: Path) -> Iterator[NatsServer]:
    made = NatsServer(folder, *SITES)
    yield made
    made.kill()


def test_three_sites_are_in_one_log(root: None, folder: Path, server: NatsServer) -> None:
    """Devices join and leave while the server, its disk, a daemon and the uplinks fail; each event is there once."""
    with ExitStack() as stack:
        places = [Site(name, stack.enter_context(Lab()), server, folder) for name in SITES]
        for place in places:
            stack.callback(place.uplink.close)
        for place in places:
            place.until_in_view(server, place.join("10.77.0.20"))
        server.kill()
        shutil.copytree(server.store, folder / "copy")
        places[0].daemon.kill()
        places[0].daemon.start()
        server.start()
        for place in places:
            place.until_in_view(server, place.join("10.77.0.40"))
        places[1].uplink.end(signal.SIGKILL)
        server.kill()
        shutil.rmtree(server.store)
        shutil.copytree(folder / "copy", server.store)
        places[2].crowd.leave("10.77.0.40")
        server.start()
        places[1].uplink.start()
        for place in places:
            place.until_in_view(server, place.join("10.77.0.50"))
            exact(place, server)


def exact(place: Site, server: NatsServer) -> None:
    """The view has the daemon's own events, with equal content, without a gap since the first snapshot."""
    shown, _ = place.view(server)
    known = {event["cursor"]: event for event in place.history()}
    order = list(known)
    start = order.index(shown[0])
    assert order[start : start + len(shown)] == shown
    for one in filter(is_event, place.entries(server)):
        expected = known[one.content["cursor"]]
        assert one.content | {"sent_at": None} == expected | {"sent_at": None}
