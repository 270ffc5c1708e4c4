"""A forwarder from the host's loopback to the loopback of a namespace, so that a browser reaches the page of the demo.

It listens on 127.0.0.1 alone, and leads to one port of the namespace's 127.0.0.1: nothing else there is reachable.
"""

import contextlib
import socket
import threading
from typing import Self

from tests.lab.spaces import Space

LOOPBACK = "127.0.0.1"


def listener(port: int) -> socket.socket:
    """Return a socket that listens on the host's loopback: on `port`, or on a free one if that is taken."""
    try:
        return socket.create_server((LOOPBACK, port))
    except OSError:
        return socket.create_server((LOOPBACK, 0))


class Forwarder:
    """Connections to `listening`, each passed on to the same port of the namespace, until the end of `with`."""

    def __init__(self, space: Space, listening: socket.socket) -> None:
        self._space = space
        self._listening = listening
        self._port: int = listening.getsockname()[1]
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listening, *tuple(self._open)):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listening.accept()
            except OSError:  # the end
                return
            there = self._space.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                there.connect((LOOPBACK, self._port))
            except OSError:  # the daemon is not there
                here.close()
                there.close()
                continue
            self._open |= {here, there}
            threading.Thread(target=self._pass_on, args=(here, there), daemon=True).start()

    def _pass_on(self, here: socket.socket, there: socket.socket) -> None:
        """Copy both ways; close both sockets when both directions have ended."""
        back = threading.Thread(target=_copy, args=(there, here), daemon=True)
        back.start()
        _copy(here, there)
        back.join()
        for each in (here, there):
            each.close()
            self._open.discard(each)


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy until the source ends, or the target takes no more."""
    with contextlib.suppress(OSError):
        while part := source.recv(65_536):
            target.sendall(part)
    for each, way in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with contextlib.suppress(OSError):
            each.shutdown(way)
