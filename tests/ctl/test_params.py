"""Arguments: which device is meant, since when, and what a shell completes."""

import shlex
import shutil
import subprocess
from datetime import datetime, timedelta, timezone

import pytest

from netscanctl.client import Failure, Usage
from netscanctl.params import as_ip, as_mac, find_one, matching, parse_cursor, parse_since
from tests.ctl.conftest import ROOT, Ctl
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import HOME, address, device, network
from tests.ctl.test_text import HOSTILE

MAC = "a4:83:e7:00:00:14"

# ---- which device

PHONE = device(1, hostname="Janes-Phone.lan", label="Jane's phone")
PRINTER = device(2, hostname="printer")
OTHER = device(3, hostname="printer", addresses=[address("192.168.1.3"), address("192.168.1.99")])
ALL = [PHONE, PRINTER, OTHER]


@pytest.mark.parametrize("text", ["a4:83:e7:00:00:01", "A4-83-E7-00-00-01", "a483.e700.0001", "a483e7000001"])
def test_a_mac_is_accepted_in_every_usual_notation(text: str) -> None:
    assert as_mac(text) == "a4:83:e7:00:00:01"
    assert find_one(ALL, text) is PHONE


@pytest.mark.parametrize("text", ["a4:83:e7:00:00", "printer", "192.168.1.1", "", "a4:83:e7:00:00:01:02",
                                  "192.168.100.200", "2001:db8:0:12", "a4-83:e7-00:00-01"])  # fmt: skip
def test_what_is_no_mac_is_none(text: str) -> None:
    assert as_mac(text) is None


def test_an_address_is_normalized() -> None:
    assert as_ip("FE80:0::1") == "fe80::1"
    assert as_ip("printer") is None


@pytest.mark.parametrize("text", ["Jane's phone", "jane's PHONE", "janes-phone.lan", "janes-phone"])
def test_a_device_matches_by_label_name_and_short_name(text: str) -> None:
    assert find_one(ALL, text) is PHONE


def test_part_of_a_name_matches_no_device() -> None:
    with pytest.raises(Failure, match=r'no device matches "jane"; .*: netscanctl devices jane'):
        find_one(ALL, "jane")


def test_an_ambiguous_name_lists_the_macs() -> None:
    with pytest.raises(Failure, match=r'"printer" matches 2 devices; .* a4:83:e7:00:00:02, a4:83:e7:00:00:03'):
        find_one(ALL, "printer")


def test_an_address_matches_its_current_device_first() -> None:
    assert find_one(ALL, "192.168.1.99") is OTHER
    holder = device(4, ip="192.168.1.99")
    assert matching([*ALL, holder], "192.168.1.99") == [holder]


def test_a_failure_quotes_hostile_text_in_one_clean_line() -> None:
    with pytest.raises(Failure) as failure:
        find_one(ALL, "\x1b[31m\nx")
    assert str(failure.value).isprintable()


# ---- since when

TOKYO = timezone(timedelta(hours=9))
NOW = datetime(2026, 11, 24, 7, 2, 11, 42_000, TOKYO)


@pytest.mark.parametrize("cursor", ["k3f9-118", "0a1b2c-0", "2026-118"])
def test_a_cursor_is_not_changed(cursor: str) -> None:
    assert parse_since(cursor, NOW) == cursor


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", "2026-11-23T22:00:41.042Z"), ("30m", "2026-11-23T21:32:11.042Z"), ("30 min", "2026-11-23T21:32:11.042Z"),
     ("2h", "2026-11-23T20:02:11.042Z"), ("3d", "2026-11-20T22:02:11.042Z"), ("1w", "2026-11-16T22:02:11.042Z"),
     ("0.5h", "2026-11-23T21:32:11.042Z"), ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00.000Z"),
     ("2026-11-23T10:00:00.5+01:00", "2026-11-23T09:00:00.500Z")],
)  # fmt: skip
def test_a_time_or_an_age_becomes_utc(text: str, expected: str) -> None:
    assert parse_since(text, NOW) == expected


@pytest.mark.parametrize(
    ("text", "hour"), [("2026-11-24", 0), ("2026-11-24 03:30", 3), ("3:30", 3), ("03:30:00", 3), ("today", 0)]
)
def test_a_time_without_a_zone_is_local(text: str, hour: int) -> None:
    local = datetime.fromisoformat(parse_since(text, NOW)).astimezone()
    assert (local.day, local.hour, local.minute) == (24, hour, 30 if hour else 0)


@pytest.mark.usefixtures("in_tokyo")
@pytest.mark.parametrize(
    ("text", "expected"),
    [("today", "2026-11-23T15:00:00.000Z"), ("yesterday", "2026-11-22T15:00:00.000Z"),
     ("03:30", "2026-11-23T18:30:00.000Z"), ("2026-11-24 03:30", "2026-11-23T18:30:00.000Z")],
)  # fmt: skip
def test_a_day_starts_at_local_midnight(text: str, expected: str) -> None:
    assert parse_since(text, NOW) == expected


@pytest.mark.parametrize("text", ["soon", "2h", "today", "2026-11-23", ""])
def test_watch_since_accepts_only_a_cursor(text: str) -> None:
    message = f'--since "{text}": expected a cursor (such as k3f9-118)'
    with pytest.raises(Usage) as refused:
        parse_cursor(text)
    assert str(refused.value).startswith(message)
    assert parse_cursor("k3f9-118") == "k3f9-118"
    with pytest.raises(Usage) as refused:
        parse_since(f"{text}!", NOW)
    assert str(refused.value).startswith(f'--since "{text}!": expected a cursor')


@pytest.mark.parametrize(
    "text", ["7", "2026", "", "soon", "2026-13-01", "25:00", "5 years", "99999999999d", "K3F9-1", "-1h", "1-x"]
)
def test_an_invalid_since_is_a_usage_error(text: str) -> None:
    with pytest.raises(Usage, match="--since"):
        parse_since(text, NOW)


# ---- completion


def completed(ctl: Ctl, line: str, **env: str) -> list[str]:
    """Return the completions of bash for the last word of the line."""
    variables = {"_NETSCANCTL_COMPLETE": "bash_complete", "COMP_LINE": line}
    done = ctl.run(**(variables | env))
    assert (done.returncode, done.stderr) == (0, "")
    return [offer.removeprefix("plain,") for offer in done.stdout.splitlines() if offer]


@pytest.mark.parametrize("command", ["show", "wait-for", "label", "known", "patience", "forget", "events --device"])
def test_devices_are_completed(ctl: Ctl, command: str) -> None:
    assert completed(ctl, f"netscanctl {command} ho") == ["host20", "host7", "host8"]
    assert completed(ctl, f"netscanctl {command} 192.168.1.2") == ["192.168.1.20"]


@pytest.mark.parametrize("line", ["devices --network 192.168.1.0", "scan-now 192.168.1.0"])
def test_networks_are_completed(ctl: Ctl, daemon: FakeDaemon, line: str) -> None:
    daemon.networks.append(network("172.17.0.0/16@docker0", "excluded"))
    assert completed(ctl, f"netscanctl {line}") == [HOME]


def test_names_unsafe_for_a_shell_are_not_completed(ctl: Ctl, daemon: FakeDaemon) -> None:
    """A completed name is executed as if the user had typed it."""
    shell = ["$(reboot)", "`reboot`", "a;reboot", "-rf", "--yes", 'a"b', "~", "*", "a\\b", "!x", "a|b", "#",
             "$x", "a&b", "<a", "{a,b}"]  # fmt: skip
    evil = [*shell, *(text for text in HOSTILE.values() if text.isprintable() and not text.isascii())]
    daemon.devices = [device(number, hostname=text, label=text, ip=None) for number, text in enumerate(evil, 1)]
    daemon.devices.append(device(99, hostname="a.b_c-9", label="Jane's TV (2)", ip="fe80::1"))
    assert completed(ctl, "netscanctl show ") == ["Jane's TV (2)", "a.b_c-9", "fe80::1"]


@pytest.mark.parametrize(
    ("line", "found"),
    [("show Li", ["Living room speaker"]), (r"show Living\ r", ["Living room speaker"]),
     ("show 'Living r", ["Living room speaker"]), ('show "Living ', ["Living room speaker"]),
     (r"show Living\ ", ["Living room speaker"]), (r"label Living\ room\ speaker ", []),
     ("show a4:83:e7:00:00:1", [MAC]),
     ("show a4", [MAC, "a4:83:e7:00:00:07", "a4:83:e7:00:00:08"]),
     ("scan-now eth", ["eth0"]), ("scan-now hos", ["host7", "host8"]),
     ("scan-now ", [HOME, "eth0"])],
)  # fmt: skip
def test_names_with_spaces_macs_and_targets_are_completed(
    ctl: Ctl, daemon: FakeDaemon, line: str, found: list[str]
) -> None:
    daemon.devices[2].label, daemon.devices[2].hostname = "Living room speaker", None
    assert sorted(completed(ctl, f"netscanctl {line}")) == sorted(found)


@pytest.mark.skipif(shutil.which("bash") is None, reason="not installed: bash")
@pytest.mark.parametrize(
    ("words", "line", "replies"),
    [(["show", "Li"], "show Li", [r"Living\ room\ speaker"]), (["show", "Ja"], "show Ja", [r"Jane\'s\ TV\ \(2\)"]),
     (["show", '"Living r'], 'show "Living r', ["Living room speaker"]), (["show", "'Ja"], "show 'Ja", []),
     (["show", "a4", ":", "83", ":", "e7", ":", "00", ":", "00", ":", "1"], "show a4:83:e7:00:00:1", ["14"]),
     (["scan-now", "192.168.1.0"], "scan-now 192.168.1.0", [HOME]), (["dev"], "dev", ["devices"])],
)  # fmt: skip
def test_bash_gets_quoted_names_and_the_end_of_a_mac(
    ctl: Ctl, daemon: FakeDaemon, words: list[str], line: str, replies: list[str]
) -> None:
    """The script itself, in bash, with the variables that bash sets for it: a colon is a word of its own."""
    daemon.devices[2].label, daemon.devices[1].label = "Living room speaker", "Jane's TV (2)"
    line = f"netscanctl {line}"
    program = (
        f'netscanctl() {{ {shlex.join(ctl.argv())} "$@"; }}; export -f netscanctl\n'
        f"{ctl.run('completion', 'bash').stdout.replace('env COMP_LINE', 'COMP_LINE')}\n"
        f"COMP_WORDS=({shlex.join(['netscanctl', *words])}); COMP_CWORD={len(words)}\n"
        f"COMP_LINE={shlex.quote(line)}; COMP_POINT=${{#COMP_LINE}}\n"
        "compopt() { :; }; _netscanctl_completion netscanctl; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", program], env=ctl.env(), cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == (replies or [""])


def test_completion_without_a_daemon_is_silent(ctl: Ctl) -> None:
    assert completed(ctl, "netscanctl show h", NETSCANCTL_SOCKET="/none") == []
    assert completed(ctl, "netscanctl --socket /none show h") == []
