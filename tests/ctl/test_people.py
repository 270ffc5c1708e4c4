"""`netscanctl people`, and people in `watch`, `wait-for` and the services."""

import json
import re

import msgspec
import pytest

from netscanctl.event_lines import format_event
from netscanctl.render import plain
from netscanctl.services.mqtt.documents import Documents
from netscanctl.services.mqtt.settings import Mqtt
from netscanctl.services.uplink.publications import without_words
from netscanctl.state import ClientState
from netscand import protocol
from netscand.protocol import Event, PeopleList, Person, PersonDevice, PersonUpdate, encode
from tests.ctl.conftest import Ctl
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import AT, LATER, snapshot
from tests.ctl.notify_world import HOUR, World

SEVEN = "a4:83:e7:00:00:07"


def person(name: str = "Jane", status: str = "home", since: str = AT, last: str | None = None) -> Person:
    return Person(
        name=name, status=status, status_since=since, reason=f"{SEVEN} is online", last_status=last or status,
        devices=[PersonDevice(mac=SEVEN), PersonDevice(mac="a4:83:e7:00:00:99", counts=False)],
    )  # fmt: skip


def told(kind: str, about: Person, was: str = "away", cursor: str = "k3f9-2", at: str = AT) -> Event:
    return Event(cursor=cursor, kind=kind, at=at, person=about, previous={"status": was}, reason=about.reason)


def serve(daemon: FakeDaemon, *people: Person) -> None:
    daemon.answers["/api/people"] = 200, encode(PeopleList(cursor="k3f9-1", people=list(people)))
    for one in people:
        daemon.answers[f"/api/people/{one.name}"] = 200, encode(one)


def test_people_are_listed(ctl: Ctl, daemon: FakeDaemon) -> None:
    serve(daemon)
    assert ctl.run("people").stderr == "netscanctl: no people; to add one: netscanctl people add NAME DEVICE...\n"
    serve(daemon, person(), person("\x1b[2JTom", "unknown"))
    head, jane, tom = ctl.run("people").stdout.splitlines()
    assert head.split() == ["STATUS", "SINCE", "PERSON", "DEVICES"]
    assert jane.split()[0] == "home"
    assert jane.endswith("host7, (a4:83:e7:00:00:99)")
    assert "\x1b" not in tom
    assert json.loads(ctl.run("people", "--json").stdout)["people"][0]["name"] == "Jane"


def test_devices_are_added_and_removed(ctl: Ctl, daemon: FakeDaemon) -> None:
    serve(daemon, person())
    done = ctl.run("people", "add", "Jane", "host7", "a4:83:e7:00:00:99", "--not-counting")
    assert done.stderr == (
        f"netscanctl: Jane: home; devices: host7 ({SEVEN}), a4:83:e7:00:00:99 (does not count)\n"
    )  # fmt: skip
    body = msgspec.json.decode(daemon.bodies[-1], type=PersonUpdate)
    assert body == PersonUpdate(add=[PersonDevice(mac=mac, counts=False) for mac in (SEVEN, "a4:83:e7:00:00:99")])
    assert ctl.run("people", "remove", "Jane", "host7").returncode == 0
    assert msgspec.json.decode(daemon.bodies[-1], type=PersonUpdate) == PersonUpdate(remove=[SEVEN])
    done = ctl.run("people", "remove", "Tom")
    assert (done.returncode, done.stderr) == (
        1, 'netscanctl: no person "Tom"; to list people: netscanctl people\n',
    )  # fmt: skip
    assert ctl.run("people", "add", "Jane", "--not-counting").returncode == 2
    assert ctl.run("people", "rename", "Jane", "Jane Doe").returncode == 0
    assert msgspec.json.decode(daemon.bodies[-1], type=PersonUpdate) == PersonUpdate(name="Jane Doe")


@pytest.mark.parametrize("args", [("add", ""), ("add", ".."), ("rename", "", "Jane"), ("rename", "Jane", " ")], ids=str)
def test_a_name_without_letters_is_a_usage_error(ctl: Ctl, daemon: FakeDaemon, args: tuple[str, ...]) -> None:
    """Not a path that netscand does not have."""
    done = ctl.run("people", *args)
    assert done.returncode == 2
    assert re.fullmatch(
        r'netscanctl: NAME "( |\.\.)?": expected up to 64 characters, with a letter or a digit\n', done.stderr
    )
    assert daemon.bodies == []


def test_a_hub_and_an_older_netscand_have_no_people(ctl: Ctl, daemon: FakeDaemon) -> None:
    error = protocol.Refusal(code="not_found", message="no such resource")
    for path in ("people", "suggestions"):
        daemon.answers[f"/api/{path}"] = 404, encode(protocol.ErrorAnswer(error=error))
    for command in ("people", "merge"):
        done = ctl.run(command)
        assert done.returncode == 1
        assert done.stderr.endswith(
            " does not have this; ask netscand at a site if this is a hub of sites, else upgrade netscand\n"
        )


def test_a_person_is_no_device(ctl: Ctl, daemon: FakeDaemon) -> None:
    serve(daemon, person())
    for command in (("show", "jane"), ("label", "jane", "x"), ("wake", "jane"), ("people", "add", "Tom", "jane")):
        assert ctl.fails(1, *command) == (
            '"jane" is a person, not a device; to list people with their devices: netscanctl people'
        )
    assert 'no device matches "tom"' in ctl.fails(1, "show", "tom")


def test_events_of_a_person_are_listed(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl.run("events", "--person", "Jane Doe").stderr == "netscanctl: no event matches\n"
    assert [query["person"] for _, path, query, _ in daemon.requests if path == "/api/events"] == ["Jane Doe"]


def test_wait_for_waits_for_a_person(ctl: Ctl, daemon: FakeDaemon) -> None:
    """A user gave that name; a device that claims the same one does not count."""
    daemon.people = [person("host7", "away")]
    done = ctl.run("wait-for", "HOST7", "--timeout", "0")
    assert (done.returncode, done.stderr) == (6, "netscanctl: host7 is not home\n")
    assert ctl.run("wait-for", "host7", "--offline", "--timeout", "0").stderr == "netscanctl: host7 is away\n"
    assert ctl.fails(1, "wait-for", "hots7", "--timeout", "0").startswith('no device and no person matches "hots7"; ')
    assert ctl.fails(1, "wait-for", "hots7", "--timeout", "0").endswith("; the people are: host7")
    waiting = ctl.start("wait-for", "host7")
    daemon.until_watched(5)
    daemon.send(told("person_home", person("host7", "home")))
    assert waiting.end(None) == 0


def test_the_state_follows_people_and_shows_no_return() -> None:
    state = ClientState()
    state.on_message(snapshot(people=[person()]))
    doubt = told("person_unknown", person(status="unknown", since=LATER, last="home"), "home", "k3f9-2", LATER)
    assert state.on_message(doubt) == [doubt]
    back = told("person_home", person(), "unknown", "k3f9-3", LATER)
    assert state.on_message(back) == []
    assert state.people["jane"].status == "home"
    renamed = Event(cursor="k3f9-4", kind="person_changed", at=LATER, person=person("Doe"), previous={"name": "Jane"})
    state.on_message(renamed)
    assert state.people.keys() == {"doe"}
    state.on_message(Event(cursor="k3f9-5", kind="person_removed", at=LATER, person=person("Doe")))
    assert state.people == {}


def test_two_sites_may_have_a_person_of_the_same_name() -> None:
    """A hub lists no people; each event stands for itself, and a message is about one of the two."""
    state, world = ClientState(), World(family={"kinds": ["person_home", "person_away"], "for": "2m"})
    state.on_message(snapshot())
    changes = (("barn", "person_home", "home", "away"), ("cabin", "person_away", "away", "home"))
    for site, kind, status, was in changes:
        event = msgspec.structs.replace(told(kind, person(status=status)), site=site)
        assert state.on_message(event) == [event]
        world.event(kind, person=person(status=status), previous={"status": was}, site=site)
    assert state.people == {}
    assert sorted(world.at(HOUR).titles) == ["Jane has left", "Jane is home"]


def test_a_line_names_the_person() -> None:
    from datetime import datetime

    now = datetime.fromisoformat(AT)
    line = format_event(told("person_home", person()), paint=plain, now=now, columns=None)
    assert line.split()[2:5] == ["+", "person_home", "Jane"]
    assert line.endswith(f"{SEVEN} is online")
    assert "Jane" in format_event(told("person_away", person()), paint=plain, now=now, columns=80)
    changed = told("person_changed", person())
    for devices, text in (
        ([], f"+{SEVEN}, +a4:83:e7:00:00:99 does not count"),
        ([{"mac": SEVEN, "counts": False}, {"mac": "a4:83:e7:00:00:98"}],
         f"-a4:83:e7:00:00:98, {SEVEN} counts, +a4:83:e7:00:00:99 does not count"),
    ):  # fmt: skip
        changed.previous = {"name": "Jo", "devices": devices}
        assert f"was Jo, {text}; " in format_event(changed, paint=plain, now=now, columns=None)


def test_a_rule_reports_that_a_person_comes_and_goes() -> None:
    world = World(family={"kinds": ["person_home", "person_away"], "people": ["jane"], "for": "2m"})
    world.event("person_away", person=person(status="away"), previous={"status": "home"})
    world.at(60).event("person_home", person=person(), previous={"status": "away"})
    world.at(70).event("person_away", person=person("Tom", "away"), previous={"status": "home"})
    assert world.at(HOUR).titles == ["Jane is home"]


def test_a_rule_does_not_report_the_end_of_a_doubt() -> None:
    world = World(family={"kinds": ["person_home"]})
    world.at(HOUR).event("person_home", person=person(since=AT), previous={"status": "unknown"})
    assert world.at(2 * HOUR).titles == []


@pytest.mark.parametrize(
    ("unknown", "status", "presence"),
    [("keep", "home", "home"), ("keep", "away", "not_home"), ("keep", "unknown", "home"), ("unknown", "unknown", None)],
)
def test_a_person_is_a_device_tracker(unknown: str, status: str, presence: str | None) -> None:
    documents = Documents(msgspec.convert({"unknown": unknown}, Mqtt))
    found = documents.person(person(status=status, last="away" if status == "away" else "home"))
    state, config = (topic for topic in sorted(found, reverse=True))
    assert state.startswith("netscand/home/person/")
    assert documents.topics.is_ours(state)
    assert documents.topics.is_ours(config)
    assert "jane" not in f"{state}{config}".lower()
    assert json.loads(found[state])["presence"] == presence
    tracker = json.loads(found[config])["cmps"]["tracker"]
    assert (tracker["p"], tracker["state_topic"]) == ("device_tracker", state)


def test_the_name_of_a_person_does_not_leave_the_site_without_words() -> None:
    event = told("person_home", person("Jane Doe"))
    event.previous = {"name": "Jane Doe", "status": "away"}
    raw = without_words(event, protocol.encode(event))
    assert b"Jane" not in raw
    assert json.loads(raw)["kind"] == "person_home"
