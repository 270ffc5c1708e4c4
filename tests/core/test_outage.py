"""Detection of an outage by witnesses that were probed and had time to answer (FAULTS T53)."""

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from netscand.core import due, inventory, outage
from netscand.core.due import ProbeClass
from netscand.core.model import Device, EventKind, Evidence, NetworkState, Observation, Probe, Status
from netscand.core.outage import ANSWER_WITHIN, INQUIRY_LASTS, MOST_SUSPECTS, WITNESSES, OutageDetector, Verdict
from netscand.core.planner import Pace
from netscand.core.presence import Presence, Rules
from netscand.core.ratelimit import FLAPS, RETURNS, Budgets
from tests.core.world import World, ip, mac, network

NET = "10.0.0.0/24@eth0"
DAY = 86_400.0
LEAVER = mac(4)


def made_up(world: World, count: int, spoke_only: Callable[[int], bool]) -> None:
    """See so many devices within half a second; some answer a probe of ours once."""
    (where,) = world.inventory.networks.values()
    for number in range(count):
        at = ip(f"10.0.0.{40 + number % 200}")
        if spoke_only(number):
            world._hear(Observation(world.now, 2, mac(0x100000 + number), at, Evidence.ARP_REQUEST))
        else:
            seen = Observation(world.now, 2, mac(0x100000 + number), at, Evidence.ARP_REPLY)
            world._tell(world.inventory.observe(seen, where, 0.001))
        world.run(0.001)


@pytest.mark.slow
@pytest.mark.parametrize("aged", [0.0, 5 * DAY])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_crowd_that_falls_silent_makes_no_network_silent(seed: int, aged: float) -> None:
    """512 made-up devices, half of which answered once, wait for their requests; the household is asked all the same.

    And who leaves meanwhile is published as if they were not there.
    """
    world = World([network(gateway="10.0.0.10")], seed=seed)
    world.alive(20)
    world.run(3_000)
    for device in world.inventory.devices.values():
        device.first_seen -= aged
    household = {mac(number) for number in range(1, 21)}
    order = [True] * 256 + [False] * 256
    Random(seed).shuffle(order)
    made_up(world, 512, order.__getitem__)
    world.run(85)
    world.hosts.pop((2, ip("10.0.0.13")))
    left, unknown = world.now, set()
    while world.now < left + 120:
        world.run(0.5)
        unknown |= {each for each in household if world.inventory.devices[each].status is Status.UNKNOWN}
    assert not world.of(EventKind.NETWORK_SILENT)
    assert not unknown
    (gone,) = [event for event in world.of(EventKind.OFFLINE) if event.device and event.device.mac in household]
    assert gone.device is not None
    assert gone.device.mac == LEAVER
    assert gone.at - left < (15 if aged else 30)


@pytest.mark.parametrize("first", list(ProbeClass))
def test_requests_of_strangers_delay_no_probe(first: ProbeClass) -> None:
    """A thousand requests of strangers use the broadcasts of twenty seconds; probes and requests of others are sent."""
    lan = network()
    world = World([lan], pace=Pace(1_000.0, 50.0, 3))
    world.run(40)
    world.inventory.is_due = lambda probe, now: True  # type: ignore[method-assign]
    for number in range(1_000):
        world.inventory._queue_probe(Probe(lan, ip("10.0.0.77"), None, mac(number)), ProbeClass.STRANGER)
    world.run(1)
    world.frames.clear()
    world.inventory._queue_probe(Probe(lan, ip("10.0.0.78"), mac(1), mac(1)), first)
    world.inventory._queue_probe(Probe(lan, ip("10.0.0.79"), None, mac(2)), ProbeClass.RESIDENT)
    world.run(0.1)
    assert {ip("10.0.0.78"), ip("10.0.0.79")} <= {probe.ip for _, probe in world.frames}


def devices(count: int, now: float) -> list[Device]:
    """Devices that answered, silent since `now`, and asked into it three seconds later."""
    rules = Rules(10.0, 10.0, 20.0)
    crowd = [Device(mac(number), now, now, Presence(now, rules), confirmed=True) for number in range(count)]
    for each in crowd:
        each.presence.record_sent(now + 3.0, broadcast=False)
    return crowd


def test_an_unprobed_witness_is_not_silent() -> None:
    """The verdict waits until all witnesses were probed and had time to answer, however long that takes."""
    judge, crowd, now = OutageDetector(Random(1), Budgets()), devices(10, 0.0), 20.0
    suspect = crowd[0]
    witnesses = judge.start_inquiry(NET, suspect, crowd, None, now)
    assert len(witnesses) == 9
    for each in witnesses[:-1]:
        judge.record_probe_sent(NET, each.mac, now)
    for _ in range(5):
        now += ANSWER_WITHIN
        verdict, at, _ = judge.verdict(NET, suspect, now)
        assert verdict is Verdict.WAIT
        assert at > now
    judge.record_probe_sent(NET, witnesses[-1].mac, now)
    assert judge.verdict(NET, suspect, now + ANSWER_WITHIN - 0.1)[0] is Verdict.WAIT
    assert judge.verdict(NET, suspect, now + ANSWER_WITHIN)[0] is Verdict.NETWORK_SILENT


def test_a_probe_that_is_never_sent_ends_the_inquiry() -> None:
    """The verdict does not wait indefinitely."""
    judge, crowd = OutageDetector(Random(1), Budgets()), devices(10, 0.0)
    assert judge.start_inquiry(NET, crowd[0], crowd, None, 20.0)
    assert not judge.start_inquiry(NET, crowd[1], crowd, None, 20.0 + INQUIRY_LASTS - 0.1)
    assert judge.start_inquiry(NET, crowd[1], crowd, None, 20.0 + INQUIRY_LASTS)


def test_thousands_of_suspects_are_judged_once_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """To sort them for each verdict held the loop for 166 ms a turn."""
    judge, crowd, now = OutageDetector(Random(1), Budgets()), devices(3_000, 0.0), 20.0
    for each in crowd[WITNESSES:]:
        each.presence.chosen = 600.0  # no witness
    sorted_at: list[int] = []
    oldest = outage._oldest

    def counted(some: list[Device], at: float) -> list[Device]:
        sorted_at.append(len(some))
        return oldest(some, at)

    monkeypatch.setattr(outage, "_oldest", counted)
    for each in crowd:
        for witness in judge.start_inquiry(NET, each, crowd[: WITNESSES - 1], None, now):
            judge.record_probe_sent(NET, witness.mac, now)
    for each in crowd:
        assert judge.verdict(NET, each, now + 0.5)[0] is Verdict.WAIT
    assert len(sorted_at) == 1
    assert sorted_at[0] <= MOST_SUSPECTS + WITNESSES


@pytest.mark.slow
@pytest.mark.parametrize("resident", [True, False])
def test_strangers_return_within_a_budget(monkeypatch: pytest.MonkeyPatch, resident: bool) -> None:
    """A network that falls silent again and again cost an event a device; without a budget, 5,357 in 430 s."""
    monkeypatch.setattr(due, "RETURNS", RETURNS._replace(at_once=40, per_second=0.01, for_each_address=(0.0, 0.0)))
    world = World(rules=Rules(5.0, 10.0, 20.0))
    world.alive(30)
    world.run(600)
    begun = world.now
    for device in world.inventory.devices.values():
        device.first_seen -= DAY * resident
    for _ in range(3):
        world.unreachable = lambda probe: probe.ip < ip("10.0.0.36")
        world.run(60)
        world.unreachable = lambda probe: False
        world.run(100)
        returned = len(world.of(EventKind.ONLINE))
    assert len(world.of(EventKind.NETWORK_SILENT)) == 3
    assert not world.of(EventKind.OFFLINE)
    unknown = sum(device.status is Status.UNKNOWN for device in world.inventory.devices.values())
    if resident:
        assert (returned, unknown) == (3 * 30, 0)
    else:
        assert 40 <= returned <= 40 + 1 + (world.now - begun) * 0.01
        assert unknown
        assert "returns" in world.inventory.budgets.limiting(world.now)
        world.run(4_000)
        assert {device.status for device in world.inventory.devices.values()} == {Status.ONLINE}


def test_our_own_network_that_was_down_costs_no_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another budget limits them: `flaps`."""
    monkeypatch.setattr(due, "RETURNS", RETURNS._replace(at_once=1, per_second=0.01, for_each_address=(0.0, 0.0)))
    world = World()
    world.alive(30)
    world.run(60)
    world.set_networks([network(state=NetworkState.DOWN)])
    world.run(60)
    world.set_networks([network()])
    world.run(60)
    assert len(world.of(EventKind.ONLINE)) == 30


def test_a_network_that_goes_down_again_and_again_costs_few_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS T60: a DHCP server that takes its leases back brings that about, or frames that end a Wi-Fi connection."""
    monkeypatch.setattr(inventory, "FLAPS", FLAPS._replace(at_once=5))
    world = World()
    world.alive(12)
    world.run(60)
    for _ in range(60):
        world.set_networks([network(state=NetworkState.DOWN)])
        world.run(0.5)
        world.set_networks([network()])
        world.run(5.5)
    assert len(world.of(EventKind.ONLINE)) <= 12 * (5 + 2)
    assert "flaps" in world.inventory.budgets.limiting(world.now)
    real = [device for device in world.inventory.devices.values() if not device.is_self]
    assert {device.status for device in real} == {Status.UNKNOWN}
    world.hosts.pop((2, ip("10.0.0.10")))
    world.run(inventory.UNSETTLED)
    assert [event.device.mac for event in world.of(EventKind.OFFLINE) if event.device] == [mac(1)]
    world.run(60)
    assert Counter(device.status for device in real) == {Status.ONLINE: 11, Status.OFFLINE: 1}
