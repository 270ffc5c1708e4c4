"""Answers to a scan: only solicited ones count, and one MAC for each address (FAULTS T52)."""

import pytest

from netscand.core.model import EventKind, Evidence, Observation, Probe, ScanFinished
from tests.core.world import World, ip, mac, network

LIAR, SILENT, AT = mac(0x99), mac(0x555), "10.0.0.150"


class Lied(World):
    """Each ask for an address is answered by so many MACs, a moment before who is there."""

    liars = 0

    def _send(self, probe: Probe) -> None:
        at = self.now + 0.0001
        for number in range(self.liars):
            liar = mac(0x100000 + probe.ip[3] * 1_000 + number)
            self._air.append((at, Observation(at, 2, liar, probe.ip, Evidence.ARP_REPLY)))
        super()._send(probe)


def scanned(world: World) -> ScanFinished:
    """Request a scan of everything; return how it ended."""
    scan_id = world.planner.request_scan([], world.now)
    while True:
        world.run(0.5)
        for _, news in world.news:
            if isinstance(news, ScanFinished) and news.scan_id == scan_id:
                return news


@pytest.mark.parametrize("evidence", [Evidence.ARP_REQUEST, Evidence.ARP_ANNOUNCEMENT, Evidence.ARP_REPLY])
@pytest.mark.parametrize("requested", [True, False])
def test_unsolicited_frames_end_no_scan(requested: bool, evidence: Evidence) -> None:
    """One MAC claims all addresses, each twelve times a second; a host that only answers is still found."""
    world = World()
    world.alive(8)
    world.run(300)
    world.hosts[2, ip(AT)] = SILENT
    if requested:
        world.planner.request_scan([], world.now)
    end, number = world.now + (4 if requested else 60), 0
    while world.now < end and SILENT not in world.inventory.devices:
        for _ in range(30):
            number += 1
            world.hear(LIAR, f"10.0.0.{3 + number % 250}", evidence)
        world.run(0.01)
    assert SILENT in world.inventory.devices


def test_one_mac_for_each_address_counts_as_found() -> None:
    """100 MACs answer each ask, most of which are refused."""
    world = Lied([network("10.0.0.0/25")])
    world.alive(8)
    world.run(60)
    world.liars = 100
    end = scanned(world)
    assert len(world.inventory.devices) > 126
    assert len(set(end.found)) == len(end.found) <= 126
    assert set(end.found) <= set(world.inventory.devices)
    assert set(end.found) >= {mac(number) for number in range(1, 9)}


def test_what_is_no_device_counts_for_no_address() -> None:
    """A refused MAC displaces no device, even if it answers first."""
    world = Lied()
    world.run(60)
    for number in range(2_000):
        world.hear(mac(0x200000 + number), "10.0.0.9")
    world.hosts[2, ip(AT)] = SILENT
    world.run(5)
    assert SILENT in world.inventory.devices
    world.hosts = {(2, ip("10.0.0.151")): SILENT}
    world.inventory.observe = lambda *seen: ()  # type: ignore[method-assign]  # no device is admitted any more
    world.liars = 1
    assert scanned(world).found == (SILENT,)


def test_a_first_answer_does_not_end_the_tries_for_a_known_one() -> None:
    """The first probes are lost, and a forger answers those by broadcast."""
    world = Lied()
    world.alive(1)
    world.run(60)
    world.liars = 1
    lost = 0

    def unreachable(probe: Probe) -> bool:
        nonlocal lost
        lost += probe.ip == ip("10.0.0.10")
        return lost <= 3

    world.unreachable = unreachable
    assert mac(1) in scanned(world).found
    assert lost == 4


def test_a_device_at_two_addresses_counts_once() -> None:
    world = World()
    world.hosts[2, ip(AT)] = world.hosts[2, ip("10.0.0.151")] = SILENT
    world.run(20)
    end = scanned(world)
    assert end.found == (SILENT,)
    assert not world.of(EventKind.FLOOD)
