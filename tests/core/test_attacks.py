"""Effects that one host on the LAN can cause: observations in, events out, with a fake clock (issue 11).

Each kind of attack has its budget (core/ratelimit.py), and unproven evidence is only a reason to probe.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from netscand.core import limits
from netscand.core.addresses import FEW
from netscand.core.model import EventKind, Evidence, Ip, Mac, Observation, Probe, Status
from netscand.core.planner import QUIET_COVERAGE
from netscand.core.presence import Rules
from netscand.core.ratelimit import NEWCOMERS_THAT_ANSWER, STRANGERS
from netscand.core.shared_addresses import MOST_ADDRESSES
from tests.core.world import World, ip, mac, network

pytestmark = pytest.mark.slow

K = EventKind
QUICK = Rules(5.0, 10.0, 20.0)
HOUR, DAY = 3_600.0, 86_400.0
OWN6 = Ip(bytes.fromhex("fe80000000000000000000000000fe02"))
GATEWAY = "10.0.0.1"


def see(world: World, seen: Observation) -> None:
    """Put a frame on the air."""
    world._hear(seen)


def say(
    world: World,
    sender: Mac,
    at: Ip | str | None,
    evidence: Evidence = Evidence.ARP_REQUEST,
    **more: Any,  # noqa: ANN401 fields
) -> None:
    address = ip(at) if isinstance(at, str) else at
    see(world, Observation(world.now, 2, sender, address, evidence)._replace(**more))


def answer(world: World, sender: Mac, at: Ip | str | None) -> None:
    """Answer an ask of ours, whatever it was."""
    address = ip(at) if isinstance(at, str) else at
    evidence = Evidence.ARP_REPLY if address is not None and len(address) == 4 else Evidence.NDP
    where = world.inventory.network_table.lookup(2, address)
    assert where is not None
    world._tell(world.inventory.observe(Observation(world.now, 2, sender, address, evidence), where, 0.001))


def v6(number: int) -> Ip:
    return Ip(bytes.fromhex("20010db8") + number.to_bytes(12))


def with_gateway(rules: Rules = QUICK, alive: int = 6) -> World:
    """A LAN whose gateway is the first device; some others, well known for some minutes."""
    world = World([replace(network(gateway=GATEWAY), own6=OWN6)], rules=rules)
    world.hosts[2, ip(GATEWAY)] = mac(1)
    for number in range(2, alive + 2):
        world.hosts[2, ip(f"10.0.0.{number + 8}")] = mac(number)
    world.run(300)
    world.events.clear()
    return world


def age(world: World, seconds: float = DAY) -> None:
    """Let all that are known now have been known for so much longer."""
    for device in world.inventory.devices.values():
        device.first_seen -= seconds


def kinds(world: World) -> list[EventKind]:
    return [event.kind for event in world.events]


# ---- H2: what strangers cause ---------------------------------------------------------------------------------------


def test_hours_of_made_up_devices_cause_few_events() -> None:
    """Made-up devices that answer or not, with endless names and addresses, suppress no event of the household."""
    world = World([network(interval=600.0)], rules=QUICK)
    world.alive(10)
    world.run(600)
    age(world)
    world.events.clear()
    begun, made = world.now, 0
    while world.now < begun + 4 * HOUR:
        for _ in range(20):
            made += 1
            answer(world, mac(0x100000 + made), f"10.0.0.{100 + made % 100}")
            say(world, mac(0x200000 + made), f"10.0.0.{100 + made % 100}")
            for back in (1, 7, 50, 400):
                named = {"name": f"name-{made}", "name_source": "mdns"}
                say(world, mac(0x100000 + made - back), v6(made * 8 + back), Evidence.NDP)
                say(world, mac(0x100000 + made - back), None, Evidence.MDNS, **named)
        if int((world.now - begun) / 600) % 2 == 0:
            world.hosts.pop((2, ip("10.0.0.10")), None)
        else:
            world.hosts[2, ip("10.0.0.10")] = mac(1)
        world.run(10)
        world.frames.clear()
    household = {mac(number) for number in range(1, 11)}
    real = [event for event in world.events if event.device and event.device.mac in household]
    theirs = Counter(event.kind for event in world.events if not event.device or event.device.mac not in household)
    print(dict(theirs))
    assert sum(theirs.values()) < 3_500 + 4 * 1_100
    assert [event.kind for event in real] == [K.OFFLINE, K.ONLINE] * 12


def test_a_flapping_device_is_published_a_few_times_an_hour() -> None:
    """The last verdict is right, at most a minute late."""
    world = World(rules=Rules(5.0, 10.0, 10.0))
    world.alive(8)
    world.run(60)
    begun = world.now
    for _ in range(600):
        del world.hosts[2, ip("10.0.0.10")]
        world.run(20)
        world.hosts[2, ip("10.0.0.10")] = mac(1)
        world.hear(mac(1), "10.0.0.10")
        world.run(1)
    assert 64 <= len(world.of(K.OFFLINE)) <= 64 + 12 * (world.now - begun) / HOUR
    del world.hosts[2, ip("10.0.0.10")]
    world.run(600)
    assert world.inventory.devices[mac(1)].status is Status.OFFLINE


def test_endless_renames_are_published_a_few_times_an_hour() -> None:
    """A device that changes its name for hours causes few events."""
    world = World(rules=QUICK)
    world.alive(3)
    world.run(60)
    for number in range(1_000):
        world.now += 10
        say(world, mac(1), "10.0.0.10", Evidence.MDNS, name=f"name-{number}", name_source="mdns")
        world._tell(world.inventory.rename(mac(2), f"name-{number}", "dns", world.now))
    assert len(world.of(K.RENAMED)) <= 2 * (5 + 6 * 10_000 / HOUR)


def test_privacy_addresses_are_no_events_and_no_change() -> None:
    """FIELD case 9: four new IPv6 addresses an hour, all day long, on a LAN that stays quiet; IPv4 is never evicted."""
    world = World([replace(network(interval=600.0), own6=OWN6)], rules=Rules(60.0, 60.0, 600.0))
    world.alive(3)
    world.run(60)
    for number in range(24 * 8):
        say(world, mac(1), v6(number + 1), Evidence.NDP)
        world.run(900)
    changes = [event.kind for event in world.events if event.kind in (K.ADDRESS_ADDED, K.ADDRESS_REMOVED)]
    assert changes == [K.ADDRESS_ADDED], "the first one"
    device = world.inventory.devices[mac(1)]
    assert device.ip == ip("10.0.0.10")
    assert v6(24 * 8) in {address.ip for address in device.addresses}
    assert len(device.addresses) <= 1 + MOST_ADDRESSES
    assert not device.is_proxy
    quiet = [
        probe for at, probe in world.frames if at > world.now - 6 * HOUR and probe.mac is None and len(probe.ip) == 4
    ]
    assert len(quiet) <= 6 * HOUR / QUIET_COVERAGE * 254
    world.inventory.devices[mac(1)].first_seen -= DAY
    say(world, mac(9), "10.0.0.10")
    world.run(3)
    assert [event.kind for event in world.events[-2:]] == [K.DISCOVERED, K.ADDRESS_CONFLICT]


@pytest.mark.parametrize("solicited", [True, False])
def test_solicitations_disable_no_alarm(solicited: bool) -> None:
    """FIELD x2: 66 IPv6 addresses, answered or not, then claims to the addresses of the gateway, a resident and us."""
    world = with_gateway()
    age(world)
    thief = mac(0x666)
    say(world, thief, "10.0.0.99")
    for number in range(66):
        (answer if solicited else say)(world, thief, v6(number + 1), *(() if solicited else (Evidence.NDP,)))
    assert not world.inventory.devices[thief].is_proxy
    for at, kind in [(GATEWAY, K.GATEWAY_CHANGED), ("10.0.0.11", K.ADDRESS_CONFLICT), ("10.0.0.2", K.ADDRESS_CONFLICT)]:
        world.events.clear()
        say(world, thief, at, Evidence.ARP_REPLY)
        world.run(5)
        assert kind in kinds(world)
    assert ip("10.0.0.99") in {address.ip for address in world.inventory.devices[thief].addresses}


@pytest.mark.parametrize("confirmed", [True, False])
def test_ipv6_never_evicts_ipv4(confirmed: bool) -> None:
    """FIELD case 9: an IPv4 address that never answered stays beside any number of IPv6 addresses that did."""
    world = World()
    see_at = answer if confirmed else say
    say(world, mac(9), "10.0.0.9")
    for number in range(200):
        see_at(world, mac(9), v6(number + 1))
        if number % 50 == 49:
            world.now += 120
            see_at(world, mac(9), f"10.0.0.{20 + number}")
    device = world.inventory.devices[mac(9)]
    assert {address.ip for address in device.addresses if len(address.ip) == 4} == {
        ip(f"10.0.0.{number}") for number in (9, 69, 119, 169, 219)
    }  # fmt: skip
    assert len(device.addresses) <= (MOST_ADDRESSES if confirmed else FEW)
    for number in range(MOST_ADDRESSES * 3):
        world.now += 120
        see_at(world, mac(9), f"10.0.0.{number + 20}")
        see_at(world, mac(9), v6(1_000 + number))
    assert sum(len(address.ip) == 4 for address in device.addresses) == (MOST_ADDRESSES if confirmed else FEW)


def test_a_labelled_device_is_published_during_a_flood() -> None:
    """Strangers that use up their budgets do not suppress events of a labelled device."""
    world = World([network("10.0.0.0/20", interval=600.0)], rules=QUICK)
    world.alive(3)
    world.run(60)
    world.inventory.label(mac(1), {"label": "printer"}, world.now)
    for number in range(3_500):
        answer(world, mac(1_000 + number % 250), f"10.0.{1 + number // 250}.{number % 250 + 1}")
    world.events.clear()
    for number in range(4):
        say(world, mac(1), f"10.0.15.{number + 1}")
        answer(world, mac(1_001), f"10.0.15.{number + 101}")
    del world.hosts[2, ip("10.0.0.10")]
    world.run(60)
    published = [event.kind for event in world.events if event.device and event.device.mac == mac(1)]
    assert published == [K.ADDRESS_ADDED] * 4 + [K.OFFLINE]
    assert not [event for event in world.events if event.device and event.device.mac == mac(1_001)
                and event.kind is K.ADDRESS_ADDED]  # fmt: skip


class Flooded(World):
    """Each broadcast request is answered by a new MAC, a moment before the real device answers."""

    made = 0

    def _send(self, probe: Probe) -> None:
        if probe.mac is None and probe.ip != ip("10.0.0.200"):
            self.made += 1
            at = self.now + 0.0001
            self._air.append((at, Observation(at, 2, mac(0x800000 + self.made), probe.ip, Evidence.ARP_REPLY)))
        super()._send(probe)


def test_a_leaving_device_is_published_during_a_flood() -> None:
    """Even of a device that joined today: no other device can spend its first changes."""
    world = World(rules=QUICK)
    world.alive(10)
    world.run(120)

    def spend() -> None:
        while world.inventory.budgets.take(STRANGERS, 2, world.now):
            pass

    spend()
    world.events.clear()
    del world.hosts[2, ip("10.0.0.10")]
    say(world, mac(2), "10.0.0.77", Evidence.ARP_ANNOUNCEMENT, name="laptop", name_source="dhcp")
    world.hear(mac(3), "10.0.0.13", Evidence.ARP_ANNOUNCEMENT)
    for _ in range(60):
        world.run(1)
        spend()
    published = {(event.kind, event.device.mac) for event in world.events if event.device}
    assert published >= {
        (K.OFFLINE, mac(1)), (K.ADDRESS_ADDED, mac(2)), (K.RENAMED, mac(2)), (K.ADDRESS_CONFLICT, mac(3)),
    }  # fmt: skip


def test_a_flood_that_answers_keeps_no_newcomer_out() -> None:
    """Made-up MACs are seen once; a refused device that is still there later is admitted."""
    world = Flooded(rules=QUICK)
    world.run(HOUR)
    answered = sum(device.confirmed for device in world.inventory.devices.values())
    assert answered < 600
    world.hosts[2, ip("10.0.0.200")] = mac(7)
    world.run(120)
    assert world.inventory.devices[mac(7)].status is Status.ONLINE


def test_a_flood_keeps_no_newcomer_out_that_answers() -> None:
    """Refused by its own word, it is asked."""
    world = World([network(interval=86_400)], rules=QUICK)
    world.run(60)
    for number in range(5_000):
        world.now += 0.001
        world.hear(mac(0x100000 + number), f"10.0.0.{20 + number % 200}")
    world.hosts[2, ip("10.0.0.9")] = mac(9)
    world.run(1)
    world.hear(mac(9), "10.0.0.9", Evidence.ARP_ANNOUNCEMENT)
    world.run(0.1)
    assert world.inventory.devices[mac(9)].confirmed


# ---- M1: the gateway's address, and L1: our own ----------------------------------------------------------------------


def test_a_proxy_cannot_take_the_gateways_address_unseen() -> None:
    """A device that answers for many addresses is reported when it claims the gateway's."""
    world = with_gateway()
    for number in range(70):
        answer(world, mac(99), f"10.0.0.{100 + number}")
    assert world.inventory.devices[mac(99)].is_proxy
    world.events.clear()
    world.hear(mac(99), GATEWAY, Evidence.ARP_REPLY)
    (published,) = world.of(K.GATEWAY_CHANGED)
    assert (published.kind, published.device and published.device.mac, published.other) == (
        K.GATEWAY_CHANGED,
        mac(99),
        mac(1),
    )


def test_only_answers_make_a_proxy() -> None:
    """Announcements make no proxy, and the mark ends with the answers."""
    world = with_gateway()
    for number in range(70):
        world.hear(mac(98), f"10.0.0.{100 + number}", Evidence.ARP_ANNOUNCEMENT)
    assert not world.inventory.devices[mac(98)].is_proxy
    world.hosts[2, ip("10.0.0.99")] = mac(99)
    world.run(60)
    for number in range(70):
        world.hosts[2, ip(f"10.0.0.{100 + number}")] = mac(99)
    world.run(120)
    proxy = world.inventory.devices[mac(99)]
    assert proxy.is_proxy
    world.run(2 * HOUR)
    assert proxy.is_proxy
    for number in range(70):
        del world.hosts[2, ip(f"10.0.0.{100 + number}")]
    world.run(2 * HOUR)
    assert not proxy.is_proxy


def test_each_claimant_of_the_gateways_address_is_published_at_once() -> None:
    """A published claimant hides no other one; nor does the gateway's defence, nor a flood of strangers."""
    world = with_gateway()
    for number in range(5_000):
        world.now += 0.001
        world.hear(mac(0x100000 + number), f"10.0.0.{100 + number % 100}")
    world.events.clear()
    for claimant in (mac(91), mac(92), mac(0x100001), mac(93)):
        for _ in range(3):
            world.now += 1
            world.hear(claimant, GATEWAY, Evidence.ARP_REPLY)
            world.hear(mac(1), GATEWAY)
    published = [event.device.mac for event in world.of(K.GATEWAY_CHANGED) if event.device]
    assert published == [mac(91), mac(92), mac(0x100001), mac(93)]
    assert mac(92) in world.inventory.devices


def test_ten_thousand_claimants_are_counted() -> None:
    world = with_gateway()
    for number in range(10_000):
        world.now += 0.001
        world.hear(mac(0x100000 + number), GATEWAY, Evidence.ARP_REPLY)
    assert len(world.of(K.GATEWAY_CHANGED)) == 8
    world.now += 60
    world.hear(mac(99), GATEWAY, Evidence.ARP_REPLY)
    published = world.of(K.GATEWAY_CHANGED)[-1]
    assert published.device
    assert published.device.mac == mac(99)
    assert published.reason.endswith("9992 more claims by other MACs since the last event")
    assert world.inventory.budgets.refused["gateway_claims"] == 9_992


@pytest.mark.parametrize("claimed", [mac(99), mac(3)])
def test_a_claim_to_the_gateway_for_another_mac_is_published(claimed: Mac) -> None:
    """An ARP reply with another station's MAC in it takes the address as well."""
    world = with_gateway()
    for _ in range(3):
        say(world, claimed, GATEWAY, Evidence.PROXIED, via=mac(98))
    (published,) = world.of(K.GATEWAY_CHANGED)
    assert published.reason.startswith(f"{mac(98).hex(':')} claims it for {claimed.hex(':')}; ")
    assert (published.address, published.other) == (ip(GATEWAY), mac(1))
    assert published.device is world.inventory.devices.get(claimed)
    assert world.inventory.addresses.holder(network().id, ip(GATEWAY)) is world.inventory.devices[mac(1)]
    world.hear(mac(1), GATEWAY, Evidence.PROXIED)  # an access point that answers for the gateway
    assert len(world.of(K.GATEWAY_CHANGED)) == 1


@pytest.mark.parametrize(
    "evidence", [Evidence.ARP_REPLY, Evidence.ARP_ANNOUNCEMENT, Evidence.DHCP, Evidence.ARP_REQUEST]
)
@pytest.mark.parametrize("who", ["labelled", "resident", "answered today", "gone"])
def test_a_proxy_at_a_known_devices_address_is_reported(who: str, evidence: Evidence) -> None:
    """A station that answers for 100 unused addresses is exempt only there; else it is one report a day and address."""
    world = with_gateway()
    proxy, victim = mac(99), world.inventory.devices[mac(2)]
    for number in range(100):
        world.hosts[2, ip(f"10.0.0.{100 + number}")] = proxy
    world.run(120)
    assert world.inventory.devices[proxy].is_proxy
    if who == "labelled":
        world.inventory.label(victim.mac, {"label": "printer"}, world.now)
    elif who in ("resident", "gone"):
        victim.first_seen -= DAY
    if who == "gone":
        del world.hosts[2, ip("10.0.0.10")]
        world.run(60)
        assert victim.status is Status.OFFLINE
    world.events.clear()
    for _ in range(20):
        world.hear(proxy, "10.0.0.10", evidence)
        world.run(60)
    published = [
        (event.device and event.device.mac, event.address, event.other) for event in world.of(K.ADDRESS_CONFLICT)
    ]
    assert published == ([(proxy, ip("10.0.0.10"), victim.mac)] if who != "gone" else [])
    if who != "gone":
        assert world.inventory.addresses.holder(network().id, ip("10.0.0.10")) is victim
    if published:
        world.now += DAY
        world.hear(victim.mac, "10.0.0.10")
        world.hear(proxy, "10.0.0.10", Evidence.ARP_REPLY)
        assert len(world.of(K.ADDRESS_CONFLICT)) == 2


def test_a_claim_for_another_mac_is_reported() -> None:
    """An ARP reply with its own Ethernet source and another MAC inside changes caches, so it is reported."""
    world = with_gateway()
    world.inventory.label(mac(2), {"label": "printer"}, world.now)
    say(world, mac(98), "10.0.0.10", Evidence.PROXIED, via=mac(97))
    say(world, mac(3), "10.0.0.10", Evidence.PROXIED, via=mac(97))
    say(world, mac(2), "10.0.0.10", Evidence.PROXIED, via=mac(97))
    say(world, mac(96), "10.0.0.10", Evidence.PROXIED, joining=True)  # a DHCP server, of a lease
    published = [(event.device and event.device.mac, event.reason) for event in world.of(K.ADDRESS_CONFLICT)]
    assert published == [
        (claimed, f"{mac(97).hex(':')} claims it for {said.hex(':')}; it is the address of {mac(2).hex(':')}")
        for claimed, said in ((None, mac(98)), (mac(3), mac(3)))
    ]


def test_a_proxys_own_address_is_not_taken_unseen() -> None:
    """Addresses that it answers for move to their holders; its first address is its own."""
    world = with_gateway()
    for number in range(100):
        world.hosts[2, ip(f"10.0.0.{100 + number}")] = mac(2)
    world.run(120)
    router = world.inventory.devices[mac(2)]
    assert router.is_proxy
    world.inventory.label(mac(2), {"label": "router"}, world.now)
    also = next(held.ip for held in router.addresses if held.ip != ip("10.0.0.10"))
    world.events.clear()
    world.hear(mac(2), "10.0.0.10")
    world.hear(mac(99), "10.0.0.10", Evidence.ARP_REPLY)
    say(world, mac(99), also)
    world.run(3)
    assert [(event.address, event.other) for event in world.of(K.ADDRESS_CONFLICT)] == [(ip("10.0.0.10"), mac(2))]


def test_our_own_mac_at_the_gateways_address_is_published() -> None:
    """A forged frame is reported; our own frames are not received."""
    world = with_gateway()
    world.hear(network().mac, GATEWAY, Evidence.ARP_REPLY)
    world.hear(network().mac, "10.0.0.2")
    assert kinds(world) == [K.GATEWAY_CHANGED]


def test_weak_evidence_makes_no_gateway() -> None:
    """The source address of an mDNS or NBNS packet makes no device the gateway."""
    world = World([network(gateway=GATEWAY)])
    say(world, mac(9), GATEWAY, Evidence.MDNS, name="gateway", name_source="mdns")
    device = world.inventory.devices[mac(9)]
    assert (device.is_gateway, device.ip, device.hostname) == (False, None, None)


@pytest.mark.parametrize("after", [10.0, 2 * HOUR])
@pytest.mark.parametrize("evidence", [Evidence.ARP_ANNOUNCEMENT, Evidence.ARP_REPLY, Evidence.PROXIED, Evidence.DHCP])
@pytest.mark.parametrize("who", [mac(99), mac(3)])
def test_a_claim_to_our_own_address_is_a_conflict_at_once(after: float, evidence: Evidence, who: Mac) -> None:
    """From any claimant, and however long we hold it; once in ten minutes for each claimant."""
    world = with_gateway()
    world.run(after)
    world.events.clear()
    for _ in range(20):
        world.hear(who, "10.0.0.2", evidence)
    published = [event for event in world.events if event.kind is not K.DISCOVERED]
    assert [(event.kind, event.other) for event in published] == [(K.ADDRESS_CONFLICT, network().mac)]
    holder = world.inventory.addresses.holder(network().id, ip("10.0.0.2"))
    assert holder is not None
    assert holder.is_self
    world.run(120)
    asked = Counter(probe.mac for _, probe in world.frames if probe.ip == ip("10.0.0.2"))
    assert asked.pop(None) <= 4 + after / HOUR, "only by probes of RFC 5227: once an hour, and the thief itself"
    assert set(asked) <= {mac(99)}, "the others have an address of their own"
    world.hear(mac(4), "10.0.0.2", evidence)
    world.now += 600
    world.hear(who, "10.0.0.2", evidence)
    assert len(world.of(K.ADDRESS_CONFLICT)) == 3


def test_a_claim_to_our_own_address_of_ipv6_is_a_conflict_too() -> None:
    world = with_gateway()
    say(world, mac(3), OWN6, Evidence.NDP)
    say(world, mac(4), OWN6, Evidence.PROXIED)
    assert kinds(world) == [K.ADDRESS_CONFLICT] * 2


FURTHER = ip("10.0.0.3"), ip("172.16.0.3"), v6(3)
"""Other addresses of this host on its interface: of the same prefix, of another one, and of IPv6."""


@pytest.mark.parametrize("claimed", FURTHER)
@pytest.mark.parametrize("seen_before", [False, True])
def test_a_claim_to_our_other_addresses_is_a_conflict(claimed: Ip, seen_before: bool) -> None:
    """Also by a device that was seen there before this host had the address."""
    world = with_gateway()
    if seen_before:
        say(world, mac(3), claimed, Evidence.NDP)
    world.set_networks([replace(network(gateway=GATEWAY), own6=OWN6, own_ips=frozenset(FURTHER))])
    world.run(120)
    world.events.clear()
    for number, evidence in ((3, Evidence.NDP), (4, Evidence.PROXIED), (99, Evidence.NDP)):
        for _ in range(5):
            say(world, mac(number), claimed, evidence)
    published = [
        (event.kind, event.device and event.device.mac) for event in world.events if event.kind is not K.DISCOVERED
    ]
    assert published == [(K.ADDRESS_CONFLICT, mac(number)) for number in (3, 4, 99)]
    assert all(event.other == network().mac for event in world.of(K.ADDRESS_CONFLICT))
    say(world, network().mac, claimed, Evidence.NDP)  # we ourselves
    assert len(world.of(K.ADDRESS_CONFLICT)) == 3


def test_a_third_claimant_of_an_address_is_published_too() -> None:
    """One conflict was published, and suppressed all others for ten minutes."""
    world = with_gateway()
    for claimant in (mac(91), mac(92)):
        for _ in range(3):
            world.run(1)
            world.hear(claimant, "10.0.0.10")
            world.hear(mac(2), "10.0.0.10")
    world.run(2)
    assert [event.device and event.device.mac for event in world.of(K.ADDRESS_CONFLICT)] == [mac(91), mac(92)]


def test_a_sleeping_phone_keeps_its_address() -> None:
    """Otherwise it had no address to probe, and was reported offline."""
    world = World(rules=Rules(10.0, 600.0, 900.0))
    world.alive(4)
    world.run(HOUR)
    world.unreachable = lambda probe: probe.ip == ip("10.0.0.10")
    world.run(120)
    world.hear(mac(99), "10.0.0.10", Evidence.ARP_ANNOUNCEMENT)
    world.run(400)
    world.hear(mac(1), "10.0.0.10")
    assert not [event for event in world.of(K.OFFLINE) if event.device and event.device.mac == mac(1)]
    assert world.of(K.ADDRESS_CONFLICT)


def test_made_up_dhcp_servers_hide_no_impostor() -> None:
    """They neither use up the budget of impostors nor evict the known server from the table."""
    world = with_gateway()

    def serves(sender: Mac, at: str) -> None:
        say(world, sender, at, Evidence.DHCP, dhcp_server=ip(at))

    serves(mac(1), GATEWAY)
    for number in range(200):
        world.now += 60
        for more in range(3):
            serves(mac(0x100000 + 3 * number + more), f"10.0.0.{20 + number}")
    world.events.clear()
    for _ in range(3):
        serves(mac(99), GATEWAY)
    published = [(event.device and event.device.mac, event.other) for event in world.of(K.DHCP_SERVER_SEEN)]
    assert published == [(mac(99), mac(1))]
    serves(mac(1), GATEWAY)
    assert len(world.of(K.DHCP_SERVER_SEEN)) == 1, "a server that was reported is not new again"


# ---- M2: believed without proof --------------------------------------------------------------------------------------


def test_a_kernel_neighbour_is_probed_and_not_present() -> None:
    """Forged ARP replies, which count as proxied here, poison the kernel's cache."""
    world = World(rules=QUICK)
    world.alive(4)
    world.run(60)
    del world.hosts[2, ip("10.0.0.10")]
    for _ in range(60):
        world.run(1)
        world.hear(mac(1), "10.0.0.10", Evidence.PROXIED)
        world.hear(mac(1), "10.0.0.10", Evidence.NEIGHBOUR)
        world.hear(mac(99), "10.0.0.99", Evidence.NEIGHBOUR)
    assert world.inventory.devices[mac(1)].status is Status.OFFLINE
    assert not world.of(K.ONLINE)
    assert mac(99) not in world.inventory.devices


def test_a_kernel_neighbour_is_discovered_by_a_probe() -> None:
    """A reachable neighbour is probed, and its answer discovers it."""
    world = World([network(interval=86_400)], rules=QUICK)
    world.alive(2)
    world.run(60)
    away = world.hosts.pop((2, ip("10.0.0.10")))
    world.run(60)
    assert world.inventory.devices[away].status is Status.OFFLINE
    world.hosts[2, ip("10.0.0.10")] = away
    world.hosts[2, ip("10.0.0.99")] = mac(99)
    world.hear(away, "10.0.0.10", Evidence.NEIGHBOUR)
    world.hear(mac(99), "10.0.0.99", Evidence.NEIGHBOUR)
    world.run(0.1)
    assert world.inventory.devices[away].status is Status.ONLINE
    assert world.inventory.devices[mac(99)].addresses[0].evidence is Evidence.ARP_REPLY


def test_a_dhcp_ack_is_a_reason_to_probe_and_no_presence() -> None:
    """Any host can send an ACK, which must neither keep a device online nor make one up."""
    world = World([network(interval=86_400)], rules=QUICK)
    world.alive(4)
    world.run(60)
    away = world.hosts.pop((2, ip("10.0.0.10")))
    world.run(60)
    for client, at in ((away, "10.0.0.10"), (mac(99), "10.0.0.99")):
        for _ in range(10):
            world.run(1)
            say(world, client, at, Evidence.PROXIED, joining=True)
    assert world.inventory.devices[away].status is Status.OFFLINE
    assert mac(99) not in world.inventory.devices
    world.hosts |= {(2, ip("10.0.0.10")): away, (2, ip("10.0.0.99")): mac(99)}
    say(world, away, "10.0.0.10", Evidence.PROXIED, joining=True)
    say(world, mac(99), "10.0.0.99", Evidence.PROXIED, joining=True)
    world.run(0.1)
    assert {world.inventory.devices[each].status for each in (away, mac(99))} == {Status.ONLINE}


def test_candidates_are_probed_within_a_budget() -> None:
    world = World([network(interval=86_400)])
    world.run(60)
    world.frames.clear()
    for number in range(10_000):
        world.now += 0.01
        world.hear(mac(1_000 + number), f"10.0.0.{20 + number % 200}", Evidence.NEIGHBOUR)
        world._turn()
    assert 100 < len(world.frames) < 16 + 2 * 100 + 20
    assert all(probe.mac is not None for _, probe in world.frames)


@pytest.mark.parametrize("lost", [True, False])
def test_unsolicited_frames_end_no_scan_of_an_address(lost: bool) -> None:
    """An mDNS packet with a forged source address hid that address from a scan whose first try was lost."""
    world = World([network("10.0.0.0/28", interval=DAY)], rules=QUICK, delay=0.01)
    world.alive(1)
    world.run(60)
    away = world.hosts.pop((2, ip("10.0.0.10")))
    world.run(60)
    assert world.inventory.devices[away].status is Status.OFFLINE
    world.hosts[2, ip("10.0.0.10")] = away
    spoofed = set()

    def spoof(probe: Probe) -> bool:
        if probe.ip not in spoofed:
            spoofed.add(probe.ip)
            world._air.append((world.now, Observation(world.now, 2, mac(99), probe.ip, Evidence.MDNS)))
            return lost
        return False

    world.unreachable = spoof
    world.inventory.devices[away].rtt = None
    world.planner.request_scan(["10.0.0.10"], world.now)
    world.run(5)
    assert world.inventory.devices[away].status is Status.ONLINE
    assert world.inventory.devices[away].rtt is not None


# ---- M3: made-up devices that fall silent ----------------------------------------------------------------------------


def crowd(world: World, count: int = 150) -> Callable[[Probe], bool]:
    """Made-up devices that answer for a while; what it returns makes them deaf."""
    for number in range(count):
        world.hosts[2, ip(f"10.0.0.{100 + number}")] = mac(1_000 + number)
    return lambda probe: probe.ip >= ip("10.0.0.100")


@pytest.mark.parametrize(
    ("real", "residents", "made_up", "gateway"),
    [
        (20, 0.0, 0.0, False), (20, DAY, 0.0, False), (6, 0.0, 0.0, False), (6, 30 * DAY, 2 * DAY, False),
        (6, 0.0, 0.0, True),
    ],
)  # fmt: skip
def test_made_up_devices_hide_no_device_that_leaves(real: int, residents: float, made_up: float, gateway: bool) -> None:
    """150 of them answer for days and fall silent at once; the devices that still answer prevent an outage."""
    world = World([network(gateway="10.0.0.10" if gateway else None)], rules=QUICK)
    world.alive(real)
    world.run(600)
    age(world, residents - made_up)
    unreachable = crowd(world)
    world.run(300)
    age(world, made_up)
    assert world.inventory.devices[mac(1_149)].confirmed
    world.events.clear()
    others = [world.inventory.devices[mac(number)] for number in range(1, real)]
    since = [device.status_since for device in others]
    world.unreachable = unreachable
    del world.hosts[2, ip(f"10.0.0.{9 + real}")]
    left = world.now
    world.run(60)
    (published,) = [event for event in world.of(K.OFFLINE) if event.device and event.device.mac == mac(real)]
    assert published.at < left + 30
    assert not world.of(K.NETWORK_SILENT)
    assert {device.status for device in others} == {Status.ONLINE}
    assert [device.status_since for device in others] == since


def test_while_the_gateway_answers_no_network_is_silent() -> None:
    world = World([network(gateway="10.0.0.10")], rules=QUICK)
    world.alive(30)
    world.run(600)
    world.events.clear()
    world.unreachable = lambda probe: probe.ip != ip("10.0.0.10")
    world.run(60)
    assert kinds(world) == [K.OFFLINE] * 29


def test_broadcasts_of_the_gateway_are_no_answer() -> None:
    """Law 8: if our probes are lost while its broadcasts still arrive, we are blind."""
    world = World([network(gateway="10.0.0.10")], rules=QUICK)
    world.alive(30)
    world.run(600)
    world.events.clear()
    world.unreachable = lambda probe: True
    for _ in range(120):
        world.hear(mac(1), "10.0.0.10")
        world.run(0.5)
    assert kinds(world)[:1] == [K.NETWORK_SILENT]
    assert not world.of(K.OFFLINE)


def test_a_candidate_whose_probe_failed_is_probed_again() -> None:
    """An interface that refuses to send blocks no MAC for later."""
    world = World(rules=QUICK)
    seen = Observation(world.now, 2, mac(9), ip("10.0.0.9"), Evidence.NEIGHBOUR)
    net = next(iter(world.inventory.networks.values()))
    assert world.inventory._candidates.add(seen, net, None)
    assert not world.inventory._candidates.add(seen, net, None)
    world.inventory.drop_probes([Probe(net, ip("10.0.0.9"), mac(9))], world.now)
    assert world.inventory._candidates.add(seen, net, None)


def test_devices_that_cannot_be_probed_make_no_outage() -> None:
    """They have only IPv6 addresses, and this host lost its own."""
    world = World([replace(network(), own6=OWN6)], rules=QUICK)
    world.alive(6)
    for number in range(40):
        world.hosts[2, v6(number)] = mac(100 + number)
        say(world, mac(100 + number), v6(number), Evidence.NDP)
    world.run(120)
    assert world.inventory.devices[mac(139)].confirmed
    age(world)
    world.set_networks([network()])
    world.run(20)
    world.events.clear()
    del world.hosts[2, ip("10.0.0.10")]
    world.run(60)
    assert [(event.kind, event.device and event.device.mac) for event in world.events] == [(K.OFFLINE, mac(1))]


def test_a_device_that_answers_in_an_outage_stays_online() -> None:
    """Its own `online` event, with its old time, follows the one of the network."""
    world = World(rules=QUICK)
    world.alive(30)
    world.run(8000)
    world.events.clear()
    since = world.inventory.devices[mac(30)].status_since
    world.hosts = {place: each for place, each in world.hosts.items() if each > mac(26)}
    seen: list[Status] = []
    while not world.of(K.NETWORK_SILENT):
        world.run(1)
    seen = [world.inventory.devices[mac(number)].status for number in range(27, 31)]
    assert seen == [Status.ONLINE] * 4
    assert world.inventory.devices[mac(30)].status_since == since
    assert {world.inventory.devices[mac(number)].status for number in range(1, 27)} == {Status.UNKNOWN}
    assert [event.kind for event in world.events] == [K.NETWORK_SILENT] + [K.ONLINE] * 4
    assert [event.previous and event.previous["status"] for event in world.of(K.ONLINE)] == [Status.UNKNOWN] * 4


def test_repeated_outages_are_published_a_few_times_an_hour() -> None:
    """All devices there belong to one host, which lets them fall silent and answer again."""
    world = World(rules=QUICK)
    world.alive(30)
    world.run(600)
    begun = world.now
    for _ in range(200):
        world.unreachable = lambda probe: True
        world.run(40)
        world.unreachable = lambda probe: False
        for number in range(30):
            world.hear(mac(number + 1), f"10.0.0.{10 + number}")
        world.run(20)
    assert 3 <= len(world.of(K.NETWORK_SILENT)) <= 3 + 6 * (world.now - begun) / HOUR
    assert not world.of(K.OFFLINE)


# ---- M4: a flood of made-up MACs -------------------------------------------------------------------------------------


def test_a_flood_forgets_nothing_that_a_user_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a device that never answers, neither while it runs nor at a restart."""
    monkeypatch.setattr(limits, "MOST_UNCONFIRMED", 20)
    world = World()
    words: tuple[dict[str, object], ...] = (
        {"label": "alarm"},
        {"known": True},
        {"notes": "in the attic"},
        {"patience": 300.0},
    )
    for number, said in enumerate(words):
        world.hear(mac(number), f"10.0.0.{20 + number}")
        world.inventory.label(mac(number), said, world.now)
    for number in range(200):
        world.now += 60
        world.hear(mac(1_000 + number), f"10.0.0.{50 + number}")
    devices = world.inventory.devices
    assert [devices[mac(number)].label for number in range(4)] == ["alarm", None, None, None]
    assert len(devices) == 1 + 20
    again = World()
    again.inventory.restore([each for each in devices.values() if not each.is_self], {"eth0": 2}, world.now)
    assert {mac(number) for number in range(4)} <= again.inventory.devices.keys()


def test_devices_that_answered_for_an_hour_push_no_resident_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is absent stays in the inventory; made-up ones that are offline make room for each other."""
    monkeypatch.setattr(limits, "MOST_CONFIRMED", 40)
    world = World([network(interval=86_400)], rules=QUICK)
    world.alive(10)
    world.run(600)
    age(world)
    for number in (10, 11, 12):
        del world.hosts[2, ip(f"10.0.0.{number}")]
    world.run(600)
    for number in range(200):
        answer(world, mac(1_000 + number), f"10.0.0.{30 + number}")
        world.run(60)
    devices = world.inventory.devices
    assert {mac(number) for number in range(1, 11)} <= devices.keys()
    assert mac(1_199) in devices
    for number in range(100):  # and these stay
        world.hosts[2, ip(f"10.0.0.{30 + number}")] = mac(2_000 + number)
        answer(world, mac(2_000 + number), f"10.0.0.{30 + number}")
    assert {mac(number) for number in range(1, 11)} <= devices.keys()
    assert sum(device.confirmed for device in devices.values()) <= 40


def test_a_refused_device_evicts_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a full table and no budget for new devices, none is evicted."""
    monkeypatch.setattr(limits, "MOST_CONFIRMED", 5)
    world = World([network(interval=DAY)], rules=QUICK)
    world.alive(5)
    world.run(60)
    world.hosts.clear()
    world.run(900)
    assert len(world.of(K.OFFLINE)) == 5
    while world.inventory.budgets.take(NEWCOMERS_THAT_ANSWER, 2, world.now):
        pass
    answer(world, mac(99), "10.0.0.99")
    known = {device.mac for device in world.inventory.devices.values() if not device.is_self}
    assert known == {mac(number) for number in range(1, 6)}
    assert kinds(world)[-1] is K.FLOOD
