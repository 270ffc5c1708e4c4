"""The crowd, from outside: the commands of a test (tests/lab/crowd_process.py does it, and documents the commands)."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import Any

from tests.lab.spaces import Space

Delay = float | tuple[float, float] | None


class Refused(Exception):
    """The crowd would not; the text says why."""


class Crowd:
    """Thousands of devices behind one port of the switch. `seed` decides their MACs and what is lost.

    Every method returns when it is done and its frames have gone out. A device is named by its address or its MAC.
    Those that say something return the unix time at which it was out.
    """

    def __init__(self, space: Space, interface: str, seed: int = 1) -> None:
        self.space = space
        self._lock = threading.Lock()
        argv = [sys.executable, "-m", "tests.lab.crowd_process", interface, str(seed)]
        self._process = space.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._answer()

    def do(self, verb: str, **how: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Any command; its answer. Raises Refused."""
        with self._lock:
            line = json.dumps({"do": verb} | how) + "\n"
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
            return self._answer()

    def populate(self, ips: Iterable[str], macs: Iterable[str] | None = None) -> dict[str, str]:
        """These are there without a word; IP → MAC."""
        ips = list(ips)
        answer = self.do("populate", ips=ips, macs=list(macs) if macs else None)
        return dict(zip(ips, answer["macs"], strict=True))

    def join(self, ip: str, mac: str | None = None, *, say: str = "announcement", via: str | None = None) -> str:
        """One comes; its MAC. `say`: announcement, reply, probe or none; `via`: the Ethernet source of its frames."""
        return str(self.do("join", ip=ip, mac=mac, say=say, via=via)["mac"])

    def leave(self, who: str) -> None:
        """Gone without a word."""
        self.do("leave", who=who)

    def sleep(self, who: str) -> None:
        """It neither hears nor speaks."""
        self.do("sleep", who=who)

    def wake(self, who: str, *, say: str = "announcement") -> float:
        """Back again."""
        return float(self.do("wake", who=who, say=say)["at"])

    def move(self, who: str, ip: str, *, say: str = "announcement") -> float:
        """It takes another address."""
        return float(self.do("move", who=who, ip=ip, say=say)["at"])

    def speak(self, who: str, to: str | None = None) -> float:
        """It asks for `to`, or announces itself."""
        return float(self.do("speak", who=who, to=to)["at"])

    def conditions(self, *, loss: float | None = None, delay: Delay = None) -> None:
        """For all: the probability that a request gets no reply; the seconds to the reply, or a range of them."""
        self.do("set", **({"loss": loss} if loss is not None else {}), delay=delay)

    def set(self, who: str, **changes: Any) -> None:  # noqa: ANN401 - JSON
        """Of one: `loss`, `delay`, `deaf` ("unicast", "broadcast", ""), `via`."""
        self.do("set", who=who, **changes)

    def send(self, *frames: bytes) -> float:
        """These bytes, as they are."""
        return float(self.do("send", frames=[frame.hex() for frame in frames])["at"])

    def flood(self, *, rate: float, seconds: float, macs: int) -> None:
        """Made-up devices announce themselves; returns at once."""
        self.do("flood", rate=rate, seconds=seconds, macs=macs)

    def counts(self) -> dict[str, int]:
        """Requests asked, answered and lost, frames flooded, requests dropped for want of room, devices."""
        return {name: value for name, value in self.do("counts").items() if name not in ("ok", "at")}

    def close(self) -> None:
        """End it."""
        self.space.end(self._process, now=True)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Refused(f"the crowd has died, exit {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if not answer["ok"]:
            raise Refused(answer["error"])
        return answer
