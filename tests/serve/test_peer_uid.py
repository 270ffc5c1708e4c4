"""The uid of a connection on loopback is that of the socket at the other end, as the kernel knows it."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from netscand.serve import peer_uid

STRANGER = 54321
"""A uid that need not exist."""


@contextmanager
def met(host: str, uid: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield a connection that a listener accepted, and its client of this user."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, 0))
        listener.listen()
        before = os.geteuid()
        os.seteuid(uid)
        try:
            client = socket.socket(family)
        finally:
            os.seteuid(before)
        with client:
            client.connect(listener.getsockname()[:2])
            accepted, _ = listener.accept()
            with accepted:
                yield accepted, client


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.8.7", "::1", "::ffff:127.0.0.1"])
def test_the_uid_is_that_of_the_creator_of_the_other_end(root: None, host: str) -> None:
    """Whatever the user of the listener, and for all addresses of loopback."""
    with met(host, STRANGER) as (accepted, client):
        assert peer_uid.loopback_uid(accepted) == STRANGER
        assert peer_uid.loopback_uid(client) == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_closed_end_has_no_uid(root: None, host: str) -> None:
    """The kernel shows it as root's: closed connections of an account were counted for root."""
    with met(host, STRANGER) as (accepted, client):
        client.send(b"GET / HTTP/1.1")
        client.close()
        with pytest.raises(ConnectionResetError):
            peer_uid.loopback_uid(accepted)
    with met(host, STRANGER) as (accepted, client):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        client.close()
        with pytest.raises(OSError, match=r"not connected|closed"):
            peer_uid.loopback_uid(accepted)
    with met(host, STRANGER) as (accepted, client):
        ours, theirs = accepted.getsockname(), accepted.getpeername()
        client.close()  # the kernel remembers it for a minute
        with pytest.raises(ConnectionResetError), _Was(accepted, ours, (theirs[0], 1)) as gone:
            peer_uid.loopback_uid(gone)


def test_a_half_closed_end_keeps_its_uid(root: None) -> None:
    """It still reads the answer."""
    with met("127.0.0.1", STRANGER) as (accepted, client):
        client.shutdown(socket.SHUT_WR)
        assert peer_uid.loopback_uid(accepted) == STRANGER


class _Was(socket.socket):
    """Connection that the kernel does not know any more."""

    def __init__(self, sock: socket.socket, ours: tuple[str, int], theirs: tuple[str, int]) -> None:
        super().__init__(fileno=os.dup(sock.fileno()))
        self.getsockname = lambda: ours  # type: ignore[method-assign]
        self.getpeername = lambda: theirs  # type: ignore[method-assign]


def test_a_kernel_without_sock_diag_gives_no_uid(root: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_uid, "SOCK_DIAG", 31)  # a netlink family that no kernel has
    with met("127.0.0.1", STRANGER) as (accepted, _):
        assert peer_uid.loopback_uid(accepted) is None
