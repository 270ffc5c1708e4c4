"""The account that loses a WebSocket when `max_clients` is reached (FAULTS T16)."""

import asyncio
from collections import Counter
from pathlib import Path

from tests.serve.house import House, handshake, house
from tests.serve.test_auth import acting_as
from tests.serve.test_connection import settled

TRY_AGAIN_LATER = b"\x03\xf5"
"""1013, as in a close frame."""


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def came(lan: House, uid: int, count: int) -> list[Connection]:
    """Open WebSockets of a user on loopback; return those that were accepted."""
    found = []
    for _ in range(count):
        with acting_as(uid, uid):
            reader, writer = await asyncio.open_connection("127.0.0.1", lan.port)
        writer.write(handshake("/ws?updates=changes", f"localhost:{lan.port}"))
        async with asyncio.timeout(30):
            answer = await reader.readuntil(b"\r\n\r\n")
        if answer.startswith(b"HTTP/1.1 101 "):
            found.append((reader, writer))
        else:
            assert answer.startswith(b"HTTP/1.1 503 ")
            writer.close()
    return found


def held(lan: House) -> Counter[object]:
    """Return the number of WebSockets by uid."""
    return Counter(connection.peer.key[1] for connection in lan.server._live._open)  # type: ignore[index]


def test_a_few_accounts_do_not_take_all_websockets(root: None, tmp_path: Path) -> None:
    """The account with the most loses its newest to one with fewer, until they are equal."""

    async def play() -> None:
        async with house(tmp_path, listen={"max_clients": 8}) as lan:
            first, second = await came(lan, 2001, 4), await came(lan, 2002, 4)
            assert (len(first), len(second)) == (4, 4)
            third = await came(lan, 2003, 4)
            assert len(third) == 2
            assert held(lan) == {2001: 3, 2002: 3, 2003: 2}
            async with asyncio.timeout(30):
                assert TRY_AGAIN_LATER in await first[-1][0].read()
            assert not await came(lan, 2001, 3)
            fourth = await came(lan, 2004, 1)
            assert len(fourth) == 1
            assert held(lan) in ({2001: 2, 2002: 3, 2003: 2, 2004: 1}, {2001: 3, 2002: 2, 2003: 2, 2004: 1})
            await settled(lambda: lan.server._live._taken == 8)
            for _, writer in (*first, *second, *third, *fourth):
                writer.close()

    asyncio.run(play())
