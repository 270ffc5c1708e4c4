"""Attacks that did no harm: they must do none later either. What stands elsewhere is listed in docs/threats.md."""

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest

from netscand.serve.query import LONGEST
from tests.attacks.account import FIRST, SECOND, Account, connected, requests, websockets
from tests.attacks.conftest import Scene, attacked, household
from tests.attacks.frames import sender
from tests.attacks.monitor import monitored
from tests.core import built_frames
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.ordinary import NOBODY
from tests.lab.test_daemon import wait_for
from tests.lab.test_hostile_peers import claim, raw
from tests.serve.house import TOKENS, handshake, token_file

SOCKETS = 60

# ---- requests -------------------------------------------------------------------------------------------------------

ROUTES = (
    "/", "/api/devices", "/api/devices?q=%C3%9F", "/api/networks", "/api/status", "/api/openapi.json", "/metrics",
    "/api/events?limit=100", "/api/events?kind=discovered&last=10", "/healthz", "/nowhere",
    "/api/devices?q=" + "%C3%9F" * LONGEST,
)  # fmt: skip


@pytest.mark.parametrize(
    "routes", [ROUTES, *(pytest.param((route,), marks=pytest.mark.long) for route in ROUTES)],
    ids=["all", *(route[:24] for route in ROUTES)],
)  # fmt: skip
def test_a_flood_of_requests(shared: Scene, attack_seconds: float, routes: tuple[str, ...]) -> None:
    """FAULTS T39: 120 connections of two accounts ask as soon as they are answered."""
    attackers = [requests(shared.daemon, uid, SOCKETS, *routes) for uid in (FIRST, SECOND)]
    outcomes = attacked(shared.daemon, attack_seconds, *attackers)
    assert sum(outcome.finished for outcome in outcomes) > 10 * attack_seconds


def test_streams_with_a_filter_each(shared: Scene, attack_seconds: float) -> None:
    """60 full streams of each account, none with the filter of another, while devices come and go."""
    attackers = [
        websockets(shared.daemon, uid, 1, b"", f"updates=full&q={number}")
        for uid in (FIRST, SECOND)
        for number in range(4)
    ]
    more = [websockets(shared.daemon, uid, 56, b"", f"updates=full&q={uid}") for uid in (FIRST, SECOND)]
    with connected(attack_seconds, *attackers, *more) as fire, monitored(shared.daemon) as measured:
        for address in (201, 202, 203):
            shared.crowd.join(f"10.77.0.{address}")
        fire()
    measured.check()


@pytest.mark.parametrize(
    ("updates", "length", "opened"),
    [
        pytest.param("updates=full", 1300, 0, id="too long"),
        pytest.param("updates=full", 100, SOCKETS, id="without", marks=pytest.mark.long),
        pytest.param("updates=full&q=10.77", 100, SOCKETS, id="with", marks=pytest.mark.long),
    ],
)
def test_whole_lists_with_a_filter_each_delay_no_other_account(
    root: None, updates: str, length: int, opened: int
) -> None:
    """FAULTS T56: 60 full streams of each of two accounts, each with its own `q`, on a large LAN."""
    text = "%C4%B0" * length
    fast = {"scan": {"rate": 0, "tries": 4, "interval": 3600, "background_rate": 0.1}, "presence": {}}
    with household(fast, network="10.77.0.0/21", count=900) as scene:
        attackers = [
            Account(scene.daemon, uid, SOCKETS, [handshake(f"/ws?updates=full&q={number}{text}")
                    for number in range(SOCKETS)], upgrades=True)
            for uid in (FIRST, SECOND)
        ]  # fmt: skip
        took = []
        with (
            monitored(scene.daemon) as measured,
            connected(8.0, *attackers) as fire,
            scene.daemon.websocket(updates) as stream,
            ThreadPoolExecutor(1) as beside,
        ):
            stream.recv()
            firing = beside.submit(fire)
            for number in range(4):
                time.sleep(0.5)
                mac = scene.crowd.join(f"10.77.6.{100 + number}")
                began = time.monotonic()
                while mac not in stream.recv(timeout=30):
                    pass
                took.append(time.monotonic() - began)
            assert [outcome.still_open for outcome in firing.result()] == [opened, opened]
    print(took)
    assert max(took) <= 1.5
    measured.check()


AMBIGUOUS = {
    "two lengths": b"Content-Length: 0\r\nContent-Length: 5\r\n",
    "two equal lengths": b"Content-Length: 0, 0\r\n",
    "length and chunks": b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
    "chunks twice": b"Transfer-Encoding: chunked, chunked\r\n",
    "chunks and more": b"Transfer-Encoding: chunked, identity\r\n",
    "other chunks": b"Transfer-Encoding: xchunked\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n",
    "a tab in the name": b"Transfer-\tEncoding: chunked\r\n",
    "a negative length": b"Content-Length: -1\r\n",
    "a signed length": b"Content-Length: +5\r\n",
    "a hexadecimal length": b"Content-Length: 0x5\r\n",
    "a length with a line": b"Content-Length: 1_0\r\n",
    "a length in other digits": "Content-Length: ٥\r\n".encode(),
    "a folded line": b"X: y\r\n z: Content-Length: 5\r\n",
    "a bare carriage return": b"X: y\rContent-Length: 5\r\n",
    "a bare line feed": b"X: y\nTransfer-Encoding: chunked\r\n",
    "a zero in a name": b"X\0: y\r\n",
    "a zero in a value": b"X: y\0Content-Length: 5\r\n",
    "no name": b": y\r\n",
    "no colon": b"Content-Length\r\n",
    "two hosts": b"Host: y\r\n",
}
"""Fields that a proxy and a server could read in two ways (RFC 9112, sections 5.1, 6.1, 6.3 and 11.2)."""


@pytest.mark.parametrize("fields", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_an_ambiguous_request_ends_its_connection(shared: Scene, fields: bytes) -> None:
    """FAULTS T38: what follows it is never taken for a request, so that nothing is smuggled past a proxy."""
    hidden = b"GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    asked = b"POST /api/scan HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + fields + b"\r\n"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(shared.daemon.socket))
        sock.sendall(asked + b"0\r\n\r\n" + hidden)
        answer = b""
        try:
            while piece := sock.recv(65_536):
                answer += piece
                if b'"openapi"' in answer:
                    break
        except ConnectionResetError:
            pass
    assert b'"openapi"' not in answer
    statuses = [line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.")]
    assert statuses in ([], [b"400"]), answer


# ---- strangers ------------------------------------------------------------------------------------------------------


def test_strangers_of_many_addresses(
    root: None, attack_seconds: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two hosts connect from eight addresses each, as often as they can; a token holder is served meanwhile."""

    def config(lab: Lab) -> dict[str, Any]:
        path = token_file(lab.folder, 0o600)
        os.chown(path, NOBODY, NOBODY)
        return {"listen": {"tcp": ["10.77.0.2:8000"]}, "access": {"token_file": path}}

    with household(config, count=4) as scene:
        strangers = []
        for first in (100, 110):
            host = scene.lab.host(f"10.77.0.{first}")
            for more in range(1, 8):
                host.add_address(f"10.77.0.{first + more}")
            strangers.append((host, [f"10.77.0.{first + more}" for more in range(8)]))
        holder = scene.lab.host("10.77.0.90")
        where = ("10.77.0.2", 8000)
        knock = b"GET / HTTP/1.1\r\nHost: 10.77.0.2:8000\r\nConnection: close\r\n\r\n"
        attackers = [
            Account(scene.daemon, uid, 20, knock, again=True, where=where, source=source, space=host.space)
            for uid, (host, sources) in zip((FIRST, SECOND), strangers, strict=True)
            for source in sources[::4]
        ]
        status = f"GET /api/status HTTP/1.1\r\nHost: 10.77.0.2:8000\r\nAuthorization: Bearer {TOKENS['read']}\r\n"
        served = Account(
            scene.daemon, 1504, 1, (status + "Connection: close\r\n\r\n").encode(), again=True, where=where,
            space=holder.space,
        )  # fmt: skip
        outcome, *outcomes = attacked(scene.daemon, attack_seconds, served, *attackers)
    assert sum(each.opened for each in outcomes) > 200
    assert outcome.finished >= 3, "a token holder is not served"


# ---- the LAN --------------------------------------------------------------------------------------------------------


def talk(count: int, seed: int) -> list[bytes]:
    """Frames of all kinds that are not ARP, each of a MAC of its own."""
    stand_in = "06:fe:aa:bb:cc:dd"
    templates = [
        built_frames.mdns(("made-up.local.", "A", "10.77.0.9"), mac=stand_in),
        built_frames.dhcp("discover", ("hostname", b"made-up"), mac=stand_in),
        built_frames.dhcp("request", ("hostname", b"made-up"), ("requested_addr", "10.77.0.9"), mac=stand_in),
        built_frames.dad("fe80::a683:e7ff:fe12:3456", mac=stand_in),
        built_frames.advertisement("fe80::1234", mac=stand_in),
        built_frames.solicitation("fe80::1234", "fe80::1", mac=stand_in),
    ]
    random = Random(seed)
    place = bytes.fromhex(stand_in.replace(":", ""))
    return [
        templates[number % len(templates)].replace(place, b"\x06\xfe" + random.randbytes(4)) for number in range(count)
    ]


def test_a_flood_of_talk(shared: Scene, attack_seconds: float) -> None:
    """Two hosts talk as fast as they can in the names of made-up devices; a real one leaves, and is reported."""
    hosts = [shared.lab.host(None) for _ in range(2)]
    floods = [sender(host, talk(6000, seed), 0, attack_seconds) for seed, host in enumerate(hosts)]
    leaving = shared.crowd.join("10.77.0.210")
    wait_for("it to be known", lambda: heard_of(shared.daemon, leaving))
    with monitored(shared.daemon) as measured:
        for flood in floods:
            flood.go()
        shared.crowd.leave(leaving)
        begun = time.monotonic()
        sent = [flood.result() for flood in floods]
        measured.event("offline", mac=leaving)
        took = time.monotonic() - begun
    print(sent, f"reported offline after {took:.1f} s")
    real = set(shared.macs.values())
    assert not [event for event in measured.events if event["kind"] == "offline" and event["mac"] in real]
    assert sum(each["sent"] for each in sent) > 1000 * attack_seconds
    limits = {limit["name"]: limit for limit in shared.daemon.get("/api/status")["limits"]}
    assert limits["talk"]["limiting"]
    assert limits["talk"]["refused"] > 0
    measured.check()
    for host in hosts:
        host.delete()


def test_changes_of_addresses_and_links(root: None, attack_seconds: float) -> None:
    """FAULTS F25: thousands of addresses and links come and go on this host: no device is reported offline for it.

    But for the link that had addresses, which is a device of this host.
    """
    count = 60 if attack_seconds > 5 else 20
    many = [f"10.{60 + number // 200}.{number % 200}.1/24" for number in range(16 * count)]
    links = [f"link add extra{number} type bridge" for number in range(count)]
    there = [f"addr add {address} dev extra0" for address in many]
    back = [f"addr del {address} dev extra0" for address in many]
    with household() as scene:
        space = scene.lab.watcher.space
        with monitored(scene.daemon) as measured:
            ends = time.monotonic() + attack_seconds
            space.ip(*links)
            while time.monotonic() < ends:
                space.ip(*there, *(f"link set extra{number} up" for number in range(count)))
                space.ip(*back, *(f"link set extra{number} down" for number in range(count)))
            space.ip("link set eth0 mtu 1400", "link set eth0 mtu 1500")
            space.ip(*(f"link del extra{number}" for number in range(count)))
            time.sleep(1)
    offline = [event["reason"] for event in measured.events if event["kind"] == "offline"]
    # None, if the daemon was so busy that it never saw the addresses: it looks at the newest state.
    assert offline in ([], ["this host no longer has this MAC"])
    measured.check(slowest=0.5, held=0.1)  # who may do that needs no attack: it was 1.05 s at the worst


def test_no_frame_of_ours_answers_a_claim_to_our_own_address(shared: Scene) -> None:
    """25 claims of two hosts, by ARP: we do not announce our own address, and do not answer."""
    hosts = [shared.lab.host(None) for _ in range(2)]
    own = shared.lab.watcher.ip
    with shared.lab.capture() as capture:
        for host in hosts:
            with raw(host) as sock:
                for _ in range(13):
                    sock.send(claim(host.mac, own))
                    time.sleep(0.02)
        wait_for("the claims", lambda: heard_of(shared.daemon, hosts[1].mac))
        ours = [arp for arp in capture.arp(outgoing=True) if own in (arp.target_ip,)]
    assert not [arp for arp in ours if arp.operation == "request" and arp.sender_ip == own], ours
    for host in hosts:
        host.delete()


def heard_of(daemon: Daemon, mac: str) -> bool:
    return daemon.request("GET", f"/api/devices/{mac}")[0] == 200
