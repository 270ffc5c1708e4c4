"""Work that may wait for a disk: limited in time and in threads."""

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from netscand import daemon
from netscand.off_loop import OffLoop


def test_results_and_errors_are_those_of_the_work() -> None:
    async def play() -> None:
        work = OffLoop(1)
        assert await work.do(lambda: 7, 30) == 7
        with pytest.raises(ZeroDivisionError):
            await work.do(lambda: 1 // 0, 30)

    asyncio.run(play())


def test_work_that_hangs_takes_a_limited_number_of_threads() -> None:
    """FAULTS F33: what comes later is given to who cleans up."""
    thaw = threading.Event()
    late: list[int] = []

    def hang() -> int:
        thaw.wait(60)
        return 7

    async def play() -> None:
        work = OffLoop(2)
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await work.do(hang, 0.05, late.append)
        assert [thread.name for thread in threading.enumerate()].count("off loop") == 2
        thaw.set()
        async with asyncio.timeout(30):
            while late != [7, 7]:
                await asyncio.sleep(0.01)
        assert await work.do(hang, 30) == 7

    try:
        asyncio.run(play())
    finally:
        thaw.set()


def test_the_process_does_not_wait_for_it() -> None:
    """As asyncio.to_thread lets asyncio.run wait."""
    thaw = threading.Event()

    async def play() -> None:
        with pytest.raises(TimeoutError):
            await OffLoop(1).do(lambda: thaw.wait(60), 0.05)

    ends = threading.Timer(20, thaw.set)
    ends.start()
    asyncio.run(play())
    assert not thaw.is_set()
    ends.cancel()
    thaw.set()


def test_no_reload_waits_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS F33: the old configuration stays in force, and `status` says why."""
    thaw = threading.Event()
    monkeypatch.setattr(daemon, "READ_WITHIN", 0.1)
    monkeypatch.setattr(daemon.Daemon, "_load", lambda self: thaw.wait(60))
    path = tmp_path / "netscand.toml"

    async def play() -> None:
        made = daemon.Daemon.__new__(daemon.Daemon)  # without its sockets
        made._path, made._reading, made._reloading = path, OffLoop(1), asyncio.Lock()
        made._notify, made.engine = lambda text: None, cast(Any, SimpleNamespace(not_reloaded=""))
        async with asyncio.timeout(10):
            for error in [await made._reload(), await made._reload()]:
                assert error == f"{path}: the disk does not answer"
        assert "does not answer" in made.engine.not_reloaded

    try:
        asyncio.run(play())
    finally:
        thaw.set()
