"""netscanctl beside a real daemon on a real LAN: what the user knows, what happened, and a command for each change."""

import json
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from netscanctl.client import admin_hint
from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.ordinary import ordinary
from tests.lab.test_daemon import IMPATIENT, until, wait_for

PHONE, MAC = "10.77.0.99", "a4:83:e7:12:34:56"


@pytest.fixture
def crowd(lab: Lab) -> Crowd:
    return lab.crowd()


@pytest.fixture
def daemon(lab: Lab, crowd: Crowd) -> Daemon:
    """A daemon that has heard the phone."""
    made = lab.daemon(IMPATIENT)
    crowd.join(PHONE, MAC)
    wait_for("the phone", lambda: PHONE in made.devices())
    return made


def good(daemon: Daemon, *argv: str) -> str:
    """What a command that must succeed prints."""
    done = daemon.ctl(*argv)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_the_user_knows_is_kept_over_a_restart(daemon: Daemon) -> None:
    good(daemon, "label", PHONE, "Jane's phone")
    good(daemon, "known", "Jane's phone")
    good(daemon, "patience", MAC, "120")
    daemon.restart()
    told = json.loads(good(daemon, "show", "Jane's phone", "--json"))
    assert (told["mac"], told["known"], told["patience"]) == (MAC, True, 120)
    good(daemon, "patience", MAC, "learned")
    assert json.loads(good(daemon, "show", MAC, "--json"))["patience"] < 120
    good(daemon, "label", MAC, "")
    good(daemon, "known", MAC, "--not")
    told = json.loads(good(daemon, "show", MAC, "--json"))
    assert (told["label"], told["known"]) == (None, False)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_device_is_known_before_it_is_seen(daemon: Daemon, crowd: Crowd, restarted: bool) -> None:
    """FIELD case 26: label, mark and note a MAC that nobody has seen; its discovery has them, also after a restart."""
    mac = "00:00:5e:00:53:99"
    good(daemon, "label", "00-00-5E-00-53-99", "Freezer sensor")
    good(daemon, "known", mac)
    told = json.loads(good(daemon, "show", mac, "--json"))
    assert (told["status"], told["kinds"], told["ip"], told["addresses"]) == ("unknown", ["never_seen"], None, [])
    assert told["label"] == "Freezer sensor"
    assert mac in good(daemon, "devices", "Freezer")
    if restarted:
        daemon.restart()
        assert json.loads(good(daemon, "show", mac, "--json")) == told
    days = daemon.get(f"/api/devices/{mac}/presence?days=2")["days"]
    assert {(day["online_seconds"], day["unknown_seconds"]) for day in days} == {(0, 0)}
    with daemon.websocket() as stream:
        crowd.join("10.77.0.98", mac)
        found = until(stream, "event", kind="discovered")
    assert (found["device"]["mac"], found["device"]["label"], found["device"]["known"]) == (mac, "Freezer sensor", True)
    assert (found["device"]["status"], found["device"]["kinds"]) == ("online", [])
    assert found["device"]["first_seen"] == found["at"]
    assert found["previous"]["status"] == "unknown"
    kinds = [line.split()[3] for line in good(daemon, "events", "--device", mac).splitlines()]
    assert kinds == ["labelled", "labelled", "discovered"]


def test_a_device_that_was_never_seen_is_forgotten(daemon: Daemon) -> None:
    mac = "00:00:5e:00:53:98"
    good(daemon, "label", mac, "a typing error")
    good(daemon, "forget", mac)
    assert daemon.ctl("show", mac).returncode == 1
    daemon.restart()
    assert daemon.ctl("show", mac).returncode == 1
    for nothing in (["label", mac, ""], ["known", mac, "--not"], ["label", "01:00:5e:00:00:01", "a group"]):
        assert daemon.ctl(*nothing).returncode == 1, nothing


def test_what_happened_is_told_by_kind_device_and_time(daemon: Daemon, crowd: Crowd) -> None:
    crowd.leave(MAC)
    wait_for("its end", lambda: daemon.devices()[PHONE]["status"] == "offline")
    good(daemon, "label", MAC, "gone")
    lines = good(daemon, "events", "--device", MAC).splitlines()
    assert [line.split()[3] for line in lines] == ["discovered", "offline", "labelled"]
    assert "unanswered, silent for" in lines[1]
    (line,) = good(daemon, "events", "--kind", "offline", "--since", "1h").splitlines()
    assert MAC in line
    page = json.loads(good(daemon, "events", "--json", "--device", MAC, "--limit", "2"))
    assert [event["kind"] for event in page["events"]] == ["offline", "labelled"]
    rest = json.loads(good(daemon, "events", "--json", "--since", page["events"][0]["cursor"], "--device", MAC))
    assert [event["kind"] for event in rest["events"]] == ["labelled"]
    shown = good(daemon, "show", "gone")
    assert "offline since" in shown
    assert re.search(r"^presence +·{6}", shown, re.MULTILINE)
    assert [line.split()[3] for line in shown.splitlines()[-3:]] == ["discovered", "offline", "labelled"]


def test_who_is_forgotten_is_gone_and_what_happened_is_not(daemon: Daemon, crowd: Crowd) -> None:
    crowd.leave(MAC)
    good(daemon, "forget", MAC)
    assert daemon.ctl("show", MAC).returncode == 1
    kinds = [line.split()[3] for line in good(daemon, "events", "--device", MAC).splitlines()]
    assert kinds[-1] == "forgotten"


def test_a_backup_is_a_whole_database_of_what_was(daemon: Daemon, tmp_path: Path) -> None:
    good(daemon, "label", MAC, "in the backup")
    good(daemon, "backup", str(tmp_path / "copy.db"))
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert "in the backup" in "\n".join(copy.iterdump())


def test_an_ordinary_user_may_look_and_not_change(lab: Lab, daemon: Daemon, tmp_path: Path) -> None:
    daemon.folder.chmod(0o755)

    def as_nobody(*argv: str) -> subprocess.CompletedProcess[str]:
        return daemon.space.run(ordinary(daemon.ctl_argv(*argv), tmp_path), check=False)

    assert as_nobody("events").returncode == 0
    for argv in (["label", MAC, "x"], ["forget", MAC], ["backup", "-"]):
        done = as_nobody(*argv)
        assert done.returncode == 4, argv
        assert admin_hint() in done.stderr


@pytest.fixture
def noting(tmp_path: Path) -> str:
    """A command that notes kind and cursor of each event, a line a run."""
    program = "import json, sys; e = json.load(sys.stdin); print(e['kind'], e['cursor'], file=open(sys.argv[1], 'a'))"
    return shlex.join([sys.executable, "-S", "-c", program, str(tmp_path / "received")])


@pytest.fixture
def executing(daemon: Daemon, noting: str, tmp_path: Path) -> Iterator["Executing"]:
    made = Executing(daemon, noting, tmp_path)
    yield made
    made.stop()


class Executing:
    """A `watch --exec` with a cursor file."""

    def __init__(self, daemon: Daemon, command: str, folder: Path) -> None:
        self._argv = daemon.ctl_argv("watch", "--exec", command, "--cursor-file", str(folder / "place"), MAC)
        self._daemon = daemon
        self._told = folder / "received"
        self._place = folder / "place"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it has a cursor."""
        self.process = self._daemon.space.popen(self._argv)
        wait_for("a cursor", self._place.exists)

    def stop(self, number: int = signal.SIGINT) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(20)

    def told(self, *kinds: str) -> None:
        """Wait until the command received these, in order, each cursor once, and has ended."""
        wait_for(f"{kinds}", lambda: [line.split()[0] for line in self._lines()] == list(kinds))
        places = [line.split()[1] for line in self._lines()]
        assert len(set(places)) == len(places)
        last = _number(places[-1])
        wait_for("its cursor in the file", lambda: _number(self._place.read_text()) >= last)

    def _lines(self) -> list[str]:
        return self._told.read_text().splitlines() if self._told.exists() else []


def _number(cursor: str) -> int:
    return int(cursor.rpartition("-")[2])


def test_a_command_for_each_change_misses_nothing(daemon: Daemon, executing: Executing) -> None:
    """The command line is ended and started, then the daemon is killed and started: every change is passed on, once."""
    executing.start()
    good(daemon, "label", MAC, "one")
    executing.told("labelled")
    executing.stop()
    good(daemon, "label", MAC, "two")
    good(daemon, "known", MAC)
    executing.start()
    executing.told(*["labelled"] * 3)
    daemon.kill()
    daemon.start()
    good(daemon, "label", MAC, "three")
    good(daemon, "forget", "three")
    # Who is still there is discovered again at once: it need not be the last line.
    wait_for("its end", lambda: any(line.startswith("forgotten") for line in executing._lines()))
    assert [line.split()[0] for line in executing._lines()].count("labelled") == 4
