"""No flood from the LAN or the kernel holds the loop (H1): each receiver in turn.

How long a turn takes is counted in work of the loop's thread: whatever else this machine does meanwhile.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from netscand.config import Scan
from netscand.core.model import Observation
from netscand.lan.interfaces import Interfaces
from netscand.lan.name_lookup import Resolver
from netscand.lan.name_queue import Names
from netscand.lan.netlink import Neighbours
from netscand.lan.wire import Wire
from tests.core.loop_turns import longest_turn
from tests.core.test_decoder_cost import FRAMES
from tests.lab.answers import answering_without_end
from tests.lab.arp_flood import arp_flood
from tests.lab.lan import Lab
from tests.lab.rooms import Room, until
from tests.lab.spaces import Space
from tests.lab.test_names import Room as Asking
from tests.lab.test_names import ip as address
from tests.lab.test_names import mac_of, network_of, within

LONGEST = 0.05
"""Seconds that the loop may be held."""


async def behind(seconds: float) -> None:
    """Be kept from the loop again and again, so that whatever comes piles up."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(0.2)
        await asyncio.sleep(0.1)


def held(space: Space, make: Callable[[], list[Room]], script: Callable[[], Awaitable[None]]) -> float:
    """The longest turn while `script` is awaited and the rooms run."""

    async def whole() -> float:
        rooms = make()
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(room.run()) for room in rooms]
                await asyncio.sleep(0.1)
                with longest_turn() as turn:
                    await script()
                for task in running:
                    task.cancel()
        finally:
            for room in rooms:
                if not isinstance(room, Names | Neighbours):
                    room.close()
        return turn.seconds

    longest = within(space, whole)
    print(f"{longest * 1000:.1f} ms")
    return longest


@pytest.mark.parametrize(("port", "rate"), [(5353, 2_600), (5353, 20_000), (53, 40_000)], ids=["mDNS", "fast", "DNS"])
def test_lies_from_those_that_are_asked(lab: Lab, tmp_path: Path, port: int, rate: float) -> None:
    """Two at once; before, 1,300 a second of one were enough for as long as it liked."""
    hosts = [lab.host(f"10.77.0.{66 + number}") for number in range(2)]
    (conf := tmp_path / "resolv.conf").write_text("".join(f"nameserver {host.ip}\n" for host in hosts))
    network = network_of(lab.watcher)
    house = Asking(lab.watcher.space, conf, ("mdns",) if port == 5353 else ("dns",))
    house.networks = {network.id: network}
    made: list[Names] = []

    def make() -> list[Room]:
        wire = Wire(lambda _: None, lambda answer: made[0].answered(answer))
        names = Names(house, lambda _: 1, wire.send_frame, Resolver(conf))
        made.append(names)
        wire.open()
        return [wire, names]  # type: ignore[list-item]

    liars = [answering_without_end(host, port, rate, 3.0) for host in hosts]

    async def script() -> None:
        for host in hosts:
            house.places[mac_of(host), network.id] = address(host.ip)
            made[0].request_name(mac_of(host), address(host.ip), network)
        await behind(5)

    assert held(lab.watcher.space, make, script) < LONGEST
    told = [liar.result() for liar in liars]
    print(told)
    assert all(lies["questions"] for lies in told), "no question was asked"
    assert sum(lies["sent"] for lies in told) > 2 * rate
    assert not house.found


def test_the_dearest_frames_of_every_kind_and_a_flood_of_arp(lab: Lab) -> None:
    heard: list[Observation] = []
    count = 0

    def hear(batch: list[Observation]) -> None:
        nonlocal count
        count += len(batch)

    def make() -> list[Room]:
        wire = Wire(hear)
        wire.open()
        return [wire]

    source = arp_flood(lab, 50_000, 3, 10_000, "10.77.0.0/16")
    host = lab.host("10.77.0.66")
    sender = host.space.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sender.bind((host.interface, 0))

    def flood() -> None:
        ends = time.monotonic() + 3
        while time.monotonic() < ends:
            for frame in FRAMES.values():
                sender.send(frame[:1514])
            time.sleep(0.001)

    async def script() -> None:
        source.go()
        flooding = asyncio.get_running_loop().run_in_executor(None, flood)
        await behind(3)
        await flooding

    with sender:
        assert held(lab.watcher.space, make, script) < LONGEST
    source.result()
    assert count > 3_000  # far less than are sent, as on a busy machine most are lost
    assert not heard


def test_a_router_with_routes_beyond_number(lab: Lab) -> None:
    """100,000, and one more that makes us look at all of them."""
    lab.watcher.space.ip(*(f"route add 100.{n >> 16}.{n >> 8 & 255}.{n & 255}/32 dev eth0" for n in range(100_000)))
    networks: list[object] = []

    def make() -> list[Room]:
        interfaces = Interfaces(networks.append, Scan(), ())
        interfaces.open()
        return [interfaces]

    async def script() -> None:
        await asyncio.to_thread(lab.watcher.space.ip, "route add default via 10.77.0.1")
        await until(lambda: networks)

    assert held(lab.watcher.space, make, script) < LONGEST


def test_a_kernel_that_has_much_to_say(lab: Lab) -> None:
    """Neighbours and addresses that come and go, 5,500 times."""
    heard: list[Observation] = []

    def make() -> list[Room]:
        interfaces = Interfaces(lambda _: None, Scan(), ())
        interfaces.open()
        return [interfaces, Neighbours(heard.extend)]  # type: ignore[list-item]

    neighbours = [
        f"neigh replace 10.77.0.{100 + n} lladdr 52:54:00:01:00:{n:02x} nud {state} dev eth0"
        for _ in range(25)
        for state in ("reachable", "stale")
        for n in range(100)
    ]
    addresses = [f"addr {verb} 10.88.0.{n}/32 dev eth0" for n in range(1, 250) for verb in ("add", "del")]

    async def script() -> None:
        changing = asyncio.get_running_loop().run_in_executor(
            None, lambda: lab.watcher.space.ip(*neighbours, *addresses)
        )
        await behind(2)
        await changing

    assert held(lab.watcher.space, make, script) < LONGEST
    assert heard
