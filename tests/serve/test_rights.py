"""Which role each route and each message needs."""

import asyncio
from pathlib import Path

import pytest

from netscand import config, protocol
from netscand.serve.auth import DEEDS, RIGHTS, Role, need
from netscand.serve.http import Refused
from netscand.serve.page import PATHS
from tests.serve.house import TOKENS, hear, house, mac, token_file
from tests.serve.test_server import a_server

ROLES = ["none", "read", "scan", "admin"]


def test_each_role_may_do_what_the_ones_before_may() -> None:
    assert [role.on_wire for role in sorted(Role)] == ["none", "read", "scan", "admin"]
    for what, least in RIGHTS.items():
        for role in Role:
            if role >= least:
                need(what, role)
            else:
                with pytest.raises(Refused) as refused:
                    need(what, role)
                assert refused.value.status == 403


def test_who_is_refused_is_told_in_words_what_needs_which_role() -> None:
    assert set(DEEDS) == {what for what, least in RIGHTS.items() if least > Role.READ}
    with pytest.raises(Refused, match=r"^changing what is said of a device needs the role admin, not scan$"):
        need("PATCH /api/devices/{mac}", Role.SCAN)
    with pytest.raises(Refused, match=r"^reading needs the role read, not none$"):
        need("GET /api/events", Role.NONE)


def test_what_the_table_does_not_name_is_refused_to_everyone() -> None:
    with pytest.raises(Refused) as refused:
        need("GET /new", Role.ADMIN)
    assert refused.value.code == "forbidden"


def test_reading_needs_read_changes_need_more_and_only_the_page_is_for_everybody() -> None:
    """FAULTS T4; DESIGN, "Who may do what"."""
    for what, least in RIGHTS.items():
        method, _, path = what.partition(" ")
        if path in (*PATHS, "/healthz"):
            assert (method, least) == ("GET", Role.NONE)
        elif what in ("scan_now", "set_interval", "POST /api/scan"):
            assert least is Role.SCAN
        elif method == "GET" and path != "/api/backup":
            assert least is Role.READ
        else:
            assert least is Role.ADMIN


def test_every_route_and_every_message_stands_in_the_table_of_rights(tmp_path: Path) -> None:
    """FAULTS T1: a new route without an entry fails here, and is refused to everyone."""
    routes = a_server(config.Listen(unix=str(tmp_path / "s")))._app.router.routes()
    served = {
        f"{route.method} {route.resource.canonical}" for route in routes if route.resource and route.method != "HEAD"
    }
    messages = {str(message.__struct_config__.tag) for message in (protocol.ScanNow, protocol.SetInterval)}
    assert set(protocol.ClientMessage.__args__) == {protocol.ScanNow, protocol.SetInterval}
    assert served | messages == set(RIGHTS)


@pytest.mark.parametrize("others", ROLES[:-1])
@pytest.mark.parametrize("carried", [None, *TOKENS], ids=str)
def test_every_route_is_open_to_its_role_and_those_above(tmp_path: Path, others: str, carried: str | None) -> None:
    """FAULTS T1: with what everybody has, raised by a token of each role, on TCP, with every method of the table."""
    role = max(others, carried or "none", key=ROLES.index)

    async def play() -> None:
        async with house(tmp_path, access={"others": others, "token_file": token_file(tmp_path)}) as lan:
            for what, least in RIGHTS.items():
                if " " not in what:
                    continue
                method, path = what.split(" ")
                path = path.replace("{mac}", mac(1).hex(":"))
                bearer = f"Authorization: Bearer {TOKENS[carried]}\r\n" if carried else ""
                for sent in (method, "HEAD") if method == "GET" else (method,):
                    said = f"{sent} {path} HTTP/1.1\r\nHost: localhost:{lan.port}\r\nConnection: close\r\n{bearer}\r\n"
                    answer = await lan.raw(said.encode())
                    status = int(answer.split(b" ", 2)[1])
                    if ROLES.index(role) >= least:
                        assert status not in (401, 403), what
                        assert status < 500 or what == "GET /api/backup"  # 503: this house has nothing to copy
                    elif (sent, path) not in (("HEAD", "/ws"), ("HEAD", "/api/backup")):
                        assert status == (403 if carried else 401), what
                        assert (b"WWW-Authenticate: Bearer" in answer) is not bool(carried)

    asyncio.run(play())


def test_messages_ask_for_their_role(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, access={"others": "read"}) as lan, lan.ws(tcp=True) as client:
            first = await hear(client)
            assert isinstance(first, protocol.InitialState)
            assert first.role == "read"
            for text in (
                '{"type": "scan_now", "request": "r"}',
                '{"type": "set_interval", "seconds": 5, "request": "r"}',
            ):
                await client.send(text)
                refused = await hear(client)
                assert isinstance(refused, protocol.Error)
                assert (refused.code, refused.request) == ("forbidden", "r")
            assert lan.scanner.wishes == []
            assert not lan.scanner.leases

    asyncio.run(play())


def test_a_token_raises_the_role_of_a_websocket_and_never_lowers_it(tmp_path: Path) -> None:
    async def play() -> None:
        access = {"others": "scan", "token_file": token_file(tmp_path)}
        async with house(tmp_path, access=access) as lan:
            for name, role in (("read", "scan"), ("scan", "scan"), ("admin", "admin")):
                bearer = ("Authorization", f"Bearer {TOKENS[name]}")
                async with lan.ws(tcp=True, headers=[bearer]) as client:
                    first = await hear(client)
                    assert isinstance(first, protocol.InitialState)
                    assert first.role == role

    asyncio.run(play())
