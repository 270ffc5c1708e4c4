"""The ring of what is not ARP: what the kernel lets in, what is decoded, and what is asked by IPv6."""

import asyncio
import logging
import struct
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from netscand.core.model import ALL_NODES, Evidence, Ip, Mac, Observation, Probe, SendFailed
from netscand.core.ratelimit import Budgets
from netscand.lan import bpf, wire
from netscand.lan import decode as decode_module
from netscand.lan.capture import CaptureReader, Ring
from netscand.lan.ndp import echo, solicitation
from netscand.lan.wire import Wire
from tests.core import built_frames, captured_frames
from tests.core.built_frames import IP, UDP, Ether, IPv6, inet6
from tests.lab.lan import Host, Lab
from tests.lab.rooms import Send, index_of, inside, network_of, until
from tests.lab.test_wire import listening, reply, tagged


@pytest.fixture
def ring(shared_lab: Lab) -> Iterator[Ring]:
    made = shared_lab.watcher.space.within(lambda: Ring(bpf.talk, 2048, 1 << 20))
    yield made
    made.close()


def ether(payload: object) -> bytes:
    return bytes(Ether(src=built_frames.MAC, dst="ff:ff:ff:ff:ff:ff") / payload)


def udp4(port: int, **fields: object) -> bytes:
    return ether(IP(src="10.77.0.9", dst="10.77.0.255", **fields) / UDP(sport=port, dport=port) / b"x")


def with_priority(frame: bytes) -> bytes:
    return tagged(frame, 0xE000)


WANTED = {
    **{
        name: b"\xff" * 6 + frame[6:] for name, frame in captured_frames.ALL.items()
    },  # to all, wherever the switch knows them
    "IP options": ether(IP(src="10.77.0.9", dst="224.0.0.251", options=[b"\x94\x04\0\0"]) / UDP(dport=5353) / b"x"),
    "priority tag": with_priority(captured_frames.DHCLIENT_DISCOVER),
    "tag behind a tag": built_frames.tagged(built_frames.CLAIM, (0x8100, 0xE000), (0x8100, 0)),
    "tag of a provider": built_frames.tagged(built_frames.advertisement("fe80::9"), (0x88A8, 0), (0x88A8, 0)),
    "headers before neighbour discovery": built_frames.extended(built_frames.advertisement("fe80::9"), 60, 0),
    "mDNS's port in the source alone": ether(IP(src="10.77.0.9", dst="10.77.0.2") / UDP(sport=5353, dport=4000)),
    "NBNS's": ether(IP(src="10.77.0.9", dst="10.77.0.2", options=[b"\x94\x04\0\0"]) / UDP(sport=137, dport=4000)),
    "mDNS's by IPv6": ether(IPv6(src="fe80::9", dst="fe80::1") / UDP(sport=5353, dport=4000)),
    "answer to our echo": ether(IPv6(src="fe80::9", dst="fe80::1") / inet6.ICMPv6EchoReply(id=0x6E73)),
}
UNWANTED = {
    "VLAN 5": tagged(captured_frames.DHCLIENT_DISCOVER, 5),
    "fragment": udp4(5353, flags="MF"),
    "last fragment": udp4(5353, frag=100),
    "DNS": udp4(53),
    "an answer of DNS": ether(IP(src="10.77.0.9", dst="10.77.0.2") / UDP(sport=53, dport=4000)),
    "TCP": ether(IP(src="10.77.0.9", dst="10.77.0.2", proto=6) / UDP(sport=5353, dport=5353)),
    "DHCP's port in the source alone": ether(IP(src="10.77.0.9", dst="10.77.0.2") / UDP(sport=67, dport=4000)),
    "NBNS's by IPv6": ether(IPv6(src="fe80::9", dst="fe80::1") / UDP(sport=137, dport=4000)),
    "IPv6 DHCP": ether(IPv6(src="fe80::9", dst="fe80::1") / UDP(sport=67, dport=67)),
    "echo request": ether(IPv6(src="fe80::9", dst="fe80::1") / inet6.ICMPv6EchoRequest(id=0x6E73)),
    "answer to another's echo": ether(IPv6(src="fe80::9", dst="fe80::1") / inet6.ICMPv6EchoReply(id=7)),
    "MLD": ether(IPv6(src="fe80::9", dst="ff02::16") / inet6.ICMPv6MLReport2()),
    "headers before what a router passed on": ether(
        IPv6(src="fe80::9", dst="fe80::1", hlim=64) / inet6.IPv6ExtHdrDestOpt() / inet6.ICMPv6EchoReply(id=0x6E73)
    ),
    "cut": captured_frames.LINUX_DAD[:50],
    "ARP": bytes.fromhex("ffffffffffffa483e712345608060001080006040001a483e71234560a4d00090000000000000a4d0002"),
}


def test_the_kernel_lets_in_what_is_decoded_and_nothing_else(send: Send, ring: Ring) -> None:
    for frame in UNWANTED.values():
        send(frame)
    for frame in WANTED.values():
        send(frame)
    bare = [frame if "tag" not in name else frame[:12] + frame[16:] for name, frame in WANTED.items()]
    assert [frame.frame for frame in ring.read(100)] == bare
    assert not ring.read(1)


def test_a_frame_of_full_size_is_kept_whole(send: Send, ring: Ring) -> None:
    long = udp4(5353)[:-1] + bytes(1514 - len(udp4(5353)) + 1)
    send(long)
    (frame,) = ring.read(10)
    assert frame.frame == long


@inside
async def test_what_is_heard_comes_with_its_interface_and_its_moment(shared_lab: Lab, send: Send) -> None:
    async with listening() as (made, heard):
        send(captured_frames.DHCLIENT_DISCOVER)
        await until(lambda: heard)
        (seen,) = heard
        assert (seen.interface, seen.evidence, seen.name) == (
            index_of(shared_lab.watcher.space), Evidence.DHCP, "janes-laptop",
        )  # fmt: skip
        assert made.received == 1


@inside
async def test_talk_on_interfaces_that_are_not_followed_is_not_decoded(shared_lab: Lab, send: Send) -> None:
    """The ports of a bridge of containers say everything once more."""
    async with listening() as (made, heard):
        made.follow({999})
        send(captured_frames.DHCLIENT_DISCOVER)
        await until(lambda: made.received)
        made.follow({index_of(shared_lab.watcher.space)})
        send(captured_frames.LINUX_DAD)
        await until(lambda: heard)
        assert [seen.evidence for seen in heard] == [Evidence.NDP]
        assert made.ignored == 0


def test_a_flood_is_decoded_within_a_budget_and_the_rest_counted(
    shared_lab: Lab, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T10: ARP beside it is heard at once."""
    decoded = 0

    def decode(frame: bytes, at: float, interface: int) -> tuple[Observation, ...]:
        nonlocal decoded
        decoded += 1
        return decode_module.decode(frame, at, interface)

    budgets = Budgets()

    def made(budget: float) -> CaptureReader:
        return CaptureReader(bpf.talk, decode, wire.TALK_BATCH, slot=2048, size=1 << 20, budget=budget, budgets=budgets)

    began = time.monotonic()
    ear = made(100)
    shared_lab.watcher.space.within(ear.open)
    for _ in range(400):
        send(captured_frames.LINUX_DAD)
    while ear.received < 400:
        ear.read()
    assert 100 <= decoded <= 100 + 100 * (time.monotonic() - began)
    assert ear.ignored == 400 - decoded == budgets.refused["talk"]
    assert budgets.limiting(time.monotonic()) == ("talk",)
    ear.close()


@inside
async def test_after_a_flood_talk_is_heard_again_and_arp_was_all_along(
    shared_lab: Lab, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "TALK_BUDGET", 50)
    monkeypatch.setattr(wire, "PAUSE", 3.0)

    async with listening() as (made, heard):
        for _ in range(100):
            send(captured_frames.LINUX_DAD)
        await until(lambda: made.ignored)
        read = made.received
        send(reply())
        await until(lambda: any(seen.evidence is Evidence.ARP_REPLY for seen in heard))
        assert made.received == read + 1  # the flood is left to the kernel meanwhile
        await until(lambda: made.received == 101)
        send(captured_frames.ANDROID_DISCOVER)
        await until(lambda: any(seen.name == "Pixel-7" for seen in heard))


@inside
async def test_hostile_talk_is_counted_and_fills_no_log(
    shared_lab: Lab, send: Send, caplog: pytest.LogCaptureFixture
) -> None:
    """T12, through the ring."""
    caplog.set_level(logging.DEBUG, "netscand")

    async with listening() as (made, heard):
        sent = 0
        for whole in captured_frames.ALL.values():
            for length in range(60, len(whole), 7):
                send(whole[:length])
                sent += 1
        await until(lambda: made.received >= sent * 0.9)
        send(captured_frames.ANDROID_DISCOVER)
        await until(lambda: any(seen.name == "Pixel-7" for seen in heard))
    assert not caplog.records


# ---- asking by IPv6 -------------------------------------------------------------------------------------------------

OWN6 = Ip(bytes.fromhex("fe80000000000000505400fffe770001"))
TARGET = Ip(bytes.fromhex("fe80000000000000505400fffe770002"))


def test_solicitations_and_the_echo_leave_as_they_are_asked_for(shared_lab: Lab, neighbour: Host) -> None:
    network = replace(network_of(shared_lab.watcher), own6=OWN6)
    to = Mac(bytes.fromhex(neighbour.mac.replace(":", "")))
    made = Wire(lambda _: None)
    asks = [Probe(network, TARGET, None), Probe(network, TARGET, to), Probe(network, ALL_NODES, None)]
    with shared_lab.capture(neighbour) as capture:
        assert not shared_lab.watcher.space.within(lambda: made.send(asks))
        seen = [frame.data for frame in capture.frames() if frame.data[12:14] == b"\x86\xdd"]
    assert seen == [
        solicitation(network.mac, OWN6, TARGET, None), solicitation(network.mac, OWN6, TARGET, to),
        echo(network.mac, OWN6),
    ]  # fmt: skip
    made.close()


def test_without_an_address_of_ours_an_ask_by_ipv6_is_refused(shared_lab: Lab) -> None:
    made = Wire(lambda _: None)
    with pytest.raises(SendFailed, match="Cannot assign requested address"):
        shared_lab.watcher.space.within(lambda: made.send([Probe(network_of(shared_lab.watcher), TARGET, None)]))
    made.close()


@inside
async def test_a_broken_ring_of_talk_is_made_anew_too(
    shared_lab: Lab, send: Send, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wire, "BACK_OFF", (0.05, 0.2))
    monkeypatch.setattr("netscand.lan.capture.EMPTY_READS", 100)
    caplog.set_level(logging.INFO, "netscand.lan.wire")

    async with listening() as (made, heard):
        await asyncio.sleep(0)
        assert made._talk._ring
        made._talk._ring._next = 100 * 2048
        send(captured_frames.LINUX_DAD)
        await until(lambda: "receiving again" in caplog.text)
        send(captured_frames.ANDROID_DISCOVER)
        await until(lambda: any(seen.name == "Pixel-7" for seen in heard))


def test_the_filter_is_a_program_that_ends() -> None:
    """Every jump leads forward, to an instruction that is there."""
    program = bpf.talk(1000)
    for place, step in enumerate(program):
        if step.code & 7 == 5:
            assert place + 1 + max(step.if_true, step.if_false) < len(program)
    assert struct.calcsize("HBBI") * len(program) == len(bpf.packed(program))
