"""The fuzzers: their corpus, and new cases for seconds; with --long, for a minute each. A failing case is kept."""

import asyncio
import gc
import logging
import os
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random, SystemRandom

import pytest

from netscand.core.targets import resolve
from tests.attacks import fuzz, fuzz_frames, fuzz_http, fuzz_websocket
from tests.attacks.fuzz import CORPUS, cases, keep
from tests.serve.house import FakeScanner, House, house

TURN = 50
"""Cases between two looks at the server."""


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    return 60.0 if request.config.getoption("--long") else 1.5


@pytest.fixture
def seed() -> int:
    """Another one each time; `NETSCAND_FUZZ=SEED` runs the same again."""
    chosen = int(os.environ.get("NETSCAND_FUZZ", 0)) or SystemRandom().randrange(1, 2**31)
    print(f"NETSCAND_FUZZ={chosen}")
    return chosen


def test_frames(seconds: float, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """FAULTS T8, T12: no frame raises, is slow or fills a log; no event is lost on its way to the client."""
    caplog.set_level(logging.DEBUG)
    slowest, events = 0.0, 0
    for name, case in cases("frames", seconds, seed, fuzz_frames.make):
        try:
            took, published = fuzz_frames.run(case)
            if (
                took > fuzz_frames.SLOW
            ):  # the collector of garbage may have come in between: not at the same frame twice
                gc.collect()
                took = min(took, fuzz_frames.run(case)[0])
            assert took < fuzz_frames.SLOW, f"a frame took {took:.3f} s"
        except Exception:
            pytest.fail(keep("frames", name, case), pytrace=True)
        slowest, events = max(slowest, took), events + published
    print(f"slowest frame {1000 * slowest:.1f} ms, {events} events")
    assert events > 100 * seconds, "hardly anything came of it: it proves nothing"
    assert not caplog.records


SCAN = 0.05
"""Seconds that a scan takes: who waits for one is answered then, and not read meanwhile beyond a bound."""


class Resolving(FakeScanner):
    """Takes requests for scans as the planner does, and ends each scan soon, as every scan ends."""

    def scan_now(
        self, targets: Sequence[str], account: Hashable = None, client: object = None, site: str | None = None
    ) -> int:
        resolve(targets, list(self.networks.values()))
        self.scan_id += 1
        asyncio.get_running_loop().call_later(SCAN, self.finish, self.scan_id)
        return self.scan_id


async def served(
    kind: str,
    folder: Path,
    seconds: float,
    seed: int,
    make: Callable[[Random, Sequence[bytes]], bytes],
    run: Callable[[House, bytes], Awaitable[int]],
) -> int:
    """Send every case to one server; how many answers there were."""
    answers = 0
    async with house(folder) as lan:
        lan.scanner.__class__ = Resolving
        await fuzz_http.healthy(lan)
        descriptors = len(os.listdir("/proc/self/fd"))
        for number, (name, case) in enumerate(cases(kind, seconds, seed, make)):
            try:
                answers += await run(lan, case)
                if number % TURN == 0:
                    await fuzz_http.healthy(lan)
            except Exception:
                pytest.fail(keep(kind, name, case), pytrace=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                while lan.server._limiter.connections:
                    await asyncio.sleep(0.01)
        assert not lan.server._limiter.connections, "connections are left"
        assert not lan.scanner.leases
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 2
    return answers


async def test_http(tmp_path: Path, seconds: float, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """FAULTS T3, T15: whatever a connection sends."""
    answers = await served("http", tmp_path, seconds, seed, fuzz_http.make, fuzz_http.run)
    print(f"{answers} answers")
    assert answers > 20 * seconds
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_websocket(tmp_path: Path, seconds: float, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """FAULTS T14, T15: whatever a client sends behind its handshake."""
    messages = await served("websocket", tmp_path, seconds, seed, fuzz_websocket.make, fuzz_websocket.run)
    print(f"{messages} messages")
    assert messages > 20 * seconds
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_the_corpus_is_what_is_written(kind: str) -> None:
    """The same each time. After a change of a fuzzer: `python -m tests.attacks.fuzz`."""
    made = {"frames": fuzz_frames, "http": fuzz_http, "websocket": fuzz_websocket}[kind]
    written = [path.read_bytes() for path in sorted((CORPUS / kind).glob("seed-*.bin"))]
    assert written == list(made.seeds())
    assert sum(map(len, written)) < 64 * 1024
