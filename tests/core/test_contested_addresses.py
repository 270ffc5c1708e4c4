"""A real device that joins during a flood of made-up MACs is published within a bounded time (FAULTS T41)."""

from random import Random

import pytest

from netscand.core import limits
from netscand.core.limits import ANSWERS_APART, DRAWN_WAITS, MOST_MACS, STAYS, ContestedAddresses
from netscand.core.model import Evidence, Ip, Observation, Probe
from netscand.core.presence import Rules
from netscand.core.ratelimit import NEWCOMERS_AT, Budgets
from tests.core.world import World, ip, mac

REAL, AT = mac(77), "10.0.0.77"
NET = "10.0.0.0/24@eth0"
SMALL = NEWCOMERS_AT._replace(at_once=2, per_second=1 / 7_200)


class Flood(World):
    """100 frames a second of made-up MACs at every address, seen repeatedly; some of them answer, too."""

    answers = 0
    """MACs, each used once, that answer a request by broadcast before the real device does."""
    stays = 0
    """MACs of each address that answer all that is sent to them."""
    made = 0

    def flood(self, seconds: float) -> None:
        rng = Random(self.made)
        end = self.now + seconds
        while self.now < end:
            for _ in range(10):
                self.hear(mac(0x100000 + rng.randrange(1_000)), f"10.0.0.{30 + rng.randrange(220)}")
            self.run(0.1)
            self.frames.clear()

    def _send(self, probe: Probe) -> None:
        at = self.now + 0.0001
        if probe.mac is None:
            first, self.made = self.made, self.made + self.answers
            liars = [mac(0x800000 + number) for number in range(first, self.made)]
            liars += [mac(0x900000 + probe.ip[3] * 100 + number) for number in range(self.stays)]
        else:
            liars = [probe.mac] if probe.mac > mac(0x900000) else []
        self._air.extend((at, Observation(at, 2, liar, probe.ip, Evidence.ARP_REPLY)) for liar in liars)
        super()._send(probe)


@pytest.mark.slow
@pytest.mark.parametrize(("answers", "stays"), [(0, 0), (1, 0), (20, 0), (1, 1), (0, 7)])
def test_a_device_that_joins_a_flood_is_published_within_minutes(answers: int, stays: int) -> None:
    """It says nothing, but it answers at its own address."""
    world = Flood(rules=Rules(5.0, 10.0, 20.0))
    world.answers, world.stays = answers, stays
    world.flood(900)
    world.hosts[2, ip(AT)] = REAL
    for _ in range(30 if answers > MOST_MACS else 3):  # by lot among so many: within half an hour, with this seed
        world.flood(60)
        if REAL in world.inventory.devices:
            break
    assert REAL in world.inventory.devices
    assert world.inventory.devices[REAL].confirmed


@pytest.mark.slow
def test_a_flood_does_not_hide_an_address_from_scans() -> None:
    """A frame with that address as its sender counted as an answer of whom the scan looks for."""
    world = Flood(rules=Rules(5.0, 10.0, 20.0))
    world.flood(300)
    probed = set()
    send = world._send

    def note(probe: Probe) -> None:
        if probe.mac is None:
            probed.add(probe.ip)
        send(probe)

    world._send = note  # type: ignore[method-assign]
    world.flood(60)
    assert len(probed) >= 250


@pytest.mark.parametrize("timer", [True, False])
def test_unsolicited_frames_hide_no_device_from_a_scan(timer: bool) -> None:
    """A station claims the address all the time with a MAC of its own, while a silent device joins."""
    world = World(rules=Rules(5.0, 10.0, 20.0))
    world.alive(3)
    world.run(120)
    for turn in range(1_000):
        world.hear(mac(66), AT)
        world.run(0.05)
        if turn == 200:
            world.hosts[2, ip(AT)] = REAL
            if not timer:
                world.planner.request_scan(["10.0.0.0/24"], world.now)
    assert REAL in world.inventory.devices


def new() -> ContestedAddresses:
    return ContestedAddresses(Budgets(), Random(1))


def answer(places: ContestedAddresses, number: int, at: float) -> bool:
    return places.may_enter(NET, ip(AT), mac(number), at)


def test_macs_that_are_used_once_spend_no_share() -> None:
    """Beside 20 of them every 30 s, a device that answers last of all is published within the hour, by lot."""
    after: list[float] = []
    for seed in range(20):
        places, now = ContestedAddresses(Budgets(), Random(seed)), 0.0
        while True:
            now += 30
            assert not any(answer(places, int(now) * 100 + number, now) for number in range(20))
            if answer(places, 1, now):
                break
        after.append(now)
    assert max(after) < 3_600
    assert sum(after) / len(after) < 300


def test_the_interval_between_two_answers() -> None:
    places = new()
    assert not answer(places, 1, 0.0)
    assert not answer(places, 1, ANSWERS_APART - 1)
    assert answer(places, 1, ANSWERS_APART)


def test_macs_are_admitted_in_the_order_of_first_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """MACs that answer later delay none; those before do, one share each; those that left do not."""
    monkeypatch.setattr(limits, "NEWCOMERS_AT", SMALL)
    places, period = new(), 1 / SMALL.per_second
    now = 0.0
    for number in range(1, 6):
        answer(places, number, now + number)
    entered: list[int] = []
    while now < 8 * period:
        now += 30
        for number in (1, 2, 3, 4) if now == 30 else (9, 8, 7, 6, 4, 3, 2, 1):  # 5 went
            if number not in entered and answer(places, number, now):
                entered.append(number)
    assert entered[:4] == [1, 2, 3, 4]
    assert len(entered) == 8


def test_addresses_of_ipv6_have_no_share() -> None:
    places = new()
    assert not any(places.may_enter(NET, None, mac(1), at) for at in (0.0, 30.0))


def test_the_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_ADDRESSES", 8)
    places = new()
    for number in range(256):
        places.add(NET, ip(f"10.0.0.{number}"))
        places.may_enter(NET, ip(f"10.0.0.{number}"), mac(number), 0.0)
    assert (len(places._to_probe), len(places._answers)) == (8, 8)
    assert not places.may_enter(NET, ip(AT), mac(1), DRAWN_WAITS - 1)
    assert not places.may_enter(NET, ip(AT), mac(1), DRAWN_WAITS)
    assert places.may_enter(NET, ip(AT), mac(1), DRAWN_WAITS + ANSWERS_APART)
    one = new()
    for number in range(1_000):
        answer(one, number, 0.0)
    assert len(one._answers[NET, ip(AT)].macs) == MOST_MACS


def test_a_mac_that_is_gone_waits_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NEWCOMERS_AT", SMALL)
    places = new()
    for number in range(3):
        for at in (0.0, 30.0):
            answer(places, number, at + number)
    assert not answer(places, 9, 100.0)
    later = 31.0 + 1 / SMALL.per_second
    assert later > 32.0 + STAYS
    assert answer(places, 9, later)


def test_a_contested_address_is_probed_by_the_next_scan() -> None:
    """It stays contested until a scan has sent a broadcast there."""
    places = new()
    assert not places
    places.add(NET, ip(AT))
    places.add(NET, Ip(bytes(16)))
    places.add(NET, None)
    assert (NET, ip(AT)) in places
    places.record_sent(NET, ip(AT))
    assert not places
