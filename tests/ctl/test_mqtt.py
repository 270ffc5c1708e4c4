"""The parts of netscand-mqtt that need no broker: configuration, topics, payloads, what is queued."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netscanctl.client import Daemon
from netscanctl.services.following import StateFollower
from netscanctl.services.mqtt import service as mqtt_service
from netscanctl.services.mqtt.connection import BrokerError, Credentials
from netscanctl.services.mqtt.documents import Documents
from netscanctl.services.mqtt.outbox import Outbox
from netscanctl.services.mqtt.service import MqttService
from netscanctl.services.mqtt.settings import PASSWORD, Mqtt, faults
from netscanctl.services.mqtt.topics import Topics
from netscanctl.services.program import Context
from netscanctl.services.report import Report
from netscanctl.services.services_file import load
from netscand.config import ConfigError
from tests.ctl.conftest import ROOT
from tests.ctl.fake_daemon import DEADLINE
from tests.ctl.messages import device, event, snapshot

# ---- configuration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('broker = "broker.lan"', "[mqtt] broker 'broker.lan': expected mqtt://HOST:PORT or mqtts://HOST:PORT"),
        ('broker = "mqtt://me:pw@broker"', "see username and password_file"),
        ('broker = "mqtt://broker:0"', "expected mqtt://HOST:PORT"),
        ('site = "my home"', "[mqtt] site 'my home': expected 1 to 32 letters, digits, - or _"),
        ('topic = "a/#"', "expected a topic such as netscand, without +, # or spaces"),
        ('discovery_prefix = "a b"', 'expected a topic such as homeassistant, or "" for no discovery'),
        ('zone = "home"', "expected the id of a zone, such as zone.home or zone.office"),
        ('devices = "some"', '[mqtt] devices: expected one of all, known, not "some"'),
        ("comands = true", "[mqtt] comands: unknown key; known keys: metrics, broker"),
        ('metrics = "0.0.0.0:1"', "[mqtt] metrics '0.0.0.0:1': expected a loopback address"),
    ],
)
def test_an_invalid_value_is_refused_with_what_to_do(tmp_path: Path, text: str, expected: str) -> None:
    (path := tmp_path / "services.toml").write_text(f"[mqtt]\n{text}\n")
    with pytest.raises(ConfigError) as wrong:
        load(path, Mqtt)
    assert expected in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_files_that_cannot_be_used_are_found_by_the_check(tmp_path: Path) -> None:
    table = Mqtt(password_file="x", ca_file="/nonexistent", certificate="/dev/null")
    found = "\n".join(faults(table, None))
    for expected in (
        "password_file 'x': relative path: use an absolute one", "ca_file '/nonexistent': cannot be read: No such file",
        "password_file 'x': set username as well", "certificate and key: set both, or none", "need mqtts://",
    ):  # fmt: skip
        assert expected in found
    assert list(faults(Mqtt(), None)) == []


def test_the_password_comes_from_a_file_or_a_credential(tmp_path: Path) -> None:
    assert Mqtt().password(None) is None
    assert Mqtt().password(tmp_path) is None
    (tmp_path / PASSWORD).write_text("of systemd\n")
    assert Mqtt().password(tmp_path) == "of systemd"
    (file := tmp_path / "file").write_text("p w\r\n")
    assert Mqtt(password_file=str(file)).password(tmp_path) == "p w"
    with pytest.raises(ConfigError, match="cannot be read"):
        Mqtt(password_file="/nonexistent").password(None)
    file.write_bytes(b"p\xfc")  # Latin-1: a client cannot know which letter it is
    (found,) = faults(Mqtt(password_file=str(file), username="netscand"), None)
    assert found == f"password_file {str(file)!r}: expected a password in UTF-8"


@pytest.mark.parametrize("missing", ["paho", "paho.mqtt.enums"])
def test_a_missing_or_old_library_is_named(tmp_path: Path, missing: str) -> None:
    """Debian 12 has 1.6, without paho.mqtt.enums; --check-config needs neither."""
    (path := tmp_path / "services.toml").write_text("")
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from netscanctl.services.mqtt.__main__ import main; "
        f"sys.argv = ['netscand-mqtt', sys.argv[1], {str(path)!r}]; main()"
    )
    run = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    done = run([sys.executable, "-c", program, "--config"])
    assert (done.returncode, done.stderr.count("\n")) == (78, 1)
    assert "paho-mqtt 2.1 or newer is missing; to install it: apt install python3-paho-mqtt" in done.stderr
    assert run([sys.executable, "-c", program, "--check-config"]).returncode == 0


def test_the_broker_has_the_usual_ports() -> None:
    assert [Mqtt(broker=f"{url}").port for url in ("mqtt://b", "mqtts://b", "mqtt://[::1]:7")] == [1883, 8883, 7]
    assert Mqtt(broker="mqtt://[::1]:7").host == "::1"


# ---- topics and payloads


def test_only_topics_of_this_site_are_ours() -> None:
    topics = Topics.of(Mqtt())
    ours = [topics.config("a4:83:e7:00:00:07"), topics.device("a4:83:e7:00:00:07"), topics.hub_config, topics.status]
    assert all(map(topics.is_ours, ours))
    others = [
        "homeassistant/device/netscand_home_2_a483e7000007/config", "homeassistant/device/netscand_home_2/config",
        "homeassistant/device/netscand_homes/config", "netscand/home_2/status", topics.bridge, topics.event,
        topics.command, topics.old_config("a4:83:e7:00:00:07"), "netscand/home/device/A483E7000007",
    ]  # fmt: skip
    assert not any(map(topics.is_ours, others))
    assert topics.old_mac(topics.old_config("a4:83:e7:00:00:07")) == "a4:83:e7:00:00:07"
    assert topics.old_mac("netscand/a483e7000007/state") == "a4:83:e7:00:00:07"
    assert topics.old_mac("netscand/home/status") is None
    for table in (Mqtt(discovery_prefix=""), Mqtt(site="office")):  # another site has other ids
        assert Topics.of(table).old_mac("netscand/a483e7000007") is None


@pytest.mark.parametrize("topic", ["netscand", "lan/netscand"])
def test_a_state_topic_has_a_mac(topic: str) -> None:
    topics, mac = Topics.of(Mqtt(topic=topic)), "a4:83:e7:00:00:07"
    assert [topics.mac(one) for one in (topics.device(mac), topics.location(mac))] == [mac, mac]
    assert [topics.mac(one) for one in (topics.status, topics.config(mac), topics.old_config(mac))] == [None] * 3


def presence(documents: Documents, status: str) -> object:
    about = device(7, status, known=True)
    return json.loads(documents.device(about)[documents.topics.device(about.mac)])["presence"]


def test_doubt_keeps_the_last_certain_presence() -> None:
    """Law 8; a retained state of an earlier run is only used where nothing newer is known."""
    kept, shown = Documents(Mqtt()), Documents(Mqtt(unknown="unknown"))
    assert [presence(kept, one) for one in ("unknown", "online", "unknown", "offline", "unknown")] == [
        None, "home", "home", "not_home", "not_home",
    ]  # fmt: skip
    assert [presence(shown, one) for one in ("online", "unknown", "offline")] == ["home", None, "not_home"]
    kept.remember(device(7).mac, b'{"presence": "home"}')
    assert presence(kept, "unknown") == "not_home"
    fresh = Documents(Mqtt())
    for payload in (b"", b"[]", b'{"presence": "mars"}', b"[" * 9999, b'{"presence": "home"}'):
        fresh.remember(device(7).mac, payload)
    assert presence(fresh, "unknown") == "home"


def test_an_entry_of_connectivity_that_fits_nothing_is_named() -> None:
    documents = Documents(Mqtt(connectivity=("host*", "pritner")))
    (line,) = documents.unmatched([device(7)])
    assert line == "[mqtt] connectivity 'pritner': there is no such device now; to list them: netscanctl devices"


@pytest.mark.parametrize(
    "name",
    [
        "printer", "PRINTER", "printer.local", "a4:83:e7:00:00:07", "A4-83-E7-00-00-07", "7e:00:00:00:00:01", "pri*",
        "[HP]",
    ],
)  # fmt: skip
def test_a_thing_is_a_binary_sensor_by_configuration(name: str) -> None:
    documents = Documents(Mqtt(connectivity=(name,)))
    about = device(7, hostname="Printer", label="[HP]", known=True, merged_macs=["7e:00:00:00:00:01"])
    components = json.loads(documents.device(about)[documents.topics.config(about.mac)])["cmps"]
    assert components.pop("tracker") == {"p": "device_tracker"}  # what removes it
    (component,) = components.values()
    assert (component["p"], component["device_class"]) == ("binary_sensor", "connectivity")


def test_no_discovery_without_a_prefix() -> None:
    documents = Documents(Mqtt(discovery_prefix=""))
    assert list(documents.device(device(7))) == ["netscand/home/device/a483e7000007"]
    assert documents.hub() == {}


# ---- the queue


async def test_only_the_newest_payload_of_a_topic_is_published() -> None:
    """And what the broker has is not, nor the deletion of what it does not have."""
    outbox = Outbox("event", last="bridge")
    outbox.connect({"a": b"1", "old": b"x"})
    for payload in (b"2", b"3", b"1"):
        outbox.set("a", payload)
    assert outbox.next() is None
    for topic, payload in (("b", b"1"), ("b", b"2"), ("old", b""), ("never", b"")):
        outbox.set(topic, payload)
    assert [outbox.next()[:2] for _ in range(2)] == [("b", b"2"), ("old", b"")]  # type: ignore[index]
    assert outbox.next() is None
    outbox.set("b", b"3")
    outbox.next()
    outbox.set("b", b"2")
    assert outbox.next() is not None, "it was 3 on its way"


async def test_events_and_states_take_turns_and_availability_is_last() -> None:
    outbox = Outbox("event", last="bridge")
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    for topic in ("bridge", "a", "z"):
        outbox.set(topic, b"1")
    for payload in (b"1", b"2"):
        outbox.add_event(payload, future)
    outbox.connect({})
    order = [one.topic for one in iter(outbox.next, None)]
    assert order == ["a", "event", "z", "event", "bridge"]
    outbox.connect({"a": b"1"})
    assert [one.topic for one in iter(outbox.next, None)] == ["z", "bridge"], "what a broker lost is sent again"


async def test_unconfirmed_events_return_in_order() -> None:
    outbox = Outbox("event", last="bridge")
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    for payload in (b"1", b"2", b"3"):
        outbox.add_event(payload, future)
    outbox.set("a", b"x")
    flight = [one for one in (outbox.next(), outbox.next(), outbox.next()) if one is not None]
    outbox.give_back(flight)
    outbox.connect({})
    again = [one.payload for one in iter(outbox.next, None)]
    assert [payload for payload in again if payload != b"x"] == [b"1", b"2", b"3"]


async def test_devices_are_unavailable_only_after_a_while_without_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade of the daemon is no news; a daemon that stays away makes all we know doubtful."""
    report = Report("mqtt", "d", lambda text: None, {})
    made = MqttService(Mqtt(), Context(Daemon(), report, None), Credentials("id", None, None))
    follower = StateFollower(Daemon(), report, made.on_message)
    made._follower = follower
    first = snapshot(device(7, known=True))
    made.on_message(first, follower.state.on_message(first))
    made._publish_availability()
    assert made._outbox.wanted["netscand/home/bridge"] == b"online"
    report.problem("daemon", "gone")
    made._publish_availability()
    assert made._outbox.wanted["netscand/home/bridge"] == b"online"
    monkeypatch.setattr(mqtt_service, "GRACE", 0.0)
    made._publish_availability()
    assert made._outbox.wanted["netscand/home/bridge"] == b"offline"
    report.problem("daemon", None)
    made._publish_availability()
    assert made._outbox.wanted["netscand/home/bridge"] == b"online"
    assert made._status_timer is not None
    made._status_timer.cancel()


class LeavingBroker:
    """A connection to a broker that ends."""

    def __init__(self) -> None:
        self.used, self.ended = asyncio.Event(), asyncio.Event()

    async def keep(self) -> None:
        self.used.set()
        await self.ended.wait()
        raise BrokerError("the broker left")


@pytest.mark.parametrize("turns", range(4))
async def test_it_ends_when_it_is_cancelled_as_the_broker_leaves(monkeypatch: pytest.MonkeyPatch, turns: int) -> None:
    """A group of tasks raises the error of a child, and not that it was cancelled."""
    made = MqttService(
        Mqtt(), Context(Daemon(), Report("mqtt", "d", lambda text: None, {}), None), Credentials("id", None, None)
    )
    broker = LeavingBroker()

    @asynccontextmanager
    async def connected(*_: object) -> AsyncIterator[LeavingBroker]:
        yield broker

    async def nothing(*_: object) -> dict[str, bytes]:
        return {}

    monkeypatch.setattr(mqtt_service, "connect", connected)
    monkeypatch.setattr(made, "_list", nothing)
    monkeypatch.setattr(made, "_report_offline", nothing)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(made._stay_connected())
        await broker.used.wait()
        broker.ended.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running], timeout=DEADLINE)
        assert running.cancelled()


class Broker:
    """A connection that accepts everything, and keeps what it is given, in order."""

    free = 1000

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> "asyncio.Future[str | None]":
        self.published.append((topic, payload))
        accepted: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        accepted.set_result(None)
        return accepted


async def test_what_was_forgotten_without_a_broker_is_removed_in_order() -> None:
    """First the entity, then, once Home Assistant had its time, the state: it would read the empty payload."""
    table, settle, devices = Mqtt(zone="zone.office"), 0.05, [device(7, known=True), device(8, known=True)]
    report = Report("mqtt", "d", lambda text: None, {})
    made = MqttService(table, Context(Daemon(), report, None), Credentials("id", None, None), settle)
    made._follower = follower = StateFollower(Daemon(), report, made.on_message)
    for message in (snapshot(*devices), event("forgotten", devices[0])):
        made.on_message(message, follower.state.on_message(message))
    await asyncio.sleep(2 * settle)
    there = {topic: payload for one in devices for topic, payload in Documents(table).device(one).items()}
    broker: Any = Broker()
    await made._reconcile(broker, there)
    await asyncio.sleep(0)
    gone = {topic for topic in there if "a483e7000007" in topic}
    config = made._topics.config(devices[0].mac)
    assert [topic for topic, payload in broker.published if not payload] == [config]
    while len([topic for topic, payload in broker.published if not payload]) < len(gone):
        await asyncio.sleep(0.01)
    assert {topic for topic, payload in broker.published if not payload} == gone


def test_a_table_of_defaults_needs_no_file() -> None:
    assert msgspec.convert({}, Mqtt) == Mqtt()
