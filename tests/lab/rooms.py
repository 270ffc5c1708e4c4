"""Rooms of the daemon in a namespace, in this process: run beside a script, and what a test asks of the namespace."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Protocol

from netscand.core.model import Ip, Mac, Network, NetworkState
from tests.lab.lan import Host
from tests.lab.spaces import DEADLINE, Space

Send = Callable[[bytes], object]


class Room(Protocol):
    """What `beside` runs."""

    def run(self) -> Coroutine[Any, Any, None]:
        """Until cancelled."""

    def close(self) -> None:
        """Give back what it holds."""


async def beside(room: Room, script: Awaitable[None]) -> None:
    """Await `script` while `room` runs; then end and close the room."""
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(room.run())
            await script
            running.cancel()
    finally:
        room.close()


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
