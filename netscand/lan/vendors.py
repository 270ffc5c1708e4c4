"""Vendor lookup by MAC prefix, from the table in scapy (Wireshark's `manuf`, from the IEEE registries)."""

import re
from array import array
from bisect import bisect_left
from functools import lru_cache

from netscand.core.model import Mac
from netscand.lan import libraries

WIDTHS = (36, 28, 24)
"""Prefix lengths of the IEEE's blocks MA-S, MA-M and MA-L; the longest matching prefix names the vendor."""

LONGEST_PREFIX = 5
"""Bytes that contain the longest of them."""

REMEMBERED = 4096
"""Maximum lookups cached: a LAN has few vendors."""

_LOCAL = 0x02
"""Flag in the first byte: a locally administered address (IEEE 802c), whose prefix names no vendor."""

_OFFSET_BITS = 28
"""Lower bits of a row, the offset of the name in the text of all names; the upper ones are the prefix."""

_LINE = re.compile(r"^([0-9A-F:]{8,17})(?:/(\d\d))?\s*\t([^\t\n]*)(?:\t([^\n]*))?$", re.MULTILINE)
"""Prefix, its length if it is not 24, a short name, and usually a full name."""


class Vendors:
    """Vendor table: a sorted array for each prefix length, and one text of all names; 1.2 MiB instead of scapy's 24."""

    def __init__(self) -> None:
        self._names, self._rows = _load()
        libraries.return_memory()
        self._of_prefix = lru_cache(maxsize=REMEMBERED)(self._look_up)

    def of(self, mac: Mac) -> str | None:
        """Return the vendor's full name; None if it is unknown, and for a locally administered (randomised) MAC."""
        return None if mac[0] & _LOCAL else self._of_prefix(mac[:LONGEST_PREFIX])

    def _look_up(self, prefix_bytes: bytes) -> str | None:
        number = int.from_bytes(prefix_bytes.ljust(6, b"\0"))
        for width, rows in self._rows.items():
            prefix = number >> 48 - width
            row = bisect_left(rows, prefix << _OFFSET_BITS)
            if row < len(rows) and rows[row] >> _OFFSET_BITS == prefix:
                start = rows[row] & (1 << _OFFSET_BITS) - 1
                return self._names[start : self._names.index(b"\n", start)].decode()
        return None


def _load() -> tuple[bytes, "dict[int, array[int]]"]:
    """Return all names, each ended by a newline, and the rows by prefix length."""
    names = bytearray()
    offsets: dict[str, int] = {}
    found: dict[int, array[int]] = {width: array("Q") for width in WIDTHS}
    for line in _LINE.finditer(libraries.vendor_table()):
        prefix, width, short, full = line.groups()
        bits = int(width or 24)
        number = int(prefix.replace(":", "").ljust(12, "0"), 16) >> 48 - bits
        name = (full or short).strip()
        if bits not in found:
            continue
        if name not in offsets:
            offsets[name] = len(names)
            names += name.encode() + b"\n"
        found[bits].append(number << _OFFSET_BITS | offsets[name])
    return bytes(names), {width: array("Q", sorted(rows)) for width, rows in found.items()}
