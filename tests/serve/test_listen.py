"""Sockets that clients connect to."""

import os
import socket
import stat
from pathlib import Path

import pytest

from netscand.serve.listen import (
    AlreadyRunning,
    BadAddress,
    ListenError,
    TcpAddress,
    UnixSocket,
    inherited_sockets,
    tcp_addresses,
    tcp_socket,
)


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(str(path)) == 0


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("127.0.0.1:8000", ["127.0.0.1:8000"]),
        ("[::1]:8000", ["[::1]:8000"]),
        ("127.8.9.10:0", ["127.8.9.10:0"]),
        ("localhost:80", ["127.0.0.1:80", "[::1]:80"]),
    ],
)
def test_loopback_addresses_are_read(text: str, addresses: list[str]) -> None:
    assert [str(address) for address in tcp_addresses(text)] == addresses


@pytest.mark.parametrize(
    "text",
    ["", "8000", ":8000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1", "::1:8000",
     "[::1]", "example.org:8000", "127.1:8000", "[127.0.0.1:8000", "127.0.0.1:٣"],
)  # fmt: skip
def test_an_invalid_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadAddress, match=r"\[listen\] tcp: .*such as 127\.0\.0\.1:8000"):
        tcp_addresses(text)


@pytest.mark.parametrize(
    ("text", "loopback"), [("127.0.0.1:1", True), ("127.9.9.9:1", True), ("[::1]:1", True), ("0.0.0.0:8000", False),
                           ("192.168.1.2:8000", False), ("[::]:8000", False), ("[fe80::1]:8000", False)],
)  # fmt: skip
def test_an_address_says_whether_other_hosts_reach_it(text: str, loopback: bool) -> None:
    assert [address.loopback for address in tcp_addresses(text)] == [loopback]


def test_a_tcp_address_is_free_again_at_once_and_never_shared() -> None:
    first = tcp_socket(TcpAddress("127.0.0.1", 0))
    port = first.getsockname()[1]
    with pytest.raises(OSError, match="in use"):
        tcp_socket(TcpAddress("127.0.0.1", port))
    client = socket.create_connection(("127.0.0.1", port))
    client.close()
    first.close()
    tcp_socket(TcpAddress("127.0.0.1", port)).close()


def test_the_mode_of_the_unix_socket_ignores_the_umask(tmp_path: Path) -> None:
    """FAULTS T17."""
    before = os.umask(0o077)
    try:
        for mode in (0o666, 0o660):
            made = UnixSocket(tmp_path / "s")
            made.open(mode, os.getgid())
            found = (tmp_path / "s").stat()
            assert stat.S_ISSOCK(found.st_mode)
            assert stat.S_IMODE(found.st_mode) == mode
            assert found.st_gid == os.getgid()
            made.close()
    finally:
        os.umask(before)


def test_closing_removes_only_its_own_path(tmp_path: Path) -> None:
    path = tmp_path / "s"
    made = UnixSocket(path)
    made.open(0o666, None)
    made.close()
    made.close()
    assert not path.exists()
    made = UnixSocket(path)
    made.open(0o666, None)
    path.unlink()
    path.touch()
    made.close()
    assert path.exists()


@pytest.mark.parametrize("kind", ["symlink", "file", "another socket", "hard link to another socket", "nothing"])
def test_a_reload_changes_the_mode_of_its_own_socket_alone(tmp_path: Path, kind: str) -> None:
    """ATTACKED L3: a link in a folder that others can write to made a secret readable for all users."""
    path, secret = tmp_path / "s", tmp_path / "secret"
    made = UnixSocket(path)
    made.open(0o660, None)
    path.rename(tmp_path / "moved")
    with socket.socket(socket.AF_UNIX) as other:
        if kind.endswith("socket"):
            other.bind(str(secret))
        else:
            secret.touch()
        secret.chmod(0o600)
        if kind == "symlink":
            path.symlink_to(secret)
        elif kind.startswith("hard"):
            path.hardlink_to(secret)
        elif kind != "nothing":
            secret.rename(path)
            secret = path
        with pytest.raises(OSError, match=r"replaced|No such file|Too many levels"):
            made.permit(0o666, None)
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert kind == "nothing" or os.path.lexists(path)
        made.close()
        assert kind == "nothing" or os.path.lexists(path), "what is not ours stays"


def test_a_link_planted_between_check_and_chmod_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that was checked is changed, not the one that has its name later."""
    path, secret = tmp_path / "s", tmp_path / "secret"
    made = UnixSocket(path)
    made.open(0o660, None)
    secret.touch(0o600)
    look = os.fstat

    def swapping(file: int) -> os.stat_result:
        found = look(file)
        if not path.is_symlink():
            path.rename(tmp_path / "moved")
            path.symlink_to(secret)
        return found

    monkeypatch.setattr(os, "fstat", swapping)
    made.permit(0o666, os.getgid())
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "moved").stat().st_mode) == 0o666
    made.close()


def test_a_socket_that_was_moved_and_put_back_is_ours_still(tmp_path: Path) -> None:
    path = tmp_path / "s"
    made = UnixSocket(path)
    made.open(0o660, None)
    path.rename(tmp_path / "moved").rename(path)
    made.permit(0o666, os.getgid())
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    made.close()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    """FAULTS T17, F1: the socket of a killed daemon stops no start."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert not answers(path)
    made = UnixSocket(path)
    made.open(0o666, None)
    assert answers(path)
    made.close()


def test_a_live_socket_is_never_stolen(tmp_path: Path) -> None:
    """FAULTS T17, F21: the second process names the first."""
    path = tmp_path / "s"
    first = UnixSocket(path)
    first.open(0o666, None)
    with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"):
        UnixSocket(path).open(0o666, None)
    assert answers(path)
    first.close()
    second = UnixSocket(path)
    second.open(0o666, None)
    second.close()


def test_a_live_socket_without_our_lock_is_never_stolen(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen(0)
        busy = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for caller in busy:  # with a full backlog it is still alive
            caller.setblocking(False)
            caller.connect_ex(str(path))
        inode = path.stat().st_ino
        with pytest.raises(AlreadyRunning):
            UnixSocket(path).open(0o666, None)
        assert path.stat().st_ino == inode
        for caller in busy:
            caller.close()


@pytest.mark.parametrize("kind", ["symlink", "dangling symlink", "file", "folder"])
def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    """FAULTS T17: a planted symlink leads nowhere."""
    path, target = tmp_path / "s", tmp_path / "target"
    match kind:
        case "symlink":
            target.write_text("precious")
            path.symlink_to(target)
        case "dangling symlink":
            path.symlink_to(target)
        case "file":
            path.write_text("precious")
        case "folder":
            path.mkdir()
    before = path.lstat()
    with pytest.raises(ListenError, match="exists, but is not a socket"):
        UnixSocket(path).open(0o666, None)
    assert path.lstat() == before
    assert not target.exists() or target.read_text() == "precious"


def test_a_planted_lock_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "s.lock").symlink_to(target)
    with pytest.raises(ListenError):
        UnixSocket(tmp_path / "s").open(0o666, None)
    assert target.read_text() == "precious"


def test_a_missing_folder_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match=r"^\[listen\] unix: .*/nowhere/s: No such file or directory$"):
        UnixSocket(tmp_path / "nowhere" / "s").open(0o666, None)


def test_a_path_too_long_for_a_socket_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="unix: "):
        UnixSocket(tmp_path / ("x" * 120)).open(0o666, None)


def test_sockets_of_systemd_are_inherited_once_if_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        number = os.dup(listener.fileno())
        monkeypatch.setattr("netscand.serve.listen.FIRST_INHERITED", number)
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "HOME": "/"}
        (taken,) = inherited_sockets(environment)
        assert environment == {"HOME": "/"}
        assert taken.family == socket.AF_UNIX
        assert not taken.getblocking()
        assert not os.get_inheritable(taken.fileno())
        taken.close()
    for strange in ({}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"}):
        assert inherited_sockets(dict(strange)) == []
