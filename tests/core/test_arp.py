"""ARP: the `struct` decoder compared with scapy; the requests that are sent."""

import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netscand.core.model import Evidence, Ip, Mac, Observation
from netscand.lan import arp as arp_module
from tests.core.built_frames import ARP, Ether

OURS = Mac(bytes.fromhex("0216 3e00 0001"))
OTHER = Mac(bytes.fromhex("a483 e712 3456"))
IP = Ip(bytes([192, 168, 1, 37]))
OWN = Ip(bytes([192, 168, 1, 2]))

MACS = st.sampled_from(
    [OURS, OTHER, Mac(bytes(6)), arp_module.BROADCAST, Mac(bytes.fromhex("01005e000001"))]
) | st.binary(min_size=6, max_size=6).map(Mac)
IPS = st.sampled_from(
    ["0.0.0.0", "0.0.0.1", "127.0.0.1", "192.168.1.2", "192.168.1.37", "224.0.0.251", "239.255.255.255", "240.0.0.1",
     "255.255.255.254", "255.255.255.255"]
).map(lambda text: Ip(IPv4Address(text).packed)) | st.binary(min_size=4, max_size=4).map(Ip)  # fmt: skip


def arp(
    op: int = 1,
    source: bytes = OTHER,
    sha: bytes = OTHER,
    spa: bytes = IP,
    tpa: bytes = OWN,
    tha: bytes = bytes(6),
    head: tuple[int, int, int, int, int] = (0x0806, 1, 0x0800, 6, 4),
    destination: bytes = arp_module.BROADCAST,
    more: bytes = bytes(18),
) -> bytes:
    """A frame, from RFC 826 and nothing of ours."""
    ethertype, hardware, protocol, hlen, plen = head
    ethernet = destination + source + ethertype.to_bytes(2)
    return ethernet + struct.pack(">HHBBH", hardware, protocol, hlen, plen, op) + sha + spa + tha + tpa + more


HEADS = st.tuples(
    st.sampled_from([0x0806] * 4 + [0x0800, 0x8100, 0x86DD, 0x0805]),
    st.sampled_from([1] * 4 + [0, 6, 257]),
    st.sampled_from([0x0800] * 4 + [0x0806, 0x86DD]),
    st.sampled_from([6] * 4 + [0, 5, 8, 255]),
    st.sampled_from([4] * 4 + [0, 6, 16, 255]),
)
SAME_OR_NOT = st.tuples(MACS, MACS, st.booleans()).map(lambda pair: (pair[0], pair[0] if pair[2] else pair[1]))
FRAMES = st.builds(
    lambda op, pair, *rest: arp(op, pair[0], pair[1], *rest),
    st.sampled_from([0, 1, 1, 2, 2, 3, 8, 256]), SAME_OR_NOT, IPS, IPS, MACS, HEADS, MACS, st.binary(max_size=24),
)  # fmt: skip
CUT = st.tuples(FRAMES, st.integers(0, 66)).map(lambda pair: pair[0][: pair[1]])
ANYTHING = FRAMES | CUT | st.binary(max_size=1600)


def judged_by_scapy(frame: bytes) -> tuple[Mac, Ip | None, Evidence] | None:
    """What scapy reads from the frame, put into our words by the text of the RFCs."""
    if len(frame) < 42:
        return None
    seen = Ether(frame)
    if not isinstance(seen, Ether) or seen.type != 0x0806 or not isinstance(seen.payload, ARP):
        return None
    decoded = seen.payload
    if decoded.hwtype not in (1, 6) or (decoded.ptype, decoded.hwlen, decoded.plen) != (0x0800, 6, 4):
        return None
    if decoded.op not in (1, 2):
        return None
    said = decoded.hwsrc if isinstance(decoded.hwsrc, str) else decoded.hwsrc.hex(":")  # bytes for IEEE 802
    mac = Mac(bytes.fromhex(said.replace(":", "")))
    sender, is_no_station = IPv4Address(decoded.psrc), bool(mac[0] & 1) or mac == bytes(6)
    if sender == IPv4Address("0.0.0.0"):
        is_probe = decoded.op == 1 and seen.src == said and not is_no_station
        return (mac, None, Evidence.ARP_PROBE) if is_probe else None
    nothing = sender.is_multicast or sender.is_loopback or str(sender) == "255.255.255.255" or decoded.psrc[:2] == "0."
    if nothing:
        return None
    if seen.src != said or is_no_station:
        evidence = Evidence.PROXIED
    elif decoded.psrc == decoded.pdst:
        evidence = Evidence.ARP_ANNOUNCEMENT
    else:
        evidence = {1: Evidence.ARP_REQUEST, 2: Evidence.ARP_REPLY}[decoded.op]
    return mac, Ip(sender.packed), evidence


@given(ANYTHING)
@example(b"")
@example(arp())
@example(arp()[:42])
@example(arp()[:41])
def test_the_decoder_reads_every_frame_as_scapy_does(frame: bytes) -> None:
    seen = arp_module.decode(frame, 12.5, 3)
    expected = judged_by_scapy(frame)
    assert (seen and (seen.mac, seen.ip, seen.evidence)) == expected
    if seen:
        assert (seen.at, seen.interface) == (12.5, 3)
        assert seen.via == (frame[6:12] if seen.evidence is Evidence.PROXIED else None)


@given(st.binary(max_size=9000))
def test_any_bytes_are_an_observation_or_nothing(frame: bytes) -> None:
    assert isinstance(arp_module.decode(frame, 0.0, 1), Observation | None)


@pytest.mark.parametrize(
    ("frame", "ip", "evidence"),
    [
        (arp(1), IP, Evidence.ARP_REQUEST),
        (arp(2, destination=OURS, tha=OURS), IP, Evidence.ARP_REPLY),
        (arp(1, spa=bytes(4), tpa=IP), None, Evidence.ARP_PROBE),
        (arp(1, tpa=IP), IP, Evidence.ARP_ANNOUNCEMENT),
        (arp(2, tpa=IP, tha=arp_module.BROADCAST), IP, Evidence.ARP_ANNOUNCEMENT),
        (arp(2, source=OURS), IP, Evidence.PROXIED),
        (arp(1, source=OURS, tpa=IP), IP, Evidence.PROXIED),
    ],
    ids=["request", "reply", "probe", "announcement", "announcing reply", "proxied", "proxied announcement"],
)
def test_each_kind_of_arp_is_recognised(frame: bytes, ip: Ip | None, evidence: Evidence) -> None:
    """Requests, replies, probes and announcements each get their evidence."""
    via = OURS if evidence is Evidence.PROXIED else None
    assert arp_module.decode(frame, 1.0, 2) == Observation(1.0, 2, OTHER, ip, evidence, via=via)


def test_a_groups_mac_is_no_station_and_yet_a_claim() -> None:
    """Caches accept a broadcast frame that was meant for one station: so the gateway's address is taken, too."""
    seen = arp_module.decode(arp(2, source=arp_module.BROADCAST, sha=arp_module.BROADCAST), 1.0, 2)
    assert seen == Observation(1.0, 2, arp_module.BROADCAST, IP, Evidence.PROXIED, via=arp_module.BROADCAST)


def test_a_claim_for_no_mac_is_a_claim() -> None:
    """FAULTS T58: a host that accepts it reaches no device at that address."""
    seen = arp_module.decode(arp(2, sha=bytes(6)), 1.0, 2)
    assert seen == Observation(1.0, 2, Mac(bytes(6)), IP, Evidence.PROXIED, via=OTHER)


def test_hardware_of_ieee_802_is_ethernet() -> None:
    """FAULTS T58: hosts take both (Linux: arp_process), so a claim must not hide behind the other number."""
    seen = arp_module.decode(arp(2, head=(0x0806, 6, 0x0800, 6, 4)), 1.0, 2)
    assert seen == Observation(1.0, 2, OTHER, IP, Evidence.ARP_REPLY)


@pytest.mark.parametrize(
    "frame",
    [
        arp(1, sha=arp_module.BROADCAST, source=arp_module.BROADCAST, spa=bytes(4)),
        arp(spa=bytes([127, 0, 0, 1])),
        arp(spa=bytes([224, 0, 0, 251])),
        arp(spa=bytes([255] * 4)),
        arp(2, spa=bytes(4)),
        arp(1, spa=bytes(4), source=OURS),
        arp(3),
        arp(head=(0x0806, 257, 0x0800, 6, 4)),
        arp(head=(0x0806, 1, 0x86DD, 6, 4)),
        arp(head=(0x0806, 1, 0x0800, 6, 16)),
        arp()[:12] + b"\x81\x00\x00\x05" + arp()[12:],
    ],
    ids=[
        "broadcast's probe", "loopback", "multicast", "limited broadcast", "reply from nowhere",
        "probe in another's name", "reverse ARP", "not Ethernet", "not IPv4", "wrong lengths", "tagged",
    ],
)  # fmt: skip
def test_what_no_host_would_say_is_nothing(frame: bytes) -> None:
    assert arp_module.decode(frame, 1.0, 2) is None


@given(MACS.filter(lambda mac: not mac[0] & 1), IPS, st.none() | MACS)
def test_a_request_is_what_scapy_would_build(mac: Mac, ip: Ip, to: Mac | None) -> None:
    ours = mac.hex(":")
    expected = Ether(dst=(to or arp_module.BROADCAST).hex(":"), src=ours) / ARP(
        op=1, hwsrc=ours, psrc="192.168.1.2", hwdst="00:00:00:00:00:00", pdst=str(IPv4Address(ip))
    )
    assert arp_module.request(mac, OWN).to(ip, to) == bytes(expected)


def test_other_decoders_read_our_request() -> None:
    """Another decoder, scapy's, reads our frame as an ARP request with our addresses."""
    for to in (None, OTHER):
        frame = arp_module.request(OURS, OWN).to(IP, to)
        assert len(frame) == arp_module.ARP_LENGTH
        assert arp_module.decode(frame, 1.0, 2) == Observation(1.0, 2, OURS, OWN, Evidence.ARP_REQUEST)


@given(MACS.filter(lambda mac: not mac[0] & 1), st.none() | MACS)
def test_a_probe_for_our_own_address_is_no_announcement(mac: Mac, to: Mac | None) -> None:
    """FIELD case 1: its sender is 0.0.0.0 (RFC 5227, 2.1.1), as scapy would build it."""
    ours = mac.hex(":")
    expected = Ether(dst=(to or arp_module.BROADCAST).hex(":"), src=ours) / ARP(
        op=1, hwsrc=ours, psrc="0.0.0.0", hwdst="00:00:00:00:00:00", pdst="192.168.1.2"
    )
    assert arp_module.probe(mac, OWN).to(OWN, to) == bytes(expected)


@pytest.mark.parametrize("group", ["03bf0a4d0050", "01005e7f0050"])
def test_a_member_of_a_cluster_answers_for_it(group: str) -> None:
    """FIELD case 22: only replies, and only with such a group; any other group MAC is a claim for another."""
    cluster = Mac(bytes.fromhex(group))
    reply = arp_module.decode(arp(2, sha=cluster), 1.0, 2)
    assert reply == Observation(1.0, 2, OTHER, IP, Evidence.ARP_REPLY, via=cluster)
    asked = arp_module.decode(arp(1, sha=cluster), 1.0, 2)
    assert asked == Observation(1.0, 2, cluster, IP, Evidence.PROXIED, via=OTHER)


def test_a_reply_by_unicast_for_another_station_is_marked() -> None:
    """FIELD case 8: an answer to a request of ours is sent to us alone."""
    for operation, to, solicited in ((2, OURS, True), (2, arp_module.BROADCAST, False), (1, OURS, False)):
        seen = arp_module.decode(arp(operation, source=OURS, destination=to), 1.0, 2)
        assert seen == Observation(1.0, 2, OTHER, IP, Evidence.PROXIED, solicited=solicited, via=OURS)


def test_no_request_has_the_sender_0_0_0_0() -> None:
    """A request from 0.0.0.0 would poison proxies, so it raises ValueError."""
    with pytest.raises(ValueError, match=r"0\.0\.0\.0"):
        arp_module.request(OURS, arp_module.NO_IP)
