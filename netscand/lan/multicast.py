"""Multicast memberships on each scanned interface, so that neither the card nor a snooping switch filters frames.

The card accepts all multicast (PACKET_MR_ALLMULTI), and ordinary memberships (IGMP, MLD) show snooping switches that a
member is behind our port. The sockets are bound to no port, so they receive nothing: the ring does.
"""

import logging
import socket
import struct
from collections.abc import Iterable
from contextlib import ExitStack, suppress

from netscand.core.model import Network, NetworkState
from netscand.lan import bpf
from netscand.lan.bpf import SOL_PACKET

PACKET_ADD_MEMBERSHIP = 1
PACKET_MR_ALLMULTI = 2

GROUPS_V4 = ("224.0.0.251",)
"""mDNS."""

GROUPS_V6 = ("ff02::fb", "ff02::2")
"""mDNS; all routers, to which a joining host sends its solicitation. (Every interface is in the group of all nodes.)"""

log = logging.getLogger(__name__)


class MulticastMembership:
    """Memberships by interface."""

    def __init__(self) -> None:
        self._memberships: dict[int, ExitStack] = {}

    def follow(self, networks: Iterable[Network]) -> None:
        """Join the groups on the interfaces of networks that are up, and leave them on all others."""
        wanted = {network.index for network in networks if network.state in (NetworkState.UP, NetworkState.SILENT)}
        for index in self._memberships.keys() - wanted:
            self._memberships.pop(index).close()
        for index in wanted - self._memberships.keys():
            self._memberships[index] = _join(index)

    def close(self) -> None:
        """Leave all groups."""
        self.follow(())


def _join(index: int) -> ExitStack:
    """Join the groups that can be joined: an interface may have no IPv6, or be gone."""
    sockets = ExitStack()
    try:
        card = sockets.enter_context(bpf.packet_socket())
        card.setsockopt(
            SOL_PACKET, PACKET_ADD_MEMBERSHIP, struct.pack("=iHH8x", index, PACKET_MR_ALLMULTI, 0)
        )  # fmt: skip
    except OSError as refused:
        log.debug("interface %d: not all multicast: %s", index, refused)
    for family, level, option, shape, groups in (
        (socket.AF_INET, socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, "=4s4xi", GROUPS_V4),
        (socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, "=16si", GROUPS_V6),
    ):
        with suppress(OSError):  # no IPv6 in this kernel
            member = sockets.enter_context(socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
            for group in groups:
                address = socket.inet_pton(family, group)
                with suppress(OSError):
                    member.setsockopt(level, option, struct.pack(shape, address, index))
    return sockets
