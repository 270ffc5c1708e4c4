"""When a device last sent a frame by itself: a PC that sleeps may answer ARP by its network card. FIELD case 20."""

import pytest

from netscand.core.model import Evidence, Observation, Status
from tests.core.world import World, ip, mac


def test_answers_alone_keep_a_device_online_but_are_no_own_frames() -> None:
    world = World()
    world.alive(1)
    world.hear(mac(1), "10.0.0.10")
    device, at = world.inventory.devices[mac(1)], world.now
    world.run(8 * 3600)
    assert device.status is Status.ONLINE
    assert device.last_seen > at + 7 * 3600
    assert device.last_unsolicited == at


@pytest.mark.parametrize(
    ("evidence", "solicited", "own"),
    [
        *((each, False, True) for each in (
            Evidence.ARP_REQUEST, Evidence.ARP_PROBE, Evidence.ARP_ANNOUNCEMENT, Evidence.NDP, Evidence.DHCP,
            Evidence.MDNS, Evidence.NBNS,
        )),
        (Evidence.ARP_REPLY, False, False), (Evidence.NDP, True, False), (Evidence.PROXIED, False, False),
        (Evidence.NEIGHBOUR, False, False),
    ],
)  # fmt: skip
def test_which_frames_count(evidence: Evidence, solicited: bool, own: bool) -> None:
    world = World()
    world.hear(mac(1), "10.0.0.10", Evidence.ARP_REPLY)
    assert world.inventory.devices[mac(1)].last_unsolicited is None
    world.now += 5
    at = None if evidence is Evidence.ARP_PROBE else ip("10.0.0.10")
    world._hear(Observation(world.now, 2, mac(1), at, evidence, solicited=solicited))
    assert world.inventory.devices[mac(1)].last_unsolicited == (world.now if own else None)


def test_the_first_frame_counts() -> None:
    world = World()
    world.hear(mac(1), "10.0.0.10", Evidence.ARP_ANNOUNCEMENT)
    assert world.inventory.devices[mac(1)].last_unsolicited == world.now
