"""The table of routes, and what is derived from it: router, roles, and the check of query parameters."""

import asyncio
from pathlib import Path

import pytest

from netscand import config, protocol
from netscand.serve.auth import MESSAGES, Role, need
from netscand.serve.http import Refused
from netscand.serve.routes import BY_NAME, PAGE, ROUTES, Route
from tests.serve.house import TOKENS, house, mac, receive, token_file
from tests.serve.test_server import a_server

ROLES = ["none", "read", "scan", "admin"]
JSON_BODY = {"Content-Type": "application/json"}
GET_ROOT = b"GET /?colour=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def filled(route: Route) -> str:
    """Return a path of the route."""
    return route.path.replace("{mac}", mac(1).hex(":")).replace("{name}", "Jane")


def test_roles_are_ordered() -> None:
    assert [role.on_wire for role in sorted(Role)] == ROLES


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
@pytest.mark.parametrize("role", Role)
def test_a_role_may_use_its_routes_and_those_of_lower_ones(route: Route, role: Role) -> None:
    if role >= route.role:
        route.require(role)
        return
    for suggest, code, status in ((False, "forbidden", 403), (True, "unauthorized", 401)):
        with pytest.raises(Refused) as refused:
            route.require(role, suggest_token=suggest)
        assert (refused.value.code, refused.value.status) == (code, status)
        assert refused.value.message == (
            f'{route.action} requires role "{route.role.on_wire}" (you have "{role.on_wire}"); '
            "send a token with that role"
        )


def test_a_refusal_says_what_the_route_does() -> None:
    assert {route.name: route.action for route in ROUTES if route.role > Role.READ} == {
        "POST /api/scan": "scanning",
        "PATCH /api/devices/{mac}": "changing a device",
        "DELETE /api/devices/{mac}": "forgetting a device",
        "POST /api/devices/{mac}/wake": "waking a device",
        "POST /api/devices/{mac}/merge": "merging devices",
        "DELETE /api/devices/{mac}/merge": "merging devices",
        "PATCH /api/people/{name}": "changing a person",
        "DELETE /api/people/{name}": "removing a person",
        "GET /api/backup": "saving a backup",
        "GET /api/capture": "capturing frames",
        "POST /api/reload": "reloading the configuration",
        "GET /api/settings": "reading the settings",
    }
    with pytest.raises(
        Refused, match=r'^scanning requires role "scan" \(you have "read"\); send a token with that role$'
    ):
        BY_NAME["POST /api/scan"].require(Role.READ)
    with pytest.raises(Refused, match=r'^changing the scan interval requires role "scan" \(you have "read"\); '):
        need("set_interval", Role.READ)


def test_only_the_page_and_health_need_no_role() -> None:
    """FAULTS T4: reading needs read, changes need more."""
    for route in ROUTES:
        if route in PAGE or route.path == "/healthz":
            assert (route.method, route.role) == ("GET", Role.NONE)
        elif route.path == "/api/scan":
            assert route.role is Role.SCAN
        else:
            admin = route.method != "GET" or route.path in ("/api/backup", "/api/capture", "/api/settings")
            assert route.role is (Role.ADMIN if admin else Role.READ)


def test_the_router_has_each_route_of_the_table_and_no_other(tmp_path: Path) -> None:
    """FAULTS T1: what is not in the table is not served."""
    routes = a_server(config.Listen(unix=str(tmp_path / "s")))._app.router.routes()
    served = [
        f"{route.method} {route.resource.canonical}" for route in routes if route.resource and route.method != "HEAD"
    ]
    assert sorted(served) == sorted(BY_NAME)
    assert len(BY_NAME) == len(ROUTES)


def test_each_message_of_a_client_needs_a_role() -> None:
    """FAULTS T1: a new message without an entry fails here."""
    messages = protocol.ClientMessage.__args__
    assert {str(message.__struct_config__.tag) for message in messages} == set(MESSAGES)


def test_unknown_and_repeated_parameters_are_refused_by_name(tmp_path: Path) -> None:
    """Each route refuses them with status 400, and names its own; a link to the page may have any."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            for route in ROUTES:
                path = filled(route)
                status, _, body = await lan.ask(route.method, f"{path}?colour=1") if route.path != "/" else (0, {}, {})
                if route.parameters is None:
                    assert (await lan.raw(GET_ROOT, tcp=False)).split()[1] == b"200"
                    continue
                known = ", ".join(sorted(route.parameters)) or "none"
                message = f"unknown query parameter 'colour'; known: {known}"
                assert (status, body["error"]["message"]) == (400, message), route.name
                for name in route.parameters:
                    status, _, body = await lan.ask(route.method, f"{path}?{name}=1&{name}=2")
                    assert (status, body["error"]["message"]) == (400, f"{name}: given twice"), route.name

    asyncio.run(play())


def test_no_route_accepts_a_token_in_its_address(tmp_path: Path) -> None:
    """FAULTS T18: no route takes a token in its address."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            for name in ("token", "Access_Token"):
                for route in ROUTES:
                    path = filled(route)
                    status, _, body = await lan.ask(route.method, f"{path}?{name}=secret")
                    assert (status, "Authorization: Bearer" in body["error"]["message"]) == (400, True), route.name
                    assert "secret" not in body["error"]["message"]

    asyncio.run(play())


@pytest.mark.parametrize("others", ROLES[:-1])
@pytest.mark.parametrize("carried", [None, *TOKENS], ids=str)
def test_every_route_is_open_to_its_role_and_those_above(tmp_path: Path, others: str, carried: str | None) -> None:
    """FAULTS T1: with the role of all users, or that of a token, on TCP, with every method of the table."""
    role = carried or others

    async def play() -> None:
        async with house(tmp_path, access={"others": others, "token_file": token_file(tmp_path)}) as lan:
            for route in ROUTES:
                method, path = route.method, filled(route)
                bearer = f"Authorization: Bearer {TOKENS[carried]}\r\n" if carried else ""
                for sent in (method, "HEAD") if method == "GET" else (method,):
                    said = f"{sent} {path} HTTP/1.1\r\nHost: localhost:{lan.port}\r\nConnection: close\r\n{bearer}\r\n"
                    answer = await lan.raw(said.encode())
                    status = int(answer.split(b" ", 2)[1])
                    if ROLES.index(role) >= route.role:
                        assert status not in (401, 403), route.name
                        assert status < 500 or route.path in ("/api/backup", "/api/capture")  # 503: nothing to copy
                    elif (sent, path) not in (("HEAD", "/ws"), ("HEAD", "/api/backup"), ("HEAD", "/api/capture")):
                        assert status == (403 if carried else 401), route.name
                        assert (b"WWW-Authenticate: Bearer" in answer) is not bool(carried)

    asyncio.run(play())


def test_messages_need_their_role(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, access={"others": "read"}) as lan, lan.ws(tcp=True) as client:
            first = await receive(client)
            assert isinstance(first, protocol.InitialState)
            assert first.role == "read"
            for text in (
                '{"type": "scan_now", "request": "r"}',
                '{"type": "set_interval", "seconds": 5, "request": "r"}',
            ):
                await client.send(text)
                refused = await receive(client)
                assert isinstance(refused, protocol.Error)
                assert (refused.code, refused.request) == ("forbidden", "r")
            assert lan.scanner.requested == []
            assert not lan.scanner.leases

    asyncio.run(play())


@pytest.mark.parametrize("tcp", [True, False])
def test_a_request_with_a_token_has_the_role_of_the_token(tmp_path: Path, tcp: bool) -> None:
    """FIELD case 27: no more than that, for an administrator on the Unix socket too: a proxy can limit its clients."""

    async def play() -> None:
        async with house(tmp_path, access={"others": "scan", "token_file": token_file(tmp_path)}) as lan:
            for role in TOKENS:
                bearer = {"Authorization": f"Bearer {TOKENS[role]}"}
                async with lan.ws(tcp=tcp, headers=list(bearer.items())) as client:
                    first = await receive(client)
                    assert isinstance(first, protocol.InitialState)
                    assert first.role == role
                path = f"/api/devices/{mac(1).hex(':')}"
                changes = [
                    await lan.ask("POST", "/api/scan", headers=bearer),
                    await lan.ask("PATCH", path, headers=bearer | JSON_BODY, body=b'{"known": true}'),
                ]
                allowed = [status < 400 for status, _, _ in changes]
                assert allowed == [role != "read", role == "admin"], changes

    asyncio.run(play())


# ---- what is checked ------------------------------------------------------------------------------------------------

ODD = [
    "GET {} HTTP/1.0\r\n",
    "HEAD {} HTTP/1.0\r\nHost: a1b2c3d4e5f6\r\n",
    "GET {} HTTP/1.1\r\nConnection: close\r\nHost: 10.42.0.7\r\n",
    "GET {} HTTP/1.1\r\nConnection: close\r\nHost:\r\n",
    "GET {} HTTP/1.1\r\nConnection: close\r\nHost: evil.example\r\nOrigin: null\r\nSec-Fetch-Site: cross-site\r\n",
    "GET {} HTTP/1.1\r\nConnection: close\r\nHost: x\r\nAuthorization: Bearer of something else\r\n",
    "GET {} HTTP/1.1\r\nConnection: close\r\nHost: x\r\nAuthorization: Basic dTpw\r\nAuthorization: Bearer x\r\n",
]
"""Requests of programs that check whether a service is up. (HTTP/1.1 without one Host is invalid: RFC 9112, 3.2.)"""


@pytest.mark.parametrize("request_", ODD)
@pytest.mark.parametrize("others", ["scan", "none"])
def test_health_is_answered_whatever_the_headers(tmp_path: Path, request_: str, others: str) -> None:
    """FIELD case 28: HTTP/1.0 needs no Host (RFC 9112, 3.2); a container is asked by any name. Nothing else is."""

    async def play() -> None:
        async with house(tmp_path, access={"others": others, "token_file": token_file(tmp_path)}) as lan:
            for path, allowed in (("/healthz", True), ("/api/status", False)):
                said = request_.format(path) + "\r\n"
                status = int((await lan.raw(said.encode())).split(b" ", 2)[1])
                assert (status == 200) is allowed, (path, status)

    asyncio.run(play())


FOREIGN = {
    "a proxy that rewrites Host": "Origin: https://scan.lan\r\n",
    "an opaque origin": "Origin: null\r\n",
    "a login on another site": "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\n",
    "basic auth": "Authorization: Basic dTpw\r\n",
    "a token of something else": "Authorization: Bearer x\r\n",
}


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN.keys())
def test_the_files_of_the_page_are_served_to_all_origins(tmp_path: Path, headers: str) -> None:
    """FIELD case 27: else no script of the page runs that could say what is wrong. Host is checked still (T6)."""

    async def play() -> None:
        async with house(tmp_path, access={"others": "none", "token_file": token_file(tmp_path)}) as lan:
            for route in ROUTES:
                if route.method != "GET" or route.path == "/healthz":
                    continue
                path = filled(route)
                for host, served in ((f"localhost:{lan.port}", route in PAGE), ("evil.example", False)):
                    said = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n"
                    head, _, _ = (await lan.raw(said.encode())).partition(b"\r\n\r\n")
                    assert (head.split(b" ", 2)[1] == b"200") is served, (path, host)
                    assert b"access-control" not in head.lower()

    asyncio.run(play())
