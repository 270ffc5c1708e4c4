"""Untrusted text, made safe for a terminal (FAULTS T8)."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netscanctl.text import NAME_LIMIT, clean, fit, visible_json, width, wrap

HOSTILE = {
    "escape": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;owned\x07x",
    "link": "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "C1": "\x9b31mred\x9d0;owned\x9c",
    "override": "ab\u202efdp.exe",
    "isolate": "a\u2066b\u2069c",
    "zero width": "a\u200bb\u200dc\ufeffd\u2060e",
    "lines": "a\nb\rc\vd\fe\u2028f\u2029g\x85h",
    "tab": "a\tb",
    "backspace": "a\x08\x08\x7fb",
    "NUL": "a\x00b",
    "tags": "a\U000e0041b",
    "fillers": "a\u3164b\u115fc\u2800d",
    "selectors": "a\ufe0fb",
    "private": "a\ue000b",
    "long": "x" * 10_000,
    "tower": "Z" + "\u0301\u0300\u0302" * 500 + "z",
    "surrogate": "a\ud800b",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_becomes_one_short_visible_line(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) <= NAME_LIMIT
    assert not {unicodedata.category(char) for char in cleaned} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    cleaned.encode()


@settings(deadline=None)  # a busy machine is no law broken
@given(st.text(alphabet=st.characters(), max_size=300), st.integers(1, 80))
def test_cleaned_text_is_one_line_and_cleaning_is_idempotent(text: str, limit: int) -> None:
    cleaned = clean(text, limit)
    assert len(cleaned) <= limit
    assert cleaned.isprintable()
    assert clean(cleaned, limit) == cleaned


def test_ordinary_text_is_not_changed() -> None:
    for text in ("janes-phone", "Jane's phone", "Büro Drucker", "客厅电视", "Кухня", "café", "हिन्दी", "مكتب"):
        assert clean(text) == text
    assert clean("cafe\u0301") == "café"
    assert clean("a\tb\nc") == "a b c"
    assert clean("  a   b ") == "a b"


def test_stacked_marks_are_limited() -> None:
    assert clean("x" + "\u0323\u0330\u0331\u0332" * 9 + "y") == "x\u0323\u0330y"


def test_a_cut_text_ends_with_an_ellipsis() -> None:
    assert clean("abcdef", 4) == "abc…"


def test_wide_characters_have_two_columns_and_marks_none() -> None:
    assert (width("abc"), width("客厅"), width("e\u0301"), width("📱")) == (3, 4, 1, 2)


@settings(deadline=None)
@given(st.text(alphabet="ab客厅é📱", max_size=20), st.integers(1, 30))
def test_a_cell_has_exactly_its_columns(text: str, columns: int) -> None:
    assert width(fit(text, columns)) == columns


@settings(deadline=None)
@given(st.text(alphabet="ab 客厅é📱", max_size=40), st.integers(2, 30))
def test_wrapped_text_fits_and_loses_nothing(text: str, columns: int) -> None:
    lines = wrap(text, columns)
    assert all(width(line) <= columns for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert wrap(f"\x1b[32m{'a' * columns}\x1b[0m b", columns) == [f"\x1b[32m{'a' * columns}\x1b[0m", "b"]


@settings(deadline=None)
@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_escaped_json_has_the_same_meaning(value: object) -> None:
    raw = json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass").replace(b"\xed", b"?")
    try:
        meant = json.loads(raw)
    except ValueError:
        return
    shown = visible_json(raw)
    assert not any(unicodedata.category(char).startswith("C") for char in shown)
    if "\ufffd" not in shown:
        assert json.loads(shown) == meant
