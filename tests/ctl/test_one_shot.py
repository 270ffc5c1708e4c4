"""One-shot commands: their output and exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import click
import pytest

from netscanctl.cli import cli
from netscanctl.doctor.access_checks import check_configuration
from netscand import __version__
from netscand.checkout import COMMANDS
from netscand.protocol import PROTOCOL, NetworkList, PresenceDay, ScanRequest, ScanTicket, encode
from tests.ctl.conftest import ROOT, Ctl
from tests.ctl.fake_daemon import DEADLINE, FakeDaemon
from tests.ctl.messages import AT, HOME, OFFICE, address, conflict, device, network, scanned


def test_devices_are_a_plain_table_in_a_pipe(ctl: Ctl) -> None:
    done = ctl.run("devices")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "STATUS   SINCE                IP            MAC                NAME    VENDOR       KIND",
        "online   2026-11-24 07:02:11  192.168.1.7   a4:83:e7:00:00:07  host7   Apple, Inc.  -",
        "offline  2026-11-24 07:02:11  192.168.1.8   a4:83:e7:00:00:08  host8   Apple, Inc.  -",
        "online   2026-11-24 07:02:11  192.168.1.20  a4:83:e7:00:00:14  host20  Apple, Inc.  -",
    ]


def test_an_empty_list_is_a_success(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.devices = []
    done = ctl.run("devices")
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (0, 1, "")


def test_a_text_without_matches_is_reported_and_succeeds(ctl: Ctl) -> None:
    done = ctl.run("devices", "nosuchthing")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    assert done.stderr == 'netscanctl: no device matches "nosuchthing"\n'
    assert ctl.run("devices", "nosuchthing", "--format", "csv").stderr == ""
    assert ctl.run("devices", "--unknown").stderr == "netscanctl: no device matches\n"


@pytest.mark.parametrize(
    ("args", "found"),
    [(["--online"], ["07", "14"]), (["--offline"], ["08"]), (["--unknown"], []), (["host2"], ["14"]),
     (["--network", HOME], ["07", "08", "14"]), (["--online", "host7"], ["07"]),
     (["--sort", "name"], ["14", "07", "08"])],
    ids=str,
)  # fmt: skip
def test_devices_are_filtered_and_sorted(ctl: Ctl, args: list[str], found: list[str]) -> None:
    rows = ctl.run("devices", *args).stdout.splitlines()[1:]
    assert [row.split()[4][-2:] for row in rows] == found


@pytest.mark.parametrize("args", [["--json"], ["--format", "json"]], ids=" ".join)
def test_json_is_the_exact_answer_of_the_daemon(ctl: Ctl, daemon: FakeDaemon, args: list[str]) -> None:
    odd = b'{ "cursor":"x",  "new":"\\u00e4\xc3\xa4", "devices":[] }'
    daemon.answers["/api/devices"] = (200, odd)
    assert ctl.process("devices", *args).stdout == odd + b"\n"


@pytest.mark.parametrize(
    ("form", "line"),
    [("csv", f'online,192.168.1.7,a4:83:e7:00:00:07,host7,host7,,"Apple, Inc.",,no,{AT},{AT},{AT},answered a probe,,,'),
     ("ethers", "a4:83:e7:00:00:07 192.168.1.7"), ("hosts", "192.168.1.7 host7")],
)  # fmt: skip
def test_devices_are_printed_in_each_format(ctl: Ctl, form: str, line: str) -> None:
    assert line in ctl.run("devices", "--format", form).stdout.splitlines()


@pytest.mark.parametrize("only", [["--online"], ["host7"], ["--network", HOME]], ids=str)
def test_hosts_gives_no_device_a_name_of_another(ctl: Ctl, daemon: FakeDaemon, only: list[str]) -> None:
    """FIELD case 27, surprise 6: also if the device that a user gave the name to is not printed."""
    daemon.devices[1].label, daemon.devices[1].addresses = "HOST7", []
    for form, line in (("hosts", "192.168.1.7 host7"), ("ethers", "a4:83:e7:00:00:07 192.168.1.7")):
        printed = ctl.run("devices", *only, "--format", form).stdout.splitlines()
        assert (line in printed) is (form == "ethers"), printed


@pytest.mark.parametrize(
    "who", ["host7", "HOST7", "192.168.1.7", "a4:83:e7:00:00:07", "A4-83-E7-00-00-07", "Jane's phone"]
)
def test_show_finds_a_device_by_mac_address_name_and_label(ctl: Ctl, daemon: FakeDaemon, who: str) -> None:
    daemon.devices[0].label = "Jane's phone"
    done = ctl.run("show", who)
    assert done.returncode == 0
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[:6])
    assert lines["mac"] == "a4:83:e7:00:00:07"
    assert lines["reason"] == "answered a probe"
    assert "192.168.1.7  192.168.1.0/24@eth0  arp_reply" in done.stdout


@pytest.mark.parametrize("who", ["unknown", "192.168.1.99", "aa:bb:cc:dd:ee:ff"])
def test_show_of_an_unknown_device_fails(ctl: Ctl, who: str) -> None:
    assert "no device" in ctl.fails(1, "show", who)


def test_show_of_an_ambiguous_name_fails_and_lists_the_macs(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.devices[1].hostname = "host7"
    assert "a4:83:e7:00:00:07, a4:83:e7:00:00:08" in ctl.fails(1, "show", "host7")


def test_an_address_in_conflict_is_explained_and_marked(ctl: Ctl, daemon: FakeDaemon) -> None:
    """Two devices use it: `show` says so, and names both; the list marks both."""
    printer = device(20, ip="192.168.1.7", addresses=[address("192.168.1.7")], hostname="printer")
    daemon.devices = [device(7), printer, device(8)]
    daemon.conflicts = [conflict()]
    said = ctl.fails(1, "show", "192.168.1.7")
    assert "2 devices use the address 192.168.1.7 at the same time (address conflict); use one MAC address" in said
    assert "host7 (a4:83:e7:00:00:07), printer (a4:83:e7:00:00:14)" in said
    assert ctl.run("devices").stdout.count(" conflict\n") == 2
    daemon.conflicts = []
    assert '"192.168.1.7" matches 2 devices; use a MAC address: ' in ctl.fails(1, "show", "192.168.1.7")


@pytest.mark.parametrize("form", [[], ["--json"], ["--format", "csv"]], ids=str)
def test_an_unknown_network_is_refused_with_the_existing_ones(ctl: Ctl, form: list[str]) -> None:
    failure = ctl.fails(1, "devices", "--network", "foo", *form)
    assert failure == f'unknown network "foo"; expected an id or prefix: {HOME}'


def test_a_prefix_selects_all_networks_that_have_it(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.networks.append(network(OFFICE))
    assert len(ctl.run("devices", "--network", "192.168.1.0/24").stdout.splitlines()) == 1 + 3
    assert ctl.run("devices", "--network", "192.168.1.0/24", "--json").stdout == ctl.run("devices", "--json").stdout
    twin = "192.168.1.0/24@eth1"
    daemon.networks.append(network(twin))
    daemon.devices.append(device(9, network=twin))
    rows = ctl.run("devices", "--network", "192.168.1.0/24").stdout.splitlines()[1:]
    assert [row.split()[4][-2:] for row in rows] == ["07", "08", "09", "14"]
    assert ctl.run("devices", "--network", "192.168.1.0/24", "--json").stdout.count('"status":') == 4


def test_known_devices_or_the_others_are_listed(ctl: Ctl, daemon: FakeDaemon) -> None:
    """`known` is the mark for "mine", so what is not mine must be listable."""
    daemon.devices[1].known = True
    assert [row.split()[4][-2:] for row in ctl.run("devices", "--known").stdout.splitlines()[1:]] == ["08"]
    assert [row.split()[4][-2:] for row in ctl.run("devices", "--not-known").stdout.splitlines()[1:]] == ["07", "14"]
    assert ctl.run("devices", "--not-known", "--json").stdout.count('"status":') == 2


def test_a_new_device_is_marked(ctl: Ctl, daemon: FakeDaemon) -> None:
    """Not known, and first seen within a day."""
    now = datetime.now(UTC)
    for one, hours, known in zip(daemon.devices, (1, 1, 25), (False, True, False), strict=True):
        one.first_seen, one.known = f"{now - timedelta(hours=hours):%FT%T}.000Z", known
    assert [row.split()[-1] for row in ctl.run("devices").stdout.splitlines()[1:]] == ["new", "-", "-"]
    assert "known       no (new)" in ctl.run("show", "host7").stdout


@pytest.mark.parametrize("name", ["HOST7.local", "host7.", "host7"])
def test_a_device_is_found_by_its_mdns_name(ctl: Ctl, name: str) -> None:
    assert "a4:83:e7:00:00:07" in ctl.run("show", name).stdout


def test_an_empty_or_removed_network_is_accepted(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.networks.append(network(OFFICE))
    daemon.devices.append(device(9, "offline", network="10.9.9.0/24@gone0"))
    assert ctl.run("devices", "--network", OFFICE).returncode == 0
    done = ctl.run("devices", "--network", "10.9.9.0/24@gone0", "--online")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    ("args", "message"),
    [(["--online", "--offline"], "--online and --offline exclude each other"),
     (["--known", "--not-known"], "--known and --not-known exclude each other"),
     (["--unknown", "--offline"], "--offline and --unknown exclude each other"),
     (["--json", "--format", "csv"], "--json and --format csv exclude each other")],
)  # fmt: skip
def test_options_that_exclude_each_other_are_refused(ctl: Ctl, args: list[str], message: str) -> None:
    done = ctl.run("devices", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_networks_show_the_reason(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.networks.append(network("172.17.0.0/16@docker0", "excluded", why="docker0 is this host's end of containers"))
    done = ctl.run("networks")
    assert done.stdout.splitlines()[2].startswith("excluded  172.17.0.0/16@docker0 ")
    assert done.stdout.splitlines()[2].endswith("docker0 is this host's end of containers")
    assert ctl.run("networks", "--json").stdout.encode() == encode(NetworkList(networks=daemon.networks)) + b"\n"


def test_status_is_printed(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert "devices    2 online, 1 offline, 0 unknown (without this host)\n" in ctl.run("status").stdout
    assert ctl.run("status", "--json").stdout.encode() == encode(daemon.status) + b"\n"


# ---- reload

PENDING = "[listen] tls_key, [history] path changed; to apply it: systemctl restart netscand"


def test_a_reload_says_which_changes_need_a_restart(ctl: Ctl, daemon: FakeDaemon) -> None:
    """So does `status`, until then; a reload that leaves none says only that it was done."""
    done = ctl.run("reload")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "netscanctl: configuration reloaded\n")
    daemon.status.needs_restart = ["[listen] tls_key", "[history] path"]
    done = ctl.run("reload")
    assert (done.returncode, done.stderr.splitlines()[1]) == (0, f"netscanctl: {PENDING}")
    assert f"restart    {PENDING}\n" in ctl.run("status").stdout
    assert [request[:2] for request in daemon.requests].count(("POST", "/api/reload")) == 2


def test_a_changed_file_is_to_be_reloaded(ctl: Ctl, daemon: FakeDaemon) -> None:
    """`status` says so, and `doctor`."""
    assert "\nreload " not in ctl.run("status").stdout
    daemon.status.config_changed = True
    text = "the file of the configuration has changed since netscand read it"
    assert f"\nreload     {text}; to apply it: sudo netscanctl reload\n" in ctl.run("status").stdout
    (found,) = check_configuration(daemon.status)
    assert (found.verdict, found.found, found.hint) == ("warning", text, "to apply it: sudo netscanctl reload")


def test_a_reload_says_where_netscand_cannot_listen(ctl: Ctl, daemon: FakeDaemon) -> None:
    """The configuration is in force, but not all of it works; other problems have nothing to do with a reload."""
    daemon.status.problems = ["cannot listen on 0.0.0.0:80: Permission denied", "the disk is full"]
    lines = ctl.run("reload").stderr.splitlines()
    assert lines[0] == "netscanctl: configuration reloaded"
    assert lines[1].startswith(
        "netscanctl: warning: cannot listen on 0.0.0.0:80: Permission denied; use a port from 1024"
    )
    assert len(lines) == 2


def test_a_refused_reload_says_why(ctl: Ctl, daemon: FakeDaemon) -> None:
    """With exit code 1, also in a script that prints only errors."""
    gone = "the configuration was not reloaded: /etc/netscand/netscand.toml: no such file"
    daemon.refuse(400, "bad_request", gone, "/api/reload")
    assert ctl.fails(1, "--quiet", "reload") == gone


# ---- scan-now


def test_a_scan_that_takes_too_long_continues(ctl: Ctl, daemon: FakeDaemon) -> None:
    """The daemon does not wait without a limit."""
    daemon.found = ScanTicket(scan_id=42)
    done = ctl.run("scan-now")
    text = "netscanctl: scan 42 takes long, and continues; for what it finds: netscanctl watch\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", text)
    assert ctl.run("scan-now", "--json").stdout == '{"scan_id":42}\n'


def test_a_scan_lists_devices_with_a_summary_on_stderr(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.found = scanned(device(20), device(7))
    done = ctl.run("scan-now")
    assert done.returncode == 0
    assert [row.split()[3] for row in done.stdout.splitlines()[1:]] == ["192.168.1.7", "192.168.1.20"]
    assert done.stderr == (
        "netscanctl: 2 devices answered in 0.9 s, 237 broadcast and 17 unicast frames (192.168.1.0/24@eth0)\n"
    )
    assert daemon.received == [ScanRequest(targets=[])]


def test_a_scan_of_targets_lists_the_devices_there(ctl: Ctl) -> None:
    done = ctl.run("scan-now", "192.168.1.7", "192.168.1.9")
    assert done.returncode == 0
    assert [row.split()[4] for row in done.stdout.splitlines()[1:]] == ["a4:83:e7:00:00:07"]
    assert ctl.daemon.received == [ScanRequest(targets=["192.168.1.7", "192.168.1.9"])]


def test_targets_without_an_answer_are_exit_code_1(ctl: Ctl, daemon: FakeDaemon) -> None:
    """A scan of all networks without one is a success."""
    daemon.found = scanned()
    assert ctl.run("scan-now").returncode == 0
    done = ctl.run("scan-now", "192.168.1.9", "192.168.1.10")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "netscanctl: no target answered")
    assert ctl.run("scan-now", "192.168.1.9", "--json").returncode == 1


def test_scan_json_is_the_answer_of_the_daemon(ctl: Ctl, daemon: FakeDaemon) -> None:
    done = ctl.run("scan-now", "--json")
    assert done.stdout.encode() == encode(daemon.found) + b"\n"
    assert done.stderr == ""


def test_no_wait_prints_the_scan_id_on_stderr(ctl: Ctl) -> None:
    done = ctl.run("scan-now", "--no-wait")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "netscanctl: scan 42 accepted\n")
    assert json.loads(ctl.run("scan-now", "--no-wait", "--json").stdout) == {"scan_id": 42}


def test_a_refused_target_shows_the_message_of_the_daemon(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.refuse(400, "bad_request", "10.9.0.0/24 is not within a scanned network", "/api/scan")
    for more in ([], ["--no-wait"], ["--json"]):
        failure = ctl.fails(1, "scan-now", "10.9.0.0/24", *more)
        assert failure == "10.9.0.0/24 is not within a scanned network"


def test_a_foreign_target_is_explained(ctl: Ctl, daemon: FakeDaemon) -> None:
    """FIELD case 6: the device is known, and probed, but no scan asks for its address."""
    camera = address("192.168.0.64")
    camera.foreign = True
    daemon.devices = [device(7, addresses=[camera], ip="192.168.0.64", hostname="camera")]
    daemon.refuse(400, "bad_request", "192.168.0.64: not an address within a scanned network", "/api/scan")
    for more in ([], ["--no-wait"], ["--json"]):
        assert ctl.fails(1, "scan-now", "192.168.0.64", *more) == (
            "192.168.0.64 is a foreign address of camera (a4:83:e7:00:00:07), and not scanned: this host has no "
            "address in that network; it is probed all the same: netscanctl show a4:83:e7:00:00:07"
        )
    assert "not an address within" in ctl.fails(1, "scan-now", "192.168.0.65")
    daemon.devices[0].addresses = [address("192.168.0.64")]
    assert "not an address within" in ctl.fails(1, "scan-now", "192.168.0.64")


# ---- --quiet

QUIET = [
    ["scan-now"], ["scan-now", "--no-wait"], ["devices", "nosuchthing"], ["label", "host7", "x"], ["known", "host7"],
    ["patience", "host7", "90"], ["forget", "host7"], ["backup", "{tmp}/copy"], ["wait-for", "host7"],
]  # fmt: skip


@pytest.mark.parametrize("args", QUIET, ids=" ".join)
@pytest.mark.parametrize("first", [False, True])
def test_quiet_prints_only_errors(ctl: Ctl, args: list[str], first: bool, tmp_path: Path) -> None:
    """In cron, a good run is no mail; what goes to stdout is the same."""
    args = [arg.format(tmp=tmp_path) for arg in args]
    devices = list(ctl.daemon.devices)
    verbose = ctl.run(*args)
    assert verbose.stderr
    ctl.daemon.devices = devices
    done = ctl.run("-q", *args) if first else ctl.run(*args, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, verbose.stdout, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_accepts_quiet(ctl: Ctl, command: str) -> None:
    assert "-q, --quiet" in ctl.run(command, "--help").stdout
    assert ctl.run(command, "-q", "--help").returncode == 0
    found = cli.get_command(click.Context(cli), command)
    for inner in found.commands if isinstance(found, click.Group) else ():
        assert "-q, --quiet" in ctl.run(command, inner, "--help").stdout


def test_quiet_hides_no_error(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.found = scanned()
    assert ctl.fails(1, "scan-now", "-q", "192.168.1.9") == "no target answered"
    daemon.refuse(503, "unavailable", "the history cannot be read", "/api/devices/a4:83:e7:00:00:07/events")
    done = ctl.run("show", "-q", "host7")
    assert "mac " in done.stdout
    assert done.stderr == "netscanctl: the history cannot be read\n"


# ---- the whole


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_name_the_program(ctl: Ctl, shell: str) -> None:
    done = ctl.run("completion", shell, NETSCANCTL_SOCKET="/none")
    assert done.returncode == 0
    assert "_NETSCANCTL_COMPLETE" in done.stdout


def test_completions_complete_commands_and_options(ctl: Ctl) -> None:
    variables = {"_NETSCANCTL_COMPLETE": "bash_complete", "COMP_WORDS": "netscanctl de", "COMP_CWORD": "1"}
    assert ctl.run(**variables).stdout == "plain,devices\n"
    variables |= {"COMP_WORDS": "netscanctl devices --on", "COMP_CWORD": "2"}
    assert ctl.run(**variables).stdout == "plain,--online\n"


def test_help_lists_every_command_and_exit_code(ctl: Ctl) -> None:
    text = ctl.run("--help").stdout
    assert all(f"\n  {command} " in text for command in COMMANDS)
    assert "6 timed out" in text
    assert ctl.run("--version").stdout == f"netscanctl {__version__} (protocol {PROTOCOL})\n"


@pytest.mark.parametrize(
    "args", [["devices"], ["devices", "--json"], ["status"], ["show", "host7"], ["scan-now"]], ids=" ".join
)
def test_one_shot_commands_import_nothing_slow(ctl: Ctl, args: list[str]) -> None:
    """The whole process of `devices` has 0.15 s (DESIGN section 8), and runs where no scapy is."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "netscanctl", *args], env=ctl.env(), cwd=ROOT, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "netscand.protocol" in loaded
    for slow in ("aiohttp", "asyncio", "rich", "scapy", "pyroute2", "netscand.core", "netscand.config"):
        assert not [name for name in loaded if name == slow or name.startswith(f"{slow}.")]


@contextmanager
def closed_early(ctl: Ctl, *args: str) -> Iterator[tuple["subprocess.Popen[bytes]", IO[bytes]]]:
    """A process whose stdout is closed after its first bytes, and its stderr."""
    pipe = subprocess.PIPE
    with subprocess.Popen(ctl.argv(*args), env=ctl.env(), cwd=ROOT, stdout=pipe, stderr=pipe) as running:
        assert running.stdout
        assert running.stderr
        assert os.read(running.stdout.fileno(), 10)
        running.stdout.close()
        try:
            yield running, running.stderr
        finally:
            running.kill()


def test_a_closed_pipe_ends_quietly(ctl: Ctl, daemon: FakeDaemon) -> None:
    """FIELD R6: `netscanctl devices | head -1` under pipefail."""
    daemon.devices = [device(number % 256, mac=f"mac{number}") for number in range(5000)]
    for args in (["devices"], ["devices", "--json"], ["devices", "--format", "csv"]):
        with closed_early(ctl, *args) as (running, stderr):
            assert (stderr.read(), running.wait(DEADLINE)) == (b"", 0)


def test_a_full_disk_is_one_line_on_stderr(ctl: Ctl) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            ctl.argv("devices"), env=ctl.env(), cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "netscanctl: cannot write to stdout: No space left on device\n")


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_stdout_or_stderr_is_no_error(ctl: Ctl, closed: int) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m netscanctl devices {closed}>&-"], env=ctl.env(), cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}


def test_letters_outside_the_locale_are_replaced(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.devices = [device(7, hostname="客厅")]
    done = ctl.process("devices", **ASCII)
    assert (done.returncode, b"??" in done.stdout) == (0, True)


def test_presence_is_ascii_in_an_ascii_locale(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.devices = [device(7, first_seen="2026-01-01T00:00:00.000Z")]
    daemon.days = [PresenceDay(date=f"2026-02-0{day}", online_seconds=on, unknown_seconds=0)
                   for day, on in ((1, 86_400), (2, 43_200), (3, 0))]  # fmt: skip
    shown = ctl.process("show", "host7", **ASCII).stdout.decode()
    assert "\npresence    85_  online 50 % of the last 3 d\n" in shown
    assert "\npresence    █▅_  online" in ctl.run("show", "host7").stdout
