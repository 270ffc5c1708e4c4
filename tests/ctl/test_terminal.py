"""On a real terminal (pty(7)): colours, the bar, and no control characters from devices (FAULTS T8)."""

import json
import re
import unicodedata

import pytest

from netscanctl.text import width
from netscand.protocol import ScanError, ScanProgress, ScanStarted
from tests.ctl.conftest import Ctl, OnTerminal, bare
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import HOME, came, device, event, left, network, scanned, snapshot, status
from tests.ctl.test_text import HOSTILE

EVIL = list(HOSTILE.values())
EVIL_ONE = "a4:83:e7:00:00:01"


def evil(number: int, text: str) -> object:
    return device(
        number, hostname=text, hostname_source=text, label=text, vendor=text, notes=text, reason=text, kinds=[text]
    )


def obeyed(written: str) -> set[str]:
    """What a terminal would obey of what was written, beside our own colours and the line ends."""
    return {
        char for char in bare(written).replace("\r\n", "") if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")
    }


def test_the_status_is_coloured_and_lines_fit(ctl: Ctl) -> None:
    code, written = ctl.terminal("devices", columns=80).end()
    assert code == 0
    assert "\x1b[32monline \x1b[0m" in written
    assert "\x1b[31moffline\x1b[0m" in written
    assert all(width(line) <= 80 for line in bare(written).splitlines())


@pytest.mark.parametrize("env", [("NO_COLOR", "1"), ("TERM", "dumb")], ids=str)
def test_colours_can_be_disabled(ctl: Ctl, env: tuple[str, str]) -> None:
    _, written = ctl.terminal("devices", columns=120, **{env[0]: env[1]}).end()
    assert "\x1b" not in written


def sane(text: str) -> bool:
    """Whether JSON can carry it: the daemon could never send a lone surrogate."""
    return not any(0xD800 <= ord(char) < 0xE000 for char in text)


@pytest.fixture
def hostile(daemon: FakeDaemon) -> FakeDaemon:
    """A daemon whose LAN is full of evil names, and which cleaned none of them."""
    daemon.devices = [evil(number, text) for number, text in enumerate(EVIL, 1) if sane(text)]  # type: ignore[misc]
    text = "".join(filter(sane, EVIL[:14]))
    daemon.networks = [network(why=text, gateway=text)]
    daemon.status = status(problems=[text])
    daemon.events = [event("discovered", one, network=text, address=text) for one in daemon.devices]
    return daemon


@pytest.mark.parametrize("columns", [60, 100, 200])
def test_hostile_names_are_one_clean_line_per_device(ctl: Ctl, hostile: FakeDaemon, columns: int) -> None:
    code, written = ctl.terminal("devices", columns=columns).end()
    assert code == 0
    assert not obeyed(written)
    assert len(written.splitlines()) == 1 + len(hostile.devices)
    assert all(width(line) <= columns for line in bare(written).splitlines())


@pytest.mark.parametrize(
    "args", [["networks"], ["status"], ["show", EVIL_ONE], ["scan-now"], ["events"], ["label", EVIL_ONE, "\x1b[2J"],
             ["known", EVIL_ONE], ["forget", EVIL_ONE, "--yes"]], ids=" ".join,
)  # fmt: skip
def test_no_command_prints_hostile_text(ctl: Ctl, hostile: FakeDaemon, args: list[str]) -> None:
    hostile.found = scanned(*hostile.devices)
    hostile.scan = [event("discovered", one) for one in hostile.devices]
    code, written = ctl.terminal(*args).end()
    assert code == 0
    assert not obeyed(re.sub(r"\r\x1b\[K[█░]{30} [^\r]*", "", written).replace("\r\x1b[K", ""))


def test_watch_prints_no_hostile_text(ctl: Ctl, hostile: FakeDaemon) -> None:
    shown = ctl.terminal("watch")
    hostile.until_watched()
    hostile.send(*(came(one) for one in hostile.devices))
    hostile.send(ScanError(scan_id=1, network="\x1b[2J", message="\x1b]0;owned\x07\nnetscanctl: fine"))
    hostile.send(event("flood"))
    written = shown.until("flood")
    assert not obeyed(written)
    assert len([line for line in bare(written).splitlines() if " online " in line and "+" in line]) == len(
        hostile.devices
    )


@pytest.mark.parametrize("args", [["devices", "--json"], ["watch", "--json"]], ids=" ".join)
def test_json_on_a_terminal_has_no_control_characters(ctl: Ctl, hostile: FakeDaemon, args: list[str]) -> None:
    shown = ctl.terminal(*args, columns=500)
    if args[0] == "watch":
        shown.until('"more":false}')
        hostile.stop()
        shown.until("connecting")
        written = shown.written.decode().partition("netscanctl: ")[0]
    else:
        written = shown.end()[1]
    assert not obeyed(written)
    names = {one["hostname"] for one in json.loads(written)["devices"]}
    assert names == {one.hostname for one in hostile.devices}


# ---- the bar


def scanning(daemon: FakeDaemon) -> None:
    daemon.scan = [
        ScanStarted(scan_id=41, networks=[HOME], requested_by="timer"),
        ScanProgress(scan_id=41, done=77, total=99, found=66),
        ScanStarted(scan_id=42, networks=[HOME], requested_by="client"),
        ScanProgress(scan_id=42, done=0, total=254, found=0),
        event("discovered", device(9)),
        left(device(20, "offline")),
        ScanProgress(scan_id=42, done=254, total=254, found=2),
    ]
    daemon.found = scanned(device(7), device(9))


def on_screen(written: str) -> list[str]:
    """What stays on the screen: of a line, what was written after it was last cleared."""
    return [bare(line.rpartition("\r\x1b[K")[2]) for line in written.replace("\r\n", "\n").strip("\n").split("\n")]


def test_a_scan_shows_a_bar_and_leaves_a_clean_screen(ctl: Ctl, daemon: FakeDaemon) -> None:
    scanning(daemon)
    shown = ctl.terminal("scan-now", columns=100)
    code, written = shown.end()
    assert code == 0
    assert f"{'░' * 30} 0/254 addresses, 0 found" in written
    assert f"{'█' * 30} 254/254 addresses, 2 found" in written
    assert "77/99" not in written
    screen = on_screen(written)
    assert not [line for line in screen if "█" in line or "░" in line]
    assert [" ".join(line.split()[-8:-3]) for line in screen if "+ discovered" in line] != []
    assert not [line for line in screen if "- offline" in line]
    assert screen[-2].startswith("netscanctl: 2 devices answered in 0.9 s")
    assert screen[-1] == "netscanctl: online, but did not answer this scan: host20 (a4:83:e7:00:00:14)"
    assert len([line for line in screen if line.startswith("online")]) == 2


def test_the_bar_is_not_drawn_into_a_pipe(ctl: Ctl, daemon: FakeDaemon) -> None:
    scanning(daemon)
    done = ctl.run("scan-now")
    assert "█" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr


def test_ctrl_c_during_a_scan_removes_the_bar(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.hold = True
    shown = ctl.terminal("scan-now")
    shown.until("waiting for the scan")
    shown.type("\x03")
    code, written = shown.end()
    assert code == 130
    assert "Traceback" not in written
    assert written.endswith("\r\x1b[K")


def test_a_daemon_that_dies_in_a_scan_is_one_line_on_stderr(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.hold = True
    shown = ctl.terminal("scan-now")
    shown.until("waiting for the scan")
    daemon.until(lambda: len(daemon.received) == 1)
    daemon.stop()
    code, written = shown.end()
    assert code == 3
    assert on_screen(written)[-1].startswith("netscanctl: ")
    assert "Traceback" not in written


@pytest.mark.parametrize("args", [["watch"], ["watch", "--json"], ["wait-for", "host8"]], ids=" ".join)
def test_ctrl_c_ends_quietly(ctl: Ctl, daemon: FakeDaemon, args: list[str]) -> None:
    shown: OnTerminal = ctl.terminal(*args)
    daemon.until_watched()
    shown.type("\x03")
    code, written = shown.end()
    assert code == 130
    assert "Traceback" not in written
    assert "Aborted" not in written


def test_ctrl_c_while_it_reconnects_ends_quietly(ctl: Ctl, daemon: FakeDaemon) -> None:
    shown = ctl.terminal("watch")
    daemon.until_watched()
    daemon.stop()
    shown.until("connecting…")
    shown.type("\x03")
    code, written = shown.end()
    assert code == 130
    assert "Traceback" not in written


def test_a_change_of_today_has_no_date_on_a_terminal(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.snapshot = [snapshot()]
    shown = ctl.terminal("watch")
    daemon.until_watched()
    daemon.send(event("flood", at=""))
    assert re.search(r"\n\d\d:\d\d:\d\d ! flood ", bare(shown.until("flood")))
