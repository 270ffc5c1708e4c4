"""The inventory: observations and ticks in, events out."""

from dataclasses import replace
from math import inf

import pytest

from netscand.core import due, limits
from netscand.core.model import EventKind, Evidence, Ip, NetworkState, Observation, Probe, Status
from netscand.core.ratelimit import CLAIMS_ON_STRANGERS, FIRST_CLAIMS
from netscand.core.shared_addresses import MOST_ADDRESSES
from tests.core.world import World, ip, mac, network

K = EventKind


def test_a_new_device_is_published_at_its_first_frame() -> None:
    """A gratuitous ARP is enough, without a scan; no `online` follows `discovered`."""
    world = World()
    world.hear(mac(1), "10.0.0.77", Evidence.ARP_ANNOUNCEMENT)
    (event,) = world.of(K.DISCOVERED)
    assert event.device is not None
    assert event.device.status is Status.ONLINE
    assert event.address == ip("10.0.0.77")
    assert event.evidence is Evidence.ARP_ANNOUNCEMENT
    assert event.seen_at == world.now
    assert not world.of(K.ONLINE)


def test_a_repeated_observation_makes_no_event() -> None:
    """Law 5: it moves `last_seen`."""
    world = World()
    world.hear(mac(1), "10.0.0.77")
    published = len(world.events)
    for _ in range(50):
        world.now += 1.0
        world.hear(mac(1), "10.0.0.77")
    assert len(world.events) == published
    assert world.inventory.devices[mac(1)].last_seen == world.now


def test_frames_of_unscanned_interfaces_are_ignored() -> None:
    """The same frame arrives on a bridge and on its port; it belongs to the bridge."""
    world = World()
    world.hear(mac(1), "10.0.0.77", index=9)
    assert not world.inventory.devices.keys() - {network().mac}


def test_an_arp_probe_is_life_but_no_claim() -> None:
    """RFC 5227: its sender address is 0.0.0.0."""
    world = World()
    world.hear(mac(1), None, Evidence.ARP_PROBE)
    assert world.inventory.devices[mac(1)].ip is None
    world.now += 2
    world.hear(mac(1), "10.0.0.77", Evidence.ARP_ANNOUNCEMENT)
    (added,) = world.of(K.ADDRESS_ADDED)
    assert added.address == ip("10.0.0.77")
    assert added.previous is not None
    assert added.previous["ip"] is None


def test_a_proxied_reply_keeps_an_address_not_presence() -> None:
    """An access point answers for its stations, the absent ones too."""
    world = World()
    world.hear(mac(1), "10.0.0.77")
    device = world.inventory.devices[mac(1)]
    heard = device.last_seen
    world.now += 5
    world.hear(mac(1), "10.0.0.77", Evidence.PROXIED)
    assert device.last_seen == heard
    assert device.addresses[0].last_seen == world.now


def test_offline_needs_three_probes_a_request_and_patience() -> None:
    """And the reason is published."""
    world = World()
    world.alive(1)
    world.run(8000)
    world.hosts.clear()
    gone_at = world.inventory.devices[mac(1)].last_seen
    world.frames.clear()
    patience = world.inventory.devices[mac(1)].presence.patience
    world.run(200)
    (event,) = world.of(K.OFFLINE)
    assert event.at - gone_at >= patience
    probed = [probe for at, probe in world.frames if probe.ip == ip("10.0.0.10") and gone_at < at <= event.at]
    assert sum(probe.mac is not None for probe in probed) >= 3
    assert any(probe.mac is None for probe in probed)
    assert "unanswered, silent for" in event.reason
    assert event.previous is not None
    assert event.previous["status"] is Status.ONLINE


def test_unsent_probes_make_no_device_offline() -> None:
    """Only probes that were really sent count."""
    world = World()
    world.alive(1)
    world.run(10)

    def starve(now: float, limit: int, busy: object = None) -> list[Probe]:
        world.planner.next_at = inf
        return []

    world.planner.due = starve  # type: ignore[method-assign]
    world.run(3000)
    assert not world.of(K.OFFLINE)


def test_our_own_blindness_is_not_their_absence() -> None:
    """Law 8: interface down → unknown, by one event of the network; each leaves it by its own verdict."""
    world = World()
    world.alive(5)
    world.run(60)
    published = len(world.events)
    world.set_networks([network(state=NetworkState.DOWN)])
    assert [event.kind for event in world.events[published:]] == [K.NETWORK_DOWN]
    assert {world.inventory.devices[mac(i)].status for i in range(1, 6)} == {Status.UNKNOWN}
    world.run(600)
    assert not world.of(K.OFFLINE)
    del world.hosts[2, ip("10.0.0.10")]
    world.set_networks([network()])
    world.run(900)
    assert {event.device.mac for event in world.of(K.ONLINE) if event.device} == {mac(i) for i in range(2, 6)}
    assert [event.device.mac for event in world.of(K.OFFLINE) if event.device] == [mac(1)]
    assert {event.previous["status"] for event in world.of(K.ONLINE) if event.previous} == {Status.UNKNOWN}


def test_a_device_on_two_networks_survives_one_going_down() -> None:
    """It stays online by its other network."""
    both = [network(), network("10.1.0.0/24", "eth1", 3)]
    world = World(both)
    world.hosts = {(2, ip("10.0.0.10")): mac(1), (3, ip("10.1.0.10")): mac(1)}
    world.run(20)
    world.set_networks([network(state=NetworkState.DOWN), both[1]])
    assert world.inventory.devices[mac(1)].status is Status.ONLINE


def test_this_host_is_online_and_never_probed() -> None:
    """It is online while its interface is up."""
    world = World()
    world.run(120)
    ourselves = world.inventory.devices[network().mac]
    assert ourselves.is_self
    assert str(ourselves.status) == "online"
    ours = [probe for _, probe in world.frames if probe.ip == network().own]
    assert ours == [Probe(network(), network().own, None)], "the probe of RFC 5227, once an hour"
    world.set_networks([network(state=NetworkState.DOWN)])
    assert ourselves.status is Status.UNKNOWN


def test_the_gateway_is_marked() -> None:
    world = World([network(gateway="10.0.0.10")])
    world.alive(2)
    world.run(5)
    assert world.inventory.devices[mac(1)].is_gateway
    assert not world.inventory.devices[mac(2)].is_gateway
    world.set_networks([network(gateway="10.0.0.11")])
    assert not world.inventory.devices[mac(1)].is_gateway
    assert world.inventory.devices[mac(2)].is_gateway


def test_unconfirmed_devices_are_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 6; who answered us stays."""
    monkeypatch.setattr(limits, "MOST_UNCONFIRMED", 100)
    world = World()
    world.alive(20)
    world.run(5)
    for number in range(1000, 2000):
        world.now += 50.0
        world.hear(mac(number), "10.0.0.200")
    devices = world.inventory.devices
    assert len(devices) == 1 + 20 + 100
    assert all(mac(i) in devices for i in range(1, 21))
    assert mac(1999) in devices
    assert len(world.of(K.FORGOTTEN)) == 900


@pytest.mark.slow
def test_a_flood_is_one_event_and_the_real_devices_stay() -> None:
    """FAULTS T11: new MACs are published by token bucket, then one `flood` a minute; devices that answer still are."""
    world = World()
    world.alive(50)
    world.run(10)
    for number in range(100_000, 200_000):
        world.now += 0.0005
        world.hear(mac(number), "10.0.0.200")
    assert len(world.of(K.FLOOD)) == 1
    assert len(world.of(K.DISCOVERED)) < 50 + 256 + 50 * 4 + 10
    world.hosts[2, ip("10.0.0.200")] = mac(7_000)
    world.planner.request_scan(["10.0.0.200"], world.now)
    world.run(3)
    assert mac(7_000) in world.inventory.devices
    assert all(mac(i) in world.inventory.devices for i in range(1, 51))


def test_addresses_of_a_device_are_bounded() -> None:
    """The oldest is dropped, IPv6 before IPv4, by which a host is known."""
    world = World([network("10.0.0.0/16")])
    world.hosts[2, ip("10.0.1.1")] = mac(1)
    world.planner.request_scan(["10.0.1.1"], world.now)
    world.run(1)
    for number in range(300):
        world.now += 61
        world._hear(
            Observation(world.now, 2, mac(1), Ip(bytes.fromhex("20010db8") + number.to_bytes(12)), Evidence.NDP)
        )
    held = world.inventory.devices[mac(1)].addresses
    assert len(held) == MOST_ADDRESSES
    assert max(held, key=lambda address: address.last_seen).ip[-2:] == (299).to_bytes(2)
    assert world.inventory.devices[mac(1)].ip == ip("10.0.1.1")


def test_the_inner_of_two_nested_networks_takes_its_addresses() -> None:
    world = World([network("10.0.0.0/16"), network("10.0.0.0/24")])
    placed = world.inventory.network_table.lookup(2, ip("10.0.0.9"))
    assert placed is not None
    assert placed.id == "10.0.0.0/24@eth0"


def test_a_renamed_interface_does_not_double_the_addresses() -> None:
    world = World()
    world.hear(mac(1), "10.0.0.77")
    world.set_networks([network(interface="lan0")])
    world.hear(mac(1), "10.0.0.77")
    (address,) = world.inventory.devices[mac(1)].addresses
    assert address.network == "10.0.0.0/24@lan0"
    assert not world.of(K.ADDRESS_ADDED)


def test_a_device_without_an_address_goes_offline_late() -> None:
    """It cannot be probed, so a long silence is needed."""
    world = World()
    world.hear(mac(1), None, Evidence.ARP_PROBE)
    world.run(due.UNPROBEABLE_PATIENCE - 1)
    assert not world.of(K.OFFLINE)
    world.run(2)
    assert len(world.of(K.OFFLINE)) == 1


def test_a_device_without_an_address_has_its_set_patience() -> None:
    """The patience that a user set applies to it, too."""
    world = World()
    world.hear(mac(1), None, Evidence.ARP_PROBE)
    world.inventory.label(mac(1), {"patience": 3600.0}, world.now)
    world.run(3599)
    assert not world.of(K.OFFLINE)
    world.run(2)
    assert [event.reason for event in world.of(K.OFFLINE)] == ["silent for 3600 s, and no address to probe"]


def test_a_frame_out_of_order_does_not_move_time_back() -> None:
    """Timestamps of several sockets may be out of order."""
    world = World()
    world.hear(mac(1), "10.0.0.77")
    place = world.inventory.network_table.lookup(2, ip("10.0.0.77"))
    assert place is not None
    world.inventory.observe(Observation(world.now - 5, 2, mac(1), ip("10.0.0.77"), Evidence.ARP_REPLY), place)
    assert world.inventory.devices[mac(1)].last_seen == world.now


def test_two_claims_within_a_minute_are_one_conflict() -> None:
    """The conflict is published once."""
    world = World()
    world.hear(mac(1), "10.0.0.77")
    for _ in range(20):
        world.run(1)
        world.hear(mac(2), "10.0.0.77")
        world.run(1)
        world.hear(mac(1), "10.0.0.77")
    (event,) = world.of(K.ADDRESS_CONFLICT)
    assert event.device is not None
    assert event.device.mac == mac(2)
    assert event.other == mac(1)
    assert not world.of(K.ADDRESS_MOVED)


def test_an_address_that_another_device_has_later_has_moved() -> None:
    """And the first one holds it no more, once it was asked there and did not answer."""
    world = World()
    world.hear(mac(1), "10.0.0.77")
    world.now += 3600
    world.hear(mac(2), "10.0.0.5")
    world.hear(mac(2), "10.0.0.77")
    world.run(3)
    (event,) = world.of(K.ADDRESS_MOVED)
    assert event.other == mac(1)
    assert world.inventory.devices[mac(1)].addresses == []
    assert not world.of(K.ADDRESS_ADDED)


@pytest.mark.parametrize("apart", [0.001, 0.2])
def test_made_up_claims_cost_few_events(apart: float) -> None:
    """FAULTS T11: an event for each frame would flood every client and the history."""
    world = World([network("10.0.0.0/16", gateway="10.0.0.1")])
    world.alive(1)
    world.hear(mac(2), "10.0.0.1")
    world.planner.request_scan(["10.0.0.10"], world.now)
    world.run(3)
    claims = [
        (mac(100 + 2 * pair + who), f"10.0.{8 + at}.{pair}") for who in (0, 1) for pair in range(40) for at in range(8)
    ]
    begun, before = world.now, len(world.events)
    for turn in range(20_000):
        world.now += apart
        world.hear(*claims[turn % len(claims)])
    published = [event for event in world.events[before:] if event.kind is not K.ADDRESS_REMOVED]  # part of the move
    many, each = CLAIMS_ON_STRANGERS, FIRST_CLAIMS
    most = 80 * 8 + many.at_once + (world.now - begun) * many.per_second + len(claims) * each.at_once
    assert len(published) <= most
    world.run(3)
    before = len(world.events)
    world.hear(mac(3), "10.0.0.10")
    world.hear(mac(3), "10.0.0.1")
    world.run(3)
    assert {event.other for event in world.events[before:]} >= {mac(1), mac(2)}


def test_a_move_beyond_the_budget_happens_later() -> None:
    """The address moves when its event may be published."""
    world = World()
    world.hear(mac(1), "10.0.0.77")
    world.now += 3600
    budgets, address = world.inventory.budgets, (network().id, ip("10.0.0.77"))
    while budgets.take(CLAIMS_ON_STRANGERS, 2, world.now) or budgets.take(FIRST_CLAIMS, address, world.now):
        pass
    world.hear(mac(2), "10.0.0.77")
    world.run(3)
    assert not world.of(K.ADDRESS_MOVED)
    assert world.inventory.devices[mac(1)].ip == ip("10.0.0.77")
    world.now += 1 / CLAIMS_ON_STRANGERS.per_second
    world.hear(mac(2), "10.0.0.77")
    world.run(3)
    assert len(world.of(K.ADDRESS_MOVED)) == 1
    assert world.inventory.devices[mac(1)].addresses == []


def test_another_mac_at_the_gateway_is_gateway_changed() -> None:
    """It is no ordinary move or conflict."""
    world = World([network(gateway="10.0.0.1")])
    world.hear(mac(1), "10.0.0.1")
    world.now += 10
    world.hear(mac(2), "10.0.0.1")
    (event,) = world.of(K.GATEWAY_CHANGED)
    assert event.device is not None
    assert event.device.mac == mac(2)
    assert event.other == mac(1)
    assert not world.of(K.ADDRESS_CONFLICT)


def test_a_mac_with_65_addresses_is_a_proxy_and_quiet() -> None:
    """It causes no event for each address."""
    world = World()
    for last in range(10, 250):
        world.hosts[2, ip(f"10.0.0.{last}")] = mac(1)
    world.run(120)
    published = len(world.events)
    assert published < 20
    assert world.inventory.devices[mac(1)].is_proxy
    world.run(300)
    assert len(world.events) == published


def test_an_address_given_up_is_removed_after_a_while() -> None:
    """Its device is seen at another one meanwhile."""
    world = World()
    world.hosts[2, ip("10.0.0.10")] = mac(1)
    world.run(60)
    world.hosts = {(2, ip("10.0.0.11")): mac(1)}
    world.hear(mac(1), "10.0.0.11", Evidence.ARP_ANNOUNCEMENT)
    world.run(2000)
    (event,) = world.of(K.ADDRESS_REMOVED)
    assert event.address == ip("10.0.0.10")
    assert [held.ip for held in world.inventory.devices[mac(1)].addresses] == [ip("10.0.0.11")]


@pytest.mark.slow
def test_a_network_silent_at_once_is_an_outage() -> None:
    """Law 8: one `network_silent`, all `unknown`; the first answer ends it; each returns by its own `online`."""
    world = World()
    world.alive(30)
    world.run(8000)
    world.events.clear()
    world.unreachable = lambda probe: True
    world.run(300)
    assert [event.kind for event in world.events] == [K.NETWORK_SILENT]
    assert {world.inventory.devices[mac(i)].status for i in range(1, 31)} == {Status.UNKNOWN}
    assert world.inventory.devices[network().mac].status is Status.ONLINE, "of ourselves there is no doubt"
    world.unreachable = lambda probe: False
    world.run(120)
    assert [event.kind for event in world.events[1:]] == [K.NETWORK_RECOVERED] + [K.ONLINE] * 30


@pytest.mark.slow
def test_after_ten_minutes_an_outage_ends_in_offline() -> None:
    """Silent devices are reported offline then."""
    world = World()
    world.alive(30)
    world.run(8000)
    world.events.clear()
    world.hosts.clear()
    world.run(800)
    silent = world.events[0]
    assert silent.kind is K.NETWORK_SILENT
    offline = world.of(K.OFFLINE)
    assert len(offline) == 30
    assert all(600 <= event.at - silent.at < 605 for event in offline)


def test_the_first_suspect_is_unknown_no_longer_than_others() -> None:
    """Its own verdict was lost: it stayed `unknown` until it was seen again."""
    world = World([network(interval=86_400)])
    world.alive(5)
    world.run(60)
    world.hosts.clear()
    world.run(900)
    assert [event.kind for event in world.events[-6:]] == [K.NETWORK_SILENT] + [K.OFFLINE] * 5


@pytest.mark.slow
def test_four_of_five_silent_devices_are_an_outage() -> None:
    """Perhaps an access point failed; the outage lasts until one of the silent devices is seen, or ten minutes."""
    world = World()
    world.alive(30)
    world.run(8000)
    world.events.clear()
    gone = {place: each for place, each in world.hosts.items() if each <= mac(26)}
    world.hosts = {place: each for place, each in world.hosts.items() if each > mac(26)}
    world.run(300)
    assert [event.kind for event in world.events] == [K.NETWORK_SILENT] + [K.ONLINE] * 4
    back = next(iter(gone))
    world.hosts[back] = gone[back]
    world.run(500)
    assert [event.kind for event in world.events[5:]] == [K.NETWORK_RECOVERED, K.ONLINE] + [K.OFFLINE] * 25


@pytest.mark.slow
def test_four_of_five_that_stay_away_are_gone_after_ten_minutes() -> None:
    world = World()
    world.alive(30)
    world.run(8000)
    world.events.clear()
    world.hosts = {place: each for place, each in world.hosts.items() if each > mac(26)}
    world.run(900)
    kinds = [event.kind for event in world.events]
    assert kinds == [K.NETWORK_SILENT, *[K.ONLINE] * 4, K.NETWORK_RECOVERED, *[K.OFFLINE] * 26]


@pytest.mark.slow
def test_one_that_leaves_alone_is_not_taken_for_the_network() -> None:
    world = World()
    world.alive(30)
    world.run(8000)
    world.events.clear()
    del world.hosts[2, ip("10.0.0.10")]
    world.run(60)
    assert [event.kind for event in world.events] == [K.OFFLINE]


def test_the_gateway_and_half_a_network_are_an_outage() -> None:
    """With the gateway among them, half of the devices are enough."""
    world = World([network(gateway="10.0.0.10")])
    world.alive(8)
    world.run(8000)
    world.events.clear()
    gone = {mac(i) for i in range(1, 6)}
    world.hosts = {place: each for place, each in world.hosts.items() if each not in gone}
    world.run(60)
    assert world.events[0].kind is K.NETWORK_SILENT
    assert "gateway" in world.events[0].reason


def test_after_a_suspend_no_device_is_reported_offline() -> None:
    """FAULTS F13: a grace period and a scan before any verdict."""
    world = World()
    world.alive(5)
    world.run(8000)
    world.events.clear()
    world.now += 8 * 3600
    world.inventory.on_resume(world.now)
    world.run(120)
    assert not world.events


def test_a_device_without_its_address_is_probed_by_its_mac() -> None:
    """The probe counts for the device that it was sent to, not for the current holder of the address."""
    world = World()
    world.hosts[2, ip("10.0.0.50")] = mac(1)
    world.run(8000)
    world.hosts[2, ip("10.0.0.50")] = mac(2)
    world.hear(mac(2), "10.0.0.50", Evidence.ARP_ANNOUNCEMENT)
    world.run(300)
    assert world.inventory.devices[mac(1)].status is Status.OFFLINE
    assert str(world.inventory.devices[mac(2)].status) == "online"


def test_a_device_without_an_address_is_unknown_when_down() -> None:
    """A device without an address is `unknown` while its interface is down."""
    world = World()
    world.hear(mac(1), None, Evidence.ARP_PROBE)
    world.set_networks([network(state=NetworkState.DOWN)])
    assert world.inventory.devices[mac(1)].status is Status.UNKNOWN
    world.run(1000)
    assert not world.of(K.OFFLINE)


def test_a_device_without_an_address_has_its_grace_too() -> None:
    """Its silence restarts after a suspend."""
    world = World()
    world.hear(mac(1), None, Evidence.ARP_PROBE)
    world.now += 8 * 3600
    world.inventory.on_resume(world.now)
    world.run(60)
    assert not world.of(K.OFFLINE)


def test_known_devices_get_the_patience_of_a_network() -> None:
    """A change of `[[network]] patience` applies to them."""
    world = World()
    world.alive(1)
    world.run(10)
    world.set_networks([replace(network(), patience=(40.0, 50.0))])
    assert 40 <= world.inventory.devices[mac(1)].presence.patience <= 50


def test_confirmed_devices_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 6: a host that answers our scans with made-up MACs fills no table, and is published as a flood."""
    monkeypatch.setattr(limits, "MOST_CONFIRMED", 20)
    world = World()
    world.alive(100)
    world.run(30)
    assert sum(device.confirmed for device in world.inventory.devices.values()) <= 20
    assert len(world.of(K.FLOOD)) == 1


def test_a_network_that_is_renamed_ends_before_it_begins() -> None:
    world = World([network("10.0.0.0/24", f"eth{i}", i + 2) for i in range(4)])
    world.events.clear()
    world.set_networks([network("10.0.0.0/24", f"aaa{i}", i + 2) for i in range(4)])
    assert [event.kind for event in world.events] == [K.NETWORK_DOWN] * 4 + [K.NETWORK_UP] * 4
