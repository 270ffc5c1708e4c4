"""Hints for starting netscand, by what this host has."""

import re
import socket
from pathlib import Path

import pytest

from netscanctl import connect_hint
from netscanctl.client import Daemon, NoDaemon, connection_failure
from netscanctl.connect_hint import CHECKOUT_SOCKET, ServiceState, start_hint
from netscand.checkout import for_checkout
from netscand.protocol import SameDevice
from tests.ctl.conftest import Ctl
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import conflict

CHECKED_OUT = {
    "to create one: sudo netscanctl token add ROLE": "to create one: ./dev ctl token add ROLE",
    "netscanctl devices printer; then: netscanctl reload": "./dev ctl devices printer; then: ./dev ctl reload",
    "systemctl start netscand, systemctl reload netscand": "sudo ./dev run, ./dev ctl reload",
    "to apply it: systemctl restart netscand": "to apply it: end ./dev run, and start it again",
    "may say more: journalctl -u netscand.": "may say more: tail /x/log.",
    "see journalctl -u netscand -n 20": "see tail /x/log",
    "journalctl -u netscand-mqtt": "journalctl -u netscand-mqtt",
    "install netscand and netscanctl of one version": "install netscand and netscanctl of one version",
    "systemctl restart netscand.socket netscand": "systemctl restart netscand.socket netscand",
}


@pytest.mark.parametrize("text", CHECKED_OUT)
def test_a_checkout_gets_its_own_commands(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Elsewhere, the text is as it is."""
    assert for_checkout(text) == text
    monkeypatch.setenv("NETSCANCTL_CHECKOUT", "1")
    monkeypatch.setenv("NETSCANCTL_CONFIG", "/x/netscand.toml")
    assert for_checkout(text) == CHECKED_OUT[text]


def test_every_message_of_netscanctl_is_one_for_a_checkout(ctl: Ctl, daemon: FakeDaemon) -> None:
    """Failures, usage errors, notices, and hints in data."""
    here = {"NETSCANCTL_CHECKOUT": "1"}
    daemon.devices[0].probably_same_as = SameDevice(
        mac="aa:bb:cc:dd:ee:ff", label=None, reason="same name", annotated=True
    )
    daemon.status.conflicts, daemon.status.conflict_count = [conflict()], 9
    said = [
        ctl.run(*words, **here)
        for words in (
            ["show", "nobody"], ["watch", "--since", "3d"], ["notes", "host7", "--json"], ["show", "host7"], ["status"],
        )
    ]  # fmt: skip
    for done in said:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(("Usage: ", "Try "))]
        assert any("./dev ctl " in line for line in lines), done
        assert not [line for line in lines if re.search(r"netscanctl [a-z]", line)], done


def test_an_installed_service_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "netscand.service").touch()
    assert start_hint([tmp_path / "none", tmp_path], [tmp_path]) == "to start it: systemctl start netscand"


def test_without_a_service_systemctl_is_not_suggested(tmp_path: Path) -> None:
    hint = start_hint([tmp_path], [tmp_path])
    assert hint.startswith(
        "to start it in a checkout: sudo ./dev run (then use ./dev ctl; its socket is .netscand/netscand.sock)"
    )
    assert "systemctl" not in hint


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            ServiceState("failed", "226"),
            ["exit code 226: systemd cannot set up the sandbox", "nesting=1", "container.conf"],
        ),
        (ServiceState("failed", "218"), ["exit code 218: this host or container does not permit CAP_NET_RAW"]),
        (ServiceState("failed", "231"), ["exit code 231: systemd cannot start it: see man systemd.exec"]),
        (ServiceState("failed", "78"), ["exit code 78: invalid configuration", "journalctl"]),
        (ServiceState("activating", "226"), ["to start it: systemctl start netscand"]),
        (ServiceState("inactive", "0"), ["to start it: systemctl start netscand"]),
        (None, ["to start it: systemctl start netscand"]),
    ],
)
def test_a_service_that_failed_gets_cause_and_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: ServiceState | None, words: list[str]
) -> None:
    """FIELD case 18: "systemctl start" helps nobody where systemd has just given up."""
    (tmp_path / "netscand.service").touch()
    monkeypatch.setattr(connect_hint, "service_state", lambda: state)
    hint = start_hint([tmp_path], [tmp_path])
    assert [word for word in words if word not in hint] == []
    assert ("nesting" in hint) is (state == ServiceState("failed", "226"))


def test_a_running_dev_run_is_suggested_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `sudo ./dev run` in one terminal, and a bare `netscanctl devices` in the checkout, in another."""
    monkeypatch.chdir(tmp_path)
    CHECKOUT_SOCKET.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as running:
        running.bind(str(CHECKOUT_SOCKET))
        running.listen()
        failure = connection_failure(Daemon("/run/none/netscand.sock"), FileNotFoundError())
    assert isinstance(failure, NoDaemon)
    assert str(failure) == (
        "netscand is not running (no socket /run/none/netscand.sock); "
        "to use the netscand of ./dev run: ./dev ctl, or --socket .netscand/netscand.sock; "
        "to find out why: netscanctl doctor"
    )


def test_a_stale_socket_of_dev_run_is_not_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    CHECKOUT_SOCKET.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(CHECKOUT_SOCKET))
    assert "answers" not in start_hint([], [Path()])
