"""Own devices, while the MACs of its interfaces change. FIELD case 31."""

from dataclasses import replace

from netscand.core.model import Address, EventKind, Evidence, Mac, NetworkState, Status, StoredTime
from netscand.core.restore import Memory, Remembered, recalled
from tests.core.world import World, ip, mac, network

K = EventKind
OWN = "10.0.0.2"


def own_mac(number: int) -> Mac:
    return Mac(bytes([2, 0, 0, 0, 1, number]))


def change_mac(world: World, number: int) -> None:
    """Do as `ip link set eth0 down; ip link set eth0 address …; ip link set eth0 up`."""
    down = replace(network(state=NetworkState.DOWN), mac=own_mac(number))
    world.set_networks([replace(down, mac=next(iter(world.inventory.networks.values())).mac)])
    world.set_networks([down])
    world.set_networks([replace(down, state=NetworkState.UP)])


def test_former_macs_of_this_host_are_not_this_host() -> None:
    """Each is offline, without the address, and may be forgotten; clients learn of both."""
    world = World()
    for number in range(10):
        change_mac(world, number)
    devices = world.inventory.devices
    assert [each.mac for each in devices.values() if each.is_self] == [own_mac(9)]
    assert [each.mac for each in devices.values() if each.ip == ip(OWN)] == [own_mac(9)]
    former = [each for each in devices.values() if not each.is_self]
    assert len(former) == 10
    for each in former:
        assert (each.status, each.reason, each.addresses) == (
            Status.OFFLINE, "this host no longer has this MAC", [],
        )  # fmt: skip
    gone = [event.device.mac for event in world.of(K.OFFLINE) if event.device]
    assert gone == [each.mac for each in former]
    assert [event.device.mac for event in world.of(K.ONLINE) if event.device] == [own_mac(n) for n in range(10)]
    assert (world.of(K.OFFLINE)[0].previous or {})["ip"] == ip(OWN)
    world.run(600)
    assert len(world.of(K.OFFLINE)) == 10
    world.inventory.forget(own_mac(0), world.now, "forgotten by a user")
    assert own_mac(0) not in devices


def test_a_mac_that_returns_is_this_host_again() -> None:
    world = World()
    for number in (1, 2, 1):
        change_mac(world, number)
    assert [each.mac for each in world.inventory.devices.values() if each.is_self] == [own_mac(1)]
    (device,) = [each for each in world.inventory.devices.values() if each.ip == ip(OWN)]
    assert (device.mac, device.status) == (own_mac(1), Status.ONLINE)


def test_an_interface_that_is_down_is_still_this_host() -> None:
    world = World()
    world.set_networks([network(state=NetworkState.DOWN)])
    (device,) = [each for each in world.inventory.devices.values() if each.is_self]
    assert (device.status, device.reason) == (Status.UNKNOWN, "the interface is down")
    world.inventory.set_networks([], world.now, {network().mac})  # its address is gone, too
    assert device.is_self
    world.inventory.set_networks([], world.now, set())  # it was unplugged
    assert not device.is_self


def test_annotations_follow_this_host() -> None:
    """It is the same one for certain; nothing else has the label any more."""
    world = World()
    (device,) = world.inventory.devices.values()
    world.inventory.label(device.mac, {"label": "server", "known": True, "notes": "rack"}, world.now)
    change_mac(world, 1)
    new = world.inventory.devices[own_mac(1)]
    assert (new.label, new.known, new.notes) == ("server", True, "rack")
    assert (device.label, device.known, device.notes) == (None, False, None)
    assert [event.device for event in world.of(K.LABELLED)] == [device, new]


def test_annotations_of_a_forgotten_mac_follow_nobody() -> None:
    """It was unplugged and forgotten: an event about it would list it again."""
    world = World()
    (device,) = world.inventory.devices.values()
    world.inventory.label(device.mac, {"label": "server"}, world.now)
    world.set_networks([])
    world.inventory.set_networks([], world.now, set())
    world.inventory.forget(device.mac, world.now, "forgotten by a user")
    world.set_networks([replace(network(), mac=own_mac(1))])
    assert not world.of(K.LABELLED)
    assert world.inventory.devices[own_mac(1)].label is None


def test_an_address_that_this_host_gets_is_no_longer_that_of_others() -> None:
    """Also not of one that has it from before, without being its holder."""
    world = World()
    world.hear(mac(1), "10.0.0.9")
    world.set_networks([replace(network(), own=ip("10.0.0.9"))])
    assert world.inventory.devices[mac(1)].addresses == []
    (removed,) = world.of(K.ADDRESS_REMOVED)
    assert (removed.address, removed.device) == (ip("10.0.0.9"), world.inventory.devices[mac(1)])
    world.hear(mac(1), "10.0.0.9", Evidence.ARP_ANNOUNCEMENT)
    assert world.inventory.devices[mac(1)].addresses == []
    assert len(world.of(K.ADDRESS_CONFLICT)) == 1


def test_however_many_addresses_this_host_gets_no_device_keeps_one() -> None:
    """Of each, the device loses all that are this host's own now, each with an event, and keeps the others."""
    world = World()
    taken = [f"10.0.0.{number}" for number in range(20, 27)]
    for address in (*taken, "10.0.0.9"):
        world.hear(mac(1), address)
    world.set_networks([replace(network(), own_ips=frozenset(map(ip, taken)))])
    assert [each.ip for each in world.inventory.devices[mac(1)].addresses] == [ip("10.0.0.9")]
    assert [event.address for event in world.of(K.ADDRESS_REMOVED)] == list(map(ip, taken))


def unix(at: float) -> float:
    """Return the unix time of a stored time."""
    assert isinstance(at, StoredTime)
    return at.unix


def restarted(number: int) -> World:
    """Start again where the interface has the MAC `number`; it had 1 in the run before."""
    world = World(networks=[])
    was = Remembered(
        own_mac(1), 100.0, 900.0, Status.ONLINE, 800.0, "this host", label="server",
        addresses=(Address(ip(OWN), network().id, "eth0", Evidence.NEIGHBOUR, 100.0, 900.0),),
    )  # fmt: skip
    devices = recalled(Memory([was], 950.0), world.rules, 0.0, world.now)
    world._tell(world.inventory.restore(devices, {"eth0": network().index}, world.now))
    world.set_networks([replace(network(), mac=own_mac(number))])
    return world


def test_this_host_is_known_since_it_was_first_seen() -> None:
    """Not since the last start. It is online since then, and that is no event: it is part of the first list."""
    world = restarted(1)
    (device,) = world.inventory.devices.values()
    assert (device.is_self, device.status, device.label) == (True, Status.ONLINE, "server")
    assert (unix(device.first_seen), device.status_since) == (100.0, world.now)
    assert not world.of(K.ONLINE)
    assert [each.ip for each in device.addresses] == [ip(OWN)]


def test_a_mac_of_the_run_before_is_a_former_one() -> None:
    world = restarted(2)
    former, new = (world.inventory.devices[own_mac(number)] for number in (1, 2))
    assert (former.is_self, former.status, former.addresses) == (False, Status.OFFLINE, [])
    assert (new.is_self, new.label, former.label) == (True, "server", None)
