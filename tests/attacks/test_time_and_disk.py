"""Clocks and disks that lie while netscand runs: noticed within seconds, shown in `status`, repaired where possible."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from netscand.store import writer
from netscand.store.maintenance import SYNC_EVERY
from tests.attacks.conftest import QUICK, household
from tests.attacks.monitor import monitored
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.ordinary import NOBODY
from tests.lab.spaces import DEADLINE, temporary_folder
from tests.lab.test_daemon import wait_for
from tests.lab.test_own_faults import CLOCK, YEARS, jump_to

# ---- the clock (F22) ------------------------------------------------------------------------------------------------

TRIM_OFTEN = """
import sys
class Often:
    def find_spec(self, name, path=None, target=None):
        module = sys.modules.get("netscand.store.writer")
        if hasattr(module, "TRIM_EVERY"):  # imported, and not yet used: the daemon imports more
            module.TRIM_EVERY = 0.3
sys.meta_path.insert(0, Often())
"""


def test_a_clock_that_is_wrong_for_seconds_costs_no_event(root: None) -> None:
    """FAULTS F22, F12: ten years back and ten on, twice, once of them over a restart; what is kept stays kept.

    One event with a stamp of long ago took all that was written before it along.
    """
    assert writer.TRIM_EVERY >= 1, "the patch patches nothing"
    with household(site=CLOCK + TRIM_OFTEN) as scene:
        daemon, clock = scene.daemon, scene.lab.folder / "site"
        first = cursors(kept(daemon))
        joined: list[str] = []
        for turn, jump in enumerate((-YEARS, YEARS, -YEARS, YEARS)):
            jump_to(clock, jump)
            if turn == 2:
                daemon.restart()
            for _ in range(2):
                joined.append(scene.crowd.join(f"10.77.0.{100 + len(joined)}"))
                wait_for("a newcomer", lambda: daemon.request("GET", f"/api/devices/{joined[-1]}")[0] == 200)
            jump_to(clock, 0)
            time.sleep(0.4)
        daemon.restart()
        time.sleep(1.5)
        left = kept(daemon)
        assert not set(first) - set(cursors(left)), f"{len(left)} events are left"
        assert set(joined) <= {event["device"]["mac"] for event in left if event["kind"] == "discovered"}
        assert daemon.get("/api/status")["problems"] == []
        assert sum(device["label"] is not None for device in daemon.get("/api/devices")["devices"]) == 3


def kept(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.get("/api/events?limit=5000")["events"]
    return found


def published(event: dict[str, Any]) -> tuple[Any, ...]:
    """Return what says the same before and after a restart."""
    device = event["device"] or {}
    return event["cursor"], event["kind"], event["at"], event["address"], event["reason"], device.get("mac")


def problems(daemon: Daemon) -> list[str]:
    found: list[str] = daemon.get("/api/status")["problems"]
    return found


def cursors(events: list[dict[str, Any]]) -> list[int]:
    return [int(event["cursor"].rpartition("-")[2]) for event in events]


# ---- the disk (F23) -------------------------------------------------------------------------------------------------

NOTICED = 10.0
"""Seconds until it is repaired, or `status` is degraded with the reason."""


def wal(path: Path) -> Path:
    return Path(f"{path}-wal")


def delete_all(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)


def delete_log(path: Path) -> None:
    wal(path).unlink(missing_ok=True)


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def truncate_log(path: Path) -> None:
    os.truncate(wal(path), 0)


def overwrite_log(path: Path) -> None:
    with wal(path).open("r+b") as file:
        file.write(b"\xa5" * max(4096, wal(path).stat().st_size))


def replace(path: Path) -> None:
    """As who puts an old copy back while the daemon runs."""
    copy = path.with_name("copy")
    with closing(sqlite3.connect(copy)) as made:
        made.execute("CREATE TABLE other (x)")
    shutil.chown(copy, 65534, 65534)
    copy.chmod(0o600)
    copy.replace(path)


def rename_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def garbage_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 8192)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "deleted": delete_all, "log deleted": delete_log, "truncated": truncate, "log truncated": truncate_log,
    "log overwritten": overwrite_log, "replaced": replace, "folder renamed": rename_folder, "garbage": garbage_page,
}  # fmt: skip


def whole(daemon: Daemon, path: Path, devices: int) -> str:
    """Why the history at its path is not all there; empty where it is."""
    status, answer = daemon.request("GET", "/api/events?limit=5")
    if status != 200:
        return f"/api/events: {status} {answer}"
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            (found,) = database.execute("SELECT count(*) FROM device").fetchone()
            return "" if found >= devices else f"{found} of {devices} devices are written down"
    except sqlite3.Error as wrong:
        return f"{path.name}: {wrong}"


def silence(daemon: Daemon, path: Path, devices: int) -> str:
    """Why the history is not all there, where `status` does not report it; else nothing."""
    why = whole(daemon, path, devices)
    problems = daemon.get("/api/status")["problems"]
    return "" if any("history" in problem for problem in problems) else why


def back_up(daemon: Daemon) -> None:
    """Have everything written down that waits: a copy holds it all."""
    connection = daemon.connection()
    connection.request("GET", "/api/backup")
    assert connection.getresponse().read()
    connection.close()


def is_whole(daemon: Daemon, path: Path, devices: int) -> bool:
    return not whole(daemon, path, devices)


def knows(daemon: Daemon, addresses: set[str]) -> bool:
    return addresses <= daemon.devices().keys()


@pytest.mark.parametrize(
    "ways",
    [
        pytest.param(("deleted", "log truncated", "replaced", "folder renamed"), id="some"),
        pytest.param(tuple(DAMAGES), id="all", marks=pytest.mark.long),
    ],
)
def test_a_history_that_vanishes_or_breaks_is_never_a_silent_ok(lab: Lab, ways: tuple[str, ...]) -> None:
    """FAULTS F23, F8: four ways, or eight, each on a daemon of its own, all at once.

    Within seconds `status` reports it, or there is a whole history again; and kill -9 then loses no device.
    """
    crowd = lab.crowd()
    macs = crowd.populate(lab.addresses(12, start=20))
    daemons: dict[str, tuple[Daemon, Path]] = {}
    for name in ways:
        daemon = lab.daemon(as_user=True, start=False)
        folder = daemon.folder / "state"
        folder.mkdir()
        shutil.chown(folder, 65534, 65534)
        folder.chmod(0o700)
        daemon.configure(QUICK | {"history": {"path": str(folder / "h.db")}, "listen": {"tcp": []}})
        daemon.start(wait=False)
        daemons[name] = daemon, folder / "h.db"
    for daemon, path in daemons.values():
        daemon.wait_ready(DEADLINE)
        wait_for("the household", partial(knows, daemon, set(macs)))
        back_up(daemon)
        wait_for("what is kept", partial(is_whole, daemon, path, len(macs)))
    before = {name: daemon.devices() for name, (daemon, _) in daemons.items()}
    for name, (_, path) in daemons.items():
        DAMAGES[name](path)
    crowd.join("10.77.0.99")
    damaged_at = time.monotonic()
    time.sleep(SYNC_EVERY)  # until then, what is damaged may look whole
    while True:
        silent = {name: why for name in ways if (why := silence(*daemons[name], len(macs)))}
        if not silent or time.monotonic() > damaged_at + NOTICED:
            break
        time.sleep(0.5)
    assert not silent, silent
    for daemon, _ in daemons.values():
        daemon.kill()
    for daemon, path in daemons.values():
        with suppress(OSError):
            path.parent.with_name("elsewhere").rename(path.parent)
        daemon.start(wait=False)
    forgotten = []
    for name, (daemon, _) in daemons.items():
        daemon.wait_ready(DEADLINE)
        after = daemon.devices()
        lost = [ip for ip in macs if after.get(ip, {}).get("first_seen") != before[name][ip]["first_seen"]]
        if lost:
            forgotten.append(f"{name}: {len(lost)} of {len(macs)} devices")
    assert not forgotten, forgotten


def test_a_truncated_wal_index_ends_the_daemon_and_loses_nothing(root: None) -> None:
    """FAULTS F26: SQLite maps `-shm`, and a mapped page that is gone is SIGBUS: systemd starts the daemon again.

    All that was published is there, and clients resume by cursor, as after `kill -9`.
    """
    with household() as scene:
        daemon = scene.daemon
        process = daemon.process
        assert process is not None
        for number in range(8):
            scene.crowd.join(f"10.77.0.{100 + number}")
        wait_for("newcomers", lambda: len(daemon.devices()) >= len(scene.macs) + 8)
        before, cursor = kept(daemon), daemon.get("/api/status")["cursor"]
        os.truncate(f"{daemon.history}-shm", 0)
        scene.crowd.join("10.77.0.120")
        wait_for("its end", lambda: process.poll() is not None)
        assert process.returncode == -signal.SIGBUS
        daemon.start()
        assert [published(each) for each in kept(daemon)][: len(before)] == [published(each) for each in before]
        assert daemon.get("/api/status")["problems"] == []
        assert daemon.request("GET", f"/api/events?since={cursor}")[0] == 200
        wait_for("the newcomer", lambda: "10.77.0.120" in daemon.devices())


@pytest.mark.long
def test_a_wrong_clock_is_survived_with_nothing_patched(root: None) -> None:
    """FAULTS F22, with nothing patched but the clock."""
    with household(site=CLOCK) as scene, monitored(scene.daemon) as measured:
        jump_to(scene.lab.folder / "site", -YEARS)
        scene.crowd.join("10.77.0.99")
        time.sleep(4)
        jump_to(scene.lab.folder / "site", 0)
        before = kept(scene.daemon)
        time.sleep(70)
        after = kept(scene.daemon)
    assert not set(cursors(before)) - set(cursors(after))
    measured.check()


# ---- the configuration (F27) ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["a FIFO", "a sparse file", "many tables"])
def test_a_configuration_without_end_holds_nobody_up(root: None, kind: str) -> None:
    """FAULTS F27: what is at the path when SIGHUP comes is refused, and says so, whatever it is."""
    with household(count=1) as scene:
        daemon = scene.daemon
        good = daemon.config.read_text()
        if kind == "a FIFO":
            daemon.config.unlink()
            os.mkfifo(daemon.config)
        elif kind == "a sparse file":
            os.truncate(daemon.config, 3 << 30)
        else:
            tables = "".join(f'[[network]]\ncidr = "10.{i >> 8}.{i & 255}.0/24"\n' for i in range(30_000))
            daemon.config.write_text((good + tables)[: 1 << 20].rpartition("[[")[0])
        with monitored(daemon) as measured:
            daemon.signal(signal.SIGHUP)
            time.sleep(1.5)
            wait_for("the refusal", lambda: any("not reloaded" in each for each in problems(daemon)))
        measured.check()
        if kind == "a FIFO":
            daemon.config.unlink()
        daemon.config.write_text(good)
        os.chmod(daemon.config, 0o644)
        daemon.signal(signal.SIGHUP)
        wait_for("the reload", lambda: not problems(daemon))


# ---- a disk that stands still (T64) ---------------------------------------------------------------------------------


@contextmanager
def freezable() -> Iterator[Path]:
    """A file system of its own, which fsfreeze(8) can stop."""
    there = temporary_folder("frozen")
    there.chmod(0o755)
    image, folder = there / "image", there / "disk"
    folder.mkdir()
    image.write_bytes(b"")
    os.truncate(image, 64 * 2**20)
    for argv in (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(folder)]):
        subprocess.run(argv, check=True, timeout=DEADLINE)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=DEADLINE)
        shutil.rmtree(there)


@contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """Stop a file system for the block. Until it goes on, no process that writes there ends, even if it is killed."""
    subprocess.run(["fsfreeze", "--freeze", str(folder)], check=True, timeout=DEADLINE)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(folder)], check=True, timeout=DEADLINE)


def test_a_frozen_file_system_holds_nobody_up(root: None, attack_seconds: float) -> None:
    """FAULTS T64: for as long as it takes to copy a machine; who comes and leaves meanwhile is published, and kept."""
    with freezable() as disk:
        (state := disk / "netscand").mkdir(mode=0o700)
        os.chown(state, NOBODY, NOBODY)
        with household({"history": {"path": str(state / "netscand.db")}}) as scene, monitored(scene.daemon) as measured:
            with frozen(disk):
                begun = time.monotonic()
                newcomer = scene.crowd.join("10.77.0.150")
                measured.event("discovered", mac=newcomer)
                leaver = next(iter(scene.macs.values()))
                scene.crowd.leave(leaver)
                measured.event("offline", mac=leaver)
                problems = scene.daemon.get("/api/status")["problems"]
                assert any("the disk takes longer" in problem for problem in problems), problems
                time.sleep(max(0.0, begun + 4 * attack_seconds - time.monotonic()))
            wait_for("its return", lambda: not scene.daemon.get("/api/status")["problems"])
        measured.check()
        assert [event["kind"] for event in measured.events] == ["discovered", "offline"]


def test_no_request_waits_for_a_disk_that_hangs(root: None) -> None:
    """FAULTS F33: each is answered, at most with `busy` and when to try again; what was requested is done later."""
    with freezable() as disk:
        (state := disk / "netscand").mkdir(mode=0o700)
        os.chown(state, NOBODY, NOBODY)
        with household({"history": {"path": str(state / "netscand.db")}}) as scene, monitored(scene.daemon) as measured:
            daemon, (*_, erased, labelled) = scene.daemon, scene.macs.values()
            cursor = daemon.get("/api/status")["cursor"]
            requests = [
                ("GET", f"/api/events?since={cursor}"), ("GET", "/api/events?last=5&kind=discovered"),
                ("GET", f"/api/devices/{labelled}/events"), ("GET", f"/api/devices/{labelled}/presence"),
                ("GET", "/api/backup"), ("GET", "/metrics"), ("POST", "/api/reload"), ("POST", "/api/scan?wait=1"),
                ("PATCH", f"/api/devices/{labelled}"), ("DELETE", f"/api/devices/{erased}?history=true"),
                ("DELETE", "/api/people/nobody"), ("GET", "/api/status"), ("GET", "/api/devices"),
            ]  # fmt: skip
            with frozen(disk):
                measured.event("discovered", mac=scene.crowd.join("10.77.0.150"))
                with ThreadPoolExecutor(len(requests)) as threads:
                    answers = dict(zip(requests, threads.map(partial(answer_to, daemon), requests), strict=True))
                with daemon.websocket(f"updates=changes&since={cursor}") as stream:
                    assert json.loads(stream.recv(30))["type"] in ("initial_state", "resumed")
            print(*answers.items(), sep="\n")
            waiting = {answers[each] for each in requests if "backup" in each[1] or "history=" in each[1]}
            assert waiting == {(503, "busy", "30")}
            assert all(status < 400 or code in ("busy", "not_found") for status, code, _ in answers.values())
            wait_for("its return", lambda: not daemon.get("/api/status")["problems"])
            path = f"/api/events?mac={erased}&until={cursor}"
            wait_for("the erasure", lambda: daemon.get(path)["events"] == [])
            assert answer_to(daemon, ("GET", "/api/backup"))[0] == 200
        measured.check()


def answer_to(daemon: Daemon, request: tuple[str, str]) -> tuple[int, str, str]:
    """Return the status, the code of the error, and Retry-After. Raises TimeoutError after 45 s."""
    method, path = request
    connection = daemon.connection()
    connection.timeout = 45.0
    try:
        body = b'{"label": "frozen"}' if method == "PATCH" else b"{}" if method == "POST" else None
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        content = answer.read()
        code = json.loads(content)["error"]["code"] if answer.status >= 400 else ""
        return answer.status, code, answer.headers.get("Retry-After", "")
    finally:
        connection.close()
