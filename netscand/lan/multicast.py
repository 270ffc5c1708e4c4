"""Multicast that the card or a snooping switch would keep from us is asked for, on each interface that is scanned.

The card is told to let all multicast in; and by ordinary memberships (IGMP, MLD), switches that look for members learn
that there is one behind our port. The sockets are bound to no port, so nothing ever arrives at them: the ring hears.
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
"""mDNS; all routers, whom a host that comes solicits. (All nodes: every interface is in it.)"""

log = logging.getLogger(__name__)


class MulticastMembership:
    """Memberships, by interface."""

    def __init__(self) -> None:
        self._memberships: dict[int, ExitStack] = {}

    def follow(self, networks: Iterable[Network]) -> None:
        """Be a member on the interfaces of networks that are up, and on no other."""
        wanted = {network.index for network in networks if network.state in (NetworkState.UP, NetworkState.SILENT)}
        for index in self._memberships.keys() - wanted:
            self._memberships.pop(index).close()
        for index in wanted - self._memberships.keys():
            self._memberships[index] = _join(index)

    def close(self) -> None:
        """Leave them all."""
        self.follow(())


def _join(index: int) -> ExitStack:
    """Join what can be joined: an interface may be without IPv6, or gone again."""
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
