"""Which device is meant."""

import pytest

from netscanctl.client import Failure
from netscanctl.params import as_ip, as_mac, find_one, matching
from tests.ctl.words import address, device

PHONE = device(1, hostname="Janes-Phone.lan", label="Jane's phone")
PRINTER = device(2, hostname="printer")
OTHER = device(3, hostname="printer", addresses=[address("192.168.1.3"), address("192.168.1.99")])
ALL = [PHONE, PRINTER, OTHER]


@pytest.mark.parametrize("text", ["a4:83:e7:00:00:01", "A4-83-E7-00-00-01", "a483.e700.0001", "a483e7000001"])
def test_a_mac_is_accepted_in_every_usual_notation(text: str) -> None:
    assert as_mac(text) == "a4:83:e7:00:00:01"
    assert find_one(ALL, text) is PHONE


@pytest.mark.parametrize("text", ["a4:83:e7:00:00", "printer", "192.168.1.1", "", "a4:83:e7:00:00:01:02"])
def test_an_invalid_mac_is_none(text: str) -> None:
    assert as_mac(text) is None


def test_an_address_is_normalized() -> None:
    assert as_ip("FE80:0::1") == "fe80::1"
    assert as_ip("printer") is None


@pytest.mark.parametrize("text", ["Jane's phone", "jane's PHONE", "janes-phone.lan", "janes-phone"])
def test_a_device_matches_by_label_name_and_short_name(text: str) -> None:
    assert find_one(ALL, text) is PHONE


def test_part_of_a_name_matches_no_device() -> None:
    with pytest.raises(Failure, match=r'no device matches "jane"; .*: netscanctl devices jane'):
        find_one(ALL, "jane")


def test_an_ambiguous_name_lists_the_macs() -> None:
    with pytest.raises(Failure, match=r'"printer" matches 2 devices; .* a4:83:e7:00:00:02, a4:83:e7:00:00:03'):
        find_one(ALL, "printer")


def test_an_address_matches_its_current_device_first() -> None:
    assert find_one(ALL, "192.168.1.99") is OTHER
    holder = device(4, ip="192.168.1.99")
    assert matching([*ALL, holder], "192.168.1.99") == [holder]


def test_a_failure_quotes_hostile_text_in_one_clean_line() -> None:
    with pytest.raises(Failure) as failure:
        find_one(ALL, "\x1b[31m\nx")
    assert str(failure.value).isprintable()
