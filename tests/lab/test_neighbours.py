"""The kernel's neighbours as evidence: only the moment in which one becomes reachable."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from netscand.core.model import Evidence, Ip, Mac, Observation
from netscand.lan import netlink
from netscand.lan.netlink import Neighbours
from tests.lab.lan import Lab
from tests.lab.rooms import index_of, inside, until
from tests.lab.spaces import Space

MAC = "a4:83:e7:12:34:56"


@asynccontextmanager
async def listening() -> AsyncIterator[list[Observation]]:
    """What Neighbours hear while they run."""
    heard: list[Observation] = []
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(Neighbours(heard.extend).run())
        await asyncio.sleep(0.05)
        yield heard
        running.cancel()


def entry(space: Space, ip: str, state: str, mac: str = MAC) -> None:
    space.ip(f"neigh replace {ip} lladdr {mac} dev eth0 nud {state}")


@inside
async def test_who_becomes_reachable_is_told_and_nobody_else(shared_lab: Lab) -> None:
    space = shared_lab.watcher.space
    async with listening() as heard:
        for state in ("stale", "delay", "probe", "permanent", "noarp", "failed"):
            entry(space, "10.77.0.70", state)
        space.ip("neigh add proxy 10.77.0.71 dev eth0")
        entry(space, "10.77.0.72", "reachable", "01:00:5e:00:00:01")
        entry(space, "10.77.0.73", "reachable")
        await until(lambda: heard)
        await asyncio.sleep(0.1)
        (seen,) = heard
        mac, ip = Mac(bytes.fromhex(MAC.replace(":", ""))), Ip(ip_address("10.77.0.73").packed)
        assert seen == Observation(seen.at, index_of(space), mac, ip, Evidence.NEIGHBOUR)
        entry(space, "10.77.0.73", "stale")
        entry(space, "10.77.0.73", "reachable")
        await until(lambda: len(heard) == 2)


@pytest.fixture
def space(root: None) -> Iterator[Space]:
    with Lab(ipv6=True) as lab:
        yield lab.watcher.space


@inside
async def test_neighbours_of_ipv6_are_told_too(space: Space) -> None:
    async with listening() as heard:
        entry(space, "fe80::77", "reachable")
        await until(lambda: any(seen.ip == ip_address("fe80::77").packed for seen in heard))


@inside
async def test_what_the_engine_raises_ends_the_room(shared_lab: Lab) -> None:
    """Law 9."""

    def hear(_: list[Observation]) -> None:
        raise ValueError("the engine's own")

    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(Neighbours(hear).run())
            await asyncio.sleep(0.05)
            entry(shared_lab.watcher.space, "10.77.0.74", "reachable")
    assert "the engine's own" in repr(ended.value.exceptions)


@inside
async def test_without_netlink_we_hear_less_and_go_on_and_say_so_once(
    shared_lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(netlink, "BACK_OFF", 0.01)
    monkeypatch.setattr(socket, "AF_NETLINK", 9999)
    caplog.set_level(logging.DEBUG, "netscand")
    async with listening():
        await asyncio.sleep(0.2)
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "cannot follow the kernel's neighbours; trying again"
    ]
