"""`netscanctl doctor`, beside a running daemon and without one."""

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from netscanctl.commands import doctor
from netscanctl.doctor import host_checks
from netscanctl.doctor.result import Finding, collect, failed, format_findings, ok, unknown
from netscanctl.render import plain
from netscand import __version__
from netscand.protocol import PROTOCOL, Traffic, encode
from tests.ctl.conftest import ROOT, Ctl
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import AT, LATER, device, network, scanned, status


def examined(ctl: Ctl, *args: str, code: int) -> dict[str, dict[str, Any]]:
    """Return the findings by check."""
    done = ctl.run(*args, "doctor", "--json")
    assert done.returncode == code, done.stdout + done.stderr
    findings = json.loads(done.stdout)
    assert findings["ok"] is (code == 0)
    for one in findings["checks"]:
        assert set(one) == {"check", "verdict", "found", "mend"}
        assert one["mend"] or one["verdict"] in ("ok", "unknown")
    return {one["check"]: one for one in findings["checks"]}


@pytest.fixture
def daemon(daemon: FakeDaemon) -> FakeDaemon:
    """A healthy daemon that finds its gateway."""
    daemon.status = status(version=__version__)
    daemon.found = scanned(device(1))
    return daemon


# ---- a running daemon ----------------------------------------------------------------------------------------------


def test_a_healthy_daemon_passes_every_check(ctl: Ctl, daemon: FakeDaemon) -> None:
    found = examined(ctl, code=0)
    assert {name: one["verdict"] for name, one in found.items() if name != "clock"} == dict.fromkeys(
        ("daemon", "versions", "capability", "filter", "interfaces", "gateway", "socket", "database"), "ok"
    )
    assert "clock" in found
    assert found["gateway"]["found"] == "192.168.1.1 answered in 0.4 ms on eth0"
    assert [request.targets for request in daemon.received if hasattr(request, "targets")] == [["192.168.1.1"]]


def test_doctor_prints_a_line_and_a_hint_per_check(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.found = scanned()
    done = ctl.run("doctor")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("failed"))
    assert lines[at].split(None, 2) == ["failed", "gateway", "192.168.1.1 does not answer on eth0"]
    assert lines[at + 1].strip().startswith("→ check that it is on")


@pytest.mark.parametrize(
    ("problem", "check", "verdict"),
    [("cannot send on 192.168.1.0/24@eth0: Operation not permitted", "interfaces", "failed"),
     ("cannot listen on 127.0.0.1:8000: Address already in use", "socket", "warning"),
     ("the disk is full", "database", "failed"),
     ("the history was broken: it is set aside as /x.corrupt-1, and a new one began", "database", "warning"),
     ("no network is up (192.168.1.0/24@eth0): nothing can be received", "", ""),
     ("the configuration was not reloaded: [scan] rate", "", "")],
)  # fmt: skip
def test_each_problem_is_reported_by_its_check(
    ctl: Ctl, daemon: FakeDaemon, problem: str, check: str, verdict: str
) -> None:
    """And by no other: not every problem is one of the database."""
    daemon.status = status(version=__version__, status="degraded", problems=[problem])
    found = examined(ctl, code=1 if verdict == "failed" else 0)
    if check:
        assert (found[check]["verdict"], problem in found[check]["found"]) == (verdict, True)
        assert {one["verdict"] for name, one in found.items() if name not in (check, "clock")} == {"ok"}
    assert check == "database" or found["database"]["verdict"] == "ok"


@pytest.mark.parametrize(
    ("networks", "verdict"),
    [([], "failed"), ([network(state="excluded", why="a tunnel")], "failed"), ([network(state="down")], "failed"),
     ([network(), network("10.0.0.0/24@eth1", "silent", gateway=None)], "warning")],
)  # fmt: skip
def test_networks_that_are_not_scanned_are_reported(
    ctl: Ctl, daemon: FakeDaemon, networks: list[Any], verdict: str
) -> None:
    daemon.status = status(version=__version__, networks=networks)
    assert examined(ctl, code=verdict == "failed")["interfaces"]["verdict"] == verdict


def test_the_role_read_looks_up_the_gateway(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.status = status(version=__version__, role="read")
    daemon.devices = [device(1)]
    found = examined(ctl, code=0)
    assert found["gateway"]["found"] == "192.168.1.1 is online: answered a probe"
    assert "usermod -aG netscan" in found["socket"]["mend"]
    daemon.devices = [device(1, "offline"), device(10), device(11)]
    assert examined(ctl, code=1)["gateway"]["verdict"] == "failed"
    assert not [request for request in daemon.received if hasattr(request, "targets")]


def test_drops_and_silence_are_reported(ctl: Ctl, daemon: FakeDaemon) -> None:
    def received(frames: int, dropped: int, now: str = LATER) -> dict[str, Any]:
        traffic = Traffic(received=frames, dropped=dropped, broadcast=0, unicast=0, send_errors=0)
        daemon.status = status(version=__version__, frames=traffic, started_at=AT, now=now)
        return examined(ctl, code=0)["filter"]

    assert "dropped 500 of 1500" in received(1000, 500)["found"]
    assert received(0, 0)["verdict"] == "ok"
    assert received(0, 0, "2026-11-23T23:02:11.042Z")["verdict"] == "warning"


def test_other_versions_warn_and_incompatible_ones_fail(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.status = status(version="9.9")
    assert examined(ctl, code=0)["versions"]["verdict"] == "warning"
    daemon.status = status(protocol=PROTOCOL + 1)
    assert examined(ctl, code=1)["versions"]["verdict"] == "failed"


@pytest.mark.parametrize(("code", "word"), [(403, "forbidden"), (401, "unauthorized")])
def test_doctor_without_permission_suggests_a_token(ctl: Ctl, daemon: FakeDaemon, code: int, word: str) -> None:
    daemon.refuse(code, word, "GET /api/status needs the role read, not none", "/api/status")
    found = examined(ctl, code=1)
    assert found["socket"]["verdict"] == "failed"
    assert "--token-file" in found["socket"]["mend"]


def test_a_failed_gateway_check_does_not_stop_the_others(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.refuse(503, "busy", "not now", "/api/scan")
    found = examined(ctl, code=0)
    assert found["gateway"]["verdict"] == "unknown"
    assert found["database"]["verdict"] == "ok"


def test_the_clock_of_a_remote_daemon_is_compared(ctl: Ctl, far: FakeDaemon) -> None:
    far.status = status(version=__version__)
    far.found = scanned(device(1))
    assert examined(ctl, "--url", far.url, code=0)["clock"]["verdict"] == "warning"


# ---- without a daemon -----------------------------------------------------------------------------------------------


def absent(tmp_path: Path, *args: str) -> dict[str, dict[str, Any]]:
    """Findings on this host, where no netscand listens."""
    program = [*Ctl.argv("--socket", f"{tmp_path}/none.sock", "doctor", "--json"), *args]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    return {one["check"]: one for one in json.loads(done.stdout)["checks"]}


def test_doctor_reports_why_a_daemon_cannot_start(tmp_path: Path) -> None:
    config = tmp_path / "netscand.toml"
    config.write_text(f'[scan]\ninterval = 0.1\n[history]\npath = "{tmp_path}/netscand.db"\n')
    found = absent(tmp_path, "--config", str(config))
    assert set(found) == {
        "daemon", "versions", "configuration", "capability", "filter", "interfaces", "gateway", "socket", "clock",
        "database",
    }  # fmt: skip
    assert "not running" in found["daemon"]["found"]
    assert found["configuration"]["verdict"] == "failed"
    assert "[scan] interval" in found["configuration"]["found"]
    assert (found["database"]["verdict"], str(tmp_path) in found["database"]["found"]) == ("ok", True)
    config.write_text("")
    assert absent(tmp_path, "--config", str(config))["configuration"]["verdict"] == "ok"


def test_an_explicit_configuration_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for `netscand --config`; the default file may be missing."""
    nope = tmp_path / "nope.toml"
    assert (doctor.check_configuration(nope).verdict, str(nope) in doctor.check_configuration(nope).found) == (
        "failed",
        True,
    )
    monkeypatch.setattr(doctor, "CONFIGURATION", str(nope))
    assert doctor.check_configuration(nope).verdict == "ok"


def test_obstacles_for_the_socket_are_reported(tmp_path: Path) -> None:
    (tmp_path / "none.sock").write_text("")
    assert absent(tmp_path)["socket"]["verdict"] == "failed"
    (tmp_path / "none.sock").unlink()
    with socket.create_server(("127.77.0.1", 0)) as other:  # where no process takes the port once it is free
        port = other.getsockname()[1]
        config = tmp_path / "netscand.toml"
        config.write_text(f'[listen]\ntcp = ["127.77.0.1:{port}", "[::1]:0"]\n')
        assert f"listens on 127.77.0.1:{port}" in absent(tmp_path, "--config", str(config))["socket"]["found"]
    assert absent(tmp_path, "--config", str(config))["socket"]["verdict"] == "ok"
    tmp_path.chmod(0o777)
    assert "every user can write to" in absent(tmp_path)["socket"]["found"]


def test_doctor_imports_nothing_slow(tmp_path: Path) -> None:
    program = """if True:
        import sys
        sys.argv = ["netscanctl", "--socket", sys.argv[1], "doctor", "--json"]
        from netscanctl.__main__ import main
        try:
            main()
        except SystemExit:
            pass
        slow = {"asyncio", "aiohttp", "rich", "scapy", "pyroute2", "netscand.config"} & set(sys.modules)
        assert not slow, slow
    """
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "none.sock")], check=True, cwd=ROOT, capture_output=True
    )


@pytest.mark.parametrize(
    ("requirement", "verdict"),
    [("click>=8", "ok"), ("click<999,>=8.1", "ok"), ("click>=999,<1000", "failed"), ("click<8", "failed"),
     ("no-such-library<3,>=2", "failed"), ("no-such-library==1; extra == 'test'", "ok")],
)  # fmt: skip
def test_libraries_are_compared_with_version_ranges(
    monkeypatch: pytest.MonkeyPatch, requirement: str, verdict: str
) -> None:
    """A requirement may have an upper bound, in any order: `aiohttp<3.15,>=3.11.16`."""
    monkeypatch.setattr(metadata, "requires", lambda _name: [requirement])
    found = host_checks.check_libraries()
    assert found.verdict == verdict
    assert ("missing" in found.found) is ("no-such" in requirement and verdict == "failed")


# ---- probes ---------------------------------------------------------------------------------------------------------


def verdicts(found: list[Finding]) -> dict[str, str]:
    return {one.check: one.verdict for one in found}


def without(capability: int, *, bounding: bool) -> list[Finding]:
    """What the probe finds on a thread that gave this up (capabilities are a thread's own)."""
    found: list[Finding] = []
    libc = ctypes.CDLL(None, use_errno=True)

    def probe() -> None:
        if bounding:
            assert libc.prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP
        header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert libc.capget(header, sets) == 0
        sets[0] &= ~(1 << capability)
        sets[1] &= ~(1 << capability)
        assert libc.capset(header, sets) == 0
        found.extend(host_checks.check_raw_sockets())

    thread = threading.Thread(target=probe)
    thread.start()
    thread.join()
    return found


def test_raw_sockets_and_the_filter_are_checked(root: None) -> None:
    assert verdicts(list(host_checks.check_raw_sockets())) == {"capability": "ok", "filter": "ok"}


def test_a_missing_capability_is_named(root: None) -> None:
    """FAULTS F18: in a container that withholds it, or for root without it."""
    found = without(host_checks.CAP_NET_RAW, bounding=False)
    assert verdicts(found) == {"capability": "failed", "filter": "unknown"}
    assert "CAP_NET_RAW" in found[0].found
    assert "--cap-add NET_RAW" in (found[0].hint or "")


def test_an_unprivileged_check_is_unknown(root: None) -> None:
    ours, theirs = os.pipe()
    child = os.fork()  # a program of its own might lie where an ordinary user cannot go
    if not child:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(theirs, repr(verdicts(list(host_checks.check_raw_sockets()))).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours) as pipe:
        assert pipe.read() == "{'capability': 'unknown', 'filter': 'unknown'}"
    os.waitpid(child, 0)


ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\tFE01A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
"""
ARP = """IP address       HW type     Flags       HW address            Mask     Device
192.168.1.254    0x1         0x{flags:x}         3c:a6:2f:00:00:01     *        {interface}
"""


@pytest.mark.parametrize(
    ("flags", "interface", "verdict"), [(2, "eth0", "ok"), (0, "eth0", "unknown"), (2, "wlan0", "unknown")]
)
def test_the_gateway_is_looked_up_in_the_arp_table(tmp_path: Path, flags: int, interface: str, verdict: str) -> None:
    (tmp_path / "route").write_text(ROUTES)
    (tmp_path / "arp").write_text(ARP.format(flags=flags, interface=interface))
    found = host_checks.check_gateway(tmp_path)
    assert (found.verdict, "192.168.1.254 on eth0" in found.found) == (verdict, True)
    (tmp_path / "route").write_text(ROUTES.splitlines()[0])
    assert host_checks.check_gateway(tmp_path).verdict == "unknown"


def test_a_usable_interface_is_ethernet_with_a_carrier() -> None:
    eth = host_checks.Interface("eth0", "192.168.1.2/24", True, True)
    tunnel = host_checks.Interface("tun0", "10.8.0.2/24", True, False)
    assert host_checks.check_interfaces([eth, tunnel]).found == "eth0 192.168.1.2/24"
    assert "no carrier" in host_checks.check_interfaces([eth._replace(running=False)]).found
    assert host_checks.check_interfaces([tunnel]).verdict == host_checks.check_interfaces([]).verdict == "failed"


def test_an_unusable_database_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "netscand.db"
    assert host_checks.check_database(path).verdict == "ok"
    path.write_bytes(b"garbage, and not a database")
    assert host_checks.check_database(path).verdict == "warning"
    assert host_checks.check_database(tmp_path / "no" / "netscand.db").verdict == "warning"


def test_hostile_text_stays_on_its_line() -> None:
    """FAULTS T8."""
    text = format_findings([ok("a", "x\x1b[31m\n\u202ey", "z\nw"), failed("bcd", "f", "m"), unknown("e", "f")], plain)
    assert len(text.splitlines()) == 5
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_findings_are_ok_unless_one_failed() -> None:
    assert collect([ok("a", "b"), unknown("c", "d")]).ok
    assert not collect([ok("a", "b"), failed("c", "d", "e")]).ok
    assert encode(collect([])) == b'{"ok":true,"checks":[]}'
    assert doctor.command.name == "doctor"
