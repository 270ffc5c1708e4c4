"""`netscand --check`: what a start would meet on this host, found without changing anything."""

import ctypes
import json
import os
import pwd
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from importlib import metadata
from ipaddress import IPv4Network
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from netscand import check, config
from netscand.check import AS_ROOT, Caller, check_database, check_gateway, check_interfaces, check_raw_sockets
from netscand.config import Reading
from netscand.core.model import Ip, Mac, Network, NetworkState
from netscand.lan import capture
from netscand.protocol import CheckResult
from netscand.serve.encode import remembered
from netscand.serve.listen import TcpAddress, UnixSocket, bound_socket, tcp_socket
from netscand.store.database import open_database
from netscand.store.lock import Lock
from netscand.store.opening import open_history
from netscand.store.paths import HistoryRefused, prepare

ROOT = Path(__file__).parents[2]
NETSCAND, VISITOR = Caller(True), Caller(False)


def verdicts(found: list[CheckResult]) -> dict[str, str]:
    return {one.check: one.verdict for one in found}


def as_nobody(work: Callable[[], list[CheckResult]]) -> dict[str, str]:
    """Return the verdicts that a process of another user finds; a program of its own may be unreadable for it."""
    return forked(work, user=65534)


def forked(work: Callable[[], list[CheckResult]], user: int | None = None) -> dict[str, str]:
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            os.write(theirs, json.dumps(verdicts(work())).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours) as pipe:
        found: dict[str, str] = json.load(pipe)
    os.waitpid(child, 0)
    return found


# ---- the program -----------------------------------------------------------------------------------------------------


def run(*args: str) -> "subprocess.CompletedProcess[str]":
    program = [sys.executable, "-m", "netscand", "--check", *args]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)


def write(folder: Path, more: str = "") -> str:
    """Write a configuration whose files are all in one folder."""
    path = folder / "netscand.toml"
    path.write_text(f'[history]\npath = "{folder}/n.db"\n[listen]\nunix = "{folder}/n.sock"\ntcp = []\n{more}')
    return str(path)


def test_it_prints_json_and_its_exit_code_says_if_any_failed(tmp_path: Path) -> None:
    done = run("--config", write(tmp_path))
    report = json.loads(done.stdout)
    assert report["ok"] is all(one["verdict"] != "failed" for one in report["checks"])
    assert (done.returncode, done.stderr) == (0 if report["ok"] else 1, "")
    assert [one["check"] for one in report["checks"]] == [
        "versions", "configuration", "capability", "filter", "interfaces", "gateway", "socket", "database",
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["netscand.toml"]
    done = run("--config", write(tmp_path, "tls_key = '/none'\n[scan]\nrate = -1\n"))
    report = json.loads(done.stdout)
    (found,) = [one["found"] for one in report["checks"] if one["check"] == "configuration"]
    assert (done.returncode, report["ok"]) == (1, False)
    assert "[scan] rate" in found
    assert "tls_certificate: missing" in found


def test_a_named_configuration_must_exist_the_default_need_not(tmp_path: Path) -> None:
    """As for a start."""
    path = tmp_path / "none.toml"
    for required, verdict in ((True, "failed"), (False, "ok")):
        found = check.check_configuration(path, *check._read(path, required=required), NETSCAND)
        assert (found.verdict, str(path) in found.found) == (verdict, True)


# ---- beside a running daemon -----------------------------------------------------------------------------------------


def test_it_disturbs_no_running_daemon(tmp_path: Path, root: None) -> None:
    """FAULTS F21: it takes no lock and no socket, writes nothing, and names the process that runs."""
    path, sock = tmp_path / "n.db", UnixSocket(tmp_path / "n.sock")
    lock = Lock(path)
    lock.take()
    sock.open(0o600, None)
    try:
        prepare(path)
        open_database(path).close()
        before = {each.name: (each.stat().st_mtime_ns, each.stat().st_ino) for each in tmp_path.iterdir()}
        report = {one["check"]: one for one in json.loads(run("--config", write(tmp_path)).stdout)["checks"]}
        (tmp_path / "netscand.toml").unlink()
        assert {each.name: (each.stat().st_mtime_ns, each.stat().st_ino) for each in tmp_path.iterdir()} == before
        assert f"(process {os.getpid()}) listens on {sock.path}" in report["socket"]["found"]
        assert f"in use by netscand (process {os.getpid()})" in report["database"]["found"]
        assert (report["socket"]["verdict"], report["database"]["verdict"]) == ("ok", "ok")
        sock.sock.setblocking(False)
        with pytest.raises(BlockingIOError):  # it has not even connected
            sock.sock.accept()
    finally:
        sock.close()
        lock.release()


def test_a_bound_socket_keeps_no_daemon_from_listening() -> None:
    with bound_socket(TcpAddress("127.77.0.1", 0)) as held:
        port = held.getsockname()[1]
        tcp_socket(TcpAddress("127.77.0.1", port)).close()


def test_a_socket_of_another_process_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listen = config.Listen(unix=str(tmp_path / "n.sock"), tcp=())
    assert check.check_socket(listen, None, NETSCAND).found == f"{listen.unix} can be created"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(listen.unix)
        assert (
            check.check_socket(listen, None, NETSCAND).found == f"{listen.unix} can be created"
        )  # a start replaces it
        other.listen()
        found = check.check_socket(listen, None, NETSCAND)
    assert f"process listens on {listen.unix}" in found.found


def test_the_hint_fits_why_an_address_cannot_be_used(tmp_path: Path) -> None:
    for tcp, hint in (("192.0.2.1:8000", "use an address of this host"), ("127.77.0.1:0", None)):
        found = check.check_socket(config.Listen(unix=str(tmp_path / "n.sock"), tcp=(tcp,)), None, NETSCAND)
        assert (hint or "") in (found.hint or "")
        assert found.verdict == ("warning" if hint else "ok")


# ---- rights ----------------------------------------------------------------------------------------------------------


def without(capability: int, *, bounding: bool) -> list[CheckResult]:
    """Return what a thread finds that gave this up (capabilities are a thread's own)."""
    found: list[CheckResult] = []
    libc = ctypes.CDLL(None, use_errno=True)

    def probe() -> None:
        if bounding:
            assert libc.prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP
        header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert libc.capget(header, sets) == 0
        sets[0] &= ~(1 << capability)
        sets[1] &= ~(1 << capability)
        assert libc.capset(header, sets) == 0
        found.extend(check_raw_sockets())

    thread = threading.Thread(target=probe)
    thread.start()
    thread.join()
    return found


@pytest.mark.parametrize("option", [capture.PACKET_IGNORE_OUTGOING, 99], ids=["kernel-now", "kernel-4.15"])
def test_raw_sockets_and_the_filter_are_checked(root: None, monkeypatch: pytest.MonkeyPatch, option: int) -> None:
    """FIELD case 19: by the calls of a start, so an older kernel is judged as the daemon finds it."""
    monkeypatch.setattr(capture, "PACKET_IGNORE_OUTGOING", option)
    assert verdicts(list(check_raw_sockets())) == {"capability": "ok", "filter": "ok"}


def test_a_missing_capability_is_named(root: None) -> None:
    """FAULTS F18: in a container that withholds it, or for root without it."""
    found = without(check.CAP_NET_RAW, bounding=False)
    assert verdicts(found) == {"capability": "failed", "filter": "unknown"}
    assert "CAP_NET_RAW" in found[0].found
    assert "--cap-add NET_RAW" in (found[0].hint or "")


def test_what_only_the_service_may_is_unknown(tmp_path: Path, root: None) -> None:
    """A user without its rights gets `unknown`, not a failure."""
    tmp_path.chmod(0o700)
    path = write(tmp_path, '[access]\ntoken_file = "/etc/shadow"\n')

    def work() -> list[CheckResult]:
        reading, error = check._read(Path(path), required=True)
        found = [*check_raw_sockets(), check_database(tmp_path / "n.db", None, VISITOR)]
        assert found[0].found == "cannot test: you lack CAP_NET_RAW (the netscand service may have it)"
        assert {one.hint for one in found} == {AS_ROOT, 'see the result of the check "capability"'}
        listen = config.Listen(unix=str(tmp_path / "n.sock"), tcp=())
        return [*found, check.check_socket(listen, None, VISITOR),
                check.check_configuration(Path(path), reading, error, VISITOR)]  # fmt: skip

    expected = dict.fromkeys(("capability", "filter", "database", "socket", "configuration"), "unknown")
    assert as_nobody(work) == expected


def test_a_user_who_may_not_see_the_history_gets_every_check(root: None) -> None:
    """An ordinary user of the Debian package: /var/lib/netscand has mode 0700."""
    with TemporaryDirectory(dir="/tmp") as public:  # where every user may go
        Path(public).chmod(0o755)
        history = Path(public) / "history"
        history.mkdir(mode=0o700)
        path = Path(public) / "netscand.toml"
        path.write_text(f'[history]\npath = "{history}/n.db"\n[listen]\nunix = "{history}/n.sock"\ntcp = []\n')
        check.check_libraries()  # imports them: the other user may not read their files
        found = as_nobody(lambda: list(check.run(path, required=True).checks))
    assert (found["configuration"], found["socket"], found["database"]) == ("ok", "unknown", "unknown")


@pytest.mark.parametrize(("of_systemd", "verdict"), [(True, "warning"), (False, "failed")])
def test_a_socket_of_systemd_needs_no_right_to_create_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_systemd: bool, verdict: str
) -> None:
    """While netscand.socket is stopped, its folder is still there, and belongs to root."""
    path = tmp_path / "n.sock"
    monkeypatch.setattr(check, "SYSTEMD", tmp_path)
    monkeypatch.setattr(check, "SOCKET_OF_SYSTEMD", path if of_systemd else tmp_path / "another.sock")
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = check.check_socket(config.Listen(unix=str(path), tcp=()), None, NETSCAND)
    assert (found.verdict, "netscand.socket is not active" in found.found) == (verdict, of_systemd)


def test_root_checks_files_as_the_user_of_the_service(
    tmp_path: Path, root: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read a token file that netscand may not, and would refuse a history that is netscand's own."""
    user = pwd.getpwnam("nobody")
    monkeypatch.setattr(check, "SERVICE_USER", user.pw_name)
    folder = Path("/tmp", f"netscand-check-{os.getpid()}")  # where that user may go
    folder.mkdir(mode=0o700)
    try:
        os.chown(folder, user.pw_uid, user.pw_gid)
        tokens = tmp_path / "tokens"
        tokens.write_text(f"read {'x' * 32}\n")
        tokens.chmod(0o600)
        path = Path(write(folder, f'[access]\ntoken_file = "{tokens}"\n'))
        path.chmod(0o644)

        def work() -> list[CheckResult]:
            return list(check.run(path, required=True).checks)

        found = forked(work)
        assert (found["capability"], found["configuration"], found["database"]) == ("ok", "failed", "ok")
        monkeypatch.setattr(check, "SERVICE_USER", "no such user")
        found = forked(work)
        assert (found["configuration"], found["database"]) == ("ok", "ok")
    finally:
        for each in folder.iterdir():
            each.unlink()
        folder.rmdir()


# ---- single checks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requirement", "verdict"),
    [("click>=8", "ok"), ("click<999,>=8.1", "ok"), ("click>=999,<1000", "failed"), ("click<8", "failed"),
     ("no-such-library<3,>=2", "failed"), ("no-such-optional>=2", "ok"), ("no-such-library==1; extra == 'test'", "ok")],
)  # fmt: skip
def test_libraries_are_compared_with_version_ranges(
    monkeypatch: pytest.MonkeyPatch, requirement: str, verdict: str
) -> None:
    """A requirement may have an upper bound, in any order: `aiohttp<3.15,>=3.11.16`."""
    monkeypatch.setattr(metadata, "requires", lambda _name: [requirement])
    monkeypatch.setattr(check, "OPTIONAL", {"no-such-optional"})
    found = check.check_libraries()
    assert found.verdict == verdict
    assert ("missing" in found.found) is ("no-such" in requirement and verdict == "failed")


GATEWAY = Ip(bytes((192, 168, 1, 254)))


def network(state: str = "up", gateway: Ip | None = GATEWAY, why: str = "Ethernet") -> Network:
    return Network(
        id="192.168.1.0/24@eth0", cidr=IPv4Network("192.168.1.0/24"), interface="eth0", index=2, mac=Mac(bytes(6)),
        own=Ip(bytes((192, 168, 1, 2))), state=NetworkState(state), why=why, gateway=gateway, interval=30.0,
    )  # fmt: skip


ARP = """IP address       HW type     Flags       HW address            Mask     Device
192.168.1.254    0x1         0x{flags:x}         3c:a6:2f:00:00:01     *        {interface}
"""


@pytest.mark.parametrize(
    ("flags", "interface", "verdict"), [(2, "eth0", "ok"), (0, "eth0", "unknown"), (2, "wlan0", "unknown")]
)
def test_the_gateway_is_looked_up_in_the_arp_table(tmp_path: Path, flags: int, interface: str, verdict: str) -> None:
    table = tmp_path / "arp"
    table.write_text(ARP.format(flags=flags, interface=interface))
    found = check_gateway([network("down"), network()], table)
    assert (found.verdict, "192.168.1.254 on eth0" in found.found) == (verdict, True)
    nothing = check_gateway([network(gateway=None), network("excluded")], table)
    assert (nothing.verdict, "ip route" in str(nothing.hint)) == ("unknown", True)


def test_at_least_one_network_must_be_up() -> None:
    up, down, other = network(), network("down", why="the link has no carrier"), network("excluded", why="a tunnel")
    assert check_interfaces([up, other]).found == "192.168.1.0/24@eth0"
    assert check_interfaces([up, down]).verdict == "warning"
    for networks, reason in (([down], "no carrier"), ([other], "a tunnel"), ([], "no interface has an IPv4 address")):
        found = check_interfaces(networks)
        assert (found.verdict, reason in found.found) == ("failed", True)


def test_a_history_that_a_start_refuses_has_failed(tmp_path: Path) -> None:
    """The same sentence as that of the start, which ends with exit code 78."""
    path = tmp_path / "n.db"
    path.write_bytes(b"notes of somebody, no database at all")
    found = check_database(path, None, NETSCAND)
    with pytest.raises(HistoryRefused) as refused:
        open_history(path, Lock(path), 0, remembered)
    assert (found.verdict, found.found) == ("failed", str(refused.value))
    path.unlink()
    prepare(path)
    with closing(open_database(path)) as database:
        database.execute("PRAGMA user_version = 99")
    found = check_database(path, None, NETSCAND)
    assert (found.verdict, "newer netscand" in found.found) == ("failed", True)
    tmp_path.chmod(0o777)
    assert "every user may write to" in check_database(path, None, NETSCAND).found


def test_a_history_that_a_start_replaces_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    prepare(path)
    open_database(path).close()
    assert check_database(path, None, NETSCAND).verdict == "ok"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["n.db"]
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE state")
    found = check_database(path, None, NETSCAND)
    assert (found.verdict, "its table state is missing" in found.found) == ("warning", True)
    Path(f"{path}.lock").touch()  # it was ours
    path.write_bytes(b"garbage, and not a database")
    found = check_database(path, None, NETSCAND)
    assert (found.verdict, f"{path} is broken" in found.found) == ("warning", True)


def test_a_history_without_a_folder_can_be_created(tmp_path: Path) -> None:
    assert check_database(tmp_path / "no" / "where" / "n.db", None, NETSCAND).verdict == "ok"
    assert not list(tmp_path.iterdir())


def test_invalid_tables_hide_no_other_check(tmp_path: Path) -> None:
    assert check.check_socket(None, None, NETSCAND).verdict == "unknown"
    assert "interfaces" in verdicts(list(check.check_networks(Reading())))
