"""Capture files: what scapy writes is read, what we write scapy reads, and damage is named."""

import io
import struct
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import PcapNgReader, wrpcap, wrpcapng

from netscand.core.model import Ip
from netscand.lan import pcap
from netscand.lan.pcap import CaptureError, CaptureFile, Packet
from tests.core.built_frames import ARP, Ether, arp
from tests.core.world import network

FRAMES = [arp(f"10.0.0.{number}") for number in range(11, 15)]


def read(content: bytes) -> list[Packet]:
    return list(CaptureFile(io.BytesIO(content)))


def written(*frames: bytes) -> bytes:
    blocks = (pcap.packet(0, 1_700_000_000.25 + at, frame) for at, frame in enumerate(frames))
    return pcap.section("netscand 1") + pcap.interface("eth0", (network(gateway="10.0.0.1"),)) + b"".join(blocks)


@pytest.mark.parametrize("order", ["<", ">", ""], ids=["little-endian", "big-endian", "pcapng"])
def test_files_of_scapy_are_read(tmp_path: Path, order: str) -> None:
    packets = [Ether(frame) for frame in FRAMES]
    for at, each in enumerate(packets):
        each.time = 1_700_000_000 + at / 8
    if order:
        wrpcap(str(tmp_path / "a"), packets, endianness=order)
    else:
        wrpcapng(str(tmp_path / "a"), packets)
    found = read((tmp_path / "a").read_bytes())
    assert [each.frame for each in found] == FRAMES
    assert [each.number for each in found] == [1, 2, 3, 4]
    assert [each.at for each in found] == pytest.approx([1_700_000_000 + at / 8 for at in range(4)], abs=1e-5)


def test_scapy_reads_what_we_write(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(written(*FRAMES) + pcap.statistics(0, 1_700_000_009.0, 7, 3))
    with PcapNgReader(str(tmp_path / "a")) as reader:
        found = list(reader)
    assert [bytes(each) for each in found] == FRAMES
    assert found[1].time == pytest.approx(1_700_000_001.25)
    assert found[0][ARP].op == 1


def test_an_interface_keeps_its_addresses_and_gateway() -> None:
    (packet,) = read(written(FRAMES[0]))
    interface = packet.interface
    assert (interface.name, interface.mac) == ("eth0", network().mac)
    assert interface.addresses == ((network().own, IPv4Network("10.0.0.0/24")),)
    assert interface.gateway == Ip(b"\x0a\0\0\1")


@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_a_file_cut_anywhere_gives_what_is_before(tmp_path: Path, kind: str) -> None:
    """All packets before the cut, then an error that names the packet; only at the end of a packet there is none."""
    if kind == "pcap":
        wrpcap(str(tmp_path / "a"), [Ether(frame) for frame in FRAMES])
        content, first = (tmp_path / "a").read_bytes(), 24
        ends = {first + sum(16 + len(frame) for frame in FRAMES[:count]) for count in range(5)}
    else:
        content, ends = written(*FRAMES), set()
        at = 0
        while at < len(content):
            at += struct.unpack_from("<I", content, at + 4)[0]
            ends.add(at)
        first = 4
    for cut in range(4, len(content)):
        found: list[Packet] = []
        try:
            found.extend(CaptureFile(io.BytesIO(content[:cut])))
            assert cut in ends
        except CaptureError as wrong:
            assert "the file ends in the middle of packet" in str(wrong)
            assert cut not in ends
        assert [each.frame for each in found] == FRAMES[: len(found)]


@given(st.binary(max_size=200), st.sampled_from([*pcap._PCAP, b"\x0a\x0d\x0d\x0a", b""]))
def test_any_bytes_are_packets_or_an_error(content: bytes, magic: bytes) -> None:
    """Law 6: nothing but CaptureError."""
    try:
        read(magic + content)
    except CaptureError as wrong:
        assert str(wrong)


@given(st.integers(0, len(written(*FRAMES)) - 1), st.integers(1, 255))
def test_any_damaged_byte_is_read_or_named(position: int, change: int) -> None:
    content = bytearray(written(*FRAMES))
    content[position] ^= change
    try:
        assert len(read(bytes(content))) <= len(FRAMES)
    except CaptureError as wrong:
        assert str(wrong)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\x1f\x8b\x08\0", "compressed by gzip: decompress it first"),
        (b"GMBU" + bytes(40), "neither pcap nor pcapng (it begins with 47 4d 42 55); to convert"),
        (struct.pack("<IHHIIIIIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 127, 5, 0, 4, 4) + b"abcd",
         "packet 1: its link type is IEEE 802.11 with radiotap headers, no. 127"),
        (struct.pack("<IHHIIIIIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1, 5, 0, 1 << 31, 4) + b"abcd",
         "packet 1, or what follows it, is damaged: a length of 2147483648 bytes"),
        (pcap.section("x") + pcap.packet(3, 5.0, b"abcd"), "interface 3, which the file does not describe"),
        (pcap.section("x") + pcap.interface("eth0", ()) + pcap.packet(0, 1e12, b"abcd"), "beyond the year 9999"),
    ],
)  # fmt: skip
def test_errors_name_the_packet_and_the_cause(content: bytes, message: str) -> None:
    with pytest.raises(CaptureError) as error:
        read(content)
    assert message in str(error.value)


def test_linux_cooked_packets_become_ethernet_frames() -> None:
    """Without their destination; packets of links that are not Ethernet (here: loopback) are left out."""
    arp, source = FRAMES[0][14:], FRAMES[0][6:12]
    sll = struct.pack("!HHH8s2s", 1, 1, 6, source + b"\0\0", b"\x08\x06") + arp
    sll2 = struct.pack("!2s6xHBB8s", b"\x08\x06", 1, 0, 6, source + b"\0\0") + arp
    loopback = struct.pack("!HHH8s2s", 0, 772, 6, bytes(8), b"\x08\0") + arp
    found = []
    for link, content in ((113, sll), (276, sll2), (113, loopback)):
        head = struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
        found += read(head + struct.pack("<IIII", 5, 0, len(content), len(content)) + content)
    assert [each.frame for each in found] == [b"\xff" * 6 + FRAMES[0][6:], bytes(6) + FRAMES[0][6:], b""]


def test_nanoseconds_offsets_and_simple_packets_are_read() -> None:
    idb = struct.pack("<HHIHHB3xHHqI", 1, 0, 0, 9, 1, 9, 14, 8, 100, 0)
    simple = struct.pack("<I", 4) + b"wxyz"
    at = 1_700_000_000_500_000_000
    timed = struct.pack("<IIIII", 0, at >> 32, at & 0xFFFFFFFF, 4, 4) + b"abcd"
    blocks = (pcap._encoded(kind, body) for kind, body in ((1, idb), (6, timed), (3, simple)))
    content = pcap.section("x") + b"".join(blocks)
    first, second = read(content)
    assert (first.at, first.frame) == (1_700_000_100.5, b"abcd")
    assert second.at == first.at  # it has no time of its own
