"""The planner: which addresses are probed, and when."""

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Network
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from netscand.core.model import (
    BadTarget,
    Cause,
    EventKind,
    ScanFailed,
    ScanFinished,
    ScanProgress,
    ScanStarted,
)
from netscand.core.planner import Pace
from netscand.core.scan import AT_ONCE, ActiveScans, Order
from tests.core.world import World, ip, mac, network


def finished(world: World) -> list[tuple[float, ScanFinished]]:
    return [(at, news) for at, news in world.news if isinstance(news, ScanFinished)]


def started(world: World) -> list[tuple[float, ScanStarted]]:
    return [(at, news) for at, news in world.news if isinstance(news, ScanStarted)]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 16, 253, 254, 255, 1022, 65_534])
def test_an_order_visits_every_address_once(n: int) -> None:
    for seed in range(5):
        order = Order(n, Random(seed))
        assert sorted(order.at(i) for i in range(7, 7 + n)) == list(range(n))


@pytest.mark.parametrize("n", [253, 254, 65_533])
def test_each_order_is_random_and_not_sequential(n: int) -> None:
    """No address is always the last, and no neighbour is probed right after it."""
    begins = []
    for seed in range(300):
        order = Order(n, Random(seed))
        begins.append([order.at(i) for i in range(5)])
        assert min(abs(later - early) for early, later in pairwise(begins[-1])) > n // 9
    assert len({begin[0] for begin in begins}) > 100
    assert len({begin[1] - begin[0] for begin in begins}) > 50


def test_the_first_scan_is_at_once_and_finds_everybody() -> None:
    """A network of up to 1,024 addresses is asked at `rate`: devices stand within a second."""
    world = World()
    world.alive(34)
    world.run(1.0)
    assert len(world.of(EventKind.DISCOVERED)) == 34
    assert started(world)[0][1].cause is Cause.START


def test_hundreds_of_scans_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS F25: one turn advances a limited number, and all of them end."""
    visited: list[int] = []
    advance, turn = ActiveScans._advance, ActiveScans.advance

    def counted(self: ActiveScans, *given: Any) -> None:  # noqa: ANN401
        visited[-1] += 1
        advance(self, *given)

    def begun(self: ActiveScans, *given: Any) -> None:  # noqa: ANN401
        visited.append(0)
        turn(self, *given)

    monkeypatch.setattr(ActiveScans, "_advance", counted)
    monkeypatch.setattr(ActiveScans, "advance", begun)
    prefixes = [f"10.{number // 60}.0.{4 * (number % 60)}/30" for number in range(300)]
    world = World([network(prefix) for prefix in prefixes])
    world.run_unchecked(5.0)
    assert max(visited) == AT_ONCE
    assert len(finished(world)) >= 300


def test_scans_start_on_schedule() -> None:
    """Every interval, counted from the start of the last, not from its end."""
    world = World()
    world.alive(10)
    world.run(200)
    starts = [at for at, news in started(world)]
    assert starts == pytest.approx([1000 + 30 * i for i in range(7)], abs=0.01)


def test_network_broadcast_and_own_address_are_skipped() -> None:
    """No scan probes them (FIELD R9: a Google Nest answers at .255); our own address has its probe of RFC 5227."""
    world = World()
    world.run(100)
    probed = [ask.ip for _, ask in world.frames]
    assert len(set(probed)) == 254
    assert not {*probed} & {ip("10.0.0.0"), ip("10.0.0.255")}
    assert probed.count(ip("10.0.0.2")) == 1


UPPER = (IPv4Network("10.0.0.128/25"),)


def test_excluded_addresses_are_never_probed() -> None:
    """Not by scans, requests or presence; a device there is known only by its own frames."""
    world = World(networks=[replace(network(), excluded=UPPER)])
    world.alive(200)
    world.hear(mac(190), "10.0.0.199")
    world.run(100)
    world.planner.request_scan((), world.now)
    world.planner.request_scan(("10.0.0.64/26", "10.0.0.0/24"), world.now)
    world.run(250)
    assert {ask.ip[3] for _, ask in world.frames} == {*range(1, 128)}
    assert len(world.of(EventKind.DISCOVERED)) == 118 + 1
    assert world.inventory.devices[mac(190)].reason == "silent for 300 s, and no address to probe"
    assert {news.total for _, news in world.news if isinstance(news, ScanProgress)} == {127}
    assert world.planner.coverage("10.0.0.0/24@eth0", world.now).fraction == 1
    for target in ("10.0.0.200", "10.0.0.192/26"):
        with pytest.raises(BadTarget):
            world.planner.request_scan((target,), world.now)
    world.planner.request_scan(("10.0.0.127", "10.0.0.120/29"), world.now)


def test_a_reload_changes_the_excluded_addresses_at_once() -> None:
    """Running scans and queued probes follow it, too."""
    world = World(networks=[network()], pace=Pace(rate=100, background_rate=100))
    world.alive(254)
    world.run(1)
    world.planner.request_scan(("10.0.0.200", "10.0.0.20"), world.now)
    world.frames.clear()
    world.set_networks([replace(network(), excluded=UPPER)])
    world.run(50)
    assert max(ask.ip[3] for _, ask in world.frames) == 127
    assert any(isinstance(news, ScanFailed) for _, news in world.news)
    world.frames.clear()
    world.set_networks([network()])
    world.run(10)
    assert {ask.ip[3] for _, ask in world.frames} > {*range(128, 255)}


def test_a_fully_excluded_network_is_only_observed() -> None:
    """10.0.0.0/30 without its two hosts."""
    excluded = (IPv4Network("10.0.0.1/32"), IPv4Network("10.0.0.2/32"))
    world = World(networks=[replace(network("10.0.0.0/30"), excluded=excluded)])
    world.hear(mac(1), "10.0.0.1")
    world.planner.request_scan((), world.now)
    world.run(100)
    assert not world.frames
    assert len(world.of(EventKind.DISCOVERED)) == 1
    assert finished(world)


def test_known_devices_get_unicast_silent_ones_broadcast() -> None:
    """Known devices are probed by unicast, silent addresses by broadcast."""
    world = World()
    world.alive(10)
    world.run(29)
    world.frames.clear()
    world.run(31)
    for _, ask in world.frames:
        assert (ask.mac is not None) == ((2, ask.ip) in world.hosts)


def test_a_timers_scan_leaves_the_online_to_presence() -> None:
    """Or a sleeping phone would be asked every 30 s, for nothing but its battery."""
    world = World()
    world.alive(1)
    world.run(29.5)
    world.frames.clear()
    world.hear(mac(1), "10.0.0.10")
    world.run(9)
    assert world.frames
    assert not any(ask.ip == ip("10.0.0.10") for _, ask in world.frames)


@pytest.mark.slow
def test_a_quiet_network_is_scanned_less() -> None:
    """After ten minutes without a change, one coverage takes five minutes; a change restores the old pace."""
    world = World()
    world.alive(60)
    world.run(700)
    world.frames.clear()
    world.run(300)
    silent = [ask.ip for _, ask in world.frames if ask.mac is None]
    assert len(set(silent)) == 254 - 1 - 60
    assert len(silent) <= 200
    assert world.planner.coverage("10.0.0.0/24@eth0", world.now).seconds == pytest.approx(300, rel=0.05)
    world.hear(mac(99), "10.0.0.99")
    assert world.planner.coverage("10.0.0.0/24@eth0", world.now).seconds == 30


@pytest.mark.parametrize("rate", [200.0, 1000.0])
def test_no_second_has_more_frames_than_the_rates_allow(rate: float) -> None:
    """FAULTS T20, in simulated time, requests included; between scans broadcast keeps to the background rate."""
    world = World(pace=Pace(rate=rate))
    world.alive(60)
    world.run(40)
    world.planner.request_scan((), world.now)
    world.run(60)
    for seconds in (at for at, _ in world.frames):
        assert sum(seconds <= at < seconds + 1 for at, _ in world.frames) <= rate
    quiet = [at for at, ask in world.frames if ask.mac is None and (5 < at - 1000 < 40 or at - 1000 > 50)]
    assert quiet
    for first in quiet:
        assert sum(first <= at < first + 1 for at in quiet) <= 50


def test_a_request_tries_each_silent_address_tries_times() -> None:
    """`[scan] tries` applies."""
    world = World(pace=Pace(tries=4))
    world.run(10)
    world.frames.clear()
    world.planner.request_scan((), world.now)
    world.run(5)
    tries = Counter(ask.ip for _, ask in world.frames)
    assert len(tries) == 253
    assert set(tries.values()) == {4}


def test_a_request_finds_all_despite_lost_frames() -> None:
    """20 scans, 34 of 254 alive, 5 % loss: all found in each."""
    world = World(loss=0.05)
    world.alive(34)
    world.run(6)
    for _ in range(20):
        world.planner.request_scan((), world.now)
        world.run(6)
    ends = [news for _, news in finished(world) if len(news.networks) and news.broadcast + news.unicast > 600]
    assert len(ends) >= 20
    assert [len(news.found) for news in ends[-20:]] == [34] * 20


def test_a_requested_scan_ends_soon_after_its_last_frame() -> None:
    """The wait adapts to the round trips seen: at least 50 ms."""
    world = World()
    world.alive(34)
    world.run(6)
    requested = world.now
    scan_id = world.planner.request_scan((), requested)
    world.run(2)
    (end,) = (at for at, news in finished(world) if news.scan_id == scan_id)
    assert end - requested < 0.85


def test_a_slow_lan_is_waited_for() -> None:
    world = World(delay=0.3)
    world.alive(34)
    world.run(10)
    scan_id = world.planner.request_scan((), world.now)
    world.run(5)
    (end,) = (news for _, news in finished(world) if news.scan_id == scan_id)
    assert len(end.found) == 34


def test_ten_requests_at_once_are_one_scan() -> None:
    """A request joins a running scan that will still probe all its targets."""
    world = World()
    world.alive(5)
    world.run(10)
    assert len({world.planner.request_scan((), world.now) for _ in range(10)}) == 1


def test_a_late_request_waits_for_the_next_scan() -> None:
    """And a whole network is scanned at the full rate at most once in 5 s."""
    world = World()
    world.alive(5)
    world.run(10)
    first = world.planner.request_scan((), world.now)
    world.run(0.1)
    later = {world.planner.request_scan((), world.now) for _ in range(9)}
    assert len(later) == 1
    assert later != {first}
    world.run(10)
    begun = {news.scan_id: at for at, news in started(world) if news.cause is Cause.CLIENT}
    assert begun[later.pop()] - begun[first] >= 5


def test_a_request_joins_a_scan_that_will_reach_its_address() -> None:
    """Otherwise it waits for the next scan."""
    world = World()
    world.alive(3)
    world.run(10)
    running = world.planner.request_scan((), world.now)
    world.run(0.05)
    assert world.planner.request_scan(["10.0.0.99"], world.now) == running
    world.run(0.75)
    assert world.planner.request_scan(["10.0.0.99"], world.now) != running


def test_waiting_requests_are_merged() -> None:
    """The next scan probes the union of their targets."""
    world = World([network(), network("10.1.0.0/24", "eth1", 3)])
    world.alive(3)
    world.alive(3, 3, "10.1.0.0")
    world.run(10)
    world.planner.request_scan((), world.now)
    world.run(0.6)
    ids = {
        world.planner.request_scan([target], world.now) for target in ("10.0.0.0/28", "10.0.0.11", "10.1.0.0/24@eth1")
    }
    assert len(ids) == 1
    world.frames.clear()
    world.run(20)
    ended = next(news for _, news in finished(world) if news.scan_id in ids)
    assert set(ended.networks) == {"10.0.0.0/24@eth0", "10.1.0.0/24@eth1"}
    assert ended.broadcast + ended.unicast > 700


def test_a_target_in_two_networks_is_probed_on_both() -> None:
    """The same prefix may exist on two interfaces."""
    world = World([network(), network("10.0.0.0/24", "eth1", 3)])
    world.run(10)
    world.frames.clear()
    world.planner.request_scan(["10.0.0.7"], world.now)
    world.run(2)
    assert {ask.network.interface for _, ask in world.frames if ask.ip == ip("10.0.0.7")} == {"eth0", "eth1"}


@pytest.mark.parametrize(
    "target", ["10.9.0.0/24", "10.0.0.0/16", "10.0.0.255", "10.0.0.0", "nonsense", "", "10.0.0.1/24", "::1", "10.0.0"]
)
def test_a_target_that_is_not_scanned_is_refused(target: str) -> None:
    world = World()
    with pytest.raises(BadTarget):
        world.planner.request_scan([target], world.now)


@pytest.mark.parametrize(
    ("target", "why"),
    [("10.0.0.25", "excluded by"), ("10.0.0.128/26", "excluded by"), ("10.0.0.0", "not an address")],
)
def test_a_target_that_is_excluded_is_refused_as_that(target: str, why: str) -> None:
    excluded = (IPv4Network("10.0.0.25/32"), IPv4Network("10.0.0.128/25"))
    world = World([replace(network(), excluded=excluded)])
    with pytest.raises(BadTarget, match=f"^{target}: {why}"):
        world.planner.request_scan([target], world.now)


def test_without_a_network_a_request_is_refused() -> None:
    """BadTarget says that no network is scanned."""
    world = World([])
    with pytest.raises(BadTarget, match="no network"):
        world.planner.request_scan((), world.now)


def test_a_scheduled_scan_yields_to_a_request() -> None:
    """A requested scan of the same network ends it."""
    world = World()
    world.run(31)
    assert world.planner.scanning
    scan_id = world.planner.request_scan((), world.now)
    world.run(3)
    causes = [
        (news.scan_id, type(news).__name__) for _, news in world.news if isinstance(news, ScanStarted | ScanFinished)
    ]
    assert causes[-4:] == [(2, "ScanStarted"), (2, "ScanFinished"), (scan_id, "ScanStarted"), (scan_id, "ScanFinished")]


def test_progress_is_published_at_most_ten_times_a_second() -> None:
    """The first device found is published at once."""
    world = World()
    world.alive(34)
    world.run(10)
    world.news.clear()
    requested = world.now
    world.planner.request_scan((), requested)
    world.run(2)
    published = [(at, news) for at, news in world.news if isinstance(news, ScanProgress)]
    assert published[0][0] - requested <= 0.02
    assert published[0][1].found > 0
    assert all(later - early >= 0.099 for (early, _), (later, _) in pairwise(published[:-1]))
    assert published[-1][1].done == published[-1][1].total == 254
    assert published[-1][1].found == 34


def test_a_scan_that_fails_says_so_ends_and_the_next_one_runs() -> None:
    world = World()
    world.alive(3)
    world.run(10)
    scan_id = world.planner.request_scan((), world.now)
    world.run(0.01)
    world.planner.failed({"10.0.0.0/24@eth0": "Network is down"}, world.now)
    world.run(31)
    assert any(isinstance(news, ScanFailed) and news.scan_id == scan_id for _, news in world.news)
    assert any(news.scan_id == scan_id for _, news in finished(world))
    assert any(news.scan_id > scan_id for _, news in finished(world))


def test_a_large_network_is_walked_in_turns_and_says_so() -> None:
    """50 frames/s for 30 s cover some 1,200 of 65,534 addresses; the next scan goes on where this one ended."""
    world = World([network("10.0.0.0/16")])
    world.run(150)
    coverage = world.planner.coverage("10.0.0.0/16@eth0", world.now)
    assert coverage.fraction == pytest.approx(1200 / 65_534)
    assert coverage.seconds == pytest.approx(30 * 65_534 / 1200)
    probed = [ask.ip for _, ask in world.frames]
    assert len(probed) == len(set(probed))
    assert len(probed) >= 5 * 1199


def test_a_flapping_interface_gets_no_storm_of_scans() -> None:
    """It is scanned at once, but not at the full rate within 5 s."""
    world = World()
    world.run(2)
    for _ in range(3):
        world.set_networks([])
        world.frames.clear()
        world.set_networks([network()])
        world.run(0.9)
        assert started(world)[-1][1].cause is Cause.INTERFACE
        assert 0 < len(world.frames) <= 50


def test_a_request_whose_network_vanishes_gets_a_scan_error() -> None:
    """The waiting client gets a response."""
    world = World()
    world.run(2)
    scan_id = world.planner.request_scan((), world.now)
    world.set_networks([])
    world.run(10)
    published = [type(news) for _, news in world.news if not isinstance(news, ScanProgress) and news.scan_id == scan_id]
    assert published == [ScanStarted, ScanFailed, ScanFinished]


def test_a_shorter_interval_is_taken_at_once() -> None:
    """As a reload brings it."""
    world = World([network(interval=3600)])
    world.run(20)
    world.news.clear()
    world.set_networks([network(interval=30)])
    world.run(31)
    assert started(world)


def test_a_lease_quickens_the_schedule_and_its_end_slows_it() -> None:
    world = World()
    world.alive(3)
    world.run(40)
    world.news.clear()
    world.planner.set_lease(5, world.now)
    world.run(30)
    assert len(started(world)) == 5
    world.planner.set_lease(None, world.now)
    world.news.clear()
    world.run(90)
    assert 3 <= len(started(world)) <= 4


def test_a_request_finds_the_new_holder_of_an_address() -> None:
    """The old MAC does not answer: every second try is a broadcast."""
    world = World()
    world.alive(1)
    world.run(10)
    world.hosts[2, ip("10.0.0.10")] = mac(99)
    world.planner.request_scan(["10.0.0.10"], world.now)
    world.run(2)
    assert mac(99) in world.inventory.devices
