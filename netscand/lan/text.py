"""Sanitising of text from the LAN, before it is stored or shown (FAULTS T8). Pure."""

import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address

LABEL, NAME = 63, 253
"""Maximum bytes of UTF-8 of a label and of a whole name (RFC 1035, 2.3.4; RFC 1123, 2.1)."""

OEM_LETTERS = frozenset(range(0xA1, 0xA6))
"""Bytes that are letters in the OEM code pages 437 and 850, and signs in Latin-1."""

MOST = 256
"""Maximum characters read: as many as the longest name may have."""

_UNSEEN = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])
"""Invisible categories: control, bidi and zero-width characters, surrogates, private and unassigned ones."""

_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Invisible characters of other categories."""


NON_NAMES = frozenset([
    "localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback", "localdomain", "(none)", "none", "null",
    "(null)", "nil", "undefined", "unknown", "n/a",
])  # fmt: skip
"""First labels of names that distinguish no host: hosts without a name send them. `(none)` is Linux's, `(null)` C's."""


def clean_name(text: str) -> str | None:
    """Sanitise a host name: NFC, labels of bounded length, visible characters only. None if it says nothing.

    That is a name whose first label has no letter or digit, or is in NON_NAMES, and an IP address (RFC 1123, 2.1). The
    function is idempotent.
    """
    parts = unicodedata.normalize("NFC", _visible(text[:MOST])).split(".")
    labels = [label for part in parts if (label := _cut(part.strip(), LABEL).strip())]
    while labels and sum(len(label.encode()) + 1 for label in labels) - 1 > NAME:
        labels.pop()
    if not labels or not any(map(str.isalnum, labels[0])) or labels[0].lower() in NON_NAMES:
        return None
    name = ".".join(labels)
    return None if _is_address(name) else name


def clean_labels(labels: Iterable[bytes]) -> str | None:
    """Sanitise a host name in labels, as DNS encodes it. None if the first one says nothing."""
    texts = [decode(label) for label in labels]
    return clean_name(".".join(texts)) if texts and clean_name(texts[0]) else None


def clean_bytes(raw: bytes) -> str | None:
    """Sanitise a host name that may end in a NUL."""
    return clean_name(decode(raw.partition(b"\0")[0]))


def clean_text(raw: bytes) -> str | None:
    """Sanitise text: one line of at most LABEL bytes, visible characters only. None if nothing is left."""
    text = decode(raw[:MOST].partition(b"\0")[0])
    return _cut(unicodedata.normalize("NFC", _visible(text)).strip(), LABEL).strip() or None


def decode(raw: bytes, *, oem: bool = False) -> str:
    """Decode text of an unknown encoding: UTF-8, which protocols demand, else one that hosts use.

    Windows' DHCP client uses the OEM code page ([MS-DHCPE]), where 0x80 to 0x9F are letters; so are 0xA1 to 0xA5, which
    are signs in Latin-1. Other bytes are Latin-1, unless the protocol (`oem`) always uses the OEM code page. Without
    any ASCII letter, the bytes may be in any encoding, or be no text: the result is empty.
    """
    if raw.endswith(b"\xff\xff"):  # erased flash memory, behind a name or instead of it
        raw = raw.rstrip(b"\xff")
    utf8 = raw.decode("utf-8", "ignore")
    if not utf8.isascii() or len(utf8) == len(raw):
        return utf8  # some of its characters may be broken, such as the last one of a truncated name
    if not oem and not any(map(str.isalpha, utf8)):
        return ""
    high = {byte for byte in raw if byte >= 0x80}
    return raw.decode("cp850" if oem or min(high) < 0xA0 or high <= OEM_LETTERS else "latin-1")


def _is_address(text: str) -> bool:
    with suppress(ValueError):
        return text[0] in "0123456789abcdefABCDEF:" and bool(ip_address(text))
    return False


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
