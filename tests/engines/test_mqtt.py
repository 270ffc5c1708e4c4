"""netscand-mqtt with a real broker: what it publishes, retains, deletes and survives."""

import base64
import hashlib
import json
import signal
from copy import copy
from functools import partial
from pathlib import Path

import pytest

from netscanctl.services.mqtt.topics import person_id
from netscand import protocol
from tests.ctl import messages
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import came, device, event, left, resumed, snapshot
from tests.ctl.test_people import person, told
from tests.engines.conftest import Start
from tests.engines.mosquitto import Mosquitto, Subscriber, many, wait
from tests.engines.service_process import Running
from tests.serve.certificate import CERTIFICATE, KEY

MAC12 = "a483e7000007"
STATE, CONFIG = f"netscand/home/device/{MAC12}", f"homeassistant/device/netscand_home_{MAC12}/config"
BRIDGE, STATUS, EVENT = "netscand/home/bridge", "netscand/home/status", "netscand/home/event"
COMMAND, BIRTH = "netscand/home/command", "homeassistant/status"
OLD_CONFIG = f"homeassistant/device_tracker/netscand_{MAC12}/config"


@pytest.fixture
def phone(daemon: FakeDaemon) -> None:
    """The first device is known, and has a label."""
    daemon.devices[0].known, daemon.devices[0].label = True, "Jane's phone"


def test_a_known_device_is_published_with_its_discovery(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber, phone: None
) -> None:
    """And no other one; the site has a device of its own."""
    start()
    assert subscriber.until(BRIDGE) == "online"
    state = subscriber.json(STATE)
    assert (state["status"], state["presence"], state["in_zones"]) == ("online", "home", ["zone.home"])
    config = subscriber.json(CONFIG)
    assert config["dev"] == {
        "ids": [f"netscand_{MAC12}"], "cns": [["mac", "a4:83:e7:00:00:07"]], "name": "Jane's phone",
        "mf": "Apple, Inc.", "via_device": "netscand_home",
    }  # fmt: skip
    assert (config["avty_t"], config["cmps"]["tracker"]["unique_id"]) == (BRIDGE, f"netscand_{MAC12}")
    hub = subscriber.json("homeassistant/device/netscand_home/config")
    assert {id_: one["p"] for id_, one in hub["cmps"].items()} == {
        "online": "sensor", "problem": "binary_sensor", "new_device": "event", "scan": "button",
    }  # fmt: skip
    status = subscriber.until(STATUS)
    assert status == {"online": 2, "offline": 1, "unknown": 0, "problems": []}
    assert {topic for topic in subscriber.retained if MAC12 not in topic} == {
        BRIDGE, STATUS, "homeassistant/device/netscand_home/config",
    }  # fmt: skip
    daemon.send(left(device(7, "offline", known=True)))
    state = subscriber.until(STATE, lambda there: there["status"] == "offline")
    assert (state["presence"], state["in_zones"]) == ("not_home", [])


def test_a_new_kind_is_published(start: Start, daemon: FakeDaemon, subscriber: Subscriber, phone: None) -> None:
    """Nothing else of the device changes by `kind_changed`."""
    start()
    assert subscriber.until(STATE)["kind"] is None
    about = device(7, known=True, label="Jane's phone", kind="phone", kind_reason='host name "iphone"')
    daemon.send(event("kind_changed", about))
    subscriber.until(STATE, lambda there: there["kind"] == "phone")


def test_the_lease_is_published_after_the_state(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber, phone: None
) -> None:
    """Only the answer about a single device has it. A restart sends it no second time; most devices have none."""
    daemon.devices[1].known = True
    daemon.snapshot = [snapshot(*map(copy, daemon.devices))]
    lease = protocol.Dhcp(
        server="192.168.1.1", address="192.168.1.7", lease_seconds=3600, client_id=None, received=messages.AT
    )
    daemon.devices[0].dhcp, daemon.devices[0].address_origin = lease, "lease"
    expected = {"address_origin": "lease", "dhcp_server": "192.168.1.1", "lease_seconds": 3600}
    running = start()
    state = subscriber.until(STATE, lambda there: there and there["dhcp_server"])
    assert state | expected == state
    other = subscriber.until(STATE.replace("07", "08"))
    assert {name: other[name] for name in expected} == dict.fromkeys(expected)
    running.end()
    before = len(subscriber.of(STATE))
    asked = sum(path.startswith("/api/devices/") for _, path, _, _ in daemon.requests)
    running.start()
    wait("asked again", lambda: sum(path.startswith("/api/devices/") for _, path, _, _ in daemon.requests) >= asked + 2)
    daemon.devices[0].dhcp = daemon.devices[0].address_origin = None
    daemon.send(left(device(7, "offline", known=True)))
    subscriber.until(STATE, lambda there: there["status"] == "offline" and there["dhcp_server"] is None)
    assert len(subscriber.of(STATE)) == before + 2


@pytest.mark.parametrize("kind", ["dhcp_server_seen", "gateway_changed"])
def test_what_is_not_expected_is_a_problem_at_once(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber, kind: str
) -> None:
    """A DHCP server or gateway: the event, and the daemon's problem, which is requested every minute otherwise."""
    start()
    subscriber.until(STATUS)
    daemon.status.problems = [
        "10.77.0.0/24@eth0: 10.77.0.66 (02:00:00:00:00:66) serves DHCP, which is not expected there"
    ]
    reason = "serves DHCP; not in expected_dhcp of 10.77.0.0/24"
    daemon.send(event(kind, device(9, reason=reason), address="192.168.1.9"))
    wait("the problem", lambda: subscriber.json(STATUS)["problems"] == daemon.status.problems, 20)
    (published,) = map(json.loads, subscriber.of(EVENT))
    assert (published["kind"], published["reason"]) == (kind, reason)


def test_our_blindness_is_not_their_absence(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber, phone: None
) -> None:
    """Law 8: in doubt the last state is kept, also over a restart of the service, of which the broker reminds it."""
    running = start()
    subscriber.until(STATE)
    daemon.send(event("network_silent"))
    state = subscriber.until(STATE, lambda there: there["status"] == "unknown")
    assert (state["presence"], state["in_zones"]) == ("home", ["zone.home"])
    assert running.end() == 0
    daemon.devices[0].status = "unknown"
    running.start()
    wait("started again", lambda: daemon.greeted >= 4)
    assert subscriber.until(BRIDGE, lambda there: there == "online") == "online"
    assert subscriber.json(STATE)["presence"] == "home"
    assert [json.loads(payload)["presence"] for payload in subscriber.of(STATE)] == ["home"] * len(subscriber.of(STATE))


def test_a_person_is_a_tracker_and_right_after_a_restart(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber
) -> None:
    """Home, away and in doubt; what changed while the service was stopped; and removed with the person."""
    jane = person_id("Jane")
    state, config = f"netscand/home/person/{jane}", f"homeassistant/device/netscand_home_person_{jane}/config"
    daemon.people = [person()]
    running = start()
    subscriber.until(config)
    found = subscriber.json(config)
    assert (found["dev"]["name"], found["avty_t"]) == ("Jane", BRIDGE)
    assert (found["cmps"]["tracker"]["p"], found["cmps"]["tracker"]["state_topic"]) == ("device_tracker", state)
    assert subscriber.until(state)["presence"] == "home"
    daemon.send(told("person_away", person(status="away"), "home"))
    away = subscriber.until(state, lambda there: there["presence"] == "not_home")
    assert (away["status"], away["in_zones"]) == ("away", [])
    assert running.end() == 0
    before = len(subscriber.of(state))
    daemon.people = [person(status="unknown", last="away")]  # the daemon was restarted, too, and has not seen the phone
    running.start()
    assert subscriber.until(state, lambda there: there["status"] == "unknown")["presence"] == "not_home"
    daemon.send(told("person_home", person(), "unknown"))
    assert subscriber.until(state, lambda there: there["status"] == "home")["presence"] == "home"
    since = [json.loads(payload)["presence"] for payload in subscriber.of(state)[before:]]
    assert since == ["not_home"] * (len(since) - 1) + ["home"]
    assert running.end() == 0
    daemon.people = []
    running.start()
    wait("removed", lambda: not {state, config} & {topic for topic, payload in subscriber.retained.items() if payload})


def test_unknown_is_shown_where_it_is_wanted(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber, phone: None
) -> None:
    start(unknown="unknown")
    subscriber.until(STATE)
    daemon.send(event("network_down"))
    state = subscriber.until(STATE, lambda there: there["status"] == "unknown")
    assert state["presence"] is None
    assert "in_zones" not in state


@pytest.mark.parametrize(
    "last", [event("labelled", device(7), previous={"known": True}), event("forgotten", device(7, known=True))]
)
def test_what_is_no_longer_ours_is_removed(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber, phone: None, last: protocol.Event
) -> None:
    """A device that is known no longer, or was forgotten."""
    start()
    subscriber.until(CONFIG)
    daemon.send(last)
    wait("removed", lambda: not any(MAC12 in topic for topic in subscriber.retained))
    assert subscriber.messages.index((CONFIG, b"")) < subscriber.messages.index((STATE, b""))  # as Home Assistant needs


def test_leftovers_of_this_site_are_removed_at_the_start(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber
) -> None:
    """And nothing of other sites, other programs and devices of others."""
    ours = [CONFIG, STATE, f"{STATE}/location", "netscand/home/device/000000000000"]
    others = [
        f"homeassistant/device/netscand_home_2_{MAC12}/config", f"netscand/home_2/device/{MAC12}",
        "homeassistant/device/zigbee_1/config", "netscand/home/notes", "netscand/home/device/x", OLD_CONFIG,
    ]  # fmt: skip
    daemon.devices[0].mac = "a4:83:e7:ff:ff:ff"
    for topic in (*ours, *others):
        subscriber.publish(topic, "{}", retain=True)
    start()
    subscriber.until(BRIDGE)
    wait("removed", lambda: not set(ours) & set(subscriber.retained))
    assert set(others) <= set(subscriber.retained)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_offline_when_it_ends(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber, phone: None, number: int
) -> None:
    """By the will, or by itself; the states stay, for nobody left."""
    running = start()
    subscriber.until(BRIDGE, lambda there: there == "online")
    running.end(number)
    subscriber.until(BRIDGE, lambda there: there == "offline")
    assert subscriber.json(STATE)["presence"] == "home"


def test_every_event_is_published_once_the_broker_is_back(
    start: Start, daemon: FakeDaemon, broker: Mosquitto, subscriber: Subscriber, phone: None
) -> None:
    """In order; of what is retained only the newest. The broker is killed, and has forgotten everything."""
    running = start()
    subscriber.until(BRIDGE, lambda there: there == "online")
    broker.kill()
    wait("the loss is noticed", lambda: any("broker" in problem for problem in running.status().problems))
    for number in range(2, 52):
        change = left if number % 2 else came
        status = "offline" if number % 2 else "online"
        daemon.send(change(device(7, status, known=True), cursor=f"k3f9-{number}"))
    wait("behind", lambda: running.status().behind == 50)
    before = len(subscriber.of(STATE))
    start_broker(broker, subscriber, running)
    wait("all events", lambda: len(subscriber.of(EVENT)) >= 50)
    cursors = [json.loads(payload)["cursor"] for payload in subscriber.of(EVENT)]
    assert cursors == [f"k3f9-{number}" for number in range(2, 52)]
    wait("status", lambda: running.status().behind == 0 and not running.status().problems)
    assert subscriber.until(STATE)["presence"] == "not_home"
    assert len(subscriber.of(STATE)) <= before + 1, "stale states were published"
    wait("saved", lambda: (running.state / "cursor").read_text() == "k3f9-51\n")


def test_events_on_their_way_to_a_broker_that_dies_are_sent_again(
    start: Start, daemon: FakeDaemon, broker: Mosquitto, subscriber: Subscriber
) -> None:
    """What it did not acknowledge: here, because it was stopped before it was killed."""
    running = start()
    subscriber.until(BRIDGE, lambda there: there == "online")
    assert broker.process is not None
    broker.process.send_signal(signal.SIGSTOP)
    for number in range(2, 32):
        daemon.send(left(device(7, "offline"), cursor=f"k3f9-{number}"))
    wait("all pending", lambda: running.status().behind == 30)
    broker.kill()
    start_broker(broker, subscriber, running)
    wait("all events", lambda: cursors(subscriber) == {f"k3f9-{number}" for number in range(2, 32)})
    wait("accepted", lambda: running.status().behind == 0)


def test_events_resume_at_the_cursor_after_a_kill(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber, phone: None
) -> None:
    """What happened meanwhile is published as well."""
    running = start()
    subscriber.until(BRIDGE, lambda there: there == "online")
    running.end(signal.SIGKILL)
    daemon.resumed = [resumed(), left(device(7, "offline", known=True), cursor="k3f9-2")]
    running.start()
    wait("the event", lambda: subscriber.of(EVENT))
    assert json.loads(subscriber.of(EVENT)[0])["cursor"] == "k3f9-2"


@pytest.mark.parametrize("commands", [True, False])
def test_a_scan_on_command_only_if_configured(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber, commands: bool
) -> None:
    """Not by a retained message, which would scan at each start, nor by another text."""
    subscriber.publish(COMMAND, "scan_now", retain=True)
    start(commands=commands)
    subscriber.until(BRIDGE, lambda there: there == "online")
    hub = subscriber.json("homeassistant/device/netscand_home/config")["cmps"]
    assert ("command_topic" in hub["scan"]) is commands
    subscriber.publish(COMMAND, "reboot")
    assert not [one for one in daemon.received if isinstance(one, protocol.ScanRequest)]
    subscriber.publish(COMMAND, "scan_now")
    if commands:
        daemon.until(lambda: any(isinstance(one, protocol.ScanRequest) for one in daemon.received))
    else:
        daemon.send(left(device(7, "offline")))
        wait("a later event", lambda: subscriber.of(EVENT))
        assert not [one for one in daemon.received if isinstance(one, protocol.ScanRequest)]


def test_all_is_published_again_after_home_assistants_birth(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber, phone: None
) -> None:
    """Within ten seconds; availability last."""
    start()
    subscriber.until(BRIDGE, lambda there: there == "online")
    subscriber.until(STATUS)
    del subscriber.messages[:]
    subscriber.publish(BIRTH, "online")
    wait("again", lambda: subscriber.of(BRIDGE), 30)
    topics = [topic for topic, _ in subscriber.messages if topic != BIRTH]
    assert {STATE, CONFIG, STATUS} <= set(topics)
    assert topics[-1] == BRIDGE


def test_entities_of_the_former_recipe_are_kept(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber, phone: None
) -> None:
    """The migration of Home Assistant, in its order; what is no longer published is removed."""
    other = OLD_CONFIG.replace("00007", "00008")
    for topic in (OLD_CONFIG, other, f"netscand/{MAC12}", f"netscand/{MAC12}/state"):
        subscriber.publish(topic, '{"unique_id": "x"}', retain=True)
        subscriber.until(topic)
    del subscriber.messages[:]
    start()
    wait("removed", lambda: subscriber.of(OLD_CONFIG)[-1:] == [b""] and subscriber.of(other)[-1:] == [b""])
    order = [(topic, payload) for topic, payload in subscriber.messages if topic in (OLD_CONFIG, CONFIG)]
    assert [topic for topic, _ in order] == [OLD_CONFIG, CONFIG, OLD_CONFIG]
    assert json.loads(order[0][1]) == {"migrate_discovery": True}
    assert json.loads(order[1][1])["cmps"]["tracker"]["unique_id"] == f"netscand_{MAC12}"
    wait("old states", lambda: not {f"netscand/{MAC12}", f"netscand/{MAC12}/state"} & set(subscriber.retained))


def test_a_thing_does_not_keep_the_former_recipes_tracker(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber, phone: None
) -> None:
    """Home Assistant cannot make a sensor of it: it is removed before the new discovery, not migrated."""
    subscriber.publish(OLD_CONFIG, '{"unique_id": "x"}', retain=True)
    subscriber.until(OLD_CONFIG)
    del subscriber.messages[:]
    start(connectivity=["jane's*"])
    subscriber.until(CONFIG)
    assert next(one for one in subscriber.messages if one[0] in (OLD_CONFIG, CONFIG)) == (OLD_CONFIG, b"")


def test_hostile_names_stay_values_in_json(start: Start, daemon: FakeDaemon, subscriber: Subscriber) -> None:
    """T8: no topic, no template, no control character comes from the LAN."""
    evil = 'x/+/#","p":"{{ states }}\u202e\x1b]0;\x07' + "é" * 500
    daemon.devices[0] = device(7, known=True, hostname=evil, vendor=evil, reason=evil)
    start(connectivity=["nothing*"])
    name = subscriber.until(CONFIG)["dev"]["name"]
    subscriber.until(BRIDGE, lambda there: there == "online")
    assert name.startswith('x/+/#","p":"{{ states }}')
    assert name.isprintable()
    assert len(name) <= 64
    templates = {one.get("value_template") for one in subscriber.json(CONFIG)["cmps"].values()}
    assert templates == {None, "{{ value_json.presence }}"}
    assert all("x" not in topic.rsplit("/", 1)[-1] for topic in subscriber.retained)


def test_a_zone_of_its_own_for_a_site(start: Start, daemon: FakeDaemon, subscriber: Subscriber, phone: None) -> None:
    """The state is the zone's name; ids are apart from those of another site that sees the same device."""
    running = start(site="office", zone="zone.office")
    topic = f"netscand/office/device/{MAC12}"
    assert subscriber.until(f"{topic}/location") == "Office"
    assert subscriber.until(topic)["in_zones"] == ["zone.office"]
    tracker = subscriber.until(f"homeassistant/device/netscand_office_{MAC12}/config")["cmps"]["tracker"]
    assert (tracker["state_topic"], tracker["unique_id"]) == (f"{topic}/location", f"netscand_office_{MAC12}")
    daemon.send(left(device(7, "offline", known=True)))
    subscriber.until(f"{topic}/location", lambda there: there == "not_home")
    running.end()
    start(wait_for=0, site="office")
    wait("no zone of its own", lambda: f"{topic}/location" not in subscriber.retained)
    assert topic in subscriber.retained


@pytest.mark.parametrize("keys", [{"site": "office"}, {"topic": "lan/scan"}, {"discovery_prefix": ""}])
def test_a_changed_configuration_leaves_nothing_behind(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber, phone: None, keys: dict[str, str]
) -> None:
    """What was retained under the former site, topic or prefix: Home Assistant would show it as unavailable."""
    running = start()
    subscriber.until(STATUS)
    subscriber.until(BRIDGE, lambda there: there == "online")
    before = set(subscriber.retained)
    running.end()
    subscriber.until(BRIDGE, lambda there: there == "offline")
    start(**keys)
    still = {BRIDGE, STATUS, STATE} if "discovery_prefix" in keys else set()
    if "topic" in keys:
        still = {topic for topic in before if topic.startswith("homeassistant/")}
    wait("removed", lambda: before & set(subscriber.retained) == still)
    assert subscriber.of(STATE)[-1] == b"" or still


def test_a_changed_site_takes_nothing_from_another_netscand(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber, phone: None
) -> None:
    """Two had the same site by mistake, and the other one still has it: its bridge is online."""
    running = start()
    subscriber.until(STATUS)
    subscriber.until(BRIDGE, lambda there: there == "online")
    running.end()
    subscriber.until(BRIDGE, lambda there: there == "offline")
    subscriber.publish(BRIDGE, "online", retain=True)
    running = start(wait_for=0, site="office")
    subscriber.until("netscand/office/bridge", lambda there: there == "online")
    running.end()
    subscriber.publish(BRIDGE, "offline", retain=True)
    start(wait_for=0, site="office")
    subscriber.until("netscand/office/bridge", lambda there: there == "online")
    assert {STATE, CONFIG, STATUS} <= set(subscriber.retained)


def test_what_the_broker_has_is_not_sent_again(start: Start, daemon: FakeDaemon, subscriber: Subscriber) -> None:
    """A thousand devices: at a restart a few messages (how fast the first time: `./dev bench mqtt`)."""
    daemon.devices = many(1000)
    running = start(devices="all")
    wait("everything", lambda: len(subscriber.retained) == 2003)
    running.end()
    before = len(subscriber.messages)
    running.start()
    subscriber.until(BRIDGE, lambda there: there == "online")
    assert len(subscriber.messages) - before < 10


def password_line(name: str, password: str) -> str:
    """A line of mosquitto's password file: PBKDF2, as mosquitto_passwd writes it."""
    salt = b"twelve bytes"
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    return f"{name}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_tls_and_a_password_from_a_file(folder: Path, daemon: FakeDaemon, start: Start, version: str) -> None:
    """And what `netscanctl status` shows for a wrong one, and for a certificate that is not trusted."""
    (chain := folder / "chain.pem").write_text(CERTIFICATE)
    (key := folder / "key.pem").write_text(KEY)
    (folder / "passwords").write_text(password_line("netscand", "s3cret"))
    (word := folder / "password").write_text("s3cret\n")
    (wrong := folder / "wrong").write_text("wrong")
    for path in (chain, word, wrong):
        path.chmod(0o644)
    (folder / "tls").mkdir()
    broker = Mosquitto(
        folder / "tls", "allow_anonymous false", f"password_file {folder}/passwords", f"certfile {chain}",
        f"keyfile {key}",
    )  # fmt: skip
    url = broker.url.replace("mqtt:", "mqtts:")
    try:
        keys = {"broker": url, "username": "netscand", "password_file": str(word), "ca_file": str(chain)}
        good = start(**keys, protocol=version)
        wait("works", lambda: good.status().problems == [])
        daemon.send(left(device(7, "offline")))
        wait("accepted", lambda: good.status().accepted == 1)
        good.end()
        for change, expected in {
            "password_file": (
                str(wrong),
                "broker: the broker refuses the connection: ",
                "; check username and password",
            ),
            "ca_file": (None, f"broker: TLS with {url} failed: ", ""),
        }.items():
            bad = start(wait_for=0, **{key: value for key, value in (keys | {change: expected[0]}).items() if value})
            wait(expected[1], partial(has_problem, bad, *expected[1:]))
            bad.end()
    finally:
        broker.kill()


def test_two_services_with_one_client_id_are_shown(
    start: Start, daemon: FakeDaemon, subscriber: Subscriber, folder: Path, broker: Mosquitto
) -> None:
    """Each connection ends the other one: the status says what to do."""
    assert daemon.socket is not None
    (beside := folder / "beside").mkdir()
    beside.chmod(0o755)
    running, other = start(), Running(beside, daemon.socket, broker=broker.url)
    try:
        other.start()
        hint = "if another client has the client_id netscand-home, give each its own"
        wait("the hint", lambda: any(hint in (one.status().last_error or "") for one in (running, other)), 60)
    finally:
        other.close()


def test_a_refused_topic_is_reported_and_holds_nothing_up(
    folder: Path, daemon: FakeDaemon, start: Start, phone: None
) -> None:
    """The access rules of a broker: events are put aside, counted and shown; states are published."""
    (folder / "rules").write_text("topic readwrite netscand/home/#\ntopic deny netscand/home/event\n")
    (folder / "strict").mkdir()
    broker = Mosquitto(folder / "strict", f"acl_file {folder}/rules")
    try:
        running = start(broker=broker.url)
        wait("works", lambda: running.status().last_error)
        expected = (
            "access: the broker refuses homeassistant/device/netscand_home/config, homeassistant/device/netscand_home_*"
        )
        wait("the problem", lambda: any(one.startswith(expected) for one in running.status().problems))
        daemon.send(left(device(7, "offline", known=True)))
        wait("put aside", lambda: running.status().put_aside == 1)
        assert running.status().behind == 0
        (folder / "rules").write_text("topic readwrite #\n")
        broker.kill()
        broker.start()
        daemon.send(came(device(7, known=True), cursor="k3f9-3"))
        wait("works again", lambda: not running.status().problems, 60)
    finally:
        broker.kill()


def test_kills_of_service_and_broker_lose_no_event(
    start: Start, daemon: FakeDaemon, broker: Mosquitto, subscriber: Subscriber, phone: None,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    """The retained state is in the end what the daemon says; 5 and 2 kills, or with --long 100 and 20."""
    long = request.config.getoption("--long")
    kills, every = (100, 5) if long else (5, 2)
    running = start()
    subscriber.until(BRIDGE, lambda there: there == "online")
    wait("a cursor", (running.state / "cursor").exists)
    sent: list[protocol.Message] = []
    for number in range(kills):
        for _ in range(3):
            status = "offline" if len(sent) % 2 == 0 else "online"
            change = left if status == "offline" else came
            sent.append(change(device(7, status, known=True), cursor=f"k3f9-{len(sent) + 2}"))
            daemon.send(sent[-1])
        saved = int((running.state / "cursor").read_text().rpartition("-")[2])
        running.end(signal.SIGKILL)
        saved = int((running.state / "cursor").read_text().rpartition("-")[2])
        daemon.devices[0].status = status
        daemon.resumed = [resumed(f"k3f9-{saved}"), *sent[saved - 1 :]]
        if number % every == 0:
            broker.kill()
            with subscriber.reconnected():
                broker.start()
        running.start()
        wait("all events", lambda: cursors(subscriber) >= {f"k3f9-{at + 2}" for at in range(len(sent))})
    assert subscriber.until(STATE)["status"] == status
    assert subscriber.until(BRIDGE, lambda there: there == "online") == "online"


def start_broker(broker: Mosquitto, subscriber: Subscriber, running: Running) -> None:
    """Start the broker again; the service waits until the subscriber is back."""
    assert running.process is not None
    running.process.send_signal(signal.SIGSTOP)
    with subscriber.reconnected():
        broker.start()
    running.process.send_signal(signal.SIGCONT)


def has_problem(running: Running, begin: str, end: str = "") -> bool:
    return any(problem.startswith(begin) and problem.endswith(end) for problem in running.status().problems)


def cursors(subscriber: Subscriber) -> set[str]:
    return {json.loads(payload)["cursor"] for payload in subscriber.of(EVENT)}
