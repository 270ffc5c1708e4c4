"""The service as people have it: installed, started by systemd, killed, hung, reloaded, upgraded, removed."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading
from functools import partial
from typing import Any

import pytest

from tests.lab.asking import soon
from tests.system.conftest import Installed
from tests.system.load import asking
from tests.system.machine import Machine

SOCKET = "/run/netscand/netscand.sock"
CONFIG = "/etc/netscand/netscand.toml"


def said(installed: Installed, *words: str) -> list[str]:
    """Messages of netscand in the journal."""
    return [entry["MESSAGE"] for entry in installed.machine.journal("_SYSTEMD_UNIT=netscand.service", *words)]


def status(installed: Installed) -> dict[str, Any]:
    """What the daemon says of itself, to an ordinary user."""
    told: dict[str, Any] = json.loads(installed.machine.run("netscanctl", "status", "--json", user="ann").stdout)
    return told


def test_an_ordinary_user_sees_every_device_at_once(installed: Installed) -> None:
    """Installed, and nothing else done: `netscanctl watch` has shown the LAN (the fixture waits for it)."""
    assert installed.seen_after > 0
    assert "usermod -aG netscan" in installed.said


def test_it_is_an_ordinary_user_with_one_capability(installed: Installed) -> None:
    """In the kernel's own words: uid, CAP_NET_RAW (bit 13) in every set, no new privileges, a filter of calls."""
    pid = installed.ready()
    told = dict(
        line.split(":\t") for line in installed.machine.out("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line
    )
    netscan = installed.machine.out("id", "-u", "netscan")
    assert set(told["Uid"].split()) == {netscan} != {"0"}
    assert {told[kind] for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {f"{1 << 13:016x}"}
    assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2")


def test_others_read_nothing_of_the_history(installed: Installed) -> None:
    """The state folder is netscan's alone, and so is what lies in it (FAULTS T19)."""
    folder = installed.machine.path("/var/lib/netscand")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == int(installed.machine.out("id", "-u", "netscan"))
    for file in folder.iterdir():
        assert not file.stat().st_mode & 0o077, file.name
    assert installed.machine.run("ls", "/var/lib/netscand", user="ann", check=False).returncode != 0


def test_the_socket_stands_where_nobody_can_plant_one(installed: Installed) -> None:
    """Everyone may connect, and only root may write where it stands (FAULTS T17)."""
    place = installed.machine.path(SOCKET)
    assert stat.S_ISSOCK(place.lstat().st_mode)
    assert stat.S_IMODE(place.stat().st_mode) == 0o666
    assert (place.parent.stat().st_uid, stat.S_IMODE(place.parent.stat().st_mode)) == (0, 0o755)


def test_nothing_can_be_executed_in_its_sandbox(installed: Installed) -> None:
    """An attacker in the daemon finds no shell: nothing but Python may be executed there."""
    try:
        installed.drop_in("[Service]\nExecStartPre=/bin/true\n", wait=False)
        # Not at once: it is tried again and again.
        assert soon(lambda: "status=203" in installed.machine.show("netscand", "ExecStartPre")["ExecStartPre"])
    finally:
        installed.drop_in("")
    installed.ready()


def test_events_are_entries_with_fields(installed: Installed) -> None:
    """`journalctl NETSCAND_MAC=…` shows the events of one device, each event once, in words for people."""
    ip = "10.77.0.253"
    mac = installed.crowd.join(ip, "02:00:00:00:13:12")
    try:
        assert soon(lambda: said(installed, f"NETSCAND_MAC={mac}", "NETSCAND_KIND=discovered"))
        (entry,) = installed.machine.journal(f"NETSCAND_MAC={mac}", "NETSCAND_KIND=discovered")
        assert entry["MESSAGE"].startswith(f"{ip} {mac}: discovered")
        assert (entry["PRIORITY"], entry["NETSCAND_IP"], entry["SYSLOG_IDENTIFIER"]) == ("6", ip, "netscand")
        assert entry["NETSCAND_NETWORK"] == "10.77.0.0/24@host0"
    finally:
        installed.crowd.leave(ip)


def test_no_library_writes_into_the_journal(installed: Installed) -> None:
    """pyroute2 warned at every start of /proc/net/psched, which the sandbox hides."""
    messages = said(installed)
    assert messages
    assert not [message for message in messages if "psched" in message or "tc subsystem" in message]


def test_its_status_is_one_line_of_counts(installed: Installed) -> None:
    """What `systemctl status` shows."""
    assert soon(lambda: "online (without this host)" in installed.machine.show("netscand", "StatusText")["StatusText"])


def test_a_lan_of_254_devices_fits_into_96_mib(installed: Installed) -> None:
    """In the unit, as it runs (FAULTS F15)."""
    pid = installed.ready()
    assert soon(lambda: status(installed)["devices"]["online"] >= len(installed.people))
    lines = installed.machine.out("cat", f"/proc/{pid}/status").splitlines()
    resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    assert resident / 1024 <= 96


def test_killed_it_is_back_and_who_waits_is_served(installed: Installed) -> None:
    """`kill -9`: a client that asks right then gets its answer (FAULTS F1)."""
    pid = installed.ready()
    installed.signal("KILL", pid)
    assert status(installed)["version"]
    assert installed.ready() != pid


def test_stopped_it_is_killed_and_started_anew(installed: Installed) -> None:
    """SIGSTOP: the watchdog sees it (FAULTS F3)."""
    pid = installed.ready()
    allowed = int(re.sub(r"\D", "", installed.machine.show("netscand", "WatchdogUSec")["WatchdogUSec"]))
    installed.signal("STOP", pid)
    assert soon(lambda: not installed.machine.path(f"/proc/{pid}").exists(), allowed + 30)
    assert installed.ready() != pid


BLIND = """
import asyncio, sys
async def hang(self):
    await asyncio.Event().wait()
class Blind:
    def find_spec(self, name, path=None, target=None):
        wire = sys.modules.get("netscand.lan.wire")
        if hasattr(wire, "Wire"):  # imported, and not yet used: the daemon imports more
            wire.Wire._listen = hang
sys.meta_path.insert(0, Blind())
"""


def test_a_receive_path_that_hangs_alone_is_enough(installed: Installed) -> None:
    """All else goes on, and the watchdog starves: systemd kills it, and the log says what hung, and where (F3)."""
    installed.machine.write("/etc/netscand-blind/sitecustomize.py", BLIND)
    try:
        installed.drop_in("[Service]\nWatchdogSec=2s\nEnvironment=PYTHONPATH=/etc/netscand-blind\n")
        pid = installed.ready()
        assert status(installed)["version"]
        assert soon(lambda: installed.machine.main_pid() not in (0, pid))
        assert soon(lambda: any(line.startswith("receive path hangs") for line in said(installed, f"_PID={pid}")))
        assert any("Fatal Python error: Aborted" in line for line in said(installed, f"_PID={pid}"))
    finally:
        installed.drop_in("")
    installed.ready()


def test_a_good_file_is_taken_and_a_bad_one_told(installed: Installed) -> None:
    """Reloading keeps the process, the clients and, with a bad file, the old configuration (FAULTS F19).

    It fails with a bad file, so that who or what runs `systemctl reload` notices.
    """
    pid = installed.ready()
    before = installed.machine.path(CONFIG).read_text()

    def interval() -> float:
        told = json.loads(installed.machine.run("netscanctl", "networks", "--json", user="ann").stdout)
        return next(float(network["interval"]) for network in told["networks"] if network["state"] == "up")

    def logged(sentence: str) -> bool:
        return any(sentence in line for line in said(installed, "PRIORITY=3"))

    try:
        installed.machine.write(CONFIG, "[scan]\ninterval = 45\n")
        installed.machine.run("systemctl", "reload", "netscand")
        assert soon(lambda: interval() == 45)
        installed.machine.write(CONFIG, "[scan]\ninterval = 0\n")
        assert installed.machine.run("systemctl", "reload", "netscand", check=False).returncode != 0
        assert installed.machine.show("netscand", "ActiveState")["ActiveState"] == "active"
        assert status(installed)["status"] == "degraded"
        assert soon(partial(logged, f"{CONFIG}: [scan] interval"))
        assert interval() == 45
        for fate in ("empty", "no such file"):  # as after a full disk, or a slip: no defaults, and no silence
            installed.machine.write(CONFIG, "") if fate == "empty" else installed.machine.path(CONFIG).unlink()
            assert installed.machine.run("systemctl", "reload", "netscand", check=False).returncode != 0
            assert soon(partial(logged, f"in force: {CONFIG}: {fate}"))
            assert interval() == 45
    finally:
        installed.machine.write(CONFIG, before)
        installed.machine.run("systemctl", "reload", "netscand")
    assert soon(lambda: interval() == 30)
    assert installed.ready() == pid


def test_a_restart_refuses_nobody(installed: Installed) -> None:
    """`systemctl restart` again and again under 1,000 requests: each is answered (FAULTS F2)."""
    with asking(installed.machine.path(SOCKET)) as clients:
        while sum(clients.outcomes.values()) < 1000:
            pid = installed.ready()
            clients.wait_for(sum(clients.outcomes.values()) + 250)
            installed.machine.run("systemctl", "restart", "netscand")
            assert installed.ready() != pid
    assert set(clients.outcomes) == {"200"}, clients.outcomes


def test_no_right_is_one_sentence_and_no_loop(installed: Installed) -> None:
    """AF_PACKET forbidden, as in some containers: exit 77, reported once, and not restarted (FAULTS F18)."""
    since = installed.machine.out("date", "+%s")
    try:
        installed.drop_in("[Service]\nCapabilityBoundingSet=\nAmbientCapabilities=\n")
        assert soon(lambda: installed.machine.show("netscand", "ActiveState")["ActiveState"] == "failed")
        shown = installed.machine.show("netscand", "ExecMainStatus", "NRestarts", "Result")
        assert (shown["ExecMainStatus"], shown["Result"]) == ("77", "exit-code")
        lines = said(installed, f"--since=@{since}")
        assert [line for line in lines if "CAP_NET_RAW" in line and line.startswith("netscand: not permitted")]
        assert not any("Traceback" in line for line in lines)
    finally:
        installed.drop_in("")
    installed.ready()


def test_a_sandbox_that_fails_is_one_try_with_its_fix(installed: Installed) -> None:
    """FIELD case 18: 226/NAMESPACE, as in LXC without nesting: one try, one more if a client asks, and the fix."""
    machine = installed.machine
    since = machine.out("date", "+%s")
    machine.run("netscanctl", "status", user="ann")

    def is_closed() -> bool:
        return machine.show("netscand.socket", "ActiveState")["ActiveState"] == "inactive"

    try:
        installed.drop_in("[Service]\nBindPaths=/none:/mnt\n")
        assert soon(lambda: machine.show("netscand", "ActiveState")["ActiveState"] == "failed")
        shown = machine.show("netscand", "ExecMainStatus", "NRestarts")
        assert shown == {"ExecMainStatus": "226", "NRestarts": "0"}
        assert soon(is_closed)
        machine.run("systemctl", "start", "netscand.socket")
        asked = machine.run("netscanctl", "devices", user="ann", check=False)  # connecting starts it
        assert asked.returncode == 3
        assert soon(is_closed)
        asked = machine.run("netscanctl", "devices", check=False)  # root's systemctl needs no D-Bus
        assert "exit code 226: systemd cannot set up the sandbox here" in asked.stderr
        example = re.findall(r"copy (\S+/container.conf) to /etc/systemd/system/netscand.service.d/", asked.stderr)
        assert "nesting=1" in asked.stderr
        doctor = machine.run("netscanctl", "doctor", check=False).stdout
        assert example[0] in doctor
        tries = machine.journal("UNIT=netscand.service", f"--since=@{since}", "EXIT_STATUS=226")
        assert len([entry for entry in tries if entry.get("EXIT_CODE")]) == 2, tries
        installed.drop_in(machine.path(example[0]).read_text())
        pid = installed.ready()
        spaces = [machine.out("readlink", f"/proc/{process}/ns/mnt") for process in (1, pid)]
        assert spaces[0] == spaces[1], "it mounts, which such a container forbids"
        assert status(installed)["status"] == "ok"
    finally:
        installed.drop_in("")
    installed.ready()


def test_it_needs_neither_bus_nor_resolver_nor_journald(installed: Installed) -> None:
    """The machine has no D-Bus and no resolver; journald hangs and is restarted: the daemon goes on (FAULTS F17)."""
    machine = installed.machine
    assert not machine.path("/run/dbus/system_bus_socket").exists()
    pid = installed.ready()
    journald = machine.main_pid("systemd-journald")
    installed.signal("STOP", journald)
    macs = [installed.crowd.join("10.77.0.253", f"02:00:00:00:17:{number:02x}") for number in range(20)]
    assert status(installed)["version"]
    installed.signal("CONT", journald)
    machine.run("systemctl", "restart", "systemd-journald")
    for mac in macs:
        installed.crowd.leave(mac)
    mac = installed.crowd.join("10.77.0.253", "02:00:00:00:17:ff")
    assert soon(lambda: said(installed, f"NETSCAND_MAC={mac}"))
    installed.crowd.leave(mac)
    assert installed.ready() == pid


def test_members_of_the_group_are_told_from_others(installed: Installed) -> None:
    """By the kernel's word for who connects: ann has the role scan, a member of netscan and root have admin."""
    machine = installed.machine
    machine.run("useradd", "--create-home", "--groups", "netscan", "eve", check=False)
    roles = {}
    for user in ("ann", "eve", None):
        watch = machine.popen("netscanctl", "watch", "--json", user=user)
        assert watch.stdout is not None
        roles[user] = json.loads(watch.stdout.readline())["role"]
        watch.send_signal(signal.SIGTERM)
        watch.communicate()
    assert roles == {"ann": "scan", "eve": "admin", None: "admin"}


def test_watches_go_on_without_a_gap(installed: Installed) -> None:
    """Restarted and killed while it is watched: it prints what the history holds, each event once (F2)."""
    machine = installed.machine
    watch = machine.popen("netscanctl", "watch", "--json", user="ann", stderr=subprocess.DEVNULL)
    told: list[dict[str, Any]] = []
    assert watch.stdout is not None
    reading = threading.Thread(target=lambda out=watch.stdout: told.extend(map(json.loads, out)))
    reading.start()
    try:
        assert soon(lambda: bool(told))
        macs = []
        for number, how in enumerate(("restart", "kill", "restart")):
            mac = installed.crowd.join("10.77.0.253", f"02:00:00:00:02:{number:02x}")
            macs.append(mac)
            assert soon(lambda mac=mac: any(mac in json.dumps(message) for message in told))  # type: ignore[misc]
            pid = installed.ready()
            if how == "kill":
                installed.signal("KILL", pid)
            else:
                machine.run("systemctl", "restart", "netscand")
            assert soon(lambda pid=pid: installed.ready() != pid)  # type: ignore[misc]
            installed.crowd.leave(mac)
        last = installed.crowd.join("10.77.0.253", "02:00:00:00:02:ff")
        assert soon(lambda: any(message.get("kind") and last in json.dumps(message) for message in told))
    finally:
        watch.kill()
        reading.join()
        watch.communicate()
        installed.crowd.leave("10.77.0.253")
    cursors = [message["cursor"] for message in told if message["type"] == "event"]
    stored = machine.run("netscanctl", "events", "--since", cursors[0], "--limit", "5000", "--json", user="ann").stdout
    assert cursors[1:] == [event["cursor"] for event in json.loads(stored)["events"]][: len(cursors) - 1]
    assert len(set(cursors)) == len(cursors)
    assert sum(message["type"] == "initial_state" for message in told) == 1
    assert sum(message["type"] == "resumed" for message in told) == 3


def test_a_token_is_told_to_nobody(installed: Installed) -> None:
    """Neither the journal nor the arguments or the environment of any process hold it; in a URL it is refused (T18)."""
    machine = installed.machine
    token = "0123456789abcdefghijklmnopqrstuvwxyz-SECRET"
    machine.write("/etc/netscand/tokens", f"admin {token}\n", 0o640)
    machine.run("chgrp", "netscan", "/etc/netscand/tokens")
    machine.write("/home/ann/token", f"{token}\n", 0o644)
    try:
        installed.drop_in("[Service]\nLoadCredential=tokens:/etc/netscand/tokens\n")
        pid = installed.ready()
        argv = ("netscanctl", "--token-file", "/home/ann/token", "watch", "--json")
        with machine.popen(*argv, user="ann", stderr=subprocess.DEVNULL) as watch:
            assert watch.stdout is not None
            first = json.loads(watch.stdout.readline())
            held = machine.out("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '")
            watch.kill()
    finally:
        machine.path("/etc/netscand/tokens").unlink()
        installed.drop_in("")
    assert first["role"] == "admin"
    assert "/home/ann/token" in held
    assert "SECRET" not in held
    assert not [entry for entry in machine.journal() if "SECRET" in json.dumps(entry)]
    assert installed.ready() != pid


def test_root_creates_and_revokes_a_token(installed: Installed) -> None:
    """Without a restart; the file is of root, for the group of the service; an ordinary user reads what to do (T2)."""
    machine, pid = installed.machine, installed.ready()
    try:
        refused = machine.run("netscanctl", "token", "add", "read", user="ann", check=False)
        assert (refused.returncode, "sudo netscanctl token" in refused.stderr) == (4, True)
        given = json.loads(machine.run("netscanctl", "token", "add", "read", "--name", "ann's phone", "--json").stdout)
        file = machine.path("/etc/netscand/tokens").stat()
        gid = int(machine.out("id", "-g", "netscan"))
        assert (file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode)) == (0, gid, 0o640)
        machine.write("/home/ann/token", f"{given['token']}\n", 0o644)
        asks = ("netscanctl", "--token-file", "/home/ann/token", "status", "--json")
        assert json.loads(machine.run(*asks, user="ann").stdout)["role"] == "read"
        assert "ann's phone  read" in machine.run("netscanctl", "token", "list").stdout
        machine.run("netscanctl", "token", "revoke", "ann's phone")
        assert machine.run(*asks, user="ann", check=False).returncode == 4
        assert installed.ready() == pid
    finally:
        machine.path("/etc/netscand/tokens").unlink()
        machine.run("systemctl", "reload", "netscand")


def test_without_descriptors_it_goes_on(installed: Installed) -> None:
    """Idle clients take all there are: devices are seen and written down all the same (FAULTS F14)."""
    path = str(installed.machine.path(SOCKET))
    idle: list[socket.socket] = []
    try:
        installed.drop_in("[Service]\nLimitNOFILE=128\n")
        pid = installed.ready()
        for _ in range(200):
            idle.append(client := socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.connect(path)
            client.settimeout(10)
        mac = installed.crowd.join("10.77.0.253", "02:00:00:00:14:00")
        assert soon(lambda: said(installed, f"NETSCAND_MAC={mac}", "NETSCAND_KIND=discovered"))
        idle[0].sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")  # which opens files
        assert idle[0].recv(100).startswith(b"HTTP/1.1 200 ")
        assert not said(installed, f"_PID={pid}", "PRIORITY=3")
        assert installed.machine.main_pid() == pid
        for client in idle:
            client.close()
        assert soon(lambda: mac in installed.machine.run("netscanctl", "devices", user="ann", check=False).stdout)
    finally:
        for client in idle:
            client.close()
        installed.crowd.leave("10.77.0.253")
        installed.drop_in("")
    installed.ready()


def test_the_manual_is_there(installed: Installed) -> None:
    """Where each distribution looks for it."""
    share = "/usr/share" if installed.by_package else "/usr/local/share"
    end = ".gz" if installed.by_package else ""
    for page in ("man8/netscand.8", "man1/netscanctl.1", "man5/netscand.toml.5"):
        assert installed.machine.path(f"{share}/man/{page}{end}").exists()
    assert os.access(installed.machine.path(CONFIG), os.R_OK)


@pytest.mark.last
def test_an_upgrade_refuses_nobody_and_purging_leaves_nothing(debian13: Installed) -> None:
    """Upgraded under load; removed it keeps what the user made; purged nothing is left."""
    machine = debian13.machine
    package = next(machine.path("/root").glob("netscand_*.deb"))
    machine.run("sh", "-euc", UPGRADE, "sh", package.name)
    pid = debian13.ready()
    with asking(machine.path(SOCKET)) as clients:
        clients.wait_for(100)
        machine.run("dpkg", "--install", "/root/netscand_9.deb", timeout=120)
        clients.wait_for(sum(clients.outcomes.values()) + 300)
    assert set(clients.outcomes) == {"200"}, clients.outcomes
    assert debian13.ready() != pid
    run_a_service(machine)
    removed = machine.run("apt-get", "remove", "--yes", "netscand", timeout=120)
    assert "triggering units" not in removed.stdout + removed.stderr
    assert machine.path(CONFIG).exists()
    assert machine.path("/var/lib/netscand").exists()
    assert not machine.path(SOCKET).exists()
    machine.run("apt-get", "purge", "--yes", "netscand", timeout=120)
    left(debian13)


UPGRADE = """
cd /root
dpkg-deb --raw-extract "$1" next
sed -i 's/^Version: .*/Version: 9/' next/DEBIAN/control
dpkg-deb --build --root-owner-group next netscand_9.deb >&2
"""


@pytest.mark.last
def test_packaging_install_upgrades_and_takes_everything_away(debian12: Installed) -> None:
    """Run again it upgrades and refuses no connection; --remove keeps what the user made; --purge leaves nothing."""
    from tests.system.conftest import install

    pid = debian12.ready()
    with asking(debian12.machine.path(SOCKET)) as clients:
        clients.wait_for(100)
        install(debian12.machine)
        clients.wait_for(sum(clients.outcomes.values()) + 250)
    assert set(clients.outcomes) == {"200"}, clients.outcomes
    assert debian12.ready() != pid
    run_a_service(debian12.machine)
    install(debian12.machine, "--remove")
    assert debian12.machine.path(CONFIG).exists()
    assert not debian12.machine.path("/opt/netscand").exists()
    install(debian12.machine, "--purge")
    left(debian12)


def run_a_service(machine: Machine) -> None:
    """One that is off by default, with a secret, runs when all is removed; another one has failed."""
    machine.write("/etc/netscand/services.toml", '[notify]\nntfy = "http://127.0.0.1:9/netscand-4f7q2x9k"\n')
    machine.path("/etc/credstore").mkdir(mode=0o700, exist_ok=True)
    machine.write("/etc/credstore/netscand-notify.token", "secret\n", 0o600)
    machine.run("systemctl", "enable", "--now", "netscand-notify")
    assert machine.show("netscand-notify", "ActiveState") == {"ActiveState": "active"}
    machine.write("/etc/netscand/services.toml", "[mqtt]\ndevices = 1\n")
    machine.run("systemctl", "restart", "netscand-mqtt", check=False)
    assert soon(lambda: machine.show("netscand-mqtt", "ActiveState") == {"ActiveState": "failed"})


def left(installed: Installed) -> None:
    """Nothing of ours is left, but for what dpkg and the journal remember and what the test put there itself."""
    installed.machine.run("userdel", "--force", "eve", check=False)
    everywhere = ("find", "/", "/run", "/tmp", "-xdev")
    found = installed.machine.out(*everywhere, "-iname", "*netscan*", "-not", "-path", "/root/*").splitlines()
    assert [path for path in found if not path.startswith("/etc/netscand-blind")] == []
    assert not installed.machine.run("systemctl", "list-units", "--no-legend", "netscand*").stdout
    for table in ("passwd", "group"):
        assert installed.machine.run("getent", table, "netscan", check=False).returncode != 0
    assert "netscand" not in installed.machine.run("systemctl", "list-unit-files", "--no-legend").stdout
