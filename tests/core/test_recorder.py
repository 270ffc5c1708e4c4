"""The recorder behind `netscanctl capture`: one recording at a time, within its bounds, and its file."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from netscand.core.model import Busy, Ip, NetworkState
from netscand.lan import recorder as bounds
from netscand.lan.capture import Frame
from netscand.lan.pcap import CaptureFile, Packet
from netscand.lan.recorder import Recorder, Recording
from tests.core.built_frames import arp
from tests.core.world import ip, network

OWN6 = Ip(bytes.fromhex("fe80000000000000000000fffe000002"))


class Tap:
    """A wire that passes on what a test received."""

    sink: Callable[[Sequence[Frame]], None] | None = None

    def tap(self, sink: Callable[[Sequence[Frame]], None] | None) -> None:
        self.sink = sink

    def receive(self, count: int = 1, at: float = 5.0, interface: int = 2) -> None:
        frames = [Frame(arp(f"10.0.0.{9 + number % 200}"), at, interface) for number in range(min(count, 200))]
        if self.sink is not None:
            self.sink([frames[number % len(frames)] for number in range(count)])


def recording(*, anonymise: bool = False) -> tuple[Tap, Recorder, Recording]:
    networks = [
        replace(network(gateway="10.0.0.1"), own6=OWN6),
        network("10.9.0.0/24", "tun0", 3, NetworkState.EXCLUDED),
    ]
    wire = Tap()
    made = Recorder(wire, lambda: {each.id: each for each in networks}, "netscand 1", lambda at: 1_700_000_000 + at)
    return wire, made, made.start(anonymise=anonymise)


def packets(content: bytes) -> list[Packet]:
    return list(CaptureFile(io.BytesIO(content)))


def test_a_recording_is_a_file_with_the_networks() -> None:
    wire, made, taken = recording()
    content = taken.take()
    wire.receive(2)
    wire.receive(1, interface=3)  # of a network that is not scanned
    content += taken.take() + taken.end()
    first, _ = packets(content)
    assert (first.at, first.frame) == (1_700_000_005.0, arp("10.0.0.9"))
    interface = first.interface
    assert (interface.name, interface.mac, interface.gateway) == ("eth0", network().mac, ip("10.0.0.1"))
    assert [own for own, _ in interface.addresses] == [network().own]
    made.stop()
    assert wire.sink is None


def test_there_is_one_recording_at_a_time() -> None:
    _, made, _ = recording()
    with pytest.raises(Busy, match="a capture is being made; try again when it has ended"):
        made.start(anonymise=False)
    made.stop()
    made.start(anonymise=False)


def test_a_slow_client_bounds_what_is_kept() -> None:
    """FAULTS T13: the frames beyond are counted in the file."""
    wire, _, taken = recording()
    for second in range(12):
        wire.receive(bounds.MOST_A_SECOND + 100, at=5.0 + second)
    content = taken.take() + taken.end()
    assert bounds.MOST_BUFFERED <= len(content) < bounds.MOST_BUFFERED + 1000
    received = 12 * (bounds.MOST_A_SECOND + 100)
    dropped = int.from_bytes(content[-16:-8], "little")
    assert dropped == received - len(packets(content))


def test_no_second_and_no_recording_is_longer_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    wire, _, taken = recording()
    taken.take()
    wire.receive(bounds.MOST_A_SECOND + 100)
    assert taken.end()[-16:-8] == (100).to_bytes(8, "little")
    assert not taken.is_over
    monkeypatch.setattr(bounds, "MOST_BYTES", 100)
    _, _, short = recording()
    short.take()
    assert short.is_over


def test_an_anonymous_recording_hides_this_host_too() -> None:
    _, _, taken = recording(anonymise=True)
    content = taken.take()
    assert bytes(network().mac[:3]) in content
    assert bytes(network().mac) not in content
    assert bytes(OWN6) not in content
