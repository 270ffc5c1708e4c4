"""`DELETE ?history=true`: what the history has of a device is gone from the disk."""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from netscand import protocol
from netscand.core.model import Event, EventKind, Status
from netscand.store import erase
from netscand.store.rows import mac_number
from tests.serve.house import LAN, House, mac, receive
from tests.store.kept import Kept, kept_house

JSON = {"Content-Type": "application/json"}
GUEST, OTHER = mac(1), mac(2)
LABEL = "Besucher (Wohnzimmer)"


async def live(lan: House, scanner: Kept) -> None:
    """Two devices: the guest's is labelled, leaves and returns, and is named in events of the other, and of none."""
    for number in (1, 2, 3):
        scanner.join(number)
    body = f'{{"label": "{LABEL}", "notes": "{LABEL}, until Sunday"}}'.encode()
    await lan.ask("PATCH", f"/api/devices/{GUEST.hex(':')}", body=body, headers=JSON)
    for status in (Status.OFFLINE, Status.ONLINE):
        scanner.turn(1, status)
        scanner.turn(2, status)
    device, now = scanner.devices[OTHER], time.monotonic()
    why = f"{GUEST.hex(':')} holds it now"
    scanner.publish(Event(EventKind.ADDRESS_MOVED, now, LAN, device, device.ip, GUEST))
    scanner.publish(Event(EventKind.ADDRESS_REMOVED, now, LAN, device, device.ip, mac(3), reason=why))
    scanner.publish(Event(EventKind.ADDRESS_CONFLICT, now, LAN, device, device.ip, mac(3)))
    scanner.publish(Event(EventKind.FLOOD, now, LAN, reason=f"9 new MACs refused; the last: {GUEST.hex(':')}"))
    scanner.publish(Event(EventKind.NETWORK_UP, now, LAN))
    await scanner.history._all_stored()


def stored(path: Path) -> dict[int, tuple[int | None, bytes]]:
    with closing(sqlite3.connect(path / "h.db")) as database:
        return {row[0]: row[1:] for row in database.execute("SELECT sequence, mac, body FROM event")}


def files(path: Path) -> bytes:
    return b"".join((path / f"h.db{end}").read_bytes() for end in ("", "-wal"))


async def delete(lan: House, number: int, query: str = "?history=true") -> tuple[int, Any]:
    status, _, body = await lan.ask("DELETE", f"/api/devices/{mac(number).hex(':')}{query}")
    return status, body


async def until_cut(path: Path) -> None:
    """Wait until the log was truncated."""
    async with asyncio.timeout(30):
        while (path / "h.db-wal").stat().st_size:
            await asyncio.sleep(0.05)


def test_nothing_of_the_device_is_left_on_the_disk(tmp_path: Path) -> None:
    """Neither its events and row, nor others' events that name it, nor their remains in free space and in the log."""

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            await live(lan, scanner)
            before = stored(tmp_path)
            number = mac_number(GUEST)
            own = [sequence for sequence, (of, _) in before.items() if of == number]
            assert (len(own), LABEL.encode() in files(tmp_path)) == (4, True)
            status, body = await delete(lan, 1)
            assert (status, body) == (200, {"events": 4 + 3 + 1})  # its own, those that name it, and `forgotten`
            after = stored(tmp_path)
            assert number not in [of for of, _ in after.values()]
            gone = before.keys() - after.keys()
            assert len(gone) == 7
            assert len(after) == len(before) - 7
            await until_cut(tmp_path)
            rest = files(tmp_path)
            assert LABEL.encode() not in rest
            assert not [sequence for sequence in gone if before[sequence][1] in rest]
            _, _, events = await lan.ask("GET", "/api/events?limit=5000")
            assert GUEST.hex(":") not in str(events)
            assert LABEL not in str(events)
            kinds = [event["kind"] for event in events["events"]]
            assert kinds == ["discovered"] * 2 + ["offline", "online", "address_conflict", "network_up"]
            assert scanner.problems() == ()

    asyncio.run(play())


def test_a_stream_resumes_after_a_deletion_and_not_over_it(tmp_path: Path) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            await live(lan, scanner)
            before = scanner.cursor
            assert (await delete(lan, 1))[0] == 200
            after = scanner.cursor
            scanner.turn(3, Status.OFFLINE)
            async with lan.ws(f"?updates=changes&since={before}") as client:
                first = await receive(client)
                assert isinstance(first, protocol.InitialState)
                assert GUEST.hex(":") not in [device.mac for device in first.devices]
            async with lan.ws(f"?updates=changes&since={after}") as client:
                assert isinstance(await receive(client), protocol.Resumed)
                event = await receive(client)
                assert isinstance(event, protocol.Event)
                assert event.kind == "offline"

    asyncio.run(play())


def test_events_of_a_forgotten_device_can_be_deleted_later(tmp_path: Path) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            await live(lan, scanner)
            assert await delete(lan, 1, "") == (204, None)
            assert mac_number(GUEST) in [of for of, _ in stored(tmp_path).values()]
            assert await delete(lan, 1) == (200, {"events": 8})
            status, body = await delete(lan, 1)
            assert (status, body["error"]["message"]) == (404, f"no device {GUEST.hex(':')}, and no event of one")
            assert (await delete(lan, 2, "?history=yes"))[0] == 400

    asyncio.run(play())


def test_a_device_that_returns_is_new(tmp_path: Path) -> None:
    """What happens after the deletion is kept; a history is searched in slices."""

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            for _ in range(40):
                scanner.join(1)
                scanner.join(2)
            assert await delete(lan, 1) == (200, {"events": 41})
            scanner.join(1)
            await scanner.history._all_stored()
            assert [of for of, _ in stored(tmp_path).values()].count(mac_number(GUEST)) == 1

    slices, erase.SLICE = erase.SLICE, 7
    try:
        asyncio.run(play())
    finally:
        erase.SLICE = slices


def test_a_start_does_not_bring_it_back(tmp_path: Path) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            await live(lan, scanner)
            assert (await delete(lan, 1))[0] == 200
        with closing(sqlite3.connect(tmp_path / "h.db")) as database:
            for table in ("device", "seen"):
                macs = {row[0] for row in database.execute(f"SELECT mac FROM {table}")}
                assert mac_number(GUEST) not in macs
                assert mac_number(OTHER) in macs
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    asyncio.run(play())


def test_a_log_that_netscand_cut_is_not_damaged(tmp_path: Path) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            await live(lan, scanner)
            writer, maintenance = scanner.history._writer, scanner.history._maintenance
            async with asyncio.timeout(60):
                while writer.files is None or not writer.files._frames:
                    await asyncio.sleep(0.05)
                assert (await delete(lan, 1))[0] == 200
                await until_cut(tmp_path)
                for _ in range(2):  # the second look begins when the first has ended
                    looked = maintenance._look_at
                    while maintenance._look_at == looked:
                        await asyncio.sleep(0.05)
            scanner.turn(2, Status.OFFLINE)
            await scanner.history.settled()
            assert (writer.generation, scanner.problems()) == (1, ())

    asyncio.run(play())
