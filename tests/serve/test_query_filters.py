"""`network=` and `q=`."""

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
