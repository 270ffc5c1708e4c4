"""Targets of a scan request: an IPv4 address, a prefix, or the id of a network."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network

from netscand.core.model import BadTarget, Busy, Network
from netscand.core.ranges import Runs, spans

ScanRequest = dict[str, Runs | None]
"""Network → requested offsets; None: all."""

MOST_REQUESTED = 65_536
"""Maximum addresses of one network in a requested scan: those of a /16. A request for more probes only those of them
where devices were seen."""

MOST_RUNS = 16_384
"""Maximum separate runs of addresses of one network that may wait for a scan; they use memory until it begins."""


def resolve(targets: Sequence[str], networks: Sequence[Network]) -> ScanRequest:
    """Return the scan request for targets; without any, everything. A target in two networks is scanned on both.

    The cost is in proportion to the targets, not to the addresses in them. Raises BadTarget.
    """
    if not networks:
        raise BadTarget("no network is scanned at the moment")
    if not targets:
        return {network.id: None for network in networks}
    scanned = [_Scanned(network) for network in networks]
    by_id = {each.network.id: each for each in scanned}
    for target in dict.fromkeys(targets):
        if target in by_id:
            by_id[target].whole = True
            continue
        span = _span(target)
        inside = [each for each in scanned if each.span.start <= span.start and span.stop <= each.span.stop]
        if not sum(each.take(span) for each in inside):  # not any(): each network must take it
            raise _not_scanned(target, networks)
    return {each.network.id: None if each.whole else each.wanted() for each in scanned if each.whole or each.named}


def _span(target: str) -> range:
    """Return the addresses of an address or a prefix, as numbers. Raises BadTarget."""
    text, slash, bits = target.partition("/")
    try:
        if slash + bits not in _SIZES:  # such as /255.255.255.0; slow, and there may be 1,000 targets
            prefix = IPv4Network(target)
            return range(int(prefix.network_address), int(prefix.broadcast_address) + 1)
        first, size = int(IPv4Address(text)), _SIZES[slash + bits]
        if first % size:
            raise ValueError(target)
    except ValueError:
        expected = "expected an IPv4 address, a prefix such as 192.168.1.0/24, or the id of a scanned network"
        raise BadTarget(f"{target[:64]!r}: {expected}") from None
    return range(first, first + size)


_SIZES = {"": 1} | {f"/{bits}": 1 << 32 - bits for bits in range(33)}
"""Suffix of a target → number of addresses."""


def _not_scanned(target: str, networks: Sequence[Network]) -> BadTarget:
    prefix = IPv4Network(target)
    if any(prefix.subnet_of(part) for network in networks for part in network.excluded):
        return BadTarget(f"{target}: excluded by [scan] exclude")
    scanned = ", ".join(network.id for network in networks)
    return BadTarget(f"{target}: not an address within a scanned network (scanned: {scanned})")


class _Scanned:
    """A scanned network, and the targets in it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.whole = False
        self.named: list[range] = []
        """Targets as offsets, in the order of the request."""
        self.span = range(int(network.cidr.network_address), int(network.cidr.broadcast_address) + 1)
        """Addresses of the network."""
        self._hosts = Runs(spans(network.cidr, network.excluded))

    def take(self, span: range) -> bool:
        """Add a span of addresses; return whether any of them may be scanned."""
        if span == self.span:
            self.whole = True
            return True
        offsets = range(span.start - self.span.start, span.stop - self.span.start)
        if next(self._hosts.parts([offsets]), None) is None:
            return False
        self.named.append(offsets)
        return True

    def wanted(self) -> Runs:
        return self._hosts.clipped(Runs.united(self.named).ranges)


def merge(request: ScanRequest, more: ScanRequest) -> ScanRequest:
    """Return the union of two requests. Raises Busy if it has too many separate runs."""
    merged = dict(request)
    for network, want in more.items():
        have = request.get(network, Runs(()))
        merged[network] = runs = None if have is None or want is None else Runs.united((*have.ranges, *want.ranges))
        if runs is not None and len(runs.ranges) > MOST_RUNS:
            raise Busy(f"{len(runs.ranges)} separate targets wait for a scan of {network}; try again when it has begun")
        if runs is not None and len(runs) > MOST_REQUESTED:
            raise Busy(f"{len(runs)} addresses of {network} would wait for a scan; try again when it has begun")
    return merged
