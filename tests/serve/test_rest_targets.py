"""A scan request returns the devices at its own targets, although the scan served other clients too."""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import pytest

from netscand.core.model import Device
from netscand.serve.rest import Targets
from tests.serve.house import LAN, OTHER, House, house, mac

JSON = {"Content-Type": "application/json"}


async def found_by(lan: House, *targets: str) -> list[str]:
    """Return what a client gets that waits for a scan which found all devices."""
    async with asyncio.TaskGroup() as tasks:
        body, before = json.dumps({"targets": targets}).encode(), len(lan.scanner.requested)
        asking = tasks.create_task(lan.ask("POST", "/api/scan?wait=1", body=body, headers=JSON))
        while len(lan.scanner.requested) == before:
            await asyncio.sleep(0.01)
        lan.scanner.finish(lan.scanner.scan_id, list(lan.scanner.devices))
    return [device["ip"] for device in asking.result()[2]["devices"]]


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        ((), ["10.0.0.10", "10.0.0.11", "10.0.0.12", "192.168.7.15"]),
        ((LAN,), ["10.0.0.11", "10.0.0.12"]),
        ((OTHER,), ["192.168.7.15"]),
        (("10.0.0.0/24",), ["10.0.0.11", "10.0.0.12"]),
        (("10.0.0.12",), ["10.0.0.12"]),
        (("10.0.0.8/31", "10.0.0.12/32", "192.168.7.15"), ["10.0.0.12", "192.168.7.15"]),
        (("10.0.0.10",), ["10.0.0.10"]),
        (("10.0.0.99",), []),
    ],
    ids=str,
)
def test_a_shared_scan_returns_only_the_own_targets(tmp_path: Path, targets: tuple[str, ...], found: list[str]) -> None:
    """The own host, which is not scanned, counts only if its own address was a target."""

    async def play() -> None:
        async with house(tmp_path, devices=3) as lan:
            lan.scanner.add(5, OTHER)
            lan.scanner.devices[mac(0)].is_self = True
            assert await found_by(lan, *targets) == found

    asyncio.run(play())


def test_clients_that_wait_for_a_scan_are_served_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a scan wakes them all in one turn of the loop; each looked through a thousand devices at a time."""
    turn = 0
    looked: Counter[int] = Counter()
    of: dict[int, set[Targets]] = {}
    name = Targets.contain

    def slowly(self: Targets, device: Device) -> bool:
        time.sleep(0.001)  # as slow as with many prefixes
        looked[turn] += 1
        of.setdefault(turn, set()).add(self)
        return name(self, device)

    monkeypatch.setattr(Targets, "contain", slowly)

    async def play() -> None:
        nonlocal turn
        async with house(tmp_path, devices=30) as lan, asyncio.TaskGroup() as tasks:
            body = json.dumps({"targets": ["10.0.0.0/24"]}).encode()
            asking = [tasks.create_task(lan.ask("POST", "/api/scan?wait=1", body=body, headers=JSON)) for _ in range(3)]
            async with asyncio.timeout(30):
                while len(lan.hub._waiting) < 3:
                    await asyncio.sleep(0.01)
            for scan_id in tuple(lan.hub._waiting):
                lan.scanner.finish(scan_id, list(lan.scanner.devices))
            async with asyncio.timeout(30):
                while not all(each.done() for each in asking):
                    turn += 1
                    await asyncio.sleep(0)
            assert [len(each.result()[2]["devices"]) for each in asking] == [30] * 3

    asyncio.run(play())
    assert sum(looked.values()) == 90
    assert max(looked.values()) <= 5
    assert max(map(len, of.values())) == 1


def test_a_plain_request_for_the_websocket_is_explained(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            status, headers, body = await lan.ask("GET", "/ws")
            assert (status, headers["Upgrade"]) == (426, "websocket")
            assert "connect with ws://" in body["error"]["message"]
            assert (await lan.ask("GET", "/ws?updates=all"))[0] == 400

    asyncio.run(play())


def test_an_invalid_body_is_explained(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            _, _, body = await lan.ask("POST", "/api/scan", body=b'{"targets": 5}', headers=JSON)
            assert body["error"]["message"].startswith("invalid scan request: targets: expected a list")
            path = f"/api/devices/{mac(1).hex(':')}"
            _, _, body = await lan.ask("PATCH", path, body=b'{"known": 1}', headers=JSON)
            assert body["error"]["message"].endswith("known: expected true or false, not 1")

    asyncio.run(play())
