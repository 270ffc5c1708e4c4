"""People: home while a device that counts is online; in doubt unknown, never away."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from netscand.core import people as people_module
from netscand.core.annotations import is_annotated
from netscand.core.model import Busy, Event, EventKind, Mac, NetworkState, Person, PersonStatus
from netscand.core.people import MOST_DEVICES, MOST_PEOPLE, People
from tests.core.world import World, mac, network

PHONE, LAPTOP, DESKTOP = mac(1), mac(2), mac(3)


class Home(World):
    """A LAN on which the engine's `_publish` asks after people."""

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            super()._tell((event,))
            self._tell(self.inventory.people.after(event))

    def set(self, name: str, *macs: Mac, remove: Iterable[Mac] = (), counts: bool = True) -> None:
        self._tell(self.inventory.people.change(name, dict.fromkeys(macs, counts), remove, None, self.now))

    def status(self, name: str = "Jane") -> PersonStatus:
        person = self.inventory.people.find(name)
        assert person is not None
        return person.status

    def of_people(self) -> list[EventKind]:
        return [event.kind for event in self.events if event.person]


@pytest.fixture
def home() -> Home:
    home = Home()
    home.alive(3)
    home.run(5.0)
    home.set("Jane", PHONE, LAPTOP)
    home.set("Jane", DESKTOP, counts=False)
    return home


def leave(home: Home, *macs: Mac) -> None:
    home.hosts = {place: each for place, each in home.hosts.items() if each not in macs}


def test_the_reason_is_about_the_devices_as_they_are(home: Home) -> None:
    """Also if the status stays, which is no event."""
    jane = home.inventory.people.find("Jane")
    assert jane is not None
    assert jane.reason == f"{PHONE.hex(':')} is online, and 1 more"
    count = len(home.of_people())
    leave(home, PHONE)
    home.run(600.0)
    assert jane.reason == f"{LAPTOP.hex(':')} is online"
    assert len(home.of_people()) == count


def test_a_person_is_home_while_a_device_that_counts_is_online(home: Home) -> None:
    """The last one to go makes the person away, at that moment; the first to come, home."""
    assert home.status() is PersonStatus.HOME
    leave(home, PHONE)
    home.run(600.0)
    assert home.status() is PersonStatus.HOME
    leave(home, LAPTOP)
    home.run(600.0)
    assert home.status() is PersonStatus.AWAY
    assert home.of_people() == [
        EventKind.PERSON_CHANGED, EventKind.PERSON_HOME, EventKind.PERSON_CHANGED, EventKind.PERSON_AWAY,
    ]  # fmt: skip
    away = home.events[-1]
    (offline,) = [event for event in home.of(EventKind.OFFLINE) if event.device and event.device.mac == LAPTOP]
    assert (away.at, away.reason) == (offline.at, f"{LAPTOP.hex(':')} was the last of 2 devices to go offline")
    assert away.previous is not None
    assert away.previous["status"] is PersonStatus.HOME
    home.hear(PHONE, "10.0.0.10")
    assert home.status() is PersonStatus.HOME


def test_a_device_that_does_not_count_makes_nobody_home(home: Home) -> None:
    leave(home, PHONE, LAPTOP)
    home.run(600.0)
    assert home.status() is PersonStatus.AWAY


def test_a_device_in_doubt_makes_a_person_unknown_never_away(home: Home) -> None:
    """Law 8. When the doubt ends, the person has been home all the time."""
    since = home.inventory.people.all()[0].status_since
    leave(home, PHONE)
    home.run(600.0)
    home.set_networks([replace(network(), state=NetworkState.DOWN)])
    assert home.status() is PersonStatus.UNKNOWN
    home.run(7200.0)
    assert home.status() is PersonStatus.UNKNOWN
    home.set_networks([network()])
    home.run(60.0)
    assert home.status() is PersonStatus.HOME
    assert EventKind.PERSON_AWAY not in home.of_people()
    back = home.events[-1] if home.events[-1].person else [event for event in home.events if event.person][-1]
    assert back.kind is EventKind.PERSON_HOME
    assert back.person is not None
    assert back.person.status_since == since < back.at


def test_a_repeated_observation_makes_no_event(home: Home) -> None:
    """Law 5."""
    count = len(home.of_people())
    home.run(3600.0)
    assert len(home.of_people()) == count


def test_a_device_of_a_person_is_never_evicted_and_leaves_when_forgotten(home: Home) -> None:
    device = home.inventory.devices[DESKTOP]
    assert is_annotated(device)
    home._tell((home.inventory.forget(DESKTOP, home.now, "forgotten by a user"),))
    jane = home.inventory.people.find("JANE")
    assert jane is not None
    assert jane.devices == {PHONE: True, LAPTOP: True}
    home.set("Jane", remove=(LAPTOP,))
    assert not is_annotated(home.inventory.devices[LAPTOP])


def test_two_people_may_share_a_device(home: Home) -> None:
    home.set("Tom", PHONE)
    leave(home, PHONE, LAPTOP)
    home.run(600.0)
    assert (home.status("Jane"), home.status("Tom")) == (PersonStatus.AWAY, PersonStatus.AWAY)


def test_nobody_is_home_or_away_without_a_device_that_was_seen(home: Home) -> None:
    home.set("Tom")
    tom = home.inventory.people.find("Tom")
    assert tom is not None
    assert (tom.status, tom.reason) == (PersonStatus.UNKNOWN, "no device counts")
    home.inventory.label(mac(77), {"label": "his next phone"}, home.now)
    home.set("Tom", mac(77))
    assert (tom.status, tom.reason) == (PersonStatus.UNKNOWN, "none of the devices that count was seen yet")
    home.set("Tom", PHONE)
    assert home.status("Tom") is PersonStatus.HOME


def test_limits_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people_module, "MOST_PEOPLE", 2)
    monkeypatch.setattr(people_module, "MOST_DEVICES", 2)
    home = Home()
    home.alive(3)
    home.run(5.0)
    home.set("Jane", PHONE, LAPTOP)
    with pytest.raises(Busy, match="a person has at most 2 devices; remove some first"):
        home.set("Jane", DESKTOP)
    home.set("Tom")
    with pytest.raises(Busy, match="there are 2 people, which is the maximum"):
        home.set("Ann")
    with pytest.raises(KeyError):
        home.set("Tom", mac(88))
    with pytest.raises(Busy, match="'jane' is another person"):
        home.inventory.people.change("Tom", {}, (), "jane", home.now)
    assert (MOST_PEOPLE, MOST_DEVICES) == (64, 32)


def test_a_renamed_person_keeps_devices_and_status(home: Home) -> None:
    (event,) = home.inventory.people.change("jane", {}, (), "Jane Doe", home.now)
    assert event.previous == {"name": "Jane", "devices": {PHONE: True, LAPTOP: True, DESKTOP: False}}
    assert home.inventory.people.find("Jane") is None
    assert home.status("jane doe") is PersonStatus.HOME


def test_after_a_start_the_status_is_that_of_the_devices() -> None:
    home = Home()
    people = People(home.inventory.devices)
    people.restore([replace_person("Jane", PersonStatus.HOME)])
    (event,) = people.settle(home.now)
    assert event.kind is EventKind.PERSON_UNKNOWN


def replace_person(name: str, status: PersonStatus) -> Person:
    return Person(name, {PHONE: True}, status, 1.0, "", status, 1.0)
