"""From a frame to what is in it: Ethernet, IPv4 or IPv6, UDP or ICMPv6, and who reads that."""

import struct

from netscand.core.model import Ip, Mac, Observation
from netscand.lan.heard import dhcp, mdns, nbns, ndp
from netscand.lan.heard.hosts import Sender, is_station

UDP, ICMPV6 = 17, 58
DHCP_PORTS = (67, 68)
UNPASSED = 255

_ETHERNET = struct.Struct("!6x6s2s")
_IPV4 = struct.Struct("!BxH2xHBB2x4s4s")
_IPV6 = struct.Struct("!BxxxHBB16s16s")
_UDP = struct.Struct("!HHHxx")

NOTHING: tuple[Observation, ...] = ()


def decode(frame: bytes, at: float, interface: int) -> tuple[Observation, ...]:
    """What an Ethernet frame says of its sender and of others: total over all bytes.

    `at` is in monotonic seconds, `interface` an ifindex; both go into the observations as they are.
    """
    if len(frame) < 14:
        return NOTHING
    source, kind = _ETHERNET.unpack_from(frame)
    mac = Mac(source)
    if not is_station(mac):
        return NOTHING
    if kind == b"\x08\x00":
        return _ipv4(frame, mac, at, interface)
    if kind == b"\x86\xdd":
        return _ipv6(frame, mac, at, interface)
    return NOTHING


def _ipv4(frame: bytes, mac: Mac, at: float, interface: int) -> tuple[Observation, ...]:
    if len(frame) < 34:
        return NOTHING
    first, length, fragment, ttl, protocol, source, _ = _IPV4.unpack_from(frame, 14)
    header = 4 * (first & 0xF)
    if first >> 4 != 4 or header < 20 or length < header or fragment & 0x3FFF or protocol != UDP:
        return NOTHING
    return _udp(frame[14 + header : 14 + length], Sender(mac, Ip(source), at, interface), ttl)


def _ipv6(frame: bytes, mac: Mac, at: float, interface: int) -> tuple[Observation, ...]:
    if len(frame) < 54:
        return NOTHING
    first, length, following, hop_limit, source, to = _IPV6.unpack_from(frame, 14)
    if first >> 4 != 6:
        return NOTHING
    sender = Sender(mac, Ip(source), at, interface)
    content = frame[54 : 54 + length]
    if following == ICMPV6:
        return ndp.decode(content, sender, hop_limit=hop_limit, to=Ip(to))
    return _udp(content, sender, hop_limit) if following == UDP else NOTHING


def _udp(datagram: bytes, sender: Sender, ttl: int) -> tuple[Observation, ...]:
    if len(datagram) < 8:
        return NOTHING
    from_port, port, length = _UDP.unpack_from(datagram)
    content = datagram[8:length]
    if port == mdns.PORT:
        # What comes through a router says nothing of the station that this frame came from (RFC 6762, section 11).
        return mdns.decode(content, sender, from_port=from_port) if ttl == UNPASSED else NOTHING
    if len(sender.ip) == 16:
        return NOTHING
    if port in DHCP_PORTS:
        return dhcp.decode(content, sender)
    return nbns.decode(content, sender) if port == nbns.PORT else NOTHING
