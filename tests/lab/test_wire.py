"""The wire: what is heard of a LAN and what is not, on real links; and what is sent."""

import asyncio
import errno
import logging
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from netscand.core.model import Evidence, Ip, Mac, Network, NetworkState, Observation, Probe, SendFailed
from netscand.lan import arp, bpf, capture, wire
from netscand.lan.capture import Ring
from netscand.lan.wire import Wire
from tests.lab.lan import Host, Lab
from tests.lab.rooms import Send, index_of, inside, ip, network_of, running, until

Program = Callable[[int], Sequence[bpf.Instruction]]


def numbered(number: int) -> Mac:
    return Mac(bytes.fromhex("5254 0099") + number.to_bytes(2))


def reply(mac: Mac = numbered(1), address: str = "10.77.0.50") -> bytes:  # noqa: B008 a constant
    """A reply to whom it may concern."""
    head = struct.pack(">HHHBBH", 0x0806, 1, 0x0800, 6, 4, 2)
    return arp.BROADCAST + mac + head + mac + ip(address) + bytes(6) + ip("10.77.0.2") + bytes(18)


def tagged(frame: bytes, tci: int) -> bytes:
    """The frame with an 802.1Q tag: priority and VLAN."""
    return frame[:12] + struct.pack(">HH", 0x8100, tci) + frame[12:]


@pytest.fixture
def ring(shared_lab: Lab) -> Iterator[Ring]:
    """One at the watcher."""
    made = shared_lab.watcher.space.within(lambda: Ring(bpf.arp))
    yield made
    made.close()


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[Wire, list[Observation]]]:
    """A wire that runs, and what it hears."""
    heard: list[Observation] = []
    made = Wire(heard.extend)
    made.open()
    async with running(made):
        yield made, heard


# ---- hearing ------------------------------------------------------------------------------------------------------


@inside
async def test_a_frame_is_heard_with_its_interface_and_time(shared_lab: Lab, send: Send) -> None:
    async with listening() as (made, heard):
        before = time.monotonic()
        send(reply())
        after = time.monotonic()
        await until(lambda: heard)
        (seen,) = heard
        index = index_of(shared_lab.watcher.space)
        assert seen == Observation(seen.at, index, numbered(1), ip("10.77.0.50"), Evidence.ARP_REPLY)
        assert before - 0.1 <= seen.at <= after + 0.1  # the two clocks are not read at one instant
        assert made.received == 1


@inside
async def test_what_comes_before_the_loop_listens_waits_in_the_ring(shared_lab: Lab, send: Send) -> None:
    heard: list[Observation] = []
    made = Wire(heard.extend)
    made.open()
    send(reply())
    time.sleep(0.05)
    later = time.monotonic()
    async with running(made):
        await until(lambda: heard)
    assert heard[0].at < later


def test_a_vlan_tag_is_another_lan_and_a_priority_tag_is_none(shared_lab: Lab, send: Send, ring: Ring) -> None:
    for number, tci in enumerate([5, 1, 0xFFF, 0x6005, 0x6000, 0]):  # the last two: priority 3, or 0, and no VLAN
        send(tagged(reply(numbered(number)), tci))
    send(reply(numbered(99)))
    assert [Mac(frame.frame[6:12]) for frame in ring.read(100)] == [numbered(4), numbered(5), numbered(99)]


def test_a_tag_behind_a_tag_is_another_lan(send: Send, ring: Ring) -> None:
    """FIELD R2: other VLANs of a trunk, QinQ and 802.1ad are rejected; they arrive on the VLAN's own interface."""
    frame = reply(numbered(1))
    for tags in (
        [(0x8100, 10)],
        [(0x8100, 4094)],
        [(0x8100, 0), (0x8100, 20)],
        [(0x88A8, 10)],
        [(0x88A8, 10), (0x8100, 0)],
    ):
        send(frame[:12] + b"".join(struct.pack(">HH", *tag) for tag in tags) + frame[12:])
    send(reply(numbered(99)))
    assert [Mac(frame.frame[6:12]) for frame in ring.read(100)] == [numbered(99)]


@pytest.mark.parametrize("padding", [b"", bytes(18), b"\xde\xad\xbe\xef" * 5, bytes(1280)], ids=len)
@inside
async def test_the_padding_of_a_frame_is_not_looked_at(shared_lab: Lab, send: Send, padding: bytes) -> None:
    """FIELD R3: none, zeros, remains of another frame, and 1,322 bytes."""
    async with listening() as (_, heard):
        send(reply()[:42] + padding)
        await until(lambda: heard)
        assert [(seen.mac, seen.ip) for seen in heard] == [(numbered(1), ip("10.77.0.50"))]


def test_what_is_not_arp_does_not_come_in(send: Send, ring: Ring) -> None:
    for ethertype in (0x0805, 0x0807, 0x88B5):  # not IP: the switch drops what is malformed of it
        send(reply()[:12] + ethertype.to_bytes(2) + reply()[14:])
    send(reply(numbered(2)))
    assert [Mac(frame.frame[6:12]) for frame in ring.read(100)] == [numbered(2)]


def test_a_link_without_ethernet_addresses_is_not_heard(shared_lab: Lab, send: Send, ring: Ring) -> None:
    """Loopback carries Ethernet headers, but its addresses belong to no device."""
    with shared_lab.watcher.space.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("lo", 0))
        sock.send(reply(numbered(1)))
    send(reply(numbered(2)))
    assert [Mac(frame.frame[6:12]) for frame in ring.read(100)] == [numbered(2)]


@pytest.mark.parametrize("option", [capture.PACKET_IGNORE_OUTGOING, 99], ids=["kernel-now", "kernel-4.15"])
@inside
async def test_our_own_frames_are_not_heard(
    shared_lab: Lab, send: Send, monkeypatch: pytest.MonkeyPatch, option: int
) -> None:
    """FIELD case 19: kernels before 4.20 lack the option, as this one lacks 99; then the filter does it."""
    monkeypatch.setattr(capture, "PACKET_IGNORE_OUTGOING", option)
    async with listening() as (made, heard):
        network = network_of(shared_lab.watcher)
        assert not made.send([Probe(network, ip("10.77.0.200"), None)])
        send(reply())
        await until(lambda: heard)
        assert [seen.mac for seen in heard] == [numbered(1)]


def test_ten_thousand_replies_are_kept_in_order(send: Send, ring: Ring) -> None:
    for number in range(10_000):
        send(reply(numbered(number)))
    frames = []
    while batch := ring.read(256):
        assert len(batch) <= 256
        frames += batch
    assert [Mac(frame.frame[6:12]) for frame in frames] == [numbered(number) for number in range(10_000)]
    assert [frame.at for frame in frames] == sorted(frame.at for frame in frames)
    assert ring.drops() == 0


@inside
async def test_every_frame_of_a_burst_is_handed_on_in_turns(shared_lab: Lab, send: Send) -> None:
    """More than one turn's worth: none is lost between two turns, and the loop is free in between."""
    turns = 0

    async with listening() as (_, heard):
        for number in range(1000):
            send(reply(numbered(number)))
        while len(heard) < 1000:
            before = len(heard)
            await asyncio.sleep(0)
            assert len(heard) - before <= wire.BATCH
            turns += len(heard) > before
        assert [seen.mac for seen in heard] == [numbered(number) for number in range(1000)]
    assert turns == -(-1000 // wire.BATCH)


def test_a_ring_goes_round(send: Send, shared_lab: Lab) -> None:
    small = shared_lab.watcher.space.within(lambda: Ring(bpf.arp, size=64 * 1024))
    for number in range(2000):
        send(reply(numbered(number)))
        (frame,) = small.read(10)
        assert arp.decode(*frame) == Observation(
            frame.at, frame.interface, numbered(number), ip("10.77.0.50"), Evidence.ARP_REPLY
        )
    small.close()


def test_what_finds_the_ring_full_is_counted(send: Send, shared_lab: Lab) -> None:
    small = shared_lab.watcher.space.within(lambda: Ring(bpf.arp, size=64 * 1024))
    for number in range(600):
        send(reply(numbered(number)))
    frames = small.read(1000)
    assert (len(frames), small.drops(), small.drops()) == (512, 88, 0)
    send(reply(numbered(999)))
    (frame,) = small.read(10)
    assert Mac(frame.frame[6:12]) == numbered(999)
    small.close()


@inside
async def test_drops_are_told(shared_lab: Lab, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "Ring", lambda program, slot, size: Ring(program, slot, size=64 * 1024))
    monkeypatch.setattr(wire, "TICK", 0.05)

    async with listening() as (made, _):
        for number in range(600):  # the loop does not come round meanwhile
            send(reply(numbered(number)))
        await until(lambda: (made.received, made.dropped) == (512, 88))
        for number in range(600):
            send(reply(numbered(number)))
        await until(lambda: (made.received, made.dropped) == (1024, 176))


@inside
async def test_hostile_frames_are_counted_and_do_no_harm(shared_lab: Lab, send: Send) -> None:
    async with listening() as (made, heard):
        good = reply()
        for length in range(22, len(good)):  # shorter ones do not pass the switch
            send(good[:length])
        send(good[:20] + b"\0\x63" + good[22:])
        send(good + bytes(1400))
        await until(lambda: heard and made.received == 40)
        assert {seen.mac for seen in heard} == {numbered(1)}


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 3.2e8, -3.2e8])
def test_a_clock_that_jumps_changes_no_stamp(shared_lab: Lab, send: Send, jump: float) -> None:
    """The wall clock jumps between the kernel's stamp and our reading: stamps stay in order and near."""
    wall = [0.0]
    opened = time.monotonic()
    made = shared_lab.watcher.space.within(lambda: Ring(bpf.arp, wall=lambda: time.time_ns() + int(wall[0] * 1e9)))
    send(reply(numbered(1)))
    before = made.read(10)
    send(reply(numbered(2)))
    wall[0] = jump
    across = made.read(10)
    across += made.read(10)
    made.close()
    stamps = [opened, *(frame.at for frame in before + across), time.monotonic()]
    assert len(stamps) == 4
    assert stamps == sorted(stamps)


# ---- links that come and go ---------------------------------------------------------------------------------------


@inside
async def test_a_link_that_is_made_anew_is_heard_and_asked_again(lab: Lab) -> None:
    """The ring is bound to no interface; the socket that asks is made again after the first refusal (F9, F10)."""
    neighbour = lab.host("10.77.0.50")

    async with listening() as (made, heard):

        async def is_answered(asks: list[Probe]) -> None:
            """Soon: for a moment after its link is up, the kernel throws away what an interface sends."""
            heard.clear()
            await until(lambda: heard or made.send(asks))
            assert {(seen.mac.hex(":"), seen.interface) for seen in heard} == {(neighbour.mac, asks[0].network.index)}

        ask = [Probe(network_of(lab.watcher), ip("10.77.0.50"), None)]
        await is_answered(ask)
        lab.watcher.down()
        with pytest.raises(SendFailed, match=r"10\.77\.0\.0/24@eth0: Network is down"):
            made.send(ask)
        lab.watcher.up()
        await is_answered(ask)
        lab.watcher.remove_interface()
        with pytest.raises(SendFailed, match="No such device"):
            made.send(ask)
        assert made.send_errors == 2
        lab.watcher.plug()
        again = [Probe(network_of(lab.watcher), ip("10.77.0.50"), None)]
        assert again[0].network.index != ask[0].network.index
        await is_answered(again)
        lab.watcher.remove_interface()
        lab.watcher.plug()  # this time unseen by the sender
        await is_answered([Probe(network_of(lab.watcher), ip("10.77.0.50"), None)])
        assert len(made._send_sockets) == 1  # those of the deleted interfaces were given back


def test_an_interface_with_the_same_index_is_asked_again(lab: Lab) -> None:
    """A socket whose interface was deleted stays dead: it refuses once, and is replaced by another."""
    network = network_of(lab.watcher)
    made = Wire(lambda _: None)
    ask = [Probe(network, ip("10.77.0.50"), None)]

    def work() -> None:
        assert not made.send(ask)
        lab.watcher.remove_interface()
        lab.watcher.space.ip(
            f"link add eth0 index {network.index} type veth peer name other", "link set other up", "link set eth0 up"
        )
        with pytest.raises(SendFailed):
            made.send(ask)
        assert not made.send(ask)

    lab.watcher.space.within(work)
    made.close()


@inside
async def test_a_receive_path_that_breaks_is_made_anew_and_said_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The ring's socket is broken in earnest: bound to one interface, which then goes down (ENETDOWN).

    Twice the kernel will not give another.
    """
    neighbour = lab.host("10.77.0.50")
    monkeypatch.setattr(wire, "BACK_OFF", (0.01, 0.2))
    outcomes = iter([False, True, True])

    def made_or_not(program: Program, slot: int, size: int) -> Ring:
        if program is bpf.arp and next(outcomes, False):
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return Ring(program, slot, size)

    monkeypatch.setattr(capture, "Ring", made_or_not)
    caplog.set_level(logging.INFO, "netscand.lan.wire")

    async with listening() as (made, heard):
        await asyncio.sleep(0)  # until it listens
        assert made._arp._ring
        bpf.bind(made._arp._ring._socket, index_of(lab.watcher.space), bpf.ETH_P_ALL)
        lab.watcher.down()
        await until(lambda: "receiving again" in caplog.text)
        lab.watcher.up()
        ask = [Probe(network_of(lab.watcher), ip(neighbour.ip), None)]
        await until(lambda: heard or made.send(ask))
    errors = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == ["cannot receive from the LAN; trying again: Network is down"]


@inside
async def test_a_lost_place_in_the_ring_is_noticed(
    shared_lab: Lab, send: Send, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Always readable, and never a frame: the ring is made again instead of turning in circles."""
    monkeypatch.setattr(wire, "BACK_OFF", (0.05, 0.2))
    monkeypatch.setattr(capture, "EMPTY_READS", 100)
    caplog.set_level(logging.INFO, "netscand.lan.wire")

    async with listening() as (made, heard):
        assert made._arp._ring
        made._arp._ring._next = 100 * 128
        send(reply())
        await until(lambda: "receiving again" in caplog.text)
        send(reply(numbered(2)))
        await until(lambda: heard)
        assert heard[0].mac == numbered(2)


def test_what_the_engine_raises_ends_the_room(shared_lab: Lab, send: Send) -> None:
    """Law 9: a receive path is made again, an engine is not."""

    def hear(_: list[Observation]) -> None:
        raise OSError("the engine's own")

    made = Wire(hear)
    shared_lab.watcher.space.within(made.open)
    send(reply())
    with pytest.raises(OSError, match="the engine's own"):
        asyncio.run(made.run())
    made.close()


def test_without_a_filter_nothing_is_heard_at_all(shared_lab: Lab) -> None:
    """No kernel filter → refuse to start."""
    nonsense = (bpf.Instruction(0xFFFF, 0, 0, 0),)
    with pytest.raises(OSError, match="Invalid argument"):
        shared_lab.watcher.space.within(lambda: Ring(lambda _: nonsense))


# ---- asking -------------------------------------------------------------------------------------------------------


def test_requests_go_to_everyone_and_probes_to_one(shared_lab: Lab, neighbour: Host) -> None:
    network = network_of(shared_lab.watcher)
    to = Mac(bytes.fromhex(neighbour.mac.replace(":", "")))
    there = neighbour.space.within(lambda: Ring(bpf.arp))
    made = Wire(lambda _: None)
    asks = [
        Probe(network, ip("10.77.0.50"), None),
        Probe(network, ip("10.77.0.50"), to),
        Probe(network, ip("10.77.0.9"), to),
    ]
    assert not shared_lab.watcher.space.within(lambda: made.send(asks))
    template = arp.request(network.mac, network.own)
    assert [frame.frame for frame in there.read(10)] == [template.to(ask.ip, ask.mac) for ask in asks]
    there.close()
    made.close()


def test_slices_of_requests_lose_nothing_and_send_nothing_twice(shared_lab: Lab, neighbour: Host) -> None:
    network = network_of(shared_lab.watcher)
    there = neighbour.space.within(lambda: Ring(bpf.arp, size=8 << 20))
    made = Wire(lambda _: None)
    asks = [Probe(network, Ip(bytes([10, 77]) + number.to_bytes(2)), None) for number in range(20_000)]

    def send_all() -> int:
        calls, left = 0, asks
        while left:
            left = made.send(left)
            calls += 1
        return calls

    assert shared_lab.watcher.space.within(send_all) > 1
    frames = there.read(30_000)
    assert [frame.frame[38:42] for frame in frames] == [ask.ip for ask in asks]
    there.close()
    made.close()


def test_a_slice_holds_the_loop_for_5_ms_whatever_a_frame_costs(
    shared_lab: Lab, neighbour: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that a frame moves by a sixteenth of a millisecond, as on a slow machine: 80 of them, 16 at a time."""
    now = iter(range(1000))
    monkeypatch.setattr(wire, "monotonic", lambda: next(now) / 1000)
    made = Wire(lambda _: None)
    asks = [Probe(network_of(shared_lab.watcher), ip("10.77.0.50"), None)] * 1000
    left = shared_lab.watcher.space.within(lambda: made.send(asks))
    assert 0 < len(asks) - len(left) <= 80 + 16
    made.close()


def test_a_full_queue_is_no_error_and_holds_nobody_else_up(lab: Lab) -> None:
    """What it does not take stays behind, in its order; another interface's goes."""
    lab.watcher.run(
        ["tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "8kbit", "burst", "1600", "limit", "3000"]
    )
    lab.watcher.space.ip("link add idle type veth peer name end", "link set end up", "link set idle up")
    made = Wire(lambda _: None)
    slow = network_of(lab.watcher)
    idle = replace(slow, id="10.77.0.0/24@idle", interface="idle", index=index_of(lab.watcher.space, "idle"))
    asks = [Probe((slow, idle)[i % 2], Ip(bytes([10, 77]) + i.to_bytes(2)), None) for i in range(2000)]

    def work() -> None:
        left = asks
        while any(ask.network is idle for ask in left):
            left = made.send(left)
        assert 700 < len(left) < 1000
        assert left == [ask for ask in asks if ask.network is slow][-len(left) :]
        assert made.send(left), "its queue is full still"

    lab.watcher.space.within(work)
    assert made.send_errors == 0
    made.close()


def test_a_refusal_is_told_only_when_nothing_went_before_it(shared_lab: Lab) -> None:
    good = network_of(shared_lab.watcher)
    cidr = IPv4Network("10.78.0.0/24")
    bad = Network("10.78.0.0/24@eth9", cidr, "eth9", 9999, good.mac, good.own, NetworkState.UP, "")
    asks = [
        Probe(good, ip("10.77.0.50"), None),
        Probe(bad, ip("10.78.0.50"), None),
        Probe(good, ip("10.77.0.51"), None),
    ]
    made = Wire(lambda _: None)

    def send_twice() -> None:
        assert made.send(asks) == asks[1:]
        assert made.send_errors == 0
        with pytest.raises(SendFailed) as refused:
            made.send(asks[1:])
        assert refused.value.network == bad.id
        assert made.send_errors == 1

    shared_lab.watcher.space.within(send_twice)
    made.close()
