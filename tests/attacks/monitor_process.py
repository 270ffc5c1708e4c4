"""A process of another account that measures the daemon while it is attacked; tests/attacks/monitor.py reads it.

It asks /healthz, every second time on a connection of its own; reads the stream of changes, and resumes by cursor where
it was cut; and samples how long the kernel made the daemon wait for a processor, which is the machine's fault and not
the daemon's. Commands are lines on stdin; the answer to each is a JSON object on one line of stdout.

    begin    forget what was measured so far
    events   the events that came since `begin`
    end      what was measured since `begin`, and the events

Arguments: SOCKET PID UID NICE.
"""

import http.client
import json
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

BEAT = 0.02
"""Seconds between an answer and the next question."""

SAMPLE = 0.01
"""Seconds between two samples of the waits."""

LONGEST = 30.0
"""Seconds after which a question has no answer."""


def waited(task: Path) -> float:
    """Return the seconds that a task was ready to run and got no processor, since it began (0 where unknown)."""
    try:
        return int(task.read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=LONGEST)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        while True:  # a full queue is tried again, as clients should: what that takes is measured
            try:
                return self.sock.connect(self._path)
            except BlockingIOError:
                time.sleep(0.001)


class Waits(threading.Thread):
    """Samples the daemon's waits for a processor: (monotonic time, seconds waited since its start)."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float]] = []
        self._task = Path(f"/proc/{pid}/task/{pid}/schedstat")

    def run(self) -> None:
        while True:
            self.samples.append((time.monotonic(), waited(self._task)))
            time.sleep(SAMPLE)


class Asker(threading.Thread):
    """Asks /healthz, one question after another."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self.answers: list[tuple[float, float, float]] = []
        """When asked, seconds to the answer, and seconds of those in which this thread itself had no processor."""
        self.failures: list[str] = []
        self.asking_since: float | None = None
        self._path = path

    def run(self) -> None:
        kept = _Unix(self._path)
        own = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        number = 0
        while True:
            number += 1
            asking = kept if number % 2 else _Unix(self._path)
            before, begun = waited(own), time.monotonic()
            self.asking_since = begun
            try:
                asking.request("GET", "/healthz")
                answer = asking.getresponse()
                answer.read()
                if answer.status != 200:
                    self.failures.append(f"{answer.status} at {begun:.3f}")
            except (OSError, http.client.HTTPException) as wrong:
                self.failures.append(f"{type(wrong).__name__}: {wrong} after {time.monotonic() - begun:.2f} s")
                kept.close()
                time.sleep(0.1)
            else:
                self.answers.append((begun, time.monotonic() - begun, waited(own) - before))
            self.asking_since = None
            if asking is not kept:
                asking.close()
            time.sleep(BEAT)


class Subscriber(threading.Thread):
    """Follows the stream of changes as a client does: resumes by cursor where it was cut."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self.events: list[dict[str, Any]] = []
        self.cursor = ""
        self.lost: list[str] = []
        """Times that the stream could not be resumed."""
        self.ready = threading.Event()
        self._path = path

    def run(self) -> None:
        while True:
            with suppress(OSError, EOFError, ValueError):
                self._follow()
            time.sleep(0.05)

    def _follow(self) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(LONGEST)
            sock.connect(self._path)
            query = f"updates=changes{f'&since={self.cursor}' if self.cursor else ''}"
            sock.sendall(
                f"GET /ws?{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
            )
            reader = sock.makefile("rb")
            if b" 101 " not in reader.readline():
                raise ValueError("refused")
            while reader.readline().strip():
                pass
            sock.settimeout(None)
            text = b""
            while True:
                first, length = reader.read(2)
                if length >= 126:
                    length = int.from_bytes(reader.read(2 if length == 126 else 8))
                payload = reader.read(length)
                if first & 0x0F == 0x9:  # a ping: masked with zeros
                    sock.sendall(bytes((0x8A, 0x80 | len(payload))) + bytes(4) + payload)
                elif first & 0x0F == 0x8:
                    return
                else:
                    text += payload
                    if first & 0x80:
                        self._take(json.loads(text))
                        text = b""

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "initial_state":
            if self.cursor:
                self.lost.append(f"not resumed at {self.cursor}")
            self.cursor = message["cursor"]
            self.ready.set()
        elif kind == "event":
            self.cursor = message["cursor"]
            device = message.get("device") or {}
            self.events.append(
                {
                    "at": time.monotonic(), "cursor": message["cursor"], "kind": message["kind"],
                    "mac": device.get("mac"), "address": message.get("address"), "reason": message.get("reason"),
                    "hostname": device.get("hostname"),
                }
            )  # fmt: skip
        elif kind == "lagged":
            self.cursor = message["cursor"]


def main() -> None:
    path, pid, uid, nice = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    os.nice(nice)
    sys.setswitchinterval(0.0005)
    os.setgroups(())
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    waits, asker, subscriber = Waits(pid), Asker(path), Subscriber(path)
    for thread in (waits, asker, subscriber):
        thread.start()
    if not subscriber.ready.wait(LONGEST):
        raise SystemExit(f"no snapshot within {LONGEST:g} s")
    print("{}", flush=True)
    events_from = 0
    for line in sys.stdin:
        match line.strip():
            case "begin":
                events_from = len(subscriber.events)
                for table in (waits.samples, asker.answers, asker.failures, subscriber.lost):
                    table.clear()
                answer: dict[str, Any] = {"cursor": subscriber.cursor}
            case "events":
                answer = {"events": subscriber.events[events_from:]}
            case "end":
                while (since := asker.asking_since) is not None and time.monotonic() - since < LONGEST + 1:
                    time.sleep(0.005)  # the question that met the longest wait has its answer first
                answer = {
                    "answers": asker.answers, "failures": asker.failures, "waits": waits.samples,
                    "events": subscriber.events[events_from:], "lost": subscriber.lost,
                }  # fmt: skip
            case other:
                raise ValueError(other)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
