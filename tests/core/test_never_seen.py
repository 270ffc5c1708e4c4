"""Devices that a user annotated before they were seen (FIELD case 26): known, named, and silent until then."""

import pytest

from netscand.core import inventory, limits
from netscand.core.limits import is_resident
from netscand.core.model import NEVER_SEEN, Busy, EventKind, Evidence, Mac, Status
from netscand.core.restore import Memory, Remembered, recalled
from tests.core.world import World, mac

FREEZER = mac(0x99)


def annotated(**changes: object) -> World:
    world = World()
    world.events += world.inventory.label(FREEZER, changes or {"label": "Freezer", "known": True}, world.now)
    return world


def test_it_is_unknown_and_stays_so() -> None:
    """A week without a word makes no event and no frame to it: no frame has shown it."""
    world = annotated(label="Freezer")
    assert [event.kind for event in world.events][-1] is EventKind.LABELLED
    world.run(7 * 86_400.0)
    device = world.inventory.devices[FREEZER]
    assert (device.status, device.reason, device.ip, device.never_seen) == (Status.UNKNOWN, NEVER_SEEN, None, True)
    assert world.of(EventKind.OFFLINE) == []
    assert not [probe for _, probe in world.frames if probe.mac == FREEZER]


@pytest.mark.parametrize("evidence", [Evidence.ARP_REQUEST, Evidence.DHCP, Evidence.MDNS, Evidence.ARP_PROBE])
def test_its_discovery_has_what_the_user_said(evidence: Evidence) -> None:
    world = annotated(label="Freezer", known=True, notes="in the cellar", patience=600.0)
    world.run(1000.0)
    world.hear(FREEZER, "10.0.0.99", evidence)
    world.run(1.0)
    (found,) = world.of(EventKind.DISCOVERED)
    assert found.device is world.inventory.devices[FREEZER]
    assert (found.device.label, found.device.known, found.device.notes) == ("Freezer", True, "in the cellar")
    assert found.device.presence.patience == 600.0
    assert (found.device.status, found.device.first_seen) == (Status.ONLINE, found.at)
    assert found.previous is not None
    assert found.previous["status"] is Status.UNKNOWN
    assert world.of(EventKind.ONLINE) == []
    assert is_resident(found.device, world.now)


def test_what_others_say_of_it_is_no_discovery() -> None:
    world = annotated()
    for evidence in (Evidence.PROXIED, Evidence.NEIGHBOUR):
        world.hear(FREEZER, "10.0.0.99", evidence)
    world.run(10.0)
    assert world.of(EventKind.DISCOVERED) == []
    assert world.inventory.devices[FREEZER].never_seen


def test_a_flood_does_not_keep_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user named it: no budget of new devices is asked."""
    world = annotated()
    monkeypatch.setattr(limits.AdmissionLimits, "admit", lambda *_, **__: False)
    world.hear(mac(1), "10.0.0.50")
    world.hear(FREEZER, "10.0.0.99")
    world.run(0.1)
    assert [event.device.mac for event in world.of(EventKind.DISCOVERED) if event.device] == [FREEZER]


def test_over_a_restart_it_is_still_never_seen() -> None:
    was = Remembered(FREEZER, 900.0, 900.0, Status.UNKNOWN, 900.0, NEVER_SEEN, label="Freezer", known=True)
    world = World()
    world.inventory.restore(recalled(Memory([was], 950.0), world.rules, 0.0, world.now), {"eth0": 2}, world.now)
    world.run(86_400.0)
    assert world.inventory.devices[FREEZER].never_seen
    world.hear(FREEZER, "10.0.0.99")
    world.run(0.1)
    (found,) = world.of(EventKind.DISCOVERED)
    assert found.device is not None
    assert (found.device.label, found.device.known) == ("Freezer", True)


@pytest.mark.parametrize(
    ("address", "changes"),
    [
        (FREEZER, {"label": None}),
        (FREEZER, {"known": False}),
        (FREEZER, {}),
        (Mac(b"\xff" * 6), {"label": "broadcast"}),
        (Mac(bytes.fromhex("01005e000001")), {"label": "a group"}),
        (Mac(bytes(6)), {"label": "zero"}),
    ],
)
def test_nothing_to_remember_makes_no_device(address: Mac, changes: dict[str, object]) -> None:
    world = World()
    with pytest.raises(KeyError):
        world.inventory.label(address, changes, world.now)
    assert address not in world.inventory.devices


def test_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 6. A device that was seen, or forgotten, no longer counts."""
    monkeypatch.setattr(inventory, "MOST_NEVER_SEEN", 3)
    world = World()

    def label(number: int) -> None:
        world.inventory.label(mac(number), {"known": True}, world.now)

    for number in range(1, 4):
        label(number)
    with pytest.raises(Busy, match="forget some"):
        label(4)
    label(3)
    world.inventory.forget(mac(1), world.now, "a test")
    label(4)
    world.hear(mac(2), "10.0.0.12")
    world.hear(mac(3), "10.0.0.13")
    world.run(0.1)
    label(5)
    label(6)
    with pytest.raises(Busy):
        label(7)
