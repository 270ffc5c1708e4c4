"""`watch --settle`: newcomers wait for a name, and nothing is lost or repeated."""

import json
from pathlib import Path

import pytest

from netscanctl.settling import Settling
from netscand.protocol import Event
from tests.ctl.conftest import Ctl
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import came, device, event, left
from tests.ctl.test_watch_exec import executing, holds, logged, noting

__all__ = ["noting"]  # a fixture

NEW = device(9, hostname=None)
NAMED = device(9, hostname="janes-phone")
FOUND = event("discovered", NEW, "k3f9-2")
RENAMED = event("renamed", NAMED, "k3f9-4", previous={"hostname": None})


class Clock:
    """Time that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def brief(events: list[Event]) -> list[str]:
    """Kind, name, cursor."""
    return [f"{one.kind} {one.device.hostname if one.device else one.network} {one.cursor}" for one in events]


def test_a_newcomer_waits_for_its_name() -> None:
    """Then it is one event, with the name, and without the `renamed`; others do not wait."""
    settling = Settling(10, Clock())
    assert settling.add([FOUND], "k3f9-1") == []
    other = left(device(7, "offline"), cursor="k3f9-3")
    assert settling.add([other], "k3f9-2") == [other]
    assert settling.published("k3f9-3") == "k3f9-1"
    assert brief(settling.add([RENAMED], "k3f9-3")) == ["discovered janes-phone k3f9-2"]
    assert settling.published("k3f9-4") == "k3f9-4"
    assert settling.expired() == []


def test_a_newcomer_without_a_name_waits_no_longer_than_given() -> None:
    """With what happened meanwhile, in order; of several, each has its own time."""
    clock = Clock()
    settling = Settling(10, clock)
    settling.add([FOUND], "k3f9-1")
    clock.now = 4
    added = event("address_added", device(9, hostname=None, ip="192.168.1.90"), "k3f9-3", address="192.168.1.90")
    settling.add([added, event("discovered", device(10, hostname=None), "k3f9-4")], "k3f9-2")
    clock.now = 9.9
    assert settling.expired() == []
    clock.now = 10
    first, second = settling.expired()
    assert (first.kind, second) == ("discovered", added)
    assert first.device
    assert first.device.ip == "192.168.1.90"
    assert settling.published("k3f9-9") == "k3f9-2"
    clock.now = 14
    assert brief(settling.expired()) == ["discovered None k3f9-4"]


@pytest.mark.parametrize(
    ("then", "published"),
    [(left(device(9, "offline", hostname=None), cursor="k3f9-3"), ["discovered None k3f9-2", "offline None k3f9-3"]),
     (event("forgotten", NEW, "k3f9-3"), ["discovered None k3f9-2", "forgotten None k3f9-3"]),
     (event("labelled", device(9, hostname=None, label="x"), "k3f9-3", previous={"label": None}),
      ["discovered None k3f9-2", "labelled None k3f9-3"]),
     (event("labelled", device(9, hostname=None, known=True), "k3f9-3", previous={"known": False}), [])],
    ids=["offline", "forgotten", "label", "known"],
)  # fmt: skip
def test_a_newcomer_that_leaves_or_is_labelled_waits_no_longer(then: Event, published: list[str]) -> None:
    settling = Settling(10, Clock())
    settling.add([FOUND], "k3f9-1")
    assert brief(settling.add([then], "k3f9-2")) == published


@pytest.mark.parametrize(
    "found", [event("discovered", NAMED), came(NEW), event("network_down")], ids=lambda one: one.kind
)
def test_only_newcomers_without_a_name_wait(found: Event) -> None:
    assert Settling(10, Clock()).add([found], None) == [found]
    assert Settling(0, Clock()).add([FOUND], None) == [FOUND]


def test_exec_gets_a_newcomer_once_with_its_name(ctl: Ctl, daemon: FakeDaemon, noting: str, tmp_path: Path) -> None:
    """Also if `renamed` is not among the kinds; the cursor waits with it."""
    file = tmp_path / "cursor"
    executing(ctl, noting, "--settle", "1h", "--kind", "discovered,offline", "--cursor-file", str(file))
    daemon.send(FOUND, left(device(7, "offline"), cursor="k3f9-3"))
    (line,) = logged(tmp_path, 1)
    assert json.loads(line)["kind"] == "offline"
    holds(file, "k3f9-1\n")
    daemon.send(RENAMED)
    found = json.loads(logged(tmp_path, 2)[1])
    assert (found["kind"], found["cursor"], found["device"]["hostname"]) == ("discovered", "k3f9-2", "janes-phone")
    holds(file, "k3f9-4\n")


def test_lines_show_a_newcomer_when_its_time_is_over(ctl: Ctl, daemon: FakeDaemon) -> None:
    running = ctl.start("watch", "--settle", "0.2s")
    daemon.until_watched()
    running.lines(4)
    daemon.send(FOUND)
    assert " + discovered " in running.line()
    daemon.send(RENAMED)
    assert " ~ renamed " in running.line()


@pytest.mark.parametrize("mode", ["--json", "--table"])
def test_settle_is_refused_where_devices_are_shown_as_received(ctl: Ctl, mode: str) -> None:
    done = ctl.run("watch", "--settle", "5", mode)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--settle excludes --json and --table" in done.stderr
