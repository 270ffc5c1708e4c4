"""`watch` and `wait-for`: what is printed when, and how they end."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from netscanctl.stream import RECONNECT_DELAY
from netscand.protocol import Devices, Event, Lagged, ScanError, SetInterval, encode
from tests.ctl.conftest import ROOT, Ctl, Running
from tests.ctl.fake_daemon import DEADLINE, FakeDaemon
from tests.ctl.messages import HOME, OFFICE, came, device, event, left, network, resumed, snapshot
from tests.ctl.test_one_shot import closed_early

TABLE = 4
"""Lines of the first table: a head, and the fake daemon's three devices."""


def watching(ctl: Ctl, *args: str, fast: bool = True) -> Running:
    """A watch that has printed its table."""
    running = ctl.start("watch", *args, fast=fast)
    ctl.daemon.until_watched()
    assert running.lines(TABLE)[0].startswith("STATUS")
    return running


def brief(lines: list[str]) -> list[str]:
    """Mark, kind and name (of a network its id) of lines of changes."""
    words = [line.split() for line in lines]
    return [" ".join([*one[2:4], one[4] if "@" in one[4] or len(one) < 7 else one[6]]) for one in words]


def test_watch_prints_the_devices_then_a_line_per_change(ctl: Ctl) -> None:
    running = watching(ctl)
    ctl.daemon.send(event("discovered", device(9)), left(device(7, "offline")))
    assert brief(running.lines(2)) == ["+ discovered host9", "- offline host7"]
    assert running.end() == 130
    assert running.rest(running.err) == []


def test_a_snapshot_in_parts_is_one_table(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.snapshot = [
        snapshot(device(20), more=True), Devices(devices=[device(8)], more=True),
        Devices(devices=[device(7)], more=False),
    ]  # fmt: skip
    running = ctl.start("watch")
    rows = [line.split()[3] for line in running.lines(TABLE)[1:]]
    assert rows == ["192.168.1.7", "192.168.1.8", "192.168.1.20"]


def test_an_outage_is_one_line_and_then_the_differences(ctl: Ctl) -> None:
    """After an outage, only devices with another status than before are printed."""
    running = watching(ctl)
    ctl.daemon.send(
        event("network_down"), event("network_up"), came(device(7), "unknown"), left(device(20, "offline"), "unknown"),
        event("flood"),
    )  # fmt: skip
    assert brief(running.lines(4)) == [
        f"! network_down {HOME}", f"~ network_up {HOME}", "- offline host20", f"! flood {HOME}",
    ]  # fmt: skip


def test_watch_filters_by_kind_text_and_network(ctl: Ctl, daemon: FakeDaemon) -> None:
    running = watching(ctl, "host", "--network", HOME, "--kind", "offline,flood")
    daemon.send(event("discovered", device(9)), left(device(7, "offline")), came(device(7)), event("flood"))
    assert brief(running.lines(2)) == ["- offline host7", f"! flood {HOME}"]
    assert daemon.requests[-1][2] == {"updates": "changes", "q": "host", "network": HOME}


def test_a_failed_scan_is_reported_on_stderr(ctl: Ctl) -> None:
    running = watching(ctl)
    ctl.daemon.send(ScanError(scan_id=1, network=HOME, message="the interface is down"))
    assert running.notice() == f"netscanctl: scan of {HOME} failed: the interface is down"


def test_json_prints_every_message_as_received(ctl: Ctl, daemon: FakeDaemon) -> None:
    running = ctl.start("watch", "--json")
    daemon.until_watched()
    odd = b'{ "type":"event","kind":"flood", "cursor":"a-2","at":"x","new":"\\u00e4\xc3\xa4"}'
    unknown = b'{"type":"weather"}'
    daemon.send(odd, unknown)
    lines = running.lines(3)
    assert lines[0].encode() == encode(snapshot(*daemon.devices))
    assert [line.encode() for line in lines[1:]] == [odd, unknown]


def test_json_omits_only_events_of_other_kinds(ctl: Ctl) -> None:
    running = ctl.start("watch", "--json", "--kind", "offline")
    ctl.daemon.until_watched()
    ctl.daemon.send(event("discovered", device(9)), Lagged(cursor="a-3"), left(device(7, "offline")))
    assert [json.loads(line)["type"] for line in running.lines(3)] == ["initial_state", "lagged", "event"]


def test_a_lost_connection_is_resumed_after_3_seconds(ctl: Ctl, daemon: FakeDaemon) -> None:
    """The loss is reported, and no event is missing."""
    daemon.resumed = [resumed("k3f9-2"), left(device(20, "offline"), cursor="k3f9-3")]
    running = watching(ctl, fast=False)
    daemon.send(left(device(7, "offline"), cursor="k3f9-2"))
    assert brief(running.lines(1)) == ["- offline host7"]
    there = time.monotonic()
    daemon.stop()
    assert running.notice() == "netscanctl: connection lost; reconnecting…"
    daemon.start()
    assert running.notice() == "netscanctl: connected again"
    assert time.monotonic() - there >= RECONNECT_DELAY
    assert brief(running.lines(1)) == ["- offline host20"]
    assert daemon.requests[-1][2] == {"updates": "changes", "since": "k3f9-2"}
    assert running.end() == 130


def test_since_resumes_without_the_list(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.resumed = [resumed("k3f9-5"), left(device(7, "offline"), cursor="k3f9-6")]
    running = ctl.start("watch", "--since", "k3f9-5")
    assert brief(running.lines(1)) == ["- offline host7"]
    assert daemon.requests[-1][2] == {"updates": "changes", "since": "k3f9-5"}


def test_the_interval_is_requested_on_every_connection(ctl: Ctl, daemon: FakeDaemon) -> None:
    running = watching(ctl, "--interval", "5")
    request = SetInterval(seconds=5, request="interval")
    daemon.until(lambda: daemon.received == [request])
    daemon.cut()
    daemon.until(lambda: daemon.received == [request, request])
    assert running.end() == 130


def test_a_refused_interval_ends_watch(ctl: Ctl) -> None:
    """Before anything is printed: the first message says what is allowed."""
    running = ctl.start("watch", "--interval", "31")
    assert running.notice() == "netscanctl: --interval 31: expected 1 to 30 seconds ([scan] interval)"
    assert running.end(None) == 1
    assert running.rest(running.out) == []


def test_a_prefix_selects_all_networks_that_have_it(ctl: Ctl, daemon: FakeDaemon) -> None:
    ctl.start("watch", "--network", "192.168.1.0/24")
    daemon.until_watched()
    assert [query["network"] for _, path, query, _ in daemon.requests if path == "/ws"] == ["192.168.1.0/24"]


@pytest.mark.parametrize(("option", "value"), [("--known", "true"), ("--not-known", "false")])
def test_watch_filters_by_the_mark(ctl: Ctl, daemon: FakeDaemon, option: str, value: str) -> None:
    ctl.start("watch", option)
    daemon.until_watched()
    assert [query["known"] for _, path, query, _ in daemon.requests if path == "/ws"] == [value]


def test_what_can_be_no_network_is_refused(ctl: Ctl) -> None:
    failure = ctl.fails(1, "watch", "--network", "10.1.0.0")
    assert failure == f'unknown network "10.1.0.0"; expected an id or prefix: {HOME}'


@pytest.mark.parametrize("name", [OFFICE, OFFICE.partition("@")[0]])
@pytest.mark.parametrize("form", [[], ["--json"], ["--exec", "cat"]], ids=str)
def test_watch_waits_for_an_unknown_network(ctl: Ctl, daemon: FakeDaemon, form: list[str], name: str) -> None:
    """A service may be started before its network is up."""
    daemon.snapshot = [snapshot()]
    running = ctl.start("watch", "--network", name, *form)
    assert running.notice() == f'netscanctl: unknown network "{name}"; waiting for it; existing networks: {HOME}'
    if not form:
        assert len(running.lines(1)) == 1
    elif form == ["--json"]:
        assert json.loads(running.lines(1)[0])["type"] == "initial_state"
    daemon.send(event("network_up", network=OFFICE))
    assert OFFICE in running.lines(1)[0]
    assert running.end() == 130
    assert running.rest(running.err) == []


def test_an_existing_or_removed_network_is_not_reported(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.devices.append(device(9, "offline", network="10.9.9.0/24@gone0"))
    for known in (HOME, "10.9.9.0/24@gone0"):
        running = ctl.start("watch", "--network", known)
        assert running.lines(1)[0].startswith("STATUS")
        assert running.end() == 130
        assert running.rest(running.err) == []


def test_a_lagged_stream_is_reported_and_resumed(ctl: Ctl, daemon: FakeDaemon) -> None:
    running = watching(ctl)
    daemon.send(Lagged(cursor="k3f9-9"))
    daemon.cut(4000)
    assert running.notice() == "netscanctl: reading too slowly: the daemon closed the stream; reconnecting"
    assert running.notice() == "netscanctl: connection lost; reconnecting…"
    assert running.notice() == "netscanctl: connected again"
    assert daemon.requests[-1][2]["since"] == "k3f9-9"


@pytest.mark.parametrize("args", [["watch"], ["watch", "--json"]], ids=" ".join)
def test_a_closed_pipe_ends_watch_at_once(ctl: Ctl, args: list[str]) -> None:
    """Also while nothing changes: the next line may be hours away."""
    with closed_early(ctl, *args) as (running, stderr):
        assert (running.wait(DEADLINE), stderr.read()) == (0, b"")


def test_lines_are_written_to_a_file_at_once(ctl: Ctl, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(ctl.argv("watch"), env=ctl.env(), cwd=ROOT, stdout=log)
    ctl.daemon.until_watched()
    ctl.daemon.send(event("discovered", device(9)))
    try:
        while "discovered" not in (tmp_path / "log").read_text():
            assert running.poll() is None
    finally:
        running.send_signal(signal.SIGINT)
        assert running.wait(DEADLINE) == 130


# ---- wait-for


@pytest.mark.parametrize(
    "args", [["host7"], ["192.168.1.7"], ["a4:83:e7:00:00:07"], ["host8", "--offline"]], ids=" ".join
)
def test_wait_for_returns_at_once_if_already_true(ctl: Ctl, args: list[str]) -> None:
    done = ctl.run("wait-for", *args)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("who", ["host8", "192.168.1.8", "a4:83:e7:00:00:08"])
def test_wait_for_ends_when_the_device_is_online(ctl: Ctl, who: str) -> None:
    running = ctl.start("wait-for", who)
    ctl.daemon.until_watched()
    ctl.daemon.send(came(device(20)), event("network_silent"))
    ctl.daemon.send(came(device(8), "unknown"))
    assert running.end(None) == 0
    assert running.rest(running.err) == ["netscanctl: host8 is online"]


@pytest.mark.parametrize(
    ("args", "changes"),
    [(["host7", "--offline"], [event("network_down"), left(device(7, "offline"), "unknown")]),  # in doubt: not offline
     (["192.168.1.9"], [event("discovered", device(9))]), (["a4:83:e7:00:00:09"], [event("discovered", device(9))]),
     (["host8"], [event("renamed", device(8, "offline", hostname="nas")), came(device(8, hostname="nas"))]),
     (["192.168.1.8"], [event("discovered", device(9, ip="192.168.1.8"))])],
    ids=["offline", "an unseen address", "an unseen mac", "renamed", "an address with a new device"],
)  # fmt: skip
def test_wait_for_ends_when_its_device_is_there_or_gone(ctl: Ctl, args: list[str], changes: list[Event]) -> None:
    running = ctl.start("wait-for", *args)
    ctl.daemon.until_watched()
    ctl.daemon.send(*changes)
    assert running.end(None) == 0


def test_wait_for_refuses_an_unknown_or_ambiguous_name(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert 'no device matches "unknown"' in ctl.fails(1, "wait-for", "unknown")
    daemon.devices[1].hostname = "host7"
    assert '"host7" matches 2 devices' in ctl.fails(1, "wait-for", "host7")


def test_wait_for_times_out(ctl: Ctl) -> None:
    assert ctl.fails(6, "wait-for", "host8", "--timeout", "0.2") == "host8 is not online after 0.2 s"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [(["host7"], 0, "host7 is online"), (["host8"], 6, "host8 is not online"),
     (["host8", "--offline"], 0, "host8 is offline"), (["host7", "host8", "host20"], 6, "host8 is not online"),
     (["host7", "host8", "--any"], 0, "host7 is online"),
     (["host7", "host20", "--offline"], 6, "host7, host20 are not offline")],
    ids=str,
)  # fmt: skip
def test_timeout_0_checks_the_status_now(ctl: Ctl, args: list[str], code: int, message: str) -> None:
    """After one look at the devices, however long the connection took."""
    done = ctl.run("wait-for", *args, "--timeout", "0")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"netscanctl: {message}\n")


def test_wait_for_waits_for_all_devices_at_the_same_time(ctl: Ctl, daemon: FakeDaemon) -> None:
    running = ctl.start("wait-for", "host7", "a4:83:e7:00:00:08", "192.168.1.9")
    daemon.until_watched()
    daemon.send(came(device(8)), left(device(7, "offline")), event("discovered", device(9)))
    assert running.process.poll() is None
    daemon.send(came(device(7)))
    assert running.notice() == "netscanctl: host7, host8, host9 are online"
    assert running.end(None) == 0


def test_wait_for_any_ends_with_the_first_device(ctl: Ctl, daemon: FakeDaemon) -> None:
    running = ctl.start("wait-for", "--any", "host8", "192.168.1.9")
    daemon.until_watched()
    daemon.send(event("discovered", device(9)))
    assert running.notice() == "netscanctl: host9 is online"
    assert running.end(None) == 0


def test_wait_for_reports_an_address_that_is_not_scanned(ctl: Ctl, daemon: FakeDaemon) -> None:
    """Otherwise it waits without a hint; a network that is excluded is not scanned."""
    daemon.networks.append(network(OFFICE, "excluded"))
    for ip in ("10.99.0.1", "10.0.0.1"):
        notice = ctl.start("wait-for", ip).notice()
        assert notice.startswith(f"netscanctl: {ip} is in no scanned network")
    for target in ("192.168.1.99", "fe80::1", "aa:bb:cc:dd:ee:ff"):
        assert "no scanned network" not in ctl.run("wait-for", target, "--timeout", "0.1").stderr


def test_on_a_terminal_wait_for_prints_that_it_waits(ctl: Ctl) -> None:
    shown = ctl.terminal("wait-for", "host8", "aa:bb:cc:dd:ee:ff", columns=200)
    shown.until(
        "waiting until online: host8 (offline since 2026-11-24 07:02:11), aa:bb:cc:dd:ee:ff (not seen yet); Ctrl-C"
    )
    shown.type("\x03")
    assert shown.end()[0] == 130


def test_wait_for_survives_a_restart_of_the_daemon(ctl: Ctl, daemon: FakeDaemon) -> None:
    running = ctl.start("wait-for", "host8")
    daemon.until_watched()
    daemon.stop()
    assert running.notice() == "netscanctl: connection lost; reconnecting…"
    daemon.devices[1].status = "online"
    daemon.start()
    assert running.end(None) == 0
