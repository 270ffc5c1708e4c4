"""The choice of networks to scan, case by case."""

import tracemalloc
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_address
from math import inf
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netscand.config import NetworkRule, Scan
from netscand.core.model import Ip, Mac, Network, NetworkState
from netscand.lan.networks import (
    ARPHRD_ETHER,
    AT_ONCE,
    IFF_LOOPBACK,
    IFF_NOARP,
    IFF_POINTOPOINT,
    IFF_RUNNING,
    IFF_UP,
    DefaultRoute,
    HostAddress,
    HostAddress6,
    Kernel,
    Link,
    decide,
    decide_in_turns,
    steps,
)
from tests.core.world import World

UP = IFF_UP | IFF_RUNNING
MAC = Mac(bytes.fromhex("52540077 0001"))
ARPHRD_NONE = 0xFFFE
ARPHRD_LOOPBACK = 772


def link(name: str = "eth0", index: int = 2, flags: int = UP, kind: str = "", master: int = 0) -> Link:
    return Link(index, name, flags, ARPHRD_ETHER, MAC, kind, master)


def holding(
    address: str = "192.168.1.2/24", index: int = 2, *, secondary: bool = False, peer: bool = False
) -> HostAddress:
    interface = IPv4Interface(address)
    return HostAddress(index, ip(str(interface.ip)), interface.network, peer, secondary)


def ip(text: str) -> Ip:
    return Ip(IPv4Address(text).packed)


def one(
    of: Link | None = None,
    at: HostAddress | None = None,
    scan: Scan = Scan(),  # noqa: B008 frozen
    rules: tuple[NetworkRule, ...] = (),
    others: tuple[Link, ...] = (),
) -> Network:
    """The one network of one interface with one address."""
    (found,) = decide(Kernel((of or link(), *others), (at or holding(),)), scan, rules)
    return found


USERS_BRIDGES = (
    "br-iot", "br-guest", "br-ex", "br-eth0", "br-lan.20", "br-3f9c01d2ab4", "br-3F9C01D2AB44",
    "br-guest-wlan1",
)  # fmt: skip
"""FIELD case 17: only `br-` and 12 hexadecimal digits is Docker's."""

# ---- by itself ----------------------------------------------------------------------------------------------------


def test_a_lan_is_scanned_and_says_why() -> None:
    assert one() == Network(
        id="192.168.1.0/24@eth0",
        cidr=IPv4Interface("192.168.1.0/24").network,
        interface="eth0",
        index=2,
        mac=MAC,
        own=ip("192.168.1.2"),
        state=NetworkState.UP,
        why="Ethernet, address 192.168.1.2",
        own_ips=frozenset([ip("192.168.1.2")]),
        not_foreign=(IPv4Interface("192.168.1.0/24").network,),
    )


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("enp3s0", "", "Ethernet"),
        ("wlp2s0", "", "Wi-Fi"),
        ("wlan0", "", "Wi-Fi"),
        ("br0", "bridge", "bridge"),
        ("br-lan", "bridge", "bridge"),  # OpenWrt's LAN
        *((name, "bridge", "bridge") for name in USERS_BRIDGES),
        ("bond0", "bond", "bond"),
        ("eth0.7", "vlan", "VLAN"),
        ("eth0", "veth", "virtual Ethernet"),  # within a container, recognised by name and never by kind
        ("host0", "veth", "virtual Ethernet"),
        ("s0", "veth", "virtual Ethernet"),
        ("mv0", "macvlan", "Ethernet"),
    ],
)
def test_every_ordinary_lan_is_scanned(name: str, kind: str, said: str) -> None:
    network = one(link(name, kind=kind))
    assert (network.state, network.why) == (NetworkState.UP, f"{said}, address 192.168.1.2")


@pytest.mark.parametrize(
    "name",
    ["veth1a2b3c", "ve-web", "vb-web", "vnet3", "docker0", "docker_gwbridge", "br-0123456789ab", "br-3f9c01d2ab44",
     "virbr0", "lxcbr0", "lxdbr0", "cni0", "cali123", "flannel.1", "podman1", "tap0", "tun3", "wg0", "ztabc",
     "tailscale0"],
)  # fmt: skip
def test_the_host_side_of_a_container_is_excluded_by_name(name: str) -> None:
    """Interfaces of containers, virtual machines and tunnels are recognised by their names."""
    network = one(link(name, kind="bridge"))
    assert network.state is NetworkState.EXCLUDED
    assert f"{name} is probably the host side" in network.why
    assert network.why.endswith("name 192.168.1.0/24 in a [[network]] to scan it")


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (replace(link("lo"), flags=UP | IFF_LOOPBACK, hardware=ARPHRD_LOOPBACK), "loopback"),
        (replace(link("ppp0"), flags=UP | IFF_POINTOPOINT, hardware=512, mac=None), "has no Ethernet address"),
        (replace(link("wg7"), hardware=ARPHRD_NONE, mac=None), "has no Ethernet address"),
        (link("ib0", flags=UP | IFF_POINTOPOINT), "point-to-point"),
        (link("dummy0", flags=UP | IFF_NOARP, kind="dummy"), "does not use ARP"),
        (link("overlay", kind="vxlan"), "is a tunnel (vxlan)"),
    ],
    ids=["loopback", "ppp", "no Ethernet", "point-to-point", "no ARP", "tunnel"],
)
def test_what_is_no_lan_is_excluded_with_the_reason(of: Link, why: str) -> None:
    network = one(of)
    assert network.state is NetworkState.EXCLUDED
    assert why in network.why


def test_a_port_is_excluded_and_a_member_of_a_vrf_is_not() -> None:
    """The reason names the bridge of the port."""
    port = link("eth0", master=9)
    assert one(port, others=(link("br0", 9, kind="bridge"),)).why.startswith("eth0 is a port of br0")
    assert one(port, others=(link("red", 9, kind="vrf"),)).state is NetworkState.UP
    assert one(port).state is NetworkState.EXCLUDED  # its master is not known yet


@pytest.mark.parametrize("length", range(33))
def test_prefixes_from_30_to_16_bits_are_scanned_and_no_others(length: int) -> None:
    """FIELD case 16: in a larger one, devices are received, and probed where they were seen."""
    network = one(at=holding(f"10.1.2.3/{length}"))
    assert (network.state is NetworkState.UP) == (length <= 30)
    assert network.swept == (length >= 16)
    if not (16 <= length <= 30) and length < 32:
        assert f"name {network.cidr} in a [[network]]" in network.why


def test_a_point_to_point_address_makes_no_lan() -> None:
    assert one(at=holding(peer=True)).why.startswith("point-to-point")


@pytest.mark.parametrize(
    ("flags", "state", "why"),
    [
        (UP, NetworkState.UP, "Ethernet, address 192.168.1.2"),
        (IFF_UP, NetworkState.DOWN, "Ethernet, address 192.168.1.2; the link has no carrier"),
        (0, NetworkState.DOWN, "Ethernet, address 192.168.1.2; the interface is down"),
    ],
)
def test_a_network_whose_link_is_down_keeps_its_id(flags: int, state: NetworkState, why: str) -> None:
    """It is reported as down, not as gone."""
    network = one(link(flags=flags))
    assert (network.id, network.state, network.why) == ("192.168.1.0/24@eth0", state, why)


def test_an_excluded_network_is_excluded_up_or_down() -> None:
    """The state of the link does not matter."""
    for flags in (UP, IFF_UP, 0):
        assert one(link("docker0", flags=flags)).state is NetworkState.EXCLUDED


def test_several_addresses_in_a_prefix_are_one_network() -> None:
    """Requests are sent from the primary address."""
    kernel = Kernel(
        (link(),),
        (holding("192.168.1.9/24", secondary=True), holding("192.168.1.5/24"), holding("10.0.0.1/24")),
    )
    found = {network.id: network.own for network in decide(kernel, Scan(), ())}
    assert found == {"10.0.0.0/24@eth0": ip("10.0.0.1"), "192.168.1.0/24@eth0": ip("192.168.1.5")}


def test_one_prefix_on_two_interfaces_is_two_networks() -> None:
    kernel = Kernel((link(), link("eth1", 3)), (holding(), holding(index=3)))
    assert [network.id for network in decide(kernel, Scan(), ())] == ["192.168.1.0/24@eth0", "192.168.1.0/24@eth1"]


def test_an_address_without_a_link_is_no_network() -> None:
    """The link was deleted between two dumps."""
    assert decide(Kernel((), (holding(),)), Scan(), ()) == ()


# ---- the gateway --------------------------------------------------------------------------------------------------


def test_the_gateway_is_that_of_the_best_default_route() -> None:
    """The route with the lowest metric and a gateway in the prefix counts."""
    routes = (
        DefaultRoute(2, ip("192.168.1.254"), 100),
        DefaultRoute(2, ip("192.168.1.1"), 50),
        DefaultRoute(2, ip("10.0.0.1"), 0),  # not in the prefix
        DefaultRoute(3, ip("192.168.1.7"), 0),  # on another interface
    )
    (network,) = decide(Kernel((link(),), (holding(),), routes), Scan(), ())
    assert network.gateway == ip("192.168.1.1")
    (network,) = decide(Kernel((link(),), (holding(),), routes[2:]), Scan(), ())
    assert network.gateway is None


# ---- as configured ------------------------------------------------------------------------------------------------


def test_with_interfaces_named_only_they_are_scanned() -> None:
    scan = Scan(interfaces=("eth1", "wl*"))
    assert one(scan=scan).why == "eth0 is not named in [scan] interfaces"
    assert one(link("wlan0"), scan=scan).why == "Wi-Fi, named in [scan] interfaces, address 192.168.1.2"


@pytest.mark.parametrize(
    "of",
    [link("docker0", kind="bridge"), link("tap0"), link("overlay", kind="vxlan"), link("eth0", master=9),
     link("dummy0", flags=UP | IFF_NOARP), link("ib0", flags=UP | IFF_POINTOPOINT)],
    ids=lambda of: of.name,
)  # fmt: skip
def test_a_named_interface_is_used_whatever_it_is(of: Link) -> None:
    assert one(of, scan=Scan(interfaces=(of.name,))).state is NetworkState.UP


def test_a_large_prefix_needs_its_own_name() -> None:
    large = holding("10.1.2.3/8")
    assert not one(at=large, scan=Scan(interfaces=("eth0",))).swept
    assert one(at=large, rules=(NetworkRule(cidr="10.0.0.0/8"),)).swept


@pytest.mark.parametrize(
    ("address", "swept"),
    [("169.254.7.8/16", False), ("169.254.7.8/20", False), ("169.254.7.8/24", True), ("169.253.7.8/16", True)],
)
def test_a_link_local_prefix_is_not_swept(address: str, swept: bool) -> None:
    """FIELD case 10: hosts choose addresses at random in it; a small part of it was set by hand."""
    found = one(at=holding(address))
    assert (found.state, found.swept) == (NetworkState.UP, swept)
    assert ("link-local: addresses are probed where a device was seen" in found.why) == (not swept)
    assert one(at=holding(address), rules=(NetworkRule(cidr=str(found.cidr)),)).swept


@pytest.mark.parametrize("address", ["10.1.2.3/31", "10.1.2.3/9", "10.1.2.3/24"])
@pytest.mark.parametrize("of", [link(), link("docker0"), link("overlay", kind="vxlan")], ids=lambda of: of.name)
def test_a_named_prefix_is_used_wherever_it_is(of: Link, address: str) -> None:
    at = holding(address)
    network = one(of, at, Scan(interfaces=("eth7",)), (NetworkRule(cidr=str(at.cidr)),))
    assert network.state is NetworkState.UP
    assert "named in [[network]], address 10.1.2.3" in network.why


def test_a_rule_cannot_include_what_cannot_be_scanned() -> None:
    """Links without Ethernet addresses and /32 prefixes stay excluded."""
    named = Scan(interfaces=("*",))
    assert one(replace(link("wg0"), hardware=ARPHRD_NONE, mac=None), scan=named).state is NetworkState.EXCLUDED
    assert one(at=holding("10.1.2.3/32"), rules=(NetworkRule(cidr="10.1.2.3/32"),)).state is NetworkState.EXCLUDED


@pytest.mark.parametrize("entry", ["eth0", "eth*", "192.168.1.0/24", "192.168.0.0/16", "192.168.1.7/24"])
def test_exclude_wins_over_everything(entry: str) -> None:
    scan = Scan(interfaces=("eth0",), exclude=("docker0", entry))
    network = one(scan=scan, rules=(NetworkRule(cidr="192.168.1.0/24"),))
    assert (network.state, network.why) == (NetworkState.EXCLUDED, f"excluded by {entry!r} in [scan] exclude")


@pytest.mark.parametrize("entry", ["eth1", "et", "192.168.1.0/25", "10.0.0.0/8"])
def test_exclude_touches_nothing_else(entry: str) -> None:
    assert one(scan=Scan(exclude=(entry,))).state is NetworkState.UP


def test_a_prefix_within_a_network_spares_that_part_of_it() -> None:
    """Several become one where they meet; what lies elsewhere, or around, spares nothing."""
    scan = Scan(exclude=("192.168.1.192/26", "192.168.1.7", "192.168.1.128/26", "10.0.0.0/24"))
    network = one(scan=scan)
    assert [str(part) for part in network.excluded] == ["192.168.1.7/32", "192.168.1.128/25"]
    assert network.state is NetworkState.UP
    assert network.why == "Ethernet, address 192.168.1.2, without 192.168.1.7, 192.168.1.128/25"
    assert one().excluded == ()
    many = one(scan=Scan(exclude=tuple(f"192.168.1.{number}" for number in range(10, 30, 2))))
    assert many.why.endswith("without 192.168.1.10, 192.168.1.12, 192.168.1.14, 192.168.1.16, 6 more")


def test_a_network_with_all_parts_excluded_is_excluded() -> None:
    """The reason names the parts."""
    network = one(scan=Scan(exclude=("192.168.1.0/25", "192.168.1.128/25")))
    assert network.state is NetworkState.EXCLUDED
    assert network.why == "excluded by '192.168.1.0/25, 192.168.1.128/25' in [scan] exclude"


def test_a_disabled_network_is_excluded() -> None:
    network = one(rules=(NetworkRule(cidr="192.168.1.0/24", enabled=False),))
    assert (network.state, network.why) == (NetworkState.EXCLUDED, "enabled = false in its [[network]]")


def test_a_rule_overrides_what_it_names_and_leaves_the_rest() -> None:
    rule = NetworkRule(cidr="192.168.1.0/24", interval=5, rate=0, patience=(20, 90))
    network = one(scan=Scan(interval=60), rules=(rule,))
    assert (network.interval, network.rate, network.background_rate, network.patience) == (5, 0, None, (20, 90))
    other = one(scan=Scan(interval=60), rules=(NetworkRule(cidr="192.168.2.0/24", interval=5),))
    assert (other.interval, other.rate, other.patience) == (60, None, None)


def test_of_two_rules_the_one_that_names_the_interface_wins() -> None:
    rules = (
        NetworkRule(cidr="192.168.1.0/24", interval=5),
        NetworkRule(cidr="192.168.1.0/24", interface="eth1", interval=6),
        NetworkRule(cidr="192.168.1.0/24", interface="eth*", interval=7),
        NetworkRule(cidr="192.168.1.0/24", interval=8),
    )
    assert one(rules=rules).interval == 7
    assert one(link("wlan0"), rules=rules).interval == 5


# ---- IPv6 ------------------------------------------------------------------------------------------------------------


def test_own_ipv6_prefixes_omit_link_local_ones() -> None:
    """They are the prefixes of this host's addresses on the interface."""
    held = [IPv6Interface(text) for text in ("2001:db8::2/64", "fd77::2/64", "2001:db8::3/64", "fe80::2/64")]
    here = [HostAddress6(2, Ip(each.ip.packed), each.network) for each in held]
    elsewhere = HostAddress6(3, Ip(held[0].ip.packed), IPv6Interface("2001:db8:9::2/64").network)
    (found,) = decide(Kernel((link(),), (holding(),), addresses6=(*here, elsewhere)), Scan(), ())
    assert found.own6 == held[3].ip.packed
    assert list(map(str, found.prefixes6)) == ["2001:db8::/64", "fd77::/64"]
    inside = ["192.168.1.9", "2001:db8::9", "fd77::ffff"]
    outside = ["192.168.2.9", "2001:db8:0:1::9", "2001:db8:9::9", "fe80::9"]
    assert [found.is_ours(Ip(ip_address(text).packed)) for text in inside + outside] == [True] * 3 + [False] * 4


# ---- whatever the kernel says -------------------------------------------------------------------------------------

LINKS = st.builds(
    Link, st.integers(1, 4), st.sampled_from(["eth0", "docker0", "lo", "br-lan", "wlan0"]), st.integers(0, 0xFFFF),
    st.sampled_from([ARPHRD_ETHER, ARPHRD_LOOPBACK, ARPHRD_NONE]), st.sampled_from([MAC, None]),
    st.sampled_from(["", "bridge", "vxlan", "vrf"]), st.integers(0, 4),
)  # fmt: skip
HOLDINGS = st.builds(
    lambda number, length, index, secondary: holding(f"{IPv4Address(number)}/{length}", index, secondary=secondary),
    st.integers(0, 2**32 - 1), st.integers(0, 32), st.integers(1, 4), st.booleans(),
)  # fmt: skip


@given(
    st.lists(LINKS, max_size=4, unique_by=lambda of: of.index),
    st.lists(HOLDINGS, max_size=6),
    st.sampled_from([(), ("eth0",), ("*",)]),
)
def test_every_network_is_listed_once_with_a_reason(
    links: list[Link], addresses: list[HostAddress], interfaces: tuple[str, ...]
) -> None:
    """In any state of the kernel."""
    found = decide(Kernel(tuple(links), tuple(addresses)), Scan(interfaces=interfaces), ())
    expected = {(held.index, held.cidr) for held in addresses if any(of.index == held.index for of in links)}
    assert sorted((network.index, network.cidr) for network in found) == sorted(expected)
    for network in found:
        assert network.why
        assert network.state is NetworkState.EXCLUDED or (network.cidr.prefixlen <= 30 and network.mac == MAC)
        assert not network.swept or network.cidr.prefixlen >= 16 or network.state is NetworkState.EXCLUDED


def crowded(count: int, *indexes: int) -> Kernel:
    """Return interfaces that each have so many addresses, each in a network of its own."""
    held = [holding(f"10.{number // 200}.{number % 200}.1/24", index) for index in indexes for number in range(count)]
    return Kernel(tuple(link(f"extra{index}", index) for index in indexes), tuple(held))


def cost_of_changes(count: int, *indexes: int) -> tuple[float, float]:
    """Return seconds and MiB at the peak for this host's addresses to appear, one to go, and then all."""

    def change() -> None:
        world = World([])
        networks: tuple[Network, ...] = ()
        for left in (count, count - 1, 0):
            networks = decide(crowded(left, *indexes), Scan(), (), networks)
            assert len(networks) == left * len(indexes)
            world.set_networks(networks)
            world.run_unchecked(0.001)

    seconds = inf
    for _ in range(2):
        begun = process_time()
        change()
        seconds = min(seconds, process_time() - begun)
    tracemalloc.start()
    change()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return seconds, peak / 2**20


@pytest.mark.slow
@pytest.mark.parametrize("indexes", [(2,), (2, 3)], ids=["one interface", "two on one LAN"])
def test_the_cost_of_this_hosts_addresses_is_linear(indexes: tuple[int, ...]) -> None:
    """FAULTS F25: each network kept and compared all addresses of its interface: 960 took 3.5 s and 200 MiB."""
    few, many = cost_of_changes(80, *indexes), cost_of_changes(640, *indexes)
    assert many[1] < 16 * few[1]
    assert many[0] < 24 * few[0]  # 8, if nothing else needs the processor's caches


def test_a_host_with_many_networks_changes_in_steps() -> None:
    """F25: a few in each, and what is not about them stays the same object; a renamed interface is one step."""
    none: tuple[Network, ...] = ()
    few, many = decide(crowded(3, 2), Scan(), ()), decide(crowded(950, 2), Scan(), ())
    assert list(steps(none, none)) == [none]
    assert list(steps(none, few)) == [few]
    for before, after in ((none, many), (many, none), (many, decide(crowded(949, 2), Scan(), (), many)), (few, many)):
        now = {network.id: network for network in before}
        found = list(steps(before, after))
        assert len(found) == 10
        for step in found:
            then = {network.id: network for network in step}
            assert len(then) == len(step)
            assert sum(now.get(name) is not then.get(name) for name in now.keys() | then.keys()) <= AT_ONCE
            now = then
        assert found[-1] is after
    renamed = tuple(replace(each, interface="lan0", id=f"{each.cidr}@lan0") for each in many)
    for step in steps(many, renamed):
        assert sorted(each.cidr for each in step) == sorted(each.cidr for each in many)


def test_a_decision_about_many_networks_takes_turns() -> None:
    """F25: also about many interfaces; and what did not change is the same object."""
    kernel = crowded(950, 2)
    pieces = list(decide_in_turns(kernel, Scan(), ()))
    assert len(pieces) >= 9
    links = Kernel(tuple(link(f"extra{number}", number) for number in range(950)))
    assert len(list(decide_in_turns(links, Scan(), ()))) >= 9
    before = decide(kernel, Scan(), ())
    assert all(one is other for one, other in zip(before, decide(kernel, Scan(), (), before), strict=True))


def test_networks_of_an_interface_share_what_they_have_in_common() -> None:
    """F25: and keep it while it does not change, so that comparing them compares no thousands of addresses."""
    scan = Scan(exclude=("10.9.0.0/16",))
    before = decide(crowded(3, 2), scan, ())
    after = decide(crowded(3, 2), scan, (), before)
    assert before == after
    for name in ("ours", "not_foreign", "prefixes6", "children"):
        assert len({id(getattr(each, name)) for each in (*before, *after)}) == 1, name
