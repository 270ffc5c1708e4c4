"""The history is enough: whatever happened, its events alone rebuild the devices, after a restart and for a client."""

import asyncio
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from netscand.core import limits
from netscand.core.inventory import Inventory
from netscand.core.model import Device, Event, EventKind, Evidence, Mac, Network, NetworkState, Status
from netscand.core.presence import Rules
from netscand.core.restore import Memory, Question, Remembered, as_published, copied, rebuilt, recalled
from netscand.store.database import connect
from netscand.store.reader import remember
from tests.core.world import World, ip, mac, network
from tests.store.diary import BOOT, LAN, Diary, FakeClock, device, diary, discovered

DOUBT = (EventKind.NETWORK_UP, EventKind.NETWORK_DOWN, EventKind.NETWORK_SILENT)


def two_networks(first: NetworkState = NetworkState.UP, second: NetworkState = NetworkState.UP) -> list[Network]:
    return [network("10.0.0.0/28", state=first), network("10.0.1.0/28", "eth1", 3, state=second)]


class Chronicled(World):
    """A LAN in simulated time whose events go into a history."""

    def __init__(self, book: Diary) -> None:
        self.book = book
        self.told: list[Event] = []
        """As clients heard them: each device as it was then."""
        super().__init__(networks=two_networks(), rules=Rules(10, 10, 60))

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            super()._tell([event])
            self.book.history.append(event)
            self.told.append(event._replace(device=copied(event.device) if event.device else None))


def milliseconds(at: float) -> int:
    """Unix time, of what the history tells and of what the world has."""
    return int(at * 1000) if at > BOOT / 2 else FakeClock().milliseconds(at)


def words(device: Device | Remembered) -> dict[str, Any]:
    """What events tell of a device, times to the millisecond."""
    chosen = device.chosen if isinstance(device, Remembered) else device.presence.chosen
    return {
        "status": device.status,
        "since": milliseconds(device.status_since),
        "reason": device.reason,
        "first_seen": milliseconds(device.first_seen),
        "addresses": sorted((held.ip, held.network) for held in device.addresses),
        "names": (device.hostname, device.label, device.known, device.notes, chosen),
    }


def devices(world: World) -> dict[Mac, dict[str, Any]]:
    """The inventory, as far as events tell it: not this host, which needs none."""
    return {held.mac: words(held) for held in world.inventory.devices.values() if not held.is_self}


def without_doubt(told: dict[Mac, dict[str, Any]]) -> dict[Mac, dict[str, Any]]:
    """What a network's event says of its devices: a start doubts all of them anyway."""
    doubted = {"status": "in doubt", "since": 0, "reason": ""}
    return {of: said | (doubted if said["status"] != Status.OFFLINE else {}) for of, said in told.items()}


ADDRESSES = [f"10.0.{net}.{number}" for net in (0, 1) for number in range(10, 13)]
SAID = [Evidence.ARP_REQUEST, Evidence.ARP_ANNOUNCEMENT, Evidence.ARP_PROBE, Evidence.DHCP, Evidence.PROXIED]

Step = tuple[Any, ...]


def script_of(seed: int, length: int) -> list[Step]:
    """Something happens: hosts speak, answer or fall silent, links go down and up, users say what they know."""
    chance = Random(seed)
    script: list[Step] = []
    for _ in range(length):
        number, at = chance.randint(1, 4), chance.choice(ADDRESSES)
        index = 2 if at.startswith("10.0.0") else 3
        draw = chance.random()
        if draw < 0.4:
            elsewhere = chance.random() < 0.1
            script.append(
                ("hear", number, at if chance.random() < 0.9 else None, chance.choice(SAID), index ^ elsewhere)
            )
        elif draw < 0.65:
            script.append(("pass", chance.choice([0.5, 5.0, 40.0, 70.0, 200.0, 2000.0])))
        elif draw < 0.85:
            script.append(("answer", number, at, chance.random() < 0.6))
        elif draw < 0.9:
            script.append(("link", chance.random() < 0.7, chance.random() < 0.7))
        elif draw < 0.97:
            script.append(("label", number, chance.choice([None, "tv", "5 {} of 7"]), chance.choice([None, 33.0])))
        else:
            script.append(("forget", number))
    return script


def play(world: World, script: list[Step]) -> None:
    for what, *how in script:
        world.now += 0.001  # no two frames of one host have one stamp
        if what == "hear":
            sender, at, evidence, index = how
            world.hear(mac(sender), at, evidence, index)
        elif what == "pass":
            world.run(how[0])
        elif what == "answer":
            number, at, answers = how
            index = 2 if at.startswith("10.0.0") else 3
            world.hosts.pop((index, ip(at)), None)
            if answers:
                world.hosts[index, ip(at)] = mac(number)
        elif what == "link":
            states = [NetworkState.UP if up else NetworkState.DOWN for up in how]
            world.set_networks(two_networks(*states))
        elif mac(how[0]) in world.inventory.devices and not world.inventory.devices[mac(how[0])].is_self:
            if what == "label":
                world._tell(world.inventory.label(mac(how[0]), {"label": how[1], "patience": how[2]}, world.now))
            else:
                world._tell([world.inventory.forget(mac(how[0]), world.now, "forgotten by a user")])


@pytest.mark.slow
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), length=st.integers(1, 60), cut=st.integers(0, 60))
@example(seed=418060, length=53, cut=0)  # a claim to an address that the device had, before one that changed it
@example(seed=24, length=36, cut=0)
def test_replaying_the_events_of_any_history_rebuilds_the_inventory(seed: int, length: int, cut: int) -> None:
    """After kill -9 at any moment, from rows of devices that were written at some other; and as a client does it."""
    script = script_of(seed, length)

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with diary(Path(folder) / "h.db") as book:
                world = Chronicled(book)
                book.devices = book.history._rounds._devices = world.inventory.devices
                play(world, script[:cut])
                await book.history._rounds.show()
                play(world, script[cut:])
                await book.history.settled()
                killed = book.killed(Path(folder) / "killed")
                after_kill(world, killed)
                again = await as_a_client(world, book)
                await in_parts(world, book, again, Random(seed))

    asyncio.run(run())


def after_kill(world: Chronicled, path: Path) -> None:
    database = connect(path)
    memory = remember(database)
    database.close()
    found = {of: words(device) for of, device in rebuilt(memory).items() if not world.inventory.devices[of].is_self}
    assert without_doubt(found) == without_doubt(devices(world))
    for back in recalled(memory, Rules(), BOOT, world.now):
        now = world.inventory.devices[back.mac]
        assert back.status is (Status.OFFLINE if now.status is Status.OFFLINE else Status.UNKNOWN) or now.is_self
        assert back.last_seen <= world.now


async def in_parts(world: Chronicled, book: Diary, again: list[Event], chance: Random) -> None:
    """Some of the events, a few at a time: each device as it was, whatever happened in between that is not shown."""
    through = len(again)
    now = {of: in_unix_time(device) for of, device in world.inventory.devices.items()}
    for _ in range(4):
        kinds = tuple(chance.sample(list(EventKind), chance.randrange(6)))
        since, limit = chance.randrange(through + 1), chance.randrange(1, 6)
        page = await book.history.events(Question(through, since=since, kinds=kinds, limit=limit, gaps=True))
        for recorded, later in zip(page.events, page.later, strict=True):
            event, whole = as_published(recorded, later, now.get), again[recorded.sequence - 1]
            assert event._replace(device=None) == whole._replace(device=None)
            if event.device is not None and whole.device is not None:
                assert words(event.device) == words(whole.device)
                assert milliseconds(event.device.last_seen) == milliseconds(whole.device.last_seen)


async def as_a_client(world: Chronicled, book: Diary) -> list[Event]:
    """Fold the events as they are told again; every one must be what was told when it happened."""
    through = book.history.sequence_of(book.history.cursor)
    now = {of: in_unix_time(device) for of, device in world.inventory.devices.items()}
    page = await book.history.events(Question(through, since=0, limit=10_000))
    again = [as_published(*each, now.get) for each in zip(page.events, page.later, strict=True)]
    assert [event.kind for event in again] == [event.kind for event in world.told]
    picture: dict[Mac, dict[str, Any]] = {}
    for event, told in zip(again, world.told, strict=True):
        assert (event.network, event.address, event.other, event.evidence, event.reason) == (
            told.network, told.address, told.other, told.evidence, told.reason,
        )  # fmt: skip
        assert (event.device is None) == (told.device is None)
        if event.device is None or told.device is None:
            continue
        assert event.device.mac == told.device.mac
        assert event.device.status is told.device.status, event
        assert milliseconds(event.device.last_seen) == milliseconds(told.device.last_seen)
        if event.kind is EventKind.FORGOTTEN:
            picture.pop(event.device.mac, None)
        else:
            picture[event.device.mac] = words(event.device)
    assert without_doubt(picture) == without_doubt(devices(world))
    return again


def in_unix_time(device: Device) -> Device:
    then = copied(device)
    then.first_seen, then.last_seen, then.status_since = (
        at + BOOT for at in (then.first_seen, then.last_seen, then.status_since)
    )
    for held in then.addresses:
        held.first_seen, held.last_seen = held.first_seen + BOOT, held.last_seen + BOOT
    return then


@pytest.mark.parametrize("with_a_row", [True, False])
def test_a_device_that_taught_nothing_is_not_new_after_a_restart(tmp_path: Path, with_a_row: bool) -> None:
    """Known for weeks, it has the least patience at once: whether a row was written of it, or its events alone."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            now = time.monotonic()
            await book.write(discovered(device(1, now), now))
            if with_a_row:
                await book.history._rounds.show()
                await book.history.settled()
            database = connect(book.killed(tmp_path / "killed"))
            memory = remember(database)
            database.close()
            assert len(memory.devices) == with_a_row
            for age, patience in ((60.0, 90.0), (14 * 86_400.0, 10.0)):
                (back,) = recalled(memory, Rules(), BOOT, now + age)
                assert back.presence.patience == patience

    asyncio.run(play())


@pytest.mark.parametrize("answered", [True, False])
def test_who_answered_us_is_not_pushed_out_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    """Killed before a row was written of anybody, a large network comes back whole; who is left out is told."""
    monkeypatch.setattr(limits, "MOST_UNCONFIRMED", 3)

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            found = [device(number) for number in range(10)]
            for each in found:
                each.confirmed = answered
            await book.write(*map(discovered, found))
            killed = book.killed(tmp_path / "killed")
        async with diary(killed) as book:
            inventory = Inventory(Rules(), Random(1))
            told = inventory.restore(recalled(book.memory, Rules(), BOOT, 200.0), {"eth0": 2}, 200.0)
            assert len(inventory.devices) == (10 if answered else 3)
            assert [event.kind for event in told] == [EventKind.FORGOTTEN] * (10 - len(inventory.devices))
            for event in told:
                assert event.device is not None
                assert len(event.device.addresses) == 1
                assert inventory.addresses.holder(LAN, event.device.ip) is None
                await book.write(event)
            page = await book.page()
            assert set(rebuilt(Memory((), page.events, 0.0))) == set(inventory.devices)

    asyncio.run(play())


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_who_had_an_address_the_last_who_was_heard_has_it_after_a_restart(order: int) -> None:
    first, last = device(1, 100.0), device(257, 150.0)
    assert first.ip == last.ip
    inventory = Inventory(Rules(), Random(1))
    inventory.restore([first, last][::order], {"eth0": 2}, 200.0)
    assert inventory.addresses.holder(LAN, first.ip) is last


def test_of_those_who_never_answered_the_last_who_were_heard_find_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_UNCONFIRMED", 3)
    inventory = Inventory(Rules(), Random(1))
    known = [device(number, 100.0 + number * 7 % 10) for number in range(10)]
    inventory.restore(known, {"eth0": 2}, 200.0)
    assert sorted(held.last_seen for held in inventory.devices.values()) == [107.0, 108.0, 109.0]
