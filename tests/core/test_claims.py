"""Claims of devices: host names by trust, DHCP servers reported once, routers; weak evidence."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from netscand.core import addresses, claims
from netscand.core.model import ALL_NODES, EventKind, Evidence, Ip, Mac, Observation
from netscand.core.ratelimit import BURST_S, DHCP_SERVERS, FIRST_CHANGES, RENAMES, STRANGERS
from tests.core.world import World, ip, mac, network

LINK_LOCAL = Ip(bytes.fromhex("fe80000000000000025056fffe000002"))


def say(world: World, sender: Mac, at: str | None, evidence: Evidence, **more: Any) -> None:  # noqa: ANN401 fields
    """Put a frame on the air."""
    world._hear(Observation(world.now, 2, sender, ip(at) if at else None, evidence)._replace(**more))


def named(world: World, sender: Mac, name: str, source: str, at: str = "10.0.0.9") -> None:
    evidence = {"dhcp": Evidence.DHCP, "mdns": Evidence.MDNS, "nbns": Evidence.NBNS}[source]
    say(world, sender, at, evidence, name=name, name_source=source)


def name_of(world: World, sender: Mac) -> tuple[str | None, str | None]:
    device = world.inventory.devices[sender]
    return device.hostname, device.hostname_source


# ---- names ----------------------------------------------------------------------------------------------------------


def test_a_name_follows_the_device_that_says_it() -> None:
    world = World()
    named(world, mac(9), "janes-phone", "mdns")
    assert [kind for _, kind, _ in world.kinds if kind is not EventKind.NETWORK_UP] == [
        EventKind.DISCOVERED, EventKind.RENAMED,
    ]  # fmt: skip
    event = world.of(EventKind.RENAMED)[0]
    assert event.previous == {"hostname": None, "hostname_source": None}
    assert (event.network, event.address, event.seen_at) == ("10.0.0.0/24@eth0", ip("10.0.0.9"), world.now)
    assert name_of(world, mac(9)) == ("janes-phone", "mdns")


@pytest.mark.parametrize("first", claims.TRUST)
@pytest.mark.parametrize("second", claims.TRUST)
def test_a_less_trusted_source_replaces_no_better_one(first: str, second: str) -> None:
    """A name of DHCP is not replaced by one of NBNS."""
    world = World()
    world.hear(mac(9), "10.0.0.9")
    for number, source in enumerate((first, second)):
        world._tell(world.inventory.rename(mac(9), f"name{number}", source, world.now))
    better = claims.TRUST.index(second) <= claims.TRUST.index(first)
    assert name_of(world, mac(9)) == (("name1", second) if better else ("name0", first))
    assert len(world.of(EventKind.RENAMED)) == 1 + better


@pytest.mark.parametrize("dhcp_first", [True, False])
@pytest.mark.parametrize(
    ("sources", "name"),
    [
        (("dns", "dhcp", "mdns"), ("kitchen-tv.lan", "dns")),
        (("mdns", "dns", "dhcp"), ("kitchen-tv.lan", "dns")),
        (("dhcp", "mdns", "dns", "nbns"), ("android-dhcp-13", "dhcp")),
        (("dhcp", "dns"), ("android-dhcp-13", "dhcp")),
        (("mdns", "dhcp"), ("android-dhcp-13", "dhcp")),
        (("dns",), ("kitchen-tv.lan", "dns")),
        ((), (None, None)),
    ],
)
def test_the_order_of_the_sources_is_that_of_trust(
    sources: tuple[str, ...], name: tuple[str | None, str | None], dhcp_first: bool
) -> None:
    """FIELD case 2: `[names] sources`, whichever name comes first; the worse one is no event afterwards."""
    world = World()
    world._tell(world.inventory.set_name_sources(sources, world.now))
    world.hear(mac(9), "10.0.0.9")
    for by_dhcp in (dhcp_first, not dhcp_first) * 3:
        if by_dhcp:
            named(world, mac(9), "android-dhcp-13", "dhcp")
        else:
            world._tell(world.inventory.rename(mac(9), "kitchen-tv.lan", "dns", world.now))
    assert name_of(world, mac(9)) == name
    assert len(world.of(EventKind.RENAMED)) <= 2
    assert ("dns" in world.inventory.claims.host_names.missing_sources(world.inventory.devices[mac(9)])) == (
        name[1] == "dns" or bool(sources and sources[0] == "dns")
    )


def test_names_are_judged_again_when_the_order_changes() -> None:
    """FIELD case 2: a reload needs no new frame of the device, and no further event follows."""
    world = World()
    world.alive(1)
    world.run(5)
    who = mac(1)
    named(world, who, "android-dhcp-13", "dhcp", "10.0.0.10")
    named(world, who, "tv", "mdns", "10.0.0.10")
    world._tell(world.inventory.rename(who, "kitchen-tv.lan", "dns", world.now))
    assert name_of(world, who) == ("android-dhcp-13", "dhcp")
    for sources, name in [
        (("dns", "mdns", "dhcp"), "kitchen-tv.lan"), (("mdns", "dns"), "tv"), (claims.TRUST, "android-dhcp-13"),
        (("nbns",), "android-dhcp-13"),
    ]:  # fmt: skip
        world._tell(world.inventory.set_name_sources(sources, world.now))
        world._tell(world.inventory.set_name_sources(sources, world.now))
        assert name_of(world, who)[0] == name
    assert [event.reason for event in world.of(EventKind.RENAMED)] == [
        "named by dhcp", "named by dns", "named by mdns", "named by dhcp",
    ]  # fmt: skip


def test_two_responders_of_one_host_do_not_fill_the_history() -> None:
    """A host that announces two names in turn, each ten minutes for a week, keeps the last one that was published."""
    world = World()
    for round_ in range(7 * 144):
        world.now += 600
        named(world, mac(9), ("printer", "printer-2")[round_ % 2], "mdns")
    assert len(world.of(EventKind.RENAMED)) <= 4
    kept, _ = name_of(world, mac(9))
    other = {"printer": "printer-2", "printer-2": "printer"}[str(kept)]
    world.now += claims.RETURN_AFTER
    named(world, mac(9), other, "mdns")
    assert name_of(world, mac(9))[0] == other, "the name that is used alone now"


def test_a_name_that_returns_at_once_is_followed() -> None:
    """A user renames a device, and changes their mind."""
    world = World()
    for name in ("printer", "office", "printer"):
        world.now += 60
        named(world, mac(9), name, "mdns")
    assert name_of(world, mac(9))[0] == "printer"


def test_the_same_name_from_a_better_source_is_no_event() -> None:
    """Only the source changes."""
    world = World()
    named(world, mac(9), "janes-phone", "nbns")
    named(world, mac(9), "janes-phone", "dhcp")
    assert name_of(world, mac(9)) == ("janes-phone", "dhcp")
    assert len(world.of(EventKind.RENAMED)) == 1


def test_a_source_that_is_not_configured_sets_no_name() -> None:
    """`[names] sources` excludes it."""
    world = World()
    world.inventory.claims.host_names.sources = ("dhcp",)
    named(world, mac(9), "janes-phone", "mdns")
    assert name_of(world, mac(9)) == (None, None)
    named(world, mac(9), "janes-phone", "dhcp")
    assert name_of(world, mac(9)) == ("janes-phone", "dhcp")


@pytest.mark.parametrize("said", ["00163e000009", "00:16:3E:00:00:09", "00-16-3e-00-00-09", "00163E000009.lan"])
def test_its_own_mac_is_no_name(said: str) -> None:
    """It hides no name of a less trusted source. The MAC of another device is one."""
    world = World()
    named(world, mac(9), said, "dhcp")
    named(world, mac(9), "kitchen-tv", "nbns")
    assert name_of(world, mac(9)) == ("kitchen-tv", "nbns")
    named(world, mac(8), said, "dhcp")
    assert name_of(world, mac(8)) == (said, "dhcp")


def test_a_device_is_renamed_a_few_times_an_hour() -> None:
    """Law 6: a device cannot fill the stream of events with its names."""
    world = World()
    for number in range(1000):
        world.now += 0.1
        named(world, mac(9), f"name{number}", "mdns")
    assert len(world.of(EventKind.RENAMED)) == RENAMES.at_once
    world.now += 1 / RENAMES.per_second
    named(world, mac(9), "at last", "mdns")
    assert name_of(world, mac(9)) == ("at last", "mdns")


def test_many_made_up_names_are_published_within_a_bound() -> None:
    """Of 2,000 devices that joined today: the budget of strangers, then the own changes of some; the rest later."""
    world = World([network("10.0.0.0/20")])
    for number in range(2000):
        world._tell(
            world.inventory.observe(Observation(world.now, 2, mac(number), None, Evidence.DHCP), network(), 0.1)
        )
    budgets = world.inventory.budgets
    for number in range(2000):
        while budgets.take(FIRST_CHANGES, mac(number), world.now):
            pass
    for again in (1, 2, 3, 4):
        for number in range(2000):
            say(world, mac(number), None, Evidence.DHCP, name=f"name{number} {again}", name_source="dhcp")
    assert len(world.of(EventKind.RENAMED)) == 4094
    world.now += 1 / STRANGERS.per_second
    say(world, mac(1999), None, Evidence.DHCP, name="at last", name_source="dhcp")
    assert name_of(world, mac(1999)) == ("at last", "dhcp")


def test_what_is_lacked_is_what_would_be_better() -> None:
    world = World()
    world.hear(mac(9), "10.0.0.9")
    naming, device = world.inventory.claims.host_names, world.inventory.devices[mac(9)]
    lacks = {None: claims.TRUST, "nbns": ("dhcp", "mdns", "dns"), "dns": ("dhcp", "mdns", "dns"), "mdns": ("dhcp",)}
    for source, lacked in (lacks | {"dhcp": ()}).items():
        device.hostname_source = source
        assert naming.missing_sources(device) == lacked
    naming.sources = ("nbns",)
    device.hostname_source = None
    assert naming.missing_sources(device) == ("nbns",)


def test_a_name_for_an_unknown_device_is_ignored() -> None:
    """A lookup may end after the device was forgotten."""
    assert World().inventory.rename(mac(9), "unknown", "dns", 1.0) == ()


# ---- servers --------------------------------------------------------------------------------------------------------


def test_what_a_dhcp_client_calls_itself_is_kept_and_no_event() -> None:
    world = World()
    say(world, mac(9), None, Evidence.DHCP, vendor_class="android-dhcp-14")
    say(world, mac(9), None, Evidence.DHCP)
    say(world, mac(9), "10.0.0.9", Evidence.PROXIED, vendor_class="another station's class")
    assert world.inventory.devices[mac(9)].dhcp_vendor_class == "android-dhcp-14"
    say(world, mac(9), None, Evidence.DHCP, vendor_class="dhcpcd-10.0.6")
    assert world.inventory.devices[mac(9)].dhcp_vendor_class == "dhcpcd-10.0.6"
    assert [kind for _, kind, _ in world.kinds] == [EventKind.NETWORK_UP, EventKind.DISCOVERED]


def test_a_dhcp_server_is_reported_once() -> None:
    """Further offers of the same server cause no event."""
    world = World()
    for _ in range(3):
        say(world, mac(1), "10.0.0.1", Evidence.DHCP, dhcp_server=ip("10.0.0.1"))
    (event,) = world.of(EventKind.DHCP_SERVER_SEEN)
    assert (event.address, event.other, event.reason) == (ip("10.0.0.1"), None, "serves DHCP")
    assert event.device is world.inventory.devices[mac(1)]


def test_a_dhcp_server_that_a_client_names_is_reported() -> None:
    """Option 54 of a broadcast request; the server's own answer went to the client only."""
    world = World()
    say(world, mac(1), "10.0.0.1", Evidence.DHCP, dhcp_server=ip("10.0.0.1"))
    say(world, mac(9), None, Evidence.DHCP, joining=True, dhcp_server=ip("10.0.0.66"))
    event = world.of(EventKind.DHCP_SERVER_SEEN)[1]
    assert (event.address, event.other, event.device) == (ip("10.0.0.66"), mac(9), None)
    assert event.reason == f"named as a DHCP server by {mac(9).hex(':')}"


def test_a_station_with_a_known_servers_address_is_reported() -> None:
    """A server is known by its Ethernet source, not by its address."""
    world = World()
    server, rogue = mac(1), mac(66)
    for sender in (server, rogue, server, rogue):
        say(world, sender, "10.0.0.1", Evidence.DHCP, dhcp_server=ip("10.0.0.1"))
    first, second = world.of(EventKind.DHCP_SERVER_SEEN)
    assert (first.device and first.device.mac, first.other) == (server, None)
    assert (second.device and second.device.mac, second.other) == (rogue, server)
    assert second.reason == f"serves DHCP with the address of {server.hex(':')}"
    say(world, mac(67), "10.0.0.67", Evidence.DHCP, dhcp_server=ip("10.0.0.1"))
    third = world.of(EventKind.DHCP_SERVER_SEEN)[2]
    assert (third.address, third.other) == (ip("10.0.0.1"), mac(67)), "an answer in the name of the other server"


def test_a_named_server_that_serves_is_reported_once() -> None:
    """A client named it first; then it serves itself."""
    world = World()
    for _ in range(2):
        say(world, mac(9), None, Evidence.DHCP, joining=True, dhcp_server=ip("10.0.0.1"))
        say(world, mac(1), "10.0.0.1", Evidence.DHCP, dhcp_server=ip("10.0.0.1"))
    assert len(world.of(EventKind.DHCP_SERVER_SEEN)) == 1


def test_a_forged_request_names_no_server() -> None:
    """A request with another station's MAC in it is no report of that station."""
    world = World()
    world.hear(mac(9), "10.0.0.9")
    say(world, mac(9), None, Evidence.PROXIED, joining=True, dhcp_server=ip("10.0.0.66"))
    assert not world.of(EventKind.DHCP_SERVER_SEEN)


def test_made_up_dhcp_servers_are_bounded() -> None:
    """They are reported once a minute, and remembered within a limit."""
    world = World()
    for number in range(3000):
        world.now += 0.1
        made_up = Ip(bytes([10, 0, 1 + number // 250, number % 250]))
        say(world, mac(9 + number), None, Evidence.DHCP, dhcp_server=made_up)
    published = len(world.of(EventKind.DHCP_SERVER_SEEN))
    row = DHCP_SERVERS
    assert row.at_once <= published <= row.at_once + 300 * row.per_second + 1
    assert all(
        len(known.named) <= claims.MOST
        for tables in world.inventory.claims._servers._known.values()
        for known in tables
    )


# ---- weak evidence --------------------------------------------------------------------------------------------------


def test_a_forwarded_packet_proves_nothing_of_its_router() -> None:
    """The source address of an IP packet from another LAN is not that of its Ethernet source."""
    world = World()
    named(world, mac(1), "far-away", "nbns", "192.168.7.7")
    assert mac(1) not in world.inventory.devices


def test_a_repeating_station_takes_no_address_or_name() -> None:
    """Some Wi-Fi extenders insert their own MAC into the packets of their stations."""
    world = World()
    world.hear(mac(9), "10.0.0.9")
    named(world, mac(50), "janes-phone", "mdns", "10.0.0.9")
    assert name_of(world, mac(50)) == (None, None)
    assert world.inventory.devices[mac(50)].addresses == []
    assert world.inventory.addresses.holder("10.0.0.0/24@eth0", ip("10.0.0.9")) is world.inventory.devices[mac(9)]
    assert not world.of(EventKind.ADDRESS_CONFLICT)


def test_a_goodbye_is_a_reason_to_probe_and_no_verdict() -> None:
    """systemd-networkd releases its lease at a mere restart."""
    world = World()
    world.alive(1)
    world.run(5)
    device = world.inventory.devices[mac(1)]
    world.now += 1
    say(world, mac(1), None, Evidence.DHCP, goodbye=True)
    world.run(60)
    assert device.status == "online"
    assert not world.of(EventKind.OFFLINE)


# ---- IPv6 -----------------------------------------------------------------------------------------------------------


def with_ipv6(**more: Any) -> World:  # noqa: ANN401 fields
    return World([replace(network(), own6=LINK_LOCAL)], **more)


def v6(number: int) -> Ip:
    return Ip(b"\xfe\x80" + bytes(13) + bytes([number]))


def test_an_echo_of_all_nodes_is_requested_at_once_then_rarely() -> None:
    """The first echo request is sent at once, the next ones after 10 to 30 minutes."""
    world = with_ipv6()
    world.run(3600)
    echoes = [at for at, ask in world.frames if ask.ip == ALL_NODES]
    assert echoes[0] - 1000.0 < 1
    assert 2 <= len(echoes) <= 7
    assert all(600 <= after - before <= 1801 for before, after in pairwise(echoes))


def test_two_networks_of_an_interface_get_one_echo_request() -> None:
    """The echo request is sent for each interface, not for each network."""
    world = World([replace(network(), own6=LINK_LOCAL), replace(network("10.0.1.0/24"), own6=LINK_LOCAL)])
    world.run(60)
    assert sum(ask.ip == ALL_NODES for _, ask in world.frames) == 1


def test_without_own_ipv6_address_no_ipv6_probe_is_sent() -> None:
    """The sender of an IPv6 probe is a link-local address of this host."""
    world = World()
    world._hear(Observation(world.now, 2, mac(9), v6(9), Evidence.NDP))
    world.run(400)
    assert not any(len(ask.ip) == 16 for _, ask in world.frames)
    (event,) = world.of(EventKind.OFFLINE)
    assert "no address to probe" in event.reason


def test_an_ipv6_only_device_is_probed_over_ipv6() -> None:
    """Its answer has a round trip."""
    world = with_ipv6()
    world.hosts[2, v6(9)] = mac(9)
    world._hear(Observation(world.now, 2, mac(9), v6(9), Evidence.NDP))
    world.run(120)
    device = world.inventory.devices[mac(9)]
    assert {ask.mac for _, ask in world.frames if ask.ip == v6(9)} == {mac(9)}
    assert device.status == "online"
    assert device.confirmed
    assert device.rtt == pytest.approx(world.delay)
    del world.hosts[2, v6(9)]
    world.run(300)
    assert world.of(EventKind.OFFLINE)[0].device is device
    assert any(ask == ask._replace(ip=v6(9), mac=None) for _, ask in world.frames)


def test_a_device_without_ipv4_is_probed_at_its_ipv6_address() -> None:
    """A device that no longer uses its IPv4 address is probed at the address that it uses."""
    world = with_ipv6()
    world.hosts[2, v6(9)] = mac(9)
    world.hear(mac(9), "10.0.0.9")
    for _ in range(40):
        world.run(5)
        world._hear(Observation(world.now, 2, mac(9), v6(9), Evidence.NDP))
    world.run(120)
    assert world.inventory.devices[mac(9)].status == "online"
    assert not world.of(EventKind.OFFLINE)


def test_silent_ipv6_addresses_are_kept_for_hours() -> None:
    """Hosts have several IPv6 addresses, and rarely use some of them."""
    world = with_ipv6()
    world.hosts[2, v6(9)] = mac(9)
    other = Ip(bytes.fromhex("20010db8000000000000000000000009"))
    world._hear(Observation(world.now, 2, mac(9), other, Evidence.NDP))
    world.now += 1
    world._hear(Observation(world.now, 2, mac(9), v6(9), Evidence.NDP))
    world.run(4 * 3600)
    assert {held.ip for held in world.inventory.devices[mac(9)].addresses} == {other, v6(9)}


def test_frames_of_other_rooms_count_in_the_budget() -> None:
    world = World()
    probed = sum(world.planner.spend("10.0.0.0/24@eth0", world.now) for _ in range(1000))
    assert 0 < probed <= 50
    assert not world.planner.spend("no such network", world.now)
    assert not world.planner.spend("10.0.0.0/24@eth0", world.now)
    to_one = sum(world.planner.spend("10.0.0.0/24@eth0", world.now, to_all=False) for _ in range(2000))
    assert probed < to_one + probed <= 1000 * BURST_S
    assert not world.planner.spend("10.0.0.0/24@eth0", world.now, to_all=False)


def test_a_device_is_probed_once_it_has_an_address() -> None:
    """DHCP first, then ARP; not five minutes later, when it would be reported offline."""
    world = World([network(interval=86_400)])
    world.run(10)
    say(world, mac(9), None, Evidence.DHCP, joining=True)
    world.now += 1
    world.hear(mac(9), "10.0.0.200")
    world.run(60)
    assert any(ask.mac == mac(9) for _, ask in world.frames)


def test_ipv6_probes_start_when_this_host_gets_ipv6() -> None:
    """An IPv6-only device is probed as soon as this host has an IPv6 address."""
    world = World()
    world._hear(Observation(world.now, 2, mac(9), v6(9), Evidence.NDP))
    world.run(5)
    world.set_networks([replace(network(), own6=LINK_LOCAL)])
    world.run(60)
    assert any(ask.ip == v6(9) for _, ask in world.frames)


def test_a_router_is_one_until_it_withdraws_its_advertisement() -> None:
    """A lifetime of zero ends it."""
    world = with_ipv6()
    for router in (True, None, False):
        world._hear(Observation(world.now, 2, mac(1), v6(1), Evidence.NDP, router=router))
        assert world.inventory.devices[mac(1)].is_router is (router is not False)
        world.now += 1


def test_one_that_never_answered_has_few_addresses() -> None:
    """Law 6: made-up devices with made-up addresses cost neither memory nor events."""
    world = with_ipv6()
    for number in range(100):
        world._hear(Observation(world.now, 2, mac(9), v6(number + 1), Evidence.NDP))
    assert len(world.inventory.devices[mac(9)].addresses) == addresses.FEW
    assert len(world.of(EventKind.ADDRESS_ADDED)) < addresses.FEW
