"""Rooms of the daemon in a namespace, in this process: run beside a script, and what a test asks of the namespace."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Protocol

from netscand.core.model import Ip, Mac, Network, NetworkState
from tests.lab.lan import Host
from tests.lab.spaces import DEADLINE, Space

Send = Callable[[bytes], object]


class Room(Protocol):
    """What `running` runs."""

    def run(self) -> Coroutine[Any, Any, None]:
        """Until cancelled."""

    def close(self) -> None:
        """Give back what it holds."""


@asynccontextmanager
async def running(room: Room) -> AsyncIterator[None]:
    """Run the room while the block lasts; then end and close it."""
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(room.run())
            yield
            task.cancel()
    finally:
        room.close()


def inside(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test within a namespace: its `space`, or that of the watcher of its lab."""

    @wraps(test)
    def run(**fixtures: Any) -> None:  # noqa: ANN401
        lab = fixtures.get("shared_lab") or fixtures.get("lab")
        space: Space = fixtures["space"] if lab is None else lab.watcher.space
        space.within(lambda: asyncio.run(test(**fixtures)))

    return run


async def until(true: Callable[[], object], seconds: float = DEADLINE) -> None:
    """Wait for it, and fail where it does not come."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


def index_of(space: Space, interface: str = "eth0") -> int:
    """The interface's number."""
    return int(space.run(["cat", f"/sys/class/net/{interface}/ifindex"]).stdout)


def ip(text: str) -> Ip:
    """An address as the daemon has it."""
    return Ip(IPv4Address(text).packed)


def network_of(host: Host) -> Network:
    """The host's own, to ask on."""
    cidr = IPv4Network("10.77.0.0/24")
    mac = Mac(bytes.fromhex(host.mac.replace(":", "")))
    index = index_of(host.space, host.interface)
    return Network(f"{cidr}@eth0", cidr, "eth0", index, mac, ip("10.77.0.2"), NetworkState.UP, "")
