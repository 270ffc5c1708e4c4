"""Hints for starting netscand, by what this host has."""

import socket
from pathlib import Path

import pytest

from netscanctl.client import Daemon, NoDaemon, connection_failure
from netscanctl.connect_hint import CHECKOUT_SOCKET, start_hint


def test_an_installed_service_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "netscand.service").touch()
    assert start_hint([tmp_path / "none", tmp_path], [tmp_path]) == "to start it: systemctl start netscand"


def test_without_a_service_systemctl_is_not_suggested(tmp_path: Path) -> None:
    hint = start_hint([tmp_path], [tmp_path])
    assert hint.startswith("to start it in a checkout: sudo ./dev run (its socket is .netscand/netscand.sock)")
    assert "systemctl" not in hint


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
        "to use the netscand of ./dev run: --socket .netscand/netscand.sock"
    )


def test_a_stale_socket_of_dev_run_is_not_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    CHECKOUT_SOCKET.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(CHECKOUT_SOCKET))
    assert "answers" not in start_hint([], [Path()])
