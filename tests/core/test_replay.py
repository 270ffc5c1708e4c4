"""`netscand --replay`: captures written here, on their own clock, through the same decoders and inventory."""

import json
import logging
import sys
from collections.abc import Iterable
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace

import pytest

from netscand.__main__ import main
from netscand.config import Config
from netscand.lan import pcap
from netscand.replay import replay
from tests.core import captured_frames
from tests.core.built_frames import arp, dhcp_answer
from tests.core.world import network

START = 1_700_000_000.0
LAN = IPv4Network("10.0.0.0/24")
PHONE, TABLET = "a4:83:e7:12:34:56", "a4:83:e7:65:43:21"

Timed = tuple[float, bytes]


def capture(path: Path, packets: Iterable[Timed], *, program: str = "dumpcap", described: bool = False) -> Path:
    """A capture of packets at seconds since START."""
    networks = (network(gateway="10.0.0.1"),) if described else ()
    blocks = [pcap.packet(0, START + at, frame) for at, frame in packets]
    path.write_bytes(pcap.section(program) + pcap.interface("eth0", networks) + b"".join(blocks))
    return path


class Played:
    """The output of a replay."""

    def __init__(self, capsys: pytest.CaptureFixture[str], path: Path, *given: IPv4Network) -> None:
        self.code = replay(path, given, Config(), as_json=True)
        out, self.errors = capsys.readouterr()
        messages = [json.loads(line) for line in out.splitlines()]
        self.events = [message for message in messages if message["type"] == "event"]
        self.devices = messages[-1]["devices"] if messages else []
        self.of = [(event["kind"], event["device"] and event["device"]["mac"]) for event in self.events]


@pytest.fixture(autouse=True)
def without_vendors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the table takes longer than a replay."""
    monkeypatch.setattr("netscand.replay.Vendors", lambda: SimpleNamespace(of=lambda mac: None))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lan.pcapng"


def test_events_have_the_times_of_the_capture(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    played = Played(capsys, capture(file, [(0.0, arp("10.0.0.9")), (2.5, arp("10.0.0.8", TABLET))]), LAN)
    assert (played.code, played.errors) == (0, "")
    assert played.of == [("network_up", None), ("discovered", PHONE), ("discovered", TABLET)]
    assert [event["at"] for event in played.events[1:]] == ["2023-11-14T22:13:20.000Z", "2023-11-14T22:13:22.500Z"]
    assert [(device["mac"], device["ip"], device["status"]) for device in played.devices] == [
        (TABLET, "10.0.0.8", "online"), (PHONE, "10.0.0.9", "online"),
    ]  # fmt: skip


def test_dhcp_answers_name_the_network_and_its_gateway(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    options = ("subnet_mask", "255.255.255.0"), ("router", "10.0.0.1")
    answer = dhcp_answer("ack", "10.0.0.1", PHONE, *options, yiaddr="10.0.0.9")
    played = Played(capsys, capture(file, [(0.0, arp("10.0.0.9")), (1.0, answer)]))
    assert played.events[0]["network"] == "10.0.0.0/24@eth0"
    (router,) = [device for device in played.devices if device["mac"] == "52:54:00:00:00:01"]
    assert router["kinds"] == ["gateway"]


def test_an_unknown_network_is_an_error_with_a_suggestion(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    played = Played(capsys, capture(file, [(0.0, arp("10.0.0.9")), (1.0, arp("10.0.0.8", TABLET))]))
    assert played.code == 65
    assert "probably --network 10.0.0.0/24 (2 of 2 senders are in it)" in played.errors


def test_silence_in_a_foreign_capture_is_unknown_never_offline(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    """Law 8: no program is known to have probed the device."""
    other = [(at, arp("10.0.0.8", TABLET)) for at in range(5, 1000, 5)]
    back = [(1000.0, arp("10.0.0.9"))]
    played = Played(capsys, capture(file, [(0.0, arp("10.0.0.9")), *other, *back]), LAN)
    assert played.of[3:] == [("unknown", PHONE), ("online", PHONE)]
    assert played.events[3]["reason"] == "silent for 300 s; no program is known to have probed it"


def test_silence_in_netscands_own_capture_is_offline(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    """It probed the device meanwhile, and its capture has every answer that came."""
    ours = network().mac.hex(":")
    answers = [(float(at), arp("10.0.0.8", TABLET, to=ours)) for at in range(5, 300, 5)]
    phone = [(float(at), arp("10.0.0.9", to=ours)) for at in range(0, 60, 10)]
    path = capture(file, sorted([*answers, *phone]), program="netscand 0.1", described=True)
    played = Played(capsys, path)
    assert [kind for kind, mac in played.of if mac == PHONE] == ["discovered", "offline"]
    assert [kind for kind, mac in played.of if mac == TABLET] == ["discovered"]
    assert [device["kinds"] for device in played.devices if "self" in device["kinds"]] == [["self"]]


def test_a_pause_of_the_capture_proves_no_absence(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    ours = network().mac.hex(":")
    packets = [(0.0, arp("10.0.0.9", to=ours)), (100_000.0, arp("10.0.0.9", to=ours))]
    played = Played(capsys, capture(file, packets, program="netscand 0.1", described=True))
    assert [kind for kind, mac in played.of if mac == PHONE] == ["discovered"]
    assert "packet 2: no packet for 100000 s before it" in played.errors


def test_time_that_goes_back_delays_no_packet(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    packets = [(5000.0, arp("10.0.0.9")), (0.0, arp("10.0.0.8", TABLET)), (2.0, arp("10.0.0.7", "00:11:32:00:00:01"))]
    played = Played(capsys, capture(file, packets), LAN)
    assert "packet 2: the time goes back by 5000.0 s" in played.errors
    assert [event["at"][11:23] for event in played.events[1:]] == ["23:36:40.000", "23:36:40.000", "23:36:42.000"]


def test_damage_ends_the_replay_after_what_was_read(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    capture(file, [(0.0, arp("10.0.0.9")), (1.0, arp("10.0.0.8", TABLET))])
    file.write_bytes(file.read_bytes()[:-10])
    played = Played(capsys, file, LAN)
    assert played.code == 65
    assert f"{file}: the file ends in the middle of packet" in played.errors
    assert [device["mac"] for device in played.devices] == [PHONE]


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [(None, 66, "No such file"), (b"", 65, "the file is empty"), (pcap.section("x"), 65, "the file has no packets")],
)
def test_files_without_packets_are_errors(
    capsys: pytest.CaptureFixture[str], file: Path, content: bytes | None, code: int, message: str
) -> None:
    if content is not None:
        file.write_bytes(content)
    played = Played(capsys, file)
    assert (played.code, played.devices) == (code, [])
    assert message in played.errors


def test_a_pipe_needs_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    played = Played(capsys, Path("/dev/null"))
    assert played.code == 65
    assert "name the network with --network" in played.errors


def run_main(monkeypatch: pytest.MonkeyPatch, *options: str) -> object:
    """The exit code of `netscand`, run here."""
    monkeypatch.setattr(sys, "argv", ["netscand", *options])
    monkeypatch.setattr(logging, "disable", lambda: None)
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def test_captured_frames_replay_as_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    """As text; frames of real devices."""
    frames = [frame for frame in vars(captured_frames).values() if isinstance(frame, bytes)]
    capture(file, [(0.5 * at, frame) for at, frame in enumerate(frames)])
    assert run_main(monkeypatch, "--replay", str(file)) == 0
    out, errors = capsys.readouterr()
    assert "Pixel-7 02:a1:b2:c3:d4:e5: discovered (sent a DHCP message)\n" in out
    assert out.splitlines()[-1].startswith("online   -                a4:83:e7:12:34:56  Janes-iPhone")
    assert errors == ""


@pytest.mark.parametrize("wrong", [["--network", "10.0.0.0/24"], ["--replay", "x", "--once"], ["--network", "x"]])
def test_wrong_options_are_usage_errors(monkeypatch: pytest.MonkeyPatch, wrong: list[str]) -> None:
    assert run_main(monkeypatch, *wrong) == 2
