"""Tags: `PATCH`, the filter `tag=`, and events of the devices with a tag."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from netscand.core.annotations import annotations
from netscand.core.model import Event, EventKind
from netscand.serve.encode import Encoder, decoded, device_before, remembered
from netscand.serve.http import Refused
from netscand.serve.query import Filter, filter_of
from tests.serve.house import BOOT, House, house, mac

JSON = {"Content-Type": "application/json"}


async def patch(lan: House, number: int, **changes: object) -> tuple[int, object]:
    body = msgspec.json.encode(changes)
    path = f"/api/devices/{mac(number).hex(':')}"
    status, _, answer = await lan.ask("PATCH", path, body=body, headers=JSON)
    return status, answer["tags"] if status == 200 else answer["error"]["message"]


def test_tags_are_set_added_and_removed(tmp_path: Path) -> None:
    """In lower case, each once and in order."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            assert await patch(lan, 1, add_tags=["Media", "iot"]) == (200, ["iot", "media"])
            assert await patch(lan, 1, add_tags=["media", "küche"], remove_tags=["IOT", "x"]) == (
                200,
                ["küche", "media"],
            )
            assert await patch(lan, 1, tags=["b", "a"]) == (200, ["a", "b"])
            assert await patch(lan, 1, label="TV") == (200, ["a", "b"])
            assert await patch(lan, 1, tags=[]) == (200, [])
            assert annotations(lan.scanner.devices[mac(1)]) == {"label": "TV"}

    asyncio.run(play())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"add_tags": ["living room"]}, "add_tags[0]"),
        ({"add_tags": ["a,b"]}, "add_tags[0]"),
        ({"add_tags": ["-x"]}, "add_tags[0]"),
        ({"add_tags": ["tv", ""]}, "add_tags[1]: expected up to 32 characters without spaces or commas"),
        ({"tags": ["a\x1fb"]}, "tags[0]: expected up to 32 characters without spaces or commas, first a letter or"),
        ({"add_tags": ["x" * 33]}, "add_tags[0]: expected at most 32 characters, not 33"),
        ({"add_tags": ["new"], "remove_tags": ["NEW"]}, "add_tags and remove_tags: 'new' is in both"),
        ({"add_tags": [f"t{number}" for number in range(17)]}, "add_tags"),
    ],
)
def test_what_is_no_tag_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            status, text = await patch(lan, 1, **changes)
            assert status == 400
            assert message in str(text)
            assert lan.scanner.devices[mac(1)].tags == ()

    asyncio.run(play())


def test_a_tag_has_no_invisible_characters(tmp_path: Path) -> None:
    """FAULTS T8: two tags that look the same are one, and none turns the text around it."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            assert await patch(lan, 1, tags=["i\u200bot", "IoT", "iot\n", "a\u202eb"]) == (200, ["ab", "iot"])
            assert filter_of({"tag": "i\u200bot"}) == Filter(tag="iot")
            assert (await patch(lan, 1, tags=["\u0130" * 32]))[0] == 200
            assert all(len(tag) <= 32 for tag in lan.scanner.devices[mac(1)].tags)

    asyncio.run(play())


def test_a_device_has_at_most_16_tags(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            assert (await patch(lan, 1, tags=[f"t{number}" for number in range(16)]))[0] == 200
            assert await patch(lan, 1, add_tags=["more"]) == (
                400,
                "tags: a device has at most 16, not 17; remove some first",
            )
            assert (await patch(lan, 1, add_tags=["more"], remove_tags=["t0"]))[0] == 200
            await patch(lan, 2, tags=["other"])
            for method, path, body in (
                ("POST", "/merge", {"mac": mac(2).hex(":")}), ("PATCH", "", {"take_from": mac(2).hex(":")}),
            ):  # fmt: skip
                status, _, error = await lan.ask(
                    method, f"/api/devices/{mac(1).hex(':')}{path}", body=msgspec.json.encode(body), headers=JSON
                )
                assert (status, error["error"]["message"]) == (
                    400, "tags: a device has at most 16, not 17; remove some first",
                )  # fmt: skip

    asyncio.run(play())


def test_tags_of_both_devices_are_kept_by_take_from(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            await patch(lan, 1, tags=["new"])
            await patch(lan, 2, tags=["old"])
            assert await patch(lan, 1, take_from=mac(2).hex(":")) == (200, ["new", "old"])
            assert lan.scanner.devices[mac(2)].tags == ()

    asyncio.run(play())


def test_the_filter_tag_narrows_lists(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, devices=4) as lan:
            await patch(lan, 2, tags=["iot"])
            for query, found in (("tag=IoT", [mac(2)]), ("tag=tv", []), ("q=iot", [mac(2)])):
                _, headers, answer = await lan.ask("GET", f"/api/devices?{query}")
                assert [device["mac"] for device in answer["devices"]] == [one.hex(":") for one in found], query
                warning = None if found else 'no device has the tag "tv"; the tags are: iot'
                assert headers.get("Netscand-Warning") == warning

    asyncio.run(play())


def test_a_value_that_is_no_tag_is_refused_in_a_filter() -> None:
    assert filter_of({"tag": "IoT"}) == Filter(tag="iot")
    with pytest.raises(Refused, match=r"tag: expected up to 32 characters without spaces or commas, .*, not \"a b\""):
        filter_of({"tag": "a b"})


def test_an_event_shows_and_restores_tags(tmp_path: Path) -> None:
    """What a client needs to learn that a device left the filter, and a start what it was."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            await patch(lan, 1, tags=["a", "b"])
            device, encoder = lan.scanner.devices[mac(1)], Encoder(lambda: BOOT, lambda _: None)
            body = encoder.event(Event(EventKind.LABELLED, 1.0, None, device, previous={"tags": ("a",)}))
            event = decoded(body)
            before = device_before(event)
            assert event.device is not None
            assert before is not None
            assert (before.tags, event.device.tags) == (["a"], ["a", "b"])
            back = remembered(body)
            assert back is not None
            assert back.tags == ("a", "b")

    asyncio.run(play())
