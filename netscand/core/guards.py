"""Addresses that are guarded: a claim to one of them is published at once, from a budget that no other claim can spend.

These are the gateway's, this host's own, and those of IPv6 routers. Anybody can advertise itself as a router, so that
only those known for longest are guarded, each by a budget of its own.
"""

from collections.abc import Hashable, Iterable
from typing import NamedTuple

from netscand.core.budgets import GATEWAY_CLAIMS, OWN_CLAIMS, ROUTER_CLAIMS, Budget
from netscand.core.model import Device, Ip, Network

MOST_ROUTERS = 4
"""Routers of an interface that are guarded."""


class Guard(NamedTuple):
    """What pays for the events of claims to a guarded address."""

    budget: Budget
    spender: Hashable
    router: Device | None = None
    """The IPv6 router whose address it is."""


class Guards:
    """The guarded addresses of every interface (ifindex)."""

    def __init__(self) -> None:
        self._ours: dict[int, frozenset[Ip]] = {}
        self._routers: dict[int, list[Device]] = {}
        """Those known for longest first."""

    def open(self, networks: Iterable[Network]) -> None:
        """Take the networks that are scanned, which have our own addresses."""
        self._ours = {}
        for network in networks:
            self._ours[network.index] = self._ours.get(network.index, frozenset()) | network.ours

    def is_ours(self, network: Network, ip: Ip) -> bool:
        """Return whether an address is this host's own."""
        return ip in self._ours.get(network.index, ())

    def advertised(self, device: Device) -> None:
        """Take that a device is a router of IPv6 now, or is none any more."""
        for index, routers in self._routers.items():
            self._routers[index] = [router for router in routers if router is not device]
        if device.is_router:
            routers = [*self._routers.get(device.interface, ()), device]
            self._routers[device.interface] = sorted(routers, key=lambda each: each.first_seen)[:MOST_ROUTERS]

    def at(self, network: Network, ip: Ip) -> Guard | None:
        """Return the guard of an address; None: it has none."""
        if self.is_ours(network, ip):
            return Guard(OWN_CLAIMS, network.id)
        if ip == network.gateway:
            return Guard(GATEWAY_CLAIMS, network.id)
        if len(ip) == 16:
            for router in self._routers.get(network.index, ()):
                if any(held.ip == ip and held.network == network.id for held in router.addresses):
                    return Guard(ROUTER_CLAIMS, router.mac, router)
        return None
