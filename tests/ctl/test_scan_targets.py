"""`scan-now TARGET`: which forms a target has, and which online devices did not answer."""

import pytest

from netscand.protocol import ScanRequest
from tests.ctl.conftest import Ctl
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import HOME, OFFICE, device, network, scanned


@pytest.mark.parametrize(
    ("targets", "sent"),
    [(["192.168.1.7"], ["192.168.1.7"]), (["192.168.1.0/24"], ["192.168.1.0/24"]), ([HOME], [HOME]),
     (["192.168.1.7-10"], ["192.168.1.7/32", "192.168.1.8/31", "192.168.1.10/32"]),
     (["192.168.1.0-192.168.2.255"], ["192.168.1.0/24", "192.168.2.0/24"]),
     (["eth0"], [HOME, "192.168.3.0/24@eth0"]), (["host8"], ["192.168.1.8"]), (["Jane's phone"], ["192.168.1.7"]),
     (["A483.E700.0014", "host20", "192.168.1.20"], ["192.168.1.20"]), (["fe80::7"], ["192.168.1.7"]), ([], [])],
    ids=str,
)  # fmt: skip
def test_a_target_is_an_address_network_interface_or_device(
    ctl: Ctl, daemon: FakeDaemon, targets: list[str], sent: list[str]
) -> None:
    """The daemon gets addresses, prefixes and ids; an interface stands for its scanned networks."""
    daemon.networks += [network(OFFICE), network("192.168.3.0/24@eth0"), network("172.17.0.0/16@eth0", "excluded")]
    daemon.devices[0].label = "Jane's phone"
    daemon.devices[0].addresses.append(device(7, ip="fe80::7").addresses[0])
    daemon.devices[0].addresses[-1].ip = "fe80::7"
    for more in ([], ["--no-wait"], ["--json"]):
        daemon.received.clear()
        assert ctl.run("scan-now", *targets, *more).returncode == 0
        assert daemon.received == [ScanRequest(targets=sent)]


@pytest.mark.parametrize(
    ("target", "message"),
    [("nonsense", 'TARGET "nonsense" matches no device and no interface (eth0)'), ("192.168.1", "matches no device"),
     ("192.168.1.300", "matches no device"), ("aa:bb:cc:dd:ee:ff", "matches no device"),
     ("fe80::99", "matches no device"),
     ("192.168.1.7/24", "192.168.1.7/24 has host bits set"), ("192.168.1.0/33", "expected an address, a range"),
     ("192.168.1.9-7", "last IP address must be greater than first"), ("192.168.1.9-300", "192.168.1.300"),
     ("2001:db8::/64", "TARGET")],
)  # fmt: skip
def test_a_bad_target_is_a_usage_error(ctl: Ctl, target: str, message: str) -> None:
    """Exit code 2, like every other bad argument; the daemon is not asked to scan."""
    assert message in ctl.fails(2, "scan-now", target)
    assert ctl.daemon.received == []


def test_a_device_that_is_ambiguous_or_has_no_ipv4_is_refused(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.devices[1].hostname = "host7"
    assert '"host7" matches 2 devices' in ctl.fails(1, "scan-now", "host7")
    daemon.devices[2].ip = "fe80::20"
    assert ctl.fails(1, "scan-now", "host20").startswith("host20 (a4:83:e7:00:00:14) has no IPv4 address to scan")


@pytest.mark.parametrize(
    ("targets", "silent"),
    [([], "host20 (a4:83:e7:00:00:14), host30 (a4:83:e7:00:00:1e)"),
     (["host20", "host7"], "host20 (a4:83:e7:00:00:14)"),
     (["192.168.1.16-31"], "host20 (a4:83:e7:00:00:14), host30 (a4:83:e7:00:00:1e)"), (["192.168.1.7"], "")],
    ids=str,
)  # fmt: skip
def test_online_devices_that_did_not_answer_are_named(
    ctl: Ctl, daemon: FakeDaemon, targets: list[str], silent: str
) -> None:
    """Of what was scanned; without this host, offline devices, and those of other networks."""
    daemon.devices += [
        device(30), device(31, kinds=["self"]), device(9, network=OFFICE), device(33, ip="fe80::33", addresses=[]),
    ]  # fmt: skip
    daemon.found = scanned(device(7))
    notices = ctl.run("scan-now", *targets).stderr.splitlines()
    assert notices[1:] == ([f"netscanctl: online, but did not answer this scan: {silent}"] if silent else [])
    assert ctl.run("scan-now", *targets, "--json").stderr == ""


def test_many_silent_devices_are_counted(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.devices = [device(number) for number in range(1, 30)]
    daemon.found = scanned()
    notice = ctl.run("scan-now").stderr.splitlines()[1]
    assert notice.count("host") == 8
    assert notice.endswith(" and 21 more")
