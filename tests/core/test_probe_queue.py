"""Probes of presence: a congested network delays no other, and costs nothing."""

from dataclasses import replace

from netscand.core.due import Lane, ProbeClass
from netscand.core.model import Probe
from netscand.core.scan import SKIPS
from tests.core.world import World, ip, mac, network


def test_a_congested_network_delays_no_other() -> None:
    """Its thousands of probes are checked once a turn, not one by one."""
    slow, quick = network(rate=1.0), network("10.1.0.0/24", "eth1", 3)
    world = World([slow, quick])
    world.run(40)
    looked = 0

    def wanted(probe: Probe, now: float) -> bool:
        nonlocal looked
        looked += 1
        return True

    world.inventory.is_due = wanted  # type: ignore[method-assign]
    for number in range(5000):
        world.inventory._queue_probe(Probe(slow, ip("10.0.0.77"), None, mac(number)), ProbeClass.STRANGER)
    for number in range(5):
        world.inventory._queue_probe(
            Probe(quick, ip(f"10.1.0.{number + 70}"), mac(number), mac(number)), ProbeClass.STRANGER
        )
    world.now += 0.001
    probes = [probe for probe in world.planner.due(world.now, 512) if probe.presence_of]
    assert len([probe for probe in probes if probe.network is quick]) == 5
    assert len([probe for probe in probes if probe.network is slow]) <= 1
    assert looked < 20
    assert len(world.inventory.probe_queue[Lane(slow.id, ProbeClass.STRANGER, True)]) >= 4999


def test_networks_take_turns_under_a_low_rate() -> None:
    """The first of them is not always the same."""
    networks = [replace(network(f"10.{number}.0.0/24", f"eth{number}", number + 2)) for number in range(3)]
    world = World(networks)
    world.run(40)
    world.inventory.is_due = lambda probe, now: True  # type: ignore[method-assign]
    for each in networks:
        for number in range(100):
            world.inventory._queue_probe(Probe(each, ip("10.0.0.77"), mac(number), mac(number)), ProbeClass.STRANGER)
    first = []
    for _ in range(9):
        world.now += 0.05
        probes: list[Probe] = []
        world.planner._probes.advance(probes, world.now, 1)
        first += [probe.network.id for probe in probes]
    assert {first.count(each.id) for each in networks} == {3}


def test_thousands_of_void_probes_are_skipped_in_batches() -> None:
    """As after a suspend; the valid ones after them are sent."""
    lan = network()
    world = World([lan])
    world.run(40)
    looked = 0

    def wanted(probe: Probe, now: float) -> bool:
        nonlocal looked
        looked += 1
        return probe.ip == ip("10.0.0.99")

    world.inventory.is_due = wanted  # type: ignore[method-assign]
    for number in range(2 * SKIPS):
        world.inventory._queue_probe(Probe(lan, ip("10.0.0.77"), mac(number), mac(number)), ProbeClass.STRANGER)
    world.inventory._queue_probe(Probe(lan, ip("10.0.0.99"), mac(9), mac(9)), ProbeClass.STRANGER)
    probes: list[Probe] = []
    turns = 0
    while not probes:
        before, turns = looked, turns + 1
        world.planner._probes.advance(probes, world.now, 1)
        assert looked - before <= SKIPS
        assert probes or world.planner._probes.next_at == world.now
    assert turns == 3
    assert probes[0].ip == ip("10.0.0.99")
