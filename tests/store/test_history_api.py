"""Streams and REST over a real history: what is published is stored, and a resume misses nothing (laws 2 and 3)."""

import asyncio
import json
import sqlite3
from pathlib import Path
from random import Random
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from netscand import protocol
from netscand.core.model import Event, EventKind, Status
from netscand.core.restore import CursorGone, EventQuery, Page, Unreadable
from netscand.serve import history_api
from netscand.store.database import connect
from tests.serve.house import LAN, OTHER, House, mac, receive, receive_all
from tests.store.kept import Kept, kept_house

pytestmark = pytest.mark.slow

JSON = {"Content-Type": "application/json"}


class Stall:
    """Lock on the database: nothing can be stored until `end`."""

    def __init__(self, scanner: Kept) -> None:
        self._other = connect(scanner.history.path)
        self._other.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        self._other.close()


def plain(event: protocol.Event | dict[str, Any]) -> dict[str, Any]:
    """Return an event as JSON, without the time of sending."""
    found: dict[str, Any] = json.loads(protocol.encode(event)) if isinstance(event, protocol.Event) else event
    return {name: value for name, value in found.items() if name not in ("sent_at", "type")}


def events_of(messages: list[protocol.ServerMessage]) -> list[protocol.Event]:
    return [message for message in messages if isinstance(message, protocol.Event)]


async def all_events(lan: House, query: str = "limit=5000") -> list[dict[str, Any]]:
    status, _, answer = await lan.ask("GET", f"/api/events?{query}")
    assert status == 200
    return [plain(event) for event in answer["events"]]


# ---- law 2 ---------------------------------------------------------------------------------------------------------


def test_neither_events_nor_snapshots_show_what_is_not_stored(tmp_path: Path) -> None:
    """Law 2: nothing is shown before it is stored. Law 3: each client gets an event that waited once."""
    paths = ("/api/devices", f"/api/devices/{mac(1).hex(':')}", "/api/status", "/api/events")

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner), lan.ws() as early:
            assert isinstance(await receive(early), protocol.InitialState)
            stall = Stall(scanner)
            cursor = scanner.join(1)
            await asyncio.sleep(0.05)
            async with lan.ws() as late, lan.ws("") as full, asyncio.TaskGroup() as tasks:
                requests = [tasks.create_task(lan.ask("GET", path)) for path in paths]
                await asyncio.sleep(0.2)
                for client in (early, late, full):
                    assert await receive_all(client, 0.05) == []
                assert not any(task.done() for task in requests)
                stall.end()
                (event,) = await receive_all(early, least=1)
                (first,) = await receive_all(late, least=1)
                assert isinstance(event, protocol.Event)
                assert isinstance(first, protocol.InitialState)
                assert event.cursor == first.cursor == cursor
                assert len(first.devices) == 1
                assert isinstance(await receive(full), protocol.InitialState)
            assert all(task.result()[0] == 200 for task in requests)
            assert requests[0].result()[2]["cursor"] == requests[2].result()[2]["cursor"] == cursor

    asyncio.run(play())


def test_a_scans_end_does_not_overtake_events(tmp_path: Path) -> None:
    """Its cursor covers them: a client that resumed from it would miss them."""

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner), lan.ws() as client:
            await receive(client)
            stall = Stall(scanner)
            cursor = scanner.join(1)
            scanner.finish(scanner.scan_now(()))
            assert await receive_all(client, 0.2) == []
            stall.end()
            heard = await receive_all(client, least=3)
            assert [type(message).__name__ for message in heard] == ["Event", "ScanStarted", "ScanUpdate"]
            assert isinstance(heard[2], protocol.ScanUpdate)
            assert heard[2].cursor == cursor

    asyncio.run(play())


# ---- resume --------------------------------------------------------------------------------------------------------


def something_happens(scanner: Kept, chance: Random) -> None:
    """Make one change, of any kind."""
    number = chance.randrange(12)
    device = scanner.devices.get(mac(number))
    draw = chance.random()
    if device is None:
        scanner.join(number, chance.choice((LAN, OTHER)))
    elif draw < 0.8:
        scanner.turn(number, Status.OFFLINE if device.status is Status.ONLINE else Status.ONLINE)
    elif draw < 0.95:
        scanner.label(device.mac, {"label": f"device {chance.randrange(100)}", "known": chance.random() < 0.5})
    else:
        scanner.forget(device.mac)


def lose_connections(tmp_path: Path, times: int, seed: int) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            chance = Random(seed)
            received: list[dict[str, Any]] = []
            cursor = scanner.cursor
            ends = asyncio.Event()

            async def change() -> None:
                while not ends.is_set():
                    for _ in range(chance.randrange(4)):
                        something_happens(scanner, chance)
                    await asyncio.sleep(chance.random() / 200)

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(change())
                for _ in range(times):
                    client = await lan.ws(f"?updates=changes&since={cursor}")
                    first = await receive(client)
                    assert isinstance(first, protocol.Resumed)
                    assert first.cursor == cursor
                    for _ in range(chance.randrange(12)):
                        event = await receive(client)
                        assert isinstance(event, protocol.Event)
                        received.append(plain(event))
                        cursor = event.cursor
                    client.transport.abort()
                ends.set()
            await scanner.hub.settled()
            async with lan.ws(f"?updates=changes&since={cursor}") as client:
                assert isinstance(await receive(client), protocol.Resumed)
                while cursor != scanner.cursor:
                    event = await receive(client)
                    assert isinstance(event, protocol.Event)
                    received.append(plain(event))
                    cursor = event.cursor
                assert await receive_all(client) == []
            assert len(received) > times
            kept: list[dict[str, Any]] = []
            while len(kept) < len(received):
                kept += await all_events(lan, f"limit=5000&since={kept[-1]['cursor']}" if kept else "limit=5000")
            assert [event["cursor"] for event in received] == [event["cursor"] for event in kept]
            assert received == kept

    asyncio.run(play())


def test_50_resumes_are_exact(tmp_path: Path) -> None:
    """Laws 2 and 3: no event is lost or repeated, and each has the same bytes live, resumed and by REST."""
    lose_connections(tmp_path, 50, 1)


@pytest.mark.long
def test_1000_resumes_are_exact(tmp_path: Path) -> None:
    lose_connections(tmp_path, 1000, 2)


def test_a_resumed_client_gets_waiting_events_once(tmp_path: Path) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            before = scanner.join(1)
            await scanner.hub.settled()
            stall = Stall(scanner)
            waiting = [scanner.join(2), scanner.turn(1, Status.OFFLINE)]
            await asyncio.sleep(0.05)
            async with lan.ws(f"?updates=changes&since={before}") as client:
                await asyncio.sleep(0.1)
                waiting.append(scanner.turn(1, Status.ONLINE))
                stall.end()
                resumed, *rest = await receive_all(client, least=4)
                assert isinstance(resumed, protocol.Resumed)
                assert [event.cursor for event in events_of(rest)] == waiting
                devices = [event.device for event in events_of(rest)]
                assert [device.status for device in devices if device] == ["online", "offline", "online"]

    asyncio.run(play())


def test_changes_during_a_resume_do_not_alter_past_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device changes between two parts: earlier events still show it as it was."""
    monkeypatch.setattr(history_api, "PART", 3)

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            start = scanner.cursor
            scanner.join(1)
            for i in range(20):
                scanner.label(mac(1), {"label": f"name {i}"})
            await scanner.hub.settled()

            async def meddle() -> None:
                for i in range(20, 60):
                    scanner.label(mac(1), {"label": f"name {i}"})
                    await asyncio.sleep(0)

            async with lan.ws(f"?updates=changes&since={start}") as client, asyncio.TaskGroup() as tasks:
                tasks.create_task(meddle())
                heard = events_of(await receive_all(client, least=62))
            assert [event.device and event.device.label for event in heard] == [
                None,
                *(f"name {i}" for i in range(60)),
            ]

    asyncio.run(play())


def test_a_filtered_resume_shows_what_fits_or_did(tmp_path: Path) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            start = scanner.cursor
            scanner.join(1, LAN)
            scanner.join(2, OTHER)
            scanner.label(mac(2), {"label": "printer"})
            scanner.label(mac(2), {"label": None})
            scanner.publish(Event(EventKind.NETWORK_DOWN, 1.0, OTHER))
            async with lan.ws(f"?updates=changes&since={start}&network={OTHER}") as client:
                kinds = [event.kind for event in events_of(await receive_all(client, least=5))]
                assert kinds == ["discovered", "labelled", "labelled", "network_down"]
            async with lan.ws(f"?updates=changes&since={start}&q=printer") as client:
                kinds = [event.kind for event in events_of(await receive_all(client, least=4))]
                assert kinds == ["labelled", "labelled", "network_down"]

    asyncio.run(play())


@pytest.mark.parametrize("since", ["abc-1", "", "k3f9-999999999999999999", "k3f9~1"])
def test_a_foreign_cursor_gets_a_fresh_snapshot(tmp_path: Path, since: str) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            scanner.join(1)
            async with lan.ws(f"?updates=changes&since={since}") as client:
                first = await receive(client)
                assert isinstance(first, protocol.InitialState)
                assert first.cursor == scanner.cursor

    asyncio.run(play())


def test_a_damaged_event_is_never_sent_and_ends_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The events before it arrive; then the stream is closed; the next resume gets a fresh list."""
    monkeypatch.setattr(history_api, "PART", 3)

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            start = scanner.cursor
            cursors = [scanner.join(number) for number in range(10)]
            await scanner.hub.settled()
            other = connect(scanner.history.path)
            other.execute("UPDATE event SET body = zeroblob(90) WHERE sequence = 8")
            other.close()
            async with lan.ws(f"?updates=changes&since={start}") as client:
                resumed, *rest = [await receive(client) for _ in range(7)]
                assert isinstance(resumed, protocol.Resumed)
                assert [event.cursor for event in events_of(rest)] == cursors[:6]
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert client.close_code == 1011
            async with lan.ws(f"?updates=changes&since={cursors[5]}") as client:
                assert isinstance(await receive(client), protocol.InitialState)
            listed = [event["cursor"] for event in await all_events(lan)]
            assert listed == cursors[:7] + cursors[8:]
            assert scanner.problems() == ()

    asyncio.run(play())


def test_a_number_that_was_never_stored_gets_a_fresh_snapshot(tmp_path: Path) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            epoch, _, number = scanner.join(1).rpartition("-")
            async with lan.ws(f"?updates=changes&since={epoch}-{int(number) + 5}") as client:
                assert isinstance(await receive(client), protocol.InitialState)

    asyncio.run(play())


def test_too_many_missed_events_get_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_api, "MISSED", 10)

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            start = scanner.join(1)
            for i in range(20):
                scanner.turn(1, (Status.OFFLINE, Status.ONLINE)[i % 2])
            async with lan.ws(f"?updates=changes&since={start}") as client:
                assert isinstance(await receive(client), protocol.InitialState)

    asyncio.run(play())


def test_full_clients_get_the_list_whatever_their_cursor(tmp_path: Path) -> None:
    """The `full` mode knows no cursor."""

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            start = scanner.join(1)
            scanner.join(2)
            async with lan.ws(f"?since={start}") as client:
                first = await receive(client)
                assert isinstance(first, protocol.InitialState)
                assert len(first.devices) == 2

    asyncio.run(play())


def test_an_open_stream_keeps_no_snapshot(tmp_path: Path) -> None:
    """Otherwise every device that changes would be kept as it was, for each client."""

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            start = scanner.join(1)
            async with lan.ws(f"?updates=changes&since={start}") as back, lan.ws() as fresh:
                assert isinstance(await receive(back), protocol.Resumed)
                assert isinstance(await receive(fresh), protocol.InitialState)
                async with asyncio.timeout(30):
                    while scanner.hub._snapshots:
                        await asyncio.sleep(0.01)

    asyncio.run(play())


# ---- REST ----------------------------------------------------------------------------------------------------------


def test_events_page_by_page_are_the_whole_list(tmp_path: Path) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            chance = Random(3)
            for _ in range(200):
                something_happens(scanner, chance)
            whole = await all_events(lan)
            assert len(whole) == 200
            paged: list[dict[str, Any]] = []
            cursor = ""
            while True:
                _, _, answer = await lan.ask("GET", f"/api/events?limit=7{cursor and f'&since={cursor}'}")
                paged += [plain(event) for event in answer["events"]]
                assert answer["more"] is (len(paged) < len(whole))
                if not answer["more"]:
                    break
                cursor = answer["cursor"]
            assert answer["cursor"] == scanner.cursor
            assert paged == whole
            assert await all_events(lan, "last=5") == whole[-5:]
            assert await all_events(lan, f"since={whole[4]['cursor']}&limit=3") == whole[5:8]

    asyncio.run(play())


def test_events_are_found_by_kind_device_and_time(tmp_path: Path) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            scanner.join(1)
            scanner.join(2)
            scanner.turn(1, Status.OFFLINE)
            scanner.label(mac(2), {"label": "tv"})
            one, _ = macs = [mac(number).hex(":") for number in (1, 2)]
            assert [event["kind"] for event in await all_events(lan, "kind=offline,labelled")] == [
                "offline",
                "labelled",
            ]
            assert [event["kind"] for event in await all_events(lan, f"mac={one.upper()}")] == ["discovered", "offline"]
            _, _, answer = await lan.ask("GET", f"/api/devices/{one}/events?last=1")
            assert [event["kind"] for event in answer["events"]] == ["offline"]
            whole = await all_events(lan)
            assert await all_events(lan, f"since={whole[1]['at']}") == [
                event for event in whole if event["at"] > whole[1]["at"]
            ]
            assert await all_events(lan, "since=2001-01-01") == whole
            conflict = EventKind.ADDRESS_CONFLICT  # it belongs to both devices
            scanner.publish(Event(conflict, scanner.started_at, LAN, scanner.devices[mac(2)], None, mac(1)))
            _, _, answer = await lan.ask("GET", f"/api/devices/{one}/events?last=1")
            for found in (answer["events"], *[await all_events(lan, f"kind={conflict}&mac={each}") for each in macs]):
                assert [event["kind"] for event in found] == [conflict]
            assert await all_events(lan, "since=2931-01-01T00:00:00%2B02:00") == []

    asyncio.run(play())


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/events?since=abc-1", 410),
        ("/api/events?since=yesterday", 400),
        ("/api/events?since=", 400),
        ("/api/events?since=99999999-01-01", 400),
        ("/api/events?until=abc-1", 410),
        ("/api/events?until=tomorrow", 400),
        ("/api/events?kind=gone", 400),
        ("/api/events?kind=", 400),
        ("/api/events?limit=0", 400),
        ("/api/events?limit=5001", 400),
        ("/api/events?last=3&limit=4", 400),
        ("/api/events?mac=zz", 400),
        ("/api/devices/aa:bb:cc:dd:ee:ff/events", 404),
        ("/api/devices/aa:bb:cc:dd:ee:ff/presence", 404),
        (f"/api/devices/{mac(1).hex(':')}/events?mac=aa:bb:cc:dd:ee:ff", 400),
        (f"/api/devices/{mac(1).hex(':')}/presence?days=0", 400),
        (f"/api/devices/{mac(1).hex(':')}/presence?days=91", 400),
        (f"/api/devices/{mac(1).hex(':')}/presence?step=60", 400),
    ],
)
def test_wrong_queries_are_refused(tmp_path: Path, path: str, status: int) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            scanner.join(1)
            assert (await lan.ask("GET", path))[0] == status

    asyncio.run(play())


def test_a_new_epoch_during_a_request_gives_cursor_gone(tmp_path: Path) -> None:
    """The numbers in the query belong to another epoch now."""

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner), asyncio.TaskGroup() as tasks:
            stall = Stall(scanner)
            scanner.join(1)
            requests = tasks.create_task(lan.ask("GET", "/api/events"))
            async with asyncio.timeout(30):
                while len(scanner.hub._gate._queue) < 2:  # the event, and the request behind it
                    await asyncio.sleep(0.01)
            scanner.history._epoch = "other"
            stall.end()
            status, _, answer = await requests
            assert (status, answer["error"]["code"]) == (410, "cursor_gone")

    asyncio.run(play())


@pytest.mark.parametrize("wrong", [Unreadable, CursorGone])
def test_an_error_in_the_middle_of_an_answer_cuts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: type[Exception]
) -> None:
    """It is cut, so that no client takes it for complete, or an error for a part of it."""
    monkeypatch.setattr(history_api, "PART", 3)
    monkeypatch.setattr(history_api, "PIECE", 1)

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            for number in range(12):
                scanner.join(number)
            read, parts = scanner.history.events, iter(range(2))

            async def breaks(query: EventQuery, **how: Any) -> Page:  # noqa: ANN401
                if next(parts, None) is None:
                    raise wrong("the disk is gone")
                return await read(query, **how)

            monkeypatch.setattr(scanner.history, "events", breaks)
            answer = await lan.raw(b"GET /api/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", tcp=False)
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.count(b"HTTP/1.1") == 1
            assert not answer.endswith(b"0\r\n\r\n")

    asyncio.run(play())


def test_annotations_are_published_and_stored(tmp_path: Path) -> None:
    """Without what could harm a terminal or a page (FAULTS T8)."""

    async def play() -> None:
        path = f"/api/devices/{mac(1).hex(':')}"
        async with kept_house(tmp_path) as (lan, scanner), lan.ws() as client:
            await receive(client)
            scanner.join(1)
            annotations = (
                '{"label": " T\\u202eV\\u001b[31m ", "known": true, "notes": "in the hall\\nat home", "patience": 77}'
            )
            status, _, answer = await lan.ask("PATCH", path, body=annotations.encode(), headers=JSON)
            assert status == 200
            assert (answer["label"], answer["known"], answer["patience"]) == ("TV[31m", True, 77)
            assert answer["notes"] == "in the hall\nat home"
            (_, event) = events_of(await receive_all(client, least=2))
            assert event.kind == "labelled"
            assert event.device
            assert event.device.label == "TV[31m"
            assert event.previous
            assert event.previous["label"] is None
            before = scanner.cursor
            assert (await lan.ask("PATCH", path, body=b'{"known": true}', headers=JSON))[0] == 200
            assert scanner.cursor == before  # nothing changed
            status, _, answer = await lan.ask("PATCH", path, body=b'{"label": null, "patience": null}', headers=JSON)
            assert (answer["label"], answer["known"]) == (None, True)
            assert scanner.devices[mac(1)].presence.chosen is None

    asyncio.run(play())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"known": 1}', 400),
        (b'{"patience": 0}', 400),
        (b'{"patience": 1e9}', 400),
        (b'{"label": "' + b"x" * 129 + b'"}', 400),
        (b'{"notes": "' + b"x" * 4097 + b'"}', 400),
        (b'{"label": "\\ud800"}', 400),
        (b'{"something": "else"}', 400),
    ],
)
def test_invalid_annotations_are_refused(tmp_path: Path, body: bytes, status: int) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            scanner.join(1)
            assert (await lan.ask("PATCH", f"/api/devices/{mac(1).hex(':')}", body=body, headers=JSON))[0] == status

    asyncio.run(play())


def test_changes_need_json_a_device_and_the_right(tmp_path: Path) -> None:
    """FAULTS T4; and by TCP every client has at most the role `others`."""
    one, nobody = f"/api/devices/{mac(1).hex(':')}", "/api/devices/aa:bb:cc:dd:ee:ff"

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            scanner.join(1)
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            assert (await lan.ask("PATCH", one, body=b'{"known": true}', headers=form))[0] == 415
            assert (await lan.ask("PATCH", nobody, body=b'{"known": true}', headers=JSON))[0] == 404
            assert (await lan.ask("DELETE", nobody))[0] == 404
            for what in (f"PATCH {one}", f"DELETE {one}", "GET /api/backup"):
                request = f"{what} HTTP/1.1\r\nHost: localhost:{lan.port}\r\nConnection: close\r\n\r\n"
                assert (await lan.raw(request.encode())).split(b" ", 2)[1] == b"403", what
            assert mac(1) in scanner.devices

    asyncio.run(play())


def test_a_forgotten_device_stays_in_past_events(tmp_path: Path) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            scanner.join(1)
            scanner.label(mac(1), {"label": "TV"})
            assert (await lan.ask("DELETE", f"/api/devices/{mac(1).hex(':')}"))[0] == 204
            scanner.join(1)
            kept = await all_events(lan)
            assert [event["kind"] for event in kept] == ["discovered", "labelled", "forgotten", "discovered"]
            assert [event["device"]["label"] for event in kept] == [None, "TV", "TV", None]
            assert all(event["device"]["ip"] for event in kept)

    asyncio.run(play())


def test_a_backup_comes_as_a_database(tmp_path: Path) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            for number in range(50):
                scanner.join(number)
            answer = await lan.raw(b"GET /api/backup HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", tcp=False)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert f"Content-Length: {len(body)}".encode() in head
            (tmp_path / "copy").write_bytes(body)
            with sqlite3.connect(tmp_path / "copy") as copy:
                assert copy.execute("SELECT count(*) FROM event").fetchone() == (50,)
                assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            copy.close()

    asyncio.run(play())


def test_a_request_is_answered_while_events_wait(tmp_path: Path) -> None:
    """An answer shows nothing that could be lost."""

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner), lan.ws() as client:
            await receive(client)
            stall = Stall(scanner)
            scanner.join(1)
            await client.send(json.dumps({"type": "set_interval", "seconds": 5, "request": "r"}))
            assert isinstance(await receive(client), protocol.Interval)
            stall.end()

    asyncio.run(play())
