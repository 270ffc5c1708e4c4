"""The rules, by an injected clock: which events become a message, and when."""

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netscanctl.services.notify import rules as module
from netscanctl.services.notify.compose import Composer
from netscanctl.services.notify.quiet import quiet_until
from netscanctl.services.notify.rules import GATHER, SETTLE
from netscanctl.services.notify.settings import Notify, Rule
from netscanctl.services.notify.state import Entry
from tests.ctl.messages import HOME, OFFICE, device, event, network
from tests.ctl.notify_world import HOUR, MINUTE, START, World
from tests.ctl.test_people import person

PRESENCE = ["online", "offline"]


def test_without_rules_new_devices_are_reported() -> None:
    """One that a user knows already is not."""
    assert [*Notify(ntfy="https://ntfy.example/t").rules.values()] == [Rule(known=False)]
    world = World(new={"known": False})
    world.event("discovered", device(7))
    world.event("discovered", device(8, known=True))
    world.status(9, "offline")
    assert world.at(HOUR).titles == ["New device: host7"]
    assert world.sent[0][2].link == "https://scan.lan/#a4:83:e7:00:00:07"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"devices": ["a4:83:e7:00:00:07"]}, ["host7"]),
        ({"devices": ["A4-83-E7-00-00-07"]}, ["host7"]),
        ({"devices": ["jane*"]}, ["Jane's phone"]),
        ({"devices": ["host8", "HOST7"]}, ["host7", "Jane's phone"]),
        ({"known": True}, ["Jane's phone"]),
        ({"tags": ["Phone", "x"]}, ["Jane's phone"]),
        ({"known": False}, ["host7", "host9"]),
        ({"networks": ["10.0.0.0/24"]}, ["host9"]),
        ({"networks": ["eth1"]}, ["host9"]),
        ({"networks": ["192.168.*"]}, ["host7", "Jane's phone"]),
        ({"kinds": ["online"]}, []),
        ({"networks": ["eth9"]}, []),
    ],
)
def test_a_rule_matches_by_kind_device_known_and_network(rule: dict[str, object], expected: list[str]) -> None:
    world = World(only={"kinds": ["offline"], **rule})
    for one in (device(7), device(8, label="Jane's phone", known=True, tags=["phone"]), device(9, network=OFFICE)):
        world.event("offline", one, network=one.addresses[0].network)
    assert world.at(HOUR).titles == [f"{name} is offline" for name in expected]


@pytest.mark.parametrize("label", ["TV [living room]", "Jane*", "a?", "[!x]"])
def test_a_label_with_wildcards_matches_itself(label: str) -> None:
    """Of a device and of a person."""
    world = World(only={"kinds": ["offline"], "devices": [label]}, people={"kinds": ["person_home"], "people": [label]})
    world.event("offline", device(7, label=label))
    world.event("person_home", None, person=person(label))
    assert world.at(HOUR).titles == [f"{label} is offline", f"{label} is home"]


@pytest.mark.parametrize("name", ["janes-phone", "janes-phone.local", "janes*", "7E:00:00:00:00:01"])
def test_a_label_or_a_merge_ends_no_rule(name: str) -> None:
    """A device has the names by which netscanctl finds it: also its host name, and a MAC merged into it."""
    world = World(only={"kinds": ["offline"], "devices": [name]})
    merged = ["7e:00:00:00:00:01"]
    world.event("offline", device(7, hostname="janes-phone", label="Jane's phone", merged_macs=merged))
    assert world.at(HOUR).titles == ["Jane's phone is offline"]


def test_a_channel_gets_an_event_once_by_the_first_rule() -> None:
    """So its id is unique for the channel."""
    world = World(
        ("phone", "mail"),
        first={"kinds": ["offline"], "channels": ["phone"], "title": "first {name}"},
        second={"kinds": ["offline"], "title": "second {name}"},
    )
    world.status(7, "offline")
    world.at(MINUTE)
    assert [(channel, message.title) for _, channel, message in world.sent] == [
        ("phone", "first host7"), ("mail", "second host7"),
    ]  # fmt: skip


# ---- for


def test_for_reports_only_what_is_still_so() -> None:
    world = World(gone={"kinds": ["offline"], "for": "2m"})
    world.status(7, "offline")
    world.at(119).status(7, "online")
    world.at(HOUR).status(7, "offline")
    assert world.at(HOUR + 119).titles == []
    assert world.at(HOUR + 122).titles == ["host7 is offline"]
    assert world.times == [HOUR + 120 + GATHER]


def test_for_goes_by_the_events_when_they_come_late() -> None:
    """After an hour away, a device that was offline for a minute then is not reported, one that still is, at once."""
    world = World(gone={"kinds": ["offline"], "for": "2m"})
    world.status(7, "offline")
    world.now += MINUTE
    world.status(7, "online")
    world.status(8, "offline")
    assert world.at(HOUR).titles == ["host8 is offline"]


def test_a_network_that_is_silent_is_one_message() -> None:
    """Law 8: while it is in doubt nobody is reported offline, and who returns from unknown is not reported either."""
    world = World(all={"kinds": [*PRESENCE, "network_silent", "network_recovered"], "for": "1m"})
    world.status(7, "offline")
    world.at(30).event("network_silent")
    assert world.at(HOUR).titles == [f"Network {HOME} is silent"]
    world.event("network_recovered")
    world.status(7, "online")
    for number in range(10, 40):
        world.status(number, "online", was="unknown")
    world.status(50, "offline", was="unknown")
    world.at(2 * HOUR)
    assert sorted(world.titles[1:]) == sorted([f"Network {HOME} answers again", "host50 is offline", "host7 is online"])


# ---- newcomers


def test_a_newcomer_waits_for_its_name() -> None:
    """A name, at most SETTLE seconds; then its vendor and MAC stand for it."""
    world = World(new={"known": False})
    world.event("discovered", device(7, hostname=None))
    world.at(3).event("renamed", device(7, hostname="janes-phone"), previous={"hostname": None})
    world.event("discovered", device(8, hostname=None))
    world.at(HOUR)
    assert world.titles == ["New device: janes-phone", "New device: Apple, Inc. a4:83:e7:00:00:08"]
    assert world.times == [3 + GATHER, 3 + SETTLE + GATHER]


def test_a_newcomer_that_is_marked_as_known_is_not_reported() -> None:
    world = World(new={"known": False, "for": "5m"})
    world.event("discovered", device(7))
    world.at(MINUTE).event("labelled", device(7, known=True), previous={"known": False})
    assert world.at(HOUR).titles == []


def test_a_newcomer_that_left_is_reported_once_it_stays() -> None:
    """With `for`; it is not discovered a second time."""
    world = World(new={"known": False, "for": "5m"})
    world.event("discovered", device(7))
    world.at(MINUTE).status(7, "offline")
    assert world.at(HOUR).titles == []
    world.status(7, "online")
    assert world.at(2 * HOUR).titles == ["New device: host7"]
    assert world.times == [HOUR + 5 * MINUTE + GATHER]


def test_the_first_start_reports_nobody() -> None:
    """Not what the first scan discovers, and who answers it late; then newcomers are."""
    world = World(new={})
    world.engine.start([network(last_scan=None), network(OFFICE)], START)
    world.event("discovered", device(7))
    world.event("discovered", device(60, network=OFFICE), network=OFFICE)
    world.at(MINUTE)
    world.engine.scanned([HOME], world.now)
    world.at(MINUTE + 30).event("discovered", device(8))
    world.restart()
    world.at(10 * MINUTE).event("discovered", device(9))
    assert world.at(HOUR).titles == ["New device: host60", "New device: host9"]


def test_the_first_scan_may_never_end() -> None:
    """A network that is not scanned: then newcomers are reported after a quarter of an hour."""
    world = World(new={})
    world.engine.start([network(last_scan=None)], START)
    world.at(14 * MINUTE).event("discovered", device(7))
    world.at(16 * MINUTE).event("discovered", device(8))
    assert world.at(HOUR).titles == ["New device: host8"]


def test_a_new_network_is_one_message() -> None:
    """Its first scan discovers all of its devices."""
    world = World(new={})
    world.event("network_up", network=OFFICE)
    for number in range(30):
        world.at(number).event("discovered", device(number, network=OFFICE), network=OFFICE)
    assert world.at(HOUR).titles == ["30 new devices"]
    assert world.times == [module.FIRST_MINUTES + GATHER]
    assert world.sent[0][2].count == 30
    assert world.sent[0][2].text.splitlines()[-1] == "and 10 more"


# ---- cooldown and flapping


def test_cooldown_reports_the_last_change_at_its_end() -> None:
    """And none if that is what was reported before."""
    world = World(all={"kinds": PRESENCE, "cooldown": "1h"})
    world.status(7, "offline")
    world.at(5 * MINUTE).status(7, "online")
    world.at(10 * MINUTE).status(7, "offline")
    world.status(8, "offline")
    world.at(15 * MINUTE).status(8, "online")
    assert world.at(3 * HOUR).titles == ["host7 is offline", "host8 is offline", "host8 is online"]
    assert world.times[2] == 10 * MINUTE + HOUR + GATHER


def test_cooldown_reports_nothing_that_is_no_longer_true() -> None:
    """The device left while its return waited for the end of the cooldown."""
    world = World(all={"kinds": PRESENCE, "cooldown": "1h", "for": "2m"})
    world.status(7, "offline")
    world.at(5 * MINUTE).status(7, "online")
    world.at(61 * MINUTE).status(7, "offline")
    assert "host7 is online" not in world.at(3 * HOUR).titles


def test_cooldown_counts_each_device_and_each_kind_alone() -> None:
    world = World(all={"kinds": ["offline", "renamed"], "cooldown": "1h"})
    world.status(7, "offline")
    world.event("renamed", device(7), previous={"hostname": "x"})
    world.status(8, "offline")
    assert len(world.at(MINUTE).titles) == 3


def test_flapping_is_one_message_then_silence() -> None:
    """At the end of it, the state that lasts is reported."""
    world = World(all={"kinds": PRESENCE})
    for minute in range(60):
        world.at(minute * MINUTE).status(7, "online" if minute % 2 else "offline")
    assert len(world.titles) <= 7, world.titles
    assert world.sent[-1][2].text.endswith("flapping: further changes are not reported until it is steady")
    before = len(world.sent)
    world.at(12 * HOUR)
    assert [message.title for _, _, message in world.sent[before:]] == ["host7 is online"]
    assert world.sent[-1][2].text.endswith("steady again")
    assert HOUR < world.times[-1] <= HOUR + 4 * module.HALF_LIFE + MINUTE
    world.status(7, "offline")
    assert len(world.at(13 * HOUR).sent) == before + 2, "reported as ever after that"


# ---- quiet and digest


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
def test_quiet_hours_are_local(zone: str) -> None:
    """What comes in them arrives at their end, as one message."""
    world = World(all={"kinds": PRESENCE, "quiet": ["22:00-06:30", "06:30-07:00"]})
    world.engine._zone = ZoneInfo(zone)
    begin = datetime(2026, 11, 23, 21, 59, tzinfo=ZoneInfo(zone)).timestamp() - START
    world.at(begin).status(7, "offline")
    world.at(begin + 5 * MINUTE).status(8, "offline")
    world.at(begin + 6 * HOUR).status(9, "offline")
    assert world.at(begin + 9 * HOUR).titles == ["host7 is offline"]
    assert world.at(begin + 10 * HOUR).titles == ["host7 is offline", "2 offline"]
    assert world.times[1] == begin + 9 * HOUR + MINUTE


def test_a_night_with_a_clock_change_ends_at_seven() -> None:
    """The last Sunday of October has an hour more, that of March one less."""
    berlin = ZoneInfo("Europe/Berlin")
    for night in (datetime(2026, 10, 24, 23, tzinfo=berlin), datetime(2026, 3, 28, 23, tzinfo=berlin)):
        end = quiet_until(["22:00-07:00"], night.timestamp(), berlin)
        assert end is not None
        assert datetime.fromtimestamp(end, berlin).strftime("%d %H:%M") == f"{night.day + 1} 07:00"


def test_digest_collects_for_its_time() -> None:
    world = World(all={"kinds": PRESENCE, "digest": "10m"})
    world.status(7, "offline")
    world.at(9 * MINUTE).status(8, "offline")
    world.at(11 * MINUTE).status(9, "online")
    world.at(HOUR)
    assert (world.titles, world.times) == (["2 offline", "host9 is online"], [10 * MINUTE, 21 * MINUTE])


def test_many_at_once_are_one_message() -> None:
    """And three are three."""
    world = World(gone={"kinds": ["offline"]})
    for number in range(3):
        world.status(number, "offline")
    for number in range(50):
        world.at(MINUTE).status(number + 10, "offline")
    assert world.at(HOUR).titles == ["host0 is offline", "host1 is offline", "host2 is offline", "50 offline"]


def test_the_clock_may_be_set() -> None:
    """What waits keeps its distance."""
    world = World(gone={"kinds": ["offline"], "for": "2m"})
    world.status(7, "offline")
    world.at(MINUTE)
    world.engine.shift(-1000 * HOUR)
    assert world.engine.next_due == START + 2 * MINUTE - 1000 * HOUR
    world.engine.shift(1000 * HOUR)
    assert world.at(3 * MINUTE).titles == ["host7 is offline"]


def test_lost_events_are_reconciled_with_the_snapshot() -> None:
    world = World(gone={"kinds": ["offline"], "for": "2m"})
    world.status(7, "offline")
    world.status(8, "offline")
    world.engine.reconcile([device(7), device(8, "offline")])
    assert world.at(HOUR).titles == ["host8 is offline"]


def test_the_rules_remember_a_bounded_number_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait are kept."""
    monkeypatch.setattr(module, "MOST_SLOTS", 50)
    world = World(gone={"kinds": ["offline"], "for": "1h"}, back={"kinds": ["online"]})
    world.status(0, "offline")
    for number in range(1, 200):
        world.at(number * 5).status(number, "online")
    assert len(world.state.rules["back"].slots) <= 50
    assert "host0 is offline" in world.at(2 * HOUR).titles


# ---- words


def test_a_title_is_one_line_and_times_are_local() -> None:
    """Of the rule's own template, too; a text is cut before ntfy makes a file of it."""
    about = device(7, hostname=None, vendor=None, reason="x" * 400)
    entry = Entry(event=event("offline", about, at="2026-11-23T22:05:00.000Z"), at=0, channels=("phone",))
    composer = Composer("https://scan.lan/", ZoneInfo("Asia/Tokyo"))
    found = composer.message(Rule(title="{name}\n{time} {{}}", text="{reason}" * 200), entry)
    assert found.title == "a4:83:e7:00:00:07 2026-11-24 07:05 {}"
    assert len(found.text) == 3500
    assert found.link == "https://scan.lan/#a4:83:e7:00:00:07"
    assert Composer().message(Rule(), entry).link is None


def test_what_is_not_expected_has_a_title_of_its_own() -> None:
    """`expected_dhcp` and `expected_gateway`: a digest has no reasons."""
    world = World(all={"kinds": ["dhcp_server_seen", "gateway_changed"], "digest": "1m"})
    rogue = device(9, hostname="rogue")
    for kind, reason in (
        ("dhcp_server_seen", "serves DHCP"), ("dhcp_server_seen", "serves DHCP; not in expected_dhcp of 10.0.0.0/24"),
        ("gateway_changed", "announced its address"), ("gateway_changed", "not in expected_gateway of 10.0.0.0/24"),
    ):  # fmt: skip
        world.event(kind, rogue, reason=reason, address="10.0.0.1")
    world.at(HOUR)
    ((_, _, message),) = world.sent
    assert [line.partition("  ")[2] for line in message.text.splitlines()] == [
        "New DHCP server: rogue", "Unexpected DHCP server: rogue",
        "Another device uses the gateway's address 10.0.0.1", "Unexpected gateway at 10.0.0.1: rogue",
    ]  # fmt: skip


# ---- for any history

RULES = st.fixed_dictionaries(
    {
        "kinds": st.sampled_from([["offline"], PRESENCE, ["discovered", *PRESENCE]]),
        "for": st.sampled_from(["0s", "30s", "2m"]),
        "cooldown": st.sampled_from(["0s", "10m"]),
        "digest": st.sampled_from(["0s", "5m"]),
        "quiet": st.sampled_from([[], ["12:10-12:40"]]),
    }
)
STEPS = st.lists(
    st.tuples(st.floats(0, 400), st.sampled_from(["online", "offline", "network_silent", "network_recovered"]),
              st.integers(1, 3), st.booleans()),
    max_size=40,
)  # fmt: skip


def play(rule: dict[str, object], steps: list[tuple[float, str, int, bool]], *, restarts: bool) -> World:
    world, at = World(only=rule), 0.0
    for pause, kind, number, restart in steps:
        at += pause
        world.at(at)
        if kind in PRESENCE:
            world.status(number, kind)
        else:
            world.event(kind)
        if restart and restarts:
            world.restart()
    world.at(at).event("network_recovered")
    return world.at(at + 100 * HOUR)


@given(RULES, STEPS)
def test_a_restart_changes_nothing(rule: dict[str, object], steps: list[tuple[float, str, int, bool]]) -> None:
    """The state file holds all that the rules know."""
    without, with_restarts = play(rule, steps, restarts=False), play(rule, steps, restarts=True)
    assert (with_restarts.titles, with_restarts.times) == (without.titles, without.times)


@given(RULES, STEPS)
def test_nothing_is_sent_in_quiet_hours(rule: dict[str, object], steps: list[tuple[float, str, int, bool]]) -> None:
    quiet = {**rule, "quiet": ["12:10-12:40"]}
    assert not [at for at in play(quiet, steps, restarts=False).times if 10 * MINUTE <= at < 40 * MINUTE]


@given(RULES, STEPS)
def test_ids_are_unique(rule: dict[str, object], steps: list[tuple[float, str, int, bool]]) -> None:
    """The cursor of the first event: one event is in one message of a channel."""
    ids = [message.id for _, _, message in play(rule, steps, restarts=False).sent]
    assert len(ids) == len(set(ids))


@given(RULES, STEPS)
def test_a_device_is_reported_at_most_once_in_a_cooldown(
    rule: dict[str, object], steps: list[tuple[float, str, int, bool]]
) -> None:
    """But for the message that it is flapping."""
    world = play({**rule, "cooldown": "10m", "digest": "0s", "quiet": []}, steps, restarts=False)
    for number in range(1, 4):
        times = [
            at
            for at, _, message in world.sent
            if message.title.startswith(f"host{number} ") and "flapping" not in message.text
        ]
        assert all(later - earlier >= 600 - GATHER for earlier, later in pairwise(times))


@given(RULES, STEPS)
def test_the_last_state_that_lasts_is_reported(
    rule: dict[str, object], steps: list[tuple[float, str, int, bool]]
) -> None:
    """If rules are for both states: the last message about a device is true, however it was held."""
    world = play({**rule, "kinds": PRESENCE}, steps, restarts=True)
    for number in range(1, 4):
        changes = [kind for _, kind, one, _ in steps if one == number and kind in PRESENCE]
        texts = "\n".join(f"{message.title}\n{message.text}" for _, _, message in world.sent)
        said = [line for line in texts.splitlines() if f"host{number} is " in line]
        if changes and said:
            assert f"host{number} is {changes[-1]}" in said[-1]
