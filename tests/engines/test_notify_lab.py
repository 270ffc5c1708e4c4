"""From a frame on a LAN to a phone: the daemon, netscand-notify and ntfy's server, all real."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core import built_frames
from tests.ctl.notify_receivers import Ntfy
from tests.engines.mosquitto import wait
from tests.engines.service_process import Running
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab

PRINTER, PHONE = "10.77.0.20", "10.77.0.21"


class Notify(Running):
    """netscand-notify."""

    name = "notify"

    def start(self) -> None:
        """Start it, and wait until it has a cursor: what is there by then is not new."""
        super().start()
        wait("the first cursor", lambda: (self.state / "state.json").exists())


@pytest.fixture
def daemon(lab: Lab) -> Daemon:
    """A daemon whose socket every user can reach."""
    made = lab.daemon("[presence]\nprobe_interval = 1\npatience = [1, 2]\n", as_user=True)
    for path in (lab.folder, made.folder):
        path.chmod(0o755)
    return made


@pytest.fixture
def ntfy(folder: Path) -> Iterator[Ntfy]:
    made = Ntfy(folder)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def service(folder: Path, daemon: Daemon, ntfy: Ntfy) -> Iterator[Notify]:
    made = Notify(folder, daemon.socket, ntfy=f"http://127.0.0.1:{ntfy.port}/netscand")
    yield made
    made.close()


def titles(ntfy: Ntfy) -> list[str]:
    return [found["title"] for found in ntfy.messages("netscand")]


def test_a_phone_shows_a_new_device_with_its_name(lab: Lab, daemon: Daemon, ntfy: Ntfy, service: Notify) -> None:
    """Two lines of configuration. A device that was there before is not new; a name that comes later is waited for."""
    crowd = lab.crowd()
    crowd.join(PRINTER)
    wait("seen", lambda: PRINTER in daemon.devices())
    wait("the first scan", lambda: daemon.get("/api/status")["last_scan"])
    service.start()
    mac = crowd.join(PHONE)
    wait("seen", lambda: PHONE in daemon.devices())
    crowd.send(built_frames.dhcp("request", ("hostname", b"janes-phone"), mac=mac))
    wait("the message", lambda: titles(ntfy))
    assert titles(ntfy) == ["New device: janes-phone"]
    assert PHONE in ntfy.messages("netscand")[0]["message"]
    wait("accepted", lambda: service.status().accepted == 1)


def test_a_cable_that_is_unplugged_accuses_no_device(lab: Lab, daemon: Daemon, ntfy: Ntfy, service: Notify) -> None:
    """Law 8 from the cable to the phone: one message about the network, one about the device that really left."""
    with service.config.open("a") as config:
        config.write('[notify.rule.all]\nkinds = ["online", "offline", "network_down", "network_up"]\n')
    crowd = lab.crowd()
    for address in (PRINTER, PHONE):
        crowd.join(address)
    wait("seen", lambda: {PRINTER, PHONE} <= set(daemon.devices()))
    service.start()
    lab.watcher.down()
    wait("the network's message", lambda: titles(ntfy))
    lab.watcher.up()
    wait("online again", lambda: daemon.devices()[PHONE]["status"] == "online")
    crowd.leave(PHONE)
    wait("the device's message", lambda: any("offline" in title for title in titles(ntfy)))
    found = titles(ntfy)
    assert [title.partition(" ")[0] for title in found[:2]] == ["Network", "Network"]
    assert len(found) == 3, found


def test_ntfy_is_away_and_the_service_is_killed(lab: Lab, daemon: Daemon, ntfy: Ntfy, service: Notify) -> None:
    """The message arrives once ntfy is back."""
    wait("the first scan", lambda: daemon.get("/api/status")["last_scan"])
    service.start()
    ntfy.stop()
    crowd = lab.crowd()
    mac = crowd.join(PHONE)
    crowd.send(built_frames.dhcp("request", ("hostname", b"janes-phone"), mac=mac))
    wait("a problem", lambda: any("connection failed" in one for one in service.status().problems))
    service.end(9)
    service.start()
    ntfy.start()
    wait("the message", lambda: titles(ntfy), 90)
    assert set(titles(ntfy)) == {"New device: janes-phone"}
