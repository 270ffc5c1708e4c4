"""`/api` and `/healthz`."""

import asyncio
import json
import re
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from netscand import protocol
from netscand.core.annotations import annotations
from netscand.core.conflicts import Conflict
from netscand.core.model import Device, Mac, Status
from netscand.core.predecessor import MOST_CANDIDATES, Predecessor, predecessor
from netscand.core.ratelimit import LIMITING_FOR, NEWCOMERS, RENAMES
from netscand.serve import query, related, rest
from netscand.serve.http import HEADERS
from tests.serve.house import LAN, OTHER, House, house, mac

FROM_OTHERS = ("vendor_hint", "last_unsolicited", "probably_same_as")
MISSING = "00:00:5e:00:53:01"
JSON = {"Content-Type": "application/json"}


def ask(tmp_path: Path, method: str, path: str, **more: Any) -> tuple[int, Any]:  # noqa: ANN401
    """Send a request to a new server."""

    async def play() -> tuple[int, Any]:
        async with house(tmp_path) as lan:
            status, headers, body = await lan.ask(method, path, **more)
            assert all(headers[name] == value for name, value in HEADERS.items())
            assert headers["Content-Type"].startswith("application/json")
            assert not [name for name in headers if name.lower().startswith("access-control")]
            if status >= 400:
                assert set(body) == {"error"}
                assert set(body["error"]) == {"code", "message"}
            return status, body

    return asyncio.run(play())


def macs(answer: dict[str, Any]) -> list[str]:
    return [device["mac"] for device in answer["devices"]]


def test_devices_are_listed_by_mac_with_a_cursor(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, devices=0) as lan:
            for number in (7, 3, 5):
                lan.scanner.join(number)
            status, _, body = await lan.ask("GET", "/api/devices")
            assert status == 200
            assert (body["cursor"], body["last_scan"]) == ("k3f9-3", None)
            assert macs(body) == [mac(number).hex(":") for number in (3, 5, 7)]

    asyncio.run(play())


def test_a_kind_of_the_list_is_accepted_only(tmp_path: Path) -> None:
    """Programs choose an icon by the kind: a user cannot invent one; `null` removes the user's."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            path = f"/api/devices/{mac(1).hex(':')}"
            status, _, refused = await lan.ask("PATCH", path, body=b'{"kind": "aquarium"}', headers=JSON)
            assert (status, "aquarium" in refused["error"]["message"]) == (400, True)
            status, _, device = await lan.ask("PATCH", path, body=b'{"kind": "tv"}', headers=JSON)
            assert (status, device["kind"], device["kind_reason"]) == (200, "tv", "chosen by a user")
            status, _, device = await lan.ask("PATCH", path, body=b'{"kind": null}', headers=JSON)
            assert (status, "kind" in device) == (200, False)

    asyncio.run(play())


def test_only_a_single_device_shows_its_dhcp_client(tmp_path: Path) -> None:
    """A list of 65,533 devices omits it."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            lan.scanner.devices[mac(1)].dhcp_vendor_class = "android-dhcp-14"
            for number, told in ((0, None), (1, "android-dhcp-14")):
                for method, body in (("GET", None), ("PATCH", b'{"known": true}')):
                    path = f"/api/devices/{mac(number).hex(':')}"
                    status, _, device = await lan.ask(method, path, body=body, headers=JSON)
                    assert (status, device["dhcp_vendor_class"]) == (200, told)
            _, _, listed = await lan.ask("GET", "/api/devices")
            assert not [device for device in listed["devices"] if "dhcp_vendor_class" in device]

    asyncio.run(play())


def test_a_single_device_shows_what_others_show_about_it(tmp_path: Path) -> None:
    """FIELD cases 13, 14 and 20: when it last sent by itself, a probable vendor, and what it probably was before."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            devices, path = lan.scanner.devices, "/api/devices/3e:a6:2f:00:53:10"
            repeater, box = Mac(bytes.fromhex("3ea62f005310")), Mac(bytes.fromhex("3ca62f005301"))
            for number, other in ((5, repeater), (6, box)):
                lan.scanner.join(number)
                devices[other] = replace(devices[mac(number)], mac=other)
            lan.hub._encoder._vendor = lambda mac: "AVM" if mac[0] == 0x3C else None
            device = (await lan.ask("GET", path))[2]
            assert [device[name] for name in FROM_OTHERS] == [None, None, None]
            assert (device["randomized_mac"], device["vendor"]) == (True, None)
            devices[box].confirmed = True
            devices[repeater].last_unsolicited = devices[repeater].first_seen
            for number in (5, 1):
                devices[mac(number)].hostname = "unifi"
            devices[repeater].hostname = "unifi"
            lan.scanner.turn(5, Status.OFFLINE)
            device = (await lan.ask("GET", path))[2]
            assert device["vendor_hint"] == "AVM"
            assert device["last_unsolicited"] == device["first_seen"]
            reason = "same host name, and it has the address of that device"
            assert device["probably_same_as"] == {
                "mac": mac(5).hex(":"), "label": None, "reason": reason, "annotated": False,
            }  # fmt: skip
            devices[mac(5)].notes = "x"
            assert (await lan.ask("GET", path))[2]["probably_same_as"]["annotated"] is True
            _, _, listed = await lan.ask("GET", "/api/devices")
            assert not [each for each in listed["devices"] if FROM_OTHERS[0] in each]

    asyncio.run(play())


def test_of_thousands_with_one_name_the_latest_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing 5,000 held the loop for 0.1 s. Those that were there later than the device are none of them."""
    compared: list[int] = []

    def count(device: Device, others: Iterable[Device]) -> Predecessor | None:
        compared.append(len(found := list(others)))
        return predecessor(device, found)

    async def play() -> None:
        async with house(tmp_path, devices=1) as lan:
            devices, new = lan.scanner.devices, lan.scanner.devices[mac(0)]
            new.hostname = "iphone"
            old = replace(new, status=Status.OFFLINE)
            for number in range(1_000, 3_000):
                seen = new.first_seen + (1_500 - number)  # no rounding: one of them is exact
                devices[mac(number)] = replace(old, mac=mac(number), first_seen=seen, last_seen=seen)
            _, _, device = await lan.ask("GET", f"/api/devices/{mac(0).hex(':')}")
            assert device["probably_same_as"]["mac"] == mac(1_500).hex(":")

    monkeypatch.setattr(related, "predecessor", count)
    asyncio.run(play())
    assert compared == [MOST_CANDIDATES]


def test_conflicts_are_in_every_view_of_the_state(tmp_path: Path) -> None:
    """Status, list and both devices; status has a few and a count, and is not degraded: netscand is well."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            one, two, other = (lan.scanner.devices[mac(number)] for number in range(3))
            address = one.addresses[0]
            lan.scanner.conflicting = [Conflict(address.network, address.ip, one, two, one.first_seen)] * 6
            found = {
                "address": "10.0.0.10",
                "network": LAN,
                "macs": [one.mac.hex(":"), two.mac.hex(":")],
                "since": (await lan.ask("GET", f"/api/devices/{one.mac.hex(':')}"))[2]["first_seen"],
            }
            _, _, status = await lan.ask("GET", "/api/status")
            assert (status["status"], status["problems"]) == ("ok", [])
            assert (status["conflicts"], status["conflict_count"]) == ([found] * 4, 6)
            _, _, listed = await lan.ask("GET", "/api/devices")
            assert listed["conflicts"] == [found] * 6
            assert not [device for device in listed["devices"] if "conflicts" in device]
            for device, times in ((one, 6), (two, 6), (other, 0)):
                _, _, shown = await lan.ask("GET", f"/api/devices/{device.mac.hex(':')}")
                assert shown["conflicts"] == [found] * times

    asyncio.run(play())


@pytest.mark.parametrize(
    ("take_from", "code"), [(MISSING, 404), (mac(1).hex(":"), 400), ("nonsense", 400), (None, 400)]
)
def test_annotations_are_taken_from_another_device(tmp_path: Path, take_from: str | None, code: int) -> None:
    """FIELD case 13: on a user's request only, and never half."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            old, path = lan.scanner.devices[mac(2)], f"/api/devices/{mac(1).hex(':')}"
            lan.scanner.label(mac(2), {"label": "Unifi", "known": True, "patience": 99.0})
            bad = msgspec.json.encode({"take_from": take_from, "notes": "x"})
            assert (await lan.ask("PATCH", path, body=bad, headers=JSON))[0] == code
            assert old.label == "Unifi"
            good = msgspec.json.encode({"take_from": mac(2).hex("-"), "notes": "x"})
            status, _, device = await lan.ask("PATCH", path, body=good, headers=JSON)
            assert status == 200
            assert (device["label"], device["known"], device["notes"], device["patience"]) == ("Unifi", True, "x", 99)
            assert annotations(old) == {}

    asyncio.run(play())


def test_status_network_text_limit_and_after_narrow_the_list(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, devices=10) as lan:
            lan.scanner.join(20, OTHER)
            for number in (1, 2, 3):
                lan.scanner.turn(number, Status.OFFLINE)

            async def numbers(query: str) -> list[int]:
                status, _, body = await lan.ask("GET", f"/api/devices{query}")
                assert status == 200, body
                return [int(text[-2:], 16) for text in macs(body)]

            assert await numbers("?status=offline") == [1, 2, 3]
            assert await numbers("?status=offline&limit=2") == [1, 2]
            assert await numbers(f"?status=offline&limit=2&after={mac(2).hex('-').upper()}") == [3]
            assert await numbers("?status=unknown") == []
            assert await numbers(f"?network={OTHER}") == [20]
            assert await numbers("?network=10.9.0.0/24@nowhere") == []
            lan.scanner.devices[mac(3)].known = True
            assert await numbers("?known=true") == [3]
            assert await numbers("?known=false&status=offline") == [1, 2]
            assert await numbers("?ip=10.0.0.15") == [5]
            assert await numbers("?q=10.0.0.15") == [5]
            assert await numbers(f"?network={LAN}&q=a4:83&limit=4&after={mac(5).hex(':')}") == [6, 7, 8, 9]

    asyncio.run(play())


def test_pages_of_a_limit_are_the_whole_list(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, devices=23) as lan:
            pages, after = [], ""
            while True:
                _, _, body = await lan.ask("GET", f"/api/devices?limit=5{after}")
                if not body["devices"]:
                    break
                pages += macs(body)
                after = f"&after={pages[-1]}"
            assert pages == [mac(number).hex(":") for number in range(23)]

    asyncio.run(play())


@pytest.mark.parametrize("limit", ["", "?limit=1700"])
def test_a_long_list_is_streamed_and_whole(tmp_path: Path, limit: str) -> None:
    async def play() -> None:
        async with house(tmp_path, devices=2000) as lan:
            status, headers, body = await lan.ask("GET", f"/api/devices{limit}")
            assert status == 200
            assert headers["Transfer-Encoding"] == "chunked"
            assert macs(body) == [mac(number).hex(":") for number in range(1700 if limit else 2000)]

    asyncio.run(play())


def test_a_list_whose_client_disconnects_ends_quietly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with house(tmp_path, devices=5000) as lan:
            reader, writer = await asyncio.open_unix_connection(str(lan.path))
            writer.write(b"GET /api/devices HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readexactly(1000)
            writer.transport.abort()
            async with asyncio.timeout(30):
                while lan.hub._snapshots or lan.server._limiter.connections:
                    await asyncio.sleep(0.01)

    asyncio.run(play())
    assert not caplog.records


def test_a_client_that_does_not_read_its_list_is_aborted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS T16."""
    monkeypatch.setattr(rest, "SLOW", 0.3)

    async def play() -> None:
        async with house(tmp_path, devices=5000) as lan:
            reader, writer = await asyncio.open_unix_connection(str(lan.path), limit=2**10)
            writer.write(b"GET /api/devices HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readexactly(10)
            async with asyncio.timeout(30):
                while lan.server._limiter.connections:
                    await asyncio.sleep(0.01)
            writer.close()

    asyncio.run(play())


def test_one_device_is_found_by_its_mac(tmp_path: Path) -> None:
    assert ask(tmp_path, "GET", "/api/devices/A4-83-00-00-00-01")[1]["ip"] == "10.0.0.11"
    status, body = ask(tmp_path, "GET", "/api/devices/aa:bb:cc:dd:ee:ff")
    assert (status, body["error"]) == (404, {"code": "not_found", "message": "no device aa:bb:cc:dd:ee:ff"})
    for group in ("01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"):
        for method, changes in (("GET", {}), ("PATCH", {"body": b'{"label": "x"}', "headers": JSON})):
            status, body = ask(tmp_path, method, f"/api/devices/{group}", **changes)
            message = f"{group} is not the address of one device (multicast, or zero)"
            assert (status, body["error"]) == (404, {"code": "not_found", "message": message})


def test_a_person_gets_no_device_that_was_never_seen(tmp_path: Path) -> None:
    body = b'{"add": [{"mac": "aa:bb:cc:dd:ee:ff"}]}'
    status, answer = ask(tmp_path, "PATCH", "/api/people/Jane", body=body, headers=JSON)
    message = "no device aa:bb:cc:dd:ee:ff; a device that was not seen yet needs a label first"
    assert (status, answer["error"]) == (404, {"code": "not_found", "message": message})


def test_networks_show_why_and_how_they_are_scanned(tmp_path: Path) -> None:
    status, body = ask(tmp_path, "GET", "/api/networks")
    assert status == 200
    first = body["networks"][0]
    assert set(first) == set(protocol.Network.__struct_fields__) - {"site"}
    assert (first["id"], first["gateway"], first["why"], first["online"]) == (LAN, "10.0.0.1", "Ethernet", 3)


def test_status_has_health_load_and_version(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws():
            status, _, body = await lan.ask("GET", "/api/status")
            assert status == 200
            assert set(body) == set(protocol.DaemonStatus.__struct_fields__)
            assert (body["status"], body["problems"], body["clients"], body["role"]) == ("ok", [], 1, "admin")
            counted = {"received": 1, "dropped": 2, "ignored": 8, "broadcast": 3, "unicast": 4, "send_errors": 5}
            assert body["frames"] == counted
            assert body["memory_mib"] > 1
            assert body["limits"] == []
            budgets, now = lan.scanner.budgets, time.monotonic()
            budgets.refuse(RENAMES, now - LIMITING_FOR)
            for _ in range(2):
                budgets.refuse(NEWCOMERS, now)
            _, _, body = await lan.ask("GET", "/api/status")
            assert body["limits"] == [
                {"name": "newcomers", "refused": 2, "limiting": True},
                {"name": "renames", "refused": 1, "limiting": False},
            ]
            lan.scanner.troubles = ("the disk is full",)
            _, _, body = await lan.ask("GET", "/api/status")
            assert (body["status"], body["problems"]) == ("degraded", ["the disk is full"])
            assert (await lan.ask("GET", "/healthz"))[2] == {"status": "degraded"}

    asyncio.run(play())


def test_healthz_is_503_while_starting_and_stopping(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            assert (await lan.ask("GET", "/healthz"))[::2] == (200, {"status": "ok"})
            lan.server.serving = False
            status, _, body = await lan.ask("GET", "/healthz")
            assert (status, body["error"]["code"]) == (503, "busy")

    asyncio.run(play())


@pytest.mark.parametrize("body", [None, b"{}", b'{"targets": []}'])
def test_a_scan_is_accepted_with_its_id(tmp_path: Path, body: bytes | None) -> None:
    status, answer = ask(tmp_path, "POST", "/api/scan", body=body, headers=JSON if body else None)
    assert (status, answer) == (202, {"scan_id": 42})


def test_a_scan_that_is_waited_for_answers_with_what_it_found(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, devices=5) as lan, asyncio.TaskGroup() as tasks:
            wish = json.dumps({"targets": ["10.0.0.0/24"]}).encode()
            asking = [tasks.create_task(lan.ask("POST", "/api/scan?wait=1", body=wish, headers=JSON)) for _ in range(2)]
            while len(lan.scanner.requested) < 2:
                await asyncio.sleep(0.01)
            lan.scanner.finish(42, [mac(4), mac(1), mac(99)])
            lan.scanner.finish(43)
            (one, _, first), (two, _, second) = sorted(
                [await asked for asked in asking], key=lambda answer: -len(answer[2]["devices"])
            )
            assert one == two == 200
            assert (first["type"], first["scan_id"], first["online"]) == ("scan_update", 42, 5)
            assert first["frames"] == {"broadcast": 237, "unicast": 17}
            assert macs(first) == [mac(1).hex(":"), mac(4).hex(":")]
            assert second["devices"] == []
            assert lan.scanner.requested == [("10.0.0.0/24",)] * 2

    asyncio.run(play())


def test_a_scan_without_an_end_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS F33: it continues, as one that no connection waits for."""
    monkeypatch.setattr(rest, "LONGEST_SCAN", 0.1)

    async def play() -> None:
        async with house(tmp_path) as lan, asyncio.timeout(30):
            assert (await lan.ask("POST", "/api/scan?wait=1"))[::2] == (202, {"scan_id": 42})
            assert not lan.hub._waiting
            assert not lan.scanner.left

    asyncio.run(play())


def test_a_client_that_leaves_while_waiting_leaves_no_state(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            _, writer = await asyncio.open_unix_connection(str(lan.path))
            writer.write(b"POST /api/scan?wait=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            while not lan.hub._waiting:
                await asyncio.sleep(0.01)
            assert not lan.scanner.left
            writer.close()
            async with asyncio.timeout(30):
                while lan.hub._waiting or not lan.scanner.left:  # FIELD x3: its long scan ends with it
                    await asyncio.sleep(0.01)
            assert None not in lan.scanner.left

    asyncio.run(play())


def test_a_target_that_is_not_scanned_is_400_with_a_reason(tmp_path: Path) -> None:
    status, body = ask(tmp_path, "POST", "/api/scan", body=b'{"targets": ["203.0.113.1"]}', headers=JSON)
    assert (status, body["error"]["message"]) == (400, "203.0.113.1: not within a scanned network")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_a_body_that_is_not_json_is_415(tmp_path: Path, kind: str | None) -> None:
    """FAULTS T4: a form of another site's page can change nothing."""
    headers = {"Content-Type": kind} if kind else None
    for body in (b'{"targets": []}', b"") if kind else (b'{"targets": []}',):
        assert ask(tmp_path, "POST", "/api/scan", body=body, headers=headers)[0] == 415
    assert ask(tmp_path, "PATCH", f"/api/devices/{mac(1).hex(':')}", body=b'{"label": "x"}', headers=headers)[0] == 415


def test_changes_of_a_device_are_limited_for_each_account(tmp_path: Path) -> None:
    """FAULTS T57: then once a minute; a request without a change is not counted; each device has its own limit."""

    async def play() -> None:
        async with house(tmp_path) as lan:

            async def label(number: int, text: str) -> int:
                body = json.dumps({"label": text}).encode()
                status, _, answer = await lan.ask(
                    "PATCH", f"/api/devices/{mac(number).hex(':')}", body=body, headers=JSON
                )
                assert status == 200 or "try again in 60 s" in answer["error"]["message"]
                return status

            for _ in range(30):
                assert await label(1, "the same") == 200
            assert [await label(1, f"{number}") for number in range(20)] == [200] * 19 + [503]
            assert await label(2, "another") == 200
            _, _, status = await lan.ask("GET", "/api/status")
            assert {"name": "annotations", "refused": 1, "limiting": True} in status["limits"]

    asyncio.run(play())


HOSTILE_BODIES = {
    "no JSON": b"{",
    "a list": b"[]",
    "a wrong type": b'{"targets": "x"}',
    "a number": b'{"targets": [1]}',
    "30,000 deep": b'{"targets": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "deep in what is unknown": b'{"x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "60,000 digits": b'{"targets": [' + b"9" * 60_000 + b"]}",
    "NaN": b'{"targets": [NaN]}',
    "half a surrogate": b'{"targets": ["\\ud800"]}',
    "no UTF-8": b'{"targets": ["\xff"]}',
    "UTF-16": '{"targets": []}'.encode("utf-16"),
}


@pytest.mark.parametrize("body", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES.keys())
def test_a_hostile_body_is_400(tmp_path: Path, body: bytes) -> None:
    """FAULTS T15."""
    assert ask(tmp_path, "POST", "/api/scan", body=body, headers=JSON)[0] == 400


@pytest.mark.parametrize(("size", "expected"), [(protocol.MAX_MESSAGE, 400), (protocol.MAX_MESSAGE + 1, 413)])
def test_a_body_of_64_kib_is_read_and_one_byte_more_is_413(tmp_path: Path, size: int, expected: int) -> None:
    """FAULTS T14, T15: size first."""
    assert ask(tmp_path, "POST", "/api/scan", body=b"x" * size, headers=JSON)[0] == expected


def test_a_compressed_body_is_not_unpacked(tmp_path: Path) -> None:
    """FAULTS T14: no decompression bombs."""
    packed = bytes.fromhex("1f8b0800000000000003abae05004 3bfa6a3 02000000".replace(" ", ""))
    headers = {**JSON, "Content-Encoding": "gzip"}
    assert ask(tmp_path, "POST", "/api/scan", body=packed, headers=headers)[0] == 400


def test_a_body_that_does_not_arrive_is_408(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS T16."""
    monkeypatch.setattr(query, "SLOW", 0.2)

    async def play() -> None:
        async with house(tmp_path) as lan:
            head = b"POST /api/scan HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
            answer = await lan.raw(head, tcp=False)
            assert answer.startswith(b"HTTP/1.1 408")

    asyncio.run(play())


@pytest.mark.parametrize(
    "path",
    [
        "/healthz?x=1", "/api/devices?x=1", "/api/devices/a4:83:00:00:00:01?x=1", "/api/networks?x=1",
        "/api/status?x=1",
        "/api/devices?status=here", "/api/devices?limit=0", "/api/devices?limit=-1", "/api/devices?limit=1e3",
        "/api/devices?limit=%D9%A1", "/api/devices?limit=99999999999", "/api/devices?after=x", "/api/devices?token=x",
        "/api/devices/x", "/api/devices?status=online&status=online",
    ],
)  # fmt: skip
def test_an_invalid_request_is_400(tmp_path: Path, path: str) -> None:
    assert ask(tmp_path, "GET", path)[0] == 400


@pytest.mark.parametrize("path", ["/apis", "/nope", "/api/devices/", "/ws/", "/api/devices/a/b"])
def test_an_unknown_device_or_path_is_404(tmp_path: Path, path: str) -> None:
    assert ask(tmp_path, "GET", path)[0] == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/api/devices", "/api/scan", "/ws"])
def test_other_methods_are_405_and_say_which_are_allowed(tmp_path: Path, method: str, path: str) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            status, headers, _ = await lan.ask(method, path)
            assert status == 405
            assert headers["Allow"]

    asyncio.run(play())


def test_get_and_head_change_nothing(tmp_path: Path) -> None:
    """FAULTS T4."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            assert (await lan.ask("GET", "/api/scan"))[0] == 405
            for path in ("/healthz", "/api/devices", "/api/networks", "/api/status"):
                _, _, first = await lan.ask("GET", path)
                status, headers, body = await lan.ask("HEAD", path)
                assert (status, body) == (200, None)
                assert int(headers["Content-Length"]) > 2
                _, _, again = await lan.ask("GET", path)
                assert set(first) == set(again)
            assert lan.scanner.requested == []
            assert lan.scanner.sequence == 0

    asyncio.run(play())


def test_head_of_a_long_list_has_no_body(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, devices=3000) as lan:
            answer = await lan.raw(b"HEAD /api/devices HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", tcp=False)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert body == b""

    asyncio.run(play())


TEXT = st.text(st.characters(exclude_categories=()), max_size=50).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)


@pytest.mark.slow
@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    target=st.lists(st.binary(max_size=30) | TEXT, max_size=4).map(b"/".join),
    query=st.dictionaries(st.sampled_from([b"q", b"network", b"status", b"limit", b"after", b"wait"]), TEXT),
)
@example(target=b"api/devices/%2e%2e%2f%2e%2e%2fetc%2fpasswd", query={})
@example(target=b"api/devices/..%00", query={})
@example(target=b"api/devices", query={b"q": b"x" * 7000})
@example(target=b"api/devices/" + b"x" * 8000, query={})
@example(target=b"api/devices", query={b"q": b"\x00%00%ff%ed%a0%80"})
def test_nothing_a_client_sends_is_a_500(tmp_path: Path, target: bytes, query: dict[bytes, bytes]) -> None:
    def quoted(text: bytes) -> bytes:
        return re.sub(rb"[\x00-\x20\x7f-\xff#?&]", lambda found: b"%%%02x" % found[0][0], text)

    line = b"/" + quoted(target) + b"?" + b"&".join(name + b"=" + quoted(value) for name, value in query.items())

    async def play() -> None:
        async with house(tmp_path) as lan:
            answer = await lan.raw(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % line, tcp=False)
            assert re.match(rb"HTTP/1.[01] (200|400|404|405) ", answer), answer

    asyncio.run(play())


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", b"GET //[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\x00: y\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: \xff\xfe\r\n\r\n",
    ],
)  # fmt: skip
def test_invalid_http_gets_our_error_and_no_log_entry(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            answer = await stubborn(lan, raw)
            if answer:
                assert re.match(rb"HTTP/1.[01] 4\d\d ", answer), answer
                head, _, body = answer.partition(b"\r\n\r\n")
                assert set(json.loads(body)) == {"error"}
                assert b"nosniff" in head
            status, _, _ = await lan.ask("GET", "/healthz")
            assert status == 200

    asyncio.run(play())
    assert not caplog.records


async def stubborn(lan: House, raw: bytes) -> bytes:
    """Return the answer to bytes that are then closed."""
    reader, writer = await asyncio.open_unix_connection(str(lan.path))
    writer.write(raw)
    writer.write_eof()
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
