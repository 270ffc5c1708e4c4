"""`/ws` in `changes` mode, and what both modes share."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from netscand import protocol
from netscand.core.model import Status
from netscand.serve import connection, websocket
from netscand.serve.connection import PIECE
from netscand.serve.hub import Hub
from netscand.serve.request_limits import MAX_FRAMES
from netscand.serve.subscriber import FEW, Bounds
from tests.serve.house import LAN, OTHER, House, handshake, house, mac, read_out, receive, receive_all


async def snapshot(client: ClientConnection) -> tuple[protocol.InitialState, dict[str, protocol.Device]]:
    first = await receive(client)
    assert isinstance(first, protocol.InitialState)
    devices = list(first.devices)
    more = first.more
    while more:
        part = await receive(client)
        assert isinstance(part, protocol.Devices)
        devices += part.devices
        more = part.more
    assert len({device.mac for device in devices}) == len(devices)
    return first, {device.mac: device for device in devices}


async def refused(lan: House, query: str, subprotocols: Sequence[Subprotocol] | None = None) -> int:
    with pytest.raises(InvalidStatus) as wrong:
        async with lan.ws(query, subprotocols=subprotocols):
            pass
    body = json.loads(wrong.value.response.body or b"{}")
    assert set(body["error"]) == {"code", "message"}
    return wrong.value.response.status_code


def test_the_first_message_has_the_state_and_the_role(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws() as client:
            first, devices = await snapshot(client)
            assert (first.protocol, first.cursor, first.interval) == (protocol.PROTOCOL, "k3f9-0", 30.0)
            assert (first.scanning, first.last_scan, first.role) == (False, None, "admin")
            assert [(network.id, network.online) for network in first.networks] == [(LAN, 3), (OTHER, 0)]
            assert len(devices) == 3

    asyncio.run(play())


def test_a_large_snapshot_comes_in_parts_of_500(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, devices=1201) as lan, lan.ws() as client:
            first, second, third = [await receive(client) for _ in range(3)]
            assert isinstance(first, protocol.InitialState)
            assert isinstance(second, protocol.Devices)
            assert isinstance(third, protocol.Devices)
            assert [(len(m.devices), m.more) for m in (first, second, third)] == [
                (500, True),
                (500, True),
                (201, False),
            ]

    asyncio.run(play())


def test_snapshot_and_events_together_are_exact(tmp_path: Path) -> None:
    """Law 3, under constant changes, for clients that connect at any moment."""

    async def play() -> None:
        async with house(tmp_path, devices=1500) as lan:
            stop = False
            truth: dict[str, dict[str, str]] = {"k3f9-0": {}}

            async def live_on() -> None:
                number = 0
                while not stop:
                    for _ in range(3):
                        number += 1
                        mixed = number * 37 % 1500
                        lan.scanner.turn(mixed, (Status.OFFLINE, Status.ONLINE)[number & 1])
                        truth[lan.scanner.cursor] = {m.hex(":"): d.status for m, d in lan.scanner.devices.items()}
                    await asyncio.sleep(0)

            async def come() -> None:
                async with lan.ws(max_queue=None) as client:
                    first, devices = await snapshot(client)
                    if truth[first.cursor]:
                        assert {m: d.status for m, d in devices.items()} == truth[first.cursor]
                    expected = int(first.cursor.rpartition("-")[2])
                    for _ in range(200):
                        event = await receive(client)
                        assert isinstance(event, protocol.Event)
                        expected += 1
                        assert event.cursor == f"k3f9-{expected}"
                        assert event.device is not None
                        devices[event.device.mac] = event.device
                    assert {m: d.status for m, d in devices.items()} == truth[f"k3f9-{expected}"]

            async with asyncio.TaskGroup() as tasks:
                living = tasks.create_task(live_on())
                async with asyncio.TaskGroup() as clients:
                    for _ in range(4):
                        clients.create_task(come())
                stop = True
                await living

    asyncio.run(play())


def test_an_event_has_the_device_before_and_after_and_times(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws() as client:
            await snapshot(client)
            lan.scanner.turn(1, Status.OFFLINE)
            event = await receive(client)
            assert isinstance(event, protocol.Event)
            assert (event.cursor, event.kind, event.network) == ("k3f9-1", "offline", LAN)
            assert event.device is not None
            assert event.device.status == "offline"
            assert event.previous is not None
            assert event.previous["status"] == "online"
            assert event.seen_at is not None
            assert event.sent_at is not None
            assert event.seen_at <= event.sent_at

    asyncio.run(play())


def test_a_scan_is_reported_from_its_request_to_its_end(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws() as client:
            await snapshot(client)
            await client.send('{"type": "scan_now", "targets": ["10.0.0.7"], "request": "r1"}')
            heard = [await receive(client), await receive(client)]
            assert {type(message).__name__ for message in heard} == {"ScanStarted", "ScanAccepted"}
            assert lan.scanner.requested == [("10.0.0.7",)]
            lan.scanner.finish(lan.scanner.scan_id)
            update = await receive(client)
            assert isinstance(update, protocol.ScanUpdate)
            assert (update.scan_id, update.devices, update.online) == (lan.scanner.scan_id, [], 3)

    asyncio.run(play())


def test_a_client_leaves_its_scans_with_its_connection(tmp_path: Path) -> None:
    """FIELD x3: a long scan ends with the last client that requested it."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            async with lan.ws() as client:
                await snapshot(client)
                await client.send('{"type": "scan_now", "targets": ["10.0.0.7"]}')
                await receive(client)
                assert not lan.scanner.left
            async with asyncio.timeout(30):
                while not lan.scanner.left:
                    await asyncio.sleep(0.01)
            assert lan.scanner.clients == lan.scanner.left

    asyncio.run(play())


def test_a_lease_ends_with_its_connection(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            async with lan.ws() as client:
                await snapshot(client)
                await client.send('{"type": "set_interval", "seconds": 5, "request": "r2"}')
                assert await receive(client) == protocol.Interval(request="r2", seconds=5)
                await client.send('{"type": "set_interval", "seconds": 0.5, "request": "r3"}')
                wrong = await receive(client)
                assert isinstance(wrong, protocol.Error)
                assert (wrong.code, wrong.request) == ("bad_request", "r3")
                assert len(lan.scanner.leases) == 1
            async with asyncio.timeout(30):
                while lan.scanner.leases:
                    await asyncio.sleep(0.01)
            async with lan.ws() as client:
                await snapshot(client)
                await client.send('{"type": "set_interval", "seconds": 5}')
                await client.send('{"type": "set_interval", "seconds": null}')
                assert [
                    message.seconds
                    for message in await receive_all(client, least=2)
                    if isinstance(message, protocol.Interval)
                ] == [5, 30]

    asyncio.run(play())


def test_a_scan_of_an_unscanned_target_is_refused(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws() as client:
            await snapshot(client)
            await client.send('{"type": "scan_now", "targets": ["203.0.113.1"], "request": "r"}')
            assert await receive(client) == protocol.Error(
                code="bad_request", message="203.0.113.1: not within a scanned network", request="r"
            )

    asyncio.run(play())


HOSTILE = {
    "no JSON": ("{", None),
    "nothing": ("", None),
    "a list": ("[]", None),
    "an unknown type": ('{"type": "shutdown", "request": "r"}', "r"),
    "no type": ('{"request": "r"}', "r"),
    "a wrong type": ('{"type": "set_interval", "seconds": "5", "request": "r"}', "r"),
    "too many targets": (json.dumps({"type": "scan_now", "targets": ["x"] * 1025, "request": "r"}), "r"),
    "a long target": (json.dumps({"type": "scan_now", "targets": ["x" * 129], "request": "r"}), "r"),
    "a long request": (json.dumps({"type": "scan_now", "request": "x" * 129}), None),
    "lists, 30,000 deep": ('{"type": "scan_now", "targets": ' + "[" * 30_000 + "]" * 30_000 + "}", None),
    "the same in an unknown field": ('{"type": "scan_now", "x": ' + "[" * 30_000 + "]" * 30_000 + "}", None),
    "objects, 10,000 deep": ('{"a":' * 10_000 + "1" + "}" * 10_000, None),
    "60,000 digits": ('{"type": "set_interval", "seconds": ' + "9" * 60_000 + ', "request": "r"}', "r"),
    "a huge exponent": ('{"type": "set_interval", "seconds": 1e999, "request": "r"}', "r"),
    "NaN": ('{"type": "set_interval", "seconds": NaN, "request": "r"}', None),
    "infinity": ('{"type": "set_interval", "seconds": -Infinity, "request": "r"}', None),
    "half a surrogate": ('{"type": "scan_now", "targets": ["\\ud800"], "request": "r"}', None),
    "half a surrogate as request": ('{"type": "scan_now", "targets": [1], "request": "\\ud800"}', None),
    "6,000 keys": ("{" + ",".join(f'"k{n}":1' for n in range(6_000)) + "}", None),
}


@pytest.mark.parametrize(("text", "request_named"), HOSTILE.values(), ids=HOSTILE.keys())
def test_an_invalid_message_is_answered_and_the_stream_stays(
    tmp_path: Path, text: str, request_named: str | None
) -> None:
    """FAULTS T15."""

    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws() as client:
            await snapshot(client)
            began = time.process_time()
            await client.send(text)
            wrong = await receive(client)
            assert time.process_time() - began < 0.5
            assert isinstance(wrong, protocol.Error)
            assert (wrong.code, wrong.request) == ("bad_request", request_named)
            await client.send('{"type": "scan_now", "request": "still here"}')
            heard = [await receive(client), await receive(client)]
            assert any(isinstance(message, protocol.ScanAccepted) for message in heard)

    asyncio.run(play())


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.slow
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(texts=st.lists(st.text(max_size=200) | ANY_JSON.map(json.dumps), min_size=1, max_size=5))
def test_any_text_is_answered(tmp_path: Path, texts: list[str]) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws() as client:
            await snapshot(client)
            for text in texts:
                await client.send(text)
                assert isinstance(await receive(client), protocol.Error)

    asyncio.run(play())


def test_binary_messages_are_refused_and_the_connection_stays(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws() as client:
            await snapshot(client)
            await client.send(b'{"type": "scan_now"}')
            wrong = await receive(client)
            assert isinstance(wrong, protocol.Error)
            assert lan.scanner.requested == []
            assert lan.server.clients == 1

    asyncio.run(play())


@pytest.mark.parametrize(("size", "closed"), [(protocol.MAX_MESSAGE, False), (protocol.MAX_MESSAGE + 1, True)])
def test_a_message_of_64_kib_is_read_and_one_byte_more_is_1009(tmp_path: Path, size: int, closed: bool) -> None:
    """FAULTS T14."""

    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws() as client:
            await snapshot(client)
            await client.send("x" * size)
            if closed:
                with pytest.raises(ConnectionClosed) as wrong:
                    await receive(client)
                assert wrong.value.rcvd is not None
                assert wrong.value.rcvd.code == 1009
            else:
                assert isinstance(await receive(client), protocol.Error)

    asyncio.run(play())


def test_a_frame_that_never_ends_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS T14: no client makes us keep a gigabyte; it gets the reason, and has some time to read it."""
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 20.0)  # this machine may be busy

    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws() as client:
            await snapshot(client)
            (mine,) = lan.server._limiter.connections
            client.transport.write(b"\x81\xff" + (2**30).to_bytes(8, "big") + b"\0\0\0\0")
            for _ in range(64):
                client.transport.write(b"x" * 2**16)
                await asyncio.sleep(0.001)
            assert mine._framing.given <= MAX_FRAMES + PIECE
            with pytest.raises(ConnectionClosed) as wrong:
                await receive(client)
            assert wrong.value.rcvd is not None
            assert wrong.value.rcvd.code == 1009
            async with asyncio.timeout(30):
                while lan.server.clients:
                    await asyncio.sleep(0.01)

    asyncio.run(play())


def test_compression_is_never_negotiated(tmp_path: Path) -> None:
    """FAULTS T14: no decompression bombs."""

    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws() as client:
            assert client.response is not None
            assert client.request is not None
            assert "permessage-deflate" in client.request.headers["Sec-WebSocket-Extensions"]
            assert "Sec-WebSocket-Extensions" not in client.response.headers

    asyncio.run(play())


def test_only_our_subprotocol_is_accepted(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            async with lan.ws(subprotocols=[Subprotocol("chat"), Subprotocol("netscand")]) as client:
                assert client.subprotocol == "netscand"
            assert await refused(lan, "", [Subprotocol("mqtt")]) == 400

    asyncio.run(play())


@pytest.mark.parametrize(
    "query", ["?updates=some", "?update=full", "?token=x", "?network=a&network=b", "?updates=full&x"]
)
def test_unknown_query_parameters_are_400(tmp_path: Path, query: str) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            assert await refused(lan, query) == 400

    asyncio.run(play())


def test_any_since_leads_to_a_snapshot_while_there_is_no_history(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws("?updates=changes&since=k3f9-0") as client:
            _, devices = await snapshot(client)
            assert len(devices) == 3

    asyncio.run(play())


def test_filters_hold_for_the_snapshot_and_for_what_follows(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            lan.scanner.join(100, OTHER)
            async with (
                lan.ws(f"?updates=changes&network={OTHER}") as other,
                lan.ws("?updates=changes&q=10.0.0.11") as named,
            ):
                first, devices = await snapshot(other)
                assert [network.id for network in first.networks] == [OTHER]
                assert list(devices) == [mac(100).hex(":")]
                _, devices = await snapshot(named)
                assert list(devices) == [mac(1).hex(":")]
                for number in (0, 1, 100):
                    lan.scanner.turn(number, Status.OFFLINE)
                assert [e.address for e in await receive_all(other, least=1) if isinstance(e, protocol.Event)] == [
                    "192.168.7.110"
                ]
                assert [e.address for e in await receive_all(named, least=1) if isinstance(e, protocol.Event)] == [
                    "10.0.0.11"
                ]

    asyncio.run(play())


def test_one_client_more_than_max_clients_is_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS T16; and a few more are reserved for root and the group."""
    monkeypatch.setattr(websocket, "RESERVED", 1)

    async def play() -> None:
        async with house(tmp_path, listen={"max_clients": 2}) as lan:
            async with lan.ws(), lan.ws():
                assert (await lan.head(handshake("/ws", f"127.0.0.1:{lan.port}"))).startswith(b"HTTP/1.1 503")
                plain = f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{lan.port}\r\n\r\n".encode()
                assert (await lan.head(plain)).startswith(b"HTTP/1.1 503"), "so a browser learns why"
                async with lan.ws():
                    assert await refused(lan, "") == 503
                    assert lan.server.clients == 3
            async with asyncio.timeout(30):
                while lan.server.clients:
                    await asyncio.sleep(0.01)
            async with lan.ws() as client:
                await snapshot(client)

    asyncio.run(play())


class Reader(asyncio.Protocol):
    """Client that reads cheaply: it only looks at cursors."""

    def __init__(self, until: int) -> None:
        self.begun = asyncio.Event()
        self.done = asyncio.Event()
        self.expected = 1
        self._until = until
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        text = self._rest + data
        if not self.begun.is_set():
            self._rest = text
            if b'"more":false}' in text:
                self.begun.set()
                self._rest = b""
            return
        end = 0
        for found in re.finditer(rb'"cursor":"k3f9-(\d+)"', text):
            assert int(found[1]) == self.expected
            self.expected += 1
            end = found.end()
        self._rest = text[end:]
        if self.expected > self._until:
            self.done.set()


def test_a_stalled_client_delays_no_other_and_then_gets_lagged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 4 and FAULTS T13: 1 stalled and 50 good clients, 10,000 events."""
    monkeypatch.setattr(websocket, "GONE", 1000.0)  # the good ones send nothing, and answer no ping
    events = 10_000

    async def play() -> None:
        async with house(tmp_path, bounds=Bounds(512, 2**20)) as lan, lan.ws(max_queue=1) as stalled:
            await snapshot(stalled)
            stalled.transport.pause_reading()
            good = [Reader(events) for _ in range(50)]
            loop = asyncio.get_running_loop()
            for reader in good:
                transport, _ = await loop.create_unix_connection(lambda made=reader: made, str(lan.path))  # type: ignore[misc]
                transport.write(handshake("/ws?updates=changes"))
                await reader.begun.wait()
            for number in range(events):
                lan.scanner.turn(number % 3, Status.OFFLINE)
                if not number % 4:
                    await asyncio.sleep(0)
                    assert all(len(waiting._queue) <= 512 for waiting in lan.server._live._open.values())
            async with asyncio.timeout(60):
                for reader in good:
                    await reader.done.wait()
            (slow,) = [subscriber for subscriber in lan.server._live._open.values() if subscriber.lagged]
            assert slow._size == len(slow._queue) == 0
            stalled.transport.resume_reading()
            heard = await read_out(stalled)
            assert stalled.close_code == protocol.CLOSE_LAGGED
            *told, last = [protocol.decode_server(message) for message in heard]
            assert isinstance(last, protocol.Lagged)
            numbers = [event.cursor for event in told if isinstance(event, protocol.Event)]
            assert numbers == [f"k3f9-{n}" for n in range(1, len(told) + 1)]
            assert last.cursor == f"k3f9-{len(told)}"

    asyncio.run(play())


@pytest.mark.slow
def test_a_silent_client_is_pinged_and_then_aborted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS T16: a WebSocket that answers pings is never idle; one that does not is gone."""
    monkeypatch.setattr(websocket, "PING", 0.5)
    monkeypatch.setattr(websocket, "GONE", 6.0)  # a slow machine must not look like a silent client

    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws() as answers, lan.ws() as silent:
            for client in (answers, silent):
                await snapshot(client)
            silent.transport.pause_reading()
            async with asyncio.timeout(30):
                while lan.server.clients == 2:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(1.5)
            assert lan.server.clients == 1
            lan.scanner.turn(1, Status.OFFLINE)
            assert isinstance(await receive(answers), protocol.Event)

    asyncio.run(play())


def test_pings_are_answered_during_the_snapshot(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, devices=3000) as lan, lan.ws() as client:
            async with asyncio.timeout(30):
                await (await client.ping())
            await snapshot(client)

    asyncio.run(play())


def test_a_client_that_reads_no_answers_is_not_read(tmp_path: Path) -> None:
    """FAULTS T13: answers are kept for one client alone, and could fill the memory; none of them is lost."""
    wish = b'{"type": "none", "request": "' + b"r" * 120 + b'"}'
    frame = bytes((0x81, 0x80 | 126)) + len(wish).to_bytes(2) + bytes(4) + wish  # masked with zeros
    count = 4000

    async def play() -> None:
        async with house(tmp_path) as lan:
            reader, writer = await asyncio.open_unix_connection(str(lan.path), limit=1024)
            writer.write(handshake("/ws?updates=changes") + frame * count)
            async with asyncio.timeout(60):
                while not lan.server._live._open:
                    await asyncio.sleep(0.01)
                (silent,) = lan.server._live._open.values()
                while not silent._paused:
                    await asyncio.sleep(0)
                for _ in range(5000):
                    await asyncio.sleep(0)
                    assert len(silent._queue) <= FEW + 1
                heard = b""
                while heard.count(b'"bad_request"') < count:
                    heard += await reader.read(1 << 20)
            writer.close()

    asyncio.run(play())


def test_a_client_that_sends_without_end_leaves_others_turns(tmp_path: Path) -> None:
    """However much comes in one read, one message is handled a turn."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            turn = 0
            heard_in: list[int] = []

            async def count() -> None:
                nonlocal turn
                while True:
                    turn += 1
                    await asyncio.sleep(0)

            def noting(client: object, seconds: float | None) -> float:
                heard_in.append(turn)
                return 30.0

            lan.scanner.lease = noting  # type: ignore[method-assign]
            wish = b'{"type": "set_interval", "seconds": 5}'
            frame = bytes((0x81, 0x80 | len(wish))) + bytes(4) + wish  # masked with zeros
            talker = await lan.connection(handshake("/ws") + frame * 500)
            async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
                counting = tasks.create_task(count())
                while len(heard_in) < 500:
                    await asyncio.sleep(0)
                counting.cancel()
            assert max(Counter(heard_in).values()) <= 2  # the end of one and the beginning of the next
            assert len(set(heard_in)) > 250
            talker.close()

    asyncio.run(play())


def test_a_client_that_leaves_leaves_no_state(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, devices=2000) as lan:
            for _ in range(5):
                async with lan.ws() as client:
                    client.transport.abort()
            async with asyncio.timeout(30):
                while lan.server.clients or lan.server._limiter.connections:
                    await asyncio.sleep(0.01)
            hub: Hub = lan.hub
            assert not hub._changes.without_filter
            assert not hub._full
            assert not hub._snapshots

    asyncio.run(play())
