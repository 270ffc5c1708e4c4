"""Text from elsewhere, made safe for a terminal: a name may carry escapes, a LAN is hostile (FAULTS T8). Pure."""

import re
import unicodedata

NAME_LIMIT = 64
"""Characters of one cell; a DNS label has at most 63 bytes (RFC 1035, 2.3.4)."""
SENTENCE_LIMIT = 400
"""Characters of a sentence from the daemon."""
MARKS_LIMIT = 2
"""Combining marks on one letter; more only climb into other lines."""

# Invisible though no control or format character: they hide one name behind another (Default_Ignorable_Code_Point).
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code)
    for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
    for code in range(first, last + 1)
}
# Controls, formats (bidi, zero-width, tags), surrogates, private, unassigned: who knows what a terminal makes of them.
_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def clean(text: object, limit: int = NAME_LIMIT) -> str:
    """One line, NFC, of visible characters, at most `limit` of them; what was cut ends in `…`."""
    raw = str(text)
    if len(raw) <= limit and raw.isascii() and raw.isprintable() and "  " not in raw:
        return raw.strip()
    kept: list[str] = []
    marks = 0
    # Normalising is not linear for long runs of marks; nothing that far behind the limit is shown.
    for char in unicodedata.normalize("NFC", raw[: 8 * limit]):
        category = unicodedata.category(char)
        if char in "\t\n\r\v\f\x85" or category in ("Zs", "Zl", "Zp"):
            char, marks = " ", 0
            if kept and kept[-1] == " ":
                continue
        elif category in _UNSAFE or char in _INVISIBLE:
            continue
        else:
            marks = marks + 1 if category in ("Mn", "Me") else 0
            if marks > MARKS_LIMIT:
                continue
        kept.append(char)
    line = "".join(kept).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def visible_json(raw: bytes) -> str:
    """JSON for a terminal: what that might obey becomes a JSON escape, which means the same."""
    return re.sub(r"[^ -~]", _escaped, raw.decode(errors="replace"))


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    if char in "\n\r\t":
        return " "  # between tokens; within a string JSON has it escaped already
    if unicodedata.category(char) not in _UNSAFE:
        return char
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def width(text: str) -> int:
    """Columns that clean text takes: East Asian wide and emoji two, marks none."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def pad(text: str, columns: int) -> str:
    """The text, padded with blanks to `columns` where it takes fewer."""
    return text + " " * (columns - width(text))


def fit(text: str, columns: int) -> str:
    """The text padded with blanks to `columns`, or cut to them with `…`."""
    if width(text) <= columns:
        return pad(text, columns)
    kept, used = [], 0
    for char in text:
        if used + _columns(char) > columns - 1:
            break
        kept.append(char)
        used += _columns(char)
    return "".join(kept) + "…" + " " * (columns - 1 - used)
