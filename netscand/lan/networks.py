"""Choice of the networks to scan. Pure.

Input: the kernel's interfaces, addresses and default routes, and the configuration. Output: every network, with a
sentence about why it is scanned or not.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import NamedTuple, TypeVar

from netscand.config import NetworkRule, Scan, expected_bytes
from netscand.core.model import NO_ROUTE, Ip, Mac, Network, NetworkState
from netscand.lan import turns

IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_POINTOPOINT = 0x10
IFF_RUNNING = 0x40
IFF_NOARP = 0x80
ARPHRD_ETHER = 1

LARGEST, SMALLEST = 16, 30
"""Prefix lengths whose addresses are all scanned without being configured. In a larger prefix, devices are received and
probed where they were seen; a smaller one has no other host."""

LINK_LOCAL = IPv4Network("169.254.0.0/16")
"""Hosts choose addresses at random in it (RFC 3927), so that a scan of all of it finds next to none."""

HOST_SIDE = (
    "veth*", "ve-*", "vb-*", "vz-*", "vnet*", "docker*", "virbr*", "lxc*", "lxdbr*", "incusbr*", "cni*",
    "cali*", "cilium*", "flannel*", "kube*", "podman*", "cbr*", "weave*", "vmnet*", "vboxnet*", "tap*", "tun*", "wg*",
    "zt*", "tailscale*", "nebula*", "fwbr*", "fwpr*", "fwln*",
)  # fmt: skip
"""Names of the host side of containers, virtual machines and tunnels. The kind of link is not enough: a veth named
`eth0` is the LAN of its container."""

DOCKER_BRIDGE = re.compile(r"br-[0-9a-f]{12}")
"""Name that Docker gives to the bridge of a network: the first 12 digits of its id. Other bridges `br-…` are LANs."""

TUNNELS = frozenset(["vxlan", "geneve", "gretap", "ip6gretap", "erspan", "ip6erspan", "bareudp", "l2tp", "openvpn"])
"""Kinds of links that look like Ethernet but are tunnels."""

AT_ONCE = 100
"""Networks that one piece of work decides about: some milliseconds."""

MOST_NAMED = 4
"""Maximum excluded parts named in a sentence."""

_KINDS = {"bridge": "bridge", "bond": "bond", "team": "team", "vlan": "VLAN", "veth": "virtual Ethernet"}


@dataclass(frozen=True, slots=True)
class Link:
    """Interface, from netlink."""

    index: int
    name: str
    flags: int
    hardware: int
    """ARPHRD_…"""
    mac: Mac | None
    kind: str = ""
    """IFLA_INFO_KIND; empty for hardware."""
    master: int = 0
    """ifindex of the bridge, bond or VRF that it belongs to."""


@dataclass(frozen=True, slots=True)
class HostAddress:
    """IPv4 address of this host."""

    index: int
    own: Ip
    cidr: IPv4Network
    peer: bool = False
    """Point-to-point: the prefix is that of the other end."""
    secondary: bool = False


@dataclass(frozen=True, slots=True)
class HostAddress6:
    """IPv6 address of this host."""

    index: int
    own: Ip
    cidr: IPv6Network


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """Default route with its gateway."""

    index: int
    gateway: Ip
    metric: int = 0


Entry = TypeVar("Entry", HostAddress, HostAddress6, DefaultRoute)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kernel:
    """State of netlink at one moment."""

    links: tuple[Link, ...] = ()
    addresses: tuple[HostAddress, ...] = ()
    routes: tuple[DefaultRoute, ...] = ()
    addresses6: tuple[HostAddress6, ...] = ()
    children: frozenset[tuple[int, Mac]] = frozenset()
    """ifindex and MAC of each macvlan or macvtap interface on an interface with an address, in any namespace."""


def decide(
    kernel: Kernel, scan: Scan, rules: Sequence[NetworkRule], before: Collection[Network] = ()
) -> tuple[Network, ...]:
    """Return every network of every interface, excluded ones too, by ifindex and prefix.

    What has not changed, and what the networks of an interface share, is taken from `before`, so that comparing
    thousands of them with that is cheap.
    """
    return turns.run_now(decide_in_turns(kernel, scan, rules, before))


def decide_in_turns(
    kernel: Kernel, scan: Scan, rules: Sequence[NetworkRule], before: Collection[Network] = ()
) -> turns.Work[tuple[Network, ...]]:
    """Do the same in pieces: there may be thousands of networks."""
    interfaces = yield from _interfaces(kernel, scan, {network.index: network for network in before})
    known = {network.id: network for network in before}
    found: dict[tuple[int, IPv4Network], Network] = {}
    for number, address in enumerate(sorted(kernel.addresses, key=_order), 1):
        if number % AT_ONCE == 0:
            yield
        interface = interfaces.get(address.index)
        if interface is None:
            continue  # deleted between the two dumps; the next dump is consistent
        # Several addresses in one prefix are one network; the first one, the kernel's choice, is the sender.
        key = (address.index, address.cidr)
        if key not in found:
            network = _network(interface, address, scan, rules)
            found[key] = _kept(known.get(network.id, network), network)
    return tuple(found.values())


def steps(before: Iterable[Network], after: tuple[Network, ...]) -> Iterator[tuple[Network, ...]]:
    """Yield the way from some networks to others: a few of them differ in each step; the last step is `after`.

    A prefix changes in one step, on all interfaces: it may be that of an interface with a new name.
    """
    now, new = {network.id: network for network in before}, {network.id: network for network in after}
    differing: dict[IPv4Network, list[str]] = {}
    for name in dict.fromkeys((*now, *new)):
        one, other = now.get(name), new.get(name)
        if one is not other and one != other and (found := one or other):
            differing.setdefault(found.cidr, []).append(name)
    left = AT_ONCE
    for cidr in sorted(differing, key=lambda each: (int(each.network_address), each.prefixlen)):
        if left <= 0:
            yield tuple(now.values())
            left = AT_ONCE
        left -= len(differing[cidr])
        for name in differing[cidr]:
            if name in new:
                now[name] = new[name]
            else:
                del now[name]
    yield after


def _order(address: HostAddress) -> tuple[int, int, int, bool]:
    """Return the key of ifindex and prefix: comparing prefixes as such takes ten times as long."""
    return address.index, int(address.cidr.network_address), address.cidr.prefixlen, address.secondary


class _Interface(NamedTuple):
    """What the networks of an interface have in common, made once for each: it may have thousands of them."""

    link: Link
    master: Link | None
    routes: tuple[DefaultRoute, ...]
    own_ips: frozenset[Ip]
    own6: Ip | None
    prefixes6: tuple[IPv6Network, ...]
    children: frozenset[Mac]
    not_foreign: tuple[IPv4Network, ...]


def _interfaces(kernel: Kernel, scan: Scan, before: Mapping[int, Network]) -> turns.Work[dict[int, _Interface]]:
    """Return every interface by ifindex. `before`: a network of each, as it was."""
    links = {link.index: link for link in kernel.links}
    addresses, addresses6 = _by_interface(kernel.addresses), _by_interface(kernel.addresses6)
    routes = _by_interface(kernel.routes)
    children: dict[int, set[Mac]] = {}
    ours = {each.mac for each in kernel.links if each.kind != "macvtap"}  # that of a macvtap is a virtual machine's
    for index, mac in kernel.children:
        if mac not in ours:
            children.setdefault(index, set()).add(mac)
    excluded = [prefix for entry in scan.exclude if (prefix := _prefix(entry))]
    found = {}
    left = AT_ONCE
    for index, link in links.items():
        if left <= 0:
            yield
            left = AT_ONCE
        here, here6 = addresses.get(index, []), addresses6.get(index, [])
        left -= 1 + len(here) + len(here6)
        own_ips = frozenset([*(each.own for each in here), *(each.own for each in here6)])
        own6 = min((each.own for each in here6 if each.cidr.is_link_local), default=None)
        prefixes6 = tuple(sorted({each.cidr for each in here6 if not each.cidr.is_link_local}))
        macs = frozenset(children.get(index, ()))
        prefixes = {*(each.cidr for each in here), *excluded}
        not_foreign = tuple(sorted(prefixes, key=lambda each: (int(each.network_address), each.prefixlen)))
        if (old := before.get(index)) is not None:
            own_ips, prefixes6 = _kept(old.own_ips, own_ips), _kept(old.prefixes6, prefixes6)
            macs, not_foreign = _kept(old.children, macs), _kept(old.not_foreign, not_foreign)
        found[index] = _Interface(
            link, links.get(link.master), tuple(routes.get(index, ())), own_ips, own6, prefixes6, macs, not_foreign
        )
    return found


def _kept(old: T, new: T) -> T:
    return old if old == new else new


def _by_interface(entries: Iterable[Entry]) -> dict[int, list[Entry]]:
    found: dict[int, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.index, []).append(entry)
    return found


def _network(interface: _Interface, address: HostAddress, scan: Scan, rules: Sequence[NetworkRule]) -> Network:
    link = interface.link
    rule = _rule(address.cidr, link.name, rules)
    why_not = _why_not(link, address, interface.master, scan, rule)
    excluded = _excluded_parts(address.cidr, scan.exclude)
    state, why, not_swept = NetworkState.EXCLUDED, why_not, ""
    if not why_not:
        not_swept = "" if rule else _why_not_swept(address.cidr)
        text = f"{_named(link, scan, rule)}, address {_text(address.own)}{_without_text(excluded)}{not_swept}"
        state, why = _state(link, text)
    gateways = sorted(
        (route.metric, route.gateway)
        for route in interface.routes
        if int.from_bytes(route.gateway) in _span(address.cidr)
    )
    return Network(
        id=f"{address.cidr}@{link.name}",
        cidr=address.cidr,
        interface=link.name,
        index=link.index,
        mac=link.mac or Mac(bytes(6)),
        own=address.own,
        state=state,
        why=why,
        gateway=gateways[0][1] if gateways else None,
        interval=rule.interval if rule and rule.interval else scan.interval,
        rate=rule.rate if rule else None,
        background_rate=rule.background_rate if rule else None,
        patience=rule.patience if rule else None,
        expected_dhcp=_expected(rule.expected_dhcp) if rule else frozenset(),
        expected_gateway=_expected(rule.expected_gateway) if rule else frozenset(),
        own6=interface.own6,
        own_ips=interface.own_ips,
        prefixes6=interface.prefixes6,
        excluded=excluded,
        children=interface.children,
        not_foreign=interface.not_foreign,
        rank=(min((route.metric for route in interface.routes), default=NO_ROUTE), _is_wifi(link.name)),
        swept=not not_swept,
    )


def _expected(entries: Iterable[str]) -> frozenset[bytes]:
    return frozenset(found for entry in entries if (found := expected_bytes(entry)) is not None)


def _rule(cidr: IPv4Network, interface: str, rules: Sequence[NetworkRule]) -> NetworkRule | None:
    """Return the rule for a network: preferably one that also names the interface, else the first."""
    fitting = [rule for rule in rules if rule.fits(cidr, interface)]
    return min(fitting, key=lambda rule: rule.interface is None, default=None)


def _why_not(link: Link, address: HostAddress, master: Link | None, scan: Scan, rule: NetworkRule | None) -> str:
    """Return the sentence about why a network is not scanned; empty if it is.

    Order: what is impossible, what the user excludes, what the user includes, defaults.
    """
    cidr = address.cidr
    if link.flags & IFF_LOOPBACK:
        return "loopback"
    if link.hardware != ARPHRD_ETHER or not link.mac:
        return f"{link.name} has no Ethernet address, so ARP requests cannot be sent"
    if cidr.prefixlen == 32:
        return "a /32 has no other address"
    if unwanted := _excluded_by(link.name, cidr, scan.exclude):
        return f"excluded by {unwanted!r} in [scan] exclude"
    if rule:
        return "" if rule.enabled else "enabled = false in its [[network]]"
    if scan.interfaces:
        if not _matches(link.name, scan.interfaces):
            return f"{link.name} is not named in [scan] interfaces"
    elif reason := _not_a_lan(link, address, master):
        return f"{reason}; name {cidr} in a [[network]] to scan it"  # naming the interface would exclude all others
    if cidr.prefixlen > SMALLEST:
        return f"smaller than a /{SMALLEST}; name {cidr} in a [[network]] to scan it"
    return ""


def _why_not_swept(cidr: IPv4Network) -> str:
    """Return the text about a network that is not scanned as a whole; empty if it is."""
    if cidr.prefixlen < LARGEST:
        size = f"larger than a /{LARGEST}"
    elif cidr.prefixlen < 24 and cidr.subnet_of(LINK_LOCAL):
        size = "link-local"
    else:
        return ""
    return f"; {size}: addresses are probed where a device was seen; name {cidr} in a [[network]] to scan all"


def _not_a_lan(link: Link, address: HostAddress, master: Link | None) -> str:
    """Return why an interface without configuration is not considered a LAN; empty if it is."""
    if link.flags & IFF_POINTOPOINT or address.peer:
        return "point-to-point"
    if link.flags & IFF_NOARP:
        return f"{link.name} does not use ARP"
    if link.kind in TUNNELS:
        return f"{link.name} is a tunnel ({link.kind})"
    if link.master and not (master and master.kind == "vrf"):  # members of a VRF are LANs of their own
        return f"{link.name} is a port of {master.name if master else 'another interface'}"
    if pattern := "br-ID of Docker" if DOCKER_BRIDGE.fullmatch(link.name) else _matches(link.name, HOST_SIDE):
        return (
            f"{link.name} is probably the host side of a container, virtual machine or tunnel (name matches {pattern})"
        )
    return ""


def _matches(name: str, patterns: Iterable[str]) -> str:
    """Return the first name or glob that matches; empty if none does."""
    return next((pattern for pattern in patterns if fnmatchcase(name, pattern)), "")


def _excluded_by(name: str, cidr: IPv4Network, exclude: Sequence[str]) -> str:
    """Return the names, globs or prefixes that exclude a whole network; empty: none."""
    for entry in exclude:
        prefix = _prefix(entry)
        if fnmatchcase(name, entry) or (prefix and cidr.subnet_of(prefix)):
            return entry
    return ", ".join(_within(cidr, exclude)) if cidr in _excluded_parts(cidr, exclude) else ""


def _excluded_parts(cidr: IPv4Network, exclude: Iterable[str]) -> tuple[IPv4Network, ...]:
    """Return the excluded parts of a network, ascending."""
    return tuple(collapse_addresses(_within(cidr, exclude).values()))


def _within(cidr: IPv4Network, exclude: Iterable[str]) -> dict[str, IPv4Network]:
    """Return entry → prefix for the prefixes within a network."""
    return {entry: prefix for entry in exclude if (prefix := _prefix(entry)) and prefix.subnet_of(cidr)}


def _without_text(excluded: Sequence[IPv4Network]) -> str:
    """Return the text about the excluded parts."""
    words = [str(part).removesuffix("/32") for part in excluded[:MOST_NAMED]]
    more = [f"{len(excluded) - MOST_NAMED} more"] if len(excluded) > MOST_NAMED else []
    return f", without {', '.join(words + more)}" if words else ""


@lru_cache(maxsize=1024)  # each network is compared with each entry whenever an interface changes
def _prefix(entry: str) -> IPv4Network | None:
    """Return the prefix of an entry; None for a name or glob."""
    try:
        return IPv4Network(entry, strict=False)
    except ValueError:
        return None


def _is_wifi(name: str) -> bool:
    return re.match(r"wl|ath\d|ra\d", name) is not None


def _named(link: Link, scan: Scan, rule: NetworkRule | None) -> str:
    """Return the kind of interface, and whether the user named it."""
    kind = _KINDS.get(link.kind) or ("Wi-Fi" if _is_wifi(link.name) else "Ethernet")
    if rule:
        return f"{kind}, named in [[network]]"
    return f"{kind}, named in [scan] interfaces" if scan.interfaces else kind


def _state(link: Link, why: str) -> tuple[NetworkState, str]:
    if not link.flags & IFF_UP:
        return NetworkState.DOWN, f"{why}; the interface is down"
    if not link.flags & IFF_RUNNING:  # not IFF_LOWER_UP: with that alone, the kernel still drops what we send
        return NetworkState.DOWN, f"{why}; the link has no carrier"
    return NetworkState.UP, why


def _span(cidr: IPv4Network) -> range:
    first = int(cidr.network_address)
    return range(first, first + cidr.num_addresses)


def _text(ip: Ip) -> str:
    return ".".join(map(str, ip))
