"""Claims to addresses on real LANs are decided by asking both: what moved has moved, and only conflicts are conflicts.

Cases out of public reports (FIELD). MACs of 00:00:5e:00:53 are those of documentation.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from netscand.core.model import Device, EventKind, Evidence, Ip, Mac, Status
from netscand.core.presence import Rules
from netscand.lan import arp, decode
from tests.core.world import World, ip, network

K = EventKind
HOUR, DAY = 3_600.0, 86_400.0
ABOUT = frozenset(
    (K.ADDRESS_ADDED, K.ADDRESS_REMOVED, K.ADDRESS_MOVED, K.ADDRESS_CONFLICT, K.SAME_HOST, K.GATEWAY_CHANGED)
)


def m(number: int) -> Mac:
    return Mac(bytes.fromhex("00005e0053") + bytes([number]))


def at(number: int) -> Ip:
    return ip(f"10.77.0.{number}")


def lan(gateway: str | None = None, rules: Rules | None = None) -> World:
    return World([network("10.77.0.0/24", gateway=gateway)], rules=rules or Rules())


def frame(world: World, raw: str) -> None:
    """Receive a frame: any of them that the decoders know."""
    data = bytes.fromhex(raw)
    seen = arp.decode(data, world.now, 2)
    for each in (seen,) if seen is not None else decode.decode(data, world.now, 2):
        world._hear(each)


def announcement(number: int, address: int) -> str:
    mac, sender = m(number).hex(), at(address).hex()
    return f"ffffffffffff{mac}08060001080006040001{mac}{sender}000000000000{sender}" + "00" * 18


def answer_at(world: World, address: int, *macs: Mac) -> None:
    """From now, exactly these answer there."""
    world.hosts.pop((2, at(address)), None)
    world.also[2, at(address)] = list(macs)


def published(world: World) -> list[tuple[EventKind, int | None, int | None]]:
    """What was published about addresses: the kind, and the last bytes of the address and of the device's MAC."""
    return [
        (event.kind, event.address[3] if event.address else None, event.device.mac[5] if event.device else None)
        for event in world.events
        if event.kind in ABOUT
    ]


def device(world: World, number: int) -> Device:
    return world.inventory.devices[m(number)]


def addresses_of(world: World, number: int) -> set[int]:
    return {each.ip[3] for each in device(world, number).addresses}


# ---- moved ----------------------------------------------------------------------------------------------------------

E1, E2 = announcement(0x0A, 100), announcement(0x0B, 100)


@pytest.mark.parametrize("there", [False, True], ids=["silent", "still there"])
@pytest.mark.parametrize("after", [1.0, 20.0, 100.0])
def test_a_vip_that_fails_over_moves_and_is_no_conflict(there: bool, after: float) -> None:
    """FIELD case 7: whenever the old node, which keeps its own address, was seen last; control: both answer."""
    world = lan()
    answer_at(world, 10, m(0x0A))
    answer_at(world, 11, m(0x0B))
    answer_at(world, 100, m(0x0A))
    world.run(60)
    frame(world, E1)
    world.run(after)
    world.events.clear()
    answer_at(world, 100, m(0x0B), *([m(0x0A)] if there else []))
    claimed = world.now
    frame(world, E2)
    assert not published(world), "both are asked first"
    world.run(30)
    (verdict,) = [event for event in world.events if event.kind in (K.ADDRESS_MOVED, K.ADDRESS_CONFLICT)]
    assert 1.0 <= verdict.at - claimed <= 2.5
    assert (verdict.device, verdict.other) == (device(world, 0x0B), m(0x0A))
    assert device(world, 0x0A).status is device(world, 0x0B).status is Status.ONLINE
    assert device(world, 0x0B).ip == at(11), "it keeps an address of its own"
    if there:
        assert published(world) == [(K.ADDRESS_CONFLICT, 100, 0x0B)]
        assert verdict.reason == f"announced its address; {m(0x0A).hex(':')} is still there: both answer"
        assert world.inventory.addresses.holder(world.networks[0].id, at(100)) is device(world, 0x0A)  # type: ignore[index]
    else:
        assert published(world) == [(K.ADDRESS_REMOVED, 100, 0x0A), (K.ADDRESS_MOVED, 100, 0x0B)]
        assert "did not answer there" in verdict.reason
        assert verdict.reason.endswith("the claimant answers at 10.77.0.11, too")
        assert device(world, 0x0A).ip == at(10)
        assert 100 not in addresses_of(world, 0x0A)


def test_a_vip_moves_although_the_claimant_answers_nothing() -> None:
    """FIELD case 7, by frames alone: the old node answers at its own address, so it is awake."""
    world = lan()
    answer_at(world, 10, m(0x0A))
    world.run(60)
    frame(world, E1)
    world.run(1)
    frame(world, E2)
    world.run(3)
    assert published(world)[-2:] == [(K.ADDRESS_REMOVED, 100, 0x0A), (K.ADDRESS_MOVED, 100, 0x0B)]


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("later", [0.001, 0.5, 1.0])
def test_a_holder_that_hands_over_a_moment_later_is_in_no_conflict(later: float, stays: bool) -> None:
    """VRRP with preemption: the old master answers a probe before it knows of the new one.

    A holder that stays is in conflict, even if its next two answers are lost.
    """
    world = lan()
    for address, host in ((10, m(0x0A)), (11, m(0x0B)), (100, m(0x0A))):
        answer_at(world, address, host)
    world.run(600)
    world.events.clear()
    frame(world, E2)
    answer_at(world, 100, m(0x0A), m(0x0B))
    world.run(later)
    lost = iter([True, True] if stays else [])
    world.unreachable = lambda probe: probe.ip == at(100) and probe.mac == m(0x0A) and next(lost, False)
    if not stays:
        answer_at(world, 100, m(0x0B))
    world.run(5)
    moved = [(K.ADDRESS_REMOVED, 100, 0x0A), (K.ADDRESS_MOVED, 100, 0x0B)]
    assert published(world) == ([(K.ADDRESS_CONFLICT, 100, 0x0B)] if stays else moved)


def test_asks_of_a_dispute_go_to_both_by_unicast() -> None:
    """Two tries each, where nothing is answered."""
    world = lan()
    frame(world, E1)
    world.run(12)
    world.frames.clear()
    frame(world, E2)
    world.run(3)
    asked = Counter((probe.mac, probe.ip) for _, probe in world.frames if probe.additional)
    assert asked == {(m(0x0A), at(100)): 2, (m(0x0B), at(100)): 2}


def test_containers_with_a_new_mac_at_every_start_move_their_address() -> None:
    """FIELD case 13: no conflict, and those that left keep nothing (x6); x7: each goes by its own patience of 90 s."""
    world = lan()
    for number in range(10):
        answer_at(world, 210, m(number))
        frame(world, announcement(number, 210))
        world.run(14)
    world.run(2)
    wanted = [each for n in range(1, 10) for each in ((K.ADDRESS_REMOVED, 210, n - 1), (K.ADDRESS_MOVED, 210, n))]
    assert published(world) == wanted
    assert [addresses_of(world, number) for number in range(10)] == [set()] * 9 + [{210}]
    world.run(100)
    gone = {event.device.mac: event for event in world.of(K.OFFLINE) if event.device}
    assert set(gone) == {m(number) for number in range(9)}
    assert all(each.at - device(world, mac[5]).last_seen < 95 for mac, each in gone.items())
    assert device(world, 9).status is Status.ONLINE


def test_an_extender_that_rewrites_a_mac_moves_its_address() -> None:
    """FIELD case 5 (ii): another MAC at another floor; frames alone."""
    world = lan()
    frame(world, "ffffffffffff00005e0053610806000108000604000100005e0053610a4d003d0000000000000a4d003d" + "00" * 18)
    world.run(30)
    frame(world, "ffffffffffff0e8063005361080600010800060400010e80630053610a4d003d0000000000000a4d003d" + "00" * 18)
    world.run(3)
    assert published(world) == [(K.ADDRESS_REMOVED, 61, 0x61), (K.ADDRESS_MOVED, 61, 0x61)]
    assert addresses_of(world, 0x61) == set()


ACK = "".join(
    (
        "ffffffffffff5254007700020800450001480000000040116f580a4d0001ffffffff004300440134adfe02010600000051510000",
        "8000000000000a4d003d000000000000000000005e005361",
        "00" * 202,
        "6382536335010536040a4d0001330400000e100104ffffff0003040a4d0001ff",
        "00" * 32,
    )
)
"""A broadcast DHCP ACK of the server: `chaddr` is the MAC of the phone, `yiaddr` its address."""


def test_an_acknowledgement_makes_no_phantom_of_a_client_behind_an_extender() -> None:
    """FIELD case 5 (i): the extender answers for nine phones; the server names the MAC of one of them."""
    world = lan()
    for number in range(61, 70):
        answer_at(world, number, m(0xE0))
        frame(world, announcement(0xE0, number))
        assert device(world, 0xE0).ip == at(min(number, 63)), "from the fourth on, it speaks for others"
        world.run(1)
    world.run(30)
    world.events.clear()
    main = device(world, 0xE0).ip
    for number in range(3):
        frame(world, ACK)
        world.run(200)
        frame(world, announcement(0xE0, 61 + number))
        assert device(world, 0xE0).ip == main
    assert m(0x61) not in world.inventory.devices
    assert not published(world)
    assert addresses_of(world, 0xE0) == set(range(61, 70))


# ---- sleep proxies --------------------------------------------------------------------------------------------------

MAC, TV = 0x37, 0x20


def test_a_sleep_proxy_causes_no_conflict_and_keeps_its_own_address() -> None:
    """FIELD case 3: six sleeps of 8 h. The Mac is offline meanwhile, and online as soon as it wakes."""
    world = lan()
    answer_at(world, TV, m(TV))
    answer_at(world, MAC, m(MAC))
    world.run(1200)
    frame(world, announcement(MAC, MAC))
    world.run(20)
    world.events.clear()
    for _ in range(6):
        answer_at(world, MAC, m(TV))
        frame(world, announcement(TV, MAC))
        for _ in range(8 * 12):
            world.run(300)
            assert device(world, TV).ip == at(TV)
        assert device(world, MAC).status is Status.OFFLINE
        answer_at(world, MAC, m(MAC))
        frame(world, announcement(MAC, MAC))
        assert device(world, MAC).status is Status.ONLINE
        world.run(4 * HOUR)
        assert (device(world, MAC).ip, device(world, TV).ip) == (at(MAC), at(TV))
    assert Counter(kind for kind, *_ in published(world)) == {K.ADDRESS_MOVED: 12, K.ADDRESS_REMOVED: 12}


def test_a_sleeper_that_speaks_again_where_another_answers_is_in_conflict() -> None:
    """The dispute opens again, in the other direction, also within ten minutes."""
    world = lan()
    answer_at(world, MAC, m(MAC))
    world.run(300)
    world.events.clear()
    answer_at(world, MAC, m(TV))
    frame(world, announcement(TV, MAC))
    world.run(60)
    assert published(world) == [(K.ADDRESS_REMOVED, MAC, MAC), (K.ADDRESS_MOVED, MAC, TV)]
    answer_at(world, MAC, m(TV), m(MAC))
    frame(world, announcement(MAC, MAC))
    world.run(3)
    assert published(world)[2:] == [(K.ADDRESS_CONFLICT, MAC, MAC)]
    assert world.of(K.ADDRESS_CONFLICT)[0].other == m(TV)


# ---- one host on two interfaces -------------------------------------------------------------------------------------

CABLE, WIFI = 0x03, 0x49


@pytest.mark.parametrize("from_the_start", [True, False])
@pytest.mark.parametrize("announces", [False, True])
def test_a_host_on_two_interfaces_is_noticed_once(from_the_start: bool, announces: bool) -> None:
    """FIELD case 4 (arp_ignore 0): both MACs answer at both addresses, for a day. No `ip` changes."""
    world = lan()
    answer_at(world, 7, m(7))
    world.run(0 if from_the_start else 1000)
    for address in (103, 73):
        answer_at(world, address, m(CABLE), m(WIFI))
    if announces:
        frame(world, announcement(CABLE, 103))
        frame(world, announcement(WIFI, 73))
    world.run(400)
    ips = device(world, CABLE).ip, device(world, WIFI).ip
    assert set(ips) == {at(103), at(73)}
    if announces:
        assert ips == (at(103), at(73))
    for turn in range(int(DAY / 1800)):
        world.run(1800)
        assert (device(world, CABLE).ip, device(world, WIFI).ip) == ips
        if turn % 8 == 1:
            world.planner.request_scan(["10.77.0.73", "10.77.0.103"], world.now)
    found = Counter(kind for kind, *_ in published(world))
    assert set(found) <= {K.SAME_HOST, K.ADDRESS_ADDED}
    assert found[K.ADDRESS_ADDED] <= 1
    assert found[K.SAME_HOST] == (not announces or from_the_start), (
        "where each is known by its own, neither is probed at the other one"
    )
    for notice in world.of(K.SAME_HOST):
        assert notice.device
        assert {notice.device.mac, notice.other} == {m(CABLE), m(WIFI)}
        assert "both answer at 10.77.0." in notice.reason


@pytest.mark.parametrize("second", [101, 137])
def test_a_host_on_two_interfaces_is_found_while_another_scan_runs(second: int) -> None:
    """The scan that shows its second address begins as soon as that one has ended."""
    world = World([network("10.77.0.0/24")], seed=3)
    for number in range(10, 16):
        answer_at(world, number, m(number))
    world.run(121)
    for address in (100, second):
        answer_at(world, address, m(CABLE), m(WIFI))
    world.run(40)
    assert len(world.of(K.SAME_HOST)) == 1
    assert not world.of(K.ADDRESS_CONFLICT)


def test_an_interface_that_was_unplugged_has_its_addresses_again() -> None:
    """FIELD case 4: the other one answers for it meanwhile."""
    world = lan()
    for address in (103, 73):
        answer_at(world, address, m(CABLE), m(WIFI))
    world.run(60)
    before = {each: addresses_of(world, each) for each in (CABLE, WIFI)}
    for address in (103, 73):
        answer_at(world, address, m(CABLE))
    world.run(300)
    assert device(world, WIFI).status is Status.OFFLINE
    for address in (103, 73):
        answer_at(world, address, m(CABLE), m(WIFI))
    frame(world, announcement(WIFI, 73))
    world.run(60)
    assert {each: addresses_of(world, each) for each in (CABLE, WIFI)} == before
    assert device(world, WIFI).status is Status.ONLINE
    assert not world.of(K.ADDRESS_CONFLICT)
    assert len(world.of(K.SAME_HOST)) == 1


@pytest.mark.parametrize("others", [0, 1, 2])
def test_one_address_in_common_is_a_conflict(others: int) -> None:
    """The control of FIELD case 4: two hosts at .103, each with addresses of its own."""
    world = lan()
    answer_at(world, 103, m(CABLE), m(WIFI))
    for number in range(others):
        answer_at(world, 10 + number, m(CABLE))
        answer_at(world, 20 + number, m(WIFI))
    world.run(60)
    assert [kind for kind, *_ in published(world) if kind in (K.ADDRESS_CONFLICT, K.SAME_HOST)] == [K.ADDRESS_CONFLICT]
    assert {each for each in (CABLE, WIFI) if 103 in addresses_of(world, each)} == {CABLE, WIFI}


def test_who_takes_every_address_of_another_is_no_second_interface() -> None:
    """A thief answers wherever it is asked; its victim does not answer at the thief's own address."""
    world = lan()
    for address in (10, 11):
        answer_at(world, address, m(1))
    world.run(300)
    main = device(world, 1).ip
    answer_at(world, 66, m(66))
    frame(world, announcement(66, 66))
    world.run(60)
    for address in (10, 11):
        answer_at(world, address, m(1), m(66))
        frame(world, announcement(66, address))
    world.run(60)
    assert not world.of(K.SAME_HOST)
    assert (K.ADDRESS_CONFLICT, 10, 66) in published(world)
    assert (device(world, 1).ip, device(world, 66).ip) == (main, at(66))


def test_a_pair_that_parts_is_in_conflict_again() -> None:
    """What is one host today may be two tomorrow: within a day, the next claim is asked about again."""
    world = lan()
    for address in (103, 73):
        answer_at(world, address, m(CABLE), m(WIFI))
    world.run(60)
    assert len(world.of(K.SAME_HOST)) == 1
    answer_at(world, 73, m(WIFI))
    world.run(26 * HOUR)
    world.planner.request_scan(["10.77.0.103"], world.now)
    world.run(60)
    assert world.of(K.ADDRESS_CONFLICT)
    answer_at(world, 73, m(CABLE), m(WIFI))
    world.run(2 * HOUR)
    world.planner.request_scan(["10.77.0.0/24"], world.now)
    world.run(60)
    assert len(world.of(K.SAME_HOST)) == 2


# ---- virtual routers and clusters -----------------------------------------------------------------------------------

CARP, NIC, OTHER_NIC = Mac(bytes.fromhex("00005e00010a")), m(0xF1), m(0xF2)
NLB = Mac(bytes.fromhex("02bf0a4d0050"))


@pytest.mark.parametrize("gateway", [None, "10.77.0.1"])
@pytest.mark.parametrize("seed", range(12))
def test_each_mac_of_a_virtual_router_has_its_own_ip(seed: int, gateway: str | None) -> None:
    """In whatever order a scan finds the addresses, the virtual one has the gateway's.

    VRRP on a macvlan interface: both MACs of the router answer at both addresses.
    """
    world = World([network("10.77.0.0/24", gateway=gateway)], seed=seed)
    for address in (1, 8):
        answer_at(world, address, NIC, CARP)
    world.run(60)
    assert not world.of(K.ADDRESS_CONFLICT)
    devices = world.inventory.devices
    ips = devices[NIC].ip, devices[CARP].ip
    assert set(ips) == {at(8), at(1)}
    if gateway:
        assert ips == (at(8), at(1))


class Carried(World):
    """A LAN where one more address is answered by a MAC in frames of another."""

    where, virtual, via = at(1), CARP, NIC
    unicast = True

    def _answer_carried(self) -> None:
        target = "52540077000100005e" if self.unicast else "ffffffffffff"
        to = (target + "0" * 12)[:12]
        ours = "525400770001" + "0a4d0002"
        frame(self, f"{to}{self.via.hex()}08060001080006040002{self.virtual.hex()}{self.where.hex()}{ours}" + "00" * 18)

    def _send(self, probe) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        super()._send(probe)
        if probe.ip == self.where and probe.mac in (None, self.virtual) and self.virtual not in self.silent:
            self._answer_carried()

    silent: frozenset[Mac] = frozenset()


@pytest.mark.parametrize("virtual", ["00005e00010a", "00000c07ac05", "00000c9ff005", "0007b4000102", "02bf0a4d0050"])
def test_a_virtual_router_is_alive_by_answers_that_its_interface_carries(virtual: str) -> None:
    """FIELD case 8 (CARP, and the like) and 22 (NLB by unicast). Another carrier is a failover, and no event."""
    world = Carried([network("10.77.0.0/24", gateway="10.77.0.1")])
    world.virtual = Mac(bytes.fromhex(virtual))
    world.run(600)
    gateway = world.inventory.devices[world.virtual]
    assert (gateway.status, gateway.ip, gateway.is_gateway) == (Status.ONLINE, at(1), True)
    world.via = OTHER_NIC
    world.run(600)
    assert not published(world)
    scan = world.planner.request_scan(["10.77.0.1"], world.now)
    world.run(5)
    (ended,) = [news for _, news in world.news if getattr(news, "finished_at", 0) and news.scan_id == scan]
    assert ended.found == (world.virtual,)  # type: ignore[union-attr]
    assert not world.of(K.OFFLINE)
    world.silent = frozenset((world.virtual,))
    world.run(200)
    assert world.inventory.devices[world.virtual].status is Status.OFFLINE


@pytest.mark.parametrize(("virtual", "unicast"), [(m(0x50), True), (CARP, False)])
def test_no_other_answer_that_another_station_carries_proves_presence(virtual: Mac, unicast: bool) -> None:
    """The control: an access point that answers for its station; and a reply to all."""
    world = Carried([network("10.77.0.0/24")])
    world.where, world.virtual, world.unicast = at(80), virtual, unicast
    world.run(200)
    assert virtual not in world.inventory.devices


def test_a_claim_by_a_virtual_mac_is_a_conflict_still() -> None:
    """Any host can choose a MAC of these ranges."""
    world = Carried([network("10.77.0.0/24")])
    world.where = at(80)
    answer_at(world, 80, m(0x80))
    world.run(20)
    (conflict,) = world.of(K.ADDRESS_CONFLICT)
    assert conflict.device
    assert {conflict.device.mac, conflict.other} == {CARP, m(0x80)}


@pytest.mark.parametrize("group", ["03bf0a4d0050", "01005e7f0050"])
def test_a_cluster_by_multicast_is_its_members(group: str) -> None:
    """FIELD case 22: the Ethernet source is a host with that address; both members answer, without a conflict."""
    world = lan()

    def members() -> None:
        for number in (0x81, 0x82):
            frame(
                world,
                f"525400770001{m(number).hex()}08060001080006040002{group}0a4d00505254007700010a4d0002" + "00" * 18,
            )

    for number in (0x81, 0x82):
        answer_at(world, number, m(number))
    world.run(60)
    for _ in range(20):
        members()
        world.run(60)
    assert not {kind for kind, *_ in published(world)} - {K.ADDRESS_ADDED}
    holder = world.inventory.addresses.holder(world.networks[0].id, at(80))  # type: ignore[index]
    assert holder is device(world, 0x81)
    assert holder.ip == at(0x81)
    world.hear(m(0x66), "10.77.0.80", Evidence.ARP_ANNOUNCEMENT)
    members()
    world.run(1)
    members()
    world.run(3)
    assert [event.device and event.device.mac for event in world.of(K.ADDRESS_CONFLICT)] == [m(0x66)]


# ---- this host's own address ----------------------------------------------------------------------------------------

A1 = announcement(1, 2)


def test_a_claim_to_our_own_address_is_loud_and_its_claimant_present() -> None:
    """FIELD case 1, x5: a conflict whatever the age, at most each 600 s for each claimant.

    The thief is judged by probes that it can answer: their sender is 0.0.0.0 (lan/arp.py).
    """
    world = lan()
    world.run(62)
    answer_at(world, 2, m(1))
    for _ in range(60):
        frame(world, A1)
        world.run(30)
    frame(world, f"525400770001{m(2).hex()}08060001080006040002{m(2).hex()}0a4d00025254007700010a4d0002" + "00" * 18)
    conflicts = world.of(K.ADDRESS_CONFLICT)
    assert [event.device and event.device.mac for event in conflicts] == [m(1)] * 3 + [m(2)]
    assert all(event.other == network().mac for event in conflicts)
    assert not world.of(K.ADDRESS_MOVED)
    assert not {event.device.mac for event in world.of(K.OFFLINE) if event.device}
    world.run(1000)
    assert device(world, 1).status is Status.ONLINE, "it says nothing by itself, and answers"
    assert device(world, 2).status is Status.OFFLINE
    problems = world.inventory.addresses.own_claims.problems(
        world.inventory.networks, world.inventory.devices, world.now
    )
    assert problems == ["10.77.0.2, an address of this host, is claimed by 00:00:5e:00:53:01 too, on 10.77.0.0/24@eth0"]
    answer_at(world, 2)
    world.run(1000)
    assert device(world, 1).status is Status.OFFLINE
    assert not world.inventory.addresses.own_claims.problems(
        world.inventory.networks, world.inventory.devices, world.now
    )


def test_a_silent_thief_of_our_address_is_found_by_a_probe() -> None:
    """FIELD case 1: it was there before, and says nothing: one probe at the start, and each hour (RFC 5227)."""
    world = lan()
    answer_at(world, 2, m(1))
    world.run(5)
    assert [event.device and event.device.mac for event in world.of(K.ADDRESS_CONFLICT)] == [m(1)]
    answer_at(world, 2)
    world.run(6 * HOUR)
    ours = [moment for moment, probe in world.frames if probe.ip == at(2) and probe.presence_of is None]
    assert len(ours) == 7
    answer_at(world, 2, m(9))
    world.run(HOUR)
    assert world.of(K.ADDRESS_CONFLICT)[-1].device is device(world, 9)


def test_our_further_addresses_are_probed_too() -> None:
    further = frozenset((at(3), ip("172.16.0.3"), Ip(bytes(16))))
    world = World([replace(network("10.77.0.0/24"), own_ips=further)])
    world.run(5)
    assert {probe.ip for _, probe in world.frames if probe.ip in (*further, at(2))} == {at(2), at(3)}


@pytest.mark.parametrize("new", [{"own": at(9)}, {"own_ips": frozenset([at(9)])}], ids=["another", "one more"])
def test_a_new_address_of_ours_is_probed_at_once(new: dict[str, Any]) -> None:
    """A host that has it already, and is silent, is found when this host gets it, and not up to an hour later."""
    world = lan()
    world.run(100)
    answer_at(world, 9, m(1))
    world.set_networks([replace(network("10.77.0.0/24"), **new)])
    since = world.now
    world.run(5)
    assert at(9) in {probe.ip for moment, probe in world.frames if moment >= since}
    assert [event.address for event in world.of(K.ADDRESS_CONFLICT)] == [at(9)]


def test_claims_to_our_address_that_are_remembered_are_bounded() -> None:
    world = lan()
    for number in range(100):
        world.hear(m(number), "10.77.0.2", Evidence.ARP_ANNOUNCEMENT)
    claims = world.inventory.addresses.own_claims
    assert len(claims.problems(world.inventory.networks, world.inventory.devices, world.now)) == 16


# ---- who left, and quiet addresses ----------------------------------------------------------------------------------


def test_who_left_a_conflict_keeps_no_address() -> None:
    """FIELD x6: the lease is reused within a minute; the one that left, claimant or holder, has no address any more."""
    for leaves, stays in ((1, 2), (2, 1)):
        world = lan()
        answer_at(world, 90, m(1))
        world.run(60)
        answer_at(world, 90, m(1), m(2))
        frame(world, announcement(2, 90))
        world.run(60)
        assert world.of(K.ADDRESS_CONFLICT)
        answer_at(world, 90, m(stays))
        world.run(300)
        frame(world, announcement(stays, 90))
        world.run(60)
        assert device(world, leaves).status is Status.OFFLINE
        assert (addresses_of(world, leaves), addresses_of(world, stays)) == (set(), {90})


@pytest.mark.parametrize("addresses", [2, 6])
def test_a_host_with_several_addresses_that_speaks_by_one_is_quiet(addresses: int) -> None:
    """FIELD x1: for a day, no event, and no other `ip`, whichever it speaks by."""
    for speaks in (50, 51):
        world = lan()
        for number in range(addresses):
            answer_at(world, 50 + number, m(0x50))
        world.run(300)
        found = len(published(world))
        main = device(world, 0x50).ip
        for _ in range(int(DAY / 60)):
            world.hear(m(0x50), f"10.77.0.{speaks}")
            world.run(60)
            assert device(world, 0x50).ip == main
        assert len(published(world)) == found
        assert len(addresses_of(world, 0x50)) == addresses


def test_an_address_is_asked_before_it_is_dropped() -> None:
    """FIELD x1, x8: also one where the device never answered yet; it is dropped if it does not answer."""
    world = World([network("10.77.0.0/24", interval=86_400.0)])
    world.run(60)
    for number in (50, 51):
        frame(world, announcement(0x50, number))
    answer_at(world, 50, m(0x50))
    world.also[2, at(51)] = [m(0x50)]
    for _ in range(60):
        world.hear(m(0x50), "10.77.0.50")
        world.run(60)
    assert addresses_of(world, 0x50) == {50, 51}
    answer_at(world, 51)
    for _ in range(60):
        world.hear(m(0x50), "10.77.0.50")
        world.run(60)
    assert addresses_of(world, 0x50) == {50}


def test_a_lasting_conflict_of_two_quiet_hosts_lasts() -> None:
    """FIELD x8: neither loses the address while it answers there, and it is published again."""
    world = lan()
    answer_at(world, 10, m(1))
    answer_at(world, 20, m(2))
    world.run(60)
    answer_at(world, 90, m(1), m(2))
    for number in (1, 2):
        frame(world, announcement(number, 90))
    world.run(5 * HOUR)
    assert not world.of(K.ADDRESS_REMOVED)
    assert not world.of(K.ADDRESS_MOVED)
    assert all(90 in addresses_of(world, number) for number in (1, 2))
    assert 2 <= len(world.of(K.ADDRESS_CONFLICT)) <= 31
    answer_at(world, 90, m(1))
    world.run(2 * HOUR)
    assert [90 in addresses_of(world, number) for number in (1, 2)] == [True, False]


@pytest.mark.parametrize("patience", [30.0, 600.0])
def test_who_lost_its_last_address_is_judged_by_its_own_patience(patience: float) -> None:
    """FIELD x7: it never answered us, so it was online until 300 s, whatever its patience."""
    world = lan(rules=Rules(10.0, patience, 3600.0))
    frame(world, announcement(1, 90))
    world.run(5)
    answer_at(world, 90, m(2))
    frame(world, announcement(2, 90))
    world.run(3)
    assert addresses_of(world, 1) == set()
    world.run(max(patience, 90.0) - 13)
    assert device(world, 1).status is Status.ONLINE
    world.run(15)
    assert device(world, 1).status is Status.OFFLINE
    asked = [probe for _, probe in world.frames if probe.presence_of == m(1) and not probe.additional]
    assert all(probe.ip == at(90) for probe in asked)


def test_a_host_that_changes_its_address_is_known_by_the_new_one() -> None:
    """An announcement moves `ip` at once, a mere answer does not; nor does a word from an address where it is still."""
    world = lan()
    answer_at(world, 50, m(0x50))
    world.run(300)
    answer_at(world, 51, m(0x50))
    answer_at(world, 50)
    frame(world, announcement(0x50, 51))
    assert device(world, 0x50).ip == at(51)
    assert world.of(K.ADDRESS_ADDED)[-1].previous == {
        "ip": at(50),
        "addresses": tuple(device(world, 0x50).addresses[:1]),
    }
    answer_at(world, 51)
    answer_at(world, 52, m(0x50))
    world.run(600)
    assert device(world, 0x50).ip == at(52), "without an announcement, when it answers at the old one no longer"


def test_a_third_claimant_is_named_although_two_flap() -> None:
    """FIELD X1: one that claims it once, beside two that claim it in turn."""
    world = lan()
    answer_at(world, 90, m(1), m(2))
    world.run(60)
    for turn in range(20):
        frame(world, announcement(1 + turn % 2, 90))
        if turn == 10:
            frame(world, announcement(66, 90))
        world.run(3)
    claimants = [event.device.mac for event in world.of(K.ADDRESS_CONFLICT) if event.device]
    assert sorted(claimants)[-1] == m(66)
    assert len(claimants) == 2


@pytest.mark.parametrize("gateway", [True, False])
def test_a_gateway_changes_at_once(gateway: bool) -> None:
    """It waits for no answer; each claimant is named."""
    world = lan(gateway="10.77.0.1" if gateway else None)
    answer_at(world, 1, m(1))
    world.run(60)
    for number in (66, 67):
        frame(world, announcement(number, 1))
    assert [event.device and event.device.mac for event in world.of(K.GATEWAY_CHANGED)] == [m(66), m(67)] * gateway


def test_claims_cost_few_frames() -> None:
    """Each is decided by at most sixteen frames, at most one of them a broadcast; 32 at once, and one more a second."""
    world = World([network("10.77.0.0/24", interval=86_400.0)])
    for number in range(100, 200):
        answer_at(world, number, m(number))
    world.run(300)
    world.frames.clear()
    begun = world.now
    while world.now < begun + 60:
        for number in range(100, 200):
            world.hear(m(int(world.now) % 50), f"10.77.0.{number}", Evidence.ARP_ANNOUNCEMENT)
        world.run(1)
    asked = [probe for _, probe in world.frames if probe.additional]
    assert len(asked) <= (32 + 60) * 16
    assert sum(probe.mac is None for probe in asked) <= 32 + 60


def test_tables_of_shared_addresses_are_bounded() -> None:
    """Law 6."""
    shared = lan().inventory.addresses.shared
    for number in range(3_000):
        one, other = Mac(number.to_bytes(6)), Mac((number + 1).to_bytes(6))
        shared.join(one, other, 0.0)
        shared.note_carrier(one, other)
        shared.note_cluster("lan", Ip(number.to_bytes(4)), one)
    assert (len(shared._pairs), len(shared._carriers), len(shared._clusters)) == (1_024, 256, 256)
