"""Clients that do not stop asking."""

import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Asking:
    """Eight clients on the Unix socket, each request on a connection of its own, until the block ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: Counter[str] = Counter()
        self.slowest = 0.0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(8)]

    def _ask_on(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            outcome = self._ask()
            self.outcomes[outcome] += 1
            self.slowest = max(self.slowest, time.monotonic() - begun)
            time.sleep(0.02)  # who shares a processor with us wants to start meanwhile

    def _ask(self) -> str:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(30)
                sock.connect(str(self.path))
                sock.sendall(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = http.client.HTTPResponse(sock)
                answer.begin()
                answer.read()
                return str(answer.status)
        except (OSError, http.client.HTTPException) as wrong:
            return type(wrong).__name__

    def wait_for(self, requests: int, seconds: float = 60.0) -> None:
        """Until so many are done."""
        ends = time.monotonic() + seconds
        while sum(self.outcomes.values()) < requests:
            assert time.monotonic() < ends, f"only {self.outcomes} in {seconds} s"
            time.sleep(0.01)


@contextmanager
def asking(path: Path) -> Iterator[Asking]:
    """They ask while the block lasts."""
    made = Asking(path)
    for thread in made._threads:
        thread.start()
    try:
        yield made
    finally:
        made._stop.set()
        for thread in made._threads:
            thread.join()
