"""Who means it ill, a host of the LAN or a client: what the others are told, and when, must not suffer."""

from time import process_time

from netscand.core.model import EventKind, Evidence, Status
from netscand.core.presence import Rules
from netscand.core.targets import resolve
from tests.core.world import World, ip, mac, network

K = EventKind


def test_made_up_devices_do_not_silence_a_network() -> None:
    """FAULTS T11: 80 that spoke once and never answered are gone, and whoever else leaves is told in time."""
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


def test_a_thousand_prefixes_of_a_large_network_cost_what_its_addresses_do() -> None:
    """A wish of 64 KiB held the loop for 12 s, and the watchdog killed the daemon."""
    large = network("10.0.0.0/16")
    halves = ["10.0.0.0/17", "10.0.128.0/17"] * 512
    quarters = [f"10.0.{64 * number}.0/18" for number in range(4)] * 4
    begun = process_time()
    wish = resolve([*halves, *quarters], [large])
    assert process_time() - begun < 2
    assert wish == {large.id: frozenset(range(1, 65_535))}
    assert resolve([*halves, large.id], [large]) == {large.id: None}


def test_what_others_say_of_a_devices_address_does_not_make_it_offline() -> None:
    """One ARP frame, its Ethernet source not even forged, had a quiet device asked where it is not, and called gone."""
    world = World(rules=Rules(5.0, 10.0, 20.0))
    world.alive(6)
    world.run(60)
    world.hear(mac(1), "10.0.0.222", Evidence.PROXIED)
    world.run(120)
    assert not world.of(K.OFFLINE)
    assert [held.ip for held in world.inventory.devices[mac(1)].addresses] == [ip("10.0.0.10")]


def test_a_third_of_a_large_network_that_leaves_at_once_is_gone_and_no_silence() -> None:
    """Whoever is about to be called gone is silent: beside a sample of the others, 200 of them made the network so."""
    world = World([network("10.0.0.0/22")], rules=Rules(5.0, 10.0, 20.0))
    world.alive(600)
    world.run(60)
    for number in range(200):
        del world.hosts[2, ip(f"10.0.{(10 + number) >> 8}.{(10 + number) & 255}")]
    world.run(60)
    assert not world.of(K.NETWORK_SILENT)
    assert len(world.of(K.OFFLINE)) == 200
