"""`netscanctl import`: what it changes, keeps, reports and shows."""

import subprocess
import tracemalloc
from pathlib import Path

import pytest

from netscand.protocol import DeviceUpdate
from tests.ctl.conftest import Ctl
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import address, device

SEVEN, EIGHT, TWENTY = (f"a4:83:e7:00:00:{number}" for number in ("07", "08", "14"))
UNSEEN = "00:00:5e:00:53:99"


@pytest.fixture(autouse=True)
def _accepts_unseen(daemon: FakeDaemon) -> None:
    """The daemon takes annotations of devices that were never seen (ADR 58)."""
    daemon.accepts_unseen = True


@pytest.fixture
def ethers(tmp_path: Path) -> str:
    path = tmp_path / "ethers"
    path.write_text(f"{SEVEN} phone\n{EIGHT} printer\nzz nas\n{TWENTY} 192.168.1.20\n{UNSEEN} freezer\n")
    return str(path)


def test_an_import_sets_labels_and_names_the_bad_line(ctl: Ctl, daemon: FakeDaemon, ethers: str) -> None:
    """Also of a device that was never seen; the label that a user gave stays."""
    daemon.devices[1].label = "Office printer"
    done = ctl.run("import", ethers)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        'netscanctl: line 3: "zz" is not a MAC address such as a4:83:e7:12:34:56',
        "netscanctl: ethers: 2 labelled, 1 not seen yet, 1 with another label, kept (--overwrite replaces it), "
        "1 without a name (--known marks them), 1 skipped",
    ]
    assert daemon.received == [DeviceUpdate(label="phone"), DeviceUpdate(label="freezer")]
    assert daemon.requests[-1][3]["Prefer"] == "return=minimal", "the daemon need not look at all devices each time"


def test_a_second_import_changes_nothing(ctl: Ctl, daemon: FakeDaemon, ethers: str) -> None:
    ctl.run("import", ethers, "--known", "--overwrite")
    daemon.received.clear()
    done = ctl.run("import", ethers, "--known", "--overwrite")
    assert done.stderr.splitlines()[-1] == "netscanctl: ethers: 4 unchanged, 1 skipped"
    assert daemon.received == []


def test_a_dry_run_shows_the_changes_and_makes_none(ctl: Ctl, daemon: FakeDaemon, ethers: str) -> None:
    daemon.devices[1].label = "Office printer"
    daemon.devices[0].known = True
    done = ctl.run("import", ethers, "--dry-run", "--overwrite", "--known")
    assert done.stdout.splitlines() == [
        f'{SEVEN}  label "phone"', f'{EIGHT}  label "printer" (was "Office printer"), known', f"{TWENTY}  known",
        f'{UNSEEN}  label "freezer", known',
    ]  # fmt: skip
    assert done.stderr.splitlines()[-1] == (
        "netscanctl: dry run: ethers: 3 labelled, 3 marked as known, 1 not seen yet, 1 skipped"
    )
    assert (daemon.received, daemon.devices[1].label) == ([], "Office printer")


def test_names_by_address_go_to_who_is_there(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.devices += [device(9, "offline", addresses=[address("192.168.1.7")], ip="192.168.1.7")]
    daemon.devices += [device(10, addresses=[address("192.168.1.20"), address("192.168.1.10")])]
    daemon.devices += [device(11, ip="192.168.1.30", addresses=[address("192.168.1.30")]) for _ in range(2)]
    path = tmp_path / "hosts"
    path.write_text("192.168.1.7 phone\n192.168.1.20 printer\n192.168.1.99 nobody\n192.168.1.30 two\n")
    done = ctl.run("import", str(path))
    assert done.stderr.splitlines()[:2] == [
        "netscanctl: line 3: no device has the address 192.168.1.99 now; use a file that has MAC addresses",
        "netscanctl: line 4: 2 devices use 192.168.1.30; use a file that has MAC addresses",
    ]
    assert [(one.mac, one.label) for one in daemon.devices if one.label] == [(SEVEN, "phone"), (TWENTY, "printer")]


def test_of_several_entries_the_latest_counts(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "arp.dat"
    path.write_text(
        f"{SEVEN}\t10.0.0.1\t200\tnew\teth0\n{SEVEN}\t10.0.0.2\t100\told\teth0\n{SEVEN}\t10.0.0.3\t300\t\teth0\n"
    )
    assert ctl.run("import", str(path)).returncode == 0
    assert daemon.received == [DeviceUpdate(label="new")]


def test_two_names_of_a_device_are_reported(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path) -> None:
    """With the lines of both, and the one that counts; also where the lines have two addresses of one device."""
    path = tmp_path / "ethers"
    path.write_text(f"{SEVEN} phone\n{EIGHT} printer\n{SEVEN} phone\n{SEVEN} tablet\n{EIGHT} 192.168.1.8\n")
    done = ctl.run("import", str(path))
    assert (done.returncode, done.stderr.splitlines()) == (0, [
        f'netscanctl: line 4: {SEVEN} has two names, "phone" (line 3) and "tablet"; line 4 counts',
        "netscanctl: ethers: 2 labelled",
    ])  # fmt: skip
    assert daemon.received == [DeviceUpdate(label="printer"), DeviceUpdate(label="tablet")]
    daemon.devices[0].label = None
    daemon.devices[0].addresses.append(address("fe80::7"))
    hosts = tmp_path / "hosts"
    hosts.write_text("192.168.1.7 phone\nfe80::7 tablet\n192.168.1.7 handset\n")
    assert ctl.run("import", str(hosts)).stderr.splitlines()[:2] == [
        'netscanctl: line 3: 192.168.1.7 has two names, "phone" (line 1) and "handset"; line 3 counts',
        f'netscanctl: line 3: {SEVEN} has two names, "tablet" (line 2) and "handset"; line 3 counts',
    ]
    assert daemon.devices[0].label == "handset"


def test_what_the_daemon_refuses_is_reported(ctl: Ctl, daemon: FakeDaemon, ethers: str) -> None:
    daemon.refuse(503, "busy", "4,096 devices were annotated and never seen", f"/api/devices/{UNSEEN}")
    daemon.warnings = ['label: "phone" is also the label of …']
    done = ctl.run("import", ethers)
    assert (done.returncode, done.stderr.splitlines()[1:3]) == (
        1,
        ["netscanctl: line 1: warning: " + daemon.warnings[0], "netscanctl: line 2: warning: " + daemon.warnings[0]],
    )
    assert "netscanctl: line 5: 4,096 devices were annotated and never seen" in done.stderr
    daemon.refuse(403, "forbidden", "this needs the role admin", f"/api/devices/{SEVEN}")
    assert ctl.run("import", ethers, "--known").returncode == 4


def test_an_unknown_format_or_file_is_a_usage_error(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello world\n")
    failure = ctl.fails(2, "import", str(tmp_path / "x"))
    assert failure.startswith("cannot recognise the format of ")
    assert failure.endswith("; name it with --format ethers, hosts, dnsmasq, dhcpd, csv, arpwatch")
    assert ctl.run("import", str(tmp_path / "none")).returncode == 2


def test_stdin_is_read(ctl: Ctl, daemon: FakeDaemon, ethers: str) -> None:
    with open(ethers) as file:
        done = subprocess.run(
            ctl.argv("import", "-", "--dry-run"), stdin=file, env=ctl.env(), capture_output=True, text=True, timeout=60
        )
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 3)


def test_ten_thousand_lines_take_little_memory(ctl: Ctl, tmp_path: Path) -> None:
    """One summary line; of thousands of bad lines, the first twenty are reported."""
    path = tmp_path / "ethers"
    macs = [f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}" for number in range(5_000)]
    path.write_text("".join(f"{mac} host-{number}\nbad {'x' * 1000}\n" for number, mac in enumerate(macs)))
    tracemalloc.start()
    done = ctl.run("import", str(path), "--dry-run")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (done.returncode, len(done.stdout.splitlines()), peak < 8e6) == (1, 5_000, True), peak
    assert len(lines := done.stderr.splitlines()) == 22
    assert lines[-2:] == [
        "netscanctl: … and 4980 more",
        "netscanctl: dry run: ethers: 5000 labelled, 5000 not seen yet, 5000 skipped",
    ]
