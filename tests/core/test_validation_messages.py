"""Validation messages name no Python types."""

import msgspec
import pytest

from netscand import protocol
from netscand.validation_messages import SHOWN, not_readable, shown

PYTHON = ("`", "str", "int", "float", "bool", "array", "enum", "None", "True", "False", "$")
TEXT = "text of at most 128 characters"


@pytest.mark.parametrize(
    ("raw", "kind", "said"),
    [
        ('{"targets": 5}', protocol.ScanRequest, f"targets: expected a list of at most 1024, each {TEXT}, not 5"),
        ('{"targets": ["a", 5]}', protocol.ScanRequest, f"targets[1]: expected {TEXT}, not 5"),
        ("5", protocol.ScanRequest, "the message: expected an object, not 5"),
        ('{"type": "foo"}', protocol.ClientMessage, 'type: expected one of scan_now, set_interval, not "foo"'),
        ("{}", protocol.ClientMessage, "type is missing"),
        ('{"type": "set_interval"}', protocol.ClientMessage, "seconds is missing"),
        ('{"type": "set_interval", "seconds": "x"}', protocol.ClientMessage,
         'seconds: expected a number or null, not "x"'),
        ('{"type": "scan_now", "request": 7}', protocol.ClientMessage, f"request: expected {TEXT} or null, not 7"),
        ('{"known": null}', protocol.DeviceUpdate, "known: expected true or false, not null"),
        ('{"patience": 0.2}', protocol.DeviceUpdate, "patience: expected a number from 1 to 86400 or null, not 0.2"),
        ('{"label": ', protocol.DeviceUpdate, "invalid JSON (Input data was truncated)"),
    ],
)  # fmt: skip
def test_an_invalid_message_names_key_and_expected_value(raw: str, kind: object, said: str) -> None:
    """The error names the position, the expected value and the value found."""
    with pytest.raises(msgspec.MsgspecError) as wrong:
        msgspec.json.decode(raw, type=kind)
    published = not_readable(wrong.value, raw, kind)
    assert published == said
    words = published.replace("interval", "").replace("printed", "")
    assert not [word for word in PYTHON if word in words]


def test_what_is_no_json_for_other_reasons_has_words_too() -> None:
    """Too deep, too long a number, half a surrogate."""
    assert not_readable(RecursionError("maximum recursion depth"), "[" * 9, protocol.ScanRequest) == "invalid JSON"


def test_a_long_value_is_cut() -> None:
    assert len(shown("x" * 1000)) == SHOWN
    assert shown(object()).startswith("<object")
