"""`netscanctl doctor`, beside a running daemon and without one."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netscanctl.client import admin_hint
from netscanctl.commands import doctor
from netscanctl.doctor import access_checks, local_checks
from netscanctl.doctor.result import collect, format_results
from netscanctl.render import plain
from netscand import __version__
from netscand.check_results import failed, ok, unknown
from netscand.protocol import PROTOCOL, Access, Traffic, encode
from tests.ctl.conftest import ROOT, Ctl
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import AT, LATER, conflict, device, network, scanned, status


def examined(ctl: Ctl, *args: str, code: int) -> dict[str, dict[str, Any]]:
    """Return the findings by check."""
    done = ctl.run(*args, "doctor", "--json")
    assert done.returncode == code, done.stdout + done.stderr
    findings = json.loads(done.stdout)
    assert findings["ok"] is (code == 0)
    for one in findings["checks"]:
        assert set(one) == {"check", "verdict", "found", "mend"}
        assert one["mend"] or one["verdict"] == "ok"
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
     ("10.77.0.2, an address of this host, is claimed by 00:00:5e:00:53:01 too, on 10.77.0.0/24@eth0", "addresses",
      "failed"),
     ("the disk is full", "database", "failed"),
     ("the history was broken: it is set aside as /x.corrupt-1, and a new one began", "database", "warning"),
     ("no network is up (192.168.1.0/24@eth0): nothing can be received", "", ""),
     ("the configuration was not reloaded: [scan] rate", "configuration", "warning")],
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
    ("error", "hint"),
    [(errno.EADDRINUSE, "stop the process"), (errno.EACCES, "1024"), (errno.EADDRNOTAVAIL, "address of this host"),
     (errno.EAFNOSUPPORT, "change [listen] tcp")],
)  # fmt: skip
def test_the_hint_fits_why_an_address_cannot_be_used(ctl: Ctl, daemon: FakeDaemon, error: int, hint: str) -> None:
    daemon.status.problems = [f"cannot listen on 192.0.2.1:80: {os.strerror(error)}"]
    mend = examined(ctl, code=0)["socket"]["mend"]
    assert hint in mend
    assert ("stop the process" in mend) is (error == errno.EADDRINUSE)


@pytest.mark.parametrize(
    ("listening", "tokens", "verdict", "text"),
    [(["127.0.0.1:8000"], 0, "ok", "only this host"), ([], 0, "ok", "only this host"),
     (["0.0.0.0:8000"], 0, "warning", "on port 8000, but there is no token"),
     (["127.0.0.1:8000", "127.0.0.2:1"], 1, "ok", "only this host")],
)  # fmt: skip
def test_the_way_from_other_hosts_is_checked(
    ctl: Ctl, daemon: FakeDaemon, listening: list[str], tokens: int, verdict: str, text: str
) -> None:
    """The rest, with another host, is in lab/test_phone.py."""
    daemon.status.access = Access(
        listening=listening, tls=False, hosts=[], addresses=[], tokens=tokens, token_file="/t", uid=0, gid=0
    )
    found = examined(ctl, code=0)["access"]
    assert (found["verdict"], text in found["found"]) == (verdict, True)


@pytest.mark.parametrize(("mode", "error"), [(0o644, True), (0o000, True), (0o600, False), (None, True)])
def test_a_token_file_that_a_restart_would_refuse(
    ctl: Ctl, daemon: FakeDaemon, tmp_path: Path, mode: int | None, error: bool
) -> None:
    """Before it happens; nothing is said of a file that we may not see."""
    file = tmp_path / "tokens"
    if mode is not None:
        file.touch()
        file.chmod(mode)
        if mode == 0 and os.geteuid() == 0:
            os.chown(file, 12_345, 12_345)
    daemon.status.access = Access(
        listening=["10.255.0.1:8000"], tls=False, hosts=[], addresses=[], tokens=1, token_file=str(file),
        uid=12_345 if mode == 0 and os.geteuid() == 0 else os.geteuid(), gid=os.getegid(),
    )  # fmt: skip
    assert bool(access_checks._file_error(daemon.status.access)) is error
    if error:
        found = examined(ctl, code=0)["access"]
        assert (found["verdict"], "could not read its tokens" in found["found"]) == ("warning", True)


def test_conflicts_between_devices_are_a_warning(ctl: Ctl, daemon: FakeDaemon) -> None:
    """The daemon is well; the network is not."""
    daemon.status = status(version=__version__, conflicts=[conflict()], conflict_count=3)
    found = examined(ctl, code=0)
    assert found["conflicts"]["verdict"] == "warning"
    assert found["conflicts"]["found"].startswith("192.168.1.7 is used by a4:83:e7:00:00:07 and a4:83:e7:00:00:14")
    assert "; 2 more: " in found["conflicts"]["found"]


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


def test_without_a_gateway_there_is_a_hint(ctl: Ctl, daemon: FakeDaemon) -> None:
    """Every `unknown` says how it can be found out."""
    daemon.status.networks = [network(gateway=None)]
    result = examined(ctl, code=0)["gateway"]
    assert (result["verdict"], result["found"]) == ("unknown", "no scanned network has a default gateway")
    assert "ip route" in result["mend"]
    assert "netscanctl scan-now" in result["mend"]


def test_the_role_read_looks_up_the_gateway(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.status = status(version=__version__, role="read")
    daemon.devices = [device(1)]
    found = examined(ctl, code=0)
    assert found["gateway"]["found"] == "192.168.1.1 is online: answered a probe"
    assert admin_hint() in found["socket"]["mend"]
    daemon.devices = [device(1, "offline"), device(10), device(11)]
    assert examined(ctl, code=1)["gateway"]["verdict"] == "failed"
    assert not [request for request in daemon.received if hasattr(request, "targets")]


def test_of_two_networks_on_one_lan_one_is_checked(ctl: Ctl, daemon: FakeDaemon) -> None:
    """FIELD case 30."""
    other = network("192.168.1.0/24@wlan0", same_lan_as="192.168.1.0/24@eth0")
    daemon.status = status(version=__version__, networks=[network(), other])
    found = examined(ctl, code=0)
    note = "192.168.1.0/24@wlan0 (on the same LAN as 192.168.1.0/24@eth0, which is scanned instead)"
    assert found["interfaces"]["found"] == f"192.168.1.0/24@eth0, {note}"
    assert [request.targets for request in daemon.received if hasattr(request, "targets")] == [["192.168.1.1"]]


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


@pytest.mark.parametrize(
    ("code", "word", "check", "fix"),
    [(421, "bad_request", "daemon", 'add "127.0.0.1" to [access] allowed_hosts'),
     (401, "unauthorized", "socket", "to create one on its host: sudo netscanctl token add ROLE"),
     (403, "forbidden", "socket", "use --token-file FILE")],
)  # fmt: skip
def test_a_refusal_over_tcp_is_fixed_on_its_host(
    ctl: Ctl, far: FakeDaemon, code: int, word: str, check: str, fix: str
) -> None:
    far.refuse(code, word, "refused", "/api/status")
    result = examined(ctl, "--url", far.url, code=1)[check]
    assert fix in result["mend"]
    assert "[access] others" not in result["mend"]


@pytest.mark.parametrize(
    ("error", "fix"),
    [(socket.gaierror(-2, "Name or service not known"), 'check the name "nas.lan"'),
     (ConnectionRefusedError(), "check the address, the port"),
     (TimeoutError(), "firewall of that host"), (OSError(113, "No route to host"), "firewall of that host")],
)  # fmt: skip
def test_a_remote_daemon_is_not_to_be_started_here(
    ctl: Ctl, monkeypatch: pytest.MonkeyPatch, error: OSError, fix: str
) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: (_ for _ in ()).throw(error))
    found = examined(ctl, "--url", "http://nas.lan:8000", code=1)
    assert set(found) == {"daemon"}
    assert fix in found["daemon"]["mend"]
    assert "start" not in found["daemon"]["mend"]


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


def test_obstacles_for_the_socket_are_reported(tmp_path: Path) -> None:
    config, path = tmp_path / "netscand.toml", tmp_path / "netscand.sock"

    def found(tcp: str = "") -> dict[str, Any]:
        config.write_text(f'[listen]\nunix = "{path}"\ntcp = [{tcp}]\n')
        return absent(tmp_path, "--config", str(config))["socket"]

    path.write_text("")
    assert (found()["verdict"], found()["mend"]) == ("failed", f"rm {path}")
    path.unlink()
    with socket.create_server(("127.77.0.1", 0)) as other:  # where nobody else takes the port once it is free
        tcp = f"127.77.0.1:{other.getsockname()[1]}"
        assert f"another process listens on {tcp}" in found(f'"{tcp}", "[::1]:0"')["found"]
    assert found(f'"{tcp}", "[::1]:0"')["verdict"] == "ok"
    tmp_path.chmod(0o777)
    assert "every user can write to" in found()["found"]


def test_netscand_of_the_same_installation_is_run(tmp_path: Path) -> None:
    """Not one in the current folder, which another user may have put there for root."""
    (tmp_path / "netscand").mkdir()
    (tmp_path / "netscand" / "__init__.py").write_text('raise RuntimeError("another netscand")')
    program = [sys.executable, "-P", "-m", "netscanctl", "--socket", str(tmp_path / "none.sock"), "doctor", "--json"]
    done = subprocess.run(
        program, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    versions = next(one for one in json.loads(done.stdout)["checks"] if one["check"] == "versions")
    assert (versions["verdict"], versions["found"]) == ("ok", f"netscand {__version__}: all libraries are installed")


def test_doctor_says_so_if_it_cannot_run_netscand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with the client only, or a daemon that fails to run at all."""
    monkeypatch.setattr(local_checks, "INSTALLATION", tmp_path)
    (tmp_path / "netscand").mkdir()
    (tmp_path / "netscand" / "__init__.py").touch()
    for program, reason in ((None, "No module named netscand.__main__"), ('raise SystemExit("broken")', "broken")):
        if program is not None:
            (tmp_path / "netscand" / "__main__.py").write_text(program)
        (found,) = local_checks.run_checks(None)
        assert (found.check, found.verdict) == ("versions", "unknown")
        assert found.found.startswith("cannot run netscand --check, so this host was not checked: ")
        assert reason in found.found
        assert str(tmp_path) in (found.hint or "")


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


# ---- output ----------------------------------------------------------------------------------------------------------


def test_hostile_text_stays_on_its_line() -> None:
    """FAULTS T8."""
    text = format_results(
        [ok("a", "x\x1b[31m\n\u202ey", "z\nw"), failed("bcd", "f", "m"), unknown("e", "f", "g")], plain
    )
    assert len(text.splitlines()) == 6
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_findings_are_ok_unless_one_failed() -> None:
    assert collect([ok("a", "b"), unknown("c", "d", "e")]).ok
    assert not collect([ok("a", "b"), failed("c", "d", "e")]).ok
    assert encode(collect([])) == b'{"ok":true,"checks":[]}'
    assert doctor.command.name == "doctor"
