"""Names looked up at an address that strangers claim, leave or take over."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Network, ip_address

import pytest

from netscand.core.disputes import APART
from netscand.core.model import EventKind, Evidence, Ip, Mac
from netscand.core.ratelimit import DAY
from netscand.engine import Engine, Numbers
from netscand.lan import name_lookup, name_queue
from netscand.lan.name_lookup import Effort, Resolver, Unanswered
from netscand.lan.name_queue import LONGEST_RETRY, PATIENT, QUICK
from netscand.lan.name_queue import ROUND_APART as ROUND
from tests.core.test_attacks import age, say, with_gateway
from tests.core.test_engine import Cable, Tape
from tests.core.test_name_queue import ANSWERED, NET, Lan
from tests.core.virtual_loop import VirtualLoop, run
from tests.core.world import World, ip, mac

HOME = "10.0.0.0/24@eth0"
PHONE, STRANGER = mac(3), mac(0x666)
AT = ip("10.0.0.11")
"""The phone's, in `with_gateway`."""


def queried_at(world: World, who: Mac, *, by_dns: bool = True) -> Ip | None:
    return world.inventory.query_address(who, HOME, world.now, by_dns=by_dns)


def home() -> World:
    """A LAN whose phone is known for days."""
    world = with_gateway()
    age(world)
    world.run(1)
    assert queried_at(world, PHONE) == AT
    return world


# ---- whose name it is -----------------------------------------------------------------------------------------------


def test_a_claimant_is_not_looked_up_at_a_disputed_address() -> None:
    """A name server knows the phone there, and a stranger claimed the address once."""
    world = home()
    say(world, STRANGER, AT)
    world.run(3)
    assert world.of(EventKind.ADDRESS_CONFLICT)
    assert queried_at(world, STRANGER) is queried_at(world, STRANGER, by_dns=False) is None
    say(world, PHONE, AT)
    assert queried_at(world, PHONE) == AT, "it had the address before"
    assert not world.inventory.may_take_name(STRANGER, HOME, AT, world.now, by_dns=True)
    world.now += APART
    say(world, STRANGER, AT)
    assert queried_at(world, STRANGER) is None


def test_the_taker_of_a_sleepers_address_gets_no_name() -> None:
    """A stranger that takes the address of a sleeping device does not get its name by reverse DNS."""
    world = home()
    del world.hosts[2, AT]
    world.run(3600)
    assert world.inventory.devices[PHONE].status == "offline"
    say(world, STRANGER, AT)
    assert world.of(EventKind.ADDRESS_MOVED)
    world.hosts[2, AT] = STRANGER
    world.run(APART + 60)
    assert (queried_at(world, STRANGER), queried_at(world, STRANGER, by_dns=False)) == (None, AT)
    world.now += DAY
    say(world, STRANGER, AT)
    assert queried_at(world, STRANGER) == AT, "it keeps the address"


def test_of_two_strangers_at_one_address_neither_gets_a_name() -> None:
    """Of two strangers at one address, neither is known to own the name."""
    world = with_gateway()
    for who in (STRANGER, mac(0x667), STRANGER):
        say(world, who, "10.0.0.99")
        assert queried_at(world, mac(0x667)) is None
        world.run(1)
    assert queried_at(world, STRANGER) is queried_at(world, mac(0x667)) is None


def test_a_moved_device_is_queried_at_its_new_address() -> None:
    """An answer about the old address is void."""
    world = home()
    world.hosts[2, ip("10.0.0.90")] = world.hosts.pop((2, AT))
    say(world, PHONE, "10.0.0.90", Evidence.ARP_ANNOUNCEMENT, joining=True)
    assert queried_at(world, PHONE) == ip("10.0.0.90")
    say(world, STRANGER, AT)
    world.run(3)
    assert not world.inventory.may_take_name(PHONE, HOME, AT, world.now, by_dns=True)
    assert world.inventory.may_take_name(PHONE, HOME, ip("10.0.0.90"), world.now, by_dns=True)


def test_a_shared_address_gives_no_name_after_a_restart() -> None:
    """Which of the two devices held it first is no longer known."""
    world = home()
    say(world, STRANGER, AT)
    after = with_gateway(alive=0)
    known = [world.inventory.devices[each] for each in (PHONE, STRANGER)]
    after.inventory.restore(known, {"eth0": 2}, after.now)
    assert queried_at(after, PHONE) is queried_at(after, STRANGER) is None


def test_the_disputes_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from netscand.core import claims as core_names

    monkeypatch.setattr(core_names, "MOST_DISPUTED", 3)
    world = home()
    disputes = world.inventory.claims.disputes
    for number in range(10):
        disputes.add(HOME, Ip(bytes([10, 0, 0, number])), None, world.now)
    assert len(disputes._known) == 3


def test_only_own_prefixes_are_looked_up_in_dns() -> None:
    """Otherwise a device that chooses its address would choose the name server that gets the query."""
    world = World([replace(NET, id=HOME, prefixes6=(IPv6Network("fd77::/64"),))])
    for number, address in enumerate(("2001:db8:bad::1", "fd77::9", "fe80::9")):
        say(world, mac(number), Ip(ip_address(address).packed))
    assert [queried_at(world, mac(number)) for number in range(3)] == [None, Ip(ip_address("fd77::9").packed), None]
    assert all(queried_at(world, mac(number), by_dns=False) for number in range(3)), "its answer names itself"
    say(world, mac(0), "10.0.0.9")
    assert queried_at(world, mac(0)) == ip("10.0.0.9")


def test_no_router_chooses_who_names_a_device_that_has_ipv4() -> None:
    """FAULTS T59: any host may advertise a prefix; all take addresses of it, and its zone is the advertiser's."""
    world = World([replace(NET, id=HOME, prefixes6=(IPv6Network("2001:db8:bad::/64"),))])
    for address in (ip("10.0.0.9"), Ip(ip_address("2001:db8:bad::9").packed)):
        world.now += 1
        say(world, mac(9), address)
    assert queried_at(world, mac(9)) == ip("10.0.0.9")
    say(world, STRANGER, ip("10.0.0.9"))
    world.run(1)
    say(world, mac(9), ip("10.0.0.9"))
    world.run(2)
    assert world.of(EventKind.ADDRESS_CONFLICT), "now it may not be asked for by IPv4"
    assert queried_at(world, mac(9)) is None
    assert queried_at(world, mac(9), by_dns=False) is not None


def test_mdns_queries_the_link_local_address() -> None:
    """Responders answer from their link-local address."""
    world = World([replace(NET, id=HOME, prefixes6=(IPv6Network("fd77::/64"),))])
    for address in ("fe80::9", "fd77::9"):
        world.now += 1
        say(world, mac(9), Ip(ip_address(address).packed))
    assert queried_at(world, mac(9)) == Ip(ip_address("fd77::9").packed)
    assert queried_at(world, mac(9), by_dns=False) == Ip(ip_address("fe80::9").packed)


def test_an_answer_counts_only_for_the_current_holder() -> None:
    """A name goes to a device only while it holds the address, as the daemon is wired."""
    world = home()
    engine = Engine(world.inventory, world.planner, Cable(), Numbers("x"), Tape(), lambda: world.now)
    say(world, STRANGER, AT)
    engine.named(STRANGER, "phone.lan", "dns", world.now, HOME, AT)
    engine.named(STRANGER, "phone", "mdns", world.now, HOME, AT)
    engine.named(mac(2), "other.lan", "dns", world.now, HOME, AT)
    assert [world.inventory.devices[each].hostname for each in (STRANGER, mac(2))] == [None, None]
    engine.named(mac(2), "other.lan", "dns", world.now, HOME, ip("10.0.0.10"))
    assert world.inventory.devices[mac(2)].hostname == "other.lan"


# ---- who is asked, and when -----------------------------------------------------------------------------------------


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    for module in (name_queue, name_lookup):
        monkeypatch.setattr(module, "monotonic", made.time)
    yield made
    made.close()


class Server(Resolver):
    """A name server that answers for the addresses of real devices, and waits in vain for all others."""

    def __init__(self, loop: VirtualLoop, dead: bool = False, slow: bool = False) -> None:
        self.loop = loop
        self.slow = slow
        self.dead = dead
        self.queried: list[tuple[float, Ip]] = []

    async def name_of(self, ip: Ip, effort: Effort) -> str | None:
        self.queried.append((self.loop.time(), ip))
        if self.dead or ip[:3] != b"\x0a\x00\x01":
            await asyncio.sleep(effort.wait * effort.tries)
            raise Unanswered("no answer")
        needed = 1.5 if self.slow else 0.01
        await asyncio.sleep(min(needed, effort.wait * effort.tries))
        if effort.wait < needed:
            raise Unanswered("no answer")
        return "slow.lan"


def with_server(loop: VirtualLoop, **how: bool) -> tuple[Lan, Server]:
    lan, server = Lan(loop), Server(loop, **how)
    lan.names._resolver = server
    lan.networks[NET.id] = replace(NET, own6=Ip(ip_address("fe80::2").packed))
    return lan, server


@pytest.mark.parametrize("count", [256, 1280])
@pytest.mark.parametrize("length", [4, 16])
def test_addresses_that_no_server_answers_for_delay_no_newcomer(loop: VirtualLoop, count: int, length: int) -> None:
    """256 devices that answer us, with one address each or five; before, 1,500 s were not enough."""
    lan, server = with_server(loop)
    came: dict[Ip, float] = {}

    def script() -> Iterator[float]:
        for number in range(count):
            who = mac(0x200000 + number % 256)
            lan.urgency[who] = ANSWERED
            lan.want(who, Ip(number.to_bytes(length)), NET)
        yield 2.0
        for number in range(5):
            address = ip(f"10.0.1.{number + 1}")
            lan.urgency[mac(number)] = ANSWERED
            came[address] = loop.time()
            lan.want(mac(number), address, NET)
            yield 300.0

    run(loop, lan.run(script, 1700))
    first = {address: at for at, address in reversed(server.queried)}
    by_dns = [first.get(address, 1e9) - at for address, at in came.items()]
    by_mdns = [lan.queried.get((5353, address), 1e9) - at for address, at in came.items()]
    print(max(by_dns), max(by_mdns))
    assert len(came) == 5
    assert max(by_dns) < 4
    assert max(by_mdns) < 4
    assert len([at for at, address in server.queried if at < 1000 + 100]) > 256, "the others are asked for, too"


def test_a_device_is_looked_up_once_for_all_addresses(loop: VirtualLoop) -> None:
    """Many addresses cause no further queries."""
    lan, server = with_server(loop)

    def script() -> Iterator[float]:
        for number in range(20):
            lan.want(mac(1), Ip(number.to_bytes(16)), NET)
        lan.want(mac(1), ip("10.0.1.9"), NET)
        yield 0

    run(loop, lan.run(script, 20))
    assert [address for _, address in server.queried] == [ip("10.0.1.9")]
    assert [port for _, _, port in lan.frames] == [5353, 137]


def test_the_next_round_uses_the_current_address(loop: VirtualLoop) -> None:
    """An hour later, only the address that the device holds by then is queried, not the one that it left."""
    lan, server = with_server(loop)
    lan.lacking = ("dns",)

    def script() -> Iterator[float]:
        lan.want(mac(1), ip("10.0.1.11"), NET)
        yield ROUND / 2
        lan.want(mac(1), ip("10.0.1.90"), NET)

    run(loop, lan.run(script, 4 * ROUND))
    assert {address for at, address in server.queried if at > 1000 + ROUND / 2} == {ip("10.0.1.90")}


def test_a_lookup_waits_while_the_address_is_disputed(loop: VirtualLoop) -> None:
    """A device whose address is disputed is looked up later."""
    lan, server = with_server(loop)

    def script() -> Iterator[float]:
        lan.want(mac(1), ip("10.0.1.11"), NET)
        del lan.places[mac(1), NET.id]
        yield 20
        assert not server.queried
        assert not lan.frames
        lan.places[mac(1), NET.id] = ip("10.0.1.11")

    run(loop, lan.run(script, 60))
    assert [address for _, address in server.queried] == [ip("10.0.1.11")]
    assert [port for _, _, port in lan.frames] == [5353, 137]


def test_a_dead_name_server_is_queried_less_and_less(loop: VirtualLoop, caplog: pytest.LogCaptureFixture) -> None:
    """F17. Each device is queried at least every 15 minutes, so that it gets its name when the server is back."""
    caplog.set_level("INFO")
    lan, server = with_server(loop, dead=True)

    def script() -> Iterator[float]:
        for number in range(60):
            lan.urgency[mac(number)] = ANSWERED
            lan.want(mac(number), ip(f"10.0.1.{number}"), NET)
        yield 0

    run(loop, lan.run(script, 3 * 3600))
    hours = Counter(int(at - 1000) // 3600 for at, _ in server.queried)
    print(hours)
    assert max(hours.values()) <= 60 * 9
    assert hours[2] <= 60 * (3600 / LONGEST_RETRY)
    last = {address: at for at, address in server.queried}
    assert min(last.values()) > 1000 + 3 * 3600 - LONGEST_RETRY - 60 * PATIENT.wait * PATIENT.tries
    assert caplog.text.count("no name server answers") == 1, "once a day, for as long as it is dead"


def test_a_slow_name_server_is_queried_again_for_longer(loop: VirtualLoop) -> None:
    """The first query is brief, because the next device waits meanwhile."""
    lan, server = with_server(loop, slow=True)

    def script() -> Iterator[float]:
        lan.want(mac(1), ip("10.0.1.9"), NET)
        yield 0

    run(loop, lan.run(script, 1000))
    assert lan.found == [(mac(1), "slow.lan", "dns", NET.id, ip("10.0.1.9"))]
    assert len(server.queried) == 2


def test_what_is_tried_at_first_is_short() -> None:
    """Three servers, and all of PARALLEL queries unanswered: the next one still waits only for seconds."""
    assert 3 * QUICK.wait * QUICK.tries < 3
