"""`network=`, `q=`, `known=`, `ip=` and `name=`."""

import pytest

from netscand import protocol
from netscand.core.model import Event, EventKind
from netscand.serve.encode import Encoder, decoded
from netscand.serve.http import Refused
from netscand.serve.hub import Hub
from netscand.serve.query import EVERYTHING, LONGEST, Change, Filter, filter_of
from tests.serve.house import BOOT, LAN, OTHER, FakeScanner, mac

translator = Encoder(lambda: BOOT, lambda of: "Apple, Inc.")
scanner = FakeScanner(Hub(translator))


def told(number: int = 1) -> protocol.Device:
    return translator.device(scanner.devices[mac(number)])


def test_no_filter_is_false_and_fits_everything() -> None:
    assert not EVERYTHING
    assert EVERYTHING.device(told())
    assert not Filter(None, "")


def test_text_is_searched_case_insensitively() -> None:
    device = told()
    device.hostname, device.label, device.notes = "Janes-Phone", "Küche", "by the window"
    for text in ("a4:83", "A4:83", "janes", "KÜCHE", "WINDOW", "10.0.0.11", "apple"):
        assert Filter(None, text).device(device), text
    assert not Filter(None, "printer").device(device)


def test_a_merged_mac_is_found_in_any_notation() -> None:
    device = told()
    for text in ("7a:0c:52", "7a0c52", "7a-0c-52-e1-88-6e", "7a0c.52e1"):
        assert not Filter(None, text).device(device), text
    device.merged_macs = ["7a:0c:52:e1:88:6e"]
    for text in ("7a:0c:52", "7a0c52", "7a-0c-52-e1-88-6e", "7a0c.52e1"):
        assert Filter(None, text).device(device), text


def test_no_text_is_found_across_two_words() -> None:
    device = told()
    device.hostname, device.label = "ab", "cd"
    for text in ("bc", "b\0c", "\0", "b\1c"):
        assert not Filter(None, text).device(device), text


def test_filters_that_differ_in_case_are_equal() -> None:
    """So that they are evaluated once."""
    assert Filter(LAN, "Küche") == Filter(LAN, "KÜCHE")


def test_a_device_is_casefolded_once_for_all_filters() -> None:
    class Counted(str):
        __slots__ = ()
        folded = 0

        def casefold(self) -> str:
            Counted.folded += 1
            return super().casefold()

    event = decoded(translator.event(Event(EventKind.RENAMED, 0.0, LAN, scanner.devices[mac(1)])))
    assert event.device is not None
    event.device.notes = Counted("notes")
    change = Change(event, None)
    assert [Filter(None, text).change(change) for text in ("NOTES", "note", "printer")] == [True, True, False]
    assert Counted.folded == 1


def test_a_long_text_is_refused() -> None:
    assert filter_of({"q": "x" * LONGEST}).text == "x" * LONGEST
    with pytest.raises(Refused, match="q: expected up to 128 characters, not 129"):
        filter_of({"q": "x" * (LONGEST + 1)})


def test_a_device_fits_the_networks_it_has_an_address_in() -> None:
    assert Filter(LAN).device(told())
    assert not Filter(OTHER).device(told())
    assert not Filter(LAN, "printer").device(told())


def test_an_event_fits_by_how_the_device_is_or_was() -> None:
    """A client must learn that a device left its filter."""
    event = decoded(translator.event(Event(EventKind.RENAMED, 0.0, LAN, scanner.devices[mac(1)])))
    before = told()
    before.hostname = "printer"
    assert Filter(None, "printer").event(event, before)
    assert not Filter(None, "printer").event(event, told())


def test_an_event_of_a_network_fits_every_text() -> None:
    event = decoded(translator.event(Event(EventKind.NETWORK_DOWN, 0.0, LAN)))
    assert Filter(None, "printer").event(event, None)
    assert Filter(LAN).event(event, None)
    assert not Filter(OTHER).event(event, None)


def test_a_scan_fits_where_one_of_its_networks_does() -> None:
    assert Filter(LAN).scan((OTHER, LAN))
    assert not Filter(LAN).scan((OTHER,))


def test_a_mac_is_found_in_any_spelling_and_in_part() -> None:
    """Stickers and switches write it with dashes, with dots, or without anything."""
    device = told()
    device.mac, device.addresses = "a4:83:e7:12:34:56", []
    for text in ("A4-83-E7-12-34-56", "a483.e712.3456", "a483e7123456", "A483E7", "e7-12", "e7-12-3", "3456", "e712.34",
                 "83.e712", "a483."):  # fmt: skip
        assert Filter(None, text).device(device), text
    for text in ("a483e7123457", "12.34", "1-2", "a4-84", "e713.3456", "10.0.0.1", "4-8", "xa483"):
        assert not Filter(None, text).device(device), text


def test_an_ip_or_a_part_of_one_is_no_part_of_a_mac() -> None:
    device = told()
    device.mac, device.addresses = "10:77:01:01:00:11", []
    for text in ("10.77.0.1", "10.77", "101", "192.168.1.1", "::1", "fe80::1"):
        assert not Filter(None, text).device(device), text


def test_known_devices_or_the_others_fit() -> None:
    device = told()
    assert not filter_of({"known": "true"}).device(device)
    assert filter_of({"known": "false"}).device(device)
    device.known = True
    assert filter_of({"known": "true"}).device(device)
    assert not filter_of({"known": "false"}).device(device)
    device.known, device.kinds = False, ["self"]
    assert not filter_of({"known": "false"}).device(device), "this host needs no mark"


def test_an_address_or_a_name_fits_only_completely() -> None:
    device = told()
    device.hostname, device.label = "janes-phone.lan", "Jane's phone"
    assert filter_of({"ip": "10.0.0.11"}).device(device)
    assert not filter_of({"ip": "10.0.0.1"}).device(device)
    for name in ("JANE'S PHONE", "janes-phone", "janes-phone.lan", "Janes-Phone.local", "janes-phone.local."):
        assert filter_of({"name": name}).device(device), name
    for name in ("jane", "janes-phone.home", ""):
        assert not filter_of({"name": name}).device(device), name


def test_a_prefix_fits_its_networks_on_any_interface() -> None:
    prefix = LAN.partition("@")[0]
    assert Filter(prefix).device(told())
    assert Filter(prefix).scan((OTHER, LAN))
    assert not Filter(prefix[:-1]).scan((LAN,))


@pytest.mark.parametrize(
    "given",
    [{"known": "yes"}, {"known": ""}, {"ip": "10.0.0"}, {"ip": "janes-phone"}, {"status": "on"}, {"network": "lan"},
     {"network": ""}, {"network": "10.0.0.0/24@"}, {"network": "10.0.0.0"}, {"name": "x" * (LONGEST + 1)}],
    ids=str,
)  # fmt: skip
def test_a_value_that_can_fit_nothing_is_refused(given: dict[str, str]) -> None:
    (name,) = given
    with pytest.raises(Refused, match=f"^{name}[=:].*expected"):
        filter_of(given)
