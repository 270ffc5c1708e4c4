"""Sanitised names contain nothing that hides, moves or repaints other text (FAULTS T8)."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netscand.lan.text import LABEL, NAME, clean_bytes, clean_name, clean_text


@pytest.mark.parametrize(
    ("said", "kept"),
    {
        "janes-phone": "janes-phone",
        "Jane’s iPhone": "Jane’s iPhone",
        "printer.local.": "printer.local",
        "\x1b[31mred\x1b[0m": "[31mred[0m",
        "\x1b]8;;http://evil/\x07link\x1b]8;;\x07": "]8;;http://evil/link]8;;",
        "\x1b]52;c;cm0gLXJm\x07": "]52;c;cm0gLXJm",
        "\x9b31mC1": "31mC1",
        "gpj\u202egnp.exe": "gpjgnp.exe",
        "a\u2066b\u2069c": "abc",
        "zero\u200bwidth\u200d\ufeff": "zerowidth",
        "a\nb\tc\rd": "a b c d",
        "\x00\x01\x7f": None,
        "...": None,
        " . . ": None,
        "": None,
        "\u2028\u2029\ue000\U000e0041": None,
        "\u3164\u115f\u2800": None,
        "e\u0301": "é",
        "<img src=x onerror=alert(1)>": "<img src=x onerror=alert(1)>",
        "=cmd()": "=cmd()",
        "a..b": "a.b",
        "(null)": None,
        "N/A": None,
        "192.168.1.20": None,
        "192.168.1.20.": None,
        "192.168.1.20.lan": "192.168.1.20.lan",
        "fe80::1": None,
        "00:00:5e:00:53:01": "00:00:5e:00:53:01",
        "x" * 10_000: "x" * 63,
        "é" * 100: "é" * 31,
        ".".join(["y" * 63] * 9): ".".join(["y" * 63] * 3),
    }.items(),
)
def test_what_is_said_and_what_is_kept(said: str, kept: str | None) -> None:
    assert clean_name(said) == kept


@given(st.text(max_size=300) | st.text(st.sampled_from("a. \u0301\u202e\x1b\u1100\u1161é\u0345\ufe0f"), max_size=300))
@example("\u0301")
def test_a_kept_name_is_short_visible_and_stays_as_it_is(said: str) -> None:
    kept = clean_name(said)
    if kept is None:
        return
    assert kept
    assert clean_name(kept) == kept
    assert unicodedata.is_normalized("NFC", kept)
    assert len(kept.encode()) <= NAME
    assert all(0 < len(label.encode()) <= LABEL for label in kept.split("."))
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for char in kept)


@given(st.binary(max_size=300))
def test_bytes_are_a_name_up_to_their_first_nul(raw: bytes) -> None:
    assert clean_bytes(raw) == clean_bytes(raw + b"\0" + b"more")


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
@example(b"\x1b[2J\xe2\x80\xae5.0\n. ")
def test_sanitised_text_is_one_short_visible_line(raw: bytes) -> None:
    """Sanitising it again changes nothing."""
    kept = clean_text(raw)
    if kept is None:
        return
    assert 0 < len(kept.encode()) <= LABEL
    assert clean_text(kept.encode()) == kept == kept.strip()
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for char in kept)


def test_a_text_is_no_name() -> None:
    """Dots and blanks of a DHCP client's name stay as they are."""
    assert clean_text(b"MSFT 5.0") == "MSFT 5.0"
    assert clean_text(b" udhcp 1.36.1 . \0more") == "udhcp 1.36.1 ."
    assert clean_text(b"\x1b\0") is None
