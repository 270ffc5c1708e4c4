"""People in the history, and at `/api/people`."""

import asyncio
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from netscand.core.model import PersonStatus, Status
from netscand.core.restore import recalled_people
from tests.serve.house import House, mac
from tests.store.diary import diary
from tests.store.kept import Kept, kept_house

JSON = {"Content-Type": "application/json"}


def text(number: int) -> str:
    return mac(number).hex(":")


async def change(lan: House, who: str, **update: object) -> tuple[int, Any]:
    path = f"/api/people/{quote(who, safe='')}"
    status, _, answer = await lan.ask("PATCH", path, body=msgspec.json.encode(update), headers=JSON)
    return status, answer if status == 200 else answer["error"]["message"]


async def jane(lan: House, scanner: Kept) -> None:
    for number in (1, 2):
        scanner.join(number)
    status, person = await change(lan, "Jane", add=[{"mac": text(1)}, {"mac": text(2), "counts": False}])
    assert (status, person["name"], person["status"]) == (200, "Jane", "home")
    assert person["devices"] == [{"mac": text(1), "counts": True}, {"mac": text(2), "counts": False}]


def test_people_are_listed_and_their_events_are_stored(tmp_path: Path) -> None:
    """On the one timeline, pushed, and filterable by kind."""

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            await jane(lan, scanner)
            scanner.turn(1, Status.OFFLINE)
            _, _, answer = await lan.ask("GET", "/api/people")
            assert [(each["name"], each["status"], each["last_status"]) for each in answer["people"]] == [
                ("Jane", "away", "away"),
            ]  # fmt: skip
            _, _, answer = await lan.ask("GET", "/api/events?kind=person_home,person_away")
            assert [(each["kind"], each["person"]["name"]) for each in answer["events"]] == [
                ("person_home", "Jane"), ("person_away", "Jane"),
            ]  # fmt: skip
            assert answer["events"][1]["previous"]["status"] == "home"

    asyncio.run(play())


@pytest.mark.parametrize(
    ("name", "update", "code", "message"),
    [
        ("Jane", {"add": [{"mac": text(9)}]}, 404, f"no device {text(9)}"),
        ("Jane", {"name": "Ann"}, 404, "no person 'Jane'"),
        ("Jane", {"remove": [text(1)]}, 404, "no person 'Jane'"),
        ("Jane", {"add": [{"mac": text(1)}], "remove": [text(1)]}, 400, "is in both"),
        ("\u202e", {}, 400, "NAME: expected up to 64 characters, with a letter or a digit"),
        ("x" * 65, {}, 400, "NAME: expected up to 64 characters, with a letter or a digit"),
        ("Jane", {"devices": []}, 400, 'unknown field "devices"; expected add, remove, name'),
        ("Jane", {"add": [{"mac": "x"}]}, 400, "add[0].mac"),
    ],
)
def test_a_wrong_change_is_refused(
    tmp_path: Path, name: str, update: dict[str, object], code: int, message: str
) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            scanner.join(1)
            status, error = await change(lan, name, **update)
            assert status == code
            assert message in error
            assert not scanner.people

    asyncio.run(play())


def test_events_are_found_by_the_name_of_a_person(tmp_path: Path) -> None:
    """In any case, also the former name, and of one that was removed; of no device."""

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            await jane(lan, scanner)
            await change(lan, "Tom", add=[{"mac": text(1)}])
            scanner.turn(1, Status.OFFLINE)
            await change(lan, "Jane", name="Jane Doe")
            await lan.ask("DELETE", "/api/people/tom")

            async def kinds(query: str) -> list[str]:
                status, _, answer = await lan.ask("GET", f"/api/events?{query}")
                return [event["kind"] for event in answer["events"]] if status == 200 else [answer["error"]["message"]]

            begin = ["person_changed", "person_home", "person_away"]
            assert await kinds("person=JANE") == [*begin, "person_changed"]
            assert await kinds("person=jane%20doe") == ["person_changed"]
            assert await kinds("person=Tom") == [*begin, "person_removed"]
            assert await kinds("person=Tom&last=1") == ["person_removed"]
            assert await kinds("person=Tom&kind=person_home,offline") == ["person_home"]
            assert await kinds("person=Ann") == []
            _, headers, _ = await lan.ask("GET", "/api/events?person=Ann")
            why = 'no person "Ann" now: only events from before a removal or another name; the people are: Jane Doe'
            assert headers["Netscand-Warning"] == why
            assert "Netscand-Warning" not in (await lan.ask("GET", "/api/events?person=jane%20doe"))[1]
            _, headers, _ = await lan.ask("GET", "/api/events?tag=iot")
            assert headers["Netscand-Warning"] == 'no device has the tag "iot"; there are no tags'
            for more in ("tag=iot", f"mac={text(1)}"):
                (error,) = await kinds(f"person=Tom&{more}")
                assert error.startswith("person: not together with mac or tag")

    asyncio.run(play())


def test_a_doubt_before_a_kill_leaves_the_time_before_it(tmp_path: Path) -> None:
    """Law 8: who is home again then was home all the time."""
    place = tmp_path / "killed"
    place.mkdir()

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            scanner.history.follow(scanner.people.all, tuple)
            await jane(lan, scanner)
            await scanner.history._device_rows.show()
            await asyncio.sleep(0.01)
            scanner.turn(1, Status.UNKNOWN)
            await change(lan, "Jane", name="Jane Doe")
            await scanner.history.settled()
            for file in tmp_path.glob("h.db*"):
                shutil.copy(file, place)
        async with diary(place / "h.db") as book:
            (person,) = book.memory.people
            assert person.status is PersonStatus.UNKNOWN
            assert person.last_since < person.status_since - 0.005

    asyncio.run(play())


def test_a_person_is_renamed_and_removed(tmp_path: Path) -> None:
    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            await jane(lan, scanner)
            assert (await change(lan, "jane", name="Jane Doe"))[1]["name"] == "Jane Doe"
            assert (await lan.ask("DELETE", "/api/people/Jane"))[0] == 404
            assert (await lan.ask("DELETE", "/api/people/jane%20doe"))[0] == 204
            assert (await lan.ask("GET", "/api/people"))[2]["people"] == []
            name = "Jane / Tom? 100%, é"  # a part of the path
            assert (await change(lan, name))[1]["name"] == name
            assert (await lan.ask("DELETE", f"/api/people/{quote(name, safe='')}"))[0] == 204

    asyncio.run(play())


@pytest.mark.parametrize("killed", [False, True])
def test_people_survive_a_stop_and_a_kill(tmp_path: Path, killed: bool) -> None:
    """Law 2: from the table, and from the events after it."""
    place = tmp_path / "killed"
    place.mkdir()

    async def play() -> None:
        async with kept_house(tmp_path) as (lan, scanner):
            scanner.history.follow(scanner.people.all, tuple)
            await jane(lan, scanner)
            await change(lan, "Tom")
            if killed:  # the table has only what came before
                await scanner.history._device_rows.show()
            await change(lan, "Jane", name="Jane Doe")
            await change(lan, "Ann")
            await lan.ask("DELETE", "/api/people/Tom")
            await scanner.history.settled()
            if killed:
                for file in tmp_path.glob("h.db*"):
                    shutil.copy(file, place)
        async with diary((place if killed else tmp_path) / "h.db") as book:
            people = {person.name: person for person in book.memory.people}
            assert people.keys() == {"Jane Doe", "Ann"}
            assert people["Jane Doe"].devices == {mac(1): True, mac(2): False}
            assert people["Jane Doe"].status is PersonStatus.HOME
            again = {person.name: person for person in recalled_people(book.memory, 0.0, 100.0)}
            assert again["Jane Doe"].last_status is PersonStatus.HOME

    asyncio.run(play())
