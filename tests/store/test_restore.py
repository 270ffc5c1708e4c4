"""A restart knows every device: from rows written at any time, and the last event of each device after them."""

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
from netscand.core.presence import Presence, Rules
from netscand.core.restore import Memory, Remembered, recalled
from netscand.serve.encode import remembered
from netscand.store.database import connect
from netscand.store.opening import remember
from netscand.store.rows import event_row
from tests.core.world import World, ip, mac, network
from tests.store.diary import BOOT, LAN, Diary, FakeClock, device, diary, discovered


def two_networks(first: NetworkState = NetworkState.UP, second: NetworkState = NetworkState.UP) -> list[Network]:
    return [network("10.0.0.0/28", state=first), network("10.0.1.0/28", "eth1", 3, state=second)]


class StoredWorld(World):
    """A LAN in simulated time whose events are stored."""

    def __init__(self, book: Diary) -> None:
        self.book = book
        self.bodies: list[bytes] = []
        super().__init__(networks=two_networks(), rules=Rules(10, 10, 60))

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            super()._tell([event])
            self.bodies.append(self.book.clock.encode(event))
            self.book.history.append(event, self.bodies[-1])


def milliseconds(at: float) -> int:
    """Return unix time, of a time of the history or of the world."""
    return int(at * 1000) if at > BOOT / 2 else FakeClock().milliseconds(at)


def facts(device: Device | Remembered) -> dict[str, Any]:
    """Return what a restart must restore, times to the millisecond."""
    chosen = device.chosen if isinstance(device, Remembered) else device.presence.chosen
    found = {
        "status": device.status,
        "since": milliseconds(device.status_since),
        "reason": device.reason,
        "first_seen": milliseconds(device.first_seen),
        "addresses": sorted(held.ip for held in device.addresses),  # which get another network without an event
        "names": (device.hostname, device.label, device.known, device.notes, chosen),
    }
    if device.status is not Status.OFFLINE:  # a start makes all of them unknown; an event of a network did so before
        found |= {"status": "not offline", "since": 0, "reason": ""}
    return found


def inventory_of(world: World) -> dict[Mac, dict[str, Any]]:
    """Return the inventory without this host, which a start finds by itself."""
    return {held.mac: facts(held) for held in world.inventory.devices.values() if not held.is_self}


ADDRESSES = [f"10.0.{net}.{number}" for net in (0, 1) for number in range(10, 13)]
EVIDENCE = [Evidence.ARP_REQUEST, Evidence.ARP_ANNOUNCEMENT, Evidence.ARP_PROBE, Evidence.DHCP, Evidence.PROXIED]

Step = tuple[Any, ...]


def script_of(seed: int, length: int) -> list[Step]:
    """Return what happens: hosts send, answer or fall silent, links go down and up, users annotate and forget."""
    chance = Random(seed)
    script: list[Step] = []
    for _ in range(length):
        number, at = chance.randint(1, 4), chance.choice(ADDRESSES)
        index = 2 if at.startswith("10.0.0") else 3
        draw = chance.random()
        if draw < 0.4:
            elsewhere = chance.random() < 0.1
            sent = at if chance.random() < 0.9 else None
            script.append(("frame", number, sent, chance.choice(EVIDENCE), index ^ elsewhere))
        elif draw < 0.65:
            script.append(("pass", chance.choice([0.5, 5.0, 40.0, 70.0, 200.0, 2000.0])))
        elif draw < 0.85:
            script.append(("answer", number, at, chance.random() < 0.6))
        elif draw < 0.9:
            script.append(("link", chance.random() < 0.7, chance.random() < 0.7))
        elif draw < 0.97:
            script.append(("label", number, chance.choice([None, "tv", '5 {} of "7"']), chance.choice([None, 33.0])))
        else:
            script.append(("forget", number))
    return script


def play(world: World, script: list[Step]) -> None:
    for what, *how in script:
        world.now += 0.001  # no two frames of one host have the same stamp
        if what == "frame":
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
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), length=st.integers(1, 60), cut=st.integers(0, 60))
@example(seed=418060, length=53, cut=0)  # a claim to an address that the device had, before one that changed it
@example(seed=24, length=36, cut=0)
@example(seed=148, length=22, cut=0)
def test_rows_and_last_events_restore_the_inventory(seed: int, length: int, cut: int) -> None:
    """After kill -9 at any moment, with rows that were written at any other; and every event is what was published."""
    script = script_of(seed, length)

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with diary(Path(folder) / "h.db") as book:
                world = StoredWorld(book)
                book.devices = book.history._device_rows._devices = world.inventory.devices
                play(world, script[:cut])
                await book.history._device_rows.show()
                play(world, script[cut:])
                await book.history.settled()
                after_kill(world, book.killed(Path(folder) / "killed"))
                page = await book.page(since=0, limit=100_000)
                assert [body for _, body in page.events] == world.bodies

    asyncio.run(run())


def remembered_in(path: Path) -> Memory:
    database = connect(path)
    memory = remember(database, remembered)
    database.close()
    return memory


def after_kill(world: World, path: Path) -> None:
    memory = remembered_in(path)
    here = {held.mac for held in world.inventory.devices.values() if held.is_self}
    assert {back.mac: facts(back) for back in memory.devices if back.mac not in here} == inventory_of(world)
    for back in recalled(memory, Rules(), BOOT, world.now):
        now = world.inventory.devices[back.mac]
        assert back.status is (Status.OFFLINE if now.status is Status.OFFLINE else Status.UNKNOWN) or now.is_self
        assert back.last_seen <= world.now
        assert now.confirmed or not back.confirmed


def test_an_event_keeps_what_only_the_row_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What presence learned, since when the device is known; and a device that came again inherits nothing."""
    learned = b"\x00learned from silences"
    monkeypatch.setattr(Presence, "learned", lambda self: learned)

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one, two = device(1), device(2)
            await book.write(discovered(one), discovered(two))
            await book.history._device_rows.show()
            again = device(2, 300.0)
            one.label, one.first_seen = "TV", 90.0
            await book.write(
                Event(EventKind.LABELLED, 200.0, None, one, previous={"label": None}),
                Event(EventKind.FORGOTTEN, 200.0, None, two),
                discovered(again, 300.0),
            )
            await book.history.settled()
            memory = remembered_in(book.killed(tmp_path / "killed"))
            back = {each.mac: each for each in memory.devices}
            assert (back[one.mac].label, back[one.mac].learned) == ("TV", learned)
            assert milliseconds(back[one.mac].first_seen) == milliseconds(100.0)
            assert (back[two.mac].learned, milliseconds(back[two.mac].first_seen)) == (None, milliseconds(300.0))
            assert set(memory.unwritten) == {one.mac, two.mac}

    asyncio.run(play())


@pytest.mark.parametrize("with_a_row", [True, False])
def test_a_known_device_without_silences_is_not_new(tmp_path: Path, with_a_row: bool) -> None:
    """Known for weeks, it has the least patience at once, whether it has a row or only an event."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            now = time.monotonic()
            await book.write(discovered(device(1, now), now))
            if with_a_row:
                await book.history._device_rows.show()
                await book.history.settled()
            memory = remembered_in(book.killed(tmp_path / "killed"))
            assert len(memory.unwritten) == (not with_a_row)
            for age, patience in ((60.0, 90.0), (14 * 86_400.0, 10.0)):
                (back,) = recalled(memory, Rules(), BOOT, now + age)
                assert back.presence.patience == patience

    asyncio.run(play())


@pytest.mark.parametrize("answered", [True, False])
def test_confirmed_devices_are_all_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answered: bool) -> None:
    """Killed before any row was written, a large network comes back complete; devices left out are reported."""
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
            events = inventory.restore(recalled(book.memory, Rules(), BOOT, 200.0), {"eth0": 2}, 200.0)
            assert len(inventory.devices) == (10 if answered else 3)
            assert [event.kind for event in events] == [EventKind.FORGOTTEN] * (10 - len(inventory.devices))
            for event in events:
                assert event.device is not None
                assert len(event.device.addresses) == 1
                assert inventory.addresses.holder(LAN, event.device.ip) is None
                await book.write(event)
            left = book.killed(tmp_path / "again")
        assert {back.mac for back in remembered_in(left).devices} == set(inventory.devices)

    asyncio.run(play())


@pytest.mark.parametrize("damage", ["zeroblob(40)", "substr(body, 1, 30)", "'text'", "NULL"])
def test_a_damaged_last_event_costs_one_change(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """The device is restored as its row has it; nothing else is lost, and the log names the event."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1)
            await book.write(discovered(one), discovered(device(2)))
            await book.history._device_rows.show()
            one.label = "TV"
            await book.write(Event(EventKind.LABELLED, 200.0, None, one, previous={"label": None}))
            await book.write(discovered(device(3)))
            await book.history.settled()
            killed = book.killed(tmp_path / "killed")
        database = connect(killed)
        database.execute(f"UPDATE event SET body = {damage} WHERE kind = 9")
        database.close()
        async with diary(killed) as book:
            assert {back.mac: back.label for back in book.memory.devices} == {device(n).mac: None for n in (1, 2, 3)}
            assert not book.history.problems()
        assert "event 3 is damaged" in caplog.text

    asyncio.run(play())


def test_a_row_newer_than_an_event_stays(tmp_path: Path) -> None:
    """Rows are written one batch after the other; the mark that says so comes last."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            one = device(1)
            await book.write(discovered(one))
            await book.history._device_rows.show()
            await book.history.settled()
            one.label = "TV"
            event = Event(EventKind.LABELLED, 200.0, None, one, previous={"label": None})
            row = event_row(1, event, book.clock.encode(event), book.clock)
            killed = book.killed(tmp_path / "killed")
        database = connect(killed)
        database.execute("UPDATE state SET shown = 0")
        database.execute("UPDATE event SET body = ?", (row[-1],))
        database.close()
        assert [back.label for back in remembered_in(killed).devices] == [None]

    asyncio.run(play())


@pytest.mark.parametrize("order", [1, -1])
def test_an_address_is_held_by_the_last_device_seen(order: int) -> None:
    """Of two devices that had the same address, after a restart."""
    first, last = device(1, 100.0), device(257, 150.0)
    assert first.ip == last.ip
    inventory = Inventory(Rules(), Random(1))
    inventory.restore([first, last][::order], {"eth0": 2}, 200.0)
    assert inventory.addresses.holder(LAN, first.ip) is last


def test_the_last_unconfirmed_devices_seen_find_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_UNCONFIRMED", 3)
    inventory = Inventory(Rules(), Random(1))
    known = [device(number, 100.0 + number * 7 % 10) for number in range(10)]
    inventory.restore(known, {"eth0": 2}, 200.0)
    assert sorted(held.last_seen for held in inventory.devices.values()) == [107.0, 108.0, 109.0]


@pytest.mark.parametrize("how", ["stop", "round"])
def test_this_host_has_a_row_without_an_event(tmp_path: Path, how: str) -> None:
    """It is part of the first list, so nothing else shows a start since when it is known."""

    async def play() -> None:
        path = tmp_path / "h.db"
        async with diary(path) as book:
            own = device(1)
            own.is_self, own.reason, own.last_seen = True, "this host", book.history._device_rows._round_at + 1
            book.devices[own.mac] = own
            if how == "round":
                own.last_seen = 0.0
                await book.history._device_rows._round()
                await book.history._device_rows.show()
                await book.history.settled()
                path = book.killed(tmp_path / "killed")
        (back,) = remembered_in(path).devices
        assert (back.mac, back.reason, milliseconds(back.first_seen)) == (
            own.mac, "this host", milliseconds(own.first_seen),
        )  # fmt: skip

    asyncio.run(play())


def test_a_merge_survives_a_kill_before_its_row(tmp_path: Path) -> None:
    """Law 2: the undo brings back what the last event of the merged device shows; its patience, too."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            into, gone = device(1), device(2)
            gone.hostname, gone.hostname_source, gone.label = "dock", "dhcp", "Dock"
            gone.presence.chosen, gone.confirmed = 77.0, True
            await book.write(discovered(into), discovered(gone))
            await book.history._device_rows.show()
            del book.devices[gone.mac]
            await book.write(Event(EventKind.FORGOTTEN, 200.0, None, gone, reason="merged"))
            into.merged = (gone.mac,)
            await book.write(Event(EventKind.MERGED, 200.0, None, into, None, gone.mac))
            await book.history.settled()
            path = book.killed(tmp_path / "killed")
        (merge,) = remembered_in(path).merges
        was = merge.device
        assert (was.mac, was.hostname, was.label, was.chosen, was.confirmed) == (gone.mac, "dock", "Dock", 77.0, True)
        assert [each.ip for each in was.addresses] == [gone.ip]

    asyncio.run(play())
