"""`expected_dhcp` and `expected_gateway`, and what netscand knows of a device's lease."""

from dataclasses import replace
from pathlib import Path

import pytest

from netscand.config import ConfigError, NetworkRule, expected_bytes, load
from netscand.core.model import EventKind, Evidence, Lease, Observation
from netscand.lan import decode
from netscand.protocol import Dhcp
from netscand.serve.encode import Encoder
from tests.core.built_frames import MAC, dhcp, dhcp_answer
from tests.core.test_networks import one
from tests.core.world import World, ip, mac, network

GOOD, ROGUE = mac(1), mac(2)


def world(expected_dhcp: frozenset[bytes] = frozenset(), expected_gateway: frozenset[bytes] = frozenset()) -> World:
    lan = network(gateway="10.0.0.1")
    return World([replace(lan, expected_dhcp=expected_dhcp, expected_gateway=expected_gateway)])


def serves(house: World, server: bytes, at: str) -> None:
    house._hear(Observation(house.now, 2, server, ip(at), Evidence.DHCP, dhcp_server=ip(at)))  # type: ignore[arg-type]


def problems(house: World) -> list[str]:
    return house.inventory.claims.unexpected.problems(house.now)


@pytest.mark.parametrize("expected", [frozenset([GOOD]), frozenset([bytes(ip("10.0.0.1"))])], ids=["MAC", "address"])
def test_only_another_dhcp_server_is_reported(expected: frozenset[bytes]) -> None:
    """At once, once, and in `status` while it is there and for an hour."""
    house = world(expected_dhcp=expected)
    serves(house, GOOD, "10.0.0.1")
    assert house.of(EventKind.DHCP_SERVER_SEEN) == []
    for _ in range(3):
        serves(house, ROGUE, "10.0.0.9")
    (event,) = house.of(EventKind.DHCP_SERVER_SEEN)
    assert event.reason == "serves DHCP; not in expected_dhcp of 10.0.0.0/24"
    assert problems(house) == [
        "10.0.0.0/24@eth0: 10.0.0.9 (00:16:3e:00:00:02) serves DHCP, which is not expected there"
    ]
    house.now += 3601
    assert problems(house) == []


def test_without_expectations_nothing_is_a_problem() -> None:
    house = world()
    serves(house, GOOD, "10.0.0.1")
    assert [event.reason for event in house.of(EventKind.DHCP_SERVER_SEEN)] == ["serves DHCP"]
    assert problems(house) == []


def test_an_unexpected_gateway_is_reported_when_it_is_seen_first() -> None:
    """Without `expected_gateway`, the first MAC at its address is trusted."""
    for expected, count in ((frozenset[bytes](), 0), (frozenset([GOOD]), 1), (frozenset([ROGUE]), 0)):
        house = world(expected_gateway=expected)
        for _ in range(3):
            house.hear(ROGUE, "10.0.0.1")
        assert len(house.of(EventKind.GATEWAY_CHANGED)) == count
        assert len(problems(house)) == count


def test_a_default_route_to_a_known_device_is_reported_at_once() -> None:
    """Without a frame of it; what is no gateway any more, or is expected now, is no problem."""
    house = world(expected_gateway=frozenset([GOOD]))
    (lan,) = house.networks
    house.hear(GOOD, "10.0.0.1")
    house.hear(ROGUE, "10.0.0.9")
    for count in (1, 2):
        house.set_networks([replace(lan, gateway=ip("10.0.0.9"))])
        assert [event.address for event in house.of(EventKind.GATEWAY_CHANGED)] == [ip("10.0.0.9")] * count
        assert len(problems(house)) == 1
        house.set_networks([lan])
        assert problems(house) == []
    house.set_networks([replace(lan, expected_gateway=frozenset([ROGUE]))])
    assert len(problems(house)) == 1
    house.set_networks([replace(lan, expected_gateway=frozenset([ROGUE, GOOD]))])
    assert problems(house) == []


def test_a_dhcp_server_that_is_expected_now_is_no_problem() -> None:
    house = world(expected_dhcp=frozenset([GOOD]))
    serves(house, ROGUE, "10.0.0.9")
    assert len(problems(house)) == 1
    (lan,) = house.networks
    house.set_networks([replace(lan, expected_dhcp=frozenset([GOOD, ROGUE]))])
    assert problems(house) == []


def test_made_up_servers_and_gateways_stay_within_bounds() -> None:
    """FAULTS T11: neither events nor sentences without end."""
    house = world(expected_dhcp=frozenset([GOOD]), expected_gateway=frozenset([GOOD]))
    for number in range(10, 1000):
        serves(house, mac(number), "10.0.0.9")
        house.hear(mac(number), "10.0.0.1")
    assert len(problems(house)) <= 16
    assert len(house.of(EventKind.GATEWAY_CHANGED)) < 40


def test_leases_are_decoded_from_both_sides() -> None:
    request = dhcp("request", ("server_id", "10.0.0.1"), ("requested_addr", "10.0.0.77"))
    (asked,) = decode.decode(request, 5.0, 2)
    assert asked.lease == Lease(ip("10.0.0.1"), ip("10.0.0.77"), None, 5.0)
    answer = dhcp_answer("ack", "10.0.0.1", MAC, ("lease_time", 3600), yiaddr="10.0.0.77")
    _, assigned = decode.decode(answer, 6.0, 2)
    assert assigned.lease == Lease(ip("10.0.0.1"), ip("10.0.0.77"), 3600, 6.0)
    (discovers,) = decode.decode(dhcp("discover"), 5.0, 2)
    assert discovers.lease is None


def test_a_device_shows_its_lease_and_where_its_address_is_from() -> None:
    house = world()
    encoder = Encoder(offset=float, vendor=lambda mac: None)
    for frame in (
        dhcp("request", ("server_id", "10.0.0.1"), ("requested_addr", "10.0.0.77"), (61, b"\0jane")),
        dhcp_answer("ack", "10.0.0.1", MAC, ("lease_time", 3600), yiaddr="10.0.0.77"),
    ):
        for seen in decode.decode(frame, house.now, 2):
            house._hear(seen)
    (device,) = [each for each in house.inventory.devices.values() if each.mac.hex(":") == MAC]
    shown = encoder.wholly(device)
    assert isinstance(shown.dhcp, Dhcp)
    assert (shown.dhcp.server, shown.dhcp.address, shown.dhcp.lease_seconds, shown.dhcp.client_id) == (
        "10.0.0.1", "10.0.0.77", 3600, b"\0jane".hex(),
    )  # fmt: skip
    assert shown.address_origin == "lease"
    house.now += 60
    house.hear(device.mac, "10.0.0.78", Evidence.ARP_ANNOUNCEMENT)
    assert encoder.wholly(device).address_origin is None


def test_the_configuration_takes_addresses_and_macs(tmp_path: Path) -> None:
    assert expected_bytes("192.168.1.1") == bytes([192, 168, 1, 1])
    assert expected_bytes("A4-83-E7-12-34-56") == bytes.fromhex("a483e7123456")
    assert expected_bytes("192.168.1.0/24") is expected_bytes("a4:83") is None
    path = tmp_path / "netscand.toml"
    path.write_text('[[network]]\ncidr = "10.0.0.0/24"\nexpected_dhcp = ["10.0.0.1", "router"]\n')
    with pytest.raises(ConfigError, match="expected_dhcp 'router': expected an IPv4 address such as"):
        load(path)
    rule = NetworkRule("192.168.1.0/24", expected_dhcp=("192.168.1.1",), expected_gateway=("a4:83:e7:12:34:56",))
    found = one(rules=(rule,))
    assert found.expected_dhcp == frozenset([bytes([192, 168, 1, 1])])
    assert found.expected_gateway == frozenset([bytes.fromhex("a483e7123456")])
