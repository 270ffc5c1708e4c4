"""Subordinate uids count as their owner's (ATTACKED M8: one account took 256 of 256 WebSockets, one for each uid)."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from netscand import config
from netscand.serve import auth, peer_uid
from netscand.serve.auth import Guard, Peer, Role
from netscand.serve.peer_uid import Subordinates, read_subordinates
from tests.serve.house import TOKENS, house, token_file
from tests.serve.test_auth import acting_as
from tests.serve.test_connection import connected, open_path, settled, still_open

__all__ = ["open_path"]

PASSWD = "root:x:0:0:root:/root:/bin/sh\nmallory:x:1500:1500::/home/mallory:/bin/sh\nalice:x:1501:1501::/:/bin/sh\n"


def read(folder: Path, subuid: str | bytes, passwd: str = PASSWD) -> Subordinates:
    (folder / "subuid").write_bytes(subuid.encode() if isinstance(subuid, str) else subuid)
    (folder / "passwd").write_text(passwd)
    return read_subordinates(folder / "subuid", folder / "passwd")


def test_a_range_counts_as_its_owner(tmp_path: Path) -> None:
    """By name or by number, from its first uid to its last."""
    found = read(tmp_path, "mallory:100000:65536\n1501:165536:65536\n")
    assert found.account(1500) == ("uid", 1500)
    assert {found.account(uid) for uid in (100_000, 100_001, 165_535)} == {("uid", 1500)}
    assert {found.account(uid) for uid in (165_536, 231_071)} == {("uid", 1501)}
    assert found.account(99_999) == ("uid", 99_999)
    assert found.account(231_072) == ("uid", 231_072)


def test_roots_ranges_are_no_part_of_root(tmp_path: Path) -> None:
    """They are its containers': those have a limit, root has none, and root's connections stay free."""
    found = read(tmp_path, "root:1000000:1000000000\n")
    assert found.account(1_000_000) == found.account(900_000_000) != ("uid", 0)


def test_an_owner_missing_from_passwd_is_one_account(tmp_path: Path) -> None:
    """For example, a user of a directory service."""
    found = read(tmp_path, "carol@example.org:500000:65536\n")
    assert found.account(500_000) == found.account(565_535)
    assert found.account(500_000) != ("uid", 500_000)


@pytest.mark.parametrize(
    "line",
    [
        "mallory:0:4294967295", "mallory:1000:1000", "mallory:100:65436", "mallory:-1:5", "mallory:x:5", "mallory:1:",
        "mallory:100000:65536:9", "::", ":100000:65536", "mallory:99999999999999999999:1", "mallory:٣٤٥٦٧٨:5",
        "#mallory:70000:10", "mallory",
    ],
)  # fmt: skip
def test_no_line_takes_another_accounts_uid(tmp_path: Path, line: str) -> None:
    """Whatever the file says, the uids of users and services stay their own."""
    found = read(tmp_path, f"{line}\nalice:200000:10\n")
    for uid in (0, 1, 999, 1000, 1501, 61_184, 65_519, 65_534, 65_535):
        assert found.account(uid) == ("uid", uid)
    assert found.account(200_005) in (("uid", 1501), ("uid", 1500))


def test_of_ranges_that_overlap_each_uid_has_one_owner(tmp_path: Path) -> None:
    found = read(tmp_path, "mallory:100000:100\nalice:100050:100\nmallory:100090:5\n")
    assert [found.account(uid)[1] for uid in (100_000, 100_099, 100_100, 100_149)] == [1500, 1500, 1501, 1501]  # type: ignore[index]
    assert found.account(100_150) == ("uid", 100_150)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=400)
    | st.lists(st.sampled_from([b"mallory", b":", b"\n", b"70000", b"9", b"\0", b"\xff"])).map(b"".join)
)
def test_any_bytes_are_read(tmp_path: Path, text: bytes) -> None:
    """The file is root's, but no content may stop a start or a reload."""
    found = read(tmp_path, text, text.decode("latin-1"))
    assert found.account(1000) == ("uid", 1000)
    for uid in (70_000, 4_294_967_295):
        hash(found.account(uid))


def test_a_huge_file_costs_little_and_a_missing_one_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, "".join(f"mallory:{100_000 + 10 * n}:5\n" for n in range(1_000_000)))
    assert len(found._ranges) <= peer_uid.MAX_LINES
    assert read_subordinates(tmp_path / "nowhere", tmp_path / "nowhere").account(100_000) == ("uid", 100_000)
    assert read_subordinates(tmp_path, tmp_path).account(100_000) == ("uid", 100_000)


def test_a_user_and_its_subordinates_have_one_limit(
    root: None, open_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the Unix socket and on loopback, from the start and after a reload."""
    found = read(tmp_path, "mallory:100000:65536\n")
    monkeypatch.setattr(auth, "read_subordinates", lambda: found)

    async def play() -> None:
        async with house(open_path, listen={"max_per_peer": 6}) as lan:
            for again in range(2):
                mine = []
                for number in range(10):
                    for tcp in (False, True):
                        with acting_as(100_000 + number, 100_000):
                            mine += await connected(lan, 1, tcp=tcp)
                with acting_as(1500, 1500):
                    mine += await connected(lan, 3, tcp=False)
                with acting_as(1501, 1501):
                    others = await connected(lan, 3, tcp=False)
                await settled(lambda: (still_open(mine), still_open(others)) == (6, 3))  # noqa: B023
                for sock in (*mine, *others):
                    sock.close()
                await settled(lambda: not lan.server._limiter.connections)
                if not again:
                    lan.server.reload(config.Access())

    asyncio.run(play())


def headers(given: dict[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(given))


def test_a_token_is_one_account_from_any_number_of_addresses(tmp_path: Path) -> None:
    """A host has 2^64 IPv6 addresses, but only the tokens that it was given."""
    guard = Guard(config.Access(token_file=token_file(tmp_path)))
    accounts = set()
    for number in range(5):
        peer = Peer(f"fd00::{number}", Role.NONE, False, False, "fd00::ffff", 80)
        plain = {"Host": "[fd00::ffff]"}
        assert guard.admit(peer, headers(plain)) == auth.Admitted(Role.NONE, auth.UNAUTHENTICATED)
        bearing = plain | {"Authorization": f"Bearer {TOKENS['read']}"}
        accounts.add(guard.admit(peer, headers(bearing)))
    assert len(accounts) == 1
    local = Peer(("uid", 1500), Role.SCAN, True, False)
    admitted = guard.admit(local, headers({"Authorization": f"Bearer {TOKENS['admin']}"}))
    assert admitted == auth.Admitted(Role.ADMIN, ("uid", 1500))
