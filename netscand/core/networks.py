"""Networks and the devices in them: lookup by address, and the rules of presence that hold there."""

from collections import Counter
from collections.abc import Hashable, Iterable
from math import inf

from netscand.core.model import Address, Device, Ip, Network, NetworkState, Probe, Status
from netscand.core.presence import Rules

# ---- places --------------------------------------------------------------------------------------------------------
# Which network an address belongs to, and where a device is asked.

SCANNED = (NetworkState.UP, NetworkState.SILENT)
"""States in which a network is heard and asked."""

MOST_COUNTED = 65_536
"""Addresses of an interface that its budgets grow with, at most: a /8 has no more devices than a /16."""

V4_FIRST = 120.0
"""Seconds: a device that was heard so long after its IPv4 address was may have no IPv4 any more."""


ANSWERED_WITHIN = 86_400.0
"""Seconds for which an address where a device answered us is asked too before the device is called offline."""

MOST_FURTHER = 4
"""Addresses that are asked then, those known for longest: whatever others say in its name later adds none to these."""

ProbeTarget = tuple[Network, Address]
"""Where to ask."""


class NetworkTable:
    """All networks, and the scanned ones by interface."""

    def __init__(self, networks: dict[str, Network]) -> None:
        self._networks = networks
        """By id; shared with who only reads it."""
        self._at: dict[int, tuple[tuple[int, int, Network], ...]] = {}
        """Interface → its scanned networks, each as (prefix, mask, network)."""

    def lookup(self, interface: int, ip: Ip | None) -> Network | None:
        """The network that an address heard on an interface belongs to; the interface's first for what has none.

        None: nothing is scanned on this interface, so what is heard there is not ours to judge.
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

    def is_heard(self, device: Device, now: float) -> bool:
        """Whether a network is up on which the device was heard within its patience."""
        for address in device.addresses:
            network = self._networks.get(address.network)
            if network is not None and network.state is NetworkState.UP:  # noqa: SIM102 (one thought a line)
                if device.is_self or now - address.last_seen <= device.presence.patience:
                    return True
        return False

    def probe_target(self, device: Device) -> ProbeTarget | None:
        """Where a device was heard last: at its IPv4 address while that is heard, else at any. Anybody can say that."""
        best: ProbeTarget | None = None
        rank = (False, -inf)
        for address in device.addresses:
            network = self.probe_network(address)
            if network is None:
                continue
            candidate = len(address.ip) == 4 and device.last_seen - address.last_seen <= V4_FIRST, address.last_seen
            if best is None or candidate > rank:
                best, rank = (network, address), candidate
        return best

    def probe_network(self, address: Address) -> Network | None:
        """Return the network on which an address can be asked now; None: it cannot."""
        network = self._networks.get(address.network)
        if network is None or network.state not in SCANNED:
            return None
        if (network.excluded and network.excludes(address.ip)) if len(address.ip) == 4 else network.own6 is None:
            return None
        return network

    def last_answered(self, device: Device, on: str | None = None) -> ProbeTarget | None:
        """Where a device last answered us, of all networks and both protocols, or `on` one network; None: nowhere.

        Nobody can say that in its name without hearing what we ask.
        """
        best = max(
            (held for held in device.addresses if held.network == on or (on is None and self.probe_network(held))),
            key=lambda held: held.answered,
            default=None,
        )
        if best is None or best.answered == -inf:
            return None
        network = self.probe_network(best)
        return None if network is None else (network, best)

    def further_targets(self, device: Device, now: float) -> list[ProbeTarget]:
        """Where a device answered us within a day, of all addresses of a device that has several."""
        if len(device.addresses) < 2:
            return []
        held = [each for each in device.addresses if now - each.answered <= ANSWERED_WITHIN]
        held = sorted(held, key=lambda each: each.first_seen)
        return [(network, each) for each in held if (network := self.probe_network(each)) is not None][:MOST_FURTHER]

    def can_observe(self, device: Device) -> bool:
        """Whether the silence of a device that cannot be asked says anything: not while its interface is down."""
        return device.status is Status.ONLINE or not (device.addresses or self.lookup(device.interface, None) is None)

    def set(self, networks: Iterable[Network]) -> None:
        """Take all networks anew."""
        taken = list(networks)
        self._networks.clear()
        self._networks.update({network.id: network for network in taken})
        self._index()

    def change(self, network: Network) -> None:
        """Take another state of a network."""
        self._networks[network.id] = network
        self._index()

    def _index(self) -> None:
        table: dict[int, list[tuple[int, int, Network]]] = {}
        for network in self._networks.values():
            if network.state in SCANNED:
                row = (int(network.cidr.network_address), int(network.cidr.netmask), network)
                table.setdefault(network.index, []).append(row)
        # The longest prefix first, so that an address in two nested networks belongs to the inner one.
        self._at = {index: tuple(sorted(rows, key=lambda row: -row[1])) for index, rows in table.items()}


def is_on(device: Device, network: str, interface: int | None) -> bool:
    """Whether a device is of a network: by an address, or, without any, by the interface where it was heard."""
    for address in device.addresses:
        if address.network == network:
            return True
    return not device.addresses and device.interface == interface


def addresses_by_interface(networks: Iterable[Network]) -> dict[Hashable, int]:
    """Return how many addresses may be asked on each interface (ifindex)."""
    count: Counter[Hashable] = Counter()
    for network in networks:
        if network.state in SCANNED:
            count[network.index] += len(network.offsets)
    return {index: min(addresses, MOST_COUNTED) for index, addresses in count.items()}


def record_probe(device: Device, probe: Probe, now: float) -> None:
    """Take that presence asked a device at an address."""
    for held in device.addresses:
        if held.ip == probe.ip and held.network == probe.network.id:
            held.probed_at = now


# ---- rulebook ------------------------------------------------------------------------------------------------------
# Which rules of presence hold for a device: `[presence]`, or the patience of the `[[network]]` where it is asked.


class PresenceRules:
    """`rules` are those of `[presence]`."""

    def __init__(self, rules: Rules, table: NetworkTable) -> None:
        self.rules = rules
        self._table = table
        self._own: dict[Rules, Rules] = {}
        self._applied: object = None

    def of(self, network: Network) -> Rules:
        """The rules of a network; devices share them."""
        if network.patience is None:
            return self.rules
        rules = Rules(self.rules.probe_interval, *network.patience)
        return self._own.setdefault(rules, rules)

    def apply(self, device: Device) -> None:
        """Give a device the rules of where it is asked."""
        where = self._table.probe_target(device)
        device.presence.rules = self.of(where[0]) if where else self.rules

    def changed(self, networks: Iterable[Network]) -> bool:
        """Whether `apply` may give anybody other rules than at the last call of this."""
        own = {network.id: network.patience for network in networks if network.state in SCANNED}
        before, self._applied = self._applied, (self.rules, own if any(own.values()) else None)
        return before != self._applied
