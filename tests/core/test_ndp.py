"""IPv6 solicitations and echo requests, compared with those of scapy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netscand.core.model import ALL_NODES, Evidence, Ip, Mac, Observation
from netscand.lan import decode, ndp
from netscand.lan.ndp import echo, solicitation
from tests.core.built_frames import Ether, IPv6, inet6

OURS = Mac(bytes.fromhex("02163e000001"))
OWN = Ip(bytes.fromhex("fe80000000000000001 63efffe000001".replace(" ", "")))
MACS = st.binary(min_size=6, max_size=6).map(Mac)
TARGETS = st.binary(min_size=16, max_size=16).map(Ip)


def text(ip: bytes) -> str:
    from ipaddress import IPv6Address

    return str(IPv6Address(ip))


@given(MACS, TARGETS, st.none() | MACS)
def test_a_solicitation_is_what_scapy_would_build(mac: Mac, target: Ip, to: Mac | None) -> None:
    group = f"ff02::1:ff{target[13]:02x}:{target[14]:02x}{target[15]:02x}"
    ethernet = (to or b"\x33\x33\xff" + target[13:]).hex(":")
    head = Ether(dst=ethernet, src=mac.hex(":")) / IPv6(src=text(OWN), dst=text(target) if to else group, hlim=255)
    published = inet6.ICMPv6NDOptSrcLLAddr(lladdr=mac.hex(":"))
    assert solicitation(mac, OWN, target, to) == bytes(head / inet6.ICMPv6ND_NS(tgt=text(target)) / published)


@given(MACS, TARGETS)
def test_an_echo_is_what_scapy_would_build(mac: Mac, own: Ip) -> None:
    head = Ether(dst="33:33:00:00:00:01", src=mac.hex(":")) / IPv6(src=text(own), dst=text(ALL_NODES), hlim=1)
    assert echo(mac, own) == bytes(head / inet6.ICMPv6EchoRequest(id=ndp.ECHO_ID, seq=1))


@pytest.mark.parametrize("to", [None, Mac(bytes.fromhex("a483e7123456"))])
def test_other_decoders_read_our_solicitation(to: Mac | None) -> None:
    """Another decoder, scapy's, reads our frame as a neighbour solicitation with our addresses."""
    frame = solicitation(OURS, OWN, Ip(bytes.fromhex("fe80" + 27 * "0" + "9")), to)
    assert decode.decode(frame, 1.0, 2) == (Observation(1.0, 2, OURS, OWN, Evidence.NDP),)
