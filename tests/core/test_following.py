"""Changes of interfaces are noticed in time, whatever else the loop has to do."""

import asyncio
import os
from collections.abc import Generator

import pytest

from netscand.config import Scan
from netscand.lan import interfaces
from netscand.lan.interfaces import Interfaces
from netscand.lan.networks import Kernel


class SlowNetlink:
    """One whose dumps take a minute, for the loop has much to do; `change` makes news."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks = 0
        self._read, self._write = os.pipe()

    def fileno(self) -> int:
        return self._read

    def change(self) -> None:
        os.write(self._write, b"x")

    def changed(self) -> bool:
        return bool(os.read(self._read, 100))

    def read(self) -> Generator[None, None, Kernel]:
        yield
        self.now += 60.0
        self.looks += 1
        return Kernel()

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


def test_a_reading_that_took_long_delays_the_next_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS T65: a flood of frames makes it last; a pulled cable is not noticed ten times as late."""
    netlink = SlowNetlink()
    monkeypatch.setattr(interfaces, "monotonic", lambda: netlink.now)

    async def play() -> None:
        async with asyncio.timeout(20 * interfaces.LONGEST), asyncio.TaskGroup() as tasks:
            following = tasks.create_task(Interfaces(lambda _: None, Scan(), ())._follow(netlink))  # type: ignore[arg-type]
            for looks in range(1, 4):
                netlink.change()
                while netlink.looks < looks:
                    await asyncio.sleep(0.01)
            following.cancel()

    try:
        asyncio.run(play())
    finally:
        netlink.close()
