"""`GET /api/settings`: the configuration in force, without secrets, for admins."""

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from netscand import config
from tests.serve.house import house


async def settings_of(path: Path, file: config.Config | None = None, **access: Any) -> tuple[int, Any]:  # noqa: ANN401
    """Return the answer of a server."""
    async with house(path, access=access) as lan:
        if file is not None:
            lan.server.configuration = lambda: file
        status, _, answer = await lan.ask("GET", "/api/settings")
        return status, answer


def test_every_key_is_there_with_its_default(tmp_path: Path) -> None:
    """In the order of the tables; of each [[network]] too."""
    text = """
    [scan]
    interval = 7
    [[network]]
    cidr = "10.0.0.0/24"
    patience = [20, 40]
    """
    file = msgspec.convert(tomllib.loads(text), config.Config)
    status, answer = asyncio.run(settings_of(tmp_path, file))
    found = {(each["table"], each["key"]): (each["value"], each["default"]) for each in answer["settings"]}
    assert status == 200
    assert found["[scan]", "interval"] == (7, 30)
    assert found["[scan]", "tries"] == (3, 3)
    assert found["[[network]] 10.0.0.0/24", "patience"] == ([20, 40], None)
    assert found["[listen]", "tls_key"] == (None, None)
    for table in msgspec.structs.fields(config.Config):
        if table.name != "network":
            keys = [key.name for key in msgspec.structs.fields(table.type)]
            assert [key for heading, key in found if heading == f"[{table.name}]"] == keys


def test_only_an_admin_reads_them(tmp_path: Path) -> None:
    """The role scan, on loopback, is refused in words."""

    async def play() -> bytes:
        async with house(tmp_path) as lan:
            host = f"127.0.0.1:{lan.port}"
            request = f"GET /api/settings HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            return await lan.raw(request.encode())

    answer = asyncio.run(play())
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"reading the settings requires role" in answer


def test_a_token_is_not_in_them(tmp_path: Path) -> None:
    """The path of its file is."""
    file = tmp_path / "tokens"
    file.write_text("admin " + "secret-0123456789-abcdefghijklmnop\n")
    file.chmod(0o600)
    status, answer = asyncio.run(settings_of(tmp_path, token_file=str(file)))
    assert status == 200
    assert str(file) in msgspec.json.encode(answer).decode()
    assert b"secret-0123" not in msgspec.json.encode(answer)
