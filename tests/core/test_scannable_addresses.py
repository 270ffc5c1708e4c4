"""Scannable addresses of a network."""

from dataclasses import replace
from ipaddress import IPv4Network, collapse_addresses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netscand.core.model import Ip
from netscand.core.ranges import offsets
from tests.core.world import network


@pytest.mark.parametrize(("length", "count"), [(30, 2), (24, 254), (16, 65_534), (31, 2), (32, 1), (8, 2**24 - 2)])
def test_network_and_broadcast_address_are_not_scannable(length: int, count: int) -> None:
    """If the network has them (RFC 919, RFC 3021)."""
    found = offsets(IPv4Network(f"10.0.0.0/{length}"))
    assert len(found) == count
    assert (0 in found) == (length > 30)


@given(st.integers(20, 32), st.lists(st.tuples(st.integers(0, 4095), st.integers(20, 32)), max_size=5))
@example(24, [(0, 25), (128, 26)])
@example(30, [(1, 32), (2, 32)])
def test_what_is_spared_is_left_out_and_nothing_else(length: int, parts: list[tuple[int, int]]) -> None:
    cidr = IPv4Network(f"10.0.0.0/{length}")
    prefixes = [IPv4Network((f"10.0.{number >> 8}.{number & 255}", bits), strict=False) for number, bits in parts]
    excluded = tuple(collapse_addresses(prefix for prefix in prefixes if prefix.subnet_of(cidr)))
    found = offsets(cidr, excluded)
    of = replace(network(), cidr=cidr, excluded=excluded)
    expected = [each for each in offsets(cidr) if not of.excludes(Ip(cidr[each].packed))]
    assert expected == [each for each in offsets(cidr) if not any(cidr[each] in part for part in excluded)]
    assert list(found) == expected
    assert [found[each] for each in range(-len(found), 0)] == expected
    assert list(found[1:-1]) == expected[1:-1]
    assert [found.index(each) for each in expected] == list(range(len(expected)))
    around = range(-1, cidr.num_addresses + 1)
    assert [each for each in around if each in found] == expected
    with pytest.raises(IndexError):
        found[len(found)]
