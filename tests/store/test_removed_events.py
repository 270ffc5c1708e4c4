"""A list of events continues over removed events; a client that resumes over them gets a fresh list."""

import asyncio
from pathlib import Path
from typing import Any

from netscand import protocol
from netscand.core.model import Status
from netscand.store.database import connect
from tests.serve.house import House, mac, receive
from tests.store.kept import Kept, kept_house


def make_hole(scanner: Kept, first: int, last: int) -> None:
    """Do what removal by size does (store/retention.py)."""
    database = connect(scanner.history.path)
    database.execute("DELETE FROM event WHERE sequence BETWEEN ? AND ?", (first, last))
    database.execute("UPDATE state SET hole = ?", (last,))
    database.close()


async def with_a_hole(scanner: Kept) -> list[str]:
    """Make forty events, of which ten are missing; return the cursors of all."""
    cursors = [scanner.join(1)]
    cursors += [scanner.turn(1, (Status.OFFLINE, Status.ONLINE)[i % 2]) for i in range(39)]
    await scanner.hub.settled()
    make_hole(scanner, 11, 20)
    return cursors


async def ask(lan: House, query: str) -> tuple[int, Any]:
    status, _, answer = await lan.ask("GET", f"/api/events?{query}")
    return status, answer


def test_a_list_continues_over_removed_events(tmp_path: Path) -> None:
    """From the beginning, from a time, and the last ones: over whatever was removed before or while it is read."""

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            cursors = await with_a_hole(scanner)
            kept = cursors[:10] + cursors[20:]
            for begin in ("", "&since=2001-01-01"):
                found, cursor = [], begin
                while True:
                    status, answer = await ask(lan, f"limit=4{cursor}")
                    assert status == 200
                    found += [event["cursor"] for event in answer["events"]]
                    if len(answer["events"]) < 4:
                        break
                    assert "~" in answer["cursor"]
                    cursor = f"&since={answer['cursor']}"
                assert found == kept
                assert answer["cursor"] == cursors[-1], "the end of the list is a cursor to resume from"
            status, answer = await ask(lan, "last=35&kind=online,offline")
            assert status == 200
            assert len(answer["events"]) == 29
            begun = (await ask(lan, "limit=4"))[1]["cursor"]
            make_hole(scanner, 1, 25)
            status, answer = await ask(lan, f"since={begun}")
            assert [event["cursor"] for event in answer["events"]] == cursors[25:]

    asyncio.run(play())


def test_no_client_resumes_over_a_gap(tmp_path: Path) -> None:
    """REST answers 410, the stream sends a fresh list, whichever way the cursor is written."""

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            cursors = await with_a_hole(scanner)
            for gone in (cursors[0], cursors[9], cursors[15]):
                status, answer = await ask(lan, f"since={gone}")
                assert (status, answer["error"]["code"]) == (410, "cursor_gone")
                for since in (gone, gone.replace("-", "~")):
                    async with lan.ws(f"?updates=changes&since={since}") as client:
                        assert isinstance(await receive(client), protocol.InitialState)
            for good in (cursors[19], cursors[20], cursors[38]):
                status, answer = await ask(lan, f"since={good}&limit=2")
                assert status == 200
                assert "~" not in answer["cursor"], "who resumes goes on so"
                async with lan.ws(f"?updates=changes&since={good.replace('-', '~')}") as client:
                    assert isinstance(await receive(client), protocol.Resumed)
                    client.transport.abort()
            for wrong in ("~", "k3f9~", "~7", f"{cursors[0]}~1"):
                assert (await ask(lan, f"since={wrong}"))[0] in (400, 410)
            assert mac(1) in scanner.devices

    asyncio.run(play())
