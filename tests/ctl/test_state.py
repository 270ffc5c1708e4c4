"""Messages in, changes to show out: scripts without a socket."""

import pytest

from netscanctl.state import UNCERTAIN, ClientState
from netscand.protocol import Devices, Event, Message, ScanProgress, ScanStarted
from tests.ctl.messages import (
    HOME,
    LATER,
    OFFICE,
    address,
    came,
    device,
    event,
    left,
    network,
    resumed,
    scanned,
    snapshot,
)


def shown(state: ClientState, *messages: Message) -> list[str]:
    """Return the events to show, as `kind last-octet` or `kind network`."""
    return [_short(change) for message in messages for change in state.on_message(message)]  # type: ignore[arg-type]


def _short(change: Event) -> str:
    if change.device is None:
        return f"{change.kind} {change.network}"
    return f"{change.kind} {change.device.mac[-2:]}"


def watching(*devices: object, **more: object) -> ClientState:
    state = ClientState()
    assert shown(state, snapshot(*devices, **more)) == []  # type: ignore[arg-type]
    assert state.complete
    return state


def test_a_snapshot_in_parts_is_complete_with_its_last() -> None:
    state = ClientState()
    state.on_message(snapshot(device(1), more=True))
    assert not state.complete
    state.on_message(Devices(devices=[device(2)], more=True))
    assert not state.complete
    state.on_message(Devices(devices=[device(3)], more=False))
    assert state.complete
    assert len(state.devices) == 3


def test_every_event_is_shown_once_in_order() -> None:
    state = watching(device(1), device(2, "offline"))
    changes = shown(state, event("discovered", device(3)), left(device(1, "offline")), came(device(2)))
    assert changes == ["discovered 03", "offline 01", "online 02"]


def test_progress_and_unknown_messages_yield_no_events() -> None:
    state = watching(device(1))
    assert state.on_message(None) == []
    started, progress = (
        ScanStarted(scan_id=1, networks=[HOME], requested_by="timer"),
        ScanProgress(scan_id=1, done=1, total=2, found=1),
    )
    assert shown(state, started, progress, scanned(scan_id=1)) == []


def test_a_network_down_sets_its_devices_unknown_in_one_line() -> None:
    state = watching(device(1), device(2))
    assert shown(state, event("network_down")) == [f"network_down {HOME}"]
    assert {one.status for one in state.devices.values()} == {"unknown"}
    assert state.networks[HOME].state == "down"


def test_a_device_on_another_network_up_stays_online() -> None:
    both = device(1, addresses=[address("192.168.1.1"), address("10.0.0.1", OFFICE)])
    elsewhere = device(2, network=OFFICE)
    state = watching(both, elsewhere, device(3), networks=[network(), network(OFFICE)])
    shown(state, event("network_silent"))
    assert {mac[-2:]: one.status for mac, one in state.devices.items()} == {
        "01": "online", "02": "online", "03": "unknown",
    }  # fmt: skip


def test_a_device_on_two_networks_is_unknown_if_both_are_down() -> None:
    both = device(1, addresses=[address("192.168.1.1"), address("10.0.0.1", OFFICE)])
    state = watching(both, networks=[network(), network(OFFICE)])
    shown(state, event("network_down"), event("network_down", network=OFFICE))
    assert state.devices[both.mac].status == "unknown"


@pytest.mark.parametrize("kind", sorted(UNCERTAIN))
def test_an_offline_device_stays_offline_in_an_outage(kind: str) -> None:
    """Only online devices become unknown."""
    state = watching(device(1), device(2, "offline"), device(3, "unknown"))
    shown(state, event(kind))
    assert [one.status for one in state.devices.values()] == ["unknown", "offline", "unknown"]
    assert shown(state, came(device(2))) == ["online 02"]


def test_a_device_with_its_old_status_is_not_shown() -> None:
    state = watching(device(1), device(2))
    shown(state, event("network_down"), event("network_up"))
    assert shown(state, came(device(1), "unknown")) == []
    assert shown(state, left(device(2, "offline"), "unknown")) == ["offline 02"]


def test_a_second_outage_keeps_the_status_before_the_first() -> None:
    state = watching(device(1))
    shown(state, event("network_down"), event("network_up"), event("network_silent"))
    assert shown(state, came(device(1), "unknown")) == []
    assert shown(state, left(device(1, "offline"))) == ["offline 01"]


def test_after_an_outage_every_change_is_shown_again() -> None:
    state = watching(device(1))
    shown(state, event("network_down"), came(device(1), "unknown"))
    assert shown(state, left(device(1, "offline")), came(device(1))) == ["offline 01", "online 01"]


def test_the_first_known_status_is_shown() -> None:
    state = watching(device(1, "unknown"))
    assert shown(state, came(device(1), "unknown")) == ["online 01"]


def test_this_host_is_online_once_its_network_is_up() -> None:
    state = watching(device(2, kinds=["self"]))
    shown(state, event("network_down"))
    assert state.devices[device(2).mac].status == "unknown"
    shown(state, event("network_up"))
    assert state.devices[device(2).mac].status == "online"


def test_a_recovered_network_does_not_change_devices() -> None:
    state = watching(device(1))
    shown(state, event("network_silent"))
    assert shown(state, event("network_recovered")) == [f"network_recovered {HOME}"]
    assert state.devices[device(1).mac].status == "unknown"
    assert state.networks[HOME].state == "up"


def test_the_same_snapshot_yields_no_events() -> None:
    state = watching(device(1), device(2, "offline"))
    assert shown(state, snapshot(device(1), device(2, "offline"))) == []


def test_a_new_snapshot_yields_only_the_differences() -> None:
    state = watching(device(1), device(2), device(3), device(4), device(5))
    named = device(2, hostname="printer")
    moved = device(3, addresses=[address("192.168.1.30")], ip="192.168.1.30")
    labelled = device(4, label="Jane's phone")
    changes = shown(state, snapshot(device(1, "offline"), named, moved, labelled, device(6)))
    assert changes == [
        "offline 01", "renamed 02", "address_added 03", "address_removed 03", "labelled 04", "online 06",
        "forgotten 05",
    ]  # fmt: skip


def test_a_snapshot_in_parts_is_compared_once_complete() -> None:
    state = watching(device(1), device(2))
    assert shown(state, snapshot(device(1), more=True)) == []
    assert shown(state, Devices(devices=[device(2, "offline")], more=False)) == ["offline 02"]


def test_an_incomplete_snapshot_is_discarded() -> None:
    state = watching(device(1), device(2))
    shown(state, snapshot(device(1), more=True))
    assert shown(state, snapshot(device(1), device(2))) == []


def test_missing_devices_are_kept_until_the_first_scan() -> None:
    """A daemon that just started knows no devices."""
    state = watching(device(1), device(2), device(3, "offline"))
    fresh = network(last_scan=None)
    assert shown(state, snapshot(networks=[fresh], last_scan=None)) == []
    assert shown(state, event("discovered", device(1))) == []
    assert shown(state, scanned()) == ["forgotten 02", "forgotten 03"]
    assert shown(state, event("discovered", device(2))) == ["discovered 02"]


def test_a_restart_without_differences_yields_no_events() -> None:
    state = watching(device(1), device(2))
    shown(state, snapshot(networks=[network(last_scan=None)], last_scan=None))
    assert shown(state, event("discovered", device(2)), event("discovered", device(1)), scanned()) == []
    assert {one.status for one in state.devices.values()} == {"online"}


def test_an_unknown_status_in_a_snapshot_is_remembered() -> None:
    state = watching(device(1))
    assert shown(state, snapshot(device(1, "unknown"))) == []
    assert shown(state, came(device(1), "unknown")) == []


def test_a_snapshot_yields_the_changes_of_networks() -> None:
    state = watching(networks=[network(), network(OFFICE, "silent")])
    changes = shown(state, snapshot(networks=[network(state="down"), network(OFFICE), network("10.9.0.0/24@eth9")]))
    assert changes == [f"network_down {HOME}", f"network_recovered {OFFICE}", "network_up 10.9.0.0/24@eth9"]
    assert shown(state, snapshot(networks=[network(state="down"), network(OFFICE)])) == [
        "network_down 10.9.0.0/24@eth9"
    ]


def test_a_resumed_stream_keeps_the_devices() -> None:
    state = watching(device(1))
    assert shown(state, resumed()) == []
    assert shown(state, left(device(1, "offline"))) == ["offline 01"]


def test_a_stream_resumed_without_a_snapshot_yields_events() -> None:
    state = ClientState()
    assert shown(state, resumed(), left(device(1, "offline")), came(device(2), "unknown")) == [
        "offline 01",
        "online 02",
    ]
    assert state.complete


def test_a_forgotten_device_can_be_discovered_again() -> None:
    state = watching(device(1))
    assert shown(state, event("forgotten", device(1))) == ["forgotten 01"]
    assert state.devices == {}
    assert shown(state, event("discovered", device(1))) == ["discovered 01"]


def test_new_devices_in_a_scan_update_are_shown() -> None:
    state = watching(device(1))
    assert shown(state, scanned(device(1), device(2))) == ["online 02"]


def test_unknown_kinds_are_shown() -> None:
    state = watching(device(1))
    assert shown(state, event("flapping", device(1)), event("storm")) == ["flapping 01", f"storm {HOME}"]


def test_a_difference_has_the_time_of_the_new_status() -> None:
    state = watching(device(1))
    (change,) = state.on_message(snapshot(device(1, "offline", status_since=LATER, reason="3 probes unanswered")))
    assert (change.at, change.reason, change.previous) == (LATER, "3 probes unanswered", {"status": "online"})


def test_new_ipv6_addresses_are_no_events() -> None:
    """FIELD case 9: a host makes new ones all the time; the first one of a scope is an event, as from the daemon."""
    state = watching(device(3, addresses=[address("192.168.1.30")]))
    seen = []
    for ips in (["fe80::1"], ["fe80::1", "fd00::1"], ["fe80::2", "fd00::2", "2001:db8::1"], ["fe80::2"]):
        addresses = [address(ip) for ip in ("192.168.1.30", *ips)]
        seen.append(shown(state, snapshot(device(3, addresses=addresses))))
    assert seen == [["address_added 03"], ["address_added 03"], [], ["address_removed 03"]]
