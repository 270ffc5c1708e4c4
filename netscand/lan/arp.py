"""Pure: bytes ↔ values. ARP in by `struct` (the hot path), requests out from a template that scapy builds.

Sources: RFC 826 (ARP), RFC 5227 (probes and announcements), IEEE 802.3.
"""

import struct
from functools import lru_cache
from socket import inet_ntoa
from typing import NamedTuple

from netscand.core.model import Evidence, Ip, Mac, Observation
from netscand.lan import libraries

ARP_LENGTH = 42
"""Bytes of an ARP frame without padding: 14 of Ethernet, 28 of ARP."""

BROADCAST = Mac(b"\xff" * 6)
NO_MAC = Mac(bytes(6))
NO_IP = Ip(bytes(4))

_ETHERNET_ARP = struct.Struct("6x6s10s6s4s6x4s")
"""Ethernet source; EtherType to operation; sender MAC and IP; target IP."""

_IS_REPLY = {
    b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01": False,
    b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x02": True,
}
"""EtherType ARP, hardware Ethernet, protocol IPv4, lengths 6 and 4, operation: any other ten bytes are not for us."""

_NO_HOST = frozenset([0, 127, *range(224, 240)])
"""First bytes that no host's own address has: this network, loopback, multicast (RFC 6890)."""

_BROADCAST_IP = Ip(b"\xff" * 4)


def decode(frame: bytes, at: float, interface: int) -> Observation | None:
    """What an Ethernet frame says of its sender, or None: total over all bytes.

    `at` is in monotonic seconds, `interface` an ifindex; both go into the observation as they are.
    """
    if len(frame) < ARP_LENGTH:
        return None
    source, kind, mac, ip, target = _ETHERNET_ARP.unpack_from(frame)
    reply = _IS_REPLY.get(kind)
    if reply is None or mac == NO_MAC:
        return None
    if ip[0] in _NO_HOST or ip == _BROADCAST_IP:
        # An ARP probe claims nothing: it asks whether anyone holds `target` (RFC 5227, 2.1.1). What else has no host's
        # address as its sender is nonsense.
        if reply or ip != NO_IP or source != mac or mac[0] & 1:
            return None
        return Observation(at, interface, mac, None, Evidence.ARP_PROBE)
    if source != mac or mac[0] & 1:  # no station has a group's MAC, but others may take it for the address
        return Observation(at, interface, mac, ip, Evidence.PROXIED, via=Mac(source))
    spoken = Evidence.ARP_REPLY if reply else Evidence.ARP_REQUEST
    evidence = Evidence.ARP_ANNOUNCEMENT if ip == target else spoken
    return Observation(at, interface, mac, ip, evidence)


class Template(NamedTuple):
    """A request with two holes: who gets the frame, and whose address is asked for."""

    head: bytes
    """What stands between the Ethernet destination and the target address."""
    broadcast: bytes
    """The same, with the broadcast destination before it."""

    def to(self, ip: Ip, mac: Mac | None) -> bytes:
        """The frame that asks for `ip`: by broadcast, or to `mac` alone."""
        return self.broadcast + ip if mac is None else mac + self.head + ip


@lru_cache(maxsize=256)
def request(mac: Mac, own: Ip) -> Template:
    """The template of an ARP request sent from `mac` and `own`. ValueError: a sender of 0.0.0.0 poisons proxies."""
    if own == NO_IP:
        raise ValueError("a request never has the sender address 0.0.0.0")
    ether, arp = libraries.ethernet_arp()
    ours = mac.hex(":")
    # The target's hardware address is what is asked for: zero, in probes as well (as Linux does for its own).
    frame = bytes(
        ether(dst="ff:ff:ff:ff:ff:ff", src=ours)
        / arp(op="who-has", hwsrc=ours, psrc=inet_ntoa(own), hwdst="00:00:00:00:00:00", pdst="0.0.0.0")  # noqa: S104 a hole, not a listener
    )
    head = frame[6 : ARP_LENGTH - 4]
    return Template(head, BROADCAST + head)
