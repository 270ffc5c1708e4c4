"""Sender of a frame, and checks of addresses that a single host can have."""

from typing import NamedTuple

from netscand.core.model import Ip, Mac

NO_IP = Ip(bytes(4))
NO_IP6 = Ip(bytes(16))
LOOPBACK6 = Ip(bytes(15) + b"\x01")
NO_MAC = Mac(bytes(6))
BROADCAST_IP = Ip(b"\xff" * 4)

NO_HOST = frozenset([0, 127, *range(224, 240)])
"""First bytes that no host's IPv4 address has: this network, loopback, multicast (RFC 6890)."""


class Sender(NamedTuple):
    """Source of a frame by its Ethernet and IP headers, with time and interface."""

    mac: Mac
    ip: Ip
    at: float
    interface: int


def is_host(ip: Ip) -> bool:
    """Return whether a host can have this IPv4 or IPv6 address."""
    if len(ip) == 4:
        return ip[0] not in NO_HOST and ip != BROADCAST_IP
    return ip[0] != 0xFF and ip not in (NO_IP6, LOOPBACK6)


def is_station(mac: Mac) -> bool:
    """Return whether a single station can have this MAC."""
    return not mac[0] & 1 and mac != NO_MAC
