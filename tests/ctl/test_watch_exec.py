"""`watch --exec` and `--cursor-file`, as real processes."""

import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from netscand.protocol import encode
from tests.ctl.conftest import Ctl, Running
from tests.ctl.fake_daemon import DEADLINE, FakeDaemon
from tests.ctl.messages import HOME, LATER, came, device, event, left, resumed, snapshot


@pytest.fixture
def noting(tmp_path: Path) -> str:
    """A command that appends its stdin to the file `log`, one line per run."""
    return shlex.join([sys.executable, "-S", "-c", "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())",
                       str(tmp_path / "log")])  # fmt: skip


def logged(folder: Path, count: int) -> list[str]:
    """Return the log, once it has `count` lines."""
    file = folder / "log"
    until(lambda: file.exists() and file.read_text().count("\n") >= count, file)
    return file.read_text().splitlines()


def until(true: Callable[[], object], file: Path) -> None:
    """Wait until it is true of the file."""
    ends = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < ends, file.exists() and file.read_text()
        time.sleep(0.01)


def holds(file: Path, text: str) -> None:
    """Wait until the file has this content."""
    until(lambda: file.exists() and file.read_text() == text, file)


def executing(ctl: Ctl, command: str, *args: str) -> Running:
    running = ctl.start("watch", "--exec", command, *args)
    ctl.daemon.until_watched()
    return running


def test_exec_passes_each_event_as_received(ctl: Ctl, noting: str, tmp_path: Path) -> None:
    running = executing(ctl, noting)
    odd = b'{ "type":"event","kind":"flood", "cursor":"a-2","at":"x","new":"\\u00e4\xc3\xa4"}'
    joined = event("discovered", device(9))
    ctl.daemon.send(joined, odd)
    assert [line.encode() for line in logged(tmp_path, 2)] == [encode(joined), odd]
    assert running.end() == 130
    assert running.rest(running.out) == []
    assert running.rest(running.err) == []


def test_exec_runs_only_for_events_that_watch_prints(ctl: Ctl, noting: str, tmp_path: Path) -> None:
    """After an outage, only for devices with another status than before; and only for the given kinds."""
    executing(ctl, noting, "--kind", "offline", "--kind", "online")
    ctl.daemon.send(
        event("network_down"), event("network_up"), came(device(7), "unknown"), event("discovered", device(9)),
        left(device(20, "offline"), "unknown"),
    )  # fmt: skip
    assert [json.loads(line)["device"]["hostname"] for line in logged(tmp_path, 1)] == ["host20"]


def test_a_difference_of_snapshots_is_passed_as_an_event(ctl: Ctl, noting: str, tmp_path: Path) -> None:
    executing(ctl, noting)
    ctl.daemon.snapshot = [snapshot(device(7), device(20), cursor="b-1")]
    ctl.daemon.cut()
    (line,) = logged(tmp_path, 1)
    event_ = json.loads(line)
    assert (event_["type"], event_["kind"], event_["cursor"], event_["device"]["hostname"]) == (
        "event", "forgotten", "b-1", "host8",
    )  # fmt: skip
    assert event_["at"].endswith("Z")


def test_exec_passes_no_text_of_a_device_to_a_shell(ctl: Ctl, tmp_path: Path, noting: str) -> None:
    """No shell runs at all: shell syntax is passed as arguments."""
    command = f"{noting} ; touch {tmp_path}/owned & $(touch {tmp_path}/owned) `touch {tmp_path}/owned`"
    executing(ctl, command)
    evil = f"$(touch {tmp_path}/owned)`touch {tmp_path}/owned`;touch {tmp_path}/owned\n"
    ctl.daemon.send(event("discovered", device(9, hostname=evil)))
    assert json.loads(logged(tmp_path, 1)[0])["device"]["hostname"] == evil
    assert not (tmp_path / "owned").exists()


def test_exec_passes_the_fields_of_an_event_as_variables(ctl: Ctl, tmp_path: Path) -> None:
    """All of them, each on one line, in any locale; a name of the LAN is a value, never a command."""
    printed = tmp_path / "log"
    program = shlex.join(["sh", "-c", f"env | grep ^NETSCAND_ | sort >{printed}.new; mv {printed}.new {printed}"])
    name = f"客厅\n$(touch {tmp_path}/owned);`touch {tmp_path}/owned`\x1b[2J"
    running = ctl.start("watch", "--exec", program, LC_ALL="C", PYTHONUTF8="0", NETSCAND_OTHER="inherited")
    ctl.daemon.until_watched()
    ctl.daemon.send(event("discovered", device(9, hostname=name, ip=None), address="192.168.1.9"))
    until(printed.exists, printed)
    assert dict(line.split("=", 1) for line in printed.read_text().splitlines()) == {
        "NETSCAND_SITE": "",
        "NETSCAND_KIND": "discovered", "NETSCAND_AT": LATER, "NETSCAND_CURSOR": "k3f9-2", "NETSCAND_NETWORK": HOME,
        "NETSCAND_OTHER": "", "NETSCAND_IP": "192.168.1.9", "NETSCAND_MAC": "a4:83:e7:00:00:09",
        "NETSCAND_NAME": f"客厅 $(touch {tmp_path}/owned);`touch {tmp_path}/owned`[2J",
        "NETSCAND_VENDOR": "Apple, Inc.", "NETSCAND_STATUS": "online", "NETSCAND_KNOWN": "no",
        "NETSCAND_REASON": "answered a probe", "NETSCAND_TAGS": "", "NETSCAND_PERSON": "",
    }  # fmt: skip
    assert not (tmp_path / "owned").exists()
    printed.unlink()
    ctl.daemon.send(event("network_down"))
    until(printed.exists, printed)
    assert "NETSCAND_MAC=\n" in printed.read_text()
    assert running.end() == 130


@pytest.mark.parametrize(
    ("command", "word"),
    [("echo hi | cat", "|"), ("echo hi > /dev/null", ">"), ("true && false", "&&"), ("true ; false", ";"),
     ("echo hi 2>&1", "2>&1"), ("cat </dev/null", "</dev/null"), ("echo hi; true", "hi;"), ("grep a|b", ""),
     ("sh -c 'echo hi | cat'", ""), ("echo hi", "")],
)  # fmt: skip
def test_shell_syntax_in_exec_is_reported_once(ctl: Ctl, command: str, word: str) -> None:
    """It is an argument of CMD, which nobody means."""
    running = executing(ctl, command)
    notices = [f'netscanctl: --exec: no shell runs CMD, which gets "{word}" as an argument; for a shell: sh -c "…"']
    assert running.end() == 130
    assert running.rest(running.err) == (notices if word else [])


def test_a_failed_run_is_reported_on_stderr(ctl: Ctl) -> None:
    running = executing(ctl, "false")
    ctl.daemon.send(event("discovered", device(9, mac="\x1b[2J")))
    assert running.notice() == "netscanctl: false failed for discovered [2J: exit code 1"


# ---- --cursor-file


def test_the_next_run_resumes_after_the_last_event(ctl: Ctl, daemon: FakeDaemon, noting: str, tmp_path: Path) -> None:
    file = tmp_path / "cursor"
    running = executing(ctl, noting, "--cursor-file", str(file))
    daemon.send(event("discovered", device(9), cursor="k3f9-2"))
    logged(tmp_path, 1)
    holds(file, "k3f9-2\n")
    assert running.end() == 130
    daemon.resumed = [resumed("k3f9-2"), left(device(7, "offline"), cursor="k3f9-3")]
    executing(ctl, noting, "--cursor-file", str(file), "--since", "k3f9-0")
    assert json.loads(logged(tmp_path, 2)[1])["cursor"] == "k3f9-3"
    assert daemon.requests[-1][2] == {"updates": "changes", "since": "k3f9-2"}
    holds(file, "k3f9-3\n")


def test_the_cursor_is_saved_after_the_command_has_ended(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path) -> None:
    """If we are killed during the command, its event is passed again: twice is better than never."""
    file = tmp_path / "cursor"
    running = executing(ctl, f"sh -c 'touch {tmp_path}/runs; exec sleep 1000'", "--cursor-file", str(file))
    holds(file, "k3f9-1\n")
    daemon.send(event("discovered", device(9), cursor="k3f9-2"))
    holds(tmp_path / "runs", "")
    assert running.end() == 130
    assert file.read_text() == "k3f9-1\n"


@pytest.mark.parametrize("args", [[], ["--json"]], ids=str)
def test_lines_and_json_save_the_cursor(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path, args: list[str]) -> None:
    file = tmp_path / "cursor"
    ctl.start("watch", *args, "--kind", "offline", "--cursor-file", str(file))
    daemon.until_watched()
    holds(file, "k3f9-1\n")
    daemon.send(event("discovered", device(9), cursor="k3f9-2"))
    holds(file, "k3f9-2\n")


def test_an_expired_cursor_is_reported(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "cursor").write_text("old-7\n")
    running = ctl.start("watch", "--cursor-file", str(tmp_path / "cursor"))
    reason = "cursor old-7 has expired; showing the current list instead (changes since then are lost)"
    assert running.notice() == f"netscanctl: {reason}"
    assert running.line().startswith("STATUS")
    holds(tmp_path / "cursor", "k3f9-1\n")


@pytest.mark.parametrize("content", [b"two words", b"\xff\xfe", b"a\nb", b"x" * 200])
def test_a_file_without_a_cursor_is_not_overwritten(ctl: Ctl, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cursor").write_bytes(content)
    assert ctl.fails(2, "watch", "--cursor-file", str(tmp_path / "cursor"))
    assert (tmp_path / "cursor").read_bytes() == content


def test_an_unwritable_cursor_file_fails_at_once(ctl: Ctl, tmp_path: Path) -> None:
    """Nothing is sent to the daemon before."""
    failure = ctl.fails(2, "watch", "--cursor-file", f"{tmp_path}/none/cursor")
    assert failure == f"--cursor-file: {tmp_path}/none/cursor: No such file or directory"
    assert ctl.daemon.requests == []
