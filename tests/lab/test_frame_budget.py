"""We do not harm the LAN (FAULTS T20): what leaves us, seen by a capture beside us."""

import time
from collections.abc import Iterable
from typing import Any

import pytest

from tests.lab.capture import Arp
from tests.lab.lan import Lab
from tests.lab.test_daemon import wait_for


def busiest_second(stamps: Iterable[float]) -> int:
    """The most frames in any window of one second."""
    times = sorted(stamps)
    most = start = 0
    for end, stamp in enumerate(times):
        while stamp - times[start] >= 1.0:
            start += 1
        most = max(most, end - start + 1)
    return most


IGMP = b"\x08\x00", 2
"""The kernel's own word of what it listens to."""

UPPER = {"exclude": ["10.77.0.128/25"]}


@pytest.mark.parametrize(("rate", "scan"), [(300, {}), (1000, UPPER)], ids=["all", "without a part"])
def test_no_second_has_more_frames_than_the_budget(lab: Lab, rate: int, scan: dict[str, Any]) -> None:
    """FAULTS T20: `rate` in any second, `background_rate` of them to all outside of requested scans and the first one.

    Requests only, with our own sender; no reply by us; the network and broadcast addresses and what is excluded are
    never asked. One probe for our own address has the sender 0.0.0.0 (RFC 5227, 2.1.1), and no other frame. What the
    daemon has the kernel send counts: questions for names.
    """
    crowd = lab.crowd()
    crowd.populate(lab.addresses(40, start=100))
    with lab.capture() as capture:
        daemon = lab.daemon({"scan": {"rate": rate, "interval": 5, "background_rate": 50, **scan}})
        crowd.join("10.77.0.200")
        wait_for("the first scan", lambda: daemon.get("/api/status")["last_scan"])
        scanned = time.time()
        time.sleep(7)
        wished = time.time()
        assert daemon.request("POST", "/api/scan?wait=1", {})[0] == 200
        done = time.time()
        time.sleep(5)
        assert "10.77.0.200" in daemon.devices()
        daemon.stop()
        sent = [frame for frame in capture.frames() if frame.outgoing and (frame.data[12:14], frame.data[23]) != IGMP]
    asks = [Arp(frame) for frame in sent if frame.data[12:14] == b"\x08\x06"]
    assert len(sent) > len(asks) > 400
    assert busiest_second(frame.at for frame in sent) <= rate
    outside = [frame.at for frame in sent if frame.data[0] & 1 and (scanned < frame.at < wished or frame.at > done)]
    assert outside
    assert busiest_second(outside) <= 50
    for ask in asks:
        assert ask.operation == "request", f"a reply, by us: {ask}"
        assert ask.source == ask.sender_mac == lab.watcher.mac
    (own,) = [ask for ask in asks if ask.target_ip == lab.watcher.ip]
    assert own.sender_ip == "0.0.0.0"
    assert {ask.sender_ip for ask in asks if ask is not own} == {lab.watcher.ip}
    excluded = range(128, 256) if scan else ()
    asked = {int(ask.target_ip.rpartition(".")[2]) for ask in asks}
    assert asked == set(range(1, 255)) - {*excluded}
    to_one = [frame.data for frame in sent if not frame.data[0] & 1 and frame.data[12:14] == b"\x08\x00"]
    assert to_one
    assert not {data[33] for data in to_one} & {*excluded}
