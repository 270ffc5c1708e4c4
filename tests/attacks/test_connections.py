"""Connections that keep others from connecting, and requests that hold memory before anybody answers them."""

import subprocess
import sys
import time

import pytest

from tests.attacks.account import FIRST, SECOND, Account, connected
from tests.attacks.conftest import Scene, attacked, household
from tests.attacks.monitor import monitored

ASKS = b"GET /healthz HTTP/1.1\r\nHost: localhost:8000\r\nConnection: close\r\n\r\n"

ROOT_ASKS = """
import json, socket, time
ok, bad = 0, []
ends = time.monotonic() + {seconds}
while time.monotonic() < ends:
    try:
        with socket.create_connection(("127.0.0.1", 8000), 5) as sock:
            sock.sendall({asks})
            answer = sock.recv(4096)
            if b" 200 " in answer:
                ok += 1
            else:
                bad.append(repr(answer[:40]))
    except OSError as wrong:
        bad.append(repr(wrong))
    time.sleep(0.02)
print(json.dumps([ok, bad]))
"""


@pytest.mark.parametrize("says", [b"", ASKS], ids=["silent", "asking"])
def test_two_accounts_that_connect_and_close(shared: Scene, attack_seconds: float, says: bytes) -> None:
    """FAULTS T16: the queue of the Unix socket was full of them, and root's netscanctl found no daemon."""
    attackers = [Account(shared.daemon, uid, 0, says, knocks=True) for uid in (FIRST, SECOND) * 2]
    failed = []
    with monitored(shared.daemon) as measured, connected(attack_seconds, *attackers) as fire:
        for attacker in attackers:
            attacker.open_fire()
        ends = time.monotonic() + attack_seconds
        while time.monotonic() < ends:
            ran = shared.daemon.ctl("status")
            if ran.returncode:
                failed.append(ran.stderr)
        outcomes = [attacker.outcome() for attacker in attackers]
        del fire
    print(*outcomes, sep="\n")
    assert sum(each.opened for each in outcomes) > 300 * attack_seconds
    assert not failed
    measured.check()


def test_closed_connections_on_loopback_are_not_roots(root: None, attack_seconds: float) -> None:
    """The kernel shows a closed socket as root's: root was refused for what another account had closed."""
    with household({"listen": {"tcp": ["127.0.0.1:8000"]}}, count=4) as scene:
        many = b"GET /api/events?limit=5000 HTTP/1.1\r\nHost: localhost:8000\r\n\r\n" * 60
        attackers = [
            Account(scene.daemon, uid, 0, many, knocks=True, where=("127.0.0.1", 8000)) for uid in (FIRST, SECOND)
        ]
        asks = ROOT_ASKS.format(seconds=attack_seconds, asks=ASKS)
        with monitored(scene.daemon) as measured, connected(attack_seconds, *attackers) as fire:
            asking = scene.daemon.space.popen([sys.executable, "-c", asks], stdout=subprocess.PIPE, text=True)
            outcomes = fire()
            said, _ = asking.communicate(timeout=60)
    print(said, *outcomes, sep="\n")
    assert sum(each.opened for each in outcomes) > 100 * attack_seconds
    assert said.endswith(", []]\n"), said
    assert not said.startswith("[0,")
    measured.check()


# ---- requests that hold memory ---------------------------------------------------------------------------------------

POST = b"POST /api/scan HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n"
TWO_BYTES = b"2\r\nxx\r\n"

MANY_PARTS: dict[str, tuple[bytes, bytes]] = {
    "fields": (POST + b"Content-Length: 50\r\n" + b"a:\r\n" * 16_000 + b"\r\n", b""),
    "trailers": (POST + CHUNKED + b"2\r\n{}\r\n0\r\n" + b"a:\r\n" * 50_000, b""),
    "chunks": (POST + CHUNKED + TWO_BYTES * 30_000, b""),
    "chunks behind answers": ((GET + b"\r\n") * 8 + GET + CHUNKED, TWO_BYTES),
}


@pytest.mark.parametrize(("begin", "more"), MANY_PARTS.values(), ids=MANY_PARTS)
def test_requests_of_many_small_parts(shared: Scene, attack_seconds: float, begin: bytes, more: bytes) -> None:
    """FAULTS T31: what some versions of aiohttp keep apart, from 120 connections that read no answer."""
    attackers = [Account(shared.daemon, uid, 60, begin, more, reads=False) for uid in (FIRST, SECOND)]
    # What the kernel took of them has its turns still.
    outcomes = attacked(shared.daemon, max(attack_seconds, 4.0), *attackers, descriptors=130)
    assert all(outcome.opened == 60 for outcome in outcomes)


ACCOUNTS = 18
"""As many of 60 connections each as fill all the places."""

UNFINISHED: dict[str, bytes] = {
    "bodies": POST + b"Content-Length: 65000\r\n\r\n" + b"x" * 64_900,
    "heads": POST + b"".join(b"X%d: " % number + b"x" * 8000 + b"\r\n" for number in range(8)),
    "answers": (GET + b"\r\n") * 380,
}


@pytest.mark.parametrize("begin", UNFINISHED.values(), ids=UNFINISHED)
def test_many_accounts_that_hold_a_little_each(root: None, attack_seconds: float, begin: bytes) -> None:
    """FAULTS T31: 1,080 connections of 18 accounts send half a request, or read no answer."""
    with household(count=4) as scene:
        attackers = [Account(scene.daemon, 3000 + number, 60, begin, reads=False) for number in range(ACCOUNTS)]
        with monitored(scene.daemon) as measured, connected(max(attack_seconds, 4.0), *attackers) as fire:
            outcomes = fire()
        limits = {limit["name"]: limit for limit in scene.daemon.get("/api/status")["limits"]}
    print(sum(outcome.opened for outcome in outcomes), limits.get("unread_bytes"), measured, sep="\n")
    assert sum(outcome.opened for outcome in outcomes) > 900
    assert limits["unread_bytes"]["refused"] > 0
    measured.check(grown=64.0 + 14.0)  # what so many connections need that send nothing
