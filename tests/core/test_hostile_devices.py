"""Hostile hosts and clients: events about other devices stay correct and on time."""

from time import process_time

import pytest

from netscand.core import limits
from netscand.core.model import EventKind, Evidence, Observation, Probe, Status
from netscand.core.presence import Rules
from netscand.core.ratelimit import CLAIMS_ON_STRANGERS
from netscand.core.targets import resolve
from tests.core.world import World, ip, mac, network

K = EventKind


def test_made_up_devices_do_not_silence_a_network() -> None:
    """FAULTS T11: 80 devices that never answered leave, and any other that leaves is published in time."""
    world = World(rules=Rules(5.0, 10.0, 20.0))
    world.alive(8)
    world.run(60)
    for number in range(80):
        world.hear(mac(1000 + number), f"10.0.0.{100 + number}")
    world.run(60)
    assert not world.of(K.NETWORK_SILENT)
    assert len(world.of(K.OFFLINE)) == 80
    del world.hosts[2, ip("10.0.0.10")]
    for number in range(80):
        world.hear(mac(1000 + number), f"10.0.0.{100 + number}")
    world.run(60)
    assert world.inventory.devices[mac(1)].status is Status.OFFLINE
    assert all(world.inventory.devices[mac(number)].status is Status.ONLINE for number in range(2, 9))


def test_a_thousand_prefixes_cost_what_they_name() -> None:
    """A request of 64 KiB blocked the loop for 12 s, and the watchdog killed the daemon."""
    large = network("10.0.0.0/16")
    halves = ["10.0.0.0/17", "10.0.128.0/17"] * 512
    quarters = [f"10.0.{64 * number}.0/18" for number in range(4)] * 4
    begun = process_time()
    request = resolve([*halves, *quarters], [large])
    assert process_time() - begun < 2
    assert request.keys() == {large.id}
    assert (found := request[large.id]) is not None
    assert found.ranges == [range(1, 65_535)]
    assert resolve([*halves, large.id], [large]) == {large.id: None}


def test_proxied_evidence_makes_no_device_offline() -> None:
    """One ARP frame, its Ethernet source not forged, had a quiet device probed elsewhere and reported offline."""
    world = World(rules=Rules(5.0, 10.0, 20.0))
    world.alive(6)
    world.run(60)
    world.hear(mac(1), "10.0.0.222", Evidence.PROXIED)
    world.run(120)
    assert not world.of(K.OFFLINE)
    assert [held.ip for held in world.inventory.devices[mac(1)].addresses] == [ip("10.0.0.10")]


def test_a_third_of_a_network_that_leaves_is_no_outage() -> None:
    """The suspects are silent anyway: counted beside a sample of the others, 200 of them made an outage."""
    world = World([network("10.0.0.0/22")], rules=Rules(5.0, 10.0, 20.0))
    world.alive(600)
    world.run(60)
    for number in range(200):
        del world.hosts[2, ip(f"10.0.{(10 + number) >> 8}.{(10 + number) & 255}")]
    world.run(60)
    assert not world.of(K.NETWORK_SILENT)
    assert len(world.of(K.OFFLINE)) == 200


class Answering(World):
    """A new MAC answers every probe."""

    def _send(self, probe: Probe) -> None:
        self.frames.append((self.now, probe))
        self.inventory.record_sent(probe, self.now)
        made_up = mac(0x800000 + len(self.frames))
        self._air.append((self.now + 0.001, Observation(self.now + 0.001, 2, made_up, probe.ip, Evidence.ARP_REPLY)))


def test_an_answer_to_a_probe_of_another_confirms_nothing() -> None:
    """FAULTS T11: each answer caused a probe, whose answer caused another: 34,000 devices in a minute."""
    world = Answering([network("10.0.0.0/26")])
    world.run(60)
    confirmed = [device for device in world.inventory.devices.values() if device.confirmed and not device.is_self]
    assert 60 <= len(confirmed) <= 160


def test_offline_devices_make_room_in_a_full_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Annotated devices and devices that are present stay."""
    monkeypatch.setattr(limits, "MOST_CONFIRMED", 10)
    world = World([network("10.0.0.0/28")], rules=Rules(5.0, 10.0, 20.0))
    world.hosts = {(2, ip(f"10.0.0.{number}")): mac(number) for number in range(3, 13)}
    world.run(120)
    world.inventory.label(mac(3), {"label": "printer"}, world.now)
    for number in (3, 4, 5):
        del world.hosts[2, ip(f"10.0.0.{number}")]
    world.run(200)
    assert len(world.of(K.OFFLINE)) == 3
    for number in (13, 14, 3):
        world.hosts[2, ip(f"10.0.0.{number}")] = mac(20 + number)
        world.run(90)
    known = {device.mac for device in world.inventory.devices.values() if not device.is_self}
    assert known >= {mac(3), mac(33), mac(34)}
    assert not known & {mac(4), mac(5)}
    assert {event.device.mac for event in world.of(K.FORGOTTEN) if event.device} == {mac(4), mac(5)}
    assert mac(23) not in known, "there is no more room, and no device to evict"
    assert world.of(K.FLOOD)


def test_a_forged_frame_does_not_misdirect_probes() -> None:
    """Even with a forged Ethernet source: the device is also probed where it last answered, and answers there."""
    world = World(rules=Rules(5.0, 10.0, 20.0))
    world.alive(6)
    world.run(60)
    for _ in range(3):
        world.hear(mac(1), "10.0.0.222", Evidence.ARP_REQUEST)
        world.run(60)
    assert not world.of(K.OFFLINE)


def test_a_former_claimant_is_no_gateway() -> None:
    """A device that claimed the gateway's address and left is not marked as the gateway."""
    world = World([network(gateway="10.0.0.1")], rules=Rules(5.0, 10.0, 20.0))
    world.hosts[2, ip("10.0.0.1")] = mac(1)
    world.alive(6)
    world.run(60)
    world.hear(mac(99), "10.0.0.1", Evidence.ARP_ANNOUNCEMENT)
    assert world.inventory.devices[mac(99)].is_gateway
    world.run(120)
    assert world.inventory.devices[mac(99)].status is Status.OFFLINE
    assert not world.inventory.devices[mac(99)].is_gateway
    assert world.inventory.devices[mac(1)].is_gateway


def test_a_flood_hides_no_claim_to_a_confirmed_device() -> None:
    """Nor by a device that is known already, never answered, and holds an address of its own."""
    world = World()
    world.alive(6)
    world.run(60)
    world.hear(mac(99), "10.0.0.99")
    while world.inventory.budgets.take(CLAIMS_ON_STRANGERS, 2, world.now):
        pass
    world.hear(mac(99), "10.0.0.10", Evidence.ARP_ANNOUNCEMENT)
    world.run(3)
    (published,) = world.of(K.ADDRESS_CONFLICT)
    assert (published.device and published.device.mac, published.other) == (mac(99), mac(1))


def test_a_device_seen_before_its_answer_gets_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It replaces an offline device when it answers."""
    monkeypatch.setattr(limits, "MOST_CONFIRMED", 6)
    world = World(rules=Rules(5.0, 10.0, 20.0))
    world.alive(6)
    world.run(60)
    del world.hosts[2, ip("10.0.0.10")]
    world.run(200)
    world.hosts[2, ip("10.0.0.50")] = mac(50)
    world.hear(mac(50), "10.0.0.50", Evidence.ARP_ANNOUNCEMENT)
    world.run(200)
    assert world.inventory.devices[mac(50)].confirmed
    assert mac(1) not in world.inventory.devices
