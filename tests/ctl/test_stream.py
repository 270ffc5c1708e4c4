"""The stream: resumed where it was lost, for ever."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from netscanctl.client import Daemon, Failure, Incompatible, NoDaemon, NotPermitted
from netscanctl.stream import CursorTracker, Received, decode, follow, post
from netscand import protocol
from netscand.protocol import Devices, Event, Lagged, Message, Resumed, encode
from tests.ctl.fake import DEADLINE, FakeDaemon
from tests.ctl.words import device, event, left, network, scanned, snapshot

HERE = Daemon()


def resumed(cursor: str = "k3f9-1") -> Resumed:
    return Resumed(
        cursor=cursor, version="0.1.0", protocol=1, interval=30, scanning=False, role="scan", networks=[network()]
    )


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


async def collect(daemon: Daemon, count: int, notices: list[str], heartbeat: float = 10.0) -> list[Received]:
    """The first messages of the stream, with a short pause before connecting anew."""
    found: list[Received] = []
    stream = follow(daemon, notices.append, reconnect_delay=0.05, heartbeat=heartbeat)
    async with asyncio.timeout(DEADLINE), aclosing(stream):
        async for received in stream:
            found.append(received)
            if len(found) == count:
                break
    return found


def kinds(found: list[Received]) -> list[str]:
    return [str(received.message.__struct_config__.tag) for received in found if received.message is not None]


def run_beside(
    there: Daemon, count: int, script: Iterator[None], heartbeat: float = 10.0
) -> tuple[list[Received], list[str]]:
    """Collect, while a script does things to the daemon."""
    notices: list[str] = []

    async def both() -> list[Received]:
        async with asyncio.TaskGroup() as group:
            collecting = group.create_task(collect(there, count, notices, heartbeat))
            await asyncio.to_thread(lambda: [None for _ in script])
        return collecting.result()

    return asyncio.run(both()), notices


def test_a_lost_stream_is_resumed_at_the_last_event(daemon: FakeDaemon, there: Daemon) -> None:
    daemon.resumed = [resumed("k3f9-7"), left(device(7, "offline"), cursor="k3f9-8")]

    def script() -> Iterator[None]:
        daemon.until_watched()
        daemon.send(event("flood", cursor="k3f9-7"))
        daemon.cut()
        yield

    found, notices = run_beside(there, 4, script())
    assert kinds(found) == ["initial_state", "event", "resumed", "event"]
    assert notices == ["connection lost; reconnecting…", "connected again"]
    assert [query for _, path, query, _ in daemon.requests if path == "/ws"] == [
        {"updates": "changes"}, {"updates": "changes", "since": "k3f9-7"},
    ]  # fmt: skip


def test_a_lagged_client_resumes_at_its_last_cursor(daemon: FakeDaemon, there: Daemon) -> None:
    def script() -> Iterator[None]:
        daemon.until_watched()
        daemon.send(Lagged(cursor="k3f9-300"))
        daemon.cut(protocol.CLOSE_LAGGED)
        yield

    found, _ = run_beside(there, 3, script())
    assert kinds(found) == ["initial_state", "lagged", "initial_state"]
    assert daemon.requests[-1][2]["since"] == "k3f9-300"


def test_a_long_outage_is_reported_once(daemon: FakeDaemon, there: Daemon) -> None:
    """Failed attempts to reconnect are not reported."""

    def script() -> Iterator[None]:
        daemon.until_watched()
        daemon.stop()
        yield
        # Attempts in between fail, refused or without a socket, and are not reported again.
        daemon.answers["/ws"] = (503, b"{}")
        daemon.start()
        before = len(daemon.requests)
        daemon.until(lambda: len(daemon.requests) > before + 2)
        del daemon.answers["/ws"]
        yield

    found, notices = run_beside(there, 2, script())
    assert kinds(found) == ["initial_state", "initial_state"]
    assert notices == ["connection lost; reconnecting…", "connected again"]


def test_a_daemon_without_pong_is_disconnected_and_retried(daemon: FakeDaemon, there: Daemon) -> None:
    daemon.ignores_pings = True

    def script() -> Iterator[None]:
        daemon.until_watched()
        daemon.ignores_pings = False
        yield

    found, notices = run_beside(there, 2, script(), heartbeat=0.1)
    assert kinds(found) == ["initial_state", "initial_state"]
    assert notices == ["connection lost; reconnecting…", "connected again"]


def test_another_protocol_after_a_reconnect_ends_the_stream(daemon: FakeDaemon, there: Daemon) -> None:
    def script() -> Iterator[None]:
        daemon.until_watched()
        daemon.snapshot = [snapshot(protocol=99)]
        daemon.cut()
        yield

    with pytest.raises(ExceptionGroup) as ended:
        run_beside(there, 2, script())
    assert ended.group_contains(Incompatible, match="uses protocol 99")


def test_a_failed_first_attempt_raises_at_once(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon, match="netscand is not running"):
        asyncio.run(collect(Daemon(str(tmp_path / "none.sock")), 1, []))


@pytest.mark.parametrize(("code", "kind"), [(401, NotPermitted), (403, NotPermitted), (503, Failure), (404, Failure)])
def test_a_refused_handshake_raises_the_matching_failure(
    daemon: FakeDaemon, there: Daemon, code: int, kind: type[Failure]
) -> None:
    daemon.answers["/ws"] = (code, b"")
    with pytest.raises(kind):
        asyncio.run(collect(there, 1, []))


def test_a_large_message_is_received(daemon: FakeDaemon, there: Daemon) -> None:
    daemon.snapshot = [snapshot(*(device(number % 256, mac=f"mac{number}") for number in range(20_000)))]
    (received,) = asyncio.run(collect(there, 1, []))
    assert len(received.raw) > 8 * 1024 * 1024
    assert received.raw == encode(daemon.snapshot[0])


def test_the_token_is_sent_only_as_a_header(daemon: FakeDaemon) -> None:
    secret = "s3cret" * 6
    there = Daemon(str(daemon.socket), token=secret)
    asyncio.run(collect(there, 1, []))
    asyncio.run(post(there, "/api/scan?wait=1", b"{}"))
    for _, path, query, headers in daemon.requests:
        assert headers["Authorization"] == f"Bearer {secret}"
        assert secret not in f"{path}{query}"
    assert secret not in repr(there)


def test_raw_messages_are_unchanged(daemon: FakeDaemon, there: Daemon) -> None:
    odd = b'{ "type":"event", "kind":"flood",  "cursor":"k3f9-2","at":"x","new\\u0041":"\xc3\xa4" }'

    def script() -> Iterator[None]:
        daemon.until_watched()
        daemon.send(odd)
        yield

    found, _ = run_beside(there, 2, script())
    assert found[1].raw == odd
    assert isinstance(found[1].message, Event)
