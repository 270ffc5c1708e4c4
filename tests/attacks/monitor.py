"""What must not suffer while netscand is attacked, measured during the attack from another account.

    with monitored(daemon) as measured:
        attack()
    measured.check()

Wall times on a busy machine mean little, so no bound depends on them: the kernel counts how long it kept the daemon's
thread, though ready to run, without a processor, and that much is subtracted. What remains is the daemon's own doing.
"""

import bisect
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.lab.daemon import Daemon
from tests.lab.program import Program
from tests.lab.spaces import DEADLINE

MONITOR, NICE = 1999, -5
"""The uid of the monitor; its priority, so that attackers who share our processors do not slow it."""

ANSWERED = 0.25
"""Seconds to the slowest answer of /healthz."""

HELD = 0.05
"""Seconds that one turn of the loop may take. Only a daemon that has the metric can be held to it."""

FED = 0.75
"""Seconds that a sign of life for the watchdog may be late, waits taken off: it is received in this process, too."""

GROWN = 64.0
"""MiB of memory at the peak, more than before the attack."""

QUIET = 0.5
"""Seconds without the attack, to see what the daemon needs anyway."""

WATCHED = {"WATCHDOG_USEC": "4000000"}
"""For the daemon's environment: a sign of life a second, and none where something was held for two."""

WORDS = ("label", "known", "notes")
"""Annotations of a user."""


class Measured:
    """The measurements; complete after the block of `monitored`."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.cursor = ""
        """The cursor at which the attack began."""
        self.began_at = self.ended_at = 0.0
        self.slowest = 0.0
        """Seconds to the slowest answer of /healthz, waits for a processor taken off; `wall`: not taken off."""
        self.wall = 0.0
        self.asked = 0
        self.failures: list[str] = []
        self.held = 0.0
        """Seconds of the longest turn of the loop, waits taken off."""
        self.long_turns = 0
        """Turns of more than 50 ms, by the wall clock."""
        self.pause = 0.0
        """Seconds between two signs of life for the watchdog, at most, waits taken off."""
        self.grown = 0.0
        """MiB."""
        self.descriptors = (0, 0)
        """Before, and when the attack was over."""
        self.events: list[dict[str, Any]] = []
        """The events that the monitor received."""
        self.missing: list[str] = []
        """Cursors of events that it did not receive, or not in order."""
        self.words: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        self.still = 0.0
        self._monitor: _Monitor | None = None

    def check(
        self,
        *,
        slowest: float = ANSWERED,
        held: float = HELD,
        grown: float = GROWN,
        descriptors: int = 3,
    ) -> None:
        """Fail where the attack harmed anybody. `descriptors`: how many more there may be than before."""
        print(self)
        assert not self.failures, f"/healthz failed: {self.failures[:5]}"
        assert self.asked >= (self.ended_at - self.began_at), f"/healthz was answered {self.asked} times only"
        assert self.slowest <= slowest, f"/healthz took {self.slowest:.3f} s\n{self}"
        assert self.held <= held, f"the loop was held for {self.held:.3f} s\n{self}"
        assert self.pause <= self.still / 4 + FED, f"no sign of life for {self.pause:.2f} s\n{self}"
        assert self.grown <= grown, f"memory grew by {self.grown:.0f} MiB\n{self}"
        assert self.descriptors[1] <= self.descriptors[0] + descriptors, f"descriptors are kept\n{self}"
        assert not self.missing, f"the stream lost {len(self.missing)} events: {self.missing[:5]}"
        before, after = self.words
        lost = {mac: (words, after.get(mac)) for mac, words in before.items() if after.get(mac) != words}
        assert not lost, f"annotations were lost: {lost}"

    def received(self) -> list[dict[str, Any]]:
        """Return the events that the monitor received so far; also while the attack goes on."""
        if self._monitor is not None:
            self.events = self._monitor.do("events")["events"]
        return self.events

    def event(self, kind: str, *, seconds: float = DEADLINE / 2, **fields: object) -> dict[str, Any]:
        """Wait for the first event with these fields since the attack began. For within the block."""
        ends = time.monotonic() + seconds
        while True:
            for event in self.received():
                if event["kind"] == kind and all(event[name] == value for name, value in fields.items()):
                    return event
            assert time.monotonic() < ends, f"no {kind} {fields}, but {[event['kind'] for event in self.events][-20:]}"
            time.sleep(0.05)

    def __str__(self) -> str:
        return (
            f"/healthz: {self.asked} asked, slowest {1000 * self.slowest:.0f} ms, {1000 * self.wall:.0f} by the clock; "
            f"loop held {1000 * self.held:.0f} ms, {self.long_turns} turns > 50 ms; watchdog pause {self.pause:.1f} s; "
            f"memory +{self.grown:.1f} MiB; descriptors {self.descriptors[0]} -> {self.descriptors[1]}; "
            f"{len(self.events)} events in {self.ended_at - self.began_at:.1f} s"
        )


@contextmanager
def monitored(daemon: Daemon, quiet: float = QUIET) -> Iterator[Measured]:
    """Measure while the block lasts. The daemon should run with the environment WATCHED."""
    measured = Measured(daemon)
    measured.still = int(daemon.environment.get("WATCHDOG_USEC", "0")) / 1e6
    monitor = measured._monitor = _Monitor(daemon)
    try:
        _metrics(daemon)  # the first scrape imports a library, and the first question opens the history
        daemon.get("/api/events?limit=1")
        monitor.do("begin")
        time.sleep(quiet)
        before = _metrics(daemon)
        measured.words = _words(daemon), {}
        descriptors = _descriptors(daemon.pid)
        measured.cursor = monitor.do("begin")["cursor"]
        memory = _reset_peak(daemon.pid)
        begun = measured.began_at = time.monotonic()
        yield measured
        measured.ended_at = time.monotonic()
        found = monitor.do("end")
        measured.grown = _peak(daemon.pid) - memory
        _answers(measured, found)
        _turns(measured, found["waits"], before, _metrics(daemon))
        fed = [at for at, sent in zip(daemon.notified_at, tuple(daemon.notified), strict=False) if "WATCHDOG=1" in sent]
        if fed:
            around = [at for at in fed if begun - measured.still / 4 <= at <= measured.ended_at]
            stamps = [*around, measured.ended_at] if around else [begun, measured.ended_at]
            pause = max(later - at for at, later in pairwise(stamps))
            measured.pause = pause - _Waits(found["waits"]).most(pause)
        measured.events = found["events"]
        measured.words = measured.words[0], _words(daemon)
        measured.missing = [*found["lost"], *_missing(daemon, monitor, measured.cursor)]
        measured.descriptors = descriptors, _settled(daemon.pid, descriptors)
    finally:
        measured._monitor = None
        monitor.close()


class _Monitor(Program):
    """tests/attacks/monitor_process.py, which runs beside the daemon."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon.space, "tests.attacks.monitor_process", daemon.socket, daemon.pid, MONITOR, NICE)
        self.read()

    def do(self, command: str) -> dict[str, Any]:
        self.say(command)
        found: dict[str, Any] = self.result()
        return found


# ---- what is measured -----------------------------------------------------------------------------------------------


def _answers(measured: Measured, found: dict[str, Any]) -> None:
    waits = _Waits(found["waits"])
    for begun, took, own in found["answers"]:
        measured.wall = max(measured.wall, took)
        measured.slowest = max(measured.slowest, took - own - waits.within(begun, begun + took))
    measured.asked = len(found["answers"])
    measured.failures = found["failures"]


def _turns(
    measured: Measured, samples: list[tuple[float, float]], before: dict[str, float], after: dict[str, float]
) -> None:
    """The longest turn: the gauge, where it rose during the attack; else the bucket of the longest new one."""
    name = "netscand_loop_held_seconds_bucket"
    new = {
        float(bound): after[key] - before.get(key, 0.0)
        for key in after
        if (label := re.fullmatch(name + r'\{le="([^"]+)"\}', key)) and (bound := label[1])
    }
    if not new:
        return  # a daemon that does not measure it
    bounds = sorted(new)
    measured.long_turns = int(new[bounds[-1]] - new[HELD])
    longest = after["netscand_loop_held_longest_seconds"]
    if longest <= before["netscand_loop_held_longest_seconds"]:
        reached = next((bound for bound in bounds if new[bound] == new[bounds[-1]]), 0.0) if new[bounds[-1]] else 0.0
        longest = min(reached, longest)
    measured.held = max(0.0, longest - _Waits(samples).most(longest))


class _Waits:
    """How long the daemon waited for a processor, from samples of the sum."""

    def __init__(self, samples: list[tuple[float, float]]) -> None:
        self._at = [at for at, _ in samples]
        self._sum = [waited for _, waited in samples]

    def within(self, begin: float, end: float) -> float:
        """Seconds of the wait in that time."""
        if len(self._at) < 2:
            return 0.0
        first = max(0, bisect.bisect_right(self._at, begin) - 1)
        last = min(len(self._at) - 1, bisect.bisect_left(self._at, end))
        return max(0.0, self._sum[last] - self._sum[first])

    def most(self, seconds: float) -> float:
        """The longest wait in any time of that length: that of a turn whose moment is not known."""
        return min(seconds, max((self.within(at, at + seconds) for at in self._at), default=0.0))


def _metrics(daemon: Daemon) -> dict[str, float]:
    """Every sample of /metrics, by its name and labels."""
    connection = daemon.connection()
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def _reset_peak(pid: int) -> float:
    """Let the kernel measure the peak from now on; MiB held now (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _status(pid, "VmRSS")


def _peak(pid: int) -> float:
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found, f"process {pid} has ended"
    return int(found[1]) / 1024


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _settled(pid: int, before: int) -> int:
    """Descriptors, once they are back as before: what the kernel took of each connection is read to its end first."""
    ends = time.monotonic() + DEADLINE
    while (now := _descriptors(pid)) > before and time.monotonic() < ends:
        time.sleep(0.05)
    return now


def _words(daemon: Daemon) -> dict[str, Any]:
    """Return MAC → annotations."""
    devices = daemon.get("/api/devices")["devices"]
    found = {device["mac"]: {name: device.get(name) for name in WORDS} for device in devices}
    return {mac: words for mac, words in found.items() if any(words.values())}


def _missing(daemon: Daemon, monitor: _Monitor, cursor: str) -> list[str]:
    """Return the cursors that the history has and the monitor did not receive, or why its order is wrong."""
    last = daemon.get("/api/status")["cursor"]
    ends = time.monotonic() + 5
    while True:
        seen = [event["cursor"] for event in monitor.do("events")["events"]]
        if (seen and _number(seen[-1]) >= _number(last)) or last == cursor or time.monotonic() > ends:
            break
        time.sleep(0.05)
    kept: list[str] = []
    since = cursor
    while True:
        status, answer = daemon.request("GET", f"/api/events?limit=5000&since={since}")
        if status != 200 or not answer["events"]:
            break
        kept += [event["cursor"] for event in answer["events"]]
        since = kept[-1]
    kept = [each for each in kept if _number(each) <= _number(last)]
    seen = [each for each in seen if _number(each) <= _number(last)]
    lost = sorted(set(kept) - set(seen), key=_number)
    return lost or ([] if seen == sorted(set(seen), key=_number) else ["out of order, or twice"])


def _number(cursor: str) -> int:
    return int(cursor.rpartition("-")[2])
