"""Networks: lookup by address, where to probe a device, and the rules of presence of each network."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Hashable, Iterable
from functools import lru_cache
from math import inf

from netscand.core.model import Address, Device, Ip, Network, NetworkState, Probe, Status
from netscand.core.presence import Rules

# ---- lookup --------------------------------------------------------------------------------------------------------
# The network that an address belongs to, and the addresses to probe a device at.

SCANNED = (NetworkState.UP, NetworkState.SILENT)
"""States in which a network is observed and probed."""

MOST_COUNTED = 65_536
"""Maximum addresses of an interface that its budgets grow with: a /8 has no more devices than a /16."""

MOST_NOT_SWEPT = 1_024
"""The same for a network whose addresses are not all scanned: beside a /24, 169.254.0.0/16 brings hardly any device."""

V4_FIRST = 120.0
"""Seconds for which the IPv4 address is preferred; after that without it, the device may use IPv6 only."""


ANSWERED_WITHIN = 86_400.0
"""Seconds for which an address where a device answered us is probed too before the device is reported offline."""

MOST_FURTHER = 4
"""Maximum of these, those known for longest, so that later claims in the device's name do not displace them."""

ProbeTarget = tuple[Network, Address]
"""Network and address to probe."""


class NetworkTable:
    """All networks, and the scanned ones by interface."""

    def __init__(self, networks: dict[str, Network]) -> None:
        self._networks = networks
        """By id; shared with components that only read it."""
        self._at: dict[int, tuple[tuple[int, int, Network], ...]] = {}
        """ifindex → its scanned networks, each as (prefix, mask, network)."""

    def lookup(self, interface: int, ip: Ip | None) -> Network | None:
        """Return the network of an address seen on an interface; of the others, the interface's first network.

        None: no network is scanned on this interface, so its frames are ignored.
        """
        networks = self._at.get(interface)
        if networks is None:
            return None
        if ip is not None and len(ip) == 4:
            number = int.from_bytes(ip)
            for prefix, mask, network in networks:
                if number & mask == prefix:
                    return network
        return networks[0][2]

    def has_recent_address(self, device: Device, now: float) -> bool:
        """Return whether a network is up on which the device was seen within its patience."""
        for address in device.addresses:
            network = self._networks.get(address.network)
            if network is not None and network.state is NetworkState.UP:  # noqa: SIM102 (one thought a line)
                if device.is_self or now - address.last_seen <= device.presence.patience:
                    return True
        return False

    def probe_target(self, device: Device) -> ProbeTarget | None:
        """Return where a device was seen last, preferably at its IPv4 address. Other stations can fake this.

        A device without an address is probed where it answered until another device took that address.
        """
        best: ProbeTarget | None = None
        addresses = device.addresses
        if len(addresses) == 1:  # as nearly all have
            address = addresses[0]
            network = self.probe_network(address)
            if network is not None and device.mac not in network.children:
                return network, address
            addresses = []
        rank = (False, -inf)
        for address in addresses:
            network = self.probe_network(address)
            if network is None or device.mac in network.children:
                continue
            candidate = len(address.ip) == 4 and device.last_seen - address.last_seen <= V4_FIRST, address.last_seen
            if best is None or candidate > rank:
                best, rank = (network, address), candidate
        if best is None and device.lost is not None and (network := self.probe_network(device.lost)) is not None:
            return network, device.lost
        return best

    def probe_network(self, address: Address) -> Network | None:
        """Return the network on which an address can be probed now; None: it cannot."""
        network = self._networks.get(address.network)
        if network is None or network.state not in SCANNED or not network.probed:
            return None
        if (network.excluded and network.excludes(address.ip)) if len(address.ip) == 4 else network.own6 is None:
            return None
        return network

    def last_answered(self, device: Device, on: str | None = None) -> ProbeTarget | None:
        """Return where a device last answered us, over IPv4 or IPv6, on any network or `on` one; None: nowhere.

        Another station can fake this only if it receives our requests.
        """
        best = None
        for address in device.addresses:
            if (best is None or address.answered > best.answered) and (
                address.network == on or (on is None and self.probe_network(address))
            ):
                best = address
        if best is None or best.answered == -inf:
            return None
        network = self.probe_network(best)
        return None if network is None else (network, best)

    def further_targets(self, device: Device, now: float) -> list[ProbeTarget]:
        """Return where a device with several addresses answered us within a day."""
        if len(device.addresses) < 2:
            return []
        address = [each for each in device.addresses if now - each.answered <= ANSWERED_WITHIN]
        address = sorted(address, key=lambda each: each.first_seen)
        return [(network, each) for each in address if (network := self.probe_network(each)) is not None][:MOST_FURTHER]

    def is_child(self, device: Device) -> bool:
        """Return whether a device is a macvlan interface on this host, which receives nothing that this host sends."""
        networks = (self._networks.get(address.network) for address in device.addresses)
        return any(network is not None and device.mac in network.children for network in networks)

    def why_unprobeable(self, device: Device) -> str:
        """Return why a device can never be probed; empty if it can, or may get an address at which it can."""
        if self.is_child(device):
            return "it is on a macvlan interface here, and cannot be probed"
        network = self.lookup(device.interface, device.ip)
        return "" if network is None or network.probed else "no program is known to have probed it"

    def can_observe(self, device: Device) -> bool:
        """Return whether the silence of a device that cannot be probed counts; not while its interface is down."""
        return device.status is Status.ONLINE or not (device.addresses or self.lookup(device.interface, None) is None)

    def set(self, networks: Iterable[Network]) -> None:
        """Replace all networks."""
        taken = list(networks)
        self._networks.clear()
        self._networks.update({network.id: network for network in taken})
        self._index()

    def change(self, network: Network) -> None:
        """Replace one network."""
        self._networks[network.id] = network
        self._index()

    def _index(self) -> None:
        table: dict[int, list[tuple[int, int, Network]]] = {}
        for network in self._networks.values():
            if network.state in SCANNED:
                row = (network.prefix, network.mask, network)
                table.setdefault(network.index, []).append(row)
        # The longest prefix first, so that an address in two nested networks belongs to the inner one.
        self._at = {index: tuple(sorted(rows, key=lambda row: -row[1])) for index, rows in table.items()}


@lru_cache(maxsize=2)  # the networks of an interface share both sets
def without(ips: frozenset[Ip], others: frozenset[Ip]) -> frozenset[Ip]:
    """Return the addresses that are not among the `others`."""
    return ips - others


@lru_cache(maxsize=2)
def united(ips: frozenset[Ip], others: frozenset[Ip]) -> frozenset[Ip]:
    """Return the addresses of both sets: one object for all networks that share them."""
    return ips if others <= ips else ips | others


@lru_cache(maxsize=2)
def _v4(ips: frozenset[Ip]) -> list[Ip]:
    return sorted(ip for ip in ips if len(ip) == 4)


def own_v4(network: Network) -> list[Ip]:
    """Return this host's IPv4 addresses in a network, `own` first, then ascending."""
    ips = _v4(network.ours)
    first = bisect_left(ips, network.cidr.network_address.packed)
    last = bisect_right(ips, network.cidr.broadcast_address.packed)
    return [network.own, *(ip for ip in ips[first:last] if ip != network.own)]


def is_on(device: Device, network: str, interface: int | None) -> bool:
    """Return whether a device is on a network: by an address; without any, by the interface where it was seen."""
    for address in device.addresses:
        if address.network == network:
            return True
    return not device.addresses and device.interface == interface


def has_answered(device: Device, network: str, ip: Ip) -> bool:
    """Return whether a device answered a request at one of its addresses since the start."""
    address = device.address_at(network, ip)
    return address is not None and address.answered > -inf


def addresses_by_interface(networks: Iterable[Network]) -> dict[Hashable, int]:
    """Return the number of scanned addresses of each interface (ifindex)."""
    count: Counter[Hashable] = Counter()
    for network in networks:
        if network.state in SCANNED:
            addresses = len(network.offsets)
            count[network.index] += addresses if network.swept else min(addresses, MOST_NOT_SWEPT)
    return {index: min(addresses, MOST_COUNTED) for index, addresses in count.items()}


def record_probe(device: Device, probe: Probe, now: float) -> None:
    """Note that presence probed a device at an address."""
    for address in device.addresses:
        if address.ip == probe.ip and address.network == probe.network.id:
            address.probed_at = now


# ---- rules ---------------------------------------------------------------------------------------------------------
# The rules of presence of a device: `[presence]`, or the patience of the `[[network]]` where it is probed.


class PresenceRules:
    """Rules of presence of each network; `rules` are those of `[presence]`."""

    def __init__(self, rules: Rules, table: NetworkTable) -> None:
        self.rules = rules
        self._table = table
        self._own: dict[Rules, Rules] = {}
        self._applied: object = None

    def of(self, network: Network) -> Rules:
        """Return the rules of a network; its devices share the object."""
        if network.patience is None:
            return self.rules
        rules = Rules(self.rules.probe_interval, *network.patience)
        return self._own.setdefault(rules, rules)

    def apply(self, device: Device) -> None:
        """Give a device the rules of the network where it is probed."""
        where = self._table.probe_target(device)
        device.presence.rules = self.of(where[0]) if where else self.rules

    def changed(self, networks: Iterable[Network]) -> bool:
        """Return whether `apply` may change rules since the last call of this method."""
        own = {network.id: network.patience for network in networks if network.state in SCANNED}
        before, self._applied = self._applied, (self.rules, own if any(own.values()) else None)
        return before != self._applied
