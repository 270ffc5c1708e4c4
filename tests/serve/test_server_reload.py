"""SIGHUP: `[access]` and the tokens are read again, and apply to open connections."""

import asyncio
import stat
from pathlib import Path
from typing import Any, Literal

import pytest
from websockets.exceptions import ConnectionClosed

from netscand import config, protocol
from netscand.serve.auth import Role, TokensRefused
from netscand.serve.listen import BadAddress
from netscand.serve.tls import BadCertificate
from tests.serve.house import TOKENS, allowed, house, receive, token_file


def test_a_removed_token_ends_its_connections(tmp_path: Path) -> None:
    """The streams of other tokens, and of clients that need none, go on."""

    async def play() -> None:
        access: dict[str, Any] = {"others": "none", "token_file": token_file(tmp_path)}
        async with house(tmp_path, access=access) as lan:
            streams = {}
            for name in ("read", "admin"):
                stream = await lan.ws(tcp=True, headers=[("Authorization", f"Bearer {TOKENS[name]}")])
                await receive(stream)
                streams[name] = stream
            root = await lan.ws()
            await receive(root)
            (tmp_path / "tokens").write_text(f"admin {TOKENS['admin']}\n")
            lan.server.reload(allowed(**access))
            lan.scanner.join(77)
            with pytest.raises(ConnectionClosed):
                await receive(streams["read"])
            assert streams["read"].close_code == 1008
            for stream in (streams["admin"], root):
                assert isinstance(await receive(stream), protocol.Event)
                await stream.close()
            bearer = {"Authorization": f"Bearer {TOKENS['read']}"}
            assert (await lan.ask("GET", "/api/status", headers=bearer))[0] == 401

    asyncio.run(play())


def test_a_lower_role_ends_the_lease_but_not_the_stream(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws(tcp=True) as stream:
            await receive(stream)
            await stream.send('{"type": "set_interval", "seconds": 5}')
            assert isinstance(await receive(stream), protocol.Interval)
            assert lan.scanner.leases
            lan.server.reload(config.Access(others="read"))
            assert not lan.scanner.leases
            await stream.send('{"type": "scan_now"}')
            refused = await receive(stream)
            assert isinstance(refused, protocol.Error)
            assert refused.code == "forbidden"
            lan.server.reload(config.Access(others="scan"))
            await stream.send('{"type": "scan_now"}')
            assert isinstance(await receive(stream), protocol.ScanStarted | protocol.ScanAccepted)

    asyncio.run(play())


def test_an_origin_that_is_not_allowed_any_more_is_closed(tmp_path: Path) -> None:
    async def play() -> None:
        access: dict[str, Any] = {"allowed_origins": ("https://dash.example",)}
        async with (
            house(tmp_path, access=access) as lan,
            lan.ws(tcp=True, headers=[("Origin", "https://dash.example")]) as stream,
        ):
            await receive(stream)
            lan.server.reload(config.Access())
            with pytest.raises(ConnectionClosed):
                await receive(stream)

    asyncio.run(play())


def test_tokens_that_cannot_be_used_leave_everything_as_it_was(tmp_path: Path) -> None:
    async def play() -> None:
        access: dict[str, Any] = {"others": "none", "token_file": token_file(tmp_path)}
        async with house(tmp_path, access=access) as lan:
            (tmp_path / "tokens").chmod(0o644)
            with pytest.raises(TokensRefused):
                lan.server.reload(config.Access(others="scan", token_file=str(tmp_path / "tokens")))
            bearer = {"Authorization": f"Bearer {TOKENS['read']}"}
            assert (await lan.ask("GET", "/api/status", headers=bearer))[0] == 200
            answer = await lan.raw(
                f"GET /api/status HTTP/1.1\r\nHost: localhost:{lan.port}\r\nConnection: close\r\n\r\n".encode()
            )
            assert answer.startswith(b"HTTP/1.1 401 ")

    asyncio.run(play())


def test_the_last_token_cannot_be_removed_beyond_loopback(tmp_path: Path) -> None:
    async def play() -> None:
        access: dict[str, Any] = {"token_file": token_file(tmp_path)}
        # 192.0.2.1 is for documentation (RFC 5737): it cannot be bound here.
        async with house(tmp_path, access=access, listen={"tcp": ("127.0.0.1:0", "192.0.2.1:8000")}) as lan:
            assert lan.server.problems() == ("cannot listen on 192.0.2.1:8000: Cannot assign requested address",)
            with pytest.raises(BadAddress, match="there is no token"):
                lan.server.reload(config.Access())
            lan.server.reload(config.Access(others="read", **access))

    asyncio.run(play())


def test_the_last_token_can_be_revoked(tmp_path: Path) -> None:
    """T2: a file of comments has none; a reload that refused it would keep the revoked one in force."""

    async def play() -> None:
        access: dict[str, Any] = {"others": "none", "token_file": token_file(tmp_path)}
        async with house(tmp_path, access=access, listen={"tcp": ("127.0.0.1:0", "192.0.2.1:8000")}) as lan:
            bearer = {"Authorization": f"Bearer {TOKENS['read']}"}
            assert (await lan.ask("GET", "/api/status", headers=bearer))[0] == 200
            (tmp_path / "tokens").write_text("# none\n")
            lan.server.reload(allowed(**access))
            assert (await lan.ask("GET", "/api/status", headers=bearer))[0] == 401

    asyncio.run(play())


def test_a_reload_changes_the_tcp_addresses(tmp_path: Path) -> None:
    """Without a restart: the new ones are open, the removed ones closed, connections stay. Errors change nothing."""

    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws(tcp=True) as stream:
            await receive(stream)
            before = lan.server.addresses
            with pytest.raises(BadAddress):
                lan.server.reload(
                    config.Access(),
                    config.Listen(
                        tcp=(
                            "127.0.0.2:0",
                            "nowhere",
                        )
                    ),
                )
            with pytest.raises(BadAddress, match="there is no token"):
                lan.server.reload(config.Access(), config.Listen(tcp=("0.0.0.0:0",)))
            assert lan.server.addresses == before
            lan.server.reload(config.Access(token_file=token_file(tmp_path)), config.Listen(tcp=("127.0.0.2:0",)))
            (after,) = lan.server.addresses
            assert after.startswith("127.0.0.2:")
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*before[0].split(":"))
            _, writer = await asyncio.open_connection(*after.split(":"))
            writer.close()
            lan.scanner.join(77)
            assert isinstance(await receive(stream), protocol.Event)
            lan.server.reload(config.Access(), config.Listen(tcp=("127.0.0.2:0",)))
            assert lan.server.addresses == [after]

    asyncio.run(play())


@pytest.mark.parametrize(
    "listen",
    [{"tls_certificate": "/none"}, {"tls_certificate": "/none", "tls_key": "/none"}],
    ids=["no key", "no file"],
)
def test_what_a_restart_would_refuse_is_not_reloaded(tmp_path: Path, listen: dict[str, Any]) -> None:
    """Or `netscanctl reload` would advise a restart that ends netscand."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            before = lan.server.addresses
            with pytest.raises(BadCertificate, match=r"tls_key|/none"):
                lan.server.reload(config.Access(), config.Listen(tcp=("127.0.0.2:0",), **listen))
            assert lan.server.addresses == before

    asyncio.run(play())


def test_an_admin_requests_a_reload(tmp_path: Path) -> None:
    """`netscanctl token` needs no signal and no systemd; it gets the reason of a refusal."""

    async def play() -> None:
        async with house(tmp_path, access={"token_file": token_file(tmp_path)}) as lan:
            admin, scan = ({"Authorization": f"Bearer {TOKENS[name]}"} for name in ("admin", "scan"))
            assert (await lan.ask("POST", "/api/reload", headers=scan))[0] == 403
            errors = ["", "netscand.toml: not TOML"]

            async def reload() -> str:
                return errors.pop(0)

            lan.server.reload_configuration = reload
            assert (await lan.ask("POST", "/api/reload", headers=admin))[0] == 204
            status, _, body = await lan.ask("POST", "/api/reload", headers=admin)
            assert (status, body["error"]["message"]) == (
                400, "the configuration was not reloaded: netscand.toml: not TOML",
            )  # fmt: skip
            lan.server.needs_restart = ["[listen] tls_key"]
            state = (await lan.ask("GET", "/api/status", headers=admin))[2]
            assert state["needs_restart"] == ["[listen] tls_key"]
            access = state["access"]
            assert access["listening"] == lan.server.addresses
            assert (access["tokens"], access["tls"], access["token_file"]) == (3, False, str(tmp_path / "tokens"))

    asyncio.run(play())


def test_the_unix_socket_is_closed_to_users_without_a_role(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            modes: list[tuple[Literal["none", "read"], int]] = [("none", 0o660), ("read", 0o666)]
            for others, mode in modes:
                lan.server.reload(config.Access(others=others))
                assert stat.S_IMODE(lan.path.stat().st_mode) == mode

    asyncio.run(play())


def test_a_client_lost_at_that_moment_stops_no_reload(tmp_path: Path) -> None:
    """Its connection is lost, and its handler has not ended yet."""

    async def play() -> None:
        async with house(tmp_path) as lan, lan.ws() as client:
            await receive(client)
            (mine,) = lan.server._limiter.connections
            assert mine.transport is not None
            mine.connection_lost(None)
            assert lan.server.clients == 1
            lan.server.reload(config.Access(others="read"))
            assert mine.role is Role.NONE

    asyncio.run(play())
