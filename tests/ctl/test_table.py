"""`watch --table` on a terminal of its own: drawn, resized, suspended, left as it was found."""

import os
import re
import signal
import time

import pytest

from netscanctl.table_view import ENTER, LEAVE
from tests.ctl.conftest import Ctl, OnTerminal, bare
from tests.ctl.fake_daemon import DEADLINE, FakeDaemon
from tests.ctl.messages import came, device, event, left, network, snapshot
from tests.ctl.test_terminal import hostile, obeyed

__all__ = ["hostile"]  # a fixture

MOVES = re.compile(r"\x1b\[(\d+);1H|\x1b\[(2?)J|\x1b\[K|(\x1b\[\?\d+[hl])|\r?\n|\x1b\[[\d;]*m|([^\x1b\r\n]+)")


def on_screen(shown: OnTerminal) -> list[str]:
    """What a person sees now: the little of a terminal that the table uses."""
    text = shown.written.decode(errors="replace").rpartition(ENTER)[2]
    lines, row, column = [""] * 60, 0, 0
    for found in MOVES.finditer(text):
        if found[1]:
            row, column = int(found[1]) - 1, 0
        elif found[0].endswith("J"):
            lines[row:] = [""] * (60 - row)
            if found[2]:
                lines = [""] * 60
        elif found[0] == "\x1b[K":
            lines[row] = lines[row][:column]
        elif found[4]:
            lines[row] = lines[row][:column].ljust(column) + found[4] + lines[row][column + len(found[4]) :]
            column += len(found[4])
    return "\n".join(lines).rstrip("\n").split("\n")


def table(ctl: Ctl, *args: str, columns: int = 120) -> OnTerminal:
    """A table that stands."""
    shown = ctl.terminal("watch", "--table", *args, columns=columns)
    shown.until(lambda: any("host20" in line for line in on_screen(shown)))
    return shown


def test_the_table_is_drawn_and_updated(ctl: Ctl) -> None:
    shown = table(ctl)
    assert on_screen(shown)[0] == "2 online, 1 offline, 0 unknown"
    ctl.daemon.send(left(device(7, "offline")), event("discovered", device(9)))
    shown.until(lambda: "host9" in "".join(on_screen(shown)))
    now = on_screen(shown)
    assert now[0] == "2 online, 2 offline, 0 unknown"
    assert [line[:9] for line in now[3:7]] == ["- offline", "  offline", "+ online ", "  online "]
    assert "- offline" in now[-3]
    assert "+ discovered" in now[-2]
    assert now[-1].startswith("q quit  / search")


def test_only_changed_lines_are_written(ctl: Ctl) -> None:
    """Who looks from afar has a slow line."""
    shown = table(ctl)
    before = len(shown.written)
    ctl.daemon.send(left(device(7, "offline")))
    shown.until(lambda: "- offline" in on_screen(shown)[-2])
    assert b"host8" not in shown.written[before:]


def test_the_table_follows_the_size_of_the_terminal(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.devices = [device(number) for number in range(1, 41)] + [device(99, hostname="host20", ip="192.168.1.0")]
    shown = table(ctl)
    shown.until(lambda: len(on_screen(shown)) == 24)
    shown.resize(50, 100)
    shown.until(lambda: len(on_screen(shown)) == 3 + 41 + 1)
    shown.resize(10, 100)
    shown.until(lambda: len(on_screen(shown)) == 10)
    assert on_screen(shown)[-2] == "  1 to 5 of 41"
    shown.type("G\x1b[A")
    shown.until(lambda: on_screen(shown)[-2] == "  36 to 40 of 41")
    shown.type("/host20\r")
    shown.until(lambda: on_screen(shown)[-1].startswith("/host20   2 of 41 match"))
    shown.type("q")
    assert shown.process.wait(DEADLINE) == 0


@pytest.mark.parametrize(
    ("how", "code"), [("q", 0), ("\x03", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=repr
)
def test_the_terminal_is_restored(ctl: Ctl, how: str | signal.Signals, code: int) -> None:
    shown = table(ctl)
    assert not shown.echoes()
    if isinstance(how, str):
        shown.type(how)
    else:
        shown.process.send_signal(how)
    shown.until(lambda: shown.written.endswith(LEAVE.encode()))
    assert shown.process.wait(DEADLINE) == code
    assert shown.echoes()
    assert shown.end()[1].count(ENTER) == 1


def test_a_failure_is_printed_after_the_screen_is_left(ctl: Ctl) -> None:
    """After the table has gone, not on the screen that goes with it."""
    code, written = ctl.terminal("watch", "--table", NETSCANCTL_SOCKET="/none").end()
    assert code == 3
    assert "netscand is not running" in written.rpartition(LEAVE)[2]


def test_a_lost_connection_is_shown_until_it_is_back(ctl: Ctl, daemon: FakeDaemon) -> None:
    shown = table(ctl)
    daemon.stop()
    shown.until(lambda: on_screen(shown)[0].endswith("connection lost; reconnecting…"))
    daemon.snapshot = [snapshot(device(7), device(8), device(20), networks=[network()])]
    daemon.start()
    shown.until(lambda: on_screen(shown)[0] == "3 online, 0 offline, 0 unknown")


def test_suspending_restores_the_screen_of_the_shell(ctl: Ctl) -> None:
    shown = table(ctl)
    shown.process.send_signal(signal.SIGTSTP)
    shown.until(lambda: shown.written.endswith(LEAVE.encode()))
    ends = time.monotonic() + DEADLINE
    while _state(shown.process.pid) != "T":
        assert time.monotonic() < ends
    assert shown.echoes()
    shown.process.send_signal(signal.SIGCONT)
    shown.until(lambda: shown.written.count(ENTER.encode()) == 2 and "host20" in "".join(on_screen(shown)))
    assert not shown.echoes()
    ctl.daemon.send(came(device(8)))
    shown.until(lambda: on_screen(shown)[0].startswith("3 online"))


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


def test_the_table_prints_no_control_characters_of_a_device(ctl: Ctl, hostile: FakeDaemon) -> None:
    shown = ctl.terminal("watch", "--table", columns=200)
    hostile.until_watched()
    hostile.send(*(came(one) for one in hostile.devices), event("flood"))
    shown.until(lambda: "flood" in "".join(on_screen(shown)[-2:]))
    ours = re.sub(r"\x1b\[(\d+;1H|2?J|\?\d+[hl])", "", shown.written.decode())
    assert not obeyed(ours)
    assert os.linesep not in bare(ours)
