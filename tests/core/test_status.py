"""The counts of devices by status, which are kept where a status or an address changes."""

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from netscand.core.inventory import Inventory
from netscand.core.model import Address, Evidence, Ip, NetworkState, Observation
from netscand.core.presence import Rules
from tests.core.world import check_counts, ip, mac, network

ONE, OTHER = network(), network("10.0.1.0/24", "eth1", 3)
PLACES = [Ip(bytes([10, 0, net, host])) for net in (0, 1) for host in (2, 7, 8)]
PLACES.append(Ip(bytes.fromhex("fe80" + "00" * 13 + "09")))
LINKS = [
    [ONE, OTHER],
    [ONE],
    [network(state=NetworkState.DOWN), OTHER],
    [network(interface="eth0x"), OTHER],
    [],
    [network("10.0.0.0/23", "eth0")],
]
FRAMES = st.builds(
    lambda index, number, place, evidence, joining, goodbye: Observation(
        0.0, index, mac(number), place, evidence, joining=joining, goodbye=goodbye
    ),
    st.sampled_from([2, 3]), st.integers(0, 5), st.none() | st.sampled_from(PLACES),
    st.sampled_from([each for each in Evidence if each is not Evidence.NEIGHBOUR]), st.booleans(), st.booleans(),
)  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.just("frame"), FRAMES, st.booleans()),
    st.tuples(st.just("time"), st.sampled_from([0.5, 15.0, 400.0, 4000.0])),
    st.tuples(st.just("links"), st.sampled_from(LINKS), st.booleans()),
    st.tuples(st.just("label"), st.integers(0, 8)),
    st.tuples(st.just("forget"), st.integers(0, 8)),
    st.tuples(st.just("restart")),
)


def step(inventory: Inventory, now: float, what: tuple[Any, ...]) -> float:
    """Do one step; return the time after it."""
    name, argument, *rest = what
    if name == "frame":
        seen = argument._replace(at=now)
        where = inventory.network_table.lookup(seen.interface, seen.ip)
        if where is not None:
            inventory.observe(seen, where, 0.001 if rest[0] else None)
    elif name == "links":
        ours = {each.mac for each in argument} | ({mac(1)} if rest[0] else set())
        inventory.set_networks(argument, now, ours)
    elif name == "label":
        inventory.label(mac(argument), {"label": "printer"}, now)
    elif name == "forget" and (device := inventory.devices.get(mac(argument))) and not device.is_self:
        inventory.forget(device.mac, now, "forgotten by a user")
    elif name == "time":
        now += argument
        for _ in range(20):
            inventory.tick(now)
            for lane in tuple(inventory.probe_queue):
                for probe in inventory.probe_queue.pop(lane):
                    if inventory.is_due(probe, now):
                        inventory.record_sent(probe, now)
            now += 1.1
    return now


def restarted(before: Inventory, now: float) -> Inventory:
    """Return an inventory that was restored from the devices of another one."""
    devices = [device for device in before.devices.values() if not device.is_self]
    for device in devices:
        device.counted = None
    inventory = Inventory(Rules(), Random(1))
    inventory.restore(devices, {"eth0": 2, "eth1": 3}, now)
    inventory.set_networks([ONE, OTHER], now)
    return inventory


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_counts_are_those_of_the_devices(steps: list[tuple[Any, ...]]) -> None:
    """Whatever happens, in any order: frames, silence, networks that come and go, users, this host's own MACs."""
    inventory, now = Inventory(Rules(), Random(1)), 1000.0
    inventory.set_networks([ONE, OTHER], now)
    for what in steps:
        if what == ("restart",):
            inventory = restarted(inventory, now)
        else:
            now = step(inventory, now, what)
        check_counts(inventory)


def test_a_network_that_goes_down_takes_its_devices_along() -> None:
    """Of a network and in all; a device that was seen on another network as well stays online."""
    inventory = Inventory(Rules(), Random(1))
    inventory.set_networks([ONE, OTHER], 1000.0)
    for number, place in ((1, ip("10.0.0.7")), (2, ip("10.0.0.8")), (2, ip("10.0.1.8"))):
        seen = Observation(1000.0 + number, 2 if place[2] == 0 else 3, mac(number), place, Evidence.ARP_REPLY)
        where = inventory.network_table.lookup(seen.interface, seen.ip)
        assert where is not None
        inventory.observe(seen, where, 0.001)
    counts = inventory.counts
    assert (counts.total, counts.by_network) == ([2, 0, 0], {ONE.id: [2, 0, 0], OTHER.id: [1, 0, 0]})
    inventory.set_networks([OTHER], 1003.0, {ONE.mac, OTHER.mac})
    assert (counts.total, counts.by_network) == ([1, 0, 1], {ONE.id: [1, 0, 1], OTHER.id: [1, 0, 0]})


def test_a_device_counts_where_it_has_an_address() -> None:
    """Once in each network, however many addresses it has there; nowhere without one."""
    inventory = Inventory(Rules(), Random(1))
    inventory.set_networks([ONE, OTHER], 1000.0)
    inventory.label(mac(1), {"label": "printer"}, 1000.0)
    device, counts = inventory.devices[mac(1)], inventory.counts
    for where, place in ((ONE, "10.0.0.7"), (ONE, "10.0.0.8"), (OTHER, "10.0.1.8")):
        inventory.addresses.put(
            device, Address(ip(place), where.id, where.interface, Evidence.ARP_REPLY, 1000.0, 1000.0)
        )
    assert counts.by_network == {ONE.id: [0, 0, 1], OTHER.id: [0, 0, 1]}
    for address in tuple(device.addresses):
        inventory.addresses.drop(device, address)
    assert (counts.total, counts.by_network) == ([0, 0, 1], {})
