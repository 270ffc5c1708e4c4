"""From a frame on a LAN to a subscriber: the daemon, netscand-mqtt and mosquitto, all real."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from netscanctl.services.mqtt.topics import person_id
from tests.bench.mqtt import event_delays
from tests.engines.mosquitto import Mosquitto, Subscriber, wait
from tests.engines.service_process import Running
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.test_passive import dhclient, dnsmasq

PHONE = "10.77.0.20"


@pytest.fixture
def daemon(lab: Lab) -> Daemon:
    """A daemon whose socket every user can reach."""
    made = lab.daemon("[presence]\nprobe_interval = 1\npatience = [1, 2]\n", as_user=True)
    for path in (lab.folder, made.folder):
        path.chmod(0o755)
    return made


@pytest.fixture
def service(folder: Path, daemon: Daemon, broker: Mosquitto) -> Iterator[Running]:
    made = Running(folder, daemon.socket, broker=broker.url, commands=True)
    made.start()
    wait("the first cursor", (made.state / "cursor").exists)
    yield made
    made.close()


def test_a_phone_comes_goes_and_is_never_gone_by_our_blindness(
    lab: Lab, daemon: Daemon, subscriber: Subscriber, service: Running
) -> None:
    """Law 8 from the cable to Home Assistant: our cable is unplugged, and the state stays."""
    crowd = lab.crowd()
    mac = crowd.join(PHONE)
    wait("seen", lambda: PHONE in daemon.devices())
    assert daemon.request("PATCH", f"/api/devices/{mac}", {"known": True, "label": "Jane's phone"})[0] == 200
    topic = f"netscand/home/device/{mac.replace(':', '')}"
    assert subscriber.until(topic)["presence"] == "home"
    lab.watcher.down()
    subscriber.until(topic, lambda there: there["status"] == "unknown")
    assert subscriber.json(topic)["presence"] == "home"
    lab.watcher.up()
    subscriber.until(topic, lambda there: there["status"] == "online")
    assert {json.loads(payload)["presence"] for payload in subscriber.of(topic)} == {"home"}
    crowd.leave(PHONE)
    subscriber.until(topic, lambda there: there["presence"] == "not_home")
    crowd.join(PHONE, mac)
    subscriber.until(topic, lambda there: there["presence"] == "home")
    kinds = [json.loads(payload)["kind"] for payload in subscriber.of("netscand/home/event")]
    assert {"labelled", "network_down", "network_up", "offline", "online"} <= set(kinds)


def test_the_lease_of_a_real_client_is_published(
    lab: Lab, daemon: Daemon, subscriber: Subscriber, service: Running
) -> None:
    """From its DHCP messages to the subscriber."""
    dnsmasq(lab.host("10.77.0.1"), "--dhcp-range=10.77.0.100,10.77.0.110,1h")
    laptop = lab.host(None)
    assert daemon.request("PATCH", f"/api/devices/{laptop.mac}", {"known": True})[0] == 200
    dhclient(laptop, "janes-laptop")
    topic = f"netscand/home/device/{laptop.mac.replace(':', '')}"
    state = subscriber.until(topic, lambda there: there and there["lease_seconds"] == 3600)
    assert (state["dhcp_server"], state["address_origin"]) == ("10.77.0.1", "lease")


def test_the_daemon_is_restarted_and_nothing_is_lost(
    lab: Lab, daemon: Daemon, subscriber: Subscriber, service: Running
) -> None:
    """An upgrade: devices stay available, and events after it arrive."""
    crowd = lab.crowd()
    crowd.join(PHONE)
    wait("seen", lambda: subscriber.of("netscand/home/event"))
    daemon.kill()
    daemon.start()
    crowd.join("10.77.0.21")
    wait("the event", lambda: any(b"10.77.0.21" in payload for payload in subscriber.of("netscand/home/event")))
    assert subscriber.of("netscand/home/bridge") == [b"online"]
    cursors = [json.loads(payload)["cursor"] for payload in subscriber.of("netscand/home/event")]
    assert len(cursors) == len(set(cursors))


def test_a_person_is_right_after_the_daemon_was_killed(
    lab: Lab, daemon: Daemon, subscriber: Subscriber, service: Running
) -> None:
    """Who is home stays home until the phone is seen again; who left meanwhile is away then."""
    crowd = lab.crowd()
    macs = {name: crowd.join(f"10.77.0.{number}") for number, name in enumerate(("Jane", "Tom"), 20)}
    wait("seen", lambda: len(daemon.devices()) > 2)
    for name, mac in macs.items():
        assert daemon.request("PATCH", f"/api/people/{name}", {"add": [{"mac": mac}]})[0] == 200
    jane, tom = (f"netscand/home/person/{person_id(name)}" for name in macs)
    for topic in (jane, tom):
        assert subscriber.until(topic)["presence"] == "home"
    daemon.kill()
    crowd.leave("10.77.0.21")
    daemon.start()
    away = subscriber.until(tom, lambda there: there["status"] == "away")
    assert away["presence"] == "not_home"
    assert subscriber.until(jane, lambda there: there["status"] == "home")["presence"] == "home"
    assert {json.loads(payload)["presence"] for payload in subscriber.of(jane)} == {"home"}
    assert "person_unknown" in [json.loads(payload)["kind"] for payload in subscriber.of("netscand/home/event")]


def test_a_command_scans(lab: Lab, daemon: Daemon, subscriber: Subscriber, service: Running) -> None:
    """With the role that every local user has."""
    subscriber.until("netscand/home/bridge", lambda there: there == "online")
    wait("the first scan", lambda: daemon.get("/api/status")["last_scan"])
    before = daemon.get("/api/status")["last_scan"]
    subscriber.publish("netscand/home/command", "scan_now")
    wait("a scan", lambda: daemon.get("/api/status")["last_scan"] != before, 20)


def test_the_bench_measures_each_event(folder: Path, root: None) -> None:
    """The figures are those of `./dev bench mqtt`."""
    assert len(event_delays(folder, 20)) == 20
