"""Cleaning of untrusted text for a terminal: names from the LAN may contain escape sequences (T8). Pure."""

import re
import unicodedata

NAME_LIMIT = 64
"""Maximum characters of one cell; a DNS label has at most 63 bytes (RFC 1035, 2.3.4)."""
SENTENCE_LIMIT = 400
"""Maximum characters of a message from the daemon."""
MARKS_LIMIT = 2
"""Maximum combining marks on one letter; more would overlap other lines."""

SGR = re.compile(r"\x1b\[[\d;]*m")
"""Colour, as `render.coloured` sets it."""

# Invisible, but not control or format characters: they make two names look the same (Default_Ignorable_Code_Point).
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code)
    for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
    for code in range(first, last + 1)
}
# Control, format (bidi, zero-width, tags), surrogate, private-use, unassigned: their effect on a terminal is unknown.
_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def clean(text: object, limit: int = NAME_LIMIT) -> str:
    """Return one line of at most `limit` visible characters, in NFC; a cut text ends in `…`."""
    raw = str(text)
    if len(raw) <= limit and raw.isascii() and raw.isprintable() and "  " not in raw:
        return raw.strip()
    kept: list[str] = []
    marks = 0
    # Normalising is not linear for long runs of marks, and text that far beyond the limit is not shown.
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
    """Return JSON for a terminal: unsafe characters become JSON escapes of the same meaning."""
    return re.sub(r"[^ -~]", _escape, raw.decode(errors="replace"))


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    if char in "\n\r\t":
        return " "  # between tokens; JSON strings contain only the escaped form
    if unicodedata.category(char) not in _UNSAFE:
        return char
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def width(text: str) -> int:
    """Return the columns of clean text: two for East Asian wide characters and emoji, none for marks."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def pad(text: str, columns: int) -> str:
    """Return the text, padded to at least `columns`."""
    return text + " " * (columns - width(text))


def fit(text: str, columns: int) -> str:
    """Return the text in exactly `columns`: padded, or cut with `…`."""
    if width(text) <= columns:
        return pad(text, columns)
    return pad(_head(text, columns - 1) + "…", columns)


def wrap(text: str, columns: int) -> list[str]:
    """Return the text in lines of at most `columns`: broken at spaces, and within words that are wider.

    Colours (SGR) take no columns.
    """
    lines, line, used = [], "", 0
    for word in text.split(" "):
        wide = width(SGR.sub("", word))
        if line and used + 1 + wide > columns:
            lines.append(line)
            line, used = "", 0
        line, used = (f"{line} {word}", used + 1 + wide) if line else (word, wide)
        while used > columns:
            head = _head(line, columns) or line[0]
            lines.append(head)
            line = line[len(head) :]
            used = width(line)
    return [*lines, line] if line or not lines else lines


def _head(text: str, columns: int) -> str:
    """Return the characters at the beginning that fit into `columns`."""
    used = 0
    for at, char in enumerate(text):
        used += _columns(char)
        if used > columns:
            return text[:at]
    return text
