"""The stream: resumed where it was lost, indefinitely."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from netscanctl.client import Daemon, Failure, Incompatible, NoDaemon, NotPermitted
from netscanctl.stream import CursorTracker, Received, decode, follow, post
from netscand import protocol
from netscand.protocol import Devices, Event, Lagged, Message, encode
from tests.ctl.fake_daemon import DEADLINE, FakeDaemon
from tests.ctl.messages import device, event, left, resumed, scanned, snapshot

HERE = Daemon()


def cursor_after(*messages: Message) -> str | None:
    tracker = CursorTracker("before")
    for message in messages:
        tracker.advance(message)  # type: ignore[arg-type]
    return tracker.cursor


def test_the_cursor_is_that_of_the_last_event() -> None:
    assert cursor_after(snapshot(cursor="a-1")) == "a-1"
    assert cursor_after(snapshot(cursor="a-1"), event("flood", cursor="a-2")) == "a-2"
    assert cursor_after(snapshot(cursor="a-1"), scanned()) == "k3f9-9"
    assert cursor_after(resumed("a-7")) == "a-7"
    assert cursor_after(snapshot(cursor="a-1"), Lagged(cursor="a-3")) == "a-3"


def test_part_of_a_snapshot_does_not_move_the_cursor() -> None:
    half = snapshot(cursor="a-1", more=True)
    assert cursor_after(half) == "before"
    assert cursor_after(half, Devices(devices=[], more=True), scanned()) == "before"
    assert cursor_after(half, Devices(devices=[], more=False)) == "a-1"


def test_unknown_types_pass_and_invalid_messages_fail() -> None:
    assert decode(HERE, b'{"type":"weather","sun":true}') == Received(b'{"type":"weather","sun":true}', None)
    with pytest.raises(Incompatible, match="invalid message"):
        decode(HERE, b'{"type":"lagged"}')
    with pytest.raises(Incompatible, match="invalid message"):
        decode(HERE, b"hello")


def test_unknown_fields_are_ignored() -> None:
    assert decode(HERE, b'{"type":"lagged","cursor":"a-1","mood":"fine"}').message == Lagged(cursor="a-1")


@pytest.mark.parametrize(("spoken", "older"), [(2, "upgrade netscanctl"), (0, "upgrade netscand")])
def test_another_protocol_is_refused_even_if_it_decodes(spoken: int, older: str) -> None:
    with pytest.raises(Incompatible, match=older):
        decode(HERE, encode(snapshot(protocol=spoken)))
    with pytest.raises(Incompatible, match=older):
        decode(HERE, b'{"type":"initial_state","protocol":%d,"version":"9"}' % spoken)


# ---- against a real socket


@pytest.fixture
def there(daemon: FakeDaemon) -> Daemon:
    return Daemon(str(daemon.socket))


class Collected:
    """The first messages of the stream, with a short pause before connecting again."""

    def __init__(self) -> None:
        self.messages: list[Received] = []
        self.notices: list[str] = []

    @property
    def kinds(self) -> list[str]:
        return [str(each.message.__struct_config__.tag) for each in self.messages if each.message is not None]


async def collect(daemon: Daemon, count: int, into: Collected | None = None, heartbeat: float = 10.0) -> Collected:
    """Wait for so many messages."""
    found = into or Collected()
    stream = follow(daemon, found.notices.append, reconnect_delay=0.05, heartbeat=heartbeat)
    async with asyncio.timeout(DEADLINE), aclosing(stream):
        async for received in stream:
            found.messages.append(received)
            if len(found.messages) == count:
                break
    return found


Beside = Callable[[Callable[[], object]], Awaitable[object]]


@asynccontextmanager
async def collecting(fake: FakeDaemon, count: int, heartbeat: float = 10.0) -> AsyncIterator[tuple[Collected, Beside]]:
    """Collect so many while the block does things to the daemon, in a thread."""
    found = Collected()
    async with asyncio.TaskGroup() as group:
        group.create_task(collect(Daemon(str(fake.socket)), count, found, heartbeat))
        await asyncio.to_thread(fake.until_watched)
        yield found, asyncio.to_thread


LOST = ["connection lost; reconnecting…", "connected again"]


async def test_a_lost_stream_is_resumed_at_the_last_event(daemon: FakeDaemon) -> None:
    daemon.resumed = [resumed("k3f9-7"), left(device(7, "offline"), cursor="k3f9-8")]
    async with collecting(daemon, 4) as (found, beside):
        await beside(lambda: daemon.send(event("flood", cursor="k3f9-7")))
        await beside(daemon.cut)
    assert found.kinds == ["initial_state", "event", "resumed", "event"]
    assert found.notices == LOST
    assert [query for _, path, query, _ in daemon.requests if path == "/ws"] == [
        {"updates": "changes"}, {"updates": "changes", "since": "k3f9-7"},
    ]  # fmt: skip


async def test_a_lagged_client_resumes_at_its_last_cursor(daemon: FakeDaemon) -> None:
    async with collecting(daemon, 3) as (found, beside):
        await beside(lambda: daemon.send(Lagged(cursor="k3f9-300")))
        await beside(lambda: daemon.cut(protocol.CLOSE_LAGGED))
    assert found.kinds == ["initial_state", "lagged", "initial_state"]
    assert daemon.requests[-1][2]["since"] == "k3f9-300"


async def test_a_long_outage_is_reported_once(daemon: FakeDaemon) -> None:
    """Attempts that fail, refused or without a socket, are not reported."""
    async with collecting(daemon, 2) as (found, beside):
        await beside(daemon.stop)
        daemon.answers["/ws"] = (503, b"{}")
        before = len(daemon.requests)
        await beside(daemon.start)
        await beside(lambda: daemon.until(lambda: len(daemon.requests) > before + 2))
        del daemon.answers["/ws"]
    assert found.kinds == ["initial_state", "initial_state"]
    assert found.notices == LOST


async def test_a_daemon_without_pong_is_disconnected_and_retried(daemon: FakeDaemon) -> None:
    daemon.ignores_pings = True
    async with collecting(daemon, 2, heartbeat=0.1) as (found, _):
        daemon.ignores_pings = False
    assert found.kinds == ["initial_state", "initial_state"]
    assert found.notices == LOST


async def test_another_protocol_after_a_reconnect_ends_the_stream(daemon: FakeDaemon) -> None:
    with pytest.raises(ExceptionGroup) as ended:
        async with collecting(daemon, 2) as (_, beside):
            daemon.snapshot = [snapshot(protocol=99)]
            await beside(daemon.cut)
    assert ended.group_contains(Incompatible, match="uses protocol 99")


async def test_a_failed_first_attempt_raises_at_once(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon, match="netscand is not running"):
        await collect(Daemon(str(tmp_path / "none.sock")), 1)


@pytest.mark.parametrize(("code", "kind"), [(401, NotPermitted), (403, NotPermitted), (503, Failure), (404, Failure)])
async def test_a_refused_handshake_raises_the_matching_failure(
    daemon: FakeDaemon, there: Daemon, code: int, kind: type[Failure]
) -> None:
    daemon.answers["/ws"] = (code, b"")
    with pytest.raises(kind):
        await collect(there, 1)


async def test_a_large_message_is_received(daemon: FakeDaemon, there: Daemon) -> None:
    daemon.snapshot = [snapshot(*(device(number % 256, mac=f"mac{number}") for number in range(20_000)))]
    (received,) = (await collect(there, 1)).messages
    assert len(received.raw) > 8 * 1024 * 1024
    assert received.raw == encode(daemon.snapshot[0])


async def test_the_token_is_sent_only_as_a_header(daemon: FakeDaemon) -> None:
    secret = "s3cret" * 6
    there = Daemon(str(daemon.socket), token=secret)
    await collect(there, 1)
    await post(there, "/api/scan?wait=1", b"{}")
    for _, path, query, headers in daemon.requests:
        assert headers["Authorization"] == f"Bearer {secret}"
        assert secret not in f"{path}{query}"
    assert secret not in repr(there)


async def test_raw_messages_are_unchanged(daemon: FakeDaemon) -> None:
    odd = b'{ "type":"event", "kind":"flood",  "cursor":"k3f9-2","at":"x","new\\u0041":"\xc3\xa4" }'
    async with collecting(daemon, 2) as (found, beside):
        await beside(lambda: daemon.send(odd))
    assert found.messages[1].raw == odd
    assert isinstance(found.messages[1].message, Event)
