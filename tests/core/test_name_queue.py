"""Order and pace of name lookups, in virtual time, with a crowd of made-up devices before the real ones."""

import asyncio
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise

import pytest

from netscand.core.claims import urgency
from netscand.core.model import Ip, Mac, Network, NetworkState
from netscand.lan import dns, name_lookup, name_queue
from netscand.lan.dns import reverse
from netscand.lan.name_lookup import Effort, Resolver, pointed_to
from netscand.lan.name_queue import MOST_STRANGERS, Lookup, NameQueue, Names
from tests.core.virtual_loop import VirtualLoop, run
from tests.core.world import World, ip, mac, network

NET = network("10.0.0.0/16")
FAR = network("10.9.0.0/16", "eth1", 3)
DESCRIBED, ANSWERED, STRANGER = range(3)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    for module in (name_queue, name_lookup):
        monkeypatch.setattr(module, "monotonic", made.time)
    yield made
    made.close()


class Nobody(Resolver):
    """A name server that knows no device."""

    async def name_of(self, ip: Ip, effort: Effort) -> str | None:
        await asyncio.sleep(0.01)
        return None


class Lan:
    """Where questions go: who was asked by mDNS and by NBNS, when first; and each frame."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.frames: list[tuple[float, str, int]] = []
        """When, on which network, from which port's protocol."""
        self.queried: dict[tuple[int, Ip], float] = {}
        self.urgency: dict[Mac, int] = {}
        self.places: dict[tuple[Mac, str], Ip] = {}
        self.room = True
        self.lacking: tuple[str, ...] = ("mdns", "dns", "nbns")
        self.networks = {each.id: each for each in (NET, FAR)}
        self.refused: list[str] = []
        self.found: list[tuple[Mac, str, str, str, Ip]] = []
        self.names = Names(
            self, lambda mac: self.urgency.get(mac, STRANGER), self.say, Nobody(), self.refused.append
        )  # fmt: skip

    def missing_sources(self, mac: Mac) -> tuple[str, ...]:
        return self.lacking

    def may_probe(self, network: str, to_all: bool) -> bool:
        return self.room

    def want(self, mac: Mac, ip: Ip, network: Network) -> None:
        """Let a device come to an address."""
        self.places[mac, network.id] = ip
        self.names.request_name(mac, ip, network)

    def query_address(self, mac: Mac, network: str, *, by_dns: bool) -> Ip | None:
        return self.places.get((mac, network))

    def named(self, mac: Mac, name: str, source: str, at: float, network: str, ip: Ip) -> None:
        self.found.append((mac, name, source, network, ip))

    def say(self, network: Network, frame: bytes) -> None:
        if frame[12:14] == b"\x86\xdd":
            return
        port = int.from_bytes(frame[36:38])
        self.frames.append((self.loop.time(), network.id, port))
        if port == 137:
            self.queried.setdefault((port, Ip(frame[30:34])), self.loop.time())
            return
        message = dns.read(frame[42:])
        assert message is not None
        for question in message.questions:
            labels = dns.labels(message.raw, question.name_at)
            assert labels is not None
            self.queried.setdefault((port, Ip(bytes(map(int, reversed(labels[:4]))))), self.loop.time())

    async def run(self, script: Callable[[], Iterator[float]], seconds: float) -> None:
        """Let `script` work, that says after how many seconds it goes on, and end everything then."""

        async def work() -> None:
            for pause in script():
                await asyncio.sleep(pause)

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self.names.run()), tasks.create_task(work())]
            await asyncio.sleep(seconds)
            for task in running:
                task.cancel()


def made_up(number: int) -> tuple[Mac, Ip]:
    return Mac(b"\x06\x00" + number.to_bytes(4)), Ip(IPv4Address(int(IPv4Address("10.0.4.0")) + number % 60_000).packed)


@pytest.mark.slow
@pytest.mark.parametrize("answering", [False, True], ids=["never answer", "answer ARP"])
def test_a_flood_of_new_devices_delays_no_real_name(loop: VirtualLoop, answering: bool) -> None:
    """At 4 a second, which admission allows permanently; before, a real device waited for hours."""
    lan = Lan(loop)
    came: dict[Ip, float] = {}

    def flood() -> Iterator[float]:
        for second in range(1600):
            for number in range(4):
                who, where = made_up(4 * second + number)
                lan.urgency[who] = ANSWERED if answering else STRANGER
                lan.want(who, where, NET)
            if second and not second % 300:
                address = ip(f"10.0.1.{second // 300}")
                came[address] = loop.time()
                lan.want(mac(second), address, NET)
            if second % 300 == 20:
                lan.urgency[mac(second - 20)] = ANSWERED  # the scan found it
            yield 1.0

    run(loop, lan.run(flood, 1700))
    waited = {port: [lan.queried.get((port, who), 1e9) - at for who, at in came.items()] for port in (5353, 137)}
    print({port: max(each) for port, each in waited.items()})
    assert len(came) == 5
    assert max(waited[5353]) < 40
    assert max(waited[137]) < 90


def test_annotated_devices_first_then_confirmed_ones(loop: VirtualLoop) -> None:
    """Then strangers."""
    lan = Lan(loop)

    def crowd() -> Iterator[float]:
        for number in range(300):
            who, where = made_up(number)
            lan.urgency[who] = {100: DESCRIBED, 200: ANSWERED}.get(number, STRANGER)
            lan.want(who, where, NET)
        yield 0

    run(loop, lan.run(crowd, 120))
    order = [who for port, who in lan.queried if port == 5353]
    assert [order.index(made_up(number)[1]) for number in (100, 200)] == [0, 1]
    assert len(order) == 300


def test_one_mdns_frame_a_second_on_each_network(loop: VirtualLoop) -> None:
    """One frame asks for several devices."""
    lan = Lan(loop)

    def crowd() -> Iterator[float]:
        for number in range(80):
            who, where = made_up(number)
            lan.urgency[who] = ANSWERED
            lan.want(who, where, NET)
        lan.want(mac(1), ip("10.9.0.9"), FAR)
        lan.urgency[mac(1)] = ANSWERED
        yield 0

    run(loop, lan.run(crowd, 25))
    to_all = [(at, where) for at, where, port in lan.frames if port == 5353]
    at = [when for when, where in to_all if where == NET.id]
    assert len(at) == 10
    assert all(after - before >= name_queue.MDNS_APART for before, after in pairwise(at))
    assert lan.queried[5353, ip("10.9.0.9")] - 1000 < 3, "it waits behind another network's"
    to_one = [when for when, where, port in lan.frames if port == 137]
    assert len(to_one) == 81
    assert all(sum(each <= when < each + 1 for when in to_one) <= 2 / name_queue.NBNS_APART for each in to_one)


def test_a_device_without_a_name_is_queried_twice(loop: VirtualLoop) -> None:
    """Then it waits for the next round."""
    lan = Lan(loop)

    def one() -> Iterator[float]:
        lan.want(mac(1), ip("10.0.0.9"), NET)
        yield 0

    run(loop, lan.run(one, 3000))
    assert [port for _, _, port in lan.frames] == [5353, 137] * 2


def test_a_device_named_meanwhile_is_not_queried_again(loop: VirtualLoop) -> None:
    """The next protocol is not tried."""
    lan = Lan(loop)

    def one() -> Iterator[float]:
        lan.want(mac(1), ip("10.0.0.9"), NET)
        yield name_queue.SETTLE + name_lookup.LAN_WAIT / 2
        lan.lacking = ()

    run(loop, lan.run(one, 300))
    assert [port for _, _, port in lan.frames] == [5353]


def test_what_there_is_no_room_for_waits(loop: VirtualLoop) -> None:
    lan = Lan(loop)
    lan.room = False

    def one() -> Iterator[float]:
        lan.want(mac(1), ip("10.0.0.9"), NET)
        yield 100
        assert not lan.frames
        lan.room = True

    run(loop, lan.run(one, 110))
    assert [port for _, _, port in lan.frames] == [5353, 137]


def test_questions_come_from_the_address_that_we_have_now(loop: VirtualLoop) -> None:
    """And on a network that is gone or down no device is looked up, now or later."""
    lan = Lan(loop)
    sent: list[bytes] = []
    lan.names._queries._send = lambda network, frame: sent.append(frame)

    def script() -> Iterator[float]:
        lan.want(mac(1), ip("10.0.0.9"), NET)
        lan.want(mac(2), ip("10.9.0.9"), FAR)
        lan.networks = {NET.id: replace(NET, own=ip("10.0.0.77")), FAR.id: replace(FAR, state=NetworkState.DOWN)}
        yield 20
        lan.networks = {FAR.id: FAR}
        yield 100
        assert not any(len(queue) for queue in (lan.names._for_mdns, lan.names._for_nbns))

    run(loop, lan.run(script, 130))
    assert [frame[26:30] for frame in sent] == [ip("10.0.0.77")] * 2


def test_a_dropped_lookup_is_counted(loop: VirtualLoop) -> None:
    """The `name_queue` budget reports it."""
    lan = Lan(loop)

    def crowd() -> Iterator[float]:
        for number in range(MOST_STRANGERS):
            lan.want(*made_up(number), NET)
        assert not lan.refused
        lan.want(*made_up(MOST_STRANGERS), NET)
        assert set(lan.refused) == {NET.id}
        yield 0

    run(loop, lan.run(crowd, 1))


def test_thousands_of_named_devices_block_no_turn(loop: VirtualLoop) -> None:
    """The loop gets a turn after each piece."""
    lan = Lan(loop)
    lan.lacking = ()
    turns = 0

    def crowd() -> Iterator[float]:
        nonlocal turns
        for number in range(2000):
            lan.urgency[made_up(number)[0]] = ANSWERED
            lan.want(*made_up(number), NET)
        yield name_queue.SETTLE
        while any(len(queue) for queue in (lan.names._for_mdns, lan.names._for_dns, lan.names._for_nbns)):
            turns += 1
            yield 0

    run(loop, lan.run(crowd, 60))
    assert turns > 100
    assert not lan.frames


# ---- the queue ------------------------------------------------------------------------------------------------------


def wanted(number: int, where: Network = NET, *, is_first: bool = True) -> Lookup:
    return Lookup(*made_up(number), where.id, is_first)


def test_a_queue_is_bounded_and_returns_the_dropped_one(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stranger that has waited longest is dropped."""
    monkeypatch.setattr(name_queue, "MOST_WAITING", 4)
    monkeypatch.setattr(name_queue, "MOST_STRANGERS", 2)
    urgent: set[Mac] = set()
    queue = NameQueue(lambda mac: ANSWERED if mac in urgent else STRANGER)
    gone = [queue.put(0.0, wanted(number)) for number in range(4)]
    assert gone == [None, None, wanted(0), wanted(1)]
    urgent |= {made_up(number)[0] for number in range(10, 20)}
    for is_first in (False, True):
        put = [wanted(number + 5 * is_first, is_first=is_first) for number in range(10, 15)]
        assert [queue.put(0.0, each) for each in put] == [None] * 4 + [put[4]]
    assert len(queue) == 10
    queue.put(0.0, wanted(1, FAR))
    assert len(queue) == 11, "each network has room of its own"
    (firsts, of_another) = run(loop, queue.get(4))
    assert [each.is_first for each in firsts] == [True] * 4
    assert of_another == [wanted(1, FAR)]


@pytest.mark.parametrize("due", [(1010.0, 1100.0), (1100.0, 1010.0)])
@pytest.mark.parametrize("urgency", [ANSWERED, STRANGER])
def test_a_device_has_one_entry_the_earlier_one(loop: VirtualLoop, due: tuple[float, float], urgency: int) -> None:
    """A second request does not delay the first."""
    queue = NameQueue(lambda mac: urgency)
    for each in due:
        queue.put(each, wanted(1))
    queue.put(1200.0, wanted(2))
    assert len(queue) == 2

    async def take() -> list[tuple[float, Mac]]:
        return [(round(loop.time()), one.mac) for _ in range(2) for (one,) in await queue.get()]

    assert run(loop, take()) == [(1010, made_up(1)[0]), (1200, made_up(2)[0])]


def test_void_entries_make_room_in_a_full_queue(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Void entries are removed when the queue is full."""
    monkeypatch.setattr(name_queue, "MOST_WAITING", 4)
    queue = NameQueue(lambda mac: ANSWERED)
    for number in range(4):
        assert queue.put(2000.0 - number, wanted(1)) is None
    assert [queue.put(1500.0, wanted(number)) for number in range(2, 6)] == [None] * 3 + [wanted(5)]


def test_who_finds_a_full_queue_costs_nothing(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS T62: thousands of devices a second may come to a large LAN; places are counted once, not for each."""
    monkeypatch.setattr(name_queue, "MOST_WAITING", 100)
    looks = Counter[str]()
    there = name_queue._NetworkQueue._is_current

    def is_there(line: name_queue._NetworkQueue, waiting: name_queue._Waiting) -> bool:
        looks["looks"] += 1
        return there(line, waiting)

    monkeypatch.setattr(name_queue._NetworkQueue, "_is_current", is_there)
    queue = NameQueue(lambda mac: ANSWERED)
    for number in range(100):
        assert queue.put(1.0, Lookup(mac(number), ip("10.0.0.1"), "net")) is None
    refused = [queue.put(1.0, Lookup(mac(number), ip("10.0.0.1"), "net")) for number in range(1000, 1500)]
    assert None not in refused
    assert looks["looks"] <= 200
    (taken,) = loop.run_until_complete(queue.get(10))
    assert len(taken) == 10
    placed = [queue.put(2.0, Lookup(mac(number), ip("10.0.0.1"), "net")) for number in range(1000, 1020)]
    assert placed.count(None) == 10, "what was given up is given away"
    looks.clear()
    for number in range(2000, 2100):
        loop.run_until_complete(queue.get())
        assert queue.put(1.0, Lookup(mac(number), ip("10.0.0.1"), "net")) is None
        assert queue.put(1.0, Lookup(mac(9999), ip("10.0.0.1"), "net")) is not None
    assert looks["looks"] <= 400, "those that wait are not counted for each that leaves"


def test_a_full_queue_refuses_newcomers(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known without a request of each, and counted as one, until a device leaves the queue."""
    monkeypatch.setattr(name_queue, "MOST_WAITING", 10)
    lan = Lan(loop)
    for number in range(12):
        assert lan.names.refuses_newcomer(NET.id) == (number == 11)
        who, where = made_up(number)
        lan.urgency[who] = ANSWERED
        lan.want(who, where, NET)
    assert len(lan.refused) == 3 * 2, "the request without room, and the last one twice"
    assert not lan.names.refuses_newcomer(FAR.id)

    def nothing() -> Iterator[float]:
        yield 0

    run(loop, lan.run(nothing, 60))
    assert not lan.names.refuses_newcomer(NET.id)


def test_a_stranger_that_answered_meanwhile_is_no_stranger(loop: VirtualLoop) -> None:
    urgent: set[Mac] = set()
    queue = NameQueue(lambda mac: ANSWERED if mac in urgent else STRANGER)
    for number in range(5):
        queue.put(0.0, wanted(number))
    urgent.add(made_up(3)[0])

    async def take() -> list[list[Lookup]]:
        return [requests for _ in range(5) for requests in await queue.get()]

    assert [one.mac for (one,) in run(loop, take())] == [made_up(number)[0] for number in (3, 0, 1, 2, 4)]


def test_urgency_is_that_of_what_is_known_of_a_device() -> None:
    world = World()
    world.hear(mac(9), "10.0.0.9")
    device = world.inventory.devices[mac(9)]
    assert urgency(None) == urgency(device) == name_queue.STRANGER
    device.confirmed = True
    assert urgency(device) == ANSWERED
    device.confirmed = False
    world.inventory.label(mac(9), {"label": "printer"}, world.now)
    assert urgency(device) == DESCRIBED


# ---- what an answer points to ---------------------------------------------------------------------------------------

QUERIED = reverse(ip("10.0.0.9"))


def encoded(*labels: bytes) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def record(owner: tuple[bytes, ...], kind: int, to: tuple[bytes, ...], klass: int = 1) -> bytes:
    content = encoded(*to)
    return encoded(*owner) + struct.pack("!HHIH", kind, klass, 60, len(content)) + content


def pointed(*records: bytes) -> str | None:
    message = dns.read(struct.pack("!HHHHHH", 1, 0x8180, 0, len(records), 0, 0) + b"".join(records))
    assert message is not None
    return pointed_to(message, QUERIED)


def test_a_pointer_of_another_name_is_ignored() -> None:
    """The owner of the record must be the queried name."""
    assert pointed(record(reverse(ip("10.0.0.8")), dns.PTR, (b"other", b"lan"))) is None
    assert pointed(record(tuple(map(bytes.upper, QUERIED)), dns.PTR, (b"own", b"lan"))) == "own.lan"
    assert pointed(record(QUERIED, dns.PTR, (b"own", b"lan"), klass=3)) is None


def test_aliases_on_the_way_are_followed() -> None:
    """RFC 2317: a part of a /24 may be delegated."""
    alias = (b"9", b"0-25", *QUERIED[1:])
    assert pointed(record(QUERIED, dns.CNAME, alias), record(alias, dns.PTR, (b"own", b"lan"))) == "own.lan"
    assert pointed(record(QUERIED, dns.CNAME, QUERIED), record(alias, dns.PTR, (b"own", b"lan"))) is None


def test_the_first_records_alone_are_read() -> None:
    roles = [record(QUERIED, dns.PTR, (b"_role", b"lan"))] * name_lookup.LOOKED_AT
    assert pointed(*roles[1:], record(QUERIED, dns.PTR, (b"own", b"lan"))) == "own.lan"
    assert pointed(*roles, record(QUERIED, dns.PTR, (b"own", b"lan"))) is None
