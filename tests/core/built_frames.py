"""Frames other than ARP for tests, built by scapy, independently of our decoders."""

from typing import Any

from scapy.layers import inet6
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSRR
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

__all__ = ["ARP", "BOOTP", "DHCP", "DNS", "DNSRR", "IP", "UDP", "Ether", "IPv6", "inet6"]

IPv6 = inet6.IPv6
MAC = "a4:83:e7:12:34:56"
EVERYONE = "ff:ff:ff:ff:ff:ff"
CLAIM = bytes.fromhex("ffffffffffffa483e712345608060001080006040002a483e71234560a4d00090000000000000a4d0009")
"""An ARP announcement of MAC and 10.77.0.9."""


def arp(ip: str, mac: str = MAC, *, to: str = EVERYONE, asks: str = "10.0.0.1") -> bytes:
    """A request to everyone, or a reply `to` a MAC."""
    reply = to != EVERYONE
    return bytes(Ether(src=mac, dst=to) / ARP(op=1 + reply, hwsrc=mac, psrc=ip, hwdst=to if reply else None, pdst=asks))


def dhcp(
    kind: str,
    *options: tuple[str | int, Any],
    mac: str = MAC,
    source: str | None = None,
    ciaddr: str = "0.0.0.0",
    giaddr: str = "0.0.0.0",
    sname: bytes = b"",
    file: bytes = b"",
) -> bytes:
    """From a client."""
    chaddr = bytes.fromhex(mac.replace(":", ""))
    fixed = BOOTP(chaddr=chaddr, ciaddr=ciaddr, giaddr=giaddr, sname=sname, file=file, xid=0x1234)
    head = Ether(src=source or mac, dst=EVERYONE) / IP(src=ciaddr, dst="255.255.255.255") / UDP(sport=68, dport=67)
    return bytes(head / fixed / DHCP(options=[("message-type", kind), *options, "end"]))


def dhcp_answer(
    kind: str,
    server: str,
    client: str = MAC,
    *options: tuple[str | int, Any],
    mac: str = "52:54:00:00:00:01",
    yiaddr: str = "0.0.0.0",
) -> bytes:
    """From a server, to everyone."""
    fixed = BOOTP(op=2, chaddr=bytes.fromhex(client.replace(":", "")), yiaddr=yiaddr, xid=0x1234)
    head = Ether(src=mac, dst=EVERYONE) / IP(src=server, dst="255.255.255.255") / UDP(sport=67, dport=68)
    return bytes(head / fixed / DHCP(options=[("message-type", kind), ("server_id", server), *options, "end"]))


def mdns(
    *records: tuple[str, str, str], source: str = "10.77.0.9", mac: str = MAC, ttl: int = 120, hops: int = 255
) -> bytes:
    """A response that holds records (name, type, address)."""
    answers = [
        DNSRR(rrname=name, type=kind, rdata=link_layer, ttl=ttl, rclass=0x8001) for name, kind, link_layer in records
    ]
    message = DNS(qr=1, aa=1, qd=[], an=answers)
    if ":" in source:
        over: Any = IPv6(src=source, dst="ff02::fb", hlim=hops)
        to = "33:33:00:00:00:fb"
    else:
        over = IP(src=source, dst="224.0.0.251", ttl=hops)
        to = "01:00:5e:00:00:fb"
    return bytes(Ether(src=mac, dst=to) / over / UDP(sport=5353, dport=5353) / message)


def dad(target: str, mac: str = MAC) -> bytes:
    """Duplicate address detection."""
    group = f"ff02::1:ff{target[-7:]}" if target[-5] == ":" else "ff02::1:ff00:1"
    head = Ether(src=mac, dst="33:33:ff:00:00:01") / IPv6(src="::", dst=group, hlim=255)
    return bytes(head / inet6.ICMPv6ND_NS(tgt=target))


def solicitation(source: str, target: str, mac: str = MAC, link_layer: str | None = None, hops: int = 255) -> bytes:
    """Return a neighbour solicitation for `target`; `link_layer`: the link-layer address in the option."""
    head = Ether(src=mac, dst="33:33:ff:00:00:01") / IPv6(src=source, dst="ff02::1:ff00:1", hlim=hops)
    return bytes(head / inet6.ICMPv6ND_NS(tgt=target) / inet6.ICMPv6NDOptSrcLLAddr(lladdr=link_layer or mac))


def advertisement(
    target: str, mac: str = MAC, link_layer: str | None = None, *, solicited: bool = True, to: str = "fe80::1"
) -> bytes:
    """`target` is here."""
    head = Ether(src=mac, dst="33:33:00:00:00:01") / IPv6(src=target, dst=to, hlim=255)
    return bytes(
        head / inet6.ICMPv6ND_NA(tgt=target, S=int(solicited)) / inet6.ICMPv6NDOptDstLLAddr(lladdr=link_layer or mac)
    )


def extended(frame: bytes, *headers: int) -> bytes:
    """A frame of IPv6 with such headers, which say nothing, before what it carries (RFC 8200, section 4)."""
    kinds = [*headers, frame[20]]
    more = b"".join(bytes([following, 0, 1, 4, 0, 0, 0, 0]) for following in kinds[1:])
    length = int.from_bytes(frame[18:20]) + len(more)
    return frame[:18] + length.to_bytes(2) + bytes([kinds[0]]) + frame[21:54] + more + frame[54:]


def tagged(frame: bytes, *tags: tuple[int, int]) -> bytes:
    """A frame behind tags, the outermost first: each its EtherType, and priority and VLAN (IEEE 802.1Q)."""
    return frame[:12] + b"".join(kind.to_bytes(2) + tci.to_bytes(2) for kind, tci in tags) + frame[12:]
