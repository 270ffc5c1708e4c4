"""`/api/suggestions`: devices that are probably one; and a user's word that two are not."""

import asyncio
from pathlib import Path

import msgspec

from netscand.serve.encode import decoded, remembered
from tests.serve.house import House, house, mac
from tests.serve.test_tags import JSON


def text(number: int) -> str:
    return mac(number).hex(":")


async def listed(lan: House) -> tuple[list[str], list[str]]:
    _, _, answer = await lan.ask("GET", "/api/suggestions")
    return tuple([each["mac"] for each in answer[name]] for name in ("suggestions", "dismissed"))  # type: ignore[return-value]


async def patch(lan: House, number: int, *others: str) -> tuple[int, object]:
    body = msgspec.json.encode({"not_same_as": others})
    status, _, answer = await lan.ask("PATCH", f"/api/devices/{text(number)}", body=body, headers=JSON)
    return status, answer.get("not_same_as", []) if status == 200 else answer["error"]["message"]


def test_a_suggestion_is_dismissed_and_the_undo_brings_it_back(tmp_path: Path) -> None:
    """By a change of either of the two devices, which its event shows."""

    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws("?updates=changes") as client:
            for number in (1, 2):
                lan.scanner.devices[mac(number)].dhcp_client_id = b"\0\1\0\1duid"
            assert await listed(lan) == ([text(2)], [])
            for number, other in ((1, 2), (2, 1)):
                assert await patch(lan, number, text(other).upper()) == (200, [text(other)])
                assert await listed(lan) == ([], [text(other)])  # the annotated one stays
                body = b""
                while b'"labelled"' not in body:
                    received = await client.recv()
                    body = received.encode() if isinstance(received, str) else received
                back = remembered(body)
                assert back is not None
                assert back.not_same_as == (mac(other),)
                assert (decoded(body).previous or {}) == {"not_same_as": []}
                assert await patch(lan, number) == (200, [])
                assert await listed(lan) == ([text(2)], [])
                await client.recv()

    asyncio.run(play())


def test_what_is_no_mac_is_refused(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            status, message = await patch(lan, 1, "x")
            assert status == 400
            assert "not_same_as[0]" in str(message)
            assert (await patch(lan, 1, *(text(number) for number in range(2, 19))))[0] == 400
            assert await patch(lan, 1, text(1)) == (200, [])  # itself

    asyncio.run(play())
