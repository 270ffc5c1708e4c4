"""A hostile host of the LAN, in simulated time: what it says must not change what is told of the others."""

from netscand.core.model import EventKind, Status
from netscand.core.presence import Rules
from tests.core.world import World, ip, mac

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
