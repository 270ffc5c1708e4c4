"""Messages in, changes worth telling out: scripts without a socket."""

import pytest

from netscanctl.picture import UNCERTAIN, Picture
from netscand.protocol import Devices, Event, Message, Resumed, ScanStarted
from tests.ctl.words import HOME, LATER, OFFICE, address, came, device, event, left, network, scanned, snapshot


def told(picture: Picture, *messages: Message) -> list[str]:
    """What is told of, as `kind last-octet` or `kind network`."""
    return [_short(change) for message in messages for change in picture.on_message(message)]  # type: ignore[arg-type]


def _short(change: Event) -> str:
    if change.device is None:
        return f"{change.kind} {change.network}"
    return f"{change.kind} {change.device.mac[-2:]}"


def watching(*devices: object, **more: object) -> Picture:
    picture = Picture()
    assert told(picture, snapshot(*devices, **more)) == []  # type: ignore[arg-type]
    assert picture.complete
    return picture


def test_a_snapshot_in_parts_is_whole_with_its_last() -> None:
    picture = Picture()
    picture.on_message(snapshot(device(1), more=True))
    assert not picture.complete
    picture.on_message(Devices(devices=[device(2)], more=True))
    assert not picture.complete
    picture.on_message(Devices(devices=[device(3)], more=False))
    assert picture.complete
    assert len(picture.devices) == 3


def test_every_event_is_told_once_and_in_order() -> None:
    picture = watching(device(1), device(2, "offline"))
    changes = told(picture, event("discovered", device(3)), left(device(1, "offline")), came(device(2)))
    assert changes == ["discovered 03", "offline 01", "online 02"]


def test_progress_and_messages_of_unknown_types_tell_nothing() -> None:
    picture = watching(device(1))
    assert picture.on_message(None) == []
    assert told(picture, ScanStarted(scan_id=1, networks=[HOME], requested_by="timer"), scanned(scan_id=1)) == []


def test_a_network_that_goes_down_puts_its_devices_in_doubt_by_one_line() -> None:
    picture = watching(device(1), device(2))
    assert told(picture, event("network_down")) == [f"network_down {HOME}"]
    assert {one.status for one in picture.devices.values()} == {"unknown"}
    assert picture.networks[HOME].state == "down"


def test_a_device_online_on_another_network_is_not_in_doubt() -> None:
    both = device(1, addresses=[address("192.168.1.1"), address("10.0.0.1", OFFICE)])
    elsewhere = device(2, network=OFFICE)
    picture = watching(both, elsewhere, device(3), networks=[network(), network(OFFICE)])
    told(picture, event("network_silent"))
    assert {mac[-2:]: one.status for mac, one in picture.devices.items()} == {
        "01": "online", "02": "online", "03": "unknown",
    }  # fmt: skip


def test_a_device_on_two_networks_is_in_doubt_when_both_are_down() -> None:
    both = device(1, addresses=[address("192.168.1.1"), address("10.0.0.1", OFFICE)])
    picture = watching(both, networks=[network(), network(OFFICE)])
    told(picture, event("network_down"), event("network_down", network=OFFICE))
    assert picture.devices[both.mac].status == "unknown"


@pytest.mark.parametrize("kind", sorted(UNCERTAIN))
def test_who_was_offline_is_not_in_doubt(kind: str) -> None:
    """The doubt is about who was online: of who was gone already nothing became less certain."""
    picture = watching(device(1), device(2, "offline"), device(3, "unknown"))
    told(picture, event(kind))
    assert [one.status for one in picture.devices.values()] == ["unknown", "offline", "unknown"]
    assert told(picture, came(device(2))) == ["online 02"]


def test_who_leaves_the_doubt_as_it_entered_it_is_no_news() -> None:
    picture = watching(device(1), device(2))
    told(picture, event("network_down"), event("network_up"))
    assert told(picture, came(device(1), "unknown")) == []
    assert told(picture, left(device(2, "offline"), "unknown")) == ["offline 02"]


def test_a_second_doubt_does_not_forget_what_was_before_the_first() -> None:
    picture = watching(device(1))
    told(picture, event("network_down"), event("network_up"), event("network_silent"))
    assert told(picture, came(device(1), "unknown")) == []
    assert told(picture, left(device(1, "offline"))) == ["offline 01"]


def test_after_the_doubt_everything_is_news_again() -> None:
    picture = watching(device(1))
    told(picture, event("network_down"), came(device(1), "unknown"))
    assert told(picture, left(device(1, "offline")), came(device(1))) == ["offline 01", "online 01"]


def test_who_was_unknown_from_the_start_is_news_when_its_verdict_comes() -> None:
    picture = watching(device(1, "unknown"))
    assert told(picture, came(device(1), "unknown")) == ["online 01"]


def test_this_host_is_online_as_soon_as_its_network_is_up() -> None:
    picture = watching(device(2, kinds=["self"]))
    told(picture, event("network_down"))
    assert picture.devices[device(2).mac].status == "unknown"
    told(picture, event("network_up"))
    assert picture.devices[device(2).mac].status == "online"


def test_the_end_of_a_silence_is_told_but_is_no_verdict_on_anyone() -> None:
    picture = watching(device(1))
    told(picture, event("network_silent"))
    assert told(picture, event("network_recovered")) == [f"network_recovered {HOME}"]
    assert picture.devices[device(1).mac].status == "unknown"
    assert picture.networks[HOME].state == "up"


def test_the_same_snapshot_again_tells_nothing() -> None:
    picture = watching(device(1), device(2, "offline"))
    assert told(picture, snapshot(device(1), device(2, "offline"))) == []


def test_a_fresh_snapshot_tells_the_differences_alone() -> None:
    picture = watching(device(1), device(2), device(3), device(4), device(5))
    named = device(2, hostname="printer")
    moved = device(3, addresses=[address("192.168.1.30")], ip="192.168.1.30")
    labelled = device(4, label="Jane's phone")
    changes = told(picture, snapshot(device(1, "offline"), named, moved, labelled, device(6)))
    assert changes == [
        "offline 01", "renamed 02", "address_added 03", "address_removed 03", "labelled 04", "online 06",
        "forgotten 05",
    ]  # fmt: skip


def test_a_fresh_snapshot_in_parts_is_compared_when_it_is_whole() -> None:
    picture = watching(device(1), device(2))
    assert told(picture, snapshot(device(1), more=True)) == []
    assert told(picture, Devices(devices=[device(2, "offline")], more=False)) == ["offline 02"]


def test_a_snapshot_that_broke_off_half_way_counts_for_nothing() -> None:
    picture = watching(device(1), device(2))
    told(picture, snapshot(device(1), more=True))
    assert told(picture, snapshot(device(1), device(2))) == []


def test_a_daemon_that_just_started_knows_nobody_and_that_is_no_news() -> None:
    picture = watching(device(1), device(2), device(3, "offline"))
    fresh = network(last_scan=None)
    assert told(picture, snapshot(networks=[fresh], last_scan=None)) == []
    assert told(picture, event("discovered", device(1))) == []
    assert told(picture, scanned()) == ["forgotten 02", "forgotten 03"]
    assert told(picture, event("discovered", device(2))) == ["discovered 02"]


def test_a_restart_that_finds_everyone_again_tells_nothing() -> None:
    picture = watching(device(1), device(2))
    told(picture, snapshot(networks=[network(last_scan=None)], last_scan=None))
    assert told(picture, event("discovered", device(2)), event("discovered", device(1)), scanned()) == []
    assert {one.status for one in picture.devices.values()} == {"online"}


def test_a_doubt_that_only_the_fresh_snapshot_tells_is_remembered() -> None:
    picture = watching(device(1))
    assert told(picture, snapshot(device(1, "unknown"))) == []
    assert told(picture, came(device(1), "unknown")) == []


def test_a_snapshot_tells_how_networks_changed_meanwhile() -> None:
    picture = watching(networks=[network(), network(OFFICE, "silent")])
    changes = told(picture, snapshot(networks=[network(state="down"), network(OFFICE), network("10.9.0.0/24@eth9")]))
    assert changes == [f"network_down {HOME}", f"network_recovered {OFFICE}", "network_up 10.9.0.0/24@eth9"]
    assert told(picture, snapshot(networks=[network(state="down"), network(OFFICE)])) == [
        "network_down 10.9.0.0/24@eth9"
    ]


def test_a_resumed_stream_goes_on_with_what_was_known() -> None:
    picture = watching(device(1))
    again = Resumed(
        cursor="k3f9-1", version="0.1.0", protocol=1, interval=30, scanning=False, role="scan", networks=[network()]
    )
    assert told(picture, again) == []
    assert told(picture, left(device(1, "offline"))) == ["offline 01"]


def test_a_stream_resumed_from_elsewhere_tells_each_event() -> None:
    picture = Picture()
    resumed = Resumed(
        cursor="k3f9-1", version="0.1.0", protocol=1, interval=30, scanning=False, role="scan", networks=[network()]
    )
    assert told(picture, resumed, left(device(1, "offline")), came(device(2), "unknown")) == ["offline 01", "online 02"]
    assert picture.complete


def test_who_is_forgotten_is_gone_and_may_be_discovered_again() -> None:
    picture = watching(device(1))
    assert told(picture, event("forgotten", device(1))) == ["forgotten 01"]
    assert picture.devices == {}
    assert told(picture, event("discovered", device(1))) == ["discovered 01"]


def test_what_a_scan_update_brings_that_was_not_told_is_told() -> None:
    picture = watching(device(1))
    assert told(picture, scanned(device(1), device(2))) == ["online 02"]


def test_kinds_of_a_later_version_are_told_too() -> None:
    picture = watching(device(1))
    assert told(picture, event("flapping", device(1)), event("storm")) == ["flapping 01", f"storm {HOME}"]


def test_a_difference_has_the_time_it_became_so() -> None:
    picture = watching(device(1))
    (change,) = picture.on_message(snapshot(device(1, "offline", status_since=LATER, reason="3 probes unanswered")))
    assert (change.at, change.reason, change.previous) == (LATER, "3 probes unanswered", {"status": "online"})
