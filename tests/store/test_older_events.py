"""What the page asks of the history: the events up to a cursor or a time, and the hours of a day."""

import asyncio
from pathlib import Path

from netscand.core.model import Status
from tests.serve.house import mac
from tests.store.kept import kept_house
from tests.store.test_history_api import all_events


def test_events_up_to_a_cursor_or_a_time(tmp_path: Path) -> None:
    """With `last`, the list can be read backwards; kinds and `since` still apply."""

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            for number in range(6):
                scanner.join(number)
                scanner.turn(number, Status.OFFLINE)
            whole = await all_events(lan)
            for at, event in enumerate(whole):
                cursor = event["cursor"]
                assert await all_events(lan, f"until={cursor}&last=2") == whole[max(0, at - 1) : at + 1]
                until = [one for one in whole if one["at"] <= event["at"]]
                assert await all_events(lan, f"until={event['at']}") == until
                of_kind = await all_events(lan, f"until={cursor}&kind=discovered&last=9")
                assert of_kind == [one for one in whole[: at + 1] if one["kind"] == "discovered"]
            assert await all_events(lan, f"since={whole[0]['cursor']}&until={whole[3]['cursor']}") == whole[1:4]
            _, _, answer = await lan.ask("GET", f"/api/events?until={whole[5]['cursor']}&limit=50")
            assert await all_events(lan, f"since={answer['cursor']}") == whole[6:]

    asyncio.run(play())


def test_the_hours_of_a_day_are_its_parts(tmp_path: Path) -> None:
    """`step` adds them, and changes nothing else."""

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            scanner.join(1)
            path = f"/api/devices/{mac(1).hex(':')}/presence?days=3"
            assert "online_parts" not in (await lan.ask("GET", path))[2]["days"][0]
            for step, parts in ((3600, 24), (1800, 48), (900, 96)):
                days = (await lan.ask("GET", f"{path}&step={step}"))[2]["days"]
                assert len(days) == 3
                for day in days:
                    assert len(day["online_parts"]) == len(day["unknown_parts"]) == parts
                    assert abs(sum(day["online_parts"]) - day["online_seconds"]) < 0.1 * parts

    asyncio.run(play())
