"""Work that is not bounded by a turn of the loop: no client waits for what an account or a host of the LAN asks for."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.attacks.account import FIRST, SECOND, THIRD, Account, connected, frame, requests, websockets
from tests.attacks.conftest import QUICK, Scene, attacked, household
from tests.attacks.frames import sender
from tests.attacks.hostile_history import write_past
from tests.attacks.monitor import WATCHED, monitored
from tests.lab.answers import answering_without_end
from tests.lab.lan import Lab
from tests.lab.ordinary import NOBODY
from tests.lab.test_hostile_peers import claim
from tests.serve.house import handshake

SOCKETS = 60
"""Connections of each account: nearly all that one may have."""

HALVES = ["10.77.0.0/25", "10.77.0.128/25"]
SMALL = json.dumps({"type": "scan_now", "targets": [f"10.77.0.{n}" for n in range(1, 255)] * 2 + HALVES}).encode()
"""510 targets of a /24."""

NOISE = json.dumps({"type": "none", "more": [{"key": number} for number in range(5000)]}).encode()[:65_000]
"""65 KB that are no request."""


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(frame(SMALL), id="requests"),
        pytest.param(frame(b"", 0x9), id="pings"),
        pytest.param(frame(NOISE), id="noise"),
        pytest.param(frame(b""), id="nothing"),
        pytest.param(frame(b"x" * 125, 0x9), id="long pings", marks=pytest.mark.long),
        pytest.param(frame(b"{}"), id="wrong requests", marks=pytest.mark.long),
        pytest.param(frame(b'{"type": "set_interval", "seconds": 5}'), id="intervals", marks=pytest.mark.long),
        pytest.param(frame(b"{}", 0x2), id="binary", marks=pytest.mark.long),
        pytest.param(frame(b"", 0xA), id="pongs", marks=pytest.mark.long),
    ],
)
def test_what_two_accounts_send_holds_nobody_up(shared: Scene, attack_seconds: float, more: bytes) -> None:
    """FAULTS T24, T25: 120 WebSockets of two uids, as fast as they are taken."""
    attackers = [websockets(shared.daemon, uid, SOCKETS, more) for uid in (FIRST, SECOND)]
    outcomes = attacked(shared.daemon, attack_seconds, *attackers)
    assert all(outcome.opened >= SOCKETS for outcome in outcomes)


@pytest.mark.parametrize(
    ("query", "opened"),
    [
        pytest.param("q={}" + "%C4%B0" * 1300, 0, id="too long"),
        pytest.param("q={}" + "%C4%B0" * 120, SOCKETS, id="of their own"),
        pytest.param("q=" + "%C4%B0" * 128, SOCKETS, id="equal"),
    ],
)
def test_filters_of_two_accounts_hold_nobody_up(root: None, attack_seconds: float, query: str, opened: int) -> None:
    """FAULTS T55: 120 streams with a text that is expensive to search for, while a host announces 180 devices."""
    with household(count=20) as scene:
        host = scene.lab.host(None)
        attackers = [
            Account(scene.daemon, uid, SOCKETS, [handshake(f"/ws?updates=changes&{query.format(100 + number)}")
                    for number in range(SOCKETS)], upgrades=True)
            for uid in (FIRST, SECOND)
        ]  # fmt: skip
        claims = [claim(f"06:fe:00:00:{number:02x}:01", f"10.77.0.{30 + number}") for number in range(180)]
        frames = sender(host, claims, 0, 0.05)
        with monitored(scene.daemon) as measured, connected(attack_seconds, *attackers) as fire:
            frames.go()
            outcomes = fire()
            frames.result()
    assert sum(event["kind"] == "discovered" for event in measured.events) >= 150
    measured.check()
    assert [outcome.still_open for outcome in outcomes] == [opened, opened]


@pytest.mark.parametrize(
    ("source", "port", "rate"),
    [
        pytest.param("mdns", 5353, 2626.0, id="mdns"),
        pytest.param("dns", 53, 20_000.0, id="name server", marks=pytest.mark.long),
        pytest.param("nbns", 137, 20_000.0, id="nbns", marks=pytest.mark.long),
    ],
)
def test_answers_without_end_hold_nobody_up(
    root: None, attack_seconds: float, source: str, port: int, rate: float
) -> None:
    """FAULTS T22: who is asked for a name answers without end: two devices, each as much as twice stopped the daemon.

    A name server needs more, for what is no answer to the question costs less: 20,000 a second are 240 Mbit/s.
    """
    liars = "10.77.0.66", "10.77.0.67"
    files = {"/etc/resolv.conf": "".join(f"nameserver {ip}\n" for ip in liars)}
    with household({"names": {"sources": [source]}}, count=1, files=files) as scene:
        hosts = [scene.lab.host(None) for _ in liars]
        with monitored(scene.daemon) as measured:
            attacks = []
            for host, ip in zip(hosts, liars, strict=True):
                host.set_address(ip)
                attacks.append(answering_without_end(host, port, rate, attack_seconds))
                host.announce()
            outcomes = [attack.result() for attack in attacks]
    for outcome in outcomes:
        print(outcome)
        assert outcome["questions"] >= 1
        assert outcome["sent"] >= 0.1 * rate * attack_seconds, "too weak an attack: it proves nothing"
    measured.check()


def test_a_long_past_is_no_way_to_keep_others_waiting(
    root: None, tmp_path: Path, attack_seconds: float, request: pytest.FixtureRequest
) -> None:
    """FAULTS T30: two accounts ask, 120 at a time, for the most expensive pages of a history full of renamings.

    A third, which asks for the last events, as who was away does, has them nearly as soon as without them.
    """
    rounds = 1200 if request.config.getoption("--long") else 250
    kept = tmp_path / "past.db"
    written = write_past(kept, rounds)
    with Lab() as lab:
        daemon = lab.daemon(QUICK, as_user=True, env=WATCHED, start=False)
        shutil.copy(kept, daemon.history)
        os.chown(daemon.history, NOBODY, NOBODY)
        daemon.start()
        last = daemon.get("/api/status")["cursor"]
        epoch, _, number = last.rpartition("-")
        assert int(number) >= written
        away = f"/api/events?since={epoch}-{int(number) - 500}&limit=1000"
        with connected(1.0, requests(daemon, THIRD, 1, away)) as fire:
            (alone,) = fire()
        attackers = [
            requests(daemon, FIRST, SOCKETS, "/api/events?limit=50"),
            requests(daemon, SECOND, SOCKETS, "/api/events?kind=flood"),
        ]
        with connected(attack_seconds, *attackers, requests(daemon, THIRD, 1, away)) as fire:
            with monitored(daemon) as measured:
                *outcomes, beside = fire()
            print(alone, *outcomes, beside, sep="\n")
    assert beside.finished, "the third account had no answer at all"
    assert beside.took[-1] <= 10 * alone.took[-1] + 1.0
    measured.check()


def test_a_request_costs_what_it_says_and_not_what_it_names(root: None, attack_seconds: float) -> None:
    """FAULTS T24: halves of 10.0.0.0/8, where `[[network]]` names that, as sets of 8 million integers each."""
    halves = [["10.0.0.0/9"], ["10.128.0.0/9"], ["10.0.0.0/10", "10.64.0.0/10"], [f"10.{n}.0.0/16" for n in range(256)]]
    more = b"".join(frame(json.dumps({"type": "scan_now", "targets": targets}).encode()) for targets in halves)
    with Lab("10.0.0.0/8") as lab:
        daemon = lab.daemon(QUICK | {"network": [{"cidr": "10.0.0.0/8"}]}, as_user=True, env=WATCHED)
        attackers = [websockets(daemon, uid, 2, more, rate=2) for uid in (FIRST, SECOND)]
        assert all(outcome.sent for outcome in attacked(daemon, attack_seconds, *attackers))
