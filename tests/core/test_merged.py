"""Devices that a user merged: one device, online while any of its MACs is; and the undo."""

from dataclasses import replace

import pytest

from netscand.core import merged as merged_module
from netscand.core.annotations import annotate, is_annotated
from netscand.core.model import Busy, Device, EventKind, Lease, Mac, PersonStatus, Service, Status
from netscand.core.predecessor import Groups, may_matter
from netscand.core.presence import Presence, Rules
from tests.core.test_people import Home
from tests.core.world import check_counts, ip, mac, network

WIFI, DOCK, OTHER = mac(1), mac(2), mac(3)


def world() -> Home:
    home = Home([network(gateway="10.0.0.1")])
    home.alive(3)
    home.run(5.0)
    return home


def merge(home: Home, into: Mac = WIFI, other: Mac = DOCK) -> Device:
    home._tell(home.inventory.merge(into, other, home.now))
    return home.inventory.devices[into]


def leave(home: Home, *macs: Mac) -> None:
    home.hosts = {place: each for place, each in home.hosts.items() if each not in macs}


def test_two_become_one_with_both_addresses() -> None:
    """The other is forgotten, for clients that know no merge; the one has its addresses, each with its MAC."""
    home = world()
    device = merge(home)
    assert DOCK not in home.inventory.devices
    assert device.merged == (DOCK,)
    assert {(each.ip, device.mac_at(each)) for each in device.addresses} == {
        (ip("10.0.0.10"), WIFI), (ip("10.0.0.11"), DOCK),
    }  # fmt: skip
    assert [event.kind for event in home.events[-2:]] == [EventKind.FORGOTTEN, EventKind.MERGED]
    assert home.events[-1].other == DOCK
    count = len(home.events)
    home.run(3600.0)
    assert [event.kind for event in home.events[count:]] == []


@pytest.mark.parametrize(("first", "last"), [(WIFI, DOCK), (DOCK, WIFI)])
def test_it_is_online_while_any_of_its_macs_is(first: Mac, last: Mac) -> None:
    """Probes go to the MAC that has the address. No other device has an event."""
    home = world()
    merge(home)
    leave(home, first)
    home.run(900.0)
    assert home.inventory.devices[WIFI].status is Status.ONLINE
    assert home.of(EventKind.OFFLINE) == []
    start = len(home.frames)
    leave(home, last)
    home.run(900.0)
    assert home.inventory.devices[WIFI].status is Status.OFFLINE
    assert len(home.of(EventKind.OFFLINE)) == 1
    own = {ip("10.0.0.10"): WIFI, ip("10.0.0.11"): DOCK}
    sent = {(probe.mac, probe.ip) for _, probe in home.frames[start:] if probe.mac and probe.ip in own}
    assert sent
    assert all(to == own[at] for to, at in sent)
    home.hear(DOCK, "10.0.0.11")
    assert home.inventory.devices[WIFI].status is Status.ONLINE
    assert DOCK not in home.inventory.devices


def test_a_frame_of_a_merged_mac_is_no_new_device_and_no_conflict() -> None:
    home = world()
    merge(home)
    count = len(home.events)
    home.hear(DOCK, "10.0.0.10")
    home.hear(WIFI, "10.0.0.11")
    home.run(30.0)
    assert [event.kind for event in home.events[count:]] == []
    home.hear(DOCK, "10.0.0.77")
    home.run(1.0)
    assert [event.kind for event in home.events[count:]] == [EventKind.ADDRESS_ADDED]


def test_label_and_tags_are_joined_and_given_back_by_the_undo() -> None:
    home = world()
    home.inventory.label(WIFI, {"label": "laptop", "tags": ("work",)}, home.now)
    home.inventory.label(DOCK, {"label": "dock", "notes": "on the desk", "tags": ("desk",)}, home.now)
    device = merge(home)
    assert (device.label, device.notes, device.tags) == ("laptop", "on the desk", ("desk", "work"))
    home._tell(home.inventory.split(DOCK, home.now))
    dock = home.inventory.devices[DOCK]
    assert (device.label, device.notes, device.tags) == ("laptop", None, ("work",))
    assert (dock.label, dock.notes, dock.tags) == ("dock", "on the desk", ("desk",))
    assert device.merged == ()
    assert [each.ip for each in dock.addresses] == [ip("10.0.0.11")]
    assert [each.ip for each in device.addresses] == [ip("10.0.0.10")]
    home.run(60.0)
    assert (dock.status, device.status) == (Status.ONLINE, Status.ONLINE)
    leave(home, DOCK)
    home.run(900.0)
    assert (dock.status, device.status) == (Status.OFFLINE, Status.ONLINE)


def test_the_undo_keeps_what_a_user_changed_since() -> None:
    """Also the annotations of a device that was merged into a merged one."""
    home = world()
    for each, label in ((WIFI, None), (DOCK, "dock"), (OTHER, "bond")):
        home.inventory.label(each, {"label": label, "notes": f"note of {label}", "tags": (str(label),)}, home.now)
    home.inventory.label(WIFI, {"notes": None, "tags": ()}, home.now)
    merge(home, DOCK, OTHER)
    device = merge(home)
    assert (device.label, device.notes, device.tags) == ("dock", "note of dock", ("bond", "dock"))
    home.inventory.label(WIFI, {"notes": "mine", "tags": ("bond", "dock", "mine")}, home.now)
    home._tell(home.inventory.split(DOCK, home.now))
    assert (device.label, device.notes, device.tags) == (None, "mine", ("mine",))
    home._tell(home.inventory.split(OTHER, home.now))
    assert (home.inventory.devices[OTHER].label, home.inventory.devices[DOCK].label) == ("bond", "dock")


def test_the_undo_brings_back_all_that_was_known() -> None:
    """Names, kind, services, DHCP facts, first sighting, addresses; nothing of it is left at the other device."""
    home = world()
    dock, wifi = home.inventory.devices[DOCK], home.inventory.devices[WIFI]
    dock.first_seen = wifi.first_seen - 500.0
    dock.hostname, dock.hostname_source, dock.other_names = "scanner", "mdns", {"dns": "mfp.lan"}
    dock.services = (Service("_ipp._tcp", ("ty=HP",)),)
    dock.dhcp_vendor_class, dock.dhcp_parameters, dock.dhcp_client_id = "udhcp 1.30", b"\1\3", b"\xffid"
    dock.lease = Lease(ip("10.0.0.1"), ip("10.0.0.11"), 600, home.now)
    dock.kind = home.inventory.kinds.of(dock)
    home.inventory.label(DOCK, {"patience": 77}, home.now)
    before, was = replace(dock), wifi.first_seen
    merge(home)  # then the address is given up
    assert (wifi.hostname, wifi.first_seen) == ("scanner", before.first_seen)
    home.inventory.addresses.drop(wifi, wifi.addresses[1])
    home._tell(home.inventory.split(DOCK, home.now))
    back = home.inventory.devices[DOCK]
    for name in (
        "first_seen", "hostname", "hostname_source", "other_names", "services", "dhcp_vendor_class", "dhcp_parameters",
        "dhcp_client_id", "lease", "kind", "confirmed",
    ):  # fmt: skip
        assert getattr(back, name) == getattr(before, name), name
    assert back.kind is not None
    assert [each.ip for each in back.addresses] == [ip("10.0.0.11")]
    assert home.inventory.addresses.holder(network().id, ip("10.0.0.11")) is back
    assert (back.presence.chosen, wifi.presence.chosen) == (77, None)
    assert (wifi.hostname, wifi.first_seen) == (None, was)
    (event,) = (each for each in home.events[-2:] if each.device is wifi)
    assert event.previous is not None
    assert (event.previous["hostname"], event.previous["first_seen"]) == ("scanner", before.first_seen)
    check_counts(home.inventory)


def test_first_sightings_are_right_after_each_undo() -> None:
    """In whatever order; a name that the device has said itself since stays."""
    for order in ((WIFI, DOCK), (DOCK, WIFI)):
        home = world()
        for number, each in enumerate((WIFI, DOCK, OTHER)):
            home.inventory.devices[each].first_seen = 100.0 * (number + 1)
        merge(home, DOCK, WIFI)
        merge(home, OTHER, DOCK)
        assert home.inventory.devices[OTHER].first_seen == 100.0
        home._tell(home.inventory.split(order[0], home.now))
        assert home.inventory.devices[OTHER].first_seen == (200.0 if order[0] == WIFI else 100.0)
        home._tell(home.inventory.split(order[1], home.now))
        firsts = [home.inventory.devices[each].first_seen for each in (WIFI, DOCK, OTHER)]
        assert firsts == [100.0, 200.0, 300.0]


@pytest.mark.parametrize("had", [False, True])
def test_people_get_the_device_back_by_the_undo(had: bool) -> None:
    """And the other one only if they had it before; not if they gave it away since."""
    home = world()
    home.set("Jane", DOCK)
    home.set("Tom", DOCK, counts=False)
    if had:
        home.set("Jane", WIFI)
    merge(home)
    home.set("Tom", remove=(WIFI,))
    home._tell(home.inventory.split(DOCK, home.now))
    jane, tom = (home.inventory.people.find(name) for name in ("Jane", "Tom"))
    assert jane is not None
    assert tom is not None
    assert jane.devices == ({DOCK: True, WIFI: True} if had else {DOCK: True})
    assert tom.devices == {}
    home.run(60.0)
    assert jane.status is PersonStatus.HOME


@pytest.mark.parametrize("adapter", [WIFI, DOCK])
def test_a_mac_that_this_host_has_now_is_separated(adapter: Mac) -> None:
    """No other station counts as this host, and none as a device whose adapter this host has now."""
    home = world()
    merge(home)
    home.inventory.set_networks([replace(network(gateway="10.0.0.1"), mac=adapter)], home.now)
    assert not home.inventory.merged
    assert home.inventory.devices[adapter].is_self
    assert not home.inventory.devices[DOCK if adapter is WIFI else WIFI].is_self


def test_a_person_has_the_merged_device() -> None:
    home = world()
    home.set("Jane", DOCK)
    merge(home)
    jane = home.inventory.people.find("Jane")
    assert jane is not None
    assert jane.devices == {WIFI: True}
    leave(home, DOCK)
    home.run(900.0)
    assert jane.status is PersonStatus.HOME


def test_what_guards_addresses_is_not_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not this host, not the gateway: a merge must make no other station one of them. And only so many."""
    home = world()
    home.hosts[2, ip("10.0.0.1")] = mac(99)
    home.hear(mac(99), "10.0.0.1")
    home.run(60.0)
    with pytest.raises(ValueError, match="is a gateway, and cannot be merged"):
        merge(home, mac(99), WIFI)
    with pytest.raises(ValueError, match="is a gateway, and cannot be merged"):
        merge(home, WIFI, mac(99))
    with pytest.raises(ValueError, match="is this host"):
        merge(home, WIFI, network().mac)
    with pytest.raises(ValueError, match="into itself"):
        merge(home, WIFI, WIFI)
    with pytest.raises(KeyError):
        merge(home, WIFI, mac(50))
    monkeypatch.setattr(merged_module, "MOST_OF_ONE", 1)
    merge(home)
    with pytest.raises(Busy, match="at most 1 MACs can be merged into one device"):
        merge(home, WIFI, OTHER)


def test_a_merged_device_can_be_merged_and_forgotten() -> None:
    home = world()
    annotate(home.inventory.devices[DOCK], {"label": "Dock"}, home.now)
    merge(home)
    device = merge(home, OTHER, WIFI)
    assert device.merged == (WIFI, DOCK)
    assert {home.inventory.merged.primary(each) for each in (WIFI, DOCK, OTHER)} == {OTHER}
    home.inventory.split(DOCK, home.now)
    assert home.inventory.devices[DOCK].label == "Dock"
    merge(home, OTHER)
    home.inventory.forget(OTHER, home.now, "forgotten by a user")
    assert not home.inventory.merged
    home.hear(DOCK, "10.0.0.11")
    assert DOCK in home.inventory.devices


# ---- suggestions


def one(number: int, name: str | None = None, **more: object) -> Device:
    device = Device(mac(number), 100.0, 200.0, Presence(100.0, Rules()))
    device.hostname, device.hostname_source = name, "dhcp"
    for key, value in more.items():
        setattr(device, key, value)
    return device


def suggested(*devices: Device) -> list[tuple[str, ...]]:
    groups = Groups()
    for device in devices:
        groups.add(device)
    return [each.evidence for each in groups.suggestions()]


DUID = b"\0\1\0\1duid-of-a-host"


def test_a_suggestion_needs_more_than_a_name() -> None:
    """T70: a forged host name alone makes no suggestion, and no suggestion changes anything."""
    assert suggested(one(1, "iPhone"), one(2, "iphone")) == []
    assert suggested(one(1, "a"), one(2, "b")) == []
    both = [one(number, "tv", hostname_source="mdns") for number in (1, 2)]
    assert suggested(*both) == [("same mDNS name, which is unique on a network",)]
    ids = [one(1, dhcp_client_id=b"\xff\0\0\0\1" + DUID), one(2, dhcp_client_id=b"\xff\0\0\0\2" + DUID)]
    assert suggested(*ids) == [("same DHCP client identifier",)]


def test_copies_of_an_image_make_no_suggestion() -> None:
    assert suggested(*(one(number, dhcp_client_id=DUID) for number in range(1, 6))) == []


def test_the_gateway_is_never_suggested() -> None:
    both = [one(number, "tv", hostname_source="mdns") for number in (1, 2)]
    both[0].is_gateway = True
    assert suggested(*both) == []


def test_an_annotated_device_keeps_its_mac() -> None:
    groups = Groups()
    for device in (one(1, "tv", hostname_source="mdns"), one(2, "tv", hostname_source="mdns", label="TV")):
        groups.add(device)
    (found,) = groups.suggestions()
    assert (found.device.mac, found.other.mac) == (mac(2), mac(1))


def test_a_pair_that_a_user_dismissed_is_not_hinted_at() -> None:
    """Whichever of the two was changed; the list of suggestions has it apart, so that the user can undo it."""
    old = one(1, "pi", dhcp_client_id=DUID, status=Status.OFFLINE, last_seen=100.0)
    new = one(2, "pi", dhcp_client_id=DUID)
    assert may_matter(new, old)
    for device, other in ((old, new), (new, old)):
        device.not_same_as = (other.mac,)
        assert not may_matter(new, old)
        assert is_annotated(device)
        device.not_same_as = ()
