"""Two interfaces of this host on one LAN: one is scanned, and each device has its address once. FIELD case 30."""

from dataclasses import dataclass, replace
from ipaddress import IPv4Network

import pytest

from netscand.core.model import NO_ROUTE, EventKind, Evidence, Ip, Network, NetworkState, Observation, Probe, Status
from tests.core.world import World, ip, mac, network

K = EventKind
ETH, WLAN = 2, 3


def cable(state: NetworkState = NetworkState.UP) -> Network:
    return network(interface="eth0", index=ETH, state=state)


def wifi() -> Network:
    return replace(network(interface="wlan0", index=WLAN), own=ip("10.0.0.3"), rank=(NO_ROUTE, True))


@dataclass
class OneLan(World):
    """Two interfaces, whose frames reach the other one unless `separate`."""

    separate: bool = False

    def _send(self, probe: Probe) -> None:
        super()._send(probe)
        if self.separate or probe.mac is not None or probe.ip[0] != 127:
            return
        at, sender = self.now + self.delay / 2, probe.network
        index = WLAN if sender.index == ETH else ETH
        self._air.append((at, Observation(at, index, sender.mac, sender.own, Evidence.ARP_REQUEST, target=probe.ip)))
        self._air = type(self._air)(sorted(self._air, key=lambda each: each[0]))

    def at_both(self, number: int, at: str, evidence: Evidence = Evidence.ARP_REQUEST) -> None:
        for index in (WLAN, ETH):
            self.hear(mac(number), at, evidence, index)

    def frames_of(self, index: int, since: float) -> int:
        """Count the requests of scans."""
        own = {cable().own, wifi().own}
        sent = [probe for at, probe in self.frames if at >= since and probe.ip not in own]
        return sum(probe.mac is None and probe.network.index == index for probe in sent)

    def addresses(self, number: int) -> list[tuple[str, Ip]]:
        return [(each.network, each.ip) for each in self.inventory.devices[mac(number)].addresses]


@pytest.fixture
def world() -> OneLan:
    made = OneLan([cable(), wifi()])
    for index in (ETH, WLAN):
        made.alive(11, index=index)
    return made


def test_one_interface_is_scanned_the_other_is_not(world: OneLan) -> None:
    """The reason says which one is used, and why."""
    world.run(120)
    assert world.frames_of(ETH, 1000) > 254
    assert world.frames_of(WLAN, 1000) == 0
    shown = world.inventory.networks["10.0.0.0/24@wlan0"]
    assert shown.same_lan_as == "10.0.0.0/24@eth0"
    assert shown.why == "a test's; on the same LAN as 10.0.0.0/24@eth0, which is scanned instead: eth0 is not Wi-Fi"
    assert world.planner.coverage("10.0.0.0/24@wlan0", world.now).fraction == 0


def test_the_other_interface_takes_no_share_of_the_budget() -> None:
    """Of 40 requests/s that scheduled scans may send, a /22 every 30 s needs 34."""
    large = [
        replace(each, cidr=IPv4Network("10.0.0.0/22"), id=f"10.0.0.0/22@{each.interface}") for each in (cable(), wifi())
    ]
    world = OneLan(large)
    world.run(40)
    assert [world.inventory.networks[each.id].same_lan_as for each in large] == [None, large[0].id]
    assert world.planner.coverage(large[0].id, world.now).fraction == 1
    since = world.now
    world.run(60)
    assert world.frames_of(ETH, since) >= 2 * 1020


def test_each_device_has_its_address_once(world: OneLan) -> None:
    """Although each broadcast arrives at both, in any order."""
    world.at_both(1, "10.0.0.10", Evidence.ARP_ANNOUNCEMENT)  # before anything proves that it is one LAN
    world.run(60)
    for number in range(1, 12):
        world.at_both(number, f"10.0.0.{9 + number}", Evidence.ARP_ANNOUNCEMENT)
        assert world.addresses(number) == [("10.0.0.0/24@eth0", ip(f"10.0.0.{9 + number}"))]
    assert not world.of(K.ADDRESS_ADDED)
    assert len(world.of(K.DISCOVERED)) == 11


def test_the_other_interface_takes_over(world: OneLan) -> None:
    """When the cable is pulled, no device is reported gone; the Wi-Fi is used until the cable is back."""
    world.run(120)
    world.set_networks([cable(NetworkState.DOWN), wifi()])
    at = world.now
    ids = {event.device.mac for event in world.of(K.ONLINE) if event.device and event.at >= at}
    assert ids == {mac(number) for number in range(1, 12)}  # clients made them `unknown` at `network_down`
    world.hosts = {key: value for key, value in world.hosts.items() if key[0] == WLAN}
    world.run(600)
    assert not world.of(K.OFFLINE)
    assert not world.of(K.ADDRESS_ADDED)
    assert world.frames_of(WLAN, at) > 254
    assert world.addresses(1) == [("10.0.0.0/24@wlan0", ip("10.0.0.10"))]
    assert all(world.inventory.devices[mac(number)].status is Status.ONLINE for number in range(1, 12))
    world.alive(11, index=ETH)
    world.set_networks([cable(), wifi()])
    world.run(10)
    back = world.now
    world.run(120)
    assert world.frames_of(WLAN, back) == 0
    assert world.addresses(1) == [("10.0.0.0/24@eth0", ip("10.0.0.10"))]


def test_separate_lans_with_one_prefix_are_both_scanned() -> None:
    """192.168.1.0/24 is everywhere: the prefix alone proves nothing."""
    world = OneLan([cable(), wifi()], separate=True)
    world.alive(3, index=ETH)
    world.hosts[WLAN, ip("10.0.0.10")] = mac(51)
    world.run(120)
    assert world.frames_of(WLAN, 1000) > 254
    assert world.addresses(1) == [("10.0.0.0/24@eth0", ip("10.0.0.10"))]
    assert world.addresses(51) == [("10.0.0.0/24@wlan0", ip("10.0.0.10"))]
    assert not world.of(K.ADDRESS_CONFLICT)


def test_a_forged_frame_with_our_mac_stops_no_scan() -> None:
    """Law 6: who knows the MAC of our other interface must guess the address that we ask for."""
    world = OneLan([cable(), wifi()], separate=True)
    for second in range(120):
        for number in range(100):
            target = Ip(bytes([127, second, number, 1]))
            world._hear(Observation(world.now, WLAN, cable().mac, cable().own, Evidence.ARP_REQUEST, target=target))
        world.run(1)
    assert world.inventory.networks["10.0.0.0/24@wlan0"].same_lan_as is None
    assert world.frames_of(WLAN, 1000) > 254


def test_networks_that_part_are_both_scanned_again(world: OneLan) -> None:
    """A bridge between the two was removed: nothing comes back for ten minutes."""
    world.run(60)
    world.separate = True
    world.hosts = {key: value for key, value in world.hosts.items() if key[0] == ETH}
    world.run(900)
    assert world.inventory.networks["10.0.0.0/24@wlan0"].same_lan_as is None
    assert world.frames_of(WLAN, world.now - 120) > 0


def test_answers_on_both_interfaces_prove_one_lan() -> None:
    """An access point that answers requests itself lets none of ours through."""
    world = OneLan([cable(), wifi()], separate=True)
    for index in (ETH, WLAN):
        world.alive(4, index=index)
    world.run(60)
    assert world.inventory.networks["10.0.0.0/24@wlan0"].same_lan_as == "10.0.0.0/24@eth0"
    assert not world.of(K.ADDRESS_ADDED)


@pytest.mark.parametrize("index", [ETH, WLAN])
def test_both_own_addresses_are_guarded(world: OneLan, index: int) -> None:
    """A claim to one of them is reported, whichever interface receives it."""
    world.run(30)
    for text in ("10.0.0.2", "10.0.0.3"):
        world.hear(mac(0x66), text, Evidence.ARP_ANNOUNCEMENT, index)
    assert {event.address for event in world.of(K.ADDRESS_CONFLICT)} == {ip("10.0.0.2"), ip("10.0.0.3")}
    assert world.addresses(0x66) == []


def test_a_scan_request_serves_one_interface(world: OneLan) -> None:
    """Unless the request names the other network."""
    world.run(60)
    since = world.now
    world.planner.request_scan([], world.now)
    world.run(20)
    assert world.frames_of(WLAN, since) == 0
    world.planner.request_scan(["10.0.0.0/24@wlan0"], world.now)
    world.run(20)
    assert world.frames_of(WLAN, since) > 200
