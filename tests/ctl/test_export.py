"""Lists for other programs: names chosen by devices must not harm them (FAULTS T9)."""

import csv
import io
from typing import Any

import pytest

from netscanctl.export import as_csv, as_ethers, as_hosts
from tests.ctl.messages import device
from tests.ctl.test_text import HOSTILE


def rows(*devices: object) -> list[list[str]]:
    return list(csv.reader(io.StringIO(as_csv(devices))))  # type: ignore[arg-type]


@pytest.mark.parametrize("start", ["=cmd()", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\u200b=1", "\x1b=1",
                                   "＝1", "＋1", "－1", "＠SUM(A1)"])  # fmt: skip
def test_no_cell_starts_a_formula(start: str) -> None:
    evil = device(1, hostname=start, label=start, vendor=start, notes=start, reason=start, kinds=[start])
    for cell in rows(evil)[1]:
        assert not cell.startswith(tuple("=+-@＝＋－＠\t\r"))
    assert rows(evil)[1][3].startswith("'")


@pytest.mark.parametrize("separator", [";", ",", "|", "; ", "\t"])
def test_no_cell_starts_a_formula_after_other_separators(separator: str) -> None:
    """In much of Europe Excel splits at semicolons, whatever the file means."""
    evil = device(1, label=f"tv{separator}=cmd()", hostname="a-b", reason="silent for 11.2 s - gone")
    cells = as_csv([evil]).replace(separator.strip() or "\0", "\0").replace('"', "").split("\0")
    assert not [cell for cell in cells if cell.strip().startswith("=")]
    assert rows(evil)[1][4] == "a-b"
    assert rows(evil)[1][12] == "silent for 11.2 s - gone"


def test_a_cell_with_separators_stays_one_cell() -> None:
    row = rows(device(1, label='a,"b"\nc', vendor="Apple, Inc."))[1]
    assert row[3] == 'a,"b" c'
    assert row[6] == "Apple, Inc."


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_device_is_one_line_with_any_name(text: str) -> None:
    evil = device(1, hostname=text, label=text, vendor=text, notes=text)
    assert len(as_csv([evil]).splitlines()) == 2
    assert as_csv([evil]).replace("\n", "").isprintable()
    assert len(as_hosts([evil]).splitlines()) <= 1
    assert as_ethers([evil]) == "a4:83:e7:00:00:01 192.168.1.1\n"


def test_ethers_has_mac_and_address_or_name() -> None:
    v6 = device(2, ip="fe80::1")
    nobody = device(3, ip=None, hostname=None)
    assert as_ethers([device(1), v6, nobody]) == "a4:83:e7:00:00:01 192.168.1.1\na4:83:e7:00:00:02 host2\n"


def test_foreign_addresses_are_not_exported() -> None:
    """FIELD case 6: a name server or DHCP server that reads the file must not give them out."""
    camera = device(2, ip="192.168.0.64")
    camera.addresses[0].ip, camera.addresses[0].foreign = "192.168.0.64", True
    assert as_ethers([camera]) == "a4:83:e7:00:00:02 host2\n"
    assert as_hosts([camera]) == ""


def test_hosts_has_address_and_name() -> None:
    labelled = device(2, label="nas")
    prose = device(3, label="Jane's phone", hostname="janes-phone")
    nameless = device(4, hostname=None)
    assert as_hosts([device(1), labelled, prose, nameless]) == (
        "192.168.1.1 host1\n192.168.1.2 nas\n192.168.1.3 janes-phone\n"
    )


def test_an_address_is_that_of_the_device_that_is_there() -> None:
    """A lease that was used again: dnsmasq must not give both devices the address, nor the old one's name."""
    gone = device(1, "offline", hostname="old", last_seen="2026-11-01T00:00:00.000Z")
    here = device(2, ip=gone.ip, hostname="new", last_seen="2026-10-01T00:00:00.000Z")
    earlier = device(3, "offline", ip=gone.ip, hostname="older", last_seen="2026-10-01T00:00:00.000Z")
    assert as_ethers([gone, here, earlier]) == f"{here.mac} {gone.ip}\n"
    assert as_hosts([here, gone, earlier]) == f"{gone.ip} new\n"
    assert as_ethers([earlier, gone]) == f"{gone.mac} {gone.ip}\n"


@pytest.mark.parametrize(
    ("hostname", "name"),
    [("www.bank.example", "www"), ("localhost", None), ("LOCALHOST.localdomain", None), ("8.8.8.8", None), ("8", None),
     ("a b", "a-b"), ("-a", "a"), ("ESP_813315", "esp-813315"), ("", None), ("wpad", None), ("w_pad #", "w-pad"),
     ("_wpad", None), ("_", None), ("-8", None), ("x" * 64, "x" * 63)],
)  # fmt: skip
def test_a_claimed_name_loses_its_domain(hostname: str, name: str | None) -> None:
    """A name from the device itself cannot replace a host of another domain."""
    assert as_hosts([device(1, hostname=hostname)]) == (f"192.168.1.1 {name}\n" if name else "")


def test_a_label_that_is_no_host_name_becomes_one() -> None:
    """It was dropped without a word. A host name that is valid comes first, and no other device loses its name."""
    phone = device(1, label="Jane\u2019s phone", hostname=None)
    kitchen = device(2, label="  Küche / Licht ", hostname="ESP_813315")
    assert as_hosts([phone, kitchen]) == "192.168.1.1 janes-phone\n192.168.1.2 kuche-licht\n"
    assert as_hosts([phone, device(3, hostname="janes-phone")]) == "192.168.1.3 janes-phone\n"
    assert as_hosts([device(4, label="日本", hostname=None)]) == ""


def test_a_name_from_dns_keeps_its_domain() -> None:
    assert as_hosts([device(1, hostname="nas.lan.example", hostname_source="dns")]) == "192.168.1.1 nas.lan.example\n"


def test_a_shared_name_belongs_to_the_most_trusted_device() -> None:
    thief = device(1, hostname="nas")
    named = device(2, hostname="nas", hostname_source="dns")
    labelled = device(3, label="NAS")
    assert as_hosts([thief, named]) == "192.168.1.2 nas\n"
    assert as_hosts([thief, named, labelled]) == "192.168.1.3 NAS\n"


def test_a_label_that_is_no_name_adds_no_trust() -> None:
    """FIELD case 27, surprise 6: `Dad's NAS` calls itself what the user called another device."""
    claims = device(50, label="Dad's NAS", hostname="nas-2", first_seen="2020-01-01T00:00:00.000Z")
    given = device(53, label="nas-2", hostname="printer", status="offline")
    unlabelled = device(54, hostname="NAS-2", hostname_source="dns")
    assert as_hosts([claims, given, unlabelled]) == "192.168.1.53 nas-2\n"
    assert as_hosts([claims, unlabelled]) == "192.168.1.54 NAS-2\n"


@pytest.mark.parametrize("gone", [{"ip": None}, {"ip": "fe80::1%eth0"}, None])
def test_a_name_that_a_user_gave_belongs_to_no_other(gone: dict[str, Any] | None) -> None:
    """The device that has it may have no address now, or may not be among those that are printed."""
    claims = device(50, hostname="nas-2", hostname_source="dns")
    named = device(53, label="nas-2", status="offline", **(gone or {}))
    printed = [claims, named] if gone else [claims]
    assert as_hosts(printed, [claims, named]) == ""
    assert as_ethers([device(50, ip="fe80::2", hostname="nas-2")], [claims, named]) == ""


@pytest.mark.parametrize("ip", ["fe80::1%eth0 bank.example", "1.2.3.4\n5.6.7.8 x", "\x1b[1m", "none"])
def test_an_invalid_address_is_omitted(ip: str) -> None:
    assert as_hosts([device(1, ip=ip)]) == ""
