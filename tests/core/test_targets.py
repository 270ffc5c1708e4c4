"""Targets of scan requests; the cost depends on what is named, not on its size."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network, collapse_addresses
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netscand.core.model import BadTarget, Busy, Cause, Network, ScanStarted
from netscand.core.ranges import Runs
from netscand.core.targets import MOST_RUNS, ScanRequest, merge, resolve
from tests.core.world import World, network

PREFIX = st.tuples(st.integers(0, 511), st.integers(23, 32)).map(
    lambda drawn: IPv4Network((f"10.0.{drawn[0] >> 8}.{drawn[0] & 255}", drawn[1]), strict=False)
)


def written(prefix: IPv4Network) -> str:
    """As a person would: an address alone where it is one."""
    return str(prefix[0]) if prefix.prefixlen == 32 else str(prefix)


@given(st.lists(PREFIX, min_size=1, max_size=6), st.lists(PREFIX, max_size=3))
def test_exactly_the_named_targets_are_scanned(named: list[IPv4Network], excluded: list[IPv4Network]) -> None:
    """Targets that overlap, touch or repeat give each address once, without excluded ones."""
    upper, lower = network("10.0.1.0/24", "eth1", 3), network()
    lower = replace(lower, excluded=tuple(collapse_addresses(p for p in excluded if p.subnet_of(lower.cidr))))
    expected: dict[str, set[int]] = {}
    for place in (lower, upper):
        inside = [prefix for prefix in named if prefix.subnet_of(place.cidr)]
        hosts = {each for each in place.offsets if any(place.cidr[each] in prefix for prefix in inside)}
        if inside and (hosts or any(prefix == place.cidr for prefix in inside)):
            expected[place.id] = hosts
    try:
        request = resolve([written(prefix) for prefix in named], [lower, upper])
    except BadTarget:
        assert not all(any(asked_on(prefix, place, expected) for place in (lower, upper)) for prefix in named)
        return
    found = {
        name: set(place.offsets if runs is None else runs)
        for name, runs in request.items()
        for place in (lower, upper)
        if place.id == name
    }
    assert found == expected


def asked_on(prefix: IPv4Network, place: Network, expected: dict[str, set[int]]) -> bool:
    """Whether a target names anything that may be asked there."""
    some = any(place.cidr[each] in prefix for each in expected.get(place.id, ()))
    return prefix == place.cidr or (prefix.subnet_of(place.cidr) and some)


@pytest.mark.parametrize("target", ["10.0.0.0/", "10.0.0.1/24", "10.0.0.1/-1", "10.0.0.1/33", " 10.0.0.1", "10.0.0.1 "])
def test_what_is_no_prefix_is_refused(target: str) -> None:
    with pytest.raises(BadTarget, match="expected an IPv4 address"):
        resolve([target], [network()])


def test_a_netmask_is_a_prefix_too() -> None:
    ((name, runs),) = resolve(["10.0.0.0/255.255.255.128"], [network()]).items()
    assert (name, len(runs or ())) == ("10.0.0.0/24@eth0", 127)


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Processor seconds and the peak of memory in MiB."""
    begun = process_time()
    work()
    seconds = process_time() - begun
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return seconds, peak / 2**20


def test_half_of_a_large_network_costs_no_more_than_an_address() -> None:
    """ATTACKED H3: `10.0.0.0/9` of a /8 took 1.3 GiB and 2.6 s."""
    large = network("10.0.0.0/8")
    seconds, peak = spent(lambda: resolve(["10.0.0.0/9"], [large]))
    assert seconds < 0.02
    assert peak < 1


@pytest.mark.slow
def test_joining_a_scan_costs_no_more_than_the_targets() -> None:
    """ATTACKED H3: each address, eight million of them, was examined by every further request."""
    world = World([network("10.0.0.0/8")])
    world.run(1)
    scan_id = world.planner.request_scan(["10.0.0.0/9"], world.now)
    world.run(1)
    assert any(isinstance(news, ScanStarted) and news.cause is Cause.CLIENT for _, news in world.news)
    seconds, peak = spent(lambda: world.planner.request_scan(["10.64.0.0/10"], world.now))
    assert seconds < 0.02
    assert peak < 1
    assert world.planner.request_scan(["10.0.0.0/9"], world.now) != scan_id, "some of it has been asked and settled"


def test_a_thousand_targets_cost_some_milliseconds() -> None:
    many = [f"10.{number % 50}.{number // 8}.{number % 8 * 32}/27" for number in range(1024)]
    seconds, _ = spent(lambda: resolve(many, [network(f"10.{n}.0.0/16", f"eth{n}", n + 2) for n in range(50)]))
    assert seconds < 0.1


def test_what_waits_is_no_endless_list_of_single_addresses() -> None:
    """A /8 has room for millions that do not touch."""
    request: ScanRequest = {}
    with pytest.raises(Busy, match="separate targets"):
        for number in range(100):
            some = [range(each, each + 1) for each in range(number * 2048, (number + 1) * 2048, 2)]
            request = merge(request, {"10.0.0.0/8@eth0": Runs(some)})
    runs = request["10.0.0.0/8@eth0"]
    assert runs is not None
    assert len(runs.ranges) <= MOST_RUNS


def test_what_waits_is_the_union() -> None:
    lan = "10.0.0.0/24@eth0"
    request = merge({lan: Runs([range(1, 10)])}, {lan: Runs([range(5, 20), range(30, 31)])})
    assert {name: list(runs or ()) for name, runs in request.items()} == {lan: [*range(1, 20), 30]}
    assert merge(request, {lan: None}) == {lan: None}
    assert merge({lan: None}, request) == {lan: None}
