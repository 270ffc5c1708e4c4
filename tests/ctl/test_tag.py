"""`netscanctl tag`, and `--tag` of other commands."""

import pytest

from netscand.protocol import DeviceUpdate
from tests.ctl.conftest import Ctl
from tests.ctl.fake_daemon import FakeDaemon

SEVEN, EIGHT = "a4:83:e7:00:00:07", "a4:83:e7:00:00:08"


def test_tags_are_added_and_removed_for_several_devices(ctl: Ctl, daemon: FakeDaemon) -> None:
    done = ctl.run("tag", "host7", EIGHT, "+IoT", "-hall", "-q-new")
    assert done.returncode == 0, done.stderr
    assert daemon.received == [DeviceUpdate(add_tags=["iot"], remove_tags=["hall", "q-new"])] * 2
    assert [path for method, path, *_ in daemon.requests if method == "PATCH"] == [
        f"/api/devices/{SEVEN}", f"/api/devices/{EIGHT}",
    ]  # fmt: skip
    assert done.stderr.startswith(f"netscanctl: host7 ({SEVEN}): ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["host7", "+a b"], '"a b" is not a tag; expected up to 32 characters without spaces or commas'),
        (["host7", "+"], '"" is not a tag'),
        (["host7", "+a", "-a"], "+a and -a exclude each other"),
        (["+a"], "Missing argument 'DEVICE...'; to select devices, see --help"),
        (["host7", "--online", "+a"], "give either DEVICEs or options that select them"),
        (["--online", "--offline", "+a"], "--online and --offline exclude each other"),
    ],
)
def test_a_wrong_command_changes_nothing(ctl: Ctl, daemon: FakeDaemon, args: list[str], message: str) -> None:
    done = ctl.run("tag", *args)
    assert done.returncode == 2
    assert message in done.stderr
    assert daemon.received == []


@pytest.mark.parametrize("words", [("host7", "media"), ("host7", "+new", "media")], ids=str)
def test_a_tag_without_a_sign_is_explained(ctl: Ctl, daemon: FakeDaemon, words: tuple[str, ...]) -> None:
    said = ctl.fails(1, "tag", *words)
    assert 'no device matches "media"' in said
    assert said.endswith("; to add it as a tag: +media")
    assert "as a tag" not in ctl.fails(1, "tag", *words[:-1], "my tv")
    assert daemon.received == []


def test_options_select_the_devices(ctl: Ctl, daemon: FakeDaemon) -> None:
    for one in daemon.devices:
        one.tags = ["old"]
    done = ctl.run("tag", "--online", "--tag", "Old", "+new")
    assert done.returncode == 0, done.stderr
    assert {"status": "online", "tag": "old"} in [query for _, _, query, _ in daemon.requests]
    assert daemon.received == [DeviceUpdate(add_tags=["new"])] * 2
    assert done.stderr == "netscanctl: tags of 2 devices changed\n"


def test_without_a_tag_the_tags_are_listed(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl.run("tag").stderr == "netscanctl: no tags\n"
    daemon.devices[0].tags, daemon.devices[1].tags = ["iot", "media"], ["iot"]
    lines = ctl.run("tag").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["TAG", "DEVICES"], ["iot", "2"], ["media", "1"]]
    assert "TAGS" in ctl.run("devices").stdout.splitlines()[0]


def test_tag_is_a_filter_of_devices_and_events(ctl: Ctl, daemon: FakeDaemon) -> None:
    ctl.run("devices", "--tag", "IoT")
    ctl.run("events", "--tag", "IoT")
    assert [query.get("tag") for _, path, query, _ in daemon.requests if path in ("/api/devices", "/api/events")] == [
        "iot", "iot",
    ]  # fmt: skip
    assert ctl.run("devices", "--tag", "a,b").returncode == 2


def test_wait_for_a_tag_waits_for_its_devices(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.devices[0].tags = ["iot"]
    done = ctl.run("wait-for", "--tag", "iot", "--timeout", "0")
    assert done.stderr == "netscanctl: host7 is online\n"
    done = ctl.run("wait-for", "--tag", "tv", "--timeout", "0")
    assert (done.returncode, done.stderr) == (
        1, 'netscanctl: no device has the tag "tv"; to list tags: netscanctl tag\n',
    )  # fmt: skip
    assert ctl.run("wait-for").returncode == 2
