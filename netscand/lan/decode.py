"""Decoder of frames other than ARP: Ethernet, IPv4 or IPv6, UDP or ICMPv6, then the protocol's own decoder."""

import struct
from typing import NamedTuple

from netscand.core.model import Ip, Mac, Observation
from netscand.lan import arp, dhcp, mdns, nbns, ndp
from netscand.lan.senders import Sender, is_station

UDP, ICMPV6 = 17, 58
DHCP_PORTS = (67, 68)
LINK_HOP_LIMIT = 255

_ETHERNET = struct.Struct("!6x6s2s")
_IPV4 = struct.Struct("!BxH2xHBB2x4s4s")
_IPV6 = struct.Struct("!BxxxHBB16s16s")
_UDP = struct.Struct("!HHHxx")

ARP, IPV4, IPV6 = b"\x08\x06", b"\x08\x00", b"\x86\xdd"
TAGS = (b"\x81\x00", b"\x88\xa8")
"""EtherTypes (IEEE 802.1Q)."""

EXTENSIONS = (0, 43, 60)
"""IPv6 headers that may precede ICMPv6: hop-by-hop and destination options, routing (RFC 8200, section 4)."""

NOTHING: tuple[Observation, ...] = ()


class Answer(NamedTuple):
    """A datagram; one from the port of mDNS or NBNS is perhaps the answer to a query of ours."""

    sender: Sender
    from_port: int
    port: int
    content: bytes


class _Packet(NamedTuple):
    """An IPv4 or IPv6 packet."""

    protocol: int
    sender: Sender
    to: Ip
    ttl: int
    content: bytes


def decode(frame: bytes, at: float, interface: int) -> tuple[Observation, ...]:
    """Decode an Ethernet frame into observations of its sender and of other devices. Never raises.

    `at` (monotonic seconds) and `interface` (ifindex) are copied into the observations.
    """
    frame = untagged(frame)
    if frame[12:14] == ARP:
        seen = arp.decode(frame, at, interface)
        return NOTHING if seen is None else (seen,)
    packet = _packet(frame, at, interface)
    if packet is None:
        return NOTHING
    if packet.protocol == ICMPV6:
        return ndp.decode(packet.content, packet.sender, hop_limit=packet.ttl, to=packet.to)
    return _udp(packet.content, packet.sender, packet.ttl) if packet.protocol == UDP else NOTHING


def answer(frame: bytes, at: float, interface: int) -> Answer | None:
    """Return the possible mDNS or NBNS answer in a frame, with its content not decoded; else None. Never raises."""
    found = datagram(frame, at, interface)
    return found if found is not None and found.from_port in (mdns.PORT, nbns.PORT) else None


def datagram(frame: bytes, at: float, interface: int) -> Answer | None:
    """Return the UDP datagram in a frame; None if there is none. Never raises."""
    packet = _packet(frame, at, interface)
    if packet is None or packet.protocol != UDP or len(packet.content) < 8:
        return None
    from_port, port, length = _UDP.unpack_from(packet.content)
    return Answer(packet.sender, from_port, port, packet.content[8:length])


def untagged(frame: bytes) -> bytes:
    """Return a frame without its tags of VLAN 0: hosts remove all of them."""
    position = 12
    while frame[position : position + 2] in TAGS and not int.from_bytes(frame[position + 2 : position + 4]) & 0x0FFF:
        position += 4
    return frame[:12] + frame[position:] if position > 12 else frame


def _packet(frame: bytes, at: float, interface: int) -> _Packet | None:
    if len(frame) < 34:
        return None
    source, kind = _ETHERNET.unpack_from(frame)
    mac = Mac(source)
    if not is_station(mac):
        return None
    if kind == IPV4:
        first, length, fragment, ttl, protocol, ip, to = _IPV4.unpack_from(frame, 14)
        header = 4 * (first & 0xF)
        if first >> 4 != 4 or header < 20 or length < header or fragment & 0x3FFF or protocol != UDP:
            return None
        return _Packet(UDP, Sender(mac, Ip(ip), at, interface), Ip(to), ttl, frame[14 + header : 14 + length])
    if kind != IPV6 or len(frame) < 54:
        return None
    first, length, protocol, ttl, ip, to = _IPV6.unpack_from(frame, 14)
    if first >> 4 != 6:
        return None
    start = 54
    while protocol in EXTENSIONS and start + 2 <= len(frame):
        protocol, start = frame[start], start + 8 * (frame[start + 1] + 1)
    return _Packet(protocol, Sender(mac, Ip(ip), at, interface), Ip(to), ttl, frame[start : 54 + length])


def _udp(datagram: bytes, sender: Sender, ttl: int) -> tuple[Observation, ...]:
    if len(datagram) < 8:
        return NOTHING
    from_port, port, length = _UDP.unpack_from(datagram)
    content = datagram[8:length]
    if port == mdns.PORT:
        # A packet that a router forwarded proves nothing about the sender of this frame (RFC 6762, section 11).
        return mdns.decode(content, sender, from_port=from_port) if ttl == LINK_HOP_LIMIT else NOTHING
    if len(sender.ip) == 16:
        return NOTHING
    if port in DHCP_PORTS:
        return dhcp.decode(content, sender)
    return nbns.decode(content, sender) if port == nbns.PORT else NOTHING
