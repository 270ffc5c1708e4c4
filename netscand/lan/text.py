"""Sanitising of text from the LAN, before it is stored or shown (FAULTS T8). Pure."""

import unicodedata

LABEL, NAME = 63, 253
"""Maximum bytes of UTF-8 of a label and of a whole name (RFC 1035, 2.3.4; RFC 1123, 2.1)."""

MOST = 256
"""Maximum characters read: as many as the longest name may have."""

_UNSEEN = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])
"""Invisible categories: control, bidi and zero-width characters, surrogates, private and unassigned ones."""

_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Invisible characters of other categories."""


def clean_name(text: str) -> str | None:
    """Sanitise a host name: NFC, labels of bounded length, visible characters only. None if nothing is left.

    The function is idempotent.
    """
    parts = unicodedata.normalize("NFC", _visible(text[:MOST])).split(".")
    labels = [label for part in parts if (label := _cut(part.strip(), LABEL).strip())]
    while labels and sum(len(label.encode()) + 1 for label in labels) - 1 > NAME:
        labels.pop()
    return ".".join(labels) or None


def clean_bytes(raw: bytes) -> str | None:
    """Sanitise a host name in UTF-8 that may end in a NUL."""
    return clean_name(raw.partition(b"\0")[0].decode("utf-8", "replace"))


def clean_text(raw: bytes) -> str | None:
    """Sanitise UTF-8 text: one line of at most LABEL bytes, visible characters only. None if nothing is left."""
    text = raw[:MOST].partition(b"\0")[0].decode("utf-8", "replace")
    return _cut(unicodedata.normalize("NFC", _visible(text)).strip(), LABEL).strip() or None


def _visible(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_seen, text))


def _seen(char: str) -> str:
    if char.isspace():
        return " "
    if unicodedata.category(char) in _UNSEEN or char in _BLANK or _selects_variation(char):
        return ""
    return char


def _selects_variation(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef" or "\u180b" <= char <= "\u180f"


def _cut(text: str, most: int) -> str:
    """Return the longest prefix of at most so many bytes that breaks no character."""
    return text.encode()[:most].decode("utf-8", "ignore")
