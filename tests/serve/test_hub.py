"""Fan-out: every client gets its events once, and in order."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from netscand import protocol
from netscand.core.model import Cause, ScanFailed, ScanFinished, ScanProgress, ScanStarted, Status
from netscand.serve import hub as hub_module
from netscand.serve.encode import Encoder
from netscand.serve.hub import Hub
from netscand.serve.query import EVERYTHING, Filter
from netscand.serve.subscriber import Bounds, Subscriber
from tests.serve.house import BOOT, LAN, OTHER, FakeScanner, mac
from tests.serve.test_subscriber import Pipe
from tests.serve.test_websocket_frames import parsed


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn sends to all clients, however slow the machine is."""
    monkeypatch.setattr(hub_module, "HOLD", 60.0)


class Audience:
    """Hub with its scanner, and clients that read at once."""

    def __init__(self) -> None:
        self.hub = Hub(Encoder(lambda: BOOT, lambda _: None))
        self.scanner = FakeScanner(self.hub)
        self.hub.attach(self.scanner)

    def client(self, fits: Filter = EVERYTHING, *, room: int = 10**9) -> tuple[Pipe, Subscriber]:
        pipe = Pipe(room)
        subscriber = Subscriber(pipe, fits, Bounds(4, 10**6), full=False, closed=lambda: False)
        pipe.subscriber = subscriber
        self.hub.subscribe(subscriber)
        subscriber.release(self.scanner.cursor)
        return pipe, subscriber


def heard(pipe: Pipe) -> list[protocol.ServerMessage]:
    return [protocol.decode_server(frame.data) for frame in parsed(pipe.taken) if frame.opcode == 1]


def cursors(pipe: Pipe) -> list[str]:
    return [message.cursor for message in heard(pipe) if isinstance(message, protocol.Event)]


def played(play: Callable[[Audience], Awaitable[None]]) -> None:
    async def run() -> None:
        await play(Audience())

    asyncio.run(run())


def test_every_client_gets_each_event_once_and_in_order() -> None:
    async def play(audience: Audience) -> None:
        clients = [audience.client() for _ in range(5)]
        expected = [audience.scanner.turn(n % 3, Status.OFFLINE) for n in range(4)]
        await asyncio.sleep(0)
        assert all(cursors(pipe) == expected for pipe, _ in clients)
        assert len({id(pipe.taken) for pipe, _ in clients}) == 5

    played(play)


def test_publishing_waits_for_no_client() -> None:
    """Law 4: a client that does not read delays no other, and gets one `lagged`."""

    async def play(audience: Audience) -> None:
        stalled, slow = audience.client(room=0)
        slow.pause()
        good, _ = audience.client()
        expected = []
        for number in range(50):
            expected.append(audience.scanner.turn(number % 3, Status.OFFLINE))
            await asyncio.sleep(0)
        assert cursors(good) == expected
        assert slow.lagged
        assert [type(message) for message in heard(stalled)] == [protocol.Lagged]

    played(play)


def test_an_unsubscribed_client_gets_nothing_more() -> None:
    async def play(audience: Audience) -> None:
        pipe, subscriber = audience.client()
        audience.hub.unsubscribe(subscriber)
        audience.scanner.turn(0, Status.OFFLINE)
        await asyncio.sleep(0)
        assert pipe.taken == b""

    played(play)


def test_sending_to_many_is_split_into_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "HOLD", 1e-6)

    async def play(audience: Audience) -> None:
        clients = [audience.client() for _ in range(20)]
        audience.scanner.turn(0, Status.OFFLINE)
        while not any(pipe.taken for pipe, _ in clients):  # a turn may be over before it has sent anything
            await asyncio.sleep(0)
        assert sum(bool(pipe.taken) for pipe, _ in clients) < 20
        while not all(pipe.taken for pipe, _ in clients):
            await asyncio.sleep(0)
        assert all(cursors(pipe) for pipe, _ in clients)

    played(play)


def test_a_burst_that_takes_long_is_sent_as_it_goes() -> None:
    """The first of many events does not wait for the last."""

    async def play(audience: Audience) -> None:
        pipe, _ = audience.client()
        audience.scanner.turn(0, Status.OFFLINE)
        while not pipe.taken:  # no await: all in one turn of the loop
            audience.scanner.turn(0, Status.OFFLINE)

    played(play)


def test_events_of_one_turn_are_one_write() -> None:
    async def play(audience: Audience) -> None:
        pipe, _ = audience.client()
        audience.hub._send_takes = 10.0
        for number in range(3):
            audience.scanner.turn(number, Status.OFFLINE)
        await asyncio.sleep(0)
        assert (pipe.writes, len(cursors(pipe))) == (1, 3)

    played(play)


def test_filters_hold_for_events_and_scans() -> None:
    async def play(audience: Audience) -> None:
        lan, _ = audience.client(Filter(LAN))
        other, _ = audience.client(Filter(OTHER))
        named, _ = audience.client(Filter(None, "a4:83:00:00:00:02"))
        audience.scanner.turn(0, Status.OFFLINE)
        audience.hub.publish_scan(ScanStarted(7, (LAN,), Cause.TIMER))
        await asyncio.sleep(0)
        assert [type(message).__name__ for message in heard(lan)] == ["Event", "ScanStarted"]
        assert heard(other) == []
        assert [type(message).__name__ for message in heard(named)] == ["ScanStarted"]

    played(play)


def test_a_client_gets_its_own_scan_whatever_its_filter() -> None:
    async def play(audience: Audience) -> None:
        other, subscriber = audience.client(Filter(OTHER))
        subscriber.requested.add(7)
        audience.hub.publish_scan(ScanFinished(7, (LAN,), 0.0, 1.0, 0, 0, ()))
        audience.hub.publish_scan(ScanFinished(7, (LAN,), 0.0, 1.0, 0, 0, ()))
        await asyncio.sleep(0)
        assert [type(message).__name__ for message in heard(other)] == ["ScanUpdate"]

    played(play)


def test_each_step_of_a_scan_has_its_message() -> None:
    async def play(audience: Audience) -> None:
        pipe, _ = audience.client()
        audience.hub.publish_scan(ScanStarted(7, (LAN,), Cause.START))
        audience.hub.publish_scan(ScanProgress(7, 180, 254, 17, (LAN,)))
        audience.hub.publish_scan(ScanFailed(7, LAN, "the interface is down"))
        audience.hub.publish_scan(ScanFinished(7, (LAN,), 1.0, 2.5, 237, 17, (mac(1),)))
        await asyncio.sleep(0)
        started, progress, failed, update = (msgspec.to_builtins(message) for message in heard(pipe))
        assert started == {
            "type": "scan_started", "scan_id": 7, "networks": [LAN], "requested_by": "start",
        }  # fmt: skip
        assert progress == {"type": "scan_progress", "scan_id": 7, "done": 180, "total": 254, "found": 17}
        assert failed == {
            "type": "scan_error", "scan_id": 7, "network": LAN, "message": "the interface is down",
        }  # fmt: skip
        assert update == {
            "type": "scan_update", "scan_id": 7, "cursor": "k3f9-0", "networks": [LAN],
            "started_at": "2023-11-14T22:13:21.000Z", "finished_at": "2023-11-14T22:13:22.500Z",
            "online": 3, "frames": {"broadcast": 237, "unicast": 17}, "devices": [],
        }  # fmt: skip

    played(play)


def test_a_wait_for_a_scan_ends_with_it() -> None:
    async def play(audience: Audience) -> None:
        with (
            audience.hub.waiting_for(7) as one,
            audience.hub.waiting_for(7) as two,
            audience.hub.waiting_for(8) as not_yet,
        ):
            audience.hub.publish_scan(ScanFinished(7, (LAN,), 0.0, 1.0, 0, 0, (mac(1),)))
            assert (await one).scan.found == (await two).scan.found == (mac(1),)
            assert not not_yet.done()
        assert audience.hub._waiting == {}

    played(play)


def test_no_message_of_a_scan_is_made_without_clients() -> None:
    async def play(audience: Audience) -> None:
        def never() -> float:
            raise AssertionError("encoded for no client")

        audience.hub._encoder.time = never  # type: ignore[assignment, method-assign]
        audience.hub.publish_scan(ScanFinished(7, (LAN,), 0.0, 1.0, 0, 0, ()))

    played(play)
