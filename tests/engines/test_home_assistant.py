"""From a frame on a LAN to the states of a real Home Assistant, with nothing artificial between them."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.engines.home_assistant import HomeAssistant
from tests.engines.mosquitto import Mosquitto, wait
from tests.engines.service_process import Running
from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.spaces import Space, temporary_folder

pytestmark = [pytest.mark.home_assistant, pytest.mark.slow]

PERSONS = {
    "Jane": "device_tracker.jane_s_phone",
    "Kim": "device_tracker.phone_of_kim",
    "Lou": "device_tracker.phone_of_lou",
    "Max": "device_tracker.max_tablet_2",
}
ONLINE, PROBLEM = "sensor.netscand_devices_online", "binary_sensor.netscand_problem"
Second = Callable[..., None]
SCAN, NEW_DEVICE = "button.netscand_scan_now", "event.netscand_new_device"


@pytest.fixture(scope="module")
def space(root: None) -> Iterator[Space]:
    """The network of Home Assistant, its broker and the service: nothing but loopback."""
    made = Space(f"nsd-{os.getpid()}-0-home")
    yield made
    made.delete()


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    made = temporary_folder("home")
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def server(space: Space, place: Path) -> Iterator[Mosquitto]:
    made = Mosquitto(place, space=space)
    yield made
    made.kill()


@pytest.fixture(scope="module")
def home(space: Space, place: Path, server: Mosquitto) -> Iterator[HomeAssistant]:
    made = HomeAssistant(space, place, server, PERSONS)
    yield made
    made.close()
    assert not [line for line in made.warnings() if "connect" not in line]


@pytest.fixture(scope="module")
def daemon(shared_lab: Lab) -> Daemon:
    made = shared_lab.daemon("[presence]\nprobe_interval = 1\npatience = [1, 2]\n", as_user=True)
    for path in (shared_lab.folder, made.folder):
        path.chmod(0o755)
    return made


@pytest.fixture(scope="module")
def running(space: Space, place: Path, server: Mosquitto, daemon: Daemon) -> Iterator[Running]:
    """The service; each test leaves it working."""
    made = Running(place, daemon.socket, space=space, broker=server.url, commands=True, connectivity=["printer*"])
    made.start()
    yield made
    made.close()


@pytest.fixture
def second(place: Path, space: Space, server: Mosquitto, daemon: Daemon) -> Iterator[Second]:
    """Start the service of another site, with keys of [mqtt]."""
    with ExitStack() as stack:

        def begin(site: str, **keys: object) -> None:
            (folder := place / site).mkdir(mode=0o755)
            made = Running(folder, daemon.socket, space=space, broker=server.url, site=site, **keys)
            stack.callback(made.close)
            made.start()

        yield begin


def join(daemon: Daemon, crowd: Crowd, ip: str, label: str) -> str:
    """Let a device join, and mark it as known with a label; its MAC."""
    mac = crowd.join(ip)
    wait("seen", lambda: ip in daemon.devices())
    annotate(daemon, mac, known=True, label=label)
    return mac


def annotate(daemon: Daemon, mac: str, **values: object) -> None:
    assert daemon.request("PATCH", f"/api/devices/{mac}", values)[0] == 200


def had(home: HomeAssistant, entity: str) -> list[str]:
    """Return the states of a new entity from the first certain one on: before it has our messages, there is none."""
    states: list[str] = home.ask("changes", entity)
    while states[0] in ("unavailable", "unknown"):
        del states[0]
    return states


def entities(home: HomeAssistant, mac: str) -> list[str]:
    """Return the registered entities of a device; a registered one may have no state."""
    found: list[str] = home.ask("entities", f"netscand_{mac.replace(':', '')}")
    return found


def test_a_phone_its_person_and_the_zone_follow_a_cable(
    home: HomeAssistant, daemon: Daemon, running: Running, crowd: Crowd
) -> None:
    """`home`, `not_home`, and `home` again; one device, with its MAC, below that of the site."""
    mac = join(daemon, crowd, "10.77.0.20", "Jane's phone")
    phone = PERSONS["Jane"]
    home.until(phone, "home")
    home.until("person.jane", "home")
    home.until("zone.home", lambda count: int(count or 0) >= 1)
    assert "person.jane" in home.attributes("zone.home")["persons"]
    shown = home.attributes(phone)
    assert {"source_type": "router", "ip": "10.77.0.20", "mac": mac, "in_zones": ["zone.home"]}.items() <= shown.items()
    (device,) = [one for one in home.ask("devices") if ["mac", mac] in one["connections"]]
    assert (device["name"], device["via"]) == ("Jane's phone", "netscand")
    crowd.leave("10.77.0.20")
    home.until(phone, "not_home")
    home.until("person.jane", "not_home")
    assert "person.jane" not in home.attributes("zone.home")["persons"]
    crowd.join("10.77.0.20", mac)
    home.until("person.jane", "home")
    assert had(home, phone) == ["home", "not_home", "home"]


def test_our_blindness_keeps_the_state(
    home: HomeAssistant, daemon: Daemon, running: Running, crowd: Crowd, shared_lab: Lab
) -> None:
    """Law 8: our cable is unplugged; the state stays, and *Problem* reports it."""
    join(daemon, crowd, "10.77.0.21", "Blind phone")
    phone = "device_tracker.blind_phone"
    home.until(phone, "home")
    home.until(PROBLEM, "off")
    shared_lab.watcher.down()
    home.until(PROBLEM, "on")
    wait("unknown", lambda: home.attributes(phone)["status"] == "unknown")
    assert home.attributes(PROBLEM)["problems"]
    shared_lab.watcher.up()
    wait("online", lambda: home.attributes(phone)["status"] == "online")
    home.until(PROBLEM, "off")
    assert had(home, phone) == ["home"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_entities_are_unavailable_without_the_service(
    home: HomeAssistant, daemon: Daemon, running: Running, crowd: Crowd, how: signal.Signals
) -> None:
    """By its will or its own message; and as they were when it is back."""
    ip = f"10.77.0.{40 + how}"
    join(daemon, crowd, ip, f"Phone {how.value}")
    entities = [f"device_tracker.phone_{how.value}", ONLINE, PROBLEM, SCAN]
    home.until(entities[0], "home")
    before = {entity: home.state(entity) for entity in entities}
    running.end(how)
    for entity in entities:
        home.until(entity, "unavailable")
    running.start()
    home.until(entities[0], "home")
    for entity, state in before.items():
        home.until(entity, state if entity == SCAN else lambda there: there != "unavailable")
    assert had(home, entities[0]) == ["home", "unavailable", "home"]


def test_the_broker_forgets_everything_and_nothing_is_lost(
    home: HomeAssistant, daemon: Daemon, running: Running, crowd: Crowd, server: Mosquitto
) -> None:
    """It is killed, without persistence; the device leaves meanwhile."""
    join(daemon, crowd, "10.77.0.22", "Broker phone")
    home.until("device_tracker.broker_phone", "home")
    server.kill()
    home.until("device_tracker.broker_phone", "unavailable")
    crowd.leave("10.77.0.22")
    wait("offline", lambda: daemon.devices()["10.77.0.22"]["status"] == "offline")
    server.start()
    home.until("device_tracker.broker_phone", "not_home")


@pytest.mark.parametrize("runs", [True, False])
def test_a_device_that_is_no_longer_known_is_removed(
    home: HomeAssistant, daemon: Daemon, running: Running, crowd: Crowd, runs: bool
) -> None:
    """With its entity and its device, also if that happens while the service does not run."""
    mac = join(daemon, crowd, f"10.77.0.{24 + runs}", f"Guest {runs}")
    entity = f"device_tracker.guest_{runs}".lower()
    home.until(entity, "home")
    if not runs:
        running.end()
    annotate(daemon, mac, known=False)
    if not runs:
        running.start()
    home.until(entity, None)
    wait("forgotten", lambda: not entities(home, mac))
    wait("no device", lambda: not any(["mac", mac] in one["connections"] for one in home.ask("devices")))


@pytest.mark.parametrize(("state_topic", "person"), [(True, "Kim"), (False, "Lou")])
def test_an_entity_of_the_former_recipe_keeps_id_and_person(
    home: HomeAssistant, daemon: Daemon, running: Running, crowd: Crowd, state_topic: bool, person: str
) -> None:
    """With the recipe's option --state-topic, and without. Its user has renamed it; nobody leaves."""
    running.end()
    ip = f"10.77.0.{26 + state_topic}"
    mac = join(daemon, crowd, ip, f"{person}'s phone")
    publish_as_recipe(home, mac, ip, f"{person}'s phone", state_topic=state_topic)
    wait("the recipe's entity", lambda: entities(home, mac))
    home.ask("rename", *entities(home, mac), PERSONS[person], f"Phone of {person}")
    home.until(PERSONS[person], "home" if state_topic else "unknown")
    name = home.attributes(PERSONS[person])["friendly_name"]
    running.start()
    home.until(PERSONS[person], "home")
    home.until(f"person.{person.lower()}", "home")
    wait("our attributes", lambda: "host_name" in home.attributes(PERSONS[person]))
    assert "not_home" not in home.ask("changes", PERSONS[person]) + home.ask("changes", f"person.{person.lower()}")
    crowd.leave(ip)
    home.until(f"person.{person.lower()}", "not_home")
    assert entities(home, mac) == [PERSONS[person]]
    assert home.attributes(PERSONS[person])["friendly_name"] == name
    assert len([one for one in home.ask("devices") if ["mac", mac] in one["connections"]]) == 1


def publish_as_recipe(home: HomeAssistant, mac: str, ip: str, name: str, *, state_topic: bool) -> None:
    """Publish what docs/recipes/home_assistant.py did."""
    id_ = mac.replace(":", "")
    config = {
        "unique_id": f"netscand_{id_}", "name": None, "device": {"connections": [["mac", mac]], "name": name},
        "source_type": "router", "json_attributes_topic": f"netscand/{id_}",
    }  # fmt: skip
    if state_topic:
        config["state_topic"] = f"netscand/{id_}/state"
    attributes = {"in_zones": ["zone.home"], "mac": mac, "ip": ip, "hostname": None, "vendor": None, "reason": "x"}
    messages = {f"homeassistant/device_tracker/netscand_{id_}/config": json.dumps(config)}
    messages[f"netscand/{id_}"] = json.dumps(attributes)
    if state_topic:
        messages[f"netscand/{id_}/state"] = "home"
    for topic, payload in messages.items():
        home.call("mqtt.publish", topic=topic, payload=payload, qos=1, retain=True)


def test_the_button_scans(home: HomeAssistant, daemon: Daemon, running: Running) -> None:
    home.until(SCAN, lambda state: state not in (None, "unavailable"))
    wait("the first scan", lambda: daemon.get("/api/status")["last_scan"])
    before = daemon.get("/api/status")["last_scan"]
    home.call("button.press", entity_id=SCAN)
    wait("a scan", lambda: daemon.get("/api/status")["last_scan"] != before)


def test_the_site_counts_and_reports_newcomers(
    home: HomeAssistant, daemon: Daemon, running: Running, crowd: Crowd
) -> None:
    home.until(NEW_DEVICE, lambda state: state not in (None, "unavailable"))
    mac = crowd.join("10.77.0.28")
    wait("the event", lambda: home.attributes(NEW_DEVICE).get("mac") == mac)
    assert home.attributes(NEW_DEVICE)["event_type"] == "discovered"
    wait("the count", lambda: home.state(ONLINE) == str(daemon.get("/api/status")["devices"]["online"]))


def test_a_thing_is_a_sensor_of_connectivity(
    home: HomeAssistant, daemon: Daemon, running: Running, crowd: Crowd
) -> None:
    join(daemon, crowd, "10.77.0.30", "Printer upstairs")
    entity = "binary_sensor.printer_upstairs"
    home.until(entity, "on")
    assert home.attributes(entity)["device_class"] == "connectivity"
    crowd.leave("10.77.0.30")
    home.until(entity, "off")


def test_a_tracker_of_the_former_recipe_becomes_a_sensor(
    home: HomeAssistant, daemon: Daemon, running: Running, crowd: Crowd
) -> None:
    """A thing by configuration: its device tracker is removed, and not only forgotten by the broker."""
    running.end()
    mac = join(daemon, crowd, "10.77.0.33", "Printer below")
    publish_as_recipe(home, mac, "10.77.0.33", "Printer below", state_topic=True)
    home.until("device_tracker.printer_below", "home")
    running.start()
    home.until("binary_sensor.printer_below", "on")
    wait("removed", lambda: entities(home, mac) == ["binary_sensor.printer_below"])


def test_a_label_makes_a_phone_of_a_thing(home: HomeAssistant, daemon: Daemon, running: Running, crowd: Crowd) -> None:
    """Its former entity is removed, while the service runs."""
    mac = join(daemon, crowd, "10.77.0.34", "Printer or phone")
    home.until("binary_sensor.printer_or_phone", "on")
    annotate(daemon, mac, label="Phone after all")
    home.until("device_tracker.phone_after_all", "home")
    wait("removed", lambda: entities(home, mac) == ["device_tracker.phone_after_all"])


def test_a_label_is_shown_as_it_is(home: HomeAssistant, daemon: Daemon, running: Running, crowd: Crowd) -> None:
    """T8: also one that looks like a template; a new label is the new name, and nobody leaves."""
    mac = join(daemon, crowd, "10.77.0.35", "Plain phone")
    phone = "device_tracker.plain_phone"
    home.until(phone, "home")
    evil = 'x/+/#","p":"{{ 1 + 1 }}'
    annotate(daemon, mac, label=evil)
    wait("the new name", lambda: home.attributes(phone)["friendly_name"] == evil)
    assert home.attributes(phone)["label"] == evil
    assert had(home, phone) == ["home"]


def test_in_doubt_is_unknown_where_that_is_wanted(
    home: HomeAssistant, daemon: Daemon, running: Running, crowd: Crowd, second: Second, shared_lab: Lab
) -> None:
    """The key `unknown`, for a tracker and for a thing."""
    join(daemon, crowd, "10.77.0.36", "Tablet in doubt")
    join(daemon, crowd, "10.77.0.37", "Printer in doubt")
    home.until("device_tracker.tablet_in_doubt", "home")
    home.until("binary_sensor.printer_in_doubt", "on")
    second("doubt", unknown="unknown", connectivity=["printer*"])
    states = {"device_tracker.tablet_in_doubt_2": "home", "binary_sensor.printer_in_doubt_2": "on"}
    for entity, state in states.items():
        home.until(entity, state)
    shared_lab.watcher.down()
    for entity in states:
        home.until(entity, "unknown")
    shared_lab.watcher.up()
    for entity, state in states.items():
        home.until(entity, state)
        assert had(home, entity) == [state, "unknown", state]


def test_a_site_has_its_own_zone(
    home: HomeAssistant, daemon: Daemon, running: Running, crowd: Crowd, second: Second
) -> None:
    """A second netscand-mqtt sees the same device: another entity, and the person is in that zone."""
    join(daemon, crowd, "10.77.0.31", "Max tablet")
    home.until("device_tracker.max_tablet", "home")
    second("office", zone="zone.old_office")
    home.until(PERSONS["Max"], "Old Office")
    home.until("person.max", "Old Office")
    assert "person.max" in home.attributes("zone.old_office")["persons"]
    crowd.leave("10.77.0.31")
    home.until("person.max", "not_home")


def test_what_changes_while_home_assistant_is_away(
    home: HomeAssistant, daemon: Daemon, running: Running, crowd: Crowd, space: Space, server: Mosquitto
) -> None:
    """A phone leaves, one is no longer known, and one moves from the former recipe."""
    join(daemon, crowd, "10.77.0.50", "Leaving phone")
    guest = join(daemon, crowd, "10.77.0.51", "Leaving guest")
    home.until("device_tracker.leaving_phone", "home")
    home.until("device_tracker.leaving_guest", "home")
    running.end()
    mac = join(daemon, crowd, "10.77.0.52", "Old phone")
    publish_as_recipe(home, mac, "10.77.0.52", "Old phone", state_topic=True)
    home.until("device_tracker.old_phone", "home")
    home.stop()
    running.start()
    crowd.leave("10.77.0.50")
    annotate(daemon, guest, known=False)
    wait("offline", lambda: daemon.devices()["10.77.0.50"]["status"] == "offline")
    topic = f"homeassistant/device/netscand_home_{mac.replace(':', '')}/config"
    space.run(["mosquitto_sub", "-p", str(server.port), "-t", topic, "-C", "1", "-W", "30"])
    home.start()
    home.until("device_tracker.leaving_phone", "not_home")
    home.until("device_tracker.old_phone", "home")
    assert entities(home, mac) == ["device_tracker.old_phone"]
    home.until(PROBLEM, "off")
    home.until("device_tracker.leaving_guest", "unavailable")  # Home Assistant removes only what it has discovered
