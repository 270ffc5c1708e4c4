"""Peers, Host, Origin and roles."""

import asyncio
import grp
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from netscand import config
from netscand.serve import auth, peer_uid
from netscand.serve.auth import Guard, Peer, Role, group_members, own_names
from netscand.serve.http import Refused
from tests.serve.house import handshake, house

LOOPBACK = Peer("127.0.0.1", Role.SCAN, False, False, "127.0.0.1", 8000)
LOOPBACK_6 = Peer("::1", Role.SCAN, False, False, "::1", 8000)
UNIX = Peer(("uid", 1000), Role.SCAN, True, False)
ELSEWHERE = Peer("192.168.1.9", Role.SCAN, False, False, "192.168.1.2", 8000)


def judge(peer: Peer, headers: list[tuple[str, str]], **settings: tuple[str, ...]) -> int:
    """Return the status for the headers; 200 if they pass."""
    guard = Guard(config.Access(**settings))  # type: ignore[arg-type]
    try:
        guard.admit(peer, CIMultiDictProxy(CIMultiDict(headers)))
    except Refused as refused:
        return refused.status
    return 200


@contextmanager
def acting_as(uid: int, gid: int, groups: tuple[int, ...] = ()) -> Iterator[None]:
    """Connect as another user: the kernel notes the user at that moment."""
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def met(guard: Guard, uid: int, gid: int, groups: tuple[int, ...] = ()) -> Peer:
    """Return the peer that the guard sees if a user connects."""
    with TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        os.chmod(folder, 0o755)
        listener.bind(f"{folder}/s")
        os.chmod(f"{folder}/s", 0o666)
        listener.listen()
        with socket.socket(socket.AF_UNIX) as client:
            with acting_as(uid, gid, groups):
                client.connect(f"{folder}/s")
            accepted, _ = listener.accept()
            with accepted:
                return guard.peer(accepted)


# ---- roles ----------------------------------------------------------------------------------------------------------


def test_root_and_the_group_are_admin_others_as_configured(root: None) -> None:
    guard = Guard(config.Access(others="read"))
    guard.group = 4242
    assert met(guard, 0, 0) == Peer(("uid", 0), Role.ADMIN, True, True)
    assert met(guard, 1234, 1234) == Peer(("uid", 1234), Role.READ, True, False)
    assert met(guard, 1234, 4242) == Peer(("uid", 1234), Role.ADMIN, True, True)
    assert met(guard, 1234, 1234, (7, 4242, 9)) == Peer(("uid", 1234), Role.ADMIN, True, True)
    guard._own_uid = 777
    assert met(guard, 777, 1234).role is Role.ADMIN, "it may change the process and its files anyway"
    assert met(guard, 1234, 1234, tuple(range(5000, 5000 + peer_uid.MAX_GROUPS + 1))).role is Role.READ
    for others in ("scan", "none"):
        assert met(Guard(config.Access(others=others)), 1234, 1234).role.on_wire == others


def test_without_the_group_only_root_is_admin() -> None:
    assert Guard(config.Access(group="no-such-group-here")).group is None
    some = grp.getgrall()[0]
    assert Guard(config.Access(group=some.gr_name)).group == some.gr_gid


def test_a_tcp_peer_is_its_address_whatever_the_notation() -> None:
    assert auth._normalized("::ffff:127.0.0.1") == "127.0.0.1"
    assert auth._normalized("fe80::1%eth0") == "fe80::1"


class Elsewhere(socket.socket):
    """Connection between two addresses."""

    def __init__(self, ours: str, theirs: str) -> None:
        super().__init__()
        self.getsockname = lambda: (ours, 8000)  # type: ignore[method-assign]
        self.getpeername = lambda: (theirs, 4000)  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("ours", "theirs", "role"),
    [("127.0.0.1", "127.0.0.1", Role.SCAN), ("::1", "::1", Role.SCAN), ("192.168.1.2", "192.168.1.9", Role.NONE),
     ("192.168.1.2", "192.168.1.2", Role.NONE), ("127.0.0.1", "192.168.1.9", Role.NONE),
     ("::ffff:127.0.0.1", "::ffff:192.168.1.9", Role.NONE), ("fe80::1%eth0", "fe80::2%eth0", Role.NONE)],
)  # fmt: skip
def test_beyond_loopback_a_role_needs_a_token(ours: str, theirs: str, role: Role) -> None:
    with Elsewhere(ours, theirs) as sock:
        assert Guard(config.Access(others="scan")).peer(sock).role is role


# ---- Host (FAULTS T6) -----------------------------------------------------------------------------------------------

HOSTS = [
    (LOOPBACK, ["127.0.0.1:8000"], 200),
    (LOOPBACK, ["localhost:8000"], 200),
    (LOOPBACK, ["LOCALHOST:8000"], 200),
    (LOOPBACK, ["[::1]:8000"], 200),
    (LOOPBACK_6, ["[::1]:8000"], 200),
    (LOOPBACK, ["evil.example:8000"], 421),
    (LOOPBACK, ["localhost"], 421),
    (LOOPBACK, ["localhost:8001"], 421),
    (LOOPBACK, ["localhost.evil:8000"], 421),
    (LOOPBACK, ["127.0.0.1.evil:8000"], 421),
    (LOOPBACK, ["192.168.1.2:8000"], 421),
    (LOOPBACK, ["127.0.0.1:8000@evil"], 400),
    (LOOPBACK, ["evil@127.0.0.1:8000"], 400),
    (LOOPBACK, ["localhost:8000, evil"], 400),
    (LOOPBACK, [], 400),
    (LOOPBACK, [""], 400),
    (LOOPBACK, [" "], 400),
    (LOOPBACK, ["localhost:8000", "localhost:8000"], 400),
    (LOOPBACK, ["localhost:8000", "evil"], 400),
    (ELSEWHERE, ["192.168.1.2:8000"], 200),
    (ELSEWHERE, ["localhost:8000"], 421),
    (ELSEWHERE, ["127.0.0.1:8000"], 421),
    (UNIX, [], 200),
    (UNIX, [""], 200),
    (UNIX, ["anything"], 200),
]


@pytest.mark.parametrize(("peer", "hosts", "status"), HOSTS)
def test_the_host_of_a_tcp_request_is_ours(peer: Peer, hosts: list[str], status: int) -> None:
    """FAULTS T6: no DNS rebinding."""
    assert judge(peer, [("Host", host) for host in hosts]) == status


def test_hosts_of_the_configuration_are_ours_too() -> None:
    listed = ("scan.lan", "scan.example:443")
    assert judge(LOOPBACK, [("Host", "scan.lan:8000")], allowed_hosts=listed) == 200
    assert judge(LOOPBACK, [("Host", "Scan.Example:443")], allowed_hosts=listed) == 200
    assert judge(LOOPBACK, [("Host", "scan.lan:443")], allowed_hosts=listed) == 421
    assert judge(LOOPBACK, [("Host", "scan.example")], allowed_hosts=listed) == 421


def test_beyond_loopback_the_names_of_this_host_are_ours() -> None:
    """T6: exactly these, and not on loopback, where a page has a role without a token."""
    assert own_names("Pi.lan.example") == {"pi.lan.example", "pi", "pi.local"}
    assert own_names("localhost.localdomain") == own_names("") == own_names("a b") == frozenset()
    name = socket.gethostname().lower().partition(".")[0]
    for host in (name, f"{name}.local", f"{name.upper()}.LOCAL"):
        assert judge(ELSEWHERE, [("Host", f"{host}:8000")]) == 200
        assert judge(ELSEWHERE, [("Host", f"{host}:8001")]) == 421
        assert judge(LOOPBACK, [("Host", f"{host}:8000")]) == 421
    for host in (f"{name}.evil", f"evil.{name}", f"{name}.local.evil", "local", f"{name}.locale"):
        assert judge(ELSEWHERE, [("Host", f"{host}:8000")]) == 421


# ---- our own page on loopback (T5, T6) -------------------------------------------------------------------------------

OURS = ("Host", "localhost:8000")
PAGE_PEER = replace(LOOPBACK, page_is_admin=True)
PAGES_OF_ADMINS = [
    ([OURS, ("Origin", "http://localhost:8000")], Role.ADMIN),
    ([("Host", "[::1]:8000"), ("Origin", "http://[::1]:8000")], Role.ADMIN),
    ([OURS, ("Sec-Fetch-Site", "same-origin")], Role.ADMIN),
    ([OURS], Role.SCAN),
    ([OURS, ("Sec-Fetch-Site", "none")], Role.SCAN),
    ([OURS, ("Sec-Fetch-Site", "same-site")], Role.SCAN),
    ([OURS, ("Origin", "http://localhost:3000"), ("Sec-Fetch-Site", "same-origin")], Role.SCAN),
    ([OURS, ("Origin", "http://127.0.0.1:8000")], Role.SCAN),
    ([OURS, ("Origin", "https://localhost:8000")], Role.SCAN),
    ([("Host", "scan.lan:8000"), ("Origin", "http://scan.lan:8000")], Role.SCAN),
    *[([OURS, ("Origin", "http://localhost:8000"), (name, "10.0.0.9")], Role.SCAN) for name in auth.PROXY_HEADERS],
]


@pytest.mark.parametrize(("headers", "role"), PAGES_OF_ADMINS)
def test_only_our_own_page_has_the_role_of_its_user(headers: list[tuple[str, str]], role: Role) -> None:
    """T5, T6: no other page of localhost, no other name, no proxy; without a peer that may, never."""
    guard = Guard(config.Access(loopback_admin=True, allowed_hosts=("scan.lan",)))
    found = CIMultiDictProxy(CIMultiDict(headers))
    assert guard.admit(PAGE_PEER, found).role is role
    assert guard.admit(LOOPBACK, found).role is Role.SCAN


def test_the_kernel_says_whose_page_it_is(root: None) -> None:
    """Root and members of the group, only with `loopback_admin`, and only on loopback."""
    group = next(each for each in grp.getgrall() if group_members(each.gr_name) - {0})
    member = next(iter(group_members(group.gr_name) - {0}))
    assert group_members("no-such-group-here") == frozenset()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for configured in (True, False):
            guard = Guard(config.Access(loopback_admin=configured, group=group.gr_name))
            for uid, admin in ((0, True), (member, True), (54_321, False)):
                with acting_as(uid, 54_321):
                    client = socket.create_connection(listener.getsockname())
                accepted, _ = listener.accept()
                with client, accepted:
                    assert guard.peer(accepted).page_is_admin is (admin and configured)
    with Elsewhere("192.168.1.2", "192.168.1.2") as sock:
        assert not Guard(config.Access(loopback_admin=True)).peer(sock).page_is_admin


# ---- Origin (FAULTS T5) ---------------------------------------------------------------------------------------------

ORIGINS = [
    (LOOPBACK, [], 200),
    (LOOPBACK, ["http://127.0.0.1:8000"], 200),
    (LOOPBACK, ["http://localhost:3000"], 200),
    (LOOPBACK, ["https://localhost"], 200),
    (LOOPBACK, ["http://[::1]:5173"], 200),
    (LOOPBACK, ["http://evil"], 403),
    (LOOPBACK, ["null"], 403),
    (LOOPBACK, [""], 403),
    (LOOPBACK, ["http://localhost.evil"], 403),
    (LOOPBACK, ["http://localhost.evil:8000"], 403),
    (LOOPBACK, ["http://evil.localhost"], 403),
    (LOOPBACK, ["http://127.0.0.1:8000@evil"], 403),
    (LOOPBACK, ["http://127.0.0.1:8000/"], 403),
    (LOOPBACK, ["http://127.0.0.1:8000#@evil"], 403),
    (LOOPBACK, ["http://127.0.0.1:8000\\@evil"], 403),
    (LOOPBACK, ["http://localhost:99999999"], 403),
    (LOOPBACK, ["file://"], 403),
    (LOOPBACK, ["chrome-extension://localhost"], 403),
    (LOOPBACK, ["http://localhost:3000", "http://localhost:3000"], 403),
    (LOOPBACK, ["http://localhost:3000", "http://evil"], 403),
    (LOOPBACK, ["http://localhost:3000, http://evil"], 403),
    (ELSEWHERE, ["http://192.168.1.2:8000"], 200),
    (ELSEWHERE, ["http://localhost:3000"], 403),
    (UNIX, ["http://scan.lan"], 200),
    (UNIX, ["http://evil"], 403),
]


@pytest.mark.parametrize(("peer", "origins", "status"), ORIGINS)
def test_pages_of_other_sites_are_refused(peer: Peer, origins: list[str], status: int) -> None:
    """FAULTS T5: no cross-site WebSocket."""
    host = {LOOPBACK: "127.0.0.1:8000", ELSEWHERE: "192.168.1.2:8000", UNIX: "scan.lan"}[peer]
    assert judge(peer, [("Host", host), *(("Origin", origin) for origin in origins)]) == status


def test_behind_a_proxy_only_listed_names_are_our_own_origin() -> None:
    """Host is not checked on the Unix socket: behind a proxy, a rebound name would be our own origin."""
    for origin, host, status in (
        ("https://scan.lan", "scan.lan", 200),
        ("https://scan.lan:8443", "scan.lan:8443", 200),
        ("http://localhost:8000", "localhost:8000", 200),
        ("http://evil.example", "evil.example", 403),
        ("http://evil.example", "scan.lan", 403),
        ("https://scan.lan", "localhost", 403),
    ):
        headers = [("Host", host), ("Origin", origin)]
        assert judge(UNIX, headers, allowed_hosts=("scan.lan",)) == status, (origin, host)
    assert judge(UNIX, [("Host", "scan.lan")], allowed_hosts=("other.lan",)) == 200, "no page: a local program"
    assert judge(UNIX, [("Host", "scan.lan"), ("Origin", "https://scan.lan")]) == 200, "nothing is listed"


def test_images_and_scripts_of_other_sites_are_refused() -> None:
    """FAULTS T5: browsers send no Origin with those, but Sec-Fetch-Site."""
    host, cross = ("Host", "localhost:8000"), ("Sec-Fetch-Site", "cross-site")
    for mode, status in (("no-cors", 403), ("cors", 403), ("navigate", 200)):
        assert judge(LOOPBACK, [host, cross, ("Sec-Fetch-Mode", mode)]) == status
        assert judge(LOOPBACK, [host, ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", mode)]) == 200
    listed = ("Origin", "https://dash.lan")
    assert judge(LOOPBACK, [host, cross, listed], allowed_origins=("https://dash.lan",)) == 200


def test_configured_origins_are_allowed() -> None:
    headers = [("Host", "localhost:8000"), ("Origin", "https://Dash.example")]
    assert judge(LOOPBACK, headers, allowed_origins=("https://dash.example/",)) == 200
    assert judge(LOOPBACK, headers, allowed_origins=("http://dash.example",)) == 403


def test_the_checks_hold_on_the_wire(tmp_path: Path) -> None:
    """FAULTS T5 and T6, for the WebSocket and for changes; and there is no CORS header, ever."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            host = f"127.0.0.1:{lan.port}"
            scan = f"POST /api/scan HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n"
            cases = [
                (handshake("/ws", host), b"101"),
                (handshake("/ws", f"localhost:{lan.port}", "Origin: http://localhost:3000\r\n"), b"101"),
                (handshake("/ws", host, f"Origin: http://{host}\r\n"), b"101"),
                (handshake("/ws", host, "Origin: http://evil\r\n"), b"403"),
                (handshake("/ws", host, "Origin: null\r\n"), b"403"),
                (handshake("/ws", host, "Origin: http://localhost.evil\r\n"), b"403"),
                (handshake("/ws", host, "Origin: http://127.0.0.1:8000@evil\r\n"), b"403"),
                (handshake("/ws", f"evil.example:{lan.port}"), b"421"),
                (f"{scan}\r\n".encode(), b"202"),
                (f"{scan}Origin: http://evil\r\n\r\n".encode(), b"403"),
                (b"GET /api/devices HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n\r\n", b"421"),
                (b"GET /api/devices HTTP/1.1\r\n\r\n", b"400"),
                (b"GET /api/devices HTTP/1.1\r\nHost:\r\n\r\n", b"400"),
                (b"GET /api/devices HTTP/1.0\r\n\r\n", b"400"),
                (f"GET /api/devices HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n".encode(), b"400"),
            ]
            for request, status in cases:
                head = await lan.head(request)
                assert head.split(b" ", 2)[1] == status, request
                assert b"access-control" not in head.lower()
            two = "Origin: http://localhost:3000\r\nOrigin: http://localhost:3000\r\n"
            assert (await lan.head(handshake("/ws", host, two))).split(b" ", 2)[1] in (b"400", b"403")
            assert len(lan.scanner.requested) == 1

    asyncio.run(play())


def test_a_user_outside_the_group_serves_all_and_refuses_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As netscand-hub.service: it cannot give the socket to the group, so the kernel says who connects."""

    async def play() -> None:
        async with house(tmp_path, access={"others": "none", "group": "daemon"}) as lan:
            daemon = grp.getgrnam("daemon").gr_gid
            monkeypatch.setattr(os, "geteuid", lambda: 4711)
            for groups, expected in (([], (0o666, None)), ([daemon], (0o660, daemon))):
                monkeypatch.setattr(os, "getgroups", lambda groups=groups: groups)
                assert lan.server._unix_mode() == expected
            monkeypatch.undo()

    asyncio.run(play())
