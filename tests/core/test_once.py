"""`netscand --once` without a network to scan; for its results on a LAN see tests/lab/test_daemon.py."""

from dataclasses import replace

from netscand.core.model import NetworkState
from netscand.once import nothing_to_scan
from tests.core.world import network


def test_once_without_a_network_prints_the_reasons() -> None:
    """No daemon runs then, so netscanctl could not print them."""
    tunnel = replace(network("10.8.0.0/24", "wg0", state=NetworkState.EXCLUDED), why="wg0 is a tunnel (wireguard)")
    away = replace(network(state=NetworkState.DOWN), why="no carrier")
    said = "10.8.0.0/24@wg0 (excluded: wg0 is a tunnel (wireguard)), 10.0.0.0/24@eth0 (down: no carrier)"
    assert nothing_to_scan([tunnel, away]) == f"no network to scan: {said}"
    assert nothing_to_scan([]) == "no network to scan: no interface has an IPv4 address"
