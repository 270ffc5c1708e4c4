"""Queue of a client: its order, its bounds, its end."""

import asyncio

import pytest

from netscand import protocol
from netscand.serve import subscriber as subscriber_module
from netscand.serve import websocket_frames
from netscand.serve.query import EVERYTHING
from netscand.serve.subscriber import Bounds, Subscriber

NARROW = Bounds(8, 800)


class Pipe(asyncio.WriteTransport):
    """Transport that accepts `room` bytes, then pauses, as asyncio's do."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.taken = b""
        self.writes = 0
        self.subscriber: Subscriber | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes += 1
        self.taken += bytes(data)
        self.room -= len(data)
        if self.room <= 0 and self.subscriber is not None:
            self.subscriber.pause()

    def is_closing(self) -> bool:
        return False

    def more(self, room: int) -> None:
        self.room = room
        assert self.subscriber is not None
        self.subscriber.resume()


def client(
    room: int = 10**9, bounds: Bounds = NARROW, *, full: bool = False, begun: bool = True
) -> tuple[Pipe, Subscriber]:
    pipe = Pipe(room)
    subscriber = Subscriber(pipe, EVERYTHING, bounds, full=full, closed=lambda: False)
    pipe.subscriber = subscriber
    if begun:
        subscriber.release("c-0")
    return pipe, subscriber


def message(number: int) -> tuple[bytes, str]:
    return websocket_frames.whole(b"m%d" % number), f"c-{number}"


def goodbye(cursor: str) -> bytes:
    lagged = websocket_frames.whole(protocol.encode(protocol.Lagged(cursor=cursor)))
    return lagged + websocket_frames.close(protocol.CLOSE_LAGGED, "lagged")


def test_messages_are_sent_in_order_and_in_one_write() -> None:
    pipe, subscriber = client()
    for number in range(5):
        subscriber.offer(message(number))
    subscriber.drain()
    assert pipe.taken == b"".join(message(number)[0] for number in range(5))
    assert pipe.writes == 1
    assert subscriber.cursor == "c-4"


def test_the_cursor_is_that_of_the_last_message_sent() -> None:
    pipe, subscriber = client(room=1)
    subscriber.offer(message(1))
    subscriber.drain()
    subscriber.offer(message(2))
    subscriber.drain()
    assert subscriber.cursor == "c-1"
    pipe.more(1)
    assert subscriber.cursor == "c-2"


def test_too_many_messages_end_with_lagged_and_a_cursor() -> None:
    """Law 4."""
    pipe, subscriber = client(room=1)
    subscriber.offer(message(1))
    subscriber.drain()
    for number in range(2, 11):
        subscriber.offer(message(number))
    assert subscriber.lagged
    assert pipe.taken == message(1)[0] + goodbye("c-1")
    subscriber.offer(message(11))
    pipe.more(10**9)
    assert pipe.taken == message(1)[0] + goodbye("c-1")


def test_too_many_bytes_end_with_lagged_too() -> None:
    """Law 4: bounded in messages and in bytes."""
    _, subscriber = client(room=0, bounds=Bounds(1000, 800))
    subscriber.pause()
    subscriber.offer((b"x" * 801, "c-1"))
    assert subscriber.lagged


def test_a_client_that_reads_does_not_lag_in_a_large_turn() -> None:
    pipe, subscriber = client()
    for number in range(1000):
        subscriber.offer(message(number))
    subscriber.drain()
    assert not subscriber.lagged
    assert pipe.taken == b"".join(message(number)[0] for number in range(1000))


def test_events_during_the_snapshot_follow_its_last_part() -> None:
    """Law 3."""

    async def run() -> None:
        pipe, subscriber = client(begun=False)
        await subscriber.send(b"part 1 ")
        subscriber.offer((b"event", "c-1"))
        subscriber.drain()
        await subscriber.send(b"part 2 ")
        assert pipe.taken == b"part 1 part 2 "
        assert subscriber.cursor == ""
        subscriber.release("c-0")
        assert pipe.taken == b"part 1 part 2 event"
        assert subscriber.cursor == "c-1"

    asyncio.run(run())


def test_during_its_snapshot_a_client_may_lag_further() -> None:
    _, subscriber = client(begun=False)
    for number in range(9):
        subscriber.offer(message(number))
    assert not subscriber.lagged
    for number in range(100):
        subscriber.offer(message(number))
    assert subscriber.lagged


def test_lagged_never_comes_between_the_frames_of_a_message() -> None:
    async def run() -> None:
        pipe, subscriber = client(room=1, begun=False)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(subscriber.send(b"first ", b"middle ", b"last "))
            await asyncio.sleep(0)
            assert pipe.taken == b"first "
            for number in range(100):
                subscriber.offer(message(number))
            assert subscriber.lagged
            assert pipe.taken == b"first "
            pipe.more(10**9)
        assert pipe.taken == b"first middle last " + goodbye("")

    asyncio.run(run())


def test_a_streamed_message_is_ended_before_lagged() -> None:
    """Law 4; the next frame of a list is built only when the last one was accepted."""

    async def run() -> None:
        pipe, subscriber = client(begun=False)
        await subscriber.send(b"first ", more=True)
        for number in range(100):
            subscriber.offer(message(number))
        assert subscriber.lagged
        assert subscriber.finishing
        assert pipe.taken == b"first "
        await subscriber.send(b"last ")
        assert not subscriber.finishing
        await subscriber.send(b"another")
        assert pipe.taken == b"first last " + goodbye("")

    asyncio.run(run())


def test_an_unread_message_is_cut_short_by_the_close_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is not built for a client that reads nothing."""
    monkeypatch.setattr(subscriber_module, "SLOW", 0.05)

    async def run() -> None:
        pipe, subscriber = client(room=1, begun=False)
        await subscriber.send(b"first ", more=True)
        assert subscriber.lagged
        assert not subscriber.finishing
        assert pipe.taken == b"first " + websocket_frames.close(protocol.CLOSE_LAGGED, "lagged")
        await subscriber.send(b"last ")
        pipe.more(10**9)
        assert pipe.taken == b"first " + websocket_frames.close(protocol.CLOSE_LAGGED, "lagged")

    asyncio.run(run())


def test_no_message_comes_between_the_frames_of_a_list() -> None:
    async def run() -> None:
        pipe, subscriber = client(full=True)
        subscriber.hold()
        await subscriber.send(b"first ", more=True)
        subscriber.offer(message(1))
        subscriber.pong(b"x")
        subscriber.drain()
        await subscriber.send(b"last ")
        subscriber.release(subscriber.cursor)
        assert pipe.taken == b"first " + websocket_frames.pong(b"x") + b"last " + message(1)[0]

    asyncio.run(run())


def test_a_waiting_list_is_replaced_a_started_one_finished() -> None:
    pipe, subscriber = client(room=1, full=True)
    subscriber.replace((b"a1 ", b"a2 "))
    subscriber.drain()
    subscriber.replace((b"b ",))
    subscriber.replace((b"c ",))
    pipe.more(10**9)
    assert pipe.taken == b"a1 a2 c "


def test_a_full_client_that_lags_gets_only_close_4000() -> None:
    pipe, subscriber = client(room=1, full=True)
    subscriber.replace((b"a1 ", b"a2 "))
    subscriber.drain()
    for number in range(10):
        subscriber.offer(message(number))
    pipe.more(10**9)
    assert pipe.taken == b"a1 " + websocket_frames.close(protocol.CLOSE_LAGGED, "lagged")


def test_the_close_frame_is_the_last_message() -> None:
    pipe, subscriber = client(room=1)
    subscriber.offer(message(1))
    subscriber.drain()
    subscriber.offer(message(2))
    subscriber.close(1001, "netscand stops")
    subscriber.close(1001)
    subscriber.offer(message(3))
    pipe.more(10**9)
    assert pipe.taken == message(1)[0] + websocket_frames.close(1001, "netscand stops")


def test_nothing_is_written_after_a_close_frame_of_aiohttp() -> None:
    closed: list[int] = []
    pipe = Pipe(10**9)
    subscriber = Subscriber(pipe, EVERYTHING, Bounds(), full=False, closed=lambda: bool(closed))
    subscriber.release("c-0")
    closed.append(1009)
    subscriber.offer(message(1))
    subscriber.drain()
    assert pipe.taken == b""


def test_a_lost_client_delays_no_other() -> None:
    async def run() -> None:
        _, subscriber = client(room=1, begun=False)
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(subscriber.send(b"first", b"second"))
            await asyncio.sleep(0)
            subscriber.on_disconnect()

    asyncio.run(run())
