"""A socket where too many connections wait already: netscanctl tries again, for two seconds."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netscanctl import client, stream
from netscanctl.client import Client, Daemon, NoDaemon

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@contextmanager
def busy(path: Path, seconds: float) -> Iterator[Daemon]:
    """A daemon whose queue is full; after so many seconds it answers whoever is in it, until the end of the block."""
    over = threading.Event()

    def answer() -> None:
        over.wait(seconds)
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(0.2)
                try:
                    if connection.recv(65536):
                        connection.sendall(ANSWER)
                except OSError:
                    pass  # one of those that fill the queue

    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(path))
        listener.listen(0)
        listener.settimeout(0.05)
        waiting.connect(str(path))
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield Daemon(str(path))
        finally:
            over.set()
            thread.join()


def by_request(daemon: Daemon) -> bytes:
    made = Client(daemon)
    try:
        return made._request("GET", "/api/status")
    finally:
        made.close()


def by_stream(daemon: Daemon) -> bytes:
    return asyncio.run(stream.post(daemon, "/api/scan", b"{}"))


@pytest.mark.parametrize("ask", [by_request, by_stream])
def test_a_full_queue_is_tried_again(tmp_path: Path, ask: Callable[[Daemon], bytes]) -> None:
    """connect(2) fails with EAGAIN, which asyncio takes for success."""
    with busy(tmp_path / "s", 0.3) as daemon:
        assert ask(daemon) == b"{}"


@pytest.mark.parametrize("ask", [by_request, by_stream])
def test_a_queue_that_stays_full_is_reported(
    tmp_path: Path, ask: Callable[[Daemon], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With exit code 3, and the reason."""
    for module in (client, stream):
        monkeypatch.setattr(module, "CONNECT", 0.1)
    with busy(tmp_path / "s", 60.0) as daemon, pytest.raises(NoDaemon, match="too many connections wait for netscand"):
        ask(daemon)
