"""We do not harm the LAN (FAULTS T20): what leaves us, seen by a capture beside us."""

import time
from collections.abc import Iterable

import pytest

from tests.lab.lan import Lab


def busiest_second(stamps: Iterable[float]) -> int:
    """The most frames in any window of one second."""
    times = sorted(stamps)
    most = start = 0
    for end, stamp in enumerate(times):
        while stamp - times[start] >= 1.0:
            start += 1
        most = max(most, end - start + 1)
    return most


@pytest.mark.parametrize("rate", [300, 1000])
def test_no_second_has_more_frames_than_the_budget_and_none_is_rude(lab: Lab, rate: int) -> None:
    """`rate` in any second, `background_rate` outside of wishes and the first scan; requests only, with our own sender.

    No reply by us, no sender 0.0.0.0, the network and broadcast addresses and ourselves never asked.
    """
    lab.crowd().populate(lab.addresses(40, start=100))
    with lab.capture() as capture:
        daemon = lab.daemon({"scan": {"rate": rate, "interval": 10, "background_rate": 50}})
        time.sleep(14)
        wished = time.time()
        assert daemon.request("POST", "/api/scan?wait=1", {})[0] == 200
        done = time.time()
        time.sleep(8)
        daemon.stop()
        sent = capture.arp(outgoing=True)
    assert len(sent) > 600
    assert busiest_second(frame.at for frame in sent) <= rate
    first = sent[0].at
    outside = [frame.at for frame in sent if frame.broadcast and (first + 4 < frame.at < wished or frame.at > done)]
    assert outside
    assert busiest_second(outside) <= 50
    for frame in sent:
        assert frame.operation == "request", f"a reply, by us: {frame}"
        assert frame.source == frame.sender_mac == lab.watcher.mac
        assert frame.sender_ip == lab.watcher.ip
        assert frame.target_ip not in ("10.77.0.0", "10.77.0.255", lab.watcher.ip)
