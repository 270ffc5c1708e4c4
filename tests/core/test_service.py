"""The watchdog is fed only while every component runs."""

import asyncio
import logging
import os
import socket
import time
from pathlib import Path

import pytest
import sdnotify
from sdnotify import SystemdNotifier

from netscand.lan.wire import Wire, WireError
from netscand.service import Watchdog, notifier

ASKED = {"WATCHDOG_USEC": "10000000"}


def watchdog(**ticks: float) -> tuple[Watchdog, list[str]]:
    """A watchdog with 10 s, and its notifications."""
    published: list[str] = []
    return Watchdog(published.append, {name: lambda at=at: at for name, at in ticks.items()}, ASKED), published  # type: ignore[misc]


def test_it_is_fed_while_every_room_ticks() -> None:
    """All ticked within half of what systemd allows."""
    dog, published = watchdog(engine=96.0, wire=95.0, history=99.9)
    dog.check(100.0)
    assert published == ["WATCHDOG=1"]


@pytest.mark.parametrize("hung", ["engine", "wire", "history"])
def test_one_room_that_hangs_is_enough_to_be_silent(hung: str, caplog: pytest.LogCaptureFixture) -> None:
    """Any of them; the log names it once, says that it recovered, and names it again if it hung again (FAULTS F3)."""
    ticks = dict.fromkeys(("engine", "wire", "history"), 100.0) | {hung: 94.9}
    published: list[str] = []
    dog = Watchdog(published.append, {name: lambda name=name: ticks[name] for name in ticks}, ASKED)  # type: ignore[misc]
    with caplog.at_level(logging.WARNING):
        dog.check(100.0)
        dog.check(101.0)
        assert published == []
        assert [record.getMessage().split()[0] for record in caplog.records] == [hung]
        ticks.update(dict.fromkeys(ticks, 101.5))
        dog.check(102.0)
        assert published == ["WATCHDOG=1"]
        ticks[hung] = 0.0
        dog.check(103.0)
    texts = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[0] for text in texts] == [f"{hung} hangs", f"{hung} has recovered", f"{hung} hangs"]


def test_after_a_stop_of_the_process_components_get_a_turn_first(caplog: pytest.LogCaptureFixture) -> None:
    """SIGSTOP, or a frozen machine: what stood still together with the watchdog does not hang."""
    fed: list[str] = []

    async def live() -> None:
        ticked_at = time.monotonic()
        dog = Watchdog(fed.append, {"engine": lambda: ticked_at}, {"WATCHDOG_USEC": "2000000"})
        async with asyncio.TaskGroup() as tasks:
            feeding = tasks.create_task(dog.run())
            await asyncio.sleep(0.05)
            before = len(fed)
            time.sleep(2.5)
            await asyncio.sleep(0.1)
            ticked_at = time.monotonic()
            while len(fed) == before:
                await asyncio.sleep(0.01)
            feeding.cancel()

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(live())
    assert not caplog.records


def test_it_looks_in_time() -> None:
    """Fed at least twice within what systemd allows, from the first moment on."""
    published: list[float] = []

    async def live() -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        dog = Watchdog(lambda _: published.append(loop.time() - begun), {}, {"WATCHDOG_USEC": "200000"})
        async with asyncio.TaskGroup() as tasks:
            feeding = tasks.create_task(dog.run())
            while len(published) < 3:
                await asyncio.sleep(0.01)
            feeding.cancel()

    asyncio.run(live())
    assert published[0] < published[1] < published[2]


@pytest.mark.parametrize(
    ("environment", "allowed"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_follows_the_environment(environment: dict[str, str], allowed: float | None) -> None:
    """sd_watchdog_enabled(3); without it, the watchdog waits and notifies nothing."""
    assert Watchdog(lambda _: None, {}, environment).allowed == allowed


class Deaf(Wire):
    """A receive path that cannot be opened again, as when there are no descriptors left."""

    tries = 0

    def open(self) -> None:
        self.tries += 1
        raise WireError("no")


def test_a_receive_path_that_tries_again_does_not_hang() -> None:
    """It is deaf for longer than systemd waits, and says so; to be killed for it would make nothing better (law 9).

    Nor between two tries, which come ever more seldom: it ticks oftener than it tries.
    """
    wire = Deaf(lambda heard: None)

    async def live() -> None:
        ticks = set[float]()
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            trying = tasks.create_task(wire.run())
            while len(ticks) < wire.tries + 2:
                ticks.add(wire.ticked_at)
                await asyncio.sleep(0.01)
            trying.cancel()

    asyncio.run(live())


def test_an_unresponsive_service_manager_blocks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise eleven unread messages would stop the loop."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        library = SystemdNotifier()
        monkeypatch.setattr(sdnotify, "SystemdNotifier", lambda: library)
        notify = notifier()
        for _ in range(5000):
            notify("STATUS=busy")
        assert manager.recv(100) == b"STATUS=busy"
        library.socket.close()
