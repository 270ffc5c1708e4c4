"""Hints for starting netscand, by what this host has."""

import socket
from pathlib import Path

import pytest

from netscanctl import connect_hint
from netscanctl.client import Daemon, NoDaemon, connection_failure
from netscanctl.connect_hint import CHECKOUT_SOCKET, ServiceState, start_hint


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
