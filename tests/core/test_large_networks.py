"""Networks that are too large to scan all of, quiet ones, and several that share one budget (FIELD cases 10, 16)."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from netscand.core.model import BadTarget, Busy, Cause, EventKind, Network, ScanFinished, ScanStarted, Status
from netscand.core.networks import MOST_NOT_SWEPT, addresses_by_interface
from netscand.core.outage import network_problems
from netscand.core.planner import QUIET_AFTER, Pace
from netscand.core.targets import MOST_REQUESTED
from tests.core.world import World, ip, mac, network

pytestmark = pytest.mark.slow

LINK_LOCAL = replace(network("169.254.0.0/16"), swept=False)
LARGE = replace(network("10.0.0.0/8"), swept=False)


def broadcasts(world: World, since: float = 0.0, on: Network | None = None) -> list[tuple[float, bytes]]:
    return [
        (at, probe.ip)
        for at, probe in world.frames
        if at >= since and probe.mac is None and len(probe.ip) == 4 and on in (None, probe.network)
    ]


def ended(world: World, scan_id: int) -> tuple[float, ScanFinished] | None:
    return next(
        ((at, news) for at, news in world.news if isinstance(news, ScanFinished) and news.scan_id == scan_id), None
    )


@pytest.mark.parametrize(("lan", "prefix"), [(LINK_LOCAL, "169.254.7"), (LARGE, "10.77.0")], ids=["169.254/16", "/8"])
def test_a_large_network_is_received_and_not_swept(lan: Network, prefix: str) -> None:
    """Devices that send frames are listed and probed, go offline and return without a frame of their own."""
    world = World([lan])
    for number in (5, 9):
        world.hosts[2, ip(f"{prefix}.{number}")] = mac(number)
    world.hosts[2, ip(f"{prefix}.77")] = mac(77)
    world.run(60)
    assert {probe.ip for _, probe in world.frames} == {lan.own}, "the probe for our own address (RFC 5227)"
    for number in (5, 9):
        world.hear(mac(number), f"{prefix}.{number}")
    world.run(900)
    devices = world.inventory.devices
    assert {number: devices[mac(number)].status for number in (5, 9)} == dict.fromkeys((5, 9), Status.ONLINE)
    assert mac(77) not in devices, "it has sent nothing"
    del world.hosts[2, ip(f"{prefix}.9")]
    world.run(900)
    assert devices[mac(9)].status is Status.OFFLINE
    world.hosts[2, ip(f"{prefix}.9")] = mac(9)
    world.run(60)
    assert devices[mac(9)].status is Status.ONLINE
    assert {address for _, address in broadcasts(world)} <= {ip(f"{prefix}.5"), ip(f"{prefix}.9"), lan.own}
    assert network_problems(world.inventory.networks.values()) == []
    assert world.planner.coverage(lan.id, world.now) == (0.0, 0.0)


def test_a_scan_of_a_large_network_probes_where_devices_were_seen() -> None:
    """The whole network, its prefix, a part that is larger than a /16: three addresses at most, not 16 million."""
    for lan in (LARGE, network("10.0.0.0/8")):
        world = World([lan], pace=Pace(background_rate=1.0))
        for address in ("10.77.0.9", "10.200.0.1"):
            world.hosts[2, ip(address)] = mac(ip(address)[3])
            world.hear(mac(ip(address)[3]), address)
        world.hosts[2, ip("10.200.0.77")] = mac(77)
        world.run(30)
        for targets, found in [
            ((), {mac(9), mac(1)}), ((lan.id,), {mac(9), mac(1)}), (("10.0.0.0/8",), {mac(9), mac(1)}),
            (("10.128.0.0/9",), {mac(1)}), (("10.200.0.0/24",), {mac(1), mac(77)}), (("10.200.0.77",), {mac(77)}),
        ]:  # fmt: skip
            world.run(10)
            scan_id = world.planner.request_scan(targets, world.now, account="an account")
            world.run(5)
            end = ended(world, scan_id)
            assert end
            assert set(end[1].found) == found
    with pytest.raises(BadTarget):
        World([LARGE]).planner.request_scan(["11.0.0.0/8"], 1000.0)


def test_the_broadcasts_that_an_account_requests_are_bounded() -> None:
    """FIELD x3: one /16 after the other of a /8, by a local user."""
    world = World([LARGE])
    world.run(1)
    with pytest.raises(Busy):
        for number in range(10):
            world.planner.request_scan([f"10.{number}.0.0/16"], world.now, account="a user")
            world.run(1)
    world.run(700)
    assert len(broadcasts(world)) < 3 * 3 * MOST_REQUESTED
    assert not world.planner.scanning


def test_a_large_scan_delays_no_small_one() -> None:
    """FIELD x3: an address is scanned within a second beside a /16, whose scan ends as before."""
    world = World([LARGE])
    world.run(1)
    world.hosts[2, ip("10.1.2.3")] = mac(3)
    large = world.planner.request_scan(["10.1.0.0/16"], world.now, client="one")
    world.run(2)
    begun = world.now
    small = world.planner.request_scan(["10.1.2.3"], world.now, client="other")
    later = world.planner.request_scan(["10.2.0.0/16"], world.now, client="third")
    assert len({large, small, later}) == 3
    world.run(5)
    end = ended(world, small)
    assert end and end[0] < begun + 1.5  # the wait for answers on a LAN of unknown round trips is 0.5 s
    assert end[1].found == (mac(3),)
    assert ended(world, large) is None
    world.run(250)
    end = ended(world, large)
    assert end and end[1].found == (mac(3),)
    assert any(isinstance(news, ScanStarted) and news.scan_id == later for _, news in world.news)


def test_budgets_do_not_grow_with_addresses_that_are_not_scanned() -> None:
    """An address of IPv4LL beside a /24 would give strangers the budgets of a /16."""
    beside = [network(), LINK_LOCAL]
    assert addresses_by_interface(beside) == {2: 253 + 1 + MOST_NOT_SWEPT}
    assert addresses_by_interface([replace(each, swept=True) for each in beside]) == {2: 65_536}


@pytest.mark.parametrize("waiting", [False, True])
def test_a_large_scan_ends_with_its_last_client(waiting: bool) -> None:
    """FIELD x3: of two that requested it, whether it runs or waits for another one; a small scan runs to its end."""
    world = World([LARGE])
    world.run(1)
    if waiting:
        world.planner.request_scan(["10.9.0.0/16"], world.now, client="first")
        world.run(1)
    ids = {world.planner.request_scan(["10.1.0.0/16"], world.now, client=client) for client in ("one", "other")}
    assert len(ids) == 1
    small = world.planner.request_scan(["10.1.0.0/24"], world.now, client="one")
    for client in ("one", "first"):
        world.planner.leave_scans(client, world.now)
    world.run(3)
    assert ended(world, small)
    assert ended(world, *ids) is None
    assert world.planner.scanning
    world.planner.leave_scans("other", world.now)
    world.run(3)
    assert ended(world, *ids)
    assert not world.planner.scanning
    count = len(broadcasts(world))
    world.run(60)
    assert len(broadcasts(world)) == count


def test_a_waiting_large_scan_ends_with_its_client() -> None:
    """FIELD x3: and a request without a client (`wait=0`) runs to its end."""
    world = World([LARGE])
    world.run(1)
    first = world.planner.request_scan(["10.9.0.0/16"], world.now)
    world.run(1)
    second = world.planner.request_scan(["10.1.0.0/16"], world.now, client="one")
    world.planner.leave_scans("one", world.now)
    world.run(300)
    assert ended(world, first)
    assert not any(isinstance(news, ScanStarted) and news.scan_id == second for _, news in world.news)


def test_a_quiet_16_gets_a_tenth_of_the_frames_of_a_busy_one() -> None:
    """FIELD case 10: 40 broadcasts/s in minute 1, fewer than 5/s in minutes 11 to 13, 40/s after a change."""
    lan = network("10.0.0.0/16")
    world = World([lan])
    world.alive(20)
    world.run(60)
    assert len(broadcasts(world)) / 60 == pytest.approx(40, rel=0.1)
    world.run(QUIET_AFTER + 30)
    since = world.now
    world.run(120)
    assert 3 < len(broadcasts(world, since)) / 120 < 5
    fraction, seconds = world.planner.coverage(lan.id, world.now)
    assert seconds == pytest.approx(65_534 / 4, rel=0.01)
    assert fraction == pytest.approx(30 * 4 / 65_534, rel=0.01)
    assert world.of(EventKind.DISCOVERED), "a scan that finds devices shows no change of the network"
    world.hear(mac(99), "10.0.9.9")
    since = world.now
    world.run(60)
    assert len(broadcasts(world, since)) / 60 == pytest.approx(40, rel=0.1)


def lans(*cidrs: str, interval: float) -> list[Network]:
    return [network(cidr, f"eth{n}", n + 2, interval=interval) for n, cidr in enumerate(cidrs)]


OWN_BUDGET = network("10.2.0.0/24", "eth9", 9, interval=5, background_rate=20)


def others(lan: Network) -> set[bytes]:
    return {lan.cidr[offset].packed for offset in lan.offsets} - {lan.own}


@pytest.mark.parametrize(
    "networks",
    [
        lans("10.0.0.0/24", interval=5),
        lans("10.0.0.0/24", "10.1.0.0/24", interval=5),
        lans("10.0.0.0/24", "10.1.0.0/24", "10.2.0.0/25", interval=5),
        lans("10.0.0.0/24", "10.1.0.0/21", interval=30),
        lans("10.0.0.0/22", "10.1.0.0/22", "10.2.0.0/22", interval=30),
        [*lans("10.0.0.0/24", "10.1.0.0/24", interval=5), OWN_BUDGET],
        [network("10.0.0.0/24", interval=60), network("10.1.0.0/23", "eth1", 3, interval=5)],
        [LINK_LOCAL, network("10.1.0.0/24", "eth1", 3, interval=5)],
    ],
)  # fmt: skip
def test_coverage_is_true_where_networks_share_a_budget(networks: Iterable[Network]) -> None:
    """FIELD X2: two /24s reported "all in 6.35 s" and took 11.1 s."""
    world = World(networks)
    world.run(100)  # the first scans use the full rate
    for lan in world.inventory.networks.values():
        fraction, seconds = world.planner.coverage(lan.id, world.now)
        if not lan.swept:
            continue
        assert 0 < fraction <= 1
        since, left = world.now, others(lan)
        while left and world.now < since + 1000:
            world.run(0.25)
            left -= {address for _, address in broadcasts(world, since, lan)}
        interval = lan.interval
        assert seconds - interval - 1 <= world.now - since <= seconds + interval + 1, (lan.id, seconds)


def test_a_network_that_needs_little_leaves_the_rest_to_others() -> None:
    """A /24 every 30 s needs 8.5 of the 40 frames/s of scheduled scans; a /16 beside it gets the other 31.5."""
    world = World(lans("10.0.0.0/24", "10.1.0.0/16", interval=30))
    world.run(40)
    small, large = (world.planner.coverage(name, world.now) for name in world.inventory.networks)
    assert small.fraction == 1
    assert large.fraction * 65_534 / 30 == pytest.approx(31.5, rel=0.01)
    since = world.now
    world.run(60)
    assert len(broadcasts(world, since)) / 60 == pytest.approx(40, rel=0.1)


def test_the_cause_of_large_scans_stays_the_client() -> None:
    """A scheduled scan yields to a requested one; another requested one does not."""
    world = World([network("10.0.0.0/16")])
    world.run(31)
    large = world.planner.request_scan(["10.0.0.0/17"], world.now)
    world.run(1)
    world.planner.request_scan(["10.0.0.9"], world.now)
    world.run(2)
    assert ended(world, large) is None
    assert {news.cause for _, news in world.news if isinstance(news, ScanStarted) and news.scan_id == large} == {
        Cause.CLIENT
    }
    assert not world.of(EventKind.DISCOVERED)
