"""Addresses that several MACs use rightly (hosts on two interfaces, virtual routers, clusters, proxies); our own."""

from collections import OrderedDict
from collections.abc import Mapping
from ipaddress import ip_address
from math import inf

from netscand.core.mac_ranges import is_virtual_router
from netscand.core.model import Device, Ip, Mac, Network, Status
from netscand.core.ratelimit import DAY, HOUR

# ---- shared hosts --------------------------------------------------------------------------------------------------
# Pairs of MACs that are one host, and addresses of clusters: neither is ever in conflict.

MOST_PAIRS, MOST_CLUSTERS, MOST_CARRIERS = 1_024, 256, 256
"""Maximum pairs, addresses of clusters, and virtual MACs remembered."""

CHECKED_FOR = DAY
"""Seconds after which the next claim within a pair is decided by probes again."""


class SharedHosts:
    """Pairs of interfaces of one host, and the addresses of clusters."""

    def __init__(self) -> None:
        self._pairs: OrderedDict[frozenset[Mac], float] = OrderedDict()
        self._clusters: OrderedDict[tuple[str, Ip], Mac] = OrderedDict()
        self._carriers: OrderedDict[Mac, Mac] = OrderedDict()
        """Virtual MAC → the station whose frame had its last answer."""

    def are_one(self, one: Mac, other: Mac, now: float) -> bool:
        """Return whether one carries the other's frames, or both were one host when that was last checked."""
        if self._carriers.get(one) == other or self._carriers.get(other) == one:
            return True
        return now - self._pairs.get(frozenset((one, other)), -inf) < CHECKED_FOR

    def join(self, one: Mac, other: Mac, now: float) -> bool:
        """Note that two MACs are one host; return whether that is new."""
        pair = frozenset((one, other))
        is_new = pair not in self._pairs
        self._pairs[pair] = now
        self._pairs.move_to_end(pair)
        if len(self._pairs) > MOST_PAIRS:
            self._pairs.popitem(last=False)
        return is_new

    def part(self, one: Mac, other: Mac) -> None:
        """Note that two MACs are in conflict, so not one host."""
        self._pairs.pop(frozenset((one, other)), None)

    def note_carrier(self, virtual: Mac, station: Mac) -> None:
        """Note which station carries the frames of a virtual MAC: that of the router, or of a cluster's member."""
        self._carriers[virtual] = station
        self._carriers.move_to_end(virtual)
        if len(self._carriers) > MOST_CARRIERS:
            self._carriers.popitem(last=False)

    def note_cluster(self, network: str, ip: Ip, group: Mac) -> None:
        """Note that an undisputed address is that of a cluster."""
        self._clusters[network, ip] = group
        if len(self._clusters) > MOST_CLUSTERS:
            self._clusters.popitem(last=False)

    def is_cluster(self, network: str, ip: Ip, group: Mac | None) -> bool:
        """Return whether an address is that of this cluster."""
        return group is not None and self._clusters.get((network, ip)) == group


# ---- our own addresses ---------------------------------------------------------------------------------------------

MOST_OWN_CLAIMS = 16
"""Maximum claims to this host's addresses remembered."""

CLAIMED_FOR, PROBED_EVERY = 600.0, HOUR
"""Seconds for which a claim to an address of this host lasts after its last frame; while the claimant is online, until
the next probe of that address (RFC 5227, section 2.1.1), which is sent so often."""


class OwnClaims:
    """Claims of other MACs to the addresses of this host."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, Ip, Mac], float] = OrderedDict()

    def note(self, network: Network, ip: Ip, claimant: Mac, now: float) -> None:
        """Note a frame with an address of this host and another MAC."""
        key = network.id, ip, claimant
        self._seen[key] = now
        self._seen.move_to_end(key)
        if len(self._seen) > MOST_OWN_CLAIMS:
            self._seen.popitem(last=False)

    def problems(self, networks: Mapping[str, Network], devices: Mapping[Mac, Device], now: float) -> list[str]:
        """Return the claims that last, one sentence each."""
        sentences = []
        for (network_id, ip, mac), at in self._seen.items():
            network, device = networks.get(network_id), devices.get(mac)
            is_online = device is not None and device.status is Status.ONLINE
            lasts = PROBED_EVERY + CLAIMED_FOR if is_online else CLAIMED_FOR
            if network is not None and ip in network.ours and now - at < lasts:
                sentences.append(
                    f"{ip_address(ip)}, an address of this host, is claimed by {mac.hex(':')} too, on {network_id}"
                )
        return sentences


# ---- proxies -------------------------------------------------------------------------------------------------------
# Devices that answer for others (proxy ARP): at more IPv4 addresses than a host has.
#
# Only answers to our own requests count, because any station can announce 64 addresses; the mark expires with them.


MOST_ADDRESSES = 64
"""Maximum addresses of a host."""

WINDOW = 1800.0
"""Seconds within which a proxy answers at more addresses than that."""

MOST_PROXIES = 256
"""Maximum devices remembered that answered at addresses that they do not hold."""


class Proxies:
    """Devices that answered at addresses that they do not hold, and these addresses."""

    def __init__(self) -> None:
        self._answered: OrderedDict[Mac, tuple[float, set[Ip]]] = OrderedDict()
        """Start of the window, and the addresses in it."""

    def answered(self, device: Device, ip: Ip, now: float) -> None:
        """Note an answer at an IPv4 address that the device does not hold."""
        since, where = self._answered.get(device.mac, (now, set()))
        if now - since > WINDOW:
            device.is_proxy = self._is_proxy(device, where)
            since, where = now, set()
        if len(where) <= MOST_ADDRESSES:
            where.add(ip)
        device.is_proxy = device.is_proxy or self._is_proxy(device, where)
        self._answered[device.mac] = since, where
        self._answered.move_to_end(device.mac)
        if len(self._answered) > MOST_PROXIES:
            self._answered.popitem(last=False)

    def expire(self, device: Device, now: float) -> None:
        """Clear the proxy mark of a device that has stopped answering for others."""
        since, _ = self._answered.get(device.mac, (now - 3 * WINDOW, None))
        if now - since > 2 * WINDOW:
            device.is_proxy = False
            self._answered.pop(device.mac, None)

    @staticmethod
    def _is_proxy(device: Device, where: set[Ip]) -> bool:
        return len(where) + sum(len(address.ip) == 4 for address in device.addresses) > MOST_ADDRESSES


def give_ips(network: Network, pair: tuple[Device, Device], both: list[Ip], now: float) -> None:
    """Give two devices of one host different `ip`s; the virtual MAC of a gateway gets the gateway's address."""
    keeps, yields = pair if not is_virtual_router(pair[1].mac) else pair[::-1]
    if is_virtual_router(keeps.mac) and network.gateway is not None:
        gateway = keeps.address_at(network.id, network.gateway)
        if gateway is not None:
            gateway.main_since = now
    if yields.ip == keeps.ip:
        main = next((yields.address_at(network.id, each) for each in both if each != keeps.ip), None)
        if main is not None:
            main.main_since = now


def is_proxied(holder: Device, ip: Ip) -> bool:
    """Return whether an address is one that a proxy answers for, not its own (the first one that it had)."""
    return holder.is_proxy and ip != next((address.ip for address in holder.addresses if len(address.ip) == 4), None)
