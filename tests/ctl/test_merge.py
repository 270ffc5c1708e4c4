"""`netscanctl merge`: on the user's word, with suggestions and an undo."""

import msgspec

from netscand.protocol import MergeRequest, Suggestion, SuggestionList, encode
from tests.ctl.conftest import Ctl
from tests.ctl.fake_daemon import FakeDaemon

SEVEN, EIGHT = "a4:83:e7:00:00:07", "a4:83:e7:00:00:08"


def test_each_other_device_is_merged_into_the_first(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers[f"/api/devices/{SEVEN}/merge"] = 200, encode(daemon.devices[0])
    done = ctl.run("merge", "host7", "host8", "host20")
    assert done.returncode == 0, done.stderr
    found = [msgspec.json.decode(body, type=MergeRequest).mac for body in daemon.bodies]
    assert found == [EIGHT, "a4:83:e7:00:00:14"]
    assert done.stderr.splitlines()[0] == (
        f"netscanctl: host8 ({EIGHT}) is merged into host7 ({SEVEN}); to undo: netscanctl merge --undo {EIGHT}"
    )
    assert ctl.run("merge", "host7").returncode == 2


def test_a_merge_is_undone(ctl: Ctl, daemon: FakeDaemon) -> None:
    """Of one MAC, or by the name of the device, of all its MACs."""
    daemon.devices[0].merged_macs = ["a4:83:e7:00:00:09", EIGHT]
    daemon.answers[f"/api/devices/{EIGHT}"] = 200, encode(daemon.devices[0])
    for mac in daemon.devices[0].merged_macs:
        daemon.answers[f"/api/devices/{mac}/merge"] = 200, encode(daemon.devices[1])
    done = ctl.run("merge", "--undo", EIGHT)
    assert (done.returncode, done.stderr) == (0, f"netscanctl: host8 ({EIGHT}) is a device of its own again\n")
    assert ctl.run("merge", "--undo", "host7").returncode == 0
    assert [path for method, path, *_ in daemon.requests if method == "DELETE"] == [
        f"/api/devices/{mac}/merge" for mac in (EIGHT, *daemon.devices[0].merged_macs)
    ]
    assert ctl.run("merge", "--undo").returncode == 2
    assert "host20 (a4:83:e7:00:00:14) has one MAC only" in ctl.run("merge", "--undo", "host20").stderr


def test_a_suggestion_is_dismissed_and_the_dismissal_undone(ctl: Ctl, daemon: FakeDaemon) -> None:
    """It stays dismissed for other devices; the undo works whichever of the two was changed."""
    daemon.devices[0].not_same_as = ["a4:83:e7:00:00:99"]
    done = ctl.run("merge", "--dismiss", "host7", EIGHT)
    assert done.stderr == (
        f"netscanctl: host7 ({SEVEN}) and host8 ({EIGHT}) are not suggested again; "
        f"to undo: netscanctl merge --undo --dismiss {SEVEN} {EIGHT}\n"
    )
    assert daemon.devices[0].not_same_as == [EIGHT, "a4:83:e7:00:00:99"]
    for one, other in ((SEVEN, EIGHT), (EIGHT, SEVEN)):
        daemon.devices[0].not_same_as = [EIGHT]
        done = ctl.run("merge", "--undo", "--dismiss", one, other)
        assert done.stderr.endswith("may be suggested as one again\n")
        assert daemon.devices[0].not_same_as == []
    for wrong in (("--dismiss", "host7"), ("--dismiss",), ("--dismissed", "host7")):
        assert ctl.run("merge", *wrong).returncode == 2


def test_suggestions_are_listed_with_their_evidence(ctl: Ctl, daemon: FakeDaemon) -> None:
    """And the command that accepts one; nothing is changed."""
    one = Suggestion(mac=EIGHT, into=SEVEN, name="x\x1b[2J", evidence=["same host name", "one has an address\x1b"])
    daemon.answers["/api/suggestions"] = 200, encode(SuggestionList(suggestions=[one]))
    text = f"host8 ({EIGHT}) is probably host7 ({SEVEN}): same host name; one has an address\n"
    listed = ctl.run("merge")
    assert listed.stdout == f"{text}    netscanctl merge {SEVEN} {EIGHT}\n"
    assert listed.stderr == "netscanctl: if two are different devices: netscanctl merge --dismiss DEVICE OTHER\n"
    assert ctl.run("merge", "--dismissed").stderr == "netscanctl: no suggestion was dismissed\n"
    daemon.answers["/api/suggestions"] = 200, encode(SuggestionList(suggestions=[], dismissed=[one], more=True))
    assert ctl.run("merge").stderr == (
        "netscanctl: no two devices seem to be one\n"
        "netscanctl: dismissed: 1; to list them: netscanctl merge --dismissed\n"
        "netscanctl: there are more; merge or dismiss some of these first\n"
    )
    assert ctl.run("merge", "--dismissed").stdout == f"{text}    netscanctl merge --undo --dismiss {SEVEN} {EIGHT}\n"
    assert [method for method, *_ in daemon.requests if method != "GET"] == []
    daemon.answers["/api/suggestions"] = 200, encode(SuggestionList(suggestions=[]))
    assert ctl.run("merge").stderr == "netscanctl: no two devices seem to be one\n"


def test_a_device_is_found_by_a_merged_mac(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.devices[0].merged_macs = ["a4:83:e7:00:00:99"]
    daemon.answers["/api/devices/a4:83:e7:00:00:99"] = 200, encode(daemon.devices[0])
    daemon.answers["/api/devices/a4:83:e7:00:00:99/presence"] = 200, b'{"days":[]}'
    assert "also        a4:83:e7:00:00:99" in ctl.run("show", "a4:83:e7:00:00:99").stdout
    done = ctl.run("wait-for", "a4:83:e7:00:00:99", "--timeout", "0")
    assert done.stderr == "netscanctl: host7 is online\n"
