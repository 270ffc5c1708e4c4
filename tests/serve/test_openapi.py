"""The OpenAPI document describes the server exactly."""

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from netscand import protocol
from netscand.core.model import BadTarget
from netscand.serve import openapi
from netscand.serve.openapi import document
from netscand.serve.query import MAC as TAKEN
from netscand.serve.query import MAC_PATTERN
from netscand.serve.routes import API, BY_NAME
from tests.serve.house import TOKENS, EmptyHistory, FakeScanner, House, house, token_file

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


class Keeping(EmptyHistory):
    """History that has something to copy."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "copy"
        self.file.write_bytes(b"SQLite format 3\0")

    async def backup(self) -> BinaryIO:
        return self.file.open("rb")


async def told(lan: House) -> dict[str, Any]:
    status, _, body = await lan.ask("GET", "/api/openapi.json")
    assert status == 200
    assert isinstance(body, dict)
    return body


def test_it_describes_each_route_with_its_role_and_summary(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            found = await told(lan)
            assert found["openapi"].startswith("3.1.")
            calls = {
                f"{method.upper()} {path}": call
                for path, methods in found["paths"].items()
                for method, call in methods.items()
            }
            assert set(calls) == {route.name for route in API}
            for name, call in calls.items():
                assert call["x-role"] == BY_NAME[name].role.on_wire
                assert re.fullmatch(r"[A-Z].*\.", call["summary"]), name
                assert ("security" in call) is (call["x-role"] != "none")
                assert re.fullmatch(r"[a-z]+(_[a-z]+)+", call["operationId"])
                assert call["tags"][0] in [tag["name"] for tag in found["tags"]]
            assert len({call["operationId"] for call in calls.values()}) == len(calls)

    asyncio.run(play())


def test_it_is_generated_once_and_not_on_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS T35: for 60 ms, all others waited for who asked first."""
    made: list[threading.Thread] = []

    def recorded(routes: Any) -> dict[str, Any]:  # noqa: ANN401
        made.append(threading.current_thread())
        time.sleep(0.05)
        return document(routes)

    monkeypatch.setattr(openapi, "document", recorded)

    async def play() -> None:
        async with house(tmp_path) as lan:
            async with asyncio.TaskGroup() as tasks:
                first, second = (tasks.create_task(told(lan)) for _ in range(2))
            assert first.result() == second.result()

    asyncio.run(play())
    assert len(made) == 1
    assert made[0] is not threading.main_thread()


def test_every_reference_resolves_and_every_message_is_there(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            found = await told(lan)
            schemas = found["components"]["schemas"]
            references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(found)))
            assert references <= set(schemas)
            for message in (*protocol.ServerMessage.__args__, *protocol.ClientMessage.__args__):
                assert schemas[message.__name__]["properties"]["type"] == {"const": message.__struct_config__.tag}

    asyncio.run(play())


def test_it_is_valid_and_says_what_generators_need() -> None:
    """OpenAPI's own schema accepts it; times have their format, lists say how they go on, the backup is binary."""
    found = document(API)
    OPENAPI_31_VALIDATOR.validate(found)
    schemas = found["components"]["schemas"]
    for name, field in (("Device", "first_seen"), ("Event", "at"), ("Address", "last_seen"), ("DaemonStatus", "now")):
        assert schemas[name]["properties"][field]["format"] == "date-time"
    untimed = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, kind in schema.get("properties", {}).items()
        if re.search(r"(^|_)(at|since|seen|now|last_scan)$", field) and "date-time" not in json.dumps(kind)
    ]
    assert untimed == []
    for path in ("/api/devices", "/api/events", "/api/devices/{mac}/events"):
        call = found["paths"][path]["get"]
        names = [parameter["name"] for parameter in call["parameters"]]
        assert {call["x-paging"]["limit"], call["x-paging"]["next"]} <= set(names)
        answer = call["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert call["x-paging"]["more"] in schemas[answer]["properties"]
    backup = found["paths"]["/api/backup"]["get"]["responses"]["200"]["content"]
    assert backup == {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    assert schemas["DeviceUpdate"]["additionalProperties"] is False


def test_api_leads_to_the_description(tmp_path: Path) -> None:
    """Also where a proxy has put it under a path."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            head = await lan.raw(b"GET /api HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", tcp=False)
            assert head.startswith(b"HTTP/1.1 307 ")
            assert b"\r\nLocation: api/openapi.json\r\n" in head
            status, _, body = await lan.ask("GET", "/api")  # follows it
            assert (status, body["info"]["title"]) == (200, "netscand")

    asyncio.run(play())


def test_the_pattern_of_a_mac_accepts_what_the_server_does() -> None:
    pattern = re.compile(MAC_PATTERN)
    for text in ("a4:83:e7:12:34:56", "A4-83-E7-12-34-56", "a4:83:e7-12-34-56", "a483e7123456", "a4:83:e7:12:34:5", ""):
        assert bool(pattern.fullmatch(text)) is bool(TAKEN.fullmatch(text)), text


# ---- schemathesis: an independent client generated from the document ------------------------------------------------


SETTINGS = """
[checks]
negative_data_rejection.expected-statuses = [400, 404, 405, 413, 415]

# `last` goes with neither `since` nor `limit`, a cursor may be gone, targets are of scanned networks: no description
# can say any of it, nor which two devices can be merged.
[[operations]]
include-path-regex = "(events|scan|merge)$"
checks.positive_data_acceptance.enabled = false

# PATCH adds a person, also one that was removed.
[[operations]]
include-path-regex = "/people/"
checks.use_after_free.enabled = false
"""


@pytest.mark.parametrize("examples", [10, pytest.param(300, marks=pytest.mark.long)])
def test_schemathesis_finds_nothing(tmp_path: Path, examples: int) -> None:
    """What the document allows is answered as it says, what it forbids is refused, and nothing is a 500."""
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)

    async def play() -> None:
        access = {"others": "none", "token_file": token_file(tmp_path)}
        async with house(tmp_path, access=access, archive=Keeping(tmp_path)) as lan:
            finish_at_once(lan.scanner)
            url = f"http://127.0.0.1:{lan.port}"
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "schemathesis.cli",
                "--config-file", str(tmp_path / "schemathesis.toml"), "run", f"{url}/api/openapi.json",
                "--header", f"Authorization: Bearer {TOKENS['admin']}", "--exclude-path", "/ws", "--mode", "all",
                "--max-examples", str(examples), "--seed", "1", "--no-color", "--suppress-health-check", "all",
                "--request-timeout", "60",
                cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            said, _ = await process.communicate()
            assert process.returncode == 0, "\n".join(line[:300] for line in said.decode().splitlines())

    asyncio.run(play())


def finish_at_once(scanner: FakeScanner) -> None:
    """Let each scan end, with any number of requests: `busy` counts as an error there."""
    begin = scanner.scan_now
    scanner.budgets.take = lambda *_, **__: True  # type: ignore[method-assign]

    def scan_now(targets: Any, account: Any, client: Any, site: Any) -> int:  # noqa: ANN401 - as of the scanner
        for target in targets:
            if "@" not in target:
                try:
                    IPv4Network(target)
                except ValueError as wrong:  # the engine accepts none of these
                    raise BadTarget(f"{target}: {wrong}") from None
        scan_id = begin(targets)
        asyncio.get_running_loop().call_soon(scanner.finish, scan_id)
        return scan_id

    scanner.scan_now = scan_now  # type: ignore[method-assign, assignment]
