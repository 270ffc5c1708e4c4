"""Work on every device of a large network runs in batches, before any verdict."""

from socket import inet_aton, inet_ntoa

import pytest

from netscand.core import batches
from netscand.core.due import ProbeClass
from netscand.core.model import EventKind, Evidence, Ip, Probe
from netscand.core.presence import Rules
from netscand.store.devices import NOTHING_LEARNED
from tests.core.world import World, mac, network

SOME, MANY = 4, 14


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> World:
    """Three times as many as are dealt with at once, well known."""
    monkeypatch.setattr(batches, "BATCH", SOME)
    world = World()
    world.alive(MANY)
    world.run(3000)
    assert len(world.inventory.devices) == MANY + 1
    world.events.clear()
    return world


def test_after_a_suspend_many_have_their_grace_a_few_at_a_time(crowd: World) -> None:
    """FAULTS F13. A device seen before its turn gets it at once: its silence teaches nothing either."""
    devices = [device for device in crowd.inventory.devices.values() if not device.is_self]
    now = crowd.now = crowd.now + 400
    crowd.inventory.on_resume(now)
    assert [device.presence.since for device in devices].count(now) in (SOME - 1, SOME)
    assert crowd.inventory.next_at <= now
    last = devices[-1]
    for _ in range(2):
        last.presence.record_sent(now, broadcast=False)
    crowd.now += 0.001
    crowd.hear(last.mac, inet_ntoa(last.addresses[0].ip))
    assert crowd.inventory.tick(crowd.now) == ()
    assert [device.presence.since >= now for device in devices].count(True) in (2 * SOME, 2 * SOME + 1)
    crowd.run(100)
    assert not crowd.of(EventKind.OFFLINE)
    assert all(device.presence.since >= now for device in devices)
    assert {len(device.presence.learned()) for device in devices} == {NOTHING_LEARNED}


def test_other_rules_reach_everybody(crowd: World) -> None:
    """What stays the same is not gone through again."""
    for least in (30.0, 40.0):
        crowd.inventory.set_rules(Rules(least=least))
        crowd.run(1)
        assert {device.presence.rules.least for device in crowd.inventory.devices.values()} == {least}
    crowd.inventory.set_rules(Rules(least=40.0))
    assert crowd.inventory.next_at > crowd.now
    assert crowd.inventory.devices[mac(1)].presence.patience >= 40.0


@pytest.mark.parametrize("meanwhile", ["resume", "rules", "refused", "network up"])
def test_no_event_of_a_pending_action_is_lost(crowd: World, meanwhile: str) -> None:
    """Work without events that is added before all are published leaves them to the next ticks."""
    inventory, (lan,) = crowd.inventory, crowd.networks
    for number in range(MANY):
        device = inventory.devices[mac(number + 1)]
        device.hostname, device.hostname_source, device.other_names = "a", "dhcp", {"dns": "b"}
    crowd._tell(inventory.set_name_sources(["dns", "dhcp"], crowd.now))
    assert len(crowd.of(EventKind.RENAMED)) < MANY
    if meanwhile == "resume":
        inventory.on_resume(crowd.now)
    elif meanwhile == "rules":
        inventory.set_rules(Rules(least=30.0))
    elif meanwhile == "refused":
        inventory.drop_probes([Probe(lan, Ip(inet_aton("10.0.0.10")), mac(1), mac(1))], crowd.now)
    else:
        crowd.set_networks([lan, network("10.1.0.0/24", "eth1", 3)])
    crowd.run(1)
    renamed = [event.device.mac for event in crowd.of(EventKind.RENAMED) if event.device]
    assert sorted(renamed) == [mac(number + 1) for number in range(MANY)]


def test_refused_probes_are_dropped_in_batches(crowd: World) -> None:
    """All of them within the batches, and each device is probed again a second later."""
    (lan,) = crowd.networks
    probes = [Probe(lan, device.addresses[0].ip, mac, mac) for mac, device in crowd.inventory.devices.items()]
    for ask in probes:
        crowd.inventory._queue_probe(ask, ProbeClass.STRANGER)
    crowd.planner.failed({lan.id: "Network is down"}, crowd.now)
    again = [device for device in crowd.inventory.devices.values() if device.next_check == crowd.now + 1.0]
    assert SOME - 1 <= len(again) <= SOME
    while crowd.inventory.next_at <= crowd.now:
        crowd.inventory.tick(crowd.now)
    again = [device for device in crowd.inventory.devices.values() if device.next_check == crowd.now + 1.0]
    assert len(again) == MANY


@pytest.mark.slow
def test_devices_still_online_are_published_in_batches(crowd: World) -> None:
    """In an outage, 10,000 events in one turn blocked the loop for 170 ms; each is published once."""
    talkers = {mac(number) for number in range(20, 26)}
    for number in range(MANY + 1, 40):
        crowd.hosts[2, Ip(inet_aton(f"10.0.0.{100 + number}"))] = mac(number)
    crowd.run(8_000)
    forgotten, first = mac(20), mac(25)
    crowd.events.clear()
    crowd.hosts = {place: each for place, each in crowd.hosts.items() if each in talkers}
    while not crowd.of(EventKind.NETWORK_SILENT):
        crowd.run(0.0005)
    assert len(crowd.events) <= 2 + SOME
    waiting = {event.device.mac for event in crowd.of(EventKind.ONLINE) if event.device} ^ talkers
    assert {forgotten, first} <= waiting
    crowd._tell([crowd.inventory.forget(forgotten, crowd.now, "by a user")])
    crowd.hear(first, "10.0.0.99", Evidence.ARP_ANNOUNCEMENT)
    about = [event.kind for event in crowd.events if event.device and event.device.mac == first]
    assert about == [EventKind.ONLINE, EventKind.ADDRESS_ADDED]
    for _ in range(8):
        before = len(crowd.events)
        crowd._tell(crowd.inventory.tick(crowd.now))
        assert len(crowd.events) - before <= SOME
    published = [event.device.mac for event in crowd.of(EventKind.ONLINE) if event.device]
    assert sorted(published) == sorted(talkers - {forgotten})
