"""Counts of devices, and the messages that begin with them."""

from netscand import protocol
from netscand.core.model import Status
from netscand.serve.encode import Encoder
from netscand.serve.hub import Hub
from netscand.serve.query import EVERYTHING, Filter
from netscand.serve.summary import Summary, around_devices
from tests.serve.house import BOOT, LAN, OTHER, FakeScanner, mac


def made(devices: int) -> tuple[FakeScanner, Summary]:
    translator = Encoder(lambda: BOOT, lambda _: None)
    scanner = FakeScanner(Hub(translator), devices)
    return scanner, Summary(scanner, translator)


def test_counts_follow_every_event_without_this_host() -> None:
    scanner, overview = made(5)
    scanner.devices[mac(0)].is_self = True
    assert overview.counts() == protocol.Counts(online=4, offline=0, unknown=0)
    scanner.turn(1, Status.OFFLINE)
    scanner.turn(2, Status.UNKNOWN)
    assert overview.counts() == protocol.Counts(online=2, offline=1, unknown=1)


def test_a_device_counts_once_in_each_of_its_networks() -> None:
    scanner, overview = made(3)
    first, second = scanner.devices[mac(0)], scanner.devices[mac(1)]
    first.addresses = first.addresses * 2
    scanner.join(7, OTHER)
    second.addresses += scanner.devices[mac(7)].addresses
    assert {network.id: network.online for network in overview.networks(EVERYTHING)} == {LAN: 3, OTHER: 2}
    assert [network.id for network in overview.networks(Filter(OTHER))] == [OTHER]


def test_no_text_in_a_message_is_taken_for_its_devices() -> None:
    hostile = '"devices":[]'
    message = protocol.ScanUpdate(
        scan_id=None, cursor=hostile, networks=[hostile], started_at=None, finished_at=None,
        online=0, frames=None, devices=[],
    )  # fmt: skip
    before, after = around_devices(message)
    assert before + after == protocol.encode(message)
    assert after == b"]}"
