"""Whose is a connection on loopback? The kernel says it, of the socket at the other end."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from netscand.serve import whose

STRANGER = 54321
"""A uid that need not exist."""


@contextmanager
def met(host: str, uid: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """What a listener accepted of a client that this user made, and the client."""
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
def test_it_is_whose_that_made_the_other_end(root: None, host: str) -> None:
    """Whatever user the listener is, and by whichever of the addresses of loopback."""
    with met(host, STRANGER) as (accepted, client):
        assert whose.owner(accepted) == STRANGER
        assert whose.owner(client) is None  # the other end of that one is root's


def test_what_is_closed_already_is_nobody_elses(root: None) -> None:
    """Some kernels remember whose it was while they wait for us to close; of what is over none tells anything."""
    with met("127.0.0.1", STRANGER) as (accepted, client):
        client.close()
        assert whose.owner(accepted) in (STRANGER, None)
    with met("127.0.0.1", STRANGER) as (accepted, client):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        ours, theirs = accepted.getsockname(), accepted.getpeername()
        client.close()
        with _Was(ours, theirs) as gone:
            assert whose.owner(gone) is None


class _Was(socket.socket):
    """A connection that the kernel does not know any more."""

    def __init__(self, ours: tuple[str, int], theirs: tuple[str, int]) -> None:
        super().__init__(socket.AF_INET)
        self.getsockname = lambda: ours  # type: ignore[method-assign]
        self.getpeername = lambda: theirs  # type: ignore[method-assign]


def test_a_kernel_without_sock_diag_tells_nothing(root: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whose, "SOCK_DIAG", 31)  # a family of netlink that no kernel has
    with met("127.0.0.1", STRANGER) as (accepted, _):
        assert whose.owner(accepted) is None
