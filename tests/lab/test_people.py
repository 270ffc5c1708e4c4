"""People, with real hosts that join and leave."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.lan import Lab
from tests.lab.test_daemon import IMPATIENT, until, until_scanned, wait_for

QUIET = {"scan": {"interval": 3600}}


def test_a_person_comes_and_goes_with_the_phone(lab: Lab) -> None:
    """Over a restart, too: who is home is unknown until the phone is seen, and was never away."""
    phone, desktop = lab.host("10.77.0.50"), lab.host("10.77.0.51")
    daemon = lab.daemon(IMPATIENT | QUIET)
    with daemon.websocket() as stream:
        until_scanned(stream)
        body = {"add": [{"mac": phone.mac}, {"mac": desktop.mac, "counts": False}]}
        assert daemon.request("PATCH", "/api/people/Jane", body)[0] == 200
        assert until(stream, "event")["kind"] == "person_changed"
        assert until(stream, "event")["kind"] == "person_home"
        phone.unplug()
        assert [until(stream, "event")["kind"] for _ in range(2)] == ["offline", "person_away"]
        phone.replug()
        phone.announce()
        came = [until(stream, "event") for _ in range(2)]
        assert [event["kind"] for event in came] == ["online", "person_home"]
        assert came[1]["seen_at"] == came[0]["seen_at"]
        since = came[1]["person"]["status_since"]
    daemon.kill()
    daemon.start()
    done = daemon.ctl("wait-for", "jane", "--timeout", "30")
    assert (done.returncode, done.stderr) == (0, "netscanctl: Jane is home\n")
    (jane,) = daemon.get("/api/people")["people"]
    assert (jane["status"], jane["status_since"]) == ("home", since)
    kinds = [event["kind"] for event in daemon.get("/api/events?kind=person_home,person_away,person_unknown")["events"]]
    assert kinds == ["person_home", "person_away", "person_home", "person_unknown", "person_home"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_change_that_is_not_stored_says_so(lab: Lab, small_disk: Path) -> None:
    """Whatever a user sets, with each command, also to a script with `-q`; until it is stored."""
    phone, desktop = lab.host("10.77.0.50"), lab.host("10.77.0.51")
    daemon = lab.daemon(IMPATIENT | QUIET | {"history": {"path": str(small_disk / "h.db")}})
    with daemon.websocket() as stream:
        until_scanned(stream)
    assert daemon.ctl("label", phone.mac, "phone").returncode == 0
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 4096)
    names = small_disk.parent / "names"
    names.write_text(f"{desktop.mac} handy\n")
    for command in (
        ("label", phone.mac, "x" * 120), ("notes", phone.mac, "n" * 4000), ("known", phone.mac),
        ("kind", phone.mac, "phone"),
        ("patience", phone.mac, "60"), ("tag", phone.mac, "+a"), ("people", "add", "Jane", phone.mac),
        ("people", "rename", "Jane", "Ann"), ("people", "remove", "Ann", phone.mac), ("people", "remove", "Ann"),
        ("merge", "--dismiss", phone.mac, desktop.mac), ("merge", phone.mac, desktop.mac),
        ("merge", "--undo", desktop.mac), ("import", "--format", "ethers", str(names)), ("forget", desktop.mac),
    ):  # fmt: skip
        done = daemon.ctl("-q", *command)
        assert (done.returncode, done.stderr.count("warning: not stored: the history cannot be written")) == (0, 1), (
            command
        )
    status, jane = daemon.request("PATCH", "/api/people/Jane", {"add": [{"mac": phone.mac}]})
    (warning,) = jane["warnings"]
    assert (status, warning.startswith("not stored: the history cannot be written")) == (200, True)
    _, device = daemon.request("PATCH", f"/api/devices/{phone.mac}", {"label": "a"})
    assert device["warnings"] == [warning]
    ballast.unlink()
    wait_for("the disk is written again", lambda: not daemon.get("/api/status")["problems"])
    done = daemon.ctl("people", "rename", "Jane", "Jane Doe")
    assert "warning" not in done.stderr
    daemon.kill()
    daemon.start()
    assert [each["name"] for each in daemon.get("/api/people")["people"]] == ["Jane Doe"]
