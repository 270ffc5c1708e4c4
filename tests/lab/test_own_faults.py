"""Our own troubles are not reported of others (law 8): a clock that jumps, a stopped process, another name."""

import signal
import time
from collections import Counter
from pathlib import Path

from tests.lab.lan import Lab
from tests.lab.test_daemon import until, until_scanned, wait_for
from tests.lab.test_lan_events import events, kinds

PATIENT = {"presence": {"probe_interval": 1, "patience": [5, 5]}, "names": {"sources": []}}

YEARS = 10 * 365 * 86_400

CLOCK = """
import time
from pathlib import Path

def later(real, unit):
    place = Path(__file__).with_name("jump")
    return lambda: real() + int(place.read_text()) * unit

time.time, time.time_ns = later(time.time, 1), later(time.time_ns, 10**9)
"""
"""A wall clock that jumps as a file says, for one process alone."""


def jump_to(place: Path, seconds: int) -> None:
    """At once: a daemon that looks while the file is written would read no number, and end."""
    (place / "next").write_text(str(seconds))
    (place / "next").replace(place / "jump")


def test_a_clock_that_jumps_changes_no_presence_and_no_order(lab: Lab, tmp_path: Path) -> None:
    """FAULTS F12: ten years on, back to an hour ago, and right again. The kernel's stamps stay where they are."""
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    jump_to(tmp_path, 0)
    crowd = lab.crowd()
    crowd.populate(addresses := lab.addresses(10, start=100))
    daemon = lab.daemon(PATIENT, env={"PYTHONPATH": str(tmp_path)})
    with daemon.websocket() as stream:
        until_scanned(stream)
        told = events(stream, 2)
        for number, jump in enumerate((YEARS, -3600, 0)):
            jump_to(tmp_path, jump)
            told += events(stream, 6)
            crowd.join(f"10.77.0.{50 + number}")
            told.append(joined := until(stream, "event", kind="discovered"))
            for stamp in ("at", "sent_at"):
                assert abs(int(joined[stamp][:4]) - time.gmtime().tm_year - round(jump / YEARS * 10)) <= 1
        crowd.leave(addresses[0])
        told.append(until(stream, "event", kind="offline"))
    assert set(kinds(told[:-1])) <= {"discovered"}
    assert {device["status"] for ip, device in daemon.devices().items() if ip != addresses[0]} == {"online"}
    cursors = [int(event["cursor"].rpartition("-")[2]) for event in told]
    assert cursors == sorted(cursors)
    listed = daemon.get("/api/events?limit=5000")["events"]
    assert [event["cursor"] for event in listed][-len(told) :] == [event["cursor"] for event in told]


def test_who_was_silent_while_we_were_stopped_is_not_gone(lab: Lab) -> None:
    """FAULTS F13: for three times their patience; then a scan comes first."""
    crowd = lab.crowd()
    crowd.populate(addresses := lab.addresses(20, start=100))
    daemon = lab.daemon(PATIENT)
    with daemon.websocket() as stream:
        until_scanned(stream)
        events(stream, 2)
        daemon.signal(signal.SIGSTOP)
        time.sleep(15)
        crowd.leave(addresses[0])
        daemon.signal(signal.SIGCONT)
        until(stream, "scan_started", requested_by="interface")
        gone = until(stream, "event", kind="offline")
        assert gone["address"] == addresses[0]
        assert not [event for event in events(stream, 8) if event["kind"] == "offline"]


def test_a_renamed_interface_reports_nobody_gone(lab: Lab) -> None:
    """FAULTS F10."""
    lab.crowd().populate(lab.addresses(10, start=100))
    daemon = lab.daemon(PATIENT)
    with daemon.websocket() as stream:
        until_scanned(stream)
        events(stream, 2)
        lab.watcher.space.ip("link set eth0 down", "link set eth0 name lan0", "link set lan0 up")
        until(stream, "event", kind="network_up", network="10.77.0.0/24@lan0")
        counted = Counter(kinds(events(stream, 10)))
        counted.pop("network_down", None)  # of the old name, before or after
        assert counted == {"online": 10}
    assert {device["status"] for device in daemon.devices().values()} == {"online"}
    assert [network["id"] for network in daemon.get("/api/networks")["networks"]] == [
        "10.77.0.0/24@lan0",
        "127.0.0.0/8@lo",
    ]


def test_without_a_clock_what_was_stored_stays(lab: Lab, tmp_path: Path) -> None:
    """FIELD case 12: the clock of a Raspberry Pi is 5 h behind at the boot, and right a minute later."""
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    jump_to(tmp_path, 0)
    crowd = lab.crowd()
    printer, phone = "10.77.0.50", "10.77.0.51"
    daemon = lab.daemon(PATIENT, env={"PYTHONPATH": str(tmp_path)})

    def stamps() -> tuple[str, ...]:
        told = daemon.devices()[printer]
        return told["first_seen"], told["last_seen"], told["status_since"], told["status"]

    with daemon.websocket() as stream:
        until_scanned(stream)
        crowd.join(printer)
        until(stream, "event", kind="discovered")
        crowd.leave(printer)
        until(stream, "event", kind="offline")
    stored = stamps()
    daemon.stop()
    jump_to(tmp_path, -5 * 3600)
    daemon.start()
    assert stamps() == stored
    with daemon.websocket() as stream:
        until_scanned(stream)
        crowd.join(phone)
        wrong = until(stream, "event", kind="discovered")
        assert wrong["at"] < stored[1]
        jump_to(tmp_path, 0)
        crowd.join("10.77.0.52")
        right = until(stream, "event", kind="discovered")

    def when() -> dict[str, str]:
        return {event["cursor"]: event["at"] for event in daemon.get("/api/events?kind=discovered")["events"]}

    wait_for("the right time", lambda: stored[1] < when()[wrong["cursor"]] < right["at"])
    assert when()[right["cursor"]] == right["at"]
    listed = daemon.get(f"/api/events?kind=discovered&since={stored[1]}")["events"]
    assert [event["cursor"] for event in listed] == [wrong["cursor"], right["cursor"]]
    assert stamps() == stored
    daemon.restart()
    assert stamps() == stored
    assert stored[1] < daemon.devices()[phone]["first_seen"] < right["at"]
