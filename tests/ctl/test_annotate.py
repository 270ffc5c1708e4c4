"""User annotations: label, known, patience; and forget."""

import subprocess
from contextlib import suppress

import pytest

from netscanctl.client import admin_hint
from netscand.protocol import DeviceUpdate, encode
from tests.ctl.conftest import Ctl, bare
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import device, event

SEVEN = "a4:83:e7:00:00:07"


@pytest.mark.parametrize(
    ("args", "update", "message"),
    [(["label", "host7", "Jane's phone"], DeviceUpdate(label="Jane's phone"),
      f"host7 ({SEVEN}): label set to \"Jane's phone\""),
     (["label", "192.168.1.7", ""], DeviceUpdate(label=None), f"host7 ({SEVEN}): label removed"),
     # FIELD case 13: the same device under another MAC.
     (["label", "host7", "--from", "a4:83:e7:00:00:08"], DeviceUpdate(take_from="a4:83:e7:00:00:08"),
      f"host7 ({SEVEN}): has the annotations of a4:83:e7:00:00:08; no label"),
     (["label", "host7", "new", "--from", "host8"], DeviceUpdate(label="new", take_from="a4:83:e7:00:00:08"),
      f'host7 ({SEVEN}): has the annotations of host8; label set to "new"'),
     (["notes", "host7", "in the attic\nkey: 客厅"], DeviceUpdate(notes="in the attic\nkey: 客厅"),
      f"host7 ({SEVEN}): notes set"),
     (["notes", SEVEN, ""], DeviceUpdate(notes=None), f"host7 ({SEVEN}): notes removed"),
     (["known", SEVEN], DeviceUpdate(known=True), f"host7 ({SEVEN}): marked as known"),
     (["known", "--not", "HOST7"], DeviceUpdate(known=False), f"host7 ({SEVEN}): not marked as known"),
     (["patience", "host7", "900"], DeviceUpdate(patience=900), f"host7 ({SEVEN}): patience set to 15 min"),
     (["patience", "host7", "30m"], DeviceUpdate(patience=1800), f"host7 ({SEVEN}): patience set to 30 min"),
     (["patience", "host7", "1d"], DeviceUpdate(patience=86_400), f"host7 ({SEVEN}): patience set to 1 d"),
     # A device is offline only after three probes and a request have failed.
     (["patience", "host7", "2"], DeviceUpdate(patience=2), f"host7 ({SEVEN}): patience set to 2 s; "
      "with the default probe_interval, unanswered probes take at least 13 s"),
     (["patience", "host7", "learned"], DeviceUpdate(patience=None),
      f"host7 ({SEVEN}): patience is learned automatically (60 s now)")],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_only_the_given_annotation_is_sent(
    ctl: Ctl, daemon: FakeDaemon, args: list[str], update: DeviceUpdate, message: str
) -> None:
    done = ctl.run(*args)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"netscanctl: {message}\n")
    assert daemon.received == [update]
    assert ("PATCH", f"/api/devices/{SEVEN}") == daemon.requests[-1][:2]


def test_a_changed_label_is_reported_with_the_one_before(ctl: Ctl, daemon: FakeDaemon) -> None:
    """Not with the new one twice; a device that was not seen yet has its MAC."""
    daemon.devices[0].label = "Old name"
    assert ctl.run("label", SEVEN, "New").stderr == f'netscanctl: Old name ({SEVEN}): label set to "New"\n'
    assert ctl.run("label", SEVEN, "").stderr == f"netscanctl: New ({SEVEN}): label removed\n"


def test_the_kind_is_printed_and_set(ctl: Ctl, daemon: FakeDaemon) -> None:
    """The kind to stdout, for scripts; the evidence to stderr."""
    none = ctl.run("kind", "host7")
    assert (none.stdout, none.stderr) == ("", "netscanctl: no kind: there is no evidence for one\n")
    daemon.devices[0].kind, daemon.devices[0].kind_reason = "access_point", 'host name "\x1b[2Jap"'
    done = ctl.run("kind", "host7")
    assert (done.stdout, done.stderr) == ("access_point\n", 'netscanctl: reason: host name "[2Jap"\n')
    assert ctl.run("kind", "host7", "--json").returncode == 2
    assert "aquarium" in ctl.run("kind", "host7", "aquarium").stderr
    assert ctl.run("kind", "host7", "").returncode == 2
    assert daemon.received == []
    assert ctl.run("kind", "host7", "tv").stderr == f"netscanctl: host7 ({SEVEN}): kind set to tv\n"
    ctl.run("kind", "host7", "auto")
    assert daemon.received == [DeviceUpdate(kind="tv"), DeviceUpdate(kind=None)]
    for text in ("virtual machine", "Virtual-Machine", "VIRTUAL_MACHINE"):  # as `devices` and people write it
        ctl.run("kind", "host7", text)
    assert daemon.received[2:] == [DeviceUpdate(kind="virtual_machine")] * 3


def test_notes_are_printed(ctl: Ctl, daemon: FakeDaemon) -> None:
    """Line by line, and nothing that a terminal obeys."""
    assert ctl.run("notes", "host7").stderr == "netscanctl: no notes\n"
    daemon.devices[0].notes = "in the attic\n\x1b[2Jkey: 客厅\n" + "x" * 4000
    assert ctl.run("notes", "host7").stdout == "in the attic\n[2Jkey: 客厅\n" + "x" * 4000 + "\n"
    assert daemon.received == []
    assert ctl.run("notes", "host7", "--json").returncode == 2


@pytest.mark.parametrize(("text", "code"), [("one\ntwo\n", 0), ("x" * 4096 + "\n", 0), ("x" * 4097, 2)])
def test_notes_are_read_from_stdin(ctl: Ctl, daemon: FakeDaemon, text: str, code: int) -> None:
    done = subprocess.run(ctl.argv("notes", "host7", "-"), env=ctl.env(), input=text, capture_output=True, text=True)
    assert done.returncode == code
    assert daemon.received == ([] if code else [DeviceUpdate(notes=text.strip())])


def test_json_prints_the_changed_device(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl.run("label", SEVEN, "x", "--json").stdout.encode() == encode(daemon.devices[0]) + b"\n"
    assert daemon.devices[0].label == "x"


def test_warnings_are_printed(ctl: Ctl, daemon: FakeDaemon) -> None:
    """Two devices with one label, or a label that was cleaned."""
    daemon.warnings = ['label: "x" is also the label of a4:83:e7:00:00:08']
    done = ctl.run("label", "host7", "x")
    assert (done.returncode, done.stderr.splitlines()[1:]) == (0, [f"netscanctl: warning: {daemon.warnings[0]}"])


@pytest.mark.parametrize("seconds", ["0", "0.9", "-1", "nan", "inf", "soon", "", "2d", "86401", "5y"])
def test_an_invalid_patience_is_refused_with_the_limits(ctl: Ctl, daemon: FakeDaemon, seconds: str) -> None:
    done = ctl.run("patience", "host7", "--", seconds)
    expected = 'expected 1 to 86400 seconds, optionally with a unit (90s, 30m, 2h), or "learned"'
    assert (done.returncode, expected in " ".join(done.stderr.split())) == (2, True)
    assert "S is 1 to 86400" in " ".join(ctl.run("patience", "--help").stdout.split())
    assert daemon.requests == []


@pytest.mark.parametrize(
    "args", [["label", "unknown", "x"], ["known", "aa:bb:cc:dd:ee:ff"], ["forget", "unknown"]], ids=str
)
def test_annotating_an_unknown_device_fails(ctl: Ctl, args: list[str]) -> None:
    assert "no device" in ctl.fails(1, *args)


def test_a_403_says_how_to_become_admin(ctl: Ctl, daemon: FakeDaemon) -> None:
    """What a user of this host can do first: a token is for other hosts."""
    message = "this needs the role admin; send a token with that role"
    daemon.refuse(403, "forbidden", message, f"/api/devices/{SEVEN}")
    expected = f"this needs the role admin; {admin_hint()}, or use --token-file FILE"
    assert admin_hint().startswith("run it with sudo")
    assert " ".join(ctl.fails(4, "known", SEVEN).split()) == expected


def test_over_tcp_a_403_does_not_suggest_the_group(ctl: Ctl, far: FakeDaemon) -> None:
    far.refuse(403, "forbidden", "this needs the role admin", f"/api/devices/{SEVEN}")
    hint = "use --token-file FILE, or use --socket on the daemon's host"
    failure = ctl.fails(4, "--url", far.url, "known", SEVEN, NETSCANCTL_SOCKET="")
    assert failure == f"this needs the role admin; {hint}"


# ---- known --all


@pytest.mark.parametrize(("options", "answer"), [((), "y\n"), ((), "\n"), (("--yes",), "")])
def test_all_that_are_online_become_known(ctl: Ctl, daemon: FakeDaemon, options: tuple[str, ...], answer: str) -> None:
    """On a terminal, after a question that names them."""
    daemon.devices.append(device(9, known=True))
    shown = ctl.terminal("known", "--all", *options)
    if answer:
        asked = bare(shown.until("Mark 2 devices as known? [y/N]:"))
        assert ("host7 (" in asked, "host20 (" in asked, "host8 (" in asked, "host9 (" in asked) == (
            True,
            True,
            False,
            False,
        )
        shown.type(answer)
    code, written = shown.end()
    assert code == (1 if answer == "\n" else 0)
    assert ("2 devices marked as known" in written) is (code == 0)
    assert [one.known for one in daemon.devices] == [code == 0, False, code == 0, True]


def test_known_all_in_a_script_does_not_ask(ctl: Ctl, daemon: FakeDaemon) -> None:
    """It says what it marked; this host needs no mark, and is in no list of those that are not known."""
    daemon.devices.append(device(9, kinds=["self"]))
    assert "a4:83:e7:00:00:09" not in ctl.run("devices", "--not-known").stdout
    done = ctl.run("known", "--all", "--json")
    assert done.stdout.count('"known":true') == 2
    assert done.stderr.splitlines() == [
        f"netscanctl: host7 ({SEVEN}): marked as known",
        "netscanctl: host20 (a4:83:e7:00:00:14): marked as known",
        "netscanctl: 2 devices marked as known",
    ]
    assert ctl.run("known", "--all").stderr == "netscanctl: all online devices are already marked as known\n"


@pytest.mark.parametrize("args", [(), ("host7", "--all"), ("--all", "--not")], ids=str)
def test_known_takes_a_device_or_all(ctl: Ctl, args: tuple[str, ...]) -> None:
    assert ctl.run("known", *args).returncode == 2


# ---- forget


def test_forget_does_not_ask_in_a_script(ctl: Ctl, daemon: FakeDaemon) -> None:
    done = ctl.run("forget", "host7")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        f"netscanctl: host7 ({SEVEN}): forgotten with its label, notes and learned patience; its events stay in the "
        f"history; to delete them, too: netscanctl forget --history {SEVEN}\n"
    )
    assert [one.mac[-2:] for one in daemon.devices] == ["08", "14"]


def test_forget_names_the_merged_macs(ctl: Ctl, daemon: FakeDaemon) -> None:
    """By whichever MAC: all of them are forgotten."""
    daemon.devices[0].merged_macs = ["7a:0c:52:e1:88:6e"]
    shown = ctl.terminal("forget", "host7")
    shown.until(f"Forget host7 ({SEVEN}) with the merged 7a:0c:52:e1:88:6e? [y/N]:")
    shown.type("y\n")
    ended, written = shown.end()
    assert (ended, "with the merged 7a:0c:52:e1:88:6e: forgotten" in " ".join(written.split())) == (0, True)


@pytest.mark.parametrize(("answer", "code", "message"), [("\n", 1, "cancelled"), ("y\n", 0, "forgotten")])
def test_forget_asks_on_a_terminal(ctl: Ctl, daemon: FakeDaemon, answer: str, code: int, message: str) -> None:
    shown = ctl.terminal("forget", "host7")
    shown.until(f"Forget host7 ({SEVEN})? [y/N]:")
    shown.type(answer)
    ended, written = shown.end()
    assert (ended, message in written, len(daemon.devices)) == (code, True, 2 + code)


def test_forget_yes_does_not_ask(ctl: Ctl, daemon: FakeDaemon) -> None:
    code, written = ctl.terminal("forget", "host7", "--yes").end()
    assert (code, "?" in bare(written), len(daemon.devices)) == (0, False, 2)


def test_forget_history_deletes_the_events(ctl: Ctl, daemon: FakeDaemon) -> None:
    """Also of a device that was forgotten before."""
    daemon.events = [event("offline", daemon.devices[number]) for number in (0, 0, 1)]
    done = ctl.run("forget", "--history", "host7")
    deleted = "forgotten; 2 events deleted from the history; backups of it still have them"
    assert done.stderr == f"netscanctl: host7 ({SEVEN}): {deleted}\n"
    ctl.run("forget", "host8")
    eight = "a4:83:e7:00:00:08"
    done = ctl.run("forget", "--history", eight.replace(":", "-"))
    assert done.stderr == f"netscanctl: {eight}: {deleted.replace('2 events', '1 events')}\n"
    assert daemon.events == []
    assert "no device" in ctl.fails(1, "forget", "--history", eight)
    assert "no device" in ctl.fails(1, "forget", "--history", "host8")


def test_forget_history_asks_for_both(ctl: Ctl, daemon: FakeDaemon) -> None:
    shown = ctl.terminal("forget", "--history", "host7")
    shown.until(f"Forget host7 ({SEVEN}), and delete its events from the history? [y/N]:")
    shown.type("\n")
    assert (shown.end()[0], len(daemon.devices)) == (1, 3)


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_ctrl_c_at_the_prompt_cancels(ctl: Ctl, daemon: FakeDaemon, key: str) -> None:
    shown = ctl.terminal("forget", "host7")
    shown.until("[y/N]: ")
    ended = None
    while ended is None:  # one that comes just before it begins to read is lost, as at any prompt
        shown.type(key)
        with suppress(subprocess.TimeoutExpired):
            ended = shown.process.wait(3.0)
    code, written = shown.end()
    assert (code, len(daemon.devices)) == (130, 3)
    assert set(bare(written).split("[y/N]:")[-1]) <= set("^C \r\n")
