"""Pure: text that comes from the LAN, made fit to be kept and shown (FAULTS T8)."""

import unicodedata

LABEL, NAME = 63, 253
"""Bytes of UTF-8 that a label and a whole name may have (RFC 1035, 2.3.4; RFC 1123, 2.1)."""

MOST = 256
"""Characters that are looked at: as many as the longest name may have."""

_UNSEEN = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])
"""Categories without a picture: control, bidi and zero-width characters, surrogates, private and unassigned ones."""

_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Characters of other categories that show nothing."""


def clean_name(text: str) -> str | None:
    """A host name as it may be kept: in NFC, of labels that are not too long, all of it visible. None: nothing is left.

    Giving it the result again changes nothing.
    """
    parts = unicodedata.normalize("NFC", _visible(text[:MOST])).split(".")
    labels = [label for part in parts if (label := _cut(part.strip(), LABEL).strip())]
    while labels and sum(len(label.encode()) + 1 for label in labels) - 1 > NAME:
        labels.pop()
    return ".".join(labels) or None


def clean_bytes(raw: bytes) -> str | None:
    """The same, of bytes that should be UTF-8; what comes after a NUL is not part of it."""
    return clean_name(raw.partition(b"\0")[0].decode("utf-8", "replace"))


def clean_text(raw: bytes) -> str | None:
    """Bytes that should be UTF-8, as one line of at most LABEL bytes, all of it visible. None: nothing is left."""
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
    """The front of it, in at most so many bytes, and no character broken."""
    return text.encode()[:most].decode("utf-8", "ignore")
