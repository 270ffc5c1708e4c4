"""The engine: order, sequence, and interfaces that refuse to send."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv6Address
from math import inf
from random import Random

import pytest

from netscand.core.inventory import Inventory
from netscand.core.model import (
    Cause,
    Event,
    EventKind,
    Evidence,
    Ip,
    Mac,
    Network,
    NetworkState,
    Observation,
    Probe,
    ScanFailed,
    ScanFinished,
    ScanNews,
    ScanStarted,
    SendFailed,
    Status,
)
from netscand.core.outage import network_problems
from netscand.core.planner import Pace, Planner
from netscand.core.presence import Rules
from netscand.engine import Engine, Numbers
from netscand.lan import name_queue
from netscand.serve.encode import Encoder
from tests.core.world import ip, mac, network


class Tape:
    """A sink that records the events."""

    def __init__(self) -> None:
        self.cursors: list[str] = []
        self.events: list[Event] = []
        self.news: list[ScanNews] = []

    def publish(self, cursor: str, event: Event, body: bytes) -> None:
        self.cursors.append(cursor)
        self.events.append(event)

    def publish_scan(self, news: ScanNews) -> None:
        self.news.append(news)


class Cable:
    """A wire that takes `room` frames at a time, or refuses."""

    received = dropped = ignored = send_errors = 0
    behind = False
    overflow_at = -inf, -inf

    def __init__(self) -> None:
        self.frames: list[Probe] = []
        self.room = 1000
        self.full: set[int] = set()
        """Interfaces whose queue is."""
        self.refuses = False

    def send(self, probes: Sequence[Probe]) -> list[Probe]:
        if self.refuses:
            raise SendFailed(probes[0].network.id, "Network is down")
        fits = [ask for ask in probes if ask.network.index not in self.full]
        self.frames += fits[: self.room]
        return [ask for ask in probes if ask not in fits[: self.room]]


def ip6(text: str) -> Ip:
    return Ip(IPv6Address(text).packed)


class EngineView:
    """An engine on a clock that is moved by hand."""

    def __init__(self, pace: Pace | None = None) -> None:
        self.now = 50.0
        self.slept = 0.0
        self.tape, self.cable = Tape(), Cable()
        self.inventory = Inventory(Rules(), Random(1))
        self.planner = Planner(self.inventory, pace or Pace(), self.now, Random(1))
        self.engine = Engine(
            self.inventory, self.planner, self.cable, Numbers("e"), self.tape, lambda: self.now, lambda: self.slept
        )
        self.engine.interval = 30.0
        self.engine.set_networks([network()])

    def turn(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            due = self.engine._turn(self.now)
            self.now = min(end, max(due, self.now + 0.0005))

    def seen(self, number: int, at: str) -> Observation:
        if ":" in at:
            return Observation(self.now, 2, mac(number), ip6(at), Evidence.NDP)
        return Observation(self.now, 2, mac(number), ip(at), Evidence.ARP_ANNOUNCEMENT)


def test_one_timeline_one_sequence() -> None:
    """Law 1: the cursors of all events, whatever made them, count up by one."""
    house = EngineView()
    house.engine.observe([house.seen(i, f"10.0.0.{10 + i}") for i in range(50)])
    house.engine.set_networks([])
    house.engine.set_networks([network()])
    house.turn(1)
    assert house.tape.cursors == [f"e-{i}" for i in range(1, len(house.tape.cursors) + 1)]
    assert house.engine.cursor == house.tape.cursors[-1]


def test_an_event_is_encoded_once_for_the_history_and_all_clients() -> None:
    """The history stores the same bytes that are published."""
    encoded: list[bytes] = []
    stored: list[bytes] = []
    published: list[bytes] = []

    def encode(event: Event) -> bytes:
        encoded.append(f"{len(encoded)}".encode())
        return encoded[-1]

    class Kept(Numbers):
        def append(self, event: Event, body: bytes) -> str:
            stored.append(body)
            return super().append(event, body)

    class Sent(Tape):
        def publish(self, cursor: str, event: Event, body: bytes) -> None:
            published.append(body)
            assert len(stored) == len(published), "law 2: inventory, then history, then hub"

    inventory = Inventory(Rules(), Random(1))
    planner = Planner(inventory, Pace(), 50.0, Random(1))
    engine = Engine(inventory, planner, Cable(), Kept("e"), Sent(), lambda: 50.0, lambda: 0.0, encode)
    engine.set_networks([network()])
    engine.observe([Observation(50.0, 2, mac(1), ip("10.0.0.10"), Evidence.ARP_ANNOUNCEMENT)])
    assert encoded == stored == published
    assert len(encoded) >= 2


def test_a_batch_is_stored_before_names_are_looked_up() -> None:
    """Clients come first: the history publishes what it has stored."""
    done: list[str] = []

    class Kept(Numbers):
        def append(self, event: Event, body: bytes) -> str:
            done.append(event.kind)
            return super().append(event, body)

        def flush(self) -> None:
            done.append("flush")

    class Names:
        def request_name(self, mac: Mac, ip: Ip, network: Network) -> None:
            done.append("name")

        def refuses_newcomer(self, network: str) -> bool:
            raise AssertionError("they have not answered us")

        def restart_rounds(self) -> None:
            raise AssertionError("its sources stay as they are")

    inventory = Inventory(Rules(), Random(1))
    planner = Planner(inventory, Pace(), 50.0, Random(1))
    engine = Engine(inventory, planner, Cable(), Kept("e"), Tape(), lambda: 50.0, lambda: 0.0)
    engine.names = Names()
    engine.set_networks([network()])
    done.clear()
    seen = [Observation(50.0, 2, mac(n), ip(f"10.0.0.{n}"), Evidence.ARP_ANNOUNCEMENT) for n in (11, 12)]
    engine.observe(seen)
    assert done == ["discovered", "discovered", "flush", "name", "name"]
    engine.observe(seen)
    assert len(done) == 5, "no event, nothing to store"


def test_probes_left_by_a_full_queue_are_sent_later() -> None:
    """They count when they are sent."""
    house = EngineView()
    house.cable.room = 3
    house.turn(3)
    assert len({ask.ip for ask in house.cable.frames}) == 253 + 1, "and our own"
    assert house.engine.load().broadcast == len(house.cable.frames)


def test_an_interface_that_refuses_gives_a_scan_error() -> None:
    """The next scan still runs."""
    house = EngineView()
    house.cable.refuses = True
    house.turn(1)
    assert any(isinstance(news, ScanFailed) and news.message == "Network is down" for news in house.tape.news)
    assert house.engine.problems() == ("cannot send on 10.0.0.0/24@eth0: Network is down",)
    house.cable.refuses = False
    house.turn(40)
    finished = [news for news in house.tape.news if isinstance(news, ScanFinished)]
    assert finished[-1].broadcast == 253
    assert house.engine.problems() == ()


def test_an_interface_that_refuses_in_turn_is_logged_hourly(caplog: pytest.LogCaptureFixture) -> None:
    """A firewall that drops some of the frames does not fill the log; `status` shows it while it lasts."""
    house = EngineView()
    for number in range(60):
        house.cable.refuses = number % 2 == 0
        house.turn(31)
    assert caplog.text.count("cannot send: 10.0.0.0/24@eth0") == 1
    house.now += 3600
    house.cable.refuses = True
    house.turn(31)
    assert caplog.text.count("cannot send: 10.0.0.0/24@eth0") == 2


def test_silent_networks_and_no_network_are_problems() -> None:
    """While no device can be seen, `status` is degraded."""
    house = EngineView()
    assert house.engine.problems() == ()
    house.engine.set_networks([network(state=NetworkState.DOWN)])
    assert house.engine.problems() == ("no network is up (10.0.0.0/24@eth0): no device can be seen",)
    house.engine.set_networks([network(state=NetworkState.EXCLUDED)])
    assert house.engine.problems() == (
        "no network is scanned: no device can be seen; to list the reasons: netscanctl networks",
    )
    house.engine.set_networks([network(), network(state=NetworkState.DOWN, interface="eth1")])
    assert house.engine.problems() == ()
    silent = [network(state=NetworkState.SILENT), network(interface="eth1")]
    assert network_problems(silent) == ["10.0.0.0/24@eth0 is silent: the status of its devices is unknown"]


def test_changes_make_scans_cover_more_addresses() -> None:
    """Without a change for ten minutes, all silent addresses are scanned once in five minutes."""
    house = EngineView()
    seconds = []
    for number in (1, 2):
        house.turn(700)
        seconds.append(house.engine.coverage(network().id).seconds)
        house.engine.observe([house.seen(number, f"10.0.0.{10 + number}")])
        seconds.append(house.engine.coverage(network().id).seconds)
        house.turn(590)  # it left 90 s later
        assert house.inventory.devices[mac(number)].status is Status.OFFLINE
        seconds.append(house.engine.coverage(network().id).seconds)
    assert [each == 30 for each in seconds] == [False, True, True] * 2
    assert seconds[0] == seconds[3] == pytest.approx(300, rel=0.05)


def test_send_errors_are_not_their_absence() -> None:
    """Law 8: while no probe is sent, no device is reported offline."""
    house = EngineView()
    house.engine.observe([house.seen(1, "10.0.0.11")])
    house.cable.refuses = True
    house.turn(1000)
    assert not [event for event in house.tape.events if event.kind is EventKind.OFFLINE]


@pytest.mark.parametrize("at", ["10.0.0.11", "fe80::11"])
def test_what_was_lost_on_its_way_to_us_is_not_their_absence(at: str) -> None:
    """Law 8, FAULTS T10: a device probed during a flood that lost frames is probed again after it."""
    house = EngineView()
    if at.startswith("fe80"):
        house.engine.set_networks([replace(network(), own6=ip6("fe80::2"))])
    house.engine.observe([house.seen(1, at)])
    spoken, flood = house.now, 300.0
    while house.now < spoken + flood:
        lost = house.now, -inf
        house.cable.overflow_at = lost if at == "10.0.0.11" else lost[::-1]
        house.turn(1)
    assert not [event for event in house.tape.events if event.kind is EventKind.OFFLINE]
    house.turn(200)
    (gone,) = [event for event in house.tape.events if event.kind is EventKind.OFFLINE]
    assert 90 <= gone.at - spoken - flood < 180


def test_a_flood_delays_offline_by_ten_minutes_at_most() -> None:
    """Ten minutes beyond its patience, silence counts, as in an outage."""
    house = EngineView()
    house.engine.observe([house.seen(1, "10.0.0.11")])
    spoken = house.now
    while house.now < spoken + 1000:
        house.cable.overflow_at = house.now, house.now
        house.turn(1)
    (gone,) = [event for event in house.tape.events if event.kind is EventKind.OFFLINE]
    assert 690 <= gone.at - spoken < 800


def test_the_fastest_lease_is_in_force_and_ends_with_its_client() -> None:
    house = EngineView()
    assert house.engine.lease("a", 10) == 10
    assert house.engine.lease("b", 5) == 5
    assert house.engine.lease("b", None) == 10
    assert house.engine.lease("a", None) == 30


def test_a_scan_request_wakes_the_engine_at_once() -> None:
    """A request does not wait for the next due time."""

    async def story() -> int:
        house = EngineView()
        house.turn(10)
        before = len(house.cable.frames)
        async with asyncio.TaskGroup() as rooms:
            task = rooms.create_task(house.engine.run())
            await asyncio.sleep(0.01)
            house.engine.scan_now(())
            for _ in range(5):
                await asyncio.sleep(0)
            task.cancel()
        return len(house.cable.frames) - before

    assert asyncio.run(story()) > 0


@pytest.mark.parametrize("way", ["stopped", "suspended"])
def test_after_a_sleep_there_is_a_scan_before_any_verdict(way: str) -> None:
    """FAULTS F13: a stopped process; a jump of boot time over monotonic time."""

    async def story() -> EngineView:
        house = EngineView()
        house.engine.observe([house.seen(1, "10.0.0.11")])
        house.turn(12)
        async with asyncio.TaskGroup() as rooms:
            task = rooms.create_task(house.engine.run())
            await asyncio.sleep(0.01)
            house.tape.news.clear()
            if way == "stopped":
                house.now += 4000
            else:
                house.slept += 4000
            house.engine._kicked.set()
            for _ in range(5):
                await asyncio.sleep(0)
            task.cancel()
        return house

    house = asyncio.run(story())
    assert not [event for event in house.tape.events if event.kind is EventKind.OFFLINE]
    assert any(isinstance(news, ScanStarted) and news.cause is Cause.INTERFACE for news in house.tape.news)


def test_probes_unsent_at_a_network_change_are_repeated() -> None:
    """Otherwise a device would never be checked again."""
    house = EngineView()
    house.engine.observe([house.seen(1, "10.0.0.11")])
    house.turn(2)
    house.cable.room = 0
    house.turn(30)
    house.engine.set_networks([network()])
    house.cable.room = 1000
    house.turn(600)
    assert [event.kind for event in house.tape.events if event.device and event.device.mac == mac(1)][-1] == "offline"


@pytest.mark.slow
def test_a_full_queue_of_one_interface_delays_no_other() -> None:
    """Neither a scan of the other network nor the probes of its devices."""
    house = EngineView()
    house.engine.set_networks([network(), network("10.1.0.0/24", "eth1", 3)])
    house.engine.observe(
        [house.seen(1, "10.0.0.11"), Observation(house.now, 3, mac(2), ip("10.1.0.11"), Evidence.ARP_REPLY)]
    )
    house.cable.full = {2}
    house.turn(600)
    known = house.inventory.devices
    assert {ask.network.index for ask in house.cable.frames} == {3}
    assert (known[mac(1)].status, known[mac(2)].status) == (Status.ONLINE, Status.OFFLINE)
    assert len({ask.ip for ask in house.cable.frames}) >= 253
    house.cable.full = set()
    house.turn(600)
    assert known[mac(1)].status is Status.OFFLINE


def test_a_lookup_dropped_from_a_full_queue_comes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in the first scan of a large LAN: it does not count as looked up within the hour."""
    monkeypatch.setattr(name_queue, "MOST_STRANGERS", 3)
    house = EngineView()
    asker = house.engine.names = name_queue.Names(house.engine, lambda mac: 2, lambda network, frame: None)
    house.engine.observe([house.seen(i, f"10.0.0.{10 + i}") for i in range(5)])
    assert {key[0] for key in asker._next_round} == {mac(2), mac(3), mac(4)}
    house.inventory.devices[mac(0)].status = Status.OFFLINE
    house.now += 1
    house.engine.observe([house.seen(0, "10.0.0.10")])
    assert {key[0] for key in asker._next_round} == {mac(3), mac(4), mac(0)}


MOST_CALLS, MOST_CALLS_AGAIN = 100, 54
"""Calls of functions in Python for each device of a large scan, in the engine and the encoder: when it is found, and
when it answers once more. They were 148 and 62 before docs/adr/0088, 106 and 56 before docs/adr/0089."""


def test_a_device_that_a_scan_finds_costs_few_calls() -> None:
    """Calls are exact where times are not: what each answer costs adds up in a network of 65,533 devices."""
    house = EngineView(Pace(rate=0.0, tries=1))
    house.engine.set_networks([network("10.0.0.0/22")])
    house.engine._encode = Encoder(lambda: 1.7e9, lambda mac: None).event
    house.turn(2.0)
    counts = []
    for _ in range(2):
        house.now += 6.0
        house.cable.frames.clear()
        house.engine.scan_now([])
        with counted() as calls:
            house.turn(0.001)
            while house.planner.scanning:
                answers, house.cable.frames = house.cable.frames, []
                house.engine.observe([
                    Observation(house.now, 2, mac(int.from_bytes(probe.ip[1:])), probe.ip, Evidence.ARP_REPLY)
                    for probe in answers
                ])  # fmt: skip
                house.turn(0.001)
        counts.append(calls[0] / len(house.engine.devices))
    assert len(house.engine.devices) >= 1000
    assert counts[0] <= MOST_CALLS
    assert counts[1] <= MOST_CALLS_AGAIN


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count the calls of functions in Python within the block."""
    calls = [0]

    def count(frame: object, what: str, argument: object) -> None:
        calls[0] += what == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(before)
