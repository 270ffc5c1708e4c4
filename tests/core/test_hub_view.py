"""The sites of a hub, from a list of messages: what is taken, what is skipped, and the condition of each site."""

import asyncio
import time
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from netscand import __version__, protocol, sites
from netscand.core.restore import CursorGone
from netscand.hub import log, published
from netscand.hub.connection import Connection, Message, NoAnswer, StreamState, parsed
from netscand.hub.settings import Hub
from netscand.hub.site import ANSWER, INSTANCES, PATIENCE, SILENT, position_of
from netscand.hub.view import Change, View, key_of, shown_text
from netscand.protocol import Event
from tests.ctl.messages import AT, HOME, OFFICE, address, came, device, event, left, network

PHONE, TV = "a4:83:e7:00:00:01", "a4:83:e7:00:00:02"
WALL = 1_794_980_800.0
"""2026-11-18T05:46:40Z"""


class World:
    """A view, the messages that come to it, and the time."""

    def __init__(self) -> None:
        self.unreadable: list[tuple[str, str]] = []
        self.view = View(lambda at: AT, lambda site, message, why: self.unreadable.append((site, why)))
        self.now = 100.0
        self.sequence = 0

    def message(self, subject: str, data: bytes, **headers: str | None) -> Message:
        """The next message of the log; `cursor`, `previous` and so on are its headers."""
        self.sequence += 1
        names = {
            "cursor": sites.CURSOR_HEADER, "previous": sites.PREVIOUS, "acknowledged": sites.ACKNOWLEDGED,
            "snapshot": sites.SNAPSHOT, "instance": sites.INSTANCE, "protocol": sites.PROTOCOL,
        }  # fmt: skip
        given = {names[key].encode(): value.encode() for key, value in headers.items() if value is not None}
        return Message(self.sequence, int(WALL * 1e9), 0, subject, given, data)

    def event(
        self, number: int, what: Event, site: str = "home", previous: str | None = "", **more: str
    ) -> list[Change]:
        """An event of a site, by its number; what clients get."""
        what.cursor = f"k3f9-{number}"
        before = f"k3f9-{number - 1}" if previous == "" else previous
        headers = {"cursor": what.cursor, "previous": before, "snapshot": "s1", **more}
        return self.view.apply(self.message(sites.subject(site, what), protocol.encode(what), **headers), self.now)

    def snapshot(
        self, *devices: protocol.Device, number: int = 1, name: str = "s1", site: str = "home"
    ) -> list[Change]:
        """A whole snapshot of a site."""
        return [
            *self.about_site(
                sites.SnapshotBegan(cursor=f"k3f9-{number}", version=__version__, networks=[network()]), name, site=site
            ),
            *self.part(*devices, name=name, site=site),
            *self.ended(number, name, site),
        ]

    def ended(self, number: int = 1, name: str = "s1", site: str = "home") -> list[Change]:
        """The end of a snapshot."""
        end = sites.SnapshotEnded(cursor=f"k3f9-{number}", version=__version__, networks=(network(),))
        return self.about_site(end, name, f"k3f9-{number}", site=site)

    def about_site(self, what: Any, name: str, cursor: str | None = None, site: str = "home") -> list[Change]:  # noqa: ANN401
        message = self.message(sites.site_subject(site), protocol.encode(what), snapshot=name, cursor=cursor)
        return self.view.apply(message, self.now)

    def part(self, *devices: protocol.Device, name: str = "s1", site: str = "home") -> list[Change]:
        """Devices of a snapshot."""
        found = []
        for each in devices:
            what = Event(cursor="k3f9-1", kind="snapshot", at=AT, device=each)
            message = self.message(sites.subject(site, what), protocol.encode(what), snapshot=name)
            found += self.view.apply(message, self.now)
        return found

    def alive(self, site: str = "home", **fields: Any) -> list[Change]:  # noqa: ANN401
        """A sign of life."""
        values = {
            "cursor": None, "now": "2026-11-18T05:46:40.000Z", "instance": "one", "version": __version__, "backlog": 0,
            "commands": False,
        } | fields  # fmt: skip
        return self.view.on_alive(site, protocol.encode(sites.Alive(**values)), self.now, WALL)

    def statuses(self, site: str = "home") -> dict[str, str]:
        """MAC → status as clients see it."""
        return {
            published.device_of(shown_text(each)).mac: each.shown_status
            for each in self.view.devices.values()
            if each.site.name == site
        }


@pytest.fixture
def world() -> World:
    made = World()
    made.snapshot(device(1), device(2))
    return made


def kinds(changes: list[Change]) -> list[str]:
    return [change.kind for change in changes if not change.kind.startswith("site_")]


def test_events_change_the_devices_and_go_on(world: World) -> None:
    assert kinds(world.event(2, left(device(1, "offline")))) == ["offline"]
    assert world.statuses() == {PHONE: "offline", TV: "online"}
    assert world.view.sites["home"].counts == [1, 1, 0]


def test_what_was_taken_is_skipped_when_it_is_repeated(world: World) -> None:
    world.event(2, left(device(1, "offline")))
    world.event(3, came(device(1)))
    assert kinds(world.event(2, left(device(1, "offline")))) == []
    assert world.statuses()[PHONE] == "online"
    assert world.sequence in world.view.skipped


def test_what_follows_a_hole_waits_until_the_hole_is_filled(world: World) -> None:
    """JetStream may store an event and refuse the one before; the site repeats both."""
    assert kinds(world.event(3, came(device(1)))) == []
    assert kinds(world.event(2, left(device(1, "offline")))) == ["offline"]
    assert kinds(world.event(3, came(device(1)))) == ["online"]
    assert not world.view.overdue(world.now + PATIENCE + 1)


def test_a_hole_that_stays_is_reported_and_then_skipped(world: World) -> None:
    world.event(3, came(device(2)))
    assert not world.view.overdue(world.now + PATIENCE - 1)
    world.now += PATIENCE + 1
    (site,) = world.view.overdue(world.now)
    assert "gap" in site.problems(world.now)
    site.requested_at = world.now
    assert not world.view.overdue(world.now + ANSWER - 1)
    assert world.view.overdue(world.now + ANSWER + 1)
    site.skip_missing("missing")
    assert kinds(world.event(9, left(device(2, "offline")))) == ["offline"]
    assert site.problems(world.now)["gap"] == "missing"
    world.snapshot(device(1), number=9, name="s2")
    assert "gap" not in site.problems(world.now)


def test_the_site_itself_says_that_events_are_missing(world: World) -> None:
    """By its sign of life, if it is further than what came, and nothing waits."""
    world.alive(cursor="k3f9-5", backlog=3)
    assert not world.view.overdue(world.now + PATIENCE + 1)
    world.alive(cursor="k3f9-5")
    assert world.view.overdue(world.now + PATIENCE + 1)
    world.event(2, came(device(1)))
    assert not world.view.overdue(world.now + PATIENCE + 1)


def test_a_snapshot_removes_what_it_does_not_have_when_it_ends(world: World) -> None:
    began = sites.SnapshotBegan(cursor="zzzz-1", version=__version__, networks=[])
    world.about_site(began, "s2")
    assert kinds(world.part(device(1), name="s2")) == [], "nothing new"
    assert kinds(world.part(device(1, "offline"), name="s2")) == ["snapshot"]
    assert world.statuses() == {PHONE: "offline", TV: "online"}
    changes = world.ended(name="s2")
    assert [change.kind for change in changes] == ["forgotten", "site_snapshot"]
    assert world.statuses() == {PHONE: "offline"}
    assert world.view.sites["home"].counts == [0, 1, 0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"{}",
        b"[]",
        b'{"type":"event"}',
        b"[" * 100_000,
        b'{"type":"event","cursor":"a-1","kind":"online","at":"x","device":{"mac":"zz"}}',
    ],
)
def test_an_unreadable_message_is_counted_and_the_last_state_kept(world: World, data: bytes) -> None:
    subject = sites.subject("home", came(device(1)))
    world.view.apply(world.message(subject, data, cursor="k3f9-2", previous="k3f9-1"), world.now)
    world.view.apply(world.message(sites.site_subject("home"), data), world.now)
    assert world.statuses()[PHONE] == "online"
    assert world.view.sites["home"].unreadable == world.view.counts.unreadable == len(world.unreadable) == 2
    assert kinds(world.event(3, left(device(1, "offline")))) == ["offline"], "the next one continues"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"device":{', b'"device":{"site":"cabin",'),
        (b'"sent_at":null}', b'"sent_at":null,"site":"cabin"}'),
        (b'"status":"offline"', b'"status":"offline","status_at_site":"online"'),
        (b'"previous":{', b'"previous":{"hostname":7,'),
        (b'"previous":{', b'"previous":{"addresses":[7],'),
    ],
)
def test_a_site_can_publish_nothing_as_another_site(world: World, before: bytes, after: bytes) -> None:
    """And nothing that a filter cannot read."""
    what = came(device(1, "offline"), cursor="k3f9-2")
    data = protocol.encode(what).replace(before, after, 1)
    message = world.message(sites.subject("home", what), data, cursor="k3f9-2", previous="k3f9-1", snapshot="s1")
    assert kinds(world.view.apply(message, world.now)) == []
    assert world.statuses()[PHONE] == "online"
    assert len(world.unreadable) == 1


def test_a_second_cursor_in_an_event_does_not_go_on() -> None:
    data = protocol.encode(came(device(1))).replace(b'"sent_at":null', b'"sent_at":null,"cursor":"stolen-9"')
    assert b"stolen" not in published.published("home", data).body


def test_a_device_with_an_impossible_mac_is_unreadable(world: World) -> None:
    what = left(device(1, "offline", mac="nonsense"))
    assert kinds(world.event(2, what)) == []
    assert "expected a MAC" in world.unreadable[0][1]


def test_a_network_makes_its_devices_unknown_without_an_event_for_each(world: World) -> None:
    both = device(3, addresses=[address("192.168.1.3"), address("10.0.0.3", OFFICE)])
    world.event(2, event("discovered", both))
    world.event(3, event("network_up", network=OFFICE))
    world.event(4, came(both))
    world.event(5, event("network_silent", reason="no device answers"))
    assert world.statuses() == {PHONE: "unknown", TV: "unknown", both.mac: "online"}
    assert world.view.sites["home"].networks[HOME].state == "silent"
    found = {each.key: published.device_of(shown_text(each)) for each in world.view.devices.values()}
    assert found[key_of("home", bytes.fromhex("a483e7000001"))].reason == "no device answers"
    world.event(6, came(device(1), was="unknown"))
    assert world.view.sites["home"].shown_counts(HOME) == [2, 0, 1]


def test_the_host_of_a_site_is_not_one_of_those_that_fell_silent(world: World) -> None:
    """It is unknown only while its network is down."""
    host = device(3, kinds=["self"])
    world.event(2, event("discovered", host))
    for number, (kind, status) in enumerate(
        (("network_silent", "online"), ("network_recovered", "online"), ("network_down", "unknown"),
         ("network_up", "online")), start=3,
    ):  # fmt: skip
        world.event(number, event(kind))
        assert world.statuses()[host.mac] == status, kind


def test_a_silent_site_makes_its_devices_unknown_never_offline(world: World) -> None:
    assert kinds(world.event(2, left(device(2, "offline")))) == ["offline"]
    assert world.view.check(world.now + SILENT - 1) == []
    (change,) = world.view.check(world.now + SILENT + 1)
    found = protocol.decode_server(published_message(change))
    assert isinstance(found, Event)
    assert (found.kind, found.site) == ("site_silent", "home")
    assert isinstance(found.state, protocol.Site)
    assert (found.state.state, found.state.devices.unknown, found.state.devices.offline) == ("silent", 2, 0)
    assert set(world.statuses().values()) == {"unknown"}
    shown = {each.mac: each for each in (published.device_of(shown_text(one)) for one in world.view.devices.values())}
    assert (shown[TV].status, shown[TV].status_at_site) == ("unknown", "offline")
    world.now += SILENT + 5
    assert [each.kind for each in world.alive()] == ["site_up"]
    assert world.statuses() == {PHONE: "online", TV: "offline"}
    assert world.view.check(world.now) == []


def published_message(change: Change) -> bytes:
    return b'{"type":"event","cursor":"x-1",' + change.body[1:-1] + b"}"


def test_a_site_of_which_nothing_came_is_unknown_and_then_silent() -> None:
    world = World()
    view = world.view
    view.restore(
        world.message(sites.subject("home", came(device(1))), protocol.encode(came(device(1))), cursor="k3f9-2"),
        world.now,
    )
    view.restored()
    assert view.sites["home"].state == "unknown"
    assert world.statuses() == {PHONE: "online"}
    (change,) = view.check(world.now + SILENT + 1)
    assert change.kind == "site_silent"


def test_a_site_that_was_added_is_shown_before_it_publishes(world: World) -> None:
    """Its entry is empty until a machine joins; what the site publishes ends the problem."""
    view = world.view
    (change,) = view.on_owner("barn", b"", 1, world.now)
    assert change.kind == "site_changed"
    assert view.sites["barn"].problems(world.now)["never_published"].startswith("it was added")
    owner = sites.Owner(instance="two", host="shed", since="2026-11-18T05:46:40.000Z")
    assert view.on_owner("barn", protocol.encode(owner), 2, world.now) == []
    assert view.sites["barn"].problems(world.now)["never_published"].startswith("shed joined as this site on 2026")
    assert [each.kind for each in view.check(world.now + SILENT + 1)] == ["site_silent", "site_silent"]
    world.event(2, came(device(1)), site="barn")
    assert "never_published" not in view.sites["barn"].problems(world.now)
    view.on_owner("home", b"", 3, world.now)
    world.alive()
    assert not view.sites["home"].problems(world.now)


def test_a_removed_site_is_gone_with_its_devices(world: World) -> None:
    """With an event for each; also at a start. If it is added again, its devices are those that it publishes then."""
    world.snapshot(device(1), site="barn")
    changes = world.about_site(sites.SiteRemoved(), "")
    assert [change.kind for change in changes] == ["forgotten", "forgotten", "site_removed"]
    found = protocol.decode_server(published_message(changes[-1]))
    assert isinstance(found, Event)
    assert (found.site, found.state) == ("home", UNSET)
    assert list(world.view.sites) == ["barn"]
    assert {each.site.name for each in world.view.devices.values()} == {"barn"}
    world.snapshot(device(2), number=3, name="s3")
    assert world.statuses() == {TV: "online"}

    fresh = World()
    old = Event(cursor="k3f9-2", kind="online", at=AT, device=device(1))
    fresh.view.restore(fresh.message(sites.subject("home", old), protocol.encode(old), snapshot="s1"), fresh.now)
    poison = fresh.message(f"{sites.PREFIX}.home.device.a483e7000002", b"[", snapshot="s1")
    fresh.view.restore(poison, fresh.now)
    fresh.view.restore(fresh.message(sites.site_subject("home"), protocol.encode(sites.SiteRemoved())), fresh.now)
    fresh.view.restore_earlier(fresh.message(poison.subject, protocol.encode(old), snapshot="s1"))
    fresh.view.restored()
    assert (fresh.view.sites, fresh.view.devices) == ({}, {})


def test_a_site_that_was_added_again_stays(world: World) -> None:
    """A hub may get the entry of the new one before it reads that the former one was removed."""
    entered = int(WALL * 1e9)
    world.view.on_owner("home", b"", entered - 1, world.now)
    world.about_site(sites.SiteRemoved(), "")
    assert not world.view.sites
    world.snapshot(device(1))
    world.view.on_owner("home", b"", entered + 1, world.now)
    changes = world.about_site(sites.SiteRemoved(), "")
    assert [change.kind for change in changes] == ["forgotten", "site_removed"]
    found = protocol.decode_server(published_message(changes[-1]))
    assert isinstance(found, Event)
    assert isinstance(found.state, protocol.Site)
    assert found.state.problems == ["never_published"]
    assert not world.view.sites["home"].devices


@pytest.mark.parametrize(
    ("fields", "problem", "words"),
    [
        ({"backlog": 1_000}, "behind", "1000 events wait"),
        ({"now": "2026-11-18T05:46:50.000Z"}, "wrong_clock", "10 s ahead"),
        ({"now": "2026-11-18T05:46:31.000Z"}, "wrong_clock", "9 s behind"),
        ({"version": "9.9"}, "other_version", "netscand 9.9"),
    ],
)
def test_problems_of_a_site(world: World, fields: dict[str, Any], problem: str, words: str) -> None:
    """Each is published once, and its end, too."""
    world.alive()
    assert not world.view.sites["home"].problems(world.now)
    (change,) = world.alive(**fields)
    assert change.kind == "site_changed"
    assert words in world.view.sites["home"].problems(world.now)[problem]
    assert world.alive(**fields) == []
    assert [each.kind for each in world.alive()] == ["site_changed"]


def test_two_machines_with_one_name_are_a_conflict(world: World) -> None:
    """Not one that took over from another."""
    for instance in ("one", "one", "two", "two"):
        world.alive(instance=instance)
        assert "conflicting" not in world.view.sites["home"].problems(world.now)
    world.alive(instance="one")
    assert "conflicting" in world.view.sites["home"].problems(world.now)
    world.now += SILENT + 1
    world.alive(instance="one")
    assert "conflicting" not in world.view.sites["home"].problems(world.now)


def test_a_site_with_another_instance_in_each_message(world: World) -> None:
    """It costs the hub no more than another one; a conflict is still found."""
    for number in range(1_000):
        world.alive(instance=f"machine{number}")
    assert len(world.view.sites["home"]._instances) <= INSTANCES
    for instance in ("one", "two", "one"):
        world.alive(instance=instance)
    assert "conflicting" in world.view.sites["home"].problems(world.now)


@pytest.mark.parametrize("data", [b"{}", b"\xff", b'{"x":' + b"[" * 100_000])
def test_an_unreadable_sign_of_life_is_counted(world: World, data: bytes) -> None:
    """So is an unreadable owner entry ignored: any error here would end the hub."""
    assert world.view.on_alive("home", data, world.now, 0.0) == []
    assert world.view.sites["home"].unreadable == 1
    world.view.on_owner("home", data, 1, world.now)
    assert world.view.sites["home"].owner is None


def test_a_start_takes_the_last_values_and_leaves_out_what_a_snapshot_removed() -> None:
    world = World()
    view, now = world.view, world.now

    def restore(number: int, what: Event, snapshot: str, **more: str) -> None:
        what.cursor = f"k3f9-{number}"
        headers = {"cursor": what.cursor, "previous": f"k3f9-{number - 1}", "snapshot": snapshot, **more}
        view.restore(world.message(sites.subject("home", what), protocol.encode(what), **headers), now)

    restore(5, left(device(2, "offline")), "s1")
    restore(9, came(device(1)), "s2", acknowledged="k3f9-8")
    view.restored()
    assert world.statuses() == {PHONE: "online"}
    assert view.sites["home"].cursor == b"k3f9-9"
    assert kinds(world.event(10, left(device(1, "offline")), snapshot="s2")) == ["offline"]


def test_a_start_within_a_snapshot_keeps_everything_until_its_end() -> None:
    world = World()
    world.view.restore(
        world.message(
            sites.subject("home", came(device(2))), protocol.encode(came(device(2))), cursor="k3f9-2", snapshot="s1"
        ),
        world.now,
    )
    one = Event(cursor="k3f9-9", kind="snapshot", at=AT, device=device(1))
    world.view.restore(world.message(sites.subject("home", one), protocol.encode(one), snapshot="s2"), world.now)
    world.view.restored()
    assert world.statuses() == {PHONE: "online", TV: "online"}
    assert "snapshot" in world.view.sites["home"].problems(world.now)
    assert kinds(world.ended(9, "s2")) == ["forgotten"]
    assert world.statuses() == {PHONE: "online"}


def test_after_a_start_a_site_may_repeat_what_was_not_acknowledged() -> None:
    """What was stored before it may have been refused."""
    world = World()
    for number, acknowledged in ((3, "k3f9-2"), (4, "k3f9-2")):
        what = came(device(number - 2), cursor=f"k3f9-{number}")
        message = world.message(
            sites.subject("home", what), protocol.encode(what), cursor=what.cursor, previous=f"k3f9-{number - 1}",
            acknowledged=acknowledged, snapshot="s1",
        )  # fmt: skip
        world.view.restore(message, world.now)
    world.view.restored()
    assert kinds(world.event(3, left(device(1, "offline")))) == ["offline"]
    assert kinds(world.event(4, left(device(2, "offline")))) == ["offline"]


# ---- bytes


def test_the_bytes_of_a_site_go_on_with_the_site_in_them() -> None:
    what = came(device(1, label='a","device":{"mac":"x', patience=60.0), cursor="k3f9-2")
    what.sent_at = "2026-11-23T22:02:11.042000Z"
    raw = protocol.encode(what)
    found = published.published("home", raw)
    body = found.body
    assert body.startswith(b'{"site":"home","kind":"online"')
    assert body.replace(b'"site":"home",', b"")[1:] in raw.replace(b',"sent_at":"2026-11-23T22:02:11.042000Z"', b"")
    assert b'"device":{"site":"home","mac":"a4:83:e7:00:00:01"' in body
    decoded = protocol.decode_server(b'{"type":"event","cursor":"a-1",' + body[1:-1] + b"}")
    assert isinstance(decoded, Event)
    assert decoded.device is not None
    assert (decoded.site, decoded.device.site, decoded.device.label) == (
        "home",
        "home",
        what.device and what.device.label,
    )


def test_bytes_of_another_form_are_encoded_again() -> None:
    """As of a later version, or another program."""
    raw = protocol.encode(came(device(1))).replace(b'","', b'" , "')
    body = published.published("home", raw).body
    assert body.startswith(b'{"site":"home",')
    assert b'"site":"home"' in body.partition(b'"device":')[2]
    assert b"sent_at" not in body


def test_headers_are_parsed() -> None:
    assert parsed(None) == {}
    assert parsed(b"NATS/1.0\r\nA: b\r\nC:\r\n\r\n") == {b"A": b"b", b"C": b""}
    assert parsed(b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 7\r\n\r\n") == {
        b"Status": b"100", b"Nats-Last-Consumer": b"7",
    }  # fmt: skip


@pytest.mark.parametrize("cursor", [None, b"", b"x", b"-1", b"k3f9-", b"k3f9-x", b"k3f9-" + b"9" * 5_000])
def test_what_is_no_cursor_has_no_position(cursor: bytes | None) -> None:
    assert position_of(cursor) is None


def test_times_of_the_server_are_exact_to_the_nanosecond() -> None:
    assert log.nanoseconds("2026-11-30T21:14:59.591858123Z") == 1_796_073_299_591_858_123
    assert log.nanoseconds("2026-11-30T21:14:59Z") == 1_796_073_299_000_000_000
    assert log.nanoseconds("2026-11-30T21:14:59.5Z") == 1_796_073_299_500_000_000


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Australia/Sydney", "America/New_York"])
def test_times_of_the_server_are_in_utc(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """Also while the hub's time zone has summer time: the marks and the identity in cursors are made of them."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        summer, winter = (log.nanoseconds(f"2026-{month}-15T10:00:00Z") for month in ("07", "01"))
    time.tzset()
    assert (summer, winter) == (1_784_109_600_000_000_000, 1_768_471_200_000_000_000)


def test_the_last_good_state_of_a_device_is_kept(world: World) -> None:
    """Of a message that cannot be read, in a snapshot or as the last one before a start of the hub."""
    world.event(2, left(device(1, "offline")))
    subject = f"{sites.PREFIX}.home.device.a483e7000001"
    world.about_site(sites.SnapshotBegan(cursor="k3f9-2", version=__version__, networks=[network()]), "s2")
    poison = world.message(subject, b"{", snapshot="s2")
    world.view.apply(poison, world.now)
    world.part(device(2), name="s2")
    world.ended(2, "s2")
    assert world.statuses() == {PHONE: "offline", TV: "online"}
    fresh = World()
    good = Event(cursor="k3f9-2", kind="offline", at=AT, device=device(1, "offline"))
    ended = sites.SnapshotEnded(cursor="k3f9-2", version=__version__, networks=(network(),))
    fresh.view.restore(poison, fresh.now)
    fresh.view.restore(
        fresh.message(sites.site_subject("home"), protocol.encode(ended), snapshot="s2", cursor="k3f9-2"), fresh.now
    )
    for data in (protocol.encode(good), b"["):
        fresh.view.restore_earlier(fresh.message(subject, data, snapshot="s1", cursor="k3f9-2"))
    fresh.view.restored()
    assert fresh.statuses() == {PHONE: "offline"}


async def test_a_site_answers_a_command_with_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer of a site ends the hub."""
    made = Connection()

    async def request(subject: str, payload: bytes, *, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(data=b'{"x":' + b"[" * 100_000)

    monkeypatch.setattr(made.client, "request", request)
    await made.command("home", protocol.ScanNow())


async def test_a_request_that_a_cluster_does_not_answer_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no leader; and a replica that lags behind the leader says that it has no such message."""
    state = {"first_seq": 1, "last_seq": 7, "messages": 7}
    info = {"created": "", "state": state, "cluster": {"replicas": [{"name": "n1"}]}}
    made, answers = Connection(), [None, info, info, {"created": "", "state": state}]
    stamps = [{}, {}, {"Nats-Time-Stamp": "x"}, {}, {}]

    async def request(subject: str, content: object = None, *, within: float = 0.0) -> SimpleNamespace:
        if "DIRECT" in subject:
            return SimpleNamespace(headers=stamps.pop(0))
        if (found := answers.pop(0)) is None:
            raise NoAnswer(subject)
        return SimpleNamespace(data=msgspec.json.encode(found))

    monkeypatch.setattr(made, "request", request)
    assert await made.stamp_of("NETSCAN", 7) == "x"
    assert (len(answers), len(stamps)) == (1, 2)
    assert await made.stamp_of("NETSCAN", 7) is None, "one server has all that it says"


def test_the_last_values_of_a_site_are_those_after_its_network_events(world: World) -> None:
    """A network that comes up sets devices to `unknown` without an event for each, also in what is read again."""
    missed = world.event(3, came(device(1)))
    down, up = (event(kind, network=HOME) for kind in ("network_down", "network_up"))
    for number, each in enumerate((down, up), 4):
        missed += world.event(number, each)
    assert kinds(missed) == []
    last = {}
    for number, each in enumerate((came(device(1)), down, up), 3):
        each.cursor = f"k3f9-{number}"
        subject = sites.subject("home", each)
        last[subject] = world.message(subject, protocol.encode(each), snapshot="s1", cursor=each.cursor)
    found = [change for message in last.values() for change in world.view.replace_last(message, world.now)]
    assert kinds(found) == ["network_up"]
    assert world.statuses() == {PHONE: "unknown", TV: "unknown"}
    assert [
        world.view.replace_last(message, world.now) for message in last.values() if "network" in message.subject
    ] == [[]]


async def test_what_was_not_read_yet_is_not_missing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign of life does not wait behind the log, of which much may not be read yet."""
    monkeypatch.setattr(log, "CATCH_UP", 4)
    requests: list[str] = []

    class Server:
        async def stream_state(self, stream: str) -> StreamState:
            return StreamState("", 1, 7, 7, False)

        async def read(self, stream: str, start: object) -> AsyncGenerator[list[Message]]:
            requests.append(stream)
            if len(requests) == 1:
                world.event(9, came(device(2)))  # it comes meanwhile
            yield [world.message(sites.subject("home", each), protocol.encode(each), cursor="k3f9-9", snapshot="s1")]

    each = left(device(2), "offline")
    each.cursor = "k3f9-9"
    made = log.Log(Hub(), None, world.view, lambda cursor, change: None)
    server: Any = Server()
    world.alive(cursor="k3f9-5")
    site = world.view.sites["home"]
    assert site.missing_since is not None
    made.sequence = 6
    await made._fix(server, site)
    assert requests == []
    made.sequence = 100
    await made._fix(server, site)
    assert requests == [sites.LOG] * 2
    assert site.cursor == b"k3f9-9"
    assert site.gap
    assert kinds(world.event(9, came(device(2)))) == [], "it is in the last values"
    assert kinds(world.event(10, came(device(2)))) == ["online"]


async def test_a_client_that_has_read_more_at_another_hub_waits() -> None:
    """Until this hub has read as much; not for a message that the log does not have."""
    stamp = "2026-11-18T05:46:40.123456Z"

    class Server:
        async def stamp_of(self, stream: str, number: int) -> str | None:
            return stamp if number == 7 else None

    made = log.Log(Hub(), None, World().view, lambda cursor, change: None)
    made._identity, made.sequence = "abcdefgh", 5
    made._connection = Server()  # type: ignore[assignment]
    cursor = f"abcdefgh{made.mark(log.nanoseconds(stamp))}-7"
    with pytest.raises(CursorGone):
        made.sequence_of(cursor)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(made.until_read(cursor))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        made.sequence = 7
    assert made.sequence_of(cursor) == 7
    for gone in ("abcdefgh000000-7", "abcdefgh000000-9", "zzzzzzzz000000-9", "x"):
        made.sequence = 6
        await made.until_read(gone)
