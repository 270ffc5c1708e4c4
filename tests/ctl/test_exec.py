"""`watch --exec` and `--cursor-file`, as real processes."""

import json
import shlex
import sys
import time
from pathlib import Path

import pytest

from netscand.protocol import Resumed, encode
from tests.ctl.conftest import Ctl, Running
from tests.ctl.fake import DEADLINE, FakeDaemon
from tests.ctl.words import came, device, event, left, network, snapshot

RESUMED = Resumed(
    cursor="k3f9-2", version="0.1.0", protocol=1, interval=30, scanning=False, role="scan", networks=[network()]
)


@pytest.fixture
def noting(tmp_path: Path) -> str:
    """A command that notes what it is told in `told`, a line a run."""
    return shlex.join([sys.executable, "-S", "-c", "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())",
                       str(tmp_path / "told")])  # fmt: skip


def told(folder: Path, count: int) -> list[str]:
    """What the command has noted, once it has `count` lines."""
    file, ends = folder / "told", time.monotonic() + DEADLINE
    while not file.exists() or file.read_text().count("\n") < count:
        assert time.monotonic() < ends, file.exists() and file.read_text()
        time.sleep(0.01)
    return file.read_text().splitlines()


def executing(ctl: Ctl, command: str, *args: str) -> Running:
    running = ctl.start("watch", "--exec", command, *args)
    ctl.daemon.until_watched()
    return running


def test_it_runs_for_each_change_with_the_event_as_it_came(ctl: Ctl, noting: str, tmp_path: Path) -> None:
    running = executing(ctl, noting)
    odd = b'{ "type":"event","kind":"flood", "cursor":"a-2","at":"x","new":"\\u00e4\xc3\xa4"}'
    joined = event("discovered", device(9))
    ctl.daemon.tell(joined, odd)
    assert [line.encode() for line in told(tmp_path, 2)] == [encode(joined), odd]
    assert running.end() == 130
    assert running.rest(running.out) == []
    assert running.rest(running.err) == []


def test_it_runs_for_nothing_that_watch_would_not_print(ctl: Ctl, noting: str, tmp_path: Path) -> None:
    """After a doubt, only for those who leave it otherwise than they entered it; and for the wanted kinds alone."""
    executing(ctl, noting, "--kind", "offline", "--kind", "online")
    ctl.daemon.tell(
        event("network_down"), event("network_up"), came(device(7), "unknown"), event("discovered", device(9)),
        left(device(20, "offline"), "unknown"),
    )  # fmt: skip
    assert [json.loads(line)["device"]["hostname"] for line in told(tmp_path, 1)] == ["host20"]


def test_a_difference_between_two_snapshots_has_the_shape_of_an_event(ctl: Ctl, noting: str, tmp_path: Path) -> None:
    executing(ctl, noting)
    ctl.daemon.snapshot = [snapshot(device(7), device(20), cursor="b-1")]
    ctl.daemon.cut()
    (line,) = told(tmp_path, 1)
    said = json.loads(line)
    assert (said["type"], said["kind"], said["cursor"], said["device"]["hostname"]) == (
        "event", "forgotten", "b-1", "host8",
    )  # fmt: skip
    assert said["at"].endswith("Z")


def test_nothing_that_a_device_says_reaches_a_shell(ctl: Ctl, tmp_path: Path, noting: str) -> None:
    """No shell runs at all: what looks like one's words is an argument."""
    command = f"{noting} ; touch {tmp_path}/owned & $(touch {tmp_path}/owned) `touch {tmp_path}/owned`"
    executing(ctl, command)
    evil = f"$(touch {tmp_path}/owned)`touch {tmp_path}/owned`;touch {tmp_path}/owned\n"
    ctl.daemon.tell(event("discovered", device(9, hostname=evil)))
    assert json.loads(told(tmp_path, 1)[0])["device"]["hostname"] == evil
    assert not (tmp_path / "owned").exists()


def test_one_that_fails_is_told_on_stderr(ctl: Ctl) -> None:
    running = executing(ctl, "false")
    ctl.daemon.tell(event("discovered", device(9, mac="\x1b[2J")))
    assert running.talk() == "netscanctl: false failed for discovered [2J: exit code 1"


@pytest.mark.parametrize(
    "args", [["--exec", ""], ["--exec", "no-such-command"], ["--exec", "'"], ["--exec", "true", "--json"], ["--table"],
             ["--table", "--json"]], ids=" ".join,
)  # fmt: skip
def test_what_cannot_be_meant_is_a_usage_error(ctl: Ctl, daemon: FakeDaemon, args: list[str]) -> None:
    done = ctl.run("watch", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert daemon.asked == []


# ---- --cursor-file


def test_the_next_run_goes_on_behind_what_was_done(ctl: Ctl, daemon: FakeDaemon, noting: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    running = executing(ctl, noting, "--cursor-file", str(place))
    daemon.tell(event("discovered", device(9), cursor="k3f9-2"))
    told(tmp_path, 1)
    until(place, "k3f9-2\n")
    assert running.end() == 130
    daemon.resumed = [RESUMED, left(device(7, "offline"), cursor="k3f9-3")]
    executing(ctl, noting, "--cursor-file", str(place), "--since", "k3f9-0")
    assert json.loads(told(tmp_path, 2)[1])["cursor"] == "k3f9-3"
    assert daemon.asked[-1][2] == {"updates": "changes", "since": "k3f9-2"}
    until(place, "k3f9-3\n")


def until(file: Path, text: str) -> None:
    ends = time.monotonic() + DEADLINE
    while not file.exists() or file.read_text() != text:
        assert time.monotonic() < ends, file.exists() and file.read_text()
        time.sleep(0.01)


def test_a_change_counts_as_told_only_when_its_command_has_ended(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path) -> None:
    """Who is killed in the middle of it tells it again: twice is better than never."""
    place = tmp_path / "place"
    running = executing(ctl, f"sh -c 'touch {tmp_path}/runs; exec sleep 1000'", "--cursor-file", str(place))
    until(place, "k3f9-1\n")
    daemon.tell(event("discovered", device(9), cursor="k3f9-2"))
    until(tmp_path / "runs", "")
    assert running.end() == 130
    assert place.read_text() == "k3f9-1\n"


@pytest.mark.parametrize("args", [[], ["--json"]], ids=str)
def test_lines_keep_their_place_too(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path, args: list[str]) -> None:
    place = tmp_path / "place"
    ctl.start("watch", *args, "--kind", "offline", "--cursor-file", str(place))
    daemon.until_watched()
    until(place, "k3f9-1\n")
    daemon.tell(event("discovered", device(9), cursor="k3f9-2"))
    until(place, "k3f9-2\n")


def test_a_place_that_is_gone_is_said(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "place").write_text("old-7\n")
    running = ctl.start("watch", "--cursor-file", str(tmp_path / "place"))
    assert (
        running.talk()
        == "netscanctl: cursor old-7 has expired; showing the current list instead (changes since then are lost)"
    )
    assert running.line().startswith("STATUS")
    until(tmp_path / "place", "k3f9-1\n")


@pytest.mark.parametrize("content", [b"two words", b"\xff\xfe", b"a\nb", b"x" * 200])
def test_a_file_that_holds_something_else_is_not_touched(ctl: Ctl, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "place").write_bytes(content)
    done = ctl.run("watch", "--cursor-file", str(tmp_path / "place"))
    assert done.returncode == 2
    assert (tmp_path / "place").read_bytes() == content


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_asked(ctl: Ctl, tmp_path: Path) -> None:
    done = ctl.run("watch", "--cursor-file", str(tmp_path / "none/place"))
    assert (done.returncode, done.stdout, ctl.daemon.asked) == (2, "", [])
    assert done.stderr == f"netscanctl: --cursor-file: {tmp_path}/none/place: No such file or directory\n"
