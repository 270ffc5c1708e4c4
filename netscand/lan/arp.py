"""ARP: frames decoded by `struct` (the hot path), requests encoded from a template. Pure.

Sources: RFC 826 (ARP), RFC 5227 (probes and announcements), IEEE 802.3.
"""

import struct
from functools import lru_cache
from typing import NamedTuple

from netscand.core.mac_ranges import is_cluster_group
from netscand.core.model import Evidence, Ip, Mac, Observation

ARP_LENGTH = 42
"""Length of an ARP frame without padding, in bytes: 14 of Ethernet, 28 of ARP."""

SENDER_IP = 22
"""Offset of the sender's IP address in `Template.head`."""

BROADCAST = Mac(b"\xff" * 6)
NO_MAC = Mac(bytes(6))
NO_IP = Ip(bytes(4))

_ETHERNET_ARP = struct.Struct("6x6s10s6s4s6x4s")
"""Ethernet source; EtherType to operation; sender MAC and IP; target IP."""

_IS_REPLY = {
    b"\x08\x06\x00" + hardware + b"\x08\x00\x06\x04\x00" + operation: operation == b"\x02"
    for hardware in (b"\x01", b"\x06")
    for operation in (b"\x01", b"\x02")
}
"""EtherType ARP, hardware Ethernet or IEEE 802 (hosts accept both: RFC 2625), protocol IPv4, lengths 6 and 4,
operation; other values are ignored."""

_REQUEST = bytes.fromhex("0806 0001 0800 06 04 0001")
"""EtherType ARP, hardware Ethernet, protocol IPv4, lengths 6 and 4, operation request."""

_NO_HOST = frozenset([0, 127, *range(224, 240)])
"""First bytes that no host's address has: this network, loopback, multicast (RFC 6890)."""

LOOPBACK = 127
"""First byte of the addresses that only our own requests ask for (core/shared_lan.py)."""

_BROADCAST_IP = Ip(b"\xff" * 4)


def decode(frame: bytes, at: float, interface: int) -> Observation | None:
    """Decode an ARP frame; None for anything else. Never raises.

    `at` (monotonic seconds) and `interface` (ifindex) are copied into the observation.
    """
    if len(frame) < ARP_LENGTH:
        return None
    source, kind, mac, ip, target = _ETHERNET_ARP.unpack_from(frame)
    reply = _IS_REPLY.get(kind)
    if reply is None:
        return None
    if ip[0] in _NO_HOST or ip == _BROADCAST_IP:
        # An ARP probe claims no address: it asks whether any host holds `target` (RFC 5227, 2.1.1). Other frames with
        # such a sender address are invalid.
        if reply or ip != NO_IP or source != mac or mac[0] & 1 or mac == NO_MAC:
            return None
        return Observation(at, interface, mac, None, Evidence.ARP_PROBE)
    if source != mac or mac[0] & 1 or mac == NO_MAC:  # no station has a group MAC, or none, but hosts may accept it
        if reply and mac[0] & 1 and is_cluster_group(mac) and not source[0] & 1:
            return Observation(at, interface, Mac(source), ip, Evidence.ARP_REPLY, via=mac)
        by_unicast = reply and not frame[0] & 1
        return Observation(at, interface, mac, ip, Evidence.PROXIED, solicited=by_unicast, via=Mac(source))
    spoken = Evidence.ARP_REPLY if reply else Evidence.ARP_REQUEST
    evidence = Evidence.ARP_ANNOUNCEMENT if ip == target else spoken
    if target[0] == LOOPBACK and evidence is Evidence.ARP_REQUEST:
        return Observation(at, interface, mac, ip, evidence, target=Ip(target))
    return Observation(at, interface, mac, ip, evidence)


class Template(NamedTuple):
    """An ARP request without its Ethernet destination and its target address."""

    head: bytes
    """Bytes between the Ethernet destination and the target address."""
    broadcast: bytes
    """The same, with the broadcast destination before it."""

    def to(self, ip: Ip, mac: Mac | None) -> bytes:
        """Return the request for `ip`, by broadcast or to `mac`."""
        return self.broadcast + ip if mac is None else mac + self.head + ip


@lru_cache(maxsize=256)
def request(mac: Mac, own: Ip) -> Template:
    """Return the template of requests sent from `mac` and `own`. Raises ValueError for 0.0.0.0: it poisons proxies."""
    if own == NO_IP:
        raise ValueError("a request never has the sender address 0.0.0.0")
    # The target hardware address is unknown, so zero, in unicast probes as well (as Linux does).
    head = mac + _REQUEST + mac + own + NO_MAC
    return Template(head, BROADCAST + head)


@lru_cache(maxsize=256)
def probe(mac: Mac, own: Ip) -> Template:
    """Return the template of probes for `own`, an address of this host: their sender is 0.0.0.0 (RFC 5227, 2.1.1).

    A request with our own address as sender and target would be an announcement (RFC 5227, 2.3).
    """
    head = request(mac, own).head
    head = head[:SENDER_IP] + NO_IP + head[SENDER_IP + 4 :]
    return Template(head, BROADCAST + head)
