"""Tokens: storage, transport, comparison (FAULTS T2, T18)."""

import asyncio
import base64
import os
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from netscanctl.token_file import entries
from netscand.serve.auth import LARGEST, LONGEST, MAX_TOKENS, Role, Tokens, TokensRefused, read_tokens, token_in
from netscand.serve.http import Refused
from tests.serve.house import TOKENS, handshake, house, token_file

ADMIN = TOKENS["admin"]
LONG = "x" * 32


def base64url(token: str) -> str:
    return base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def written(path: Path, text: str | bytes, mode: int = 0o600) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return str(path)


def role_of(tokens: Tokens, token: str) -> Role | None:
    found = tokens.find(token)
    return found.role if found is not None else None


# ---- kept -----------------------------------------------------------------------------------------------------------


def test_a_file_gives_each_token_its_role(tmp_path: Path) -> None:
    tokens = read_tokens(token_file(tmp_path), {})
    assert tokens
    assert {name: role_of(tokens, token) for name, token in TOKENS.items()} == {
        "read": Role.READ,
        "scan": Role.SCAN,
        "admin": Role.ADMIN,
    }


def test_a_token_may_be_limited_to_sites(tmp_path: Path) -> None:
    """On a hub of sites; `netscanctl token` lists such a token, too."""
    one, other = "a" * 32, "b" * 32
    (tmp_path / "tokens").write_text(text := f"read {one} sites=home,cabin # Ann\nread {other}\n")
    (tmp_path / "tokens").chmod(0o600)
    tokens = read_tokens(str(tmp_path / "tokens"))
    limited, free = tokens.find(one), tokens.find(other)
    assert limited is not None
    assert free is not None
    assert (limited.sites, free.sites) == (frozenset(("home", "cabin")), None)
    assert [(each.role, each.name) for each in entries(text.splitlines(keepends=True))] == [
        ("read", "Ann"),
        ("read", ""),
    ]


def test_a_systemd_credential_is_read_too(tmp_path: Path) -> None:
    written(tmp_path / "tokens", f"scan {LONG}\n", 0o400)
    tokens = read_tokens(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert role_of(tokens, LONG) is Role.SCAN
    file = written(tmp_path / "more", f"admin {ADMIN}\n")
    both = read_tokens(file, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert (role_of(both, LONG), role_of(both, ADMIN)) == (Role.SCAN, Role.ADMIN)


def test_a_digest_stands_for_its_token(tmp_path: Path) -> None:
    """T2: who reads the file, or a copy of it, has no token. A comment may follow; the file may be of comments only."""
    file = written(
        tmp_path / "tokens", f"admin sha256:{sha256(ADMIN.encode()).hexdigest()} # 2026-11-30 Jürgen's phone\n"
    )
    tokens = read_tokens(file, {})
    assert role_of(tokens, ADMIN) is Role.ADMIN
    assert role_of(tokens, sha256(ADMIN.encode()).hexdigest()) is None
    none = read_tokens(written(tmp_path / "tokens", "# the last one was revoked\n"), {})
    assert (len(none), none.configured) == (0, True)


def test_a_file_of_another_user_is_refused(root: None, tmp_path: Path) -> None:
    """FAULTS T2: its owner could become admin, whatever its mode."""
    file = token_file(tmp_path)
    os.chown(file, 1234, 0)
    with pytest.raises(TokensRefused, match="owned by user 1234, who could add a token: chown root"):
        read_tokens(file, {})


def test_without_file_and_credential_there_is_none(tmp_path: Path) -> None:
    assert not read_tokens(None, {})
    assert not read_tokens(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert Tokens().find(ADMIN) is None


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o641, 0o601, 0o666, 0o740, 0o650, 0o4600])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    """FAULTS T2; the message says how to fix it."""
    with pytest.raises(TokensRefused, match=r"lets other users use its tokens: chmod 0640 "):
        read_tokens(token_file(tmp_path, mode), {})


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o440, 0o400])
def test_a_file_of_its_owner_and_group_alone_is_taken(tmp_path: Path, mode: int) -> None:
    assert read_tokens(token_file(tmp_path, mode), {})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"admin {'x' * 31}\n", "line 1: the token has 31 characters, expected 32 to 512"),
        (f"admin {'x' * (LONGEST + 1)}\n", "characters, expected 32 to 512"),
        (f"\n# note\nroot {LONG}\n", "line 3: expected the role read, scan or admin"),
        (f"none {LONG}\n", "expected the role read, scan or admin"),
        (f"ADMIN {LONG}\n", "expected the role read, scan or admin"),
        (f"{LONG}\n", "expected `ROLE TOKEN`"),
        (f"read {LONG} sites=\n", "expected names of sites"),
        (f"read {LONG} sites=home, cabin\n", "expected `ROLE TOKEN`"),
        (f"read {LONG} sites=home,c*\n", "expected names of sites"),
        (f"admin {LONG} of the dashboard\n", "expected `ROLE TOKEN`"),
        (f'admin "{LONG}"\n', "invalid character in the token"),
        (f"admin {LONG}=x\n", "invalid character in the token"),
        (f"admin {LONG}\nread {LONG}\n", "the same token is in it twice"),
        ("", "empty; to create a token: netscanctl token add ROLE"),
        (f"admin {LONG}ä\n", "invalid character in the token"),
        (f"admin sha256:{'x' * 64}\n", "invalid character in the token"),
        (f"admin sha256:{'a' * 63}\n", "invalid character in the token"),
        (f"admin {LONG}\nread sha256:{sha256(LONG.encode()).hexdigest()}\n", "the same token is in it twice"),
        ("#" * (LARGEST + 1), "larger than"),
        ("".join(f"read {number:032}\n" for number in range(MAX_TOKENS + 1)), "more than"),
    ],
)
def test_an_error_in_a_token_file_does_not_show_the_token(tmp_path: Path, text: str, why: str) -> None:
    """FAULTS T2: at least 32 characters; and no error repeats a token (T18)."""
    with pytest.raises(TokensRefused) as refused:
        read_tokens(written(tmp_path / "tokens", text), {})
    assert why in str(refused.value)
    assert "x" * 31 not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_token_file_that_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(TokensRefused, match="No such file"):
        read_tokens(str(tmp_path / "none"), {})
    with pytest.raises(TokensRefused, match=r"directory|not a file"):
        read_tokens(str(tmp_path), {})
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(TokensRefused, match="not a file"):
        read_tokens(str(tmp_path / "pipe"), {})


# ---- carried --------------------------------------------------------------------------------------------------------


def carried(*headers: tuple[str, str]) -> str | int | None:
    try:
        return token_in(CIMultiDictProxy(CIMultiDict(headers)))
    except Refused as refused:
        return refused.status


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_a_header_carries_a_token(scheme: str) -> None:
    assert carried(("Authorization", f"{scheme} {ADMIN}")) == ADMIN


def test_a_browsers_websocket_carries_it_as_a_subprotocol() -> None:
    for line in (f"netscand, netscand.token.{base64url(ADMIN)}", f"netscand.token.{base64url(ADMIN)},netscand"):
        assert carried(("Sec-WebSocket-Protocol", line)) == ADMIN
    assert carried(("Sec-WebSocket-Protocol", "netscand")) is None
    assert carried() is None


AUTHORIZATION, PROTOCOL = "Authorization", "Sec-WebSocket-Protocol"
OFFERED = f"netscand, netscand.token.{base64url(ADMIN)}"
OTHERWISE: list[tuple[list[tuple[str, str]], object]] = [
    ([(AUTHORIZATION, "")], None),
    ([(AUTHORIZATION, ADMIN)], None),
    ([(AUTHORIZATION, "Bearer")], 401),
    ([(AUTHORIZATION, f"Basic {ADMIN}")], None),
    ([(AUTHORIZATION, 'Digest username="x", realm="y"')], None),
    ([(AUTHORIZATION, f"Bearers {ADMIN}")], None),
    ([(AUTHORIZATION, "Basic dTpw"), (AUTHORIZATION, f"Bearer {ADMIN}")], ADMIN),
    ([(AUTHORIZATION, "Basic dTpw"), (PROTOCOL, OFFERED)], ADMIN),
    ([(AUTHORIZATION, f"Bearer {ADMIN} {ADMIN}")], 401),
    ([(AUTHORIZATION, f"Bearer {ADMIN}, Bearer {ADMIN}")], 401),
    ([(AUTHORIZATION, f"Bearer {ADMIN}"), (AUTHORIZATION, f"Bearer {ADMIN}")], 400),
    ([(AUTHORIZATION, f"Bearer {ADMIN}"), (PROTOCOL, OFFERED)], 400),
    ([(PROTOCOL, f"{OFFERED}, netscand.token.{base64url(LONG)}")], 400),
    ([(PROTOCOL, f"netscand.token.{base64url(ADMIN)}")], 400),
    ([(PROTOCOL, f"netscand.token.{base64url(ADMIN)}"), (PROTOCOL, "netscand")], 400),
    ([(PROTOCOL, "mqtt")], 400),
    ([(PROTOCOL, "")], 400),
    ([(PROTOCOL, "netscand, netscand.token.")], ""),
    ([(PROTOCOL, "netscand, netscand.token.!!!")], 401),
    ([(PROTOCOL, "netscand, netscand.token.YQ=A")], 401),
    ([(PROTOCOL, "netscand, netscand.token._w")], 401),
    ([("Cookie", f"token={ADMIN}")], None),
    ([("X-Token", ADMIN)], None),
]


@pytest.mark.parametrize(("headers", "status"), OTHERWISE)
def test_a_token_sent_in_another_way_is_refused_or_ignored(headers: list[tuple[str, str]], status: object) -> None:
    """FIELD case 27: credentials of another scheme are for a proxy, which passes them on (nginx and Caddy do)."""
    assert carried(*headers) == status


@given(st.text(st.characters(codec="latin-1")), st.text(st.characters(codec="latin-1")))
def test_any_header_gives_a_token_or_a_refusal(authorization: str, protocols: str) -> None:
    for headers in ([("Authorization", authorization)], [("Sec-WebSocket-Protocol", protocols)]):
        found = carried(*headers)
        assert found is None or isinstance(found, str) or found in (400, 401)


# ---- compared -------------------------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(TOKENS.values())), st.integers(0, 40), st.characters(max_codepoint=127))
def test_a_token_that_differs_in_one_letter_is_unknown(token: str, at: int, letter: str) -> None:
    """FAULTS T2."""
    with TemporaryDirectory() as folder:
        held = read_tokens(token_file(Path(folder)), {})
    at %= len(token)
    changed = (token[:at] + letter + token[at + 1 :], token[:at], token[:at] + letter + token[at:], token.swapcase())
    for other in changed:
        assert (held.find(other) is None) is (other not in TOKENS.values())


MUTATIONS = (
    ADMIN[:-1], ADMIN + "x", ADMIN.upper(), ADMIN[::-1], "x" * len(ADMIN), "x" * 32, ADMIN[1:], f"{ADMIN}=", "0" * 40,
    "true", "null", "0", "x" * 5000,
)  # fmt: skip


def test_an_unknown_token_is_refused_for_every_role(tmp_path: Path) -> None:
    """FAULTS T2: for root on the Unix socket, by header and by subprotocol. Files of the page are open to all."""

    async def play() -> None:
        async with house(tmp_path, access={"token_file": token_file(tmp_path)}) as lan:
            host = f"localhost:{lan.port}"
            for wrong in MUTATIONS:
                for path in ("/api/status", "/nowhere"):
                    status, headers, body = await lan.ask("GET", path, headers={"Authorization": f"Bearer {wrong}"})
                    assert (status, body["error"]["code"]) == (401, "unauthorized"), wrong
                    assert headers["WWW-Authenticate"].startswith("Bearer")
                    assert wrong not in str(body) or wrong in ("0", "true", "null")
                offered = f"Sec-WebSocket-Protocol: netscand, netscand.token.{base64url(wrong)}\r\n"
                assert b" 401 " in (await lan.head(handshake("/ws", host, offered))).split(b"\r\n")[0]
            offered = f"Sec-WebSocket-Protocol: netscand, netscand.token.{base64url(ADMIN)}\r\n"
            head = await lan.head(handshake("/ws", host, offered))
            assert b" 101 " in head.split(b"\r\n")[0]
            assert b"Sec-WebSocket-Protocol: netscand\r\n" in head

    asyncio.run(play())


def test_a_token_is_refused_if_there_are_none(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            assert (await lan.ask("GET", "/api/status", headers={"Authorization": f"Bearer {ADMIN}"}))[0] == 401

    asyncio.run(play())


@pytest.mark.parametrize("name", ["token", "access_token", "Token"])
def test_a_token_in_the_address_is_refused_before_all_else(tmp_path: Path, name: str) -> None:
    """FAULTS T18."""

    async def play() -> None:
        async with house(tmp_path, access={"others": "none", "token_file": token_file(tmp_path)}) as lan:
            for path in ("/", "/ws", "/healthz", "/api/status", "/api/backup", "/web/page.js", "/nowhere"):
                said = f"GET {path}?{name}={ADMIN} HTTP/1.1\r\nHost: localhost:{lan.port}\r\nConnection: close\r\n\r\n"
                answer = await lan.raw(said.encode())
                assert answer.startswith(b"HTTP/1.1 400 "), path
                assert ADMIN.encode() not in answer

    asyncio.run(play())
