"""What others may cause is bounded: events, broadcasts, evictions and places are not spent on strangers."""

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from netscand.core.model import EventKind, Status
from netscand.store import devices, writer
from netscand.store.rows import mac_number
from tests.attacks import hostile_history
from tests.attacks.account import FIRST, SECOND, THIRD, connected, frame, websockets
from tests.attacks.conftest import Scene, household
from tests.attacks.monitor import monitored
from tests.core.world import World, mac
from tests.lab.test_daemon import wait_for
from tests.store.diary import diary
from tests.store.diary import mac as resident

K = EventKind

# ---- the history (T23), in simulated time ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "mib", "residents"),
    [
        pytest.param(1 / 12, 256 / 96, 10, id="5 minutes"),
        pytest.param(24.0, 256.0, 250, id="a day", marks=pytest.mark.long),
    ],
)
async def test_a_hostile_host_pushes_nobodys_past_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: float, mib: float, residents: int
) -> None:
    """FAULTS T23: 88 days of a household, of 90, are all there after a day of it, and the file is within its size.

    In short: five minutes and a small household, against a hundredth of `max_mib`.
    """
    monkeypatch.setattr(writer, "TRIM_EVERY", 0.05)
    path = tmp_path / "h.db"

    async with diary(path, hostile_history.clock(hours), max_mib=mib) as book:
        lived = residents + await hostile_history.live(book, residents)
        begun = path.stat().st_size
        attack = hostile_history.HostileHosts(book, RATE)
        monkeypatch.setattr(devices, "monotonic", lambda: attack.now)
        for _ in range(round(60 * hours)):
            attack.minute()
            await book.history.settled()
        ends = time.monotonic() + LATE
        while size(path) > mib * 2**20 and time.monotonic() < ends:
            await asyncio.sleep(0.1)  # what is too much goes in slices
        events = sum(attack.published.values())
        print(f"{attack.count} frames, {events} events: {dict(attack.published)}; {begun / 2**20:.1f} MiB before")
        print(f"{path.stat().st_size / 2**20:.1f} MiB after, of {mib:.1f}")
    with closing(sqlite3.connect(path)) as database:
        kept = dict(database.execute("SELECT mac, count(*) FROM event GROUP BY mac"))
    left = sum(kept.get(mac_number(resident(number)), 0) for number in range(residents))
    assert left == lived, f"of {lived} events of the household {left} are left"
    assert path.stat().st_size <= mib * 2**20


def size(path: Path) -> int:
    """Return the bytes of a database with all that is in its log."""
    with closing(sqlite3.connect(path)) as database:
        pages: int = database.execute("PRAGMA page_count").fetchone()[0]
        return pages * database.execute("PRAGMA page_size").fetchone()[0]  # type: ignore[no-any-return]


LATE = 30.0
"""Seconds for what is too much to go, beside other work; idle it takes less than one."""

RATE = 20.0
"""Frames a second of each of two hosts, each frame worth an event at first: more only adds frames that are refused."""

# ---- broadcasts (T33) -----------------------------------------------------------------------------------------------

BURST = 3.0
"""Seconds in which what is asked for at once may still be on its way."""


def test_scans_of_parts_keep_no_lan_busy(root: None, attack_seconds: float) -> None:
    """FAULTS T33: two accounts ask for the two halves of a /24 again and again, each 20 times a second.

    Once what is free is spent, no more broadcasts leave than three times `background_rate`: netscand's own, and those
    that were asked for. The wait between two scans of a whole network was no bound for the scans of its parts.
    """
    halves = [["10.77.0.0/25"], ["10.77.0.128/25"]]
    more = b"".join(frame(json.dumps({"type": "scan_now", "targets": half}).encode()) for half in halves)
    with household({"scan": {"interval": 3600, "tries": 2}}) as scene:
        attackers = [websockets(scene.daemon, uid, 2, more, rate=20) for uid in (FIRST, SECOND)]
        seconds = BURST + attack_seconds
        with connected(seconds, *attackers) as fire, monitored(scene.daemon) as measured:
            begun = time.time()
            with scene.lab.capture() as capture:
                fire()
                sent = [arp.at - begun for arp in capture.arp(outgoing=True) if arp.broadcast]
    late = [at for at in sent if BURST <= at < seconds]
    print(f"{len(sent)} broadcasts, {len(late) / attack_seconds:.0f}/s after {BURST:g} s")
    assert len(late) / attack_seconds <= 150
    measured.check()


# ---- places (T32) ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("owner", "uid"), [("daemon", 1), (str(SECOND), SECOND)], ids=["by name", "by number"])
def test_the_subordinate_uids_of_an_account_are_its_own(shared_ranges: Scene, owner: str, uid: int) -> None:
    """FAULTS T32: one account connects by each of 256 uids of its ranges, and has no more places than by its own."""
    daemon = shared_ranges.daemon
    first = RANGES[owner][0]
    with connected(0.1, websockets(daemon, uid, 32, b""), websockets(daemon, first, 256, b"", spread=True)) as fire:
        own, others = fire()
        with connected(0.1, websockets(daemon, THIRD, 4, b"")) as fire_too:
            (third,) = fire_too()
    assert own.still_open + others.still_open <= 64, "beyond max_per_peer"
    assert third.still_open == 4


def test_uids_of_no_range_are_accounts_of_their_own(shared_ranges: Scene) -> None:
    with connected(0.1, websockets(shared_ranges.daemon, 500_000, 100, b"", spread=True)) as fire:
        (nobodys,) = fire()
    assert nobodys.still_open == 100


RANGES = {"daemon": (100_000, 165_536), str(SECOND): (300_000,)}
"""Who may use which uids, 65,536 from each of these on (subuid(5)): by name, or by number."""


@pytest.fixture(scope="module")
def shared_ranges(root: None) -> Iterator[Scene]:
    """A household on a host with subordinate uids."""
    lines = [f"{owner}:{start}:65536\n" for owner, starts in RANGES.items() for start in starts]
    with household(count=1, files={"/etc/subuid": "".join(lines)}) as made:
        yield made


# ---- who leaves (T28) -----------------------------------------------------------------------------------------------


def test_made_up_devices_that_answered_hide_nobodys_leaving(root: None) -> None:
    """FAULTS T28: 300 made-up devices of two hosts answer, and fall silent at once; a real one leaves meanwhile."""
    with household({"presence": {"probe_interval": 1, "patience": [2, 3]}}, network="10.77.0.0/22") as scene:
        crowds = [scene.lab.crowd(seed) for seed in (50, 51)]
        addresses = iter(scene.lab.addresses(600, start=300))
        made_up: set[str] = set()
        with monitored(scene.daemon) as measured:
            for crowd in crowds:
                for _ in range(150):
                    made_up.add(crowd.join(next(addresses)))
            wait_for("their answers", lambda: confirmed(scene, made_up) > 200)
            for crowd in crowds:
                crowd.conditions(loss=1.0)
            gone = next(iter(scene.macs))
            scene.crowd.leave(gone)
            left_at = time.monotonic()
            measured.event("offline", mac=scene.macs[gone])
            took = time.monotonic() - left_at
    print(f"reported after {took:.1f} s; {Counter(event['kind'] for event in measured.events)}")
    assert took < 12
    assert not [event for event in measured.events if event["kind"] == "network_silent"]
    real = set(scene.macs.values())
    wrong = [event for event in measured.events if event["mac"] in real and event["mac"] != scene.macs[gone]]
    assert not wrong, f"of real devices that were there all along: {wrong[:3]}"
    measured.check()


def confirmed(scene: Scene, macs: set[str]) -> int:
    """How many of those answered."""
    return sum(device["mac"] in macs and device["rtt_ms"] is not None for device in scene.daemon.devices().values())


# ---- annotations (T29), in simulated time ---------------------------------------------------------------------------


def test_a_flood_evicts_no_annotated_device() -> None:
    """FAULTS T29: 96,000 made-up MACs in 20 minutes, from two hosts, and a device that never answers.

    `[scan] exclude` spares it, or it is mute: only the user knows that it is no stranger.
    """
    world = World()
    world.alive(6)
    quiet = mac(0x500)
    world.hear(quiet, "10.0.0.200")
    words = {"label": "freezer", "known": True, "notes": "in the cellar"}
    world._tell(world.inventory.label(quiet, words, world.now))
    for number in range(96_000):
        if number % 80 == 0:
            world.run(1.0)
        world.hear(mac(0x10_000 + number), f"10.0.0.{100 + number % 150}")
    kept = world.inventory.devices.get(quiet)
    assert kept is not None, [
        event.reason for event in world.of(K.FORGOTTEN) if event.device and event.device.mac == quiet
    ]
    assert (kept.label, kept.known, kept.notes) == tuple(words.values())
    assert len(world.inventory.devices) < 8_000
    world.hear(mac(0x500), "10.0.0.200")
    assert world.inventory.devices[quiet].status is Status.ONLINE
