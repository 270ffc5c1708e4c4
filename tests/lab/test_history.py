"""The history under a real daemon: kills, full and read-only disks, broken files, a second daemon, restarts."""

import json
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from websockets.exceptions import WebSocketException

from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.spaces import DEADLINE
from tests.lab.test_daemon import wait_for
from tests.store.share import share
from tests.store.test_database import VERSION_2

QUICK = {
    "scan": {"interval": 3600},
    "presence": {"patience": [1, 1], "probe_interval": 1},
}
"""Nothing happens but what the crowd does, and that at once."""


class Subscriber(threading.Thread):
    """A client that keeps every event that it received, and resumes by cursor when the daemon is gone."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon=True)
        self.told: list[dict[str, Any]] = []
        self.snapshots = 0
        self.ends = threading.Event()
        self._daemon = daemon
        self._cursor = ""

    def run(self) -> None:
        while not self.ends.is_set():
            with suppress(OSError, WebSocketException, TimeoutError):
                since = f"&since={self._cursor}" if self._cursor else ""
                with self._daemon.websocket(f"updates=changes{since}", open_timeout=2) as stream:
                    while not self.ends.is_set():
                        with suppress(TimeoutError):
                            self._note(json.loads(stream.recv(timeout=0.2)))
            time.sleep(0.01)

    def _note(self, message: dict[str, Any]) -> None:
        if message["type"] == "initial_state":
            self.snapshots += 1
            self._cursor = message["cursor"]
        elif message["type"] == "event":
            self.told.append(message)
            self._cursor = message["cursor"]


class Bustle(threading.Thread):
    """The crowd comes and goes: a stream of changes."""

    def __init__(self, crowd: Crowd, addresses: list[str], seed: int) -> None:
        super().__init__(daemon=True)
        self.ends = threading.Event()
        self._crowd = crowd
        self._addresses = addresses
        self._chance = Random(seed)

    def run(self) -> None:
        present: dict[str, str] = {}
        while not self.ends.is_set():
            ip = self._chance.choice(self._addresses)
            if ip in present:
                self._crowd.leave(present.pop(ip))
            else:
                present[ip] = self._crowd.join(ip)
            time.sleep(self._chance.random() / 50)


def listed(daemon: Daemon) -> list[dict[str, Any]]:
    """All events that the daemon keeps."""
    events: list[dict[str, Any]] = []
    while True:
        more = daemon.get("/api/events?limit=5000" + (f"&since={events[-1]['cursor']}" if events else ""))["events"]
        if not more:
            return events
        events += more


def number(event: dict[str, Any]) -> int:
    return int(event["cursor"].rpartition("-")[2])


def kill(lab: Lab, times: int, seed: int) -> None:
    """FAULTS F4."""
    crowd = lab.crowd(seed)
    daemon = lab.daemon(QUICK)
    subscriber = Subscriber(daemon)
    bustle = Bustle(crowd, lab.addresses(40, start=50), seed)
    chance = Random(seed)
    subscriber.start()
    bustle.start()
    try:
        for _ in range(times):
            time.sleep(chance.random() / 2)
            daemon.kill()
            told = list(subscriber.told)
            with closing(sqlite3.connect(f"file:{daemon.history}?mode=ro", uri=True)) as left:
                assert left.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                stored = {sequence for (sequence,) in left.execute("SELECT sequence FROM event")}
            assert {number(event) for event in told} <= stored
            daemon.start()
    finally:
        bustle.ends.set()
        bustle.join()
    told = subscriber.told
    wait_for("all is published", lambda: told and told[-1]["cursor"] == daemon.get("/api/status")["cursor"])
    subscriber.ends.set()
    subscriber.join()
    cursors = [event["cursor"] for event in told]
    first, last = number(told[0]), number(told[-1])
    assert cursors == [event["cursor"] for event in listed(daemon) if first <= number(event) <= last]
    assert len(set(cursors)) == len(cursors)
    assert [number(event) for event in told] == sorted(number(event) for event in told)
    assert subscriber.snapshots == 1
    assert len(cursors) > times


def test_50_kills_lose_nothing_that_was_told(lab: Lab) -> None:
    """FAULTS F4: in a stream of changes; numbers never repeat, the file is whole each time, and the client resumes."""
    kill(lab, 50, 1)


@pytest.mark.long
def test_1000_kills_lose_nothing_that_was_told(lab: Lab) -> None:
    kill(lab, 1000, 2)


def test_a_restart_knows_its_devices_and_announces_nobody_as_new(lab: Lab) -> None:
    """Who was there is unknown until heard; who was gone is still gone; what the user said is still known."""
    crowd = lab.crowd()
    there, gone, *others = lab.addresses(12, start=50)
    macs = crowd.populate([there, gone, *others])
    daemon = lab.daemon({"presence": {"patience": [1, 2], "probe_interval": 1}})
    wait_for("all were found", lambda: len(daemon.devices()) == 13)
    said = {"label": "TV", "known": True, "notes": "hall", "patience": 30}
    assert daemon.request("PATCH", f"/api/devices/{macs[there]}", said)[0] == 200
    crowd.leave(gone)
    wait_for("one is gone", lambda: daemon.devices()[gone]["status"] == "offline")
    before = daemon.devices()
    cursor = daemon.get("/api/status")["cursor"]
    crowd.conditions(loss=1.0)  # so that the state after the start can be seen
    for stop in (daemon.kill, daemon.stop):
        stop()
        daemon.start()
        after = daemon.devices()
        assert {after[ip]["status"] for ip in (there, *others)} == {"unknown"}
        assert after[gone] == before[gone] | {"rtt_ms": None}
        for name in ("label", "known", "notes", "patience", "first_seen", "addresses"):
            assert after[there][name] == before[there][name] or name == "addresses", name
    crowd.conditions(loss=0.0)
    wait_for("all are back", lambda: {daemon.devices()[ip]["status"] for ip in (there, *others)} == {"online"})
    kinds = {event["kind"] for event in daemon.get(f"/api/events?since={cursor}")["events"]}
    assert "discovered" not in kinds
    days = daemon.get(f"/api/devices/{macs[there]}/presence?days=2")["days"]
    assert sum(day["online_seconds"] for day in days) > 0
    assert sum(day["unknown_seconds"] for day in days) > 0


@contextmanager
def tmpfs(place: Path, options: str) -> Iterator[Path]:
    """A file system of its own."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_degrades_and_recovers_by_itself(lab: Lab) -> None:
    """FAULTS F6: scanning and pushing go on meanwhile."""
    with tmpfs(lab.folder / "small", "size=2m,mode=700") as place:
        crowd = lab.crowd()
        daemon = lab.daemon({**QUICK, "history": {"path": str(place / "h.db")}})
        with daemon.websocket() as stream:
            assert json.loads(stream.recv())["type"] == "initial_state"
            ballast = fill(place / "ballast")
            for ip in lab.addresses(200, start=40):
                crowd.join(ip)
            heard: set[str] = set()
            while len(heard) < 200:
                message = json.loads(stream.recv(timeout=DEADLINE))
                if message["type"] == "event" and message["kind"] == "discovered":
                    heard.add(message["device"]["ip"])
            wait_for("it says degraded", lambda: fill(ballast) and daemon.get("/healthz")["status"] == "degraded")
            assert "cannot be written" in daemon.get("/api/status")["problems"][0]
            ballast.unlink()
            wait_for("it recovered", lambda: daemon.get("/healthz")["status"] == "ok")
        discovered = daemon.get("/api/events?kind=discovered&limit=5000")["events"]
        assert {event["device"]["ip"] for event in discovered} >= heard
        daemon.stop()


def fill(ballast: Path) -> Path:
    """Leave no room for one page more."""
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return ballast


def test_read_only_state_is_told_and_no_reason_not_to_start(lab: Lab) -> None:
    """FAULTS F7."""
    with tmpfs(lab.folder / "fixed", "ro") as place:
        crowd = lab.crowd()
        daemon = lab.daemon({**QUICK, "history": {"path": str(place / "state" / "h.db")}})
        assert daemon.get("/healthz")["status"] == "degraded"
        crowd.join(ip := lab.addresses(1, start=50)[0])
        wait_for("it is scanned", lambda: ip in daemon.devices())
        cursor = daemon.get("/api/status")["cursor"]
        within = ["nsenter", "--target", str(daemon.pid), "--mount"]  # it has a mount of its own, as a copy of ours
        subprocess.run([*within, "mount", "-o", "remount,rw", place], check=True)
        wait_for("it recovered", lambda: daemon.get("/healthz")["status"] == "ok")
        assert daemon.request("GET", f"/api/events?since={cursor}")[0] == 410
        daemon.restart()
        assert ip in daemon.devices()
        daemon.stop()


def test_a_broken_file_is_set_aside_and_the_daemon_runs(lab: Lab) -> None:
    """FAULTS F8."""
    daemon = lab.daemon(QUICK, start=False)
    daemon.history.write_bytes(b"no database any more, " * 100)
    Path(f"{daemon.history}.lock").touch()  # it was a history once
    daemon.start()
    (aside,) = daemon.folder.glob("netscand.db.corrupt-*")
    assert aside.read_bytes().startswith(b"no database any more")
    assert aside.name in daemon.get("/api/status")["problems"][0]
    assert daemon.log().count("set aside") >= 1


def refused(daemon: Daemon, code: int) -> str:
    """Start it; it ends with this code: its log."""
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(DEADLINE) == code
    return daemon.log()


def test_a_second_daemon_on_one_history_ends_and_names_the_first(lab: Lab) -> None:
    """FAULTS F21: exit 75."""
    first = lab.daemon(QUICK)
    second = lab.daemon({**QUICK, "history": {"path": str(first.history)}}, start=False)
    assert f"process {first.pid}" in refused(second, 75)


def test_a_history_of_a_newer_netscand_is_refused(lab: Lab) -> None:
    """FAULTS F20: exit 78, and the data as it was."""
    daemon = lab.daemon(QUICK)
    daemon.stop()
    with closing(sqlite3.connect(daemon.history)) as database:
        database.execute("PRAGMA user_version = 99")
    before = daemon.history.read_bytes()
    assert "newer netscand" in refused(daemon, 78)
    assert daemon.history.read_bytes() == before


def test_systemd_waits_for_a_history_of_an_older_netscand(lab: Lab) -> None:
    """FAULTS F20: to copy 256 MiB to a slow card takes longer than a start may."""
    daemon = lab.daemon(QUICK, start=False)
    with closing(sqlite3.connect(daemon.history)) as database:
        database.executescript(VERSION_2)
    daemon.start()
    (before, after) = [said for said in daemon.notified if "EXTEND_TIMEOUT_USEC=600000000" in said or "READY=1" in said]
    assert "EXTEND" in before
    assert "READY" in after
    assert daemon.get("/api/status")["status"] == "ok"
    daemon.restart()
    assert sum("EXTEND" in said for said in daemon.notified) == 1


def test_a_history_on_a_share_is_refused(lab: Lab) -> None:
    """Exit 78: another machine's disk, where SQLite could lose or break it."""
    with share(lab.folder / "nas") as place:
        daemon = lab.daemon({**QUICK, "history": {"path": str(place / "h.db")}}, start=False)
        assert "network file system" in refused(daemon, 78)


def test_the_state_is_for_the_daemons_eyes_only(lab: Lab) -> None:
    """FAULTS T19: who is at home when."""
    daemon = lab.daemon({**QUICK, "history": {"path": str(lab.folder / "made" / "here" / "h.db")}})
    place = lab.folder / "made" / "here"
    assert place.stat().st_mode & 0o777 == 0o700
    assert {entry.stat().st_mode & 0o777 for entry in place.iterdir()} == {0o600}
    assert daemon.get("/healthz")["status"] == "ok"


def test_a_flood_of_made_up_devices_does_not_fill_the_history(lab: Lab) -> None:
    """FAULTS T11, the disk's part: 100,000 MACs, and the database grows by less than a MiB (8 are allowed)."""
    crowd = lab.crowd()
    real = lab.addresses(40, start=50)
    crowd.populate(real)
    daemon = lab.daemon()
    wait_for("all were found", lambda: len(daemon.devices()) == 41)
    before = size(daemon)
    crowd.flood(rate=20_000, seconds=5, macs=100_000)
    wait_for("all has been sent", lambda: crowd.counts()["flooded"] == 100_000)
    time.sleep(1)
    wait_for("the flood is published", lambda: daemon.get("/api/events?kind=flood")["events"])
    assert size(daemon) - before < 2**20
    daemon.restart()
    assert set(real) <= set(daemon.devices())
    assert size(daemon) - before < 2**20


def size(daemon: Daemon) -> int:
    """Bytes of the database and its log."""
    return sum(path.stat().st_size for path in daemon.folder.glob("netscand.db*"))
