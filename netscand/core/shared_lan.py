"""Networks of this host that are one LAN, as when a host has a cable and Wi-Fi: one is scanned, the other stands by.

The same prefix on two interfaces is no proof: two separate LANs may use it. Proof is that a request of ours comes back
on the other interface, or that several devices answered on both. Any host can forge a frame with our MAC, so that
request asks for a random address of 127.0.0.0/8, which no host answers for: only who receives it can repeat it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from random import Random

from netscand.core.addresses import Addresses
from netscand.core.model import Device, Ip, Mac, Network, Observation, Probe
from netscand.core.networks import SCANNED, united

SHARED_DEVICES = 3
"""Devices that answered at one address on both interfaces, which prove one LAN as well."""

ECHO_WITHIN, MOST_WRONG = 1.0, 16
"""Seconds in which the request comes back; maximum other requests with our MAC meanwhile, which may be guesses."""

TRIES, TRY_APART, AGAIN = 3, 1.0, 60.0
"""Requests at first, and the seconds between two; then one each AGAIN seconds."""

EXPIRES = 600.0
"""Seconds without an echo or a shared answer after which the networks are no longer one LAN."""


@dataclass(slots=True)
class _Pair:
    """A network, and the one of the same prefix that is scanned rather than it."""

    main: str
    since: float
    due: float
    """When to send the next request."""
    proved: bool = False
    requested: Ip | None = None
    """Random address that the latest request asks for."""
    requested_at: float = -inf
    tries: int = 0
    wrong: int = 0
    """Other requests with our MAC since then."""
    proved_at: float = -inf
    shared: set[Mac] = field(default_factory=set)


class SharedLans:
    """Pairs of networks with one prefix on two interfaces. `open` is called with all networks whenever they change."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._networks: dict[str, Network] = {}
        """Networks that have the same prefix as another one, by id."""
        self._pairs: dict[str, _Pair] = {}
        """Network that stands by, or may do so → the pair."""
        self._others: dict[str, list[str]] = {}
        """Network that is scanned → those that stand by for it, or may do so."""

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def open(self, networks: Iterable[Network], now: float) -> list[Network]:
        """Follow the networks; return them, with those that are one LAN marked."""
        given = list(networks)
        groups: dict[object, list[Network]] = {}
        for network in given:
            if network.state in SCANNED:
                groups.setdefault(network.cidr, []).append(network)
        before, self._pairs, self._networks, self._others = self._pairs, {}, {}, {}
        for group in groups.values():
            if len(group) < 2:
                continue
            main, *others = sorted(group, key=lambda each: (each.rank, each.index))
            self._networks.update({network.id: network for network in group})
            self._others[main.id] = [other.id for other in others]
            for other in others:
                known = before.get(other.id)
                self._pairs[other.id] = known if known and known.main == main.id else _Pair(main.id, now, now)
        return [self._marked(network) for network in given]

    def marked(self, other: str, networks: Mapping[str, Network]) -> list[Network]:
        """Return a network that stands by, or no longer does, and its pair, in their new states."""
        both = (self._networks[self._pairs[other].main], self._networks[other])
        return [replace(self._marked(each), state=networks[each.id].state) for each in both]

    def _marked(self, network: Network) -> Network:
        pair = self._pairs.get(network.id)
        if pair is not None and pair.proved:
            main = self._networks[pair.main]
            why = f"{network.why}; on the same LAN as {main.id}, which is scanned instead: {_preference(main, network)}"
            return replace(network, same_lan_as=main.id, why=why)
        ours = network.own_ips
        for other in self._proved(network.id):
            ours = united(ours, self._networks[other].ours)
        return network if ours is network.own_ips else replace(network, own_ips=ours)

    def _proved(self, network: str) -> list[str]:
        """Return the networks that are known to be on the LAN of a network that is scanned instead."""
        return [other for other in self._others.get(network, ()) if self._pairs[other].proved]

    def main_of(self, network: str) -> str | None:
        """Return the network that is scanned instead of one that is on the same LAN; None: it is scanned itself."""
        pair = self._pairs.get(network)
        return pair.main if pair is not None and pair.proved else None

    def stand_ins(self, network: str) -> list[str]:
        """Return the networks on the same LAN that stand by for one, the best first."""
        found = [self._networks[other] for other in self._proved(network)]
        return [each.id for each in sorted(found, key=lambda each: (each.rank, each.index))]

    def idle_until(self, network: str) -> float:
        """Return until when a network is not scanned: infinite while it stands by."""
        pair = self._pairs.get(network)
        if pair is None:
            return -inf
        return inf if pair.proved else pair.since + TRIES * TRY_APART

    def where(self, seen: Observation, network: Network, device: Device | None) -> str:
        """Return the network that an observation belongs to: of several on one LAN, the one that is scanned.

        Before the proof, an address that a device has on the other network is the same one.
        """
        pair = self._pairs.get(network.id)
        if pair is not None and pair.proved:
            return pair.main
        if device is None or seen.ip is None or network.id not in self._networks:
            return network.id
        for address in device.addresses:
            other = self._networks.get(address.network)
            if address.ip == seen.ip and other is not None and other.cidr == network.cidr:
                return other.id
        return network.id

    @property
    def next_at(self) -> float:
        """When to call `due` next."""
        return min((pair.due for pair in self._pairs.values()), default=inf)

    def due(self, now: float) -> tuple[list[Probe], list[str]]:
        """Return the requests to send now, and the networks that are no longer known to be on the LAN of another."""
        probes, parted = [], []
        for other, pair in self._pairs.items():
            if pair.due > now:
                continue
            if pair.proved and now - pair.proved_at > EXPIRES:
                pair.proved = False
                pair.shared.clear()
                parted.append(other)
            pair.tries += 1
            pair.due = now + (TRY_APART if pair.tries < TRIES else AGAIN)
            pair.requested, pair.requested_at, pair.wrong = Ip(b"\x7f" + self._rng.randbytes(3)), inf, 0
            probes.append(Probe(self._networks[pair.main], pair.requested, None))
        return probes, parted

    def is_due(self, probe: Probe) -> bool:
        """Return whether a probe is the latest request of a pair."""
        return any(pair.requested == probe.ip for pair in self._pairs.values())

    def record_sent(self, probe: Probe, now: float) -> None:
        """Note that a request was sent."""
        for pair in self._pairs.values():
            if pair.requested == probe.ip:
                pair.requested_at = now

    def record_echo(self, seen: Observation) -> str | None:
        """Note a request with a MAC of ours; return the network that it proves to be on the same LAN, else None."""
        for other, pair in self._pairs.items():
            if (seen.mac, seen.interface) != (self._networks[pair.main].mac, self._networks[other].index):
                continue
            if seen.target != pair.requested:
                pair.wrong += 1
            elif 0 <= seen.at - pair.requested_at <= ECHO_WITHIN and pair.wrong <= MOST_WRONG:
                return self._prove(other, pair, seen.at)
        return None

    def _prove(self, other: str, pair: _Pair, at: float) -> str | None:
        pair.proved_at = at
        pair.proved, before = True, pair.proved
        return None if before else other

    def record_answer(self, seen: Observation, network: Network, device: Device) -> str | None:
        """Note an answer to a request on a network; return the network that it proves to be on the same LAN."""
        for other, pair in self._pairs.items():
            if network.id not in (other, pair.main):
                continue
            elsewhere = pair.main if network.id == other else other
            if not any(
                each.ip == seen.ip and each.network == elsewhere and each.answered > -inf for each in device.addresses
            ):
                continue
            pair.shared.add(device.mac)
            if len(pair.shared) >= SHARED_DEVICES:
                return self._prove(other, pair, seen.at)
        return None


def _preference(main: Network, other: Network) -> str:
    """Return why one of two networks is scanned instead of the other."""
    if main.rank[0] != other.rank[0]:
        return f"the default route of {main.interface} is preferred"
    if main.rank != other.rank:
        return f"{main.interface} is not Wi-Fi"
    return f"{main.interface} is the first interface"


def rehome(device: Device, addresses: Addresses, source: str, target: Network) -> bool:
    """Move a device's addresses to another network on the same LAN, without an event; return whether it has any."""
    moved = [address for address in device.addresses if address.network == source]
    had = {address.ip for address in device.addresses if address.network == target.id}
    for address in moved:
        addresses.drop(device, address)
        if address.ip in had:
            continue
        address.network, address.interface = target.id, target.interface
        if address.foreign or addresses.holder(target.id, address.ip) is not None:
            addresses.attach(device, address)
        else:
            addresses.put(device, address)
    if device.lost is not None and device.lost.network == source:
        device.lost.network, device.lost.interface = target.id, target.interface
    if moved:
        device.interface = target.index
    return bool(moved)
