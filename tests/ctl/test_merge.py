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
    daemon.answers[f"/api/devices/{EIGHT}/merge"] = 200, encode(daemon.devices[1])
    done = ctl.run("merge", "--undo", EIGHT)
    assert (done.returncode, done.stderr) == (0, f"netscanctl: {EIGHT}: is a device of its own again\n")
    assert daemon.requests[-1][:2] == ("DELETE", f"/api/devices/{EIGHT}/merge")
    assert ctl.run("merge", "--undo").returncode == 2


def test_suggestions_are_listed_with_their_evidence(ctl: Ctl, daemon: FakeDaemon) -> None:
    """And the command that accepts one; nothing is changed."""
    one = Suggestion(mac=EIGHT, into=SEVEN, name="x\x1b[2J", evidence=["same host name", "one has an address\x1b"])
    daemon.answers["/api/suggestions"] = 200, encode(SuggestionList(suggestions=[one]))
    assert ctl.run("merge").stdout == (
        f"host8 ({EIGHT}) is probably host7 ({SEVEN}): same host name; one has an address\n"
        f"    netscanctl merge {SEVEN} {EIGHT}\n"
    )
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
