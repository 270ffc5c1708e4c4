"""What the server does not know is refused, not ignored; and lists say that they go on."""

import asyncio
import json
from collections.abc import ValuesView
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from netscand import protocol
from netscand.core.model import Device, Mac
from netscand.serve.encode import Encoder
from netscand.serve.fair_turns import FairTurns
from netscand.serve.hub import Hub
from netscand.serve.related import Labels
from tests.serve.house import BOOT, FakeScanner, House, house, mac, receive, receive_all

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [("PATCH", f"/api/devices/{mac(1).hex(':')}", {"lable": "x"},
       'invalid device update: unknown field "lable"; expected label, known, notes, patience, kind, take_from, tags, '
      "add_tags, remove_tags, not_same_as"),
     ("PATCH", f"/api/devices/{mac(1).hex(':')}", {"label": "x" * 129},
      f'invalid device update: label: expected at most 128 characters, not 129; shorten "{"x" * 58}…'),
     ("POST", "/api/scan", {"target": ["10.0.0.7"]},
      'invalid scan request: unknown field "target"; expected targets, site')],
    ids=["PATCH", "long label", "scan"],
)  # fmt: skip
def test_an_unknown_field_of_a_body_is_refused(
    tmp_path: Path, method: str, path: str, body: dict[str, Any], message: str
) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            status, _, answer = await lan.ask(method, path, body=json.dumps(body).encode(), headers=JSON)
            assert (status, answer["error"]["message"]) == (400, message)
            assert lan.scanner.requested == []

    asyncio.run(play())


@pytest.mark.parametrize("mode", ["changes", "full"])
def test_an_unknown_field_of_a_message_is_refused(tmp_path: Path, mode: str) -> None:
    """In the `full` mode, only who sends a `request` gets the error."""

    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws(f"?updates={mode}") as client:
            await receive(client)
            await client.send('{"type": "scan_now", "target": ["10.0.0.7"], "request": "r"}')
            message = 'invalid message: unknown field "target"; expected targets, request, site'
            assert await receive(client) == protocol.Error(code="bad_request", message=message, request="r")
            await client.send('{"type": "set_interval", "second": 5, "seconds": 5, "request": "r"}')
            message = 'invalid message: unknown field "second"; expected seconds, request'
            assert await receive(client) == protocol.Error(code="bad_request", message=message, request="r")
            assert (lan.scanner.requested, lan.scanner.leases) == ([], {})

    asyncio.run(play())


def test_a_client_of_the_push_document_is_not_disturbed(tmp_path: Path) -> None:
    """Without a `request` it cannot get an error: its scan is not lost for a field that it sends besides."""

    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws("") as client:
            await receive(client)
            for text in ('{"type": "scan_now", "timestamp": 7}', '{"type": "scan", "x": 1}', '["scan_now"]', "scan_now",
                         '{"type": "scan_now", "targets": 1, "x": 1}'):  # fmt: skip
                await client.send(text)
            assert await receive_all(client) == []
            assert lan.scanner.requested == [()]

    asyncio.run(play())


@pytest.mark.parametrize(
    "query",
    [
        "since=abc",
        "since=99",
        "since=k3f9",
        "since=2026-11-23T10:00:00Z",
        f"since={'x' * 5000}",
        "network=nothere",
        "network=10.0.0.0",
        "known=yes",
        "ip=10.0.0.7",
    ],
)
@pytest.mark.parametrize("mode", ["changes", "full"])
def test_an_invalid_parameter_of_a_stream_is_refused(tmp_path: Path, mode: str, query: str) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            with pytest.raises(InvalidStatus) as refused:
                async with lan.ws(f"?updates={mode}&{query}"):
                    pass
            assert refused.value.response.status_code == 400

    asyncio.run(play())


def test_a_network_that_does_not_exist_yet_is_accepted(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            for network in ("10.9.0.0/24@eth9", "10.9.0.0/24"):
                async with lan.ws(f"?updates=changes&network={network}") as client:
                    first = await receive(client)
                    assert isinstance(first, protocol.InitialState)
                    assert first.devices == []

    asyncio.run(play())


def test_a_stream_can_be_of_known_devices(tmp_path: Path) -> None:
    """A device that becomes known is an event for both: one must learn that it came, the other that it left."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            lan.scanner.devices[mac(2)].known = True
            async with lan.ws("?updates=changes&known=true") as known, lan.ws("?updates=changes&known=false") as others:
                for client, numbers in ((known, [2]), (others, [0, 1])):
                    first = await receive(client)
                    assert isinstance(first, protocol.InitialState)
                    assert [device.mac for device in first.devices] == [mac(number).hex(":") for number in numbers]
                lan.scanner.label(mac(0), {"known": True})
                for client in (known, others):
                    event = await receive(client)
                    assert isinstance(event, protocol.Event)
                    assert (event.kind, event.previous) == ("labelled", {"known": False})
                lan.scanner.label(mac(2), {"notes": "x"})
                assert len(await receive_all(known, least=1)) == 1
                assert await receive_all(others) == []

    asyncio.run(play())


def test_a_list_of_devices_says_that_there_are_more(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, devices=230) as lan:
            lan.scanner.devices[mac(7)].known = lan.scanner.devices[mac(229)].known = True
            for query, count, more in (
                ("", 230, False), ("limit=229", 229, True), ("limit=230", 230, False), ("limit=231", 230, False),
                (f"limit=100&after={mac(130).hex(':')}", 99, False), ("limit=1", 1, True),
                ("limit=1&known=true", 1, True), ("limit=2&known=true", 2, False),
                (f"limit=1&known=true&after={mac(7).hex(':')}", 1, False),
            ):  # fmt: skip
                _, _, body = await lan.ask("GET", f"/api/devices?{query}")
                assert (len(body["devices"]), body["more"]) == (count, more), query

    asyncio.run(play())


async def patch(lan: House, number: int, **update: object) -> list[str] | None:
    """Change a device; return the warnings."""
    body = json.dumps(update).encode()
    status, _, answer = await lan.ask("PATCH", f"/api/devices/{mac(number).hex(':')}", body=body, headers=JSON)
    assert status == 200
    warnings: list[str] | None = answer.get("warnings")
    return warnings


def test_a_label_of_two_devices_is_a_warning(tmp_path: Path) -> None:
    """By that label, commands find neither."""

    async def play() -> None:
        async with house(tmp_path, devices=1_500) as lan:
            assert await patch(lan, 1, label="Raspi") is None
            assert await patch(lan, 1, label="Raspi", known=True) is None
            macs = mac(1).hex(":")
            expected = 'label: "raspi" is also the label of {}; use MAC addresses in commands'
            assert await patch(lan, 1_400, label="raspi") == [expected.format(macs)]
            assert await patch(lan, 1_400, notes="x") is None
            for number in (3, 4, 5):
                await patch(lan, number, label="RASPI")
            macs = f"{', '.join(mac(number).hex(':') for number in (1, 3, 4, 5))}, …"
            assert await patch(lan, 6, label="RASPI") == [expected.replace("raspi", "RASPI").format(macs)]
            assert await patch(lan, 6, label=None) is None

    asyncio.run(play())


def test_many_labels_need_one_look_at_all_devices() -> None:
    """An import of 10,000 labels would look at 100 million; other events than its own make it look again."""

    class Counted(dict[Mac, Device]):
        looks = 0

        def values(self) -> ValuesView[Device]:  # type: ignore[override]  # dict_values is private
            Counted.looks += 1
            return super().values()

    async def play() -> None:
        scanner = FakeScanner(Hub(Encoder(lambda: BOOT, lambda of: None)), 50)
        devices, labels, turns = Counted(scanner.devices), Labels(), FairTurns()

        async def label(number: int, text: str | None, before: str, cursor: str) -> list[Mac]:
            device = devices[mac(number)]
            old, device.label = device.label, text
            labels.moved(device, old, before, cursor)
            return [other.mac for other in await labels.others(device, devices, cursor, turns, "x")]

        assert await label(1, "nas", "a-0", "a-1") == []
        assert await label(2, "NAS", "a-1", "a-2") == [mac(1)]
        assert await label(1, "tv", "a-2", "a-3") == []
        assert await label(3, "nas", "a-3", "a-4") == [mac(2)]
        assert Counted.looks == 1
        devices[mac(9)].label = "nas"  # by an event that was not ours: a-5
        assert await label(4, "nas", "a-5", "a-6") == [mac(2), mac(3), mac(9)]
        assert Counted.looks == 2

    asyncio.run(play())


def test_a_client_may_want_only_the_outcome(tmp_path: Path) -> None:
    """`Prefer: return=minimal`: the change is made, warnings are there, and no other device was looked at."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            path, body = f"/api/devices/{mac(1).hex(':')}", b'{"label": "TV"}'
            whole = (await lan.ask("PATCH", path, body=b'{"known": true}', headers=JSON))[2]
            assert "probably_same_as" in whole
            for wanted in ("return=minimal", "respond-async, Return=Minimal"):
                answer = (await lan.ask("PATCH", path, body=body, headers=JSON | {"Prefer": wanted}))[2]
                assert (answer["label"], answer["known"], "probably_same_as" in answer) == ("TV", True, False)
            await patch(lan, 2, label="TV")
            answer = (await lan.ask("PATCH", path, body=body, headers=JSON | {"Prefer": "return=minimal"}))[2]
            assert answer["warnings"] == [
                f'label: "TV" is also the label of {mac(2).hex(":")}; use MAC addresses in commands'
            ]

    asyncio.run(play())


@pytest.mark.parametrize(
    ("label", "now"),
    [("x\ty\nz", 'it is now "xyz"'), ("\u202eevil", 'it is now "evil"'),
     ("\u200b", "nothing is left, so it was removed"),
     ("\U0001f468\u200d\U0001f467", 'it is now "\U0001f468\U0001f467"'), (" Ku\u0308che ", None), ("", None)],
)  # fmt: skip
def test_a_label_that_is_cleaned_is_a_warning(tmp_path: Path, label: str, now: str | None) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            message = f"label: control and invisible characters were removed; {now}"
            assert await patch(lan, 1, label=label) == (None if now is None else [message])

    asyncio.run(play())
