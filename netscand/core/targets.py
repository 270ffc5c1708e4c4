"""What a client may name to be scanned: an IPv4 address, a prefix, or the id of a network."""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network
from itertools import chain

from netscand.core.hosts import spans, within
from netscand.core.model import BadTarget, Network

Wish = dict[str, frozenset[int] | None]
"""Network → the offsets wanted; None: all."""


def resolve(targets: Sequence[str], networks: Sequence[Network]) -> Wish:
    """What to ask for; without targets, everything. A target in two networks is asked on both. Raises BadTarget."""
    if not networks:
        raise BadTarget("no network is scanned at the moment")
    if not targets:
        return {network.id: None for network in networks}
    whole: dict[str, None] = {}
    some: dict[str, set[int]] = {}
    for target in dict.fromkeys(targets):  # a thousand times half of a large network would hold everyone up
        found = dict(_places(target, networks))
        if not found:
            if any(IPv4Network(target).subnet_of(part) for network in networks for part in network.spared):
                raise BadTarget(f"{target}: excluded by [scan] exclude")
            scanned = ", ".join(network.id for network in networks)
            raise BadTarget(f"{target}: not an address within a scanned network (scanned: {scanned})")
        for network, offsets in found.items():
            if offsets is None:
                whole[network] = None
            else:
                some.setdefault(network, set()).update(offsets)
    return {network: frozenset(offsets) for network, offsets in some.items()} | whole


def merge(wish: Wish, more: Mapping[str, frozenset[int] | None]) -> None:
    """Add to a wish what another one wants."""
    for network, offsets in more.items():
        have = wish.get(network, frozenset())
        wish[network] = None if have is None or offsets is None else have | offsets


def _places(target: str, networks: Sequence[Network]) -> Iterator[tuple[str, frozenset[int] | None]]:
    if any(target == network.id for network in networks):
        yield target, None
        return
    try:
        prefix = IPv4Network(target)
    except ValueError:
        mend = "expected an IPv4 address, a prefix such as 192.168.1.0/24, or the id of a scanned network"
        raise BadTarget(f"{target[:64]!r}: {mend}") from None
    for network in networks:
        if prefix == network.cidr:
            yield network.id, None
        elif prefix.subnet_of(network.cidr):
            first = int(prefix.network_address) - int(network.cidr.network_address)
            hosts = spans(network.cidr, network.spared)
            if asked := frozenset(chain(*(within(span, first, first + prefix.num_addresses) for span in hosts))):
                yield network.id, asked
