"""Interfaces and networks, as the kernel really reports them, with every change."""

import asyncio
import itertools
import json
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from netscand.config import NetworkRule, Scan
from netscand.core.model import Ip, Network, NetworkState
from netscand.lan import interfaces, netlink
from netscand.lan.interfaces import Interfaces
from netscand.lan.netlink import Netlink, NetlinkError
from netscand.lan.networks import Kernel
from netscand.lan.turns import Work, run_now
from tests.lab.rooms import inside, ip, running, until
from tests.lab.spaces import Space

Told = list[dict[str, Network]]

NETWORK = "10.77.0.0/24@eth0"

_count = itertools.count(1)


@pytest.fixture
def space(root: None) -> Iterator[Space]:
    """A host with one interface, eth0 with 10.77.0.2/24, its cable's other end (`far`) in a space of its own."""
    name = f"nsd-{os.getpid()}-{next(_count)}-links"
    near, far = Space(name), Space(f"{name}-far")
    try:
        plug(near)
        near.until_up("eth0")
        yield near
    finally:
        near.delete()
        far.delete()


def plug(space: Space) -> None:
    space.ip(
        f"link add eth0 type veth peer name far netns {space.name}-far",
        "addr add 10.77.0.2/24 dev eth0",
        "link set eth0 up",
    )
    far(space, "link set far up")


def far(space: Space, *lines: str) -> None:
    """At the other end of the cable."""
    space.run(["ip", "-n", f"{space.name}-far", "-batch", "-"], input="\n".join(lines))


@asynccontextmanager
async def following() -> AsyncIterator[tuple[Interfaces, Told]]:
    """Interfaces that run; the list holds what was reported, first what `open` gave."""
    told: Told = []

    def changed(networks: tuple[Network, ...]) -> None:
        told.append({network.id: network for network in networks if network.interface != "lo"})

    made = Interfaces(changed, Scan(), ())
    changed(made.open())
    async with running(made):
        yield made, told


def by_iproute2(space: Space) -> tuple[set[Any], set[Any], set[Any]]:
    """What `ip -j` says: links, addresses, default routes."""

    def ask(*argv: str) -> list[dict[str, Any]]:
        told = json.loads(space.run(["ip", "-j", "-d", *argv]).stdout or "[]")
        return [one for one in told if one]

    links = {
        (one["ifindex"], one["ifname"], "UP" in one["flags"], one["address"], one.get("linkinfo", {}).get("info_kind"))
        for one in ask("link")
    }
    addresses = {
        (one["ifindex"], held["local"], held["prefixlen"], held.get("secondary", False))
        for one in ask("-4", "addr")
        for held in one["addr_info"]
    }
    numbers = {name: index for index, name, *_ in links}
    routes = {
        (numbers[hop["dev"]], hop["gateway"], one.get("metric", 0))
        for one in ask("-4", "route", "show", "default")
        for hop in one.get("nexthops", [one])
    }
    return links, addresses, routes


def as_iproute2_says(kernel: Kernel) -> tuple[set[Any], set[Any], set[Any]]:
    """The same of ours."""
    return (
        {
            (of.index, of.name, bool(of.flags & 1), of.mac.hex(":") if of.mac else None, of.kind or None)
            for of in kernel.links
        },
        {
            (held.index, str(IPv4Address(held.own)), held.cidr.prefixlen, held.secondary)
            for held in kernel.addresses
        },
        {(route.index, str(IPv4Address(route.gateway)), route.metric) for route in kernel.routes},
    )  # fmt: skip


# ---- at the start -------------------------------------------------------------------------------------------------


@inside
async def test_the_first_look_finds_every_network_and_its_gateway(space: Space) -> None:
    space.ip("route add default via 10.77.0.1", "addr add 10.78.0.2/20 dev eth0", "addr add 10.79.0.2/31 dev eth0")

    async with following() as (_, told):
        index = int(space.run(["cat", "/sys/class/net/eth0/ifindex"]).stdout)
        mac = space.run(["cat", "/sys/class/net/eth0/address"]).stdout.strip()
        lan = told[0][NETWORK]
        assert (lan.index, lan.mac.hex(":"), lan.own) == (index, mac, ip("10.77.0.2"))
        assert (lan.state, lan.why) == (NetworkState.UP, "virtual Ethernet, address 10.77.0.2")
        assert lan.gateway == ip("10.77.0.1")
        assert told[0]["10.78.0.0/20@eth0"].gateway is None
        assert told[0]["10.79.0.2/31@eth0"].state is NetworkState.EXCLUDED


def test_loopback_is_told_and_excluded(space: Space) -> None:
    made = Interfaces(lambda _: None, Scan(), ())
    networks = {network.id: network for network in space.within(made.open)}
    made.close()
    assert (networks["127.0.0.0/8@lo"].state, networks["127.0.0.0/8@lo"].why) == (NetworkState.EXCLUDED, "loopback")


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("new0 type bridge", "bridge, address 10.80.0.1"),
        ("new0 type vxlan id 5 dstport 4789 dev eth0", "new0 is a tunnel (vxlan)"),
        ("link eth0 new0 type macvlan", "Ethernet, address 10.80.0.1"),
    ],
    ids=["bridge", "vxlan", "macvlan"],
)
@inside
async def test_the_kind_of_a_link_is_read(space: Space, link: str, why: str) -> None:
    space.ip(f"link add {link}", "addr add 10.80.0.1/24 dev new0", "link set new0 up")

    async with following() as (_, told):
        assert why in told[0]["10.80.0.0/24@new0"].why


@inside
async def test_a_port_of_a_bridge_is_told_from_a_lan(space: Space) -> None:
    space.ip("link add br0 type bridge", "link set br0 up", "link set eth0 master br0", "addr add 10.80.0.1/24 dev br0")

    async with following() as (_, told):
        assert told[0][NETWORK].why.startswith("eth0 is a port of br0")
        assert told[0]["10.80.0.0/24@br0"].state is NetworkState.UP


def test_every_next_hop_of_a_default_route_is_read(space: Space) -> None:
    space.ip(
        "link add eth1 type veth peer name far1",
        "link set eth1 up",
        "link set far1 up",
        "addr add 10.81.0.2/24 dev eth1",
        "route add default nexthop via 10.77.0.1 nexthop via 10.81.0.1",
        "route add default via 10.77.0.9 metric 7",
        "route add default via 10.77.0.8 table 99",
    )
    made = space.within(Netlink)
    assert as_iproute2_says(run_now(made.read())) == by_iproute2(space)
    made.close()


# ---- changes ------------------------------------------------------------------------------------------------------


@inside
async def test_an_interface_that_appears_is_told(space: Space) -> None:
    async with following() as (_, told):
        space.ip(
            "link add eth1 type veth peer name far1",
            "link set far1 up",
            "link set eth1 up",
            "addr add 10.81.0.2/24 dev eth1",
        )
        await until(lambda: "10.81.0.0/24@eth1" in told[-1] and told[-1]["10.81.0.0/24@eth1"].state is NetworkState.UP)
        assert set(told[-1]) == {NETWORK, "10.81.0.0/24@eth1"}


@inside
async def test_a_kernel_without_ipv6_is_followed(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """FIELD case 11: such a kernel answers a dump of IPv6 addresses with those of other families, link-local ones too.

    This kernel does the same for a family that it does not know (12).
    """
    monkeypatch.setattr(netlink, "_ADDRESSES6", netlink._ADDRESSES6._replace(selection=bytes([12]).ljust(8, b"\0")))
    space.ip("addr add 169.254.7.8/16 dev eth0 scope link")

    async with following() as (made, told):
        assert set(told[0]) == {NETWORK, "169.254.0.0/16@eth0"}
        assert made._kernel.addresses6 == ()
        space.ip("addr add 169.254.9.9/24 dev eth0 scope link", "addr add 10.81.0.2/24 dev eth0")
        await until(lambda: {"10.81.0.0/24@eth0", "169.254.9.0/24@eth0"} < set(told[-1]))
        assert told[-1]["10.81.0.0/24@eth0"].own6 is None


@inside
async def test_a_change_of_address_is_told(space: Space) -> None:
    async with following() as (_, told):
        space.ip("addr add 10.77.0.3/24 dev eth0")
        space.ip("addr del 10.77.0.2/24 dev eth0")  # with it goes its secondary, unless promoted
        await until(lambda: NETWORK not in told[-1])
        space.ip("addr add 10.90.0.2/16 dev eth0")
        await until(lambda: set(told[-1]) == {"10.90.0.0/16@eth0"})
        assert told[-1]["10.90.0.0/16@eth0"].own == ip("10.90.0.2")
        space.ip("addr add 10.90.0.3/16 dev eth0", "addr add 10.91.0.2/24 dev eth0")
        ours = {ip("10.90.0.2"), ip("10.90.0.3"), ip("10.91.0.2")}
        await until(lambda: told[-1]["10.90.0.0/16@eth0"].ours - {told[-1]["10.90.0.0/16@eth0"].own6} == ours)
        assert told[-1]["10.91.0.0/24@eth0"].ours is told[-1]["10.90.0.0/16@eth0"].ours


@inside
async def test_what_comes_together_is_told_at_once(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change is waited out: a renumbering is one change, not one without any network and another."""
    monkeypatch.setattr(interfaces, "SETTLE", 2.0)  # the process that makes the change may lose its turn in the middle

    async with following() as (_, told):
        for line in ("addr flush dev eth0", "addr add 10.91.0.2/24 dev eth0", "route add default via 10.91.0.1"):
            await asyncio.to_thread(space.ip, line)
        await until(lambda: len(told) > 1)
        assert set(told[1]) == {"10.91.0.0/24@eth0"}
        assert told[1]["10.91.0.0/24@eth0"].gateway == ip("10.91.0.1")


@inside
async def test_down_and_up_keep_the_network_and_its_id(space: Space) -> None:
    async with following() as (_, told):
        for _ in range(2):
            space.ip("link set eth0 down")
            await until(lambda: told[-1][NETWORK].state is NetworkState.DOWN)
            assert told[-1][NETWORK].why.endswith("the interface is down")
            space.ip("link set eth0 up")
            await until(lambda: told[-1][NETWORK].state is NetworkState.UP)
        assert all(set(networks) == {NETWORK} for networks in told)


@inside
async def test_a_pulled_cable_is_told(space: Space) -> None:
    async with following() as (_, told):
        far(space, "link set far down")
        await until(lambda: told[-1][NETWORK].state is NetworkState.DOWN)
        assert told[-1][NETWORK].why.endswith("the link has no carrier")
        far(space, "link set far up")
        await until(lambda: told[-1][NETWORK].state is NetworkState.UP)


@inside
async def test_a_gateway_that_comes_changes_or_goes_silently_is_told(space: Space) -> None:
    async with following() as (_, told):
        assert told[0][NETWORK].gateway is None
        space.ip("route add default via 10.77.0.1")
        await until(lambda: told[-1][NETWORK].gateway == ip("10.77.0.1"))
        space.ip("route replace default via 10.77.0.254")
        await until(lambda: told[-1][NETWORK].gateway == ip("10.77.0.254"))
        space.ip("link set eth0 down")  # the kernel says not one word of the route
        await until(lambda: told[-1][NETWORK].state is NetworkState.DOWN)
        assert told[-1][NETWORK].gateway is None
        space.ip("link set eth0 up")
        await until(lambda: told[-1][NETWORK].state is NetworkState.UP)
        assert told[-1][NETWORK].gateway is None


@inside
async def test_our_ipv6_addresses_are_told_while_they_may_be_used(space: Space) -> None:
    """Not while it is still probed for: an answer to us would go nowhere."""
    async with following() as (_, told):
        assert told[0][NETWORK].own6 is None
        space.sysctl("ipv6.conf.eth0.dad_transmits", 0)
        space.sysctl("ipv6.conf.eth0.disable_ipv6", 0)
        await until(lambda: told[-1][NETWORK].own6)
        assert told[-1][NETWORK].own6[:2] == b"\xfe\x80"  # type: ignore[index]
        space.ip("addr add fd77::2/64 dev eth0")
        await until(lambda: told[-1][NETWORK].prefixes6)
        assert [str(each) for each in told[-1][NETWORK].prefixes6] == ["fd77::/64"]
        await until(lambda: told[-1][NETWORK].ours >= {Ip(IPv6Address("fd77::2").packed)})
        space.sysctl("ipv6.conf.eth0.disable_ipv6", 1)
        await until(lambda: told[-1][NETWORK].own6 is None)
        space.sysctl("ipv6.conf.eth0.dad_transmits", 50)
        space.sysctl("ipv6.conf.eth0.disable_ipv6", 0)
        while "tentative" not in space.run(["ip", "-6", "addr", "show", "dev", "eth0"]).stdout:
            await asyncio.sleep(0.01)
        space.ip("addr add 10.77.9.2/24 dev eth0")
        await until(lambda: "10.77.9.0/24@eth0" in told[-1])
        assert told[-1][NETWORK].own6 is None


@inside
async def test_a_rename_is_another_network(space: Space) -> None:
    async with following() as (_, told):
        space.ip("link set eth0 down", "link set eth0 name lan0", "link set lan0 up")
        await until(lambda: "10.77.0.0/24@lan0" in told[-1])
        await until(lambda: told[-1]["10.77.0.0/24@lan0"].state is NetworkState.UP)
        assert set(told[-1]) == {"10.77.0.0/24@lan0"}
        assert told[-1]["10.77.0.0/24@lan0"].index == told[0][NETWORK].index


@inside
async def test_another_mac_is_told(space: Space) -> None:
    async with following() as (_, told):
        space.ip("link set eth0 address 52:54:00:00:00:07")
        await until(lambda: told[-1][NETWORK].mac == bytes.fromhex("525400000007"))


@inside
async def test_an_interface_that_is_deleted_and_made_anew_is_followed(space: Space) -> None:
    async with following() as (_, told):
        space.ip("link delete eth0")
        await until(lambda: told[-1] == {})
        plug(space)
        await until(lambda: NETWORK in told[-1] and told[-1][NETWORK].state is NetworkState.UP)
        assert told[-1][NETWORK].index != told[0][NETWORK].index


@inside
async def test_what_makes_no_difference_is_not_told(space: Space) -> None:
    async with following() as (_, told):
        space.ip(
            "link set eth0 mtu 1400",
            "route add 10.99.0.0/16 via 10.77.0.1",
            "link add br7 type bridge",
            "link set br7 up",
        )
        await asyncio.sleep(0.2)
        assert len(told) == 1


@inside
async def test_a_new_configuration_is_taken_at_once(space: Space) -> None:
    async with following() as (made, told):
        made.reload(Scan(exclude=("eth0",)), ())
        assert told[-1][NETWORK].state is NetworkState.EXCLUDED
        made.reload(Scan(), (NetworkRule(cidr="10.77.0.0/24", interval=5),))
        assert (told[-1][NETWORK].state, told[-1][NETWORK].interval) == (NetworkState.UP, 5)
        made.reload(Scan(), (NetworkRule(cidr="10.77.0.0/24", interval=5),))
        assert len(told) == 3


# ---- when much happens, and when it breaks ------------------------------------------------------------------------


def storm(number: int) -> list[str]:
    """Changes of every sort; the lines of `ip -batch`."""
    lines = []
    for n in range(number):
        match n % 5:
            case 0:
                lines += [f"link add x{n} type veth peer name y{n}", f"addr add 10.{n}.0.1/24 dev x{n}"]
            case 1:
                lines += [f"link set x{n - 1} up", f"link set y{n - 1} up"]
            case 2:
                lines += [f"addr add 10.{n - 2}.0.9/24 dev x{n - 2}", f"addr add 172.16.{n}.1/22 dev y{n - 2}"]
            case 3 if n % 2:
                lines += [f"link delete x{n - 3}"]
            case 3:
                lines += [f"route add default via 10.{n - 3}.0.7 metric {n}"]
            case _ if n % 2:
                lines += [f"link set x{n - 4} name z{n}"] * (n % 10 != 4)
            case _:
                pass
    return lines


def drops(space: Space, of: Netlink) -> int:
    """Messages that the kernel had no room for, by its own count."""
    port = str(of._notifications.getsockname()[0])
    lines = space.run(["cat", "/proc/net/netlink"]).stdout.splitlines()
    column = lines[0].split().index("Drops")
    return sum(int(words[column]) for words in map(str.split, lines) if words[2] == port)


@inside
async def test_an_overrun_ends_in_what_ip_says(
    space: Space, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F11: a tiny buffer, 300 changes, nothing is read; then the state equals `ip -j`, and it is still followed."""
    monkeypatch.setattr(interfaces, "Netlink", lambda: Netlink(receive_buffer=2048))

    async with following() as (made, told):
        lines = storm(250)
        assert len(lines) >= 300
        space.ip(*lines)  # the loop stands still meanwhile
        assert made._netlink
        assert drops(space, made._netlink) > 0
        _, addresses, _ = by_iproute2(space)
        numbers = {index: name for index, name, *_ in by_iproute2(space)[0]}
        expected = {
            f"{IPv4Interface(f'{own}/{length}').network}@{numbers[index]}"
            for index, own, length, _ in addresses
            if numbers[index] != "lo"
        }
        assert len(expected) > 50
        await until(lambda: set(told[-1]) == expected)
        assert as_iproute2_says(made._kernel) == by_iproute2(space)
        space.ip("addr add 10.77.9.2/24 dev eth0")
        await until(lambda: "10.77.9.0/24@eth0" in told[-1])
    assert not caplog.records


@inside
async def test_a_storm_is_followed_to_its_end(space: Space) -> None:
    """While changes come, and are read in between; what was decoded before is not mistaken for what is now."""
    async with following() as (made, _):
        lines = storm(100)
        for start in range(0, len(lines), 7):
            space.ip(*lines[start : start + 7])
            await asyncio.sleep(0.01)
        await until(lambda: as_iproute2_says(made._kernel) == by_iproute2(space))


@inside
async def test_after_a_broken_socket_what_was_missed_is_told(
    space: Space, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(interfaces, "BACK_OFF", (0.05, 0.2))
    caplog.set_level(logging.ERROR, "netscand.lan.interfaces")

    async with following() as (made, told):
        await asyncio.sleep(0)
        assert made._netlink
        broken = made._netlink
        with Path("/dev/null").open() as nothing:
            os.dup2(nothing.fileno(), broken._requests.fileno())  # no socket any more
        space.ip("addr add 10.92.0.2/24 dev eth0")
        await until(lambda: "10.92.0.0/24@eth0" in told[-1])
        assert made._netlink is not broken
    assert [record.message for record in caplog.records] == [
        "cannot read the interfaces: netlink: Socket operation on non-socket; trying again"
    ]


def test_what_the_engine_raises_ends_the_room(space: Space) -> None:
    """Law 9."""

    def changed(_: tuple[Network, ...]) -> None:
        raise OSError("the engine's own")

    made = Interfaces(changed, Scan(), ())
    space.within(made.open)
    space.ip("addr add 10.92.0.2/24 dev eth0")
    with pytest.raises(OSError, match="the engine's own"):
        asyncio.run(made.run())
    made.close()


def test_a_message_that_is_not_the_kernels_is_not_believed(space: Space) -> None:
    made = space.within(Netlink)
    while made.changed():
        pass
    other = space.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink.NETLINK_ROUTE)
    other.bind((0, 0))
    forged = netlink._HEAD.pack(32, 16, 0, 0, 0) + bytes(16)
    other.sendto(forged, (made._notifications.getsockname()[0], 0))
    assert not made.changed()
    space.ip("link set eth0 down")
    assert made.changed()
    other.close()
    made.close()


def test_a_million_routes_are_not_gone_through_for_every_change(space: Space) -> None:
    """A dump of routes is made only where a default route may have changed."""
    asked: list[int] = []

    class Counting(Netlink):
        def _whole(self, table: netlink._Table[Any]) -> Work[list[bytes]]:
            asked.append(table.request)
            return super()._whole(table)

    made = space.within(Counting)
    run_now(made.read())
    asked.clear()
    space.ip("route add 10.99.0.0/16 via 10.77.0.1")
    assert not made.changed()
    run_now(made.read())
    assert netlink.RTM_GETROUTE not in asked
    space.ip("route add default via 10.77.0.1")
    assert made.changed()
    assert [str(IPv4Address(route.gateway)) for route in run_now(made.read()).routes] == ["10.77.0.1"]
    assert netlink.RTM_GETROUTE in asked
    made.close()


def test_without_netlink_one_sentence_says_so(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: int) -> socket.socket:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(netlink, "_socket", refused)
    with pytest.raises(NetlinkError, match="cannot follow the interfaces: netlink: Address family not supported"):
        Interfaces(lambda _: None, Scan(), ()).open()


@inside
async def test_reading_and_following_show_that_they_live(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "TICK", 0.02)

    async with following() as (made, _):
        before = time.monotonic()
        await until(lambda: made.ticked_at > before)
