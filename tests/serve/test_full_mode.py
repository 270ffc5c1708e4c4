"""The push document's contract: its client works unchanged."""

import asyncio
import json
import time
from pathlib import Path
from selectors import SelectorKey, SelectSelector
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from netscand import protocol
from netscand.core.model import Status
from netscand.serve import full_mode
from netscand.serve.encode import Encoder
from netscand.serve.fair_turns import OURS, Account
from netscand.serve.full_mode import FullMode
from netscand.serve.hub import Hub
from netscand.serve.query import EVERYTHING, Filter
from netscand.serve.subscriber import Bounds, Subscriber
from netscand.serve.summary import Summary
from tests.serve.house import BOOT, LAN, OTHER, FakeScanner, House, handshake, house, receive, receive_all
from tests.serve.test_subscriber import Pipe


async def updates(client: ClientConnection, quiet: float = 0.3, least: int = 0) -> list[protocol.ScanUpdate]:
    heard = await receive_all(client, quiet, least)
    assert all(isinstance(message, protocol.ScanUpdate) for message in heard), heard
    return [message for message in heard if isinstance(message, protocol.ScanUpdate)]


def test_the_push_documents_client_works_unchanged(tmp_path: Path) -> None:
    """Its `onmessage`: every message has the whole list in `devices`; a device joins and leaves; `scan_now` works."""
    shown: list[list[dict[str, Any]]] = []

    def set_devices(devices: list[dict[str, Any]]) -> None:
        assert isinstance(devices, list)
        shown.append(devices)

    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws("", tcp=True) as ws:

            async def onmessage() -> None:
                message = json.loads(await ws.recv())
                set_devices(message["devices"])

            await onmessage()
            assert len(shown[-1]) == 3
            lan.scanner.join(9)
            await onmessage()
            assert len(shown[-1]) == 4
            lan.scanner.turn(9, Status.OFFLINE)
            await onmessage()
            assert [device["status"] for device in shown[-1]].count("offline") == 1
            await ws.send(json.dumps({"type": "scan_now"}))
            while not lan.scanner.requested:
                await asyncio.sleep(0.01)
            lan.scanner.finish(lan.scanner.scan_id)
            await onmessage()
            assert len(shown[-1]) == 4

    asyncio.run(play())


def test_only_lists_and_answers_to_requests_are_sent(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws("") as client:
            assert isinstance(await receive(client), protocol.InitialState)
            await client.send('{"type": "scan_now"}')
            await client.send('{"type": "nonsense"}')
            await client.send("{")
            await client.send('{"type": "set_interval", "seconds": 5}')
            await client.send('{"type": "scan_now", "request": "r1"}')
            await client.send('{"type": "nonsense", "request": "r2"}')
            lan.scanner.turn(1, Status.OFFLINE)
            heard = await receive_all(client, least=3)
            kinds = [type(message).__name__ for message in heard]
            assert sorted(kinds) == ["Error", "ScanAccepted", "ScanUpdate"]
            assert {getattr(message, "request", None) for message in heard} == {"r1", "r2", None}

    asyncio.run(play())


def test_a_burst_of_events_is_one_list_then_one_a_second(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws("") as client:
            await receive(client)
            began = time.monotonic()
            for number in range(20):
                lan.scanner.turn(number % 3, Status.OFFLINE)
            first = await receive(client)
            assert isinstance(first, protocol.ScanUpdate)
            assert (first.scan_id, first.cursor, first.online) == (None, "k3f9-20", 0)
            lan.scanner.turn(1, Status.ONLINE)
            lan.scanner.turn(2, Status.ONLINE)
            second = await receive(client)
            assert isinstance(second, protocol.ScanUpdate)
            assert second.cursor == "k3f9-22"
            assert time.monotonic() - began >= 1.0
            assert await updates(client, 1.2) == []

    asyncio.run(play())


class Leaping(SelectSelector):
    """Selector that does not wait: the loop's clock jumps to the next timer."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        found = super().select(0 if timeout is not None else None)
        if not found and timeout:
            self.now += timeout
        return found


def test_a_list_is_sent_within_100_ms_then_one_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    selector = Leaping()
    left: list[float] = []

    class Noting(Pipe):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            left.append(round(selector.now, 3))

    async def play() -> None:
        translator = Encoder(lambda: BOOT, lambda _: None)
        hub = Hub(translator)
        scanner = FakeScanner(hub)
        hub.attach(scanner)
        subscriber = Subscriber(Noting(10**9), EVERYTHING, Bounds(), full=True, closed=lambda: False)
        hub.subscribe(subscriber)
        subscriber.release(scanner.cursor)
        async with asyncio.TaskGroup() as tasks:
            lists = tasks.create_task(FullMode(hub, Summary(scanner, translator), translator).run())
            for wait in (5, 0.5, 0.1, 10):
                await asyncio.sleep(wait)
                scanner.turn(1, Status.OFFLINE)
            await asyncio.sleep(5)
            lists.cancel()

    loop = asyncio.SelectorEventLoop(selector)
    monkeypatch.setattr(loop, "time", lambda: selector.now)
    monkeypatch.setattr(full_mode, "monotonic", loop.time)
    loop.run_until_complete(play())
    loop.close()
    first, second, third = left
    assert 5 <= first <= 5.1
    assert second == pytest.approx(first + 1, abs=0.01)
    assert 15.6 <= third <= 15.7


def test_the_end_of_each_scan_is_sent_at_once(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws("") as client:
            await receive(client)
            lan.scanner.turn(1, Status.OFFLINE)
            await receive(client)
            lan.scanner.turn(1, Status.ONLINE)
            for scan_id in (7, 8):
                lan.scanner.finish(scan_id)
            ended = [update.scan_id for update in await updates(client, least=2)]
            assert ended[:2] == [7, 8]

    asyncio.run(play())


def test_one_list_serves_all_with_the_same_filter(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws("") as one, lan.ws("") as two, lan.ws(f"?network={OTHER}") as other:
            for client in (one, two, other):
                await receive(client)
            made = 0
            translate = lan.hub._encoder.device

            def counting(device: Any) -> protocol.Device:  # noqa: ANN401
                nonlocal made
                made += 1
                return translate(device)

            lan.hub._encoder.device = counting  # type: ignore[method-assign]
            lan.scanner.turn(1, Status.OFFLINE)
            lists = [await receive(client) for client in (one, two, other)]
            assert made == 3 + 3 + 1  # two lists, and the event for the history
            assert [len(update.devices) for update in lists if isinstance(update, protocol.ScanUpdate)] == [3, 3, 0]

    asyncio.run(play())


def test_filtered_lists_delay_no_others_and_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS T56: one account with many filters; another with one; and clients without any."""
    made: list[tuple[Account, str | None]] = []

    async def play() -> None:
        hub = Hub(Encoder(lambda: BOOT, lambda _: None))
        scanner = FakeScanner(hub)
        hub.attach(scanner)
        lists = FullMode(hub, Summary(scanner, hub._encoder), hub._encoder)
        take = hub.snapshot

        def noted(fits: Filter = EVERYTHING, **how: Any) -> Any:  # noqa: ANN401
            made.append((how["account"], fits.text))
            return take(fits, **how)

        monkeypatch.setattr(hub, "snapshot", noted)
        clients = []
        for account, text in [*((1, f"a4:8{number}") for number in (3, 4, 5, 3)), (2, "a4:83"), (3, None)]:
            client = Subscriber(
                Pipe(10**9), Filter(None, text), Bounds(), full=True, closed=lambda: False, account=account
            )
            hub.subscribe(client)
            client.release(scanner.cursor)
            clients.append(client)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(lists.run())
            scanner.turn(0, Status.OFFLINE)
            async with asyncio.timeout(10):
                while len(made) < 5:
                    await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)
            running.cancel()
        assert made[0] == (OURS, None)
        assert sorted(made[1:3])[1] == (2, "a4:83")  # the second account after one list of the first, at most
        assert sorted(made[1:]) == [(1, "a4:83"), (1, "a4:84"), (1, "a4:85"), (2, "a4:83")]
        assert all(client._transport.taken for client in clients)  # type: ignore[attr-defined]

    asyncio.run(play())


def test_a_client_that_left_is_not_kept_for_its_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it left before its first one."""
    monkeypatch.setattr(full_mode, "SHARED", 2)

    async def play() -> None:
        hub = Hub(Encoder(lambda: BOOT, lambda _: None))
        scanner = FakeScanner(hub)
        hub.attach(scanner)
        lists = FullMode(hub, Summary(scanner, hub._encoder), hub._encoder)
        client = Subscriber(Pipe(10**9), EVERYTHING, Bounds(), full=True, closed=lambda: False)
        hub.subscribe(client)
        await lists._send(None)
        assert client in lists._due
        hub.unsubscribe(client)
        client.on_disconnect()
        await lists._send(None)
        assert not lists._due

    asyncio.run(play())


def test_a_scan_of_another_network_is_sent_to_its_client_only(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws(f"?network={OTHER}") as client:
            await receive(client)
            lan.scanner.finish(7)
            assert await updates(client) == []
            await client.send('{"type": "scan_now", "request": "r"}')
            assert isinstance(await receive(client), protocol.ScanAccepted)
            lan.scanner.finish(lan.scanner.scan_id)
            assert len(await updates(client, least=1)) == 1

    asyncio.run(play())


def test_a_slow_client_gets_only_the_newest_list(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, devices=2000) as lan:
            reader, writer = await raw_client(lan)
            while not lan.hub.full_clients():
                await asyncio.sleep(0.01)
            for scan_id in range(20):
                lan.scanner.finish(scan_id)
                await asyncio.sleep(0.02)
            while lan.hub.finished:
                await asyncio.sleep(0.05)
            text = b""
            while b'"scan_id":19' not in text:
                async with asyncio.timeout(30):
                    text += await reader.read(2**20)
            assert text.count(b'"type":"scan_update"') < 20
            writer.close()

    asyncio.run(play())


async def raw_client(lan: House) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a client that reads nothing by itself."""
    reader, writer = await asyncio.open_unix_connection(str(lan.path), limit=2**12)
    writer.write(handshake("/ws"))
    return reader, writer


def test_lists_include_changes_since_the_first_was_sent(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, devices=3000) as lan, lan.ws("") as client:
            lan.scanner.turn(2999, Status.OFFLINE)
            first, second = await receive(client), await receive(client)
            assert isinstance(first, protocol.InitialState)
            assert isinstance(second, protocol.ScanUpdate)
            assert len(first.devices) == len(second.devices) == 3000
            assert second.devices[2999].status == "offline"
            assert second.networks == [LAN, OTHER]

    asyncio.run(play())
