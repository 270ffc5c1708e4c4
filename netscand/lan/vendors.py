"""Vendor lookup by MAC prefix, from the registries of the IEEE.

Tables, in this order: the Debian package `ieee-data`, if it is installed; the table in the Debian package of netscand;
scapy's (Wireshark's `manuf`), which pip installs.
"""

import csv
import logging
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

from netscand.core.model import Mac
from netscand.lan import libraries

log = logging.getLogger(__name__)

Block = tuple[str, int, str]
"""A block of MACs: the hexadecimal digits of its prefix, its length in bits, the vendor's name."""

IEEE_FOLDER = Path("/usr/share/ieee-data")
IEEE_REGISTRIES = ("oui", "mam", "oui36", "iab")

PACKAGED = Path("/usr/share/netscand/vendors.tsv")
"""The digits of a prefix, a tab, a name."""

SUBDIVIDED = "IEEE Registration Authority"
"""Name of blocks that the IEEE assigns in smaller parts."""

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
        longer = ((width, rows) for width, rows in self._rows.items() if width > 24)
        self._divided = {row >> _OFFSET_BITS + width - 24 for width, rows in longer for row in rows}
        """Prefixes of 24 bits that several vendors share."""

    def of(self, mac: Mac) -> str | None:
        """Return the vendor's full name; None if it is unknown, and for a locally administered (randomised) MAC."""
        if mac[0] & _LOCAL:
            return None
        is_divided = int.from_bytes(mac[:3]) in self._divided
        return self._of_prefix(mac[:LONGEST_PREFIX] if is_divided else mac[:3])

    def _look_up(self, prefix_bytes: bytes) -> str | None:
        number = int.from_bytes(prefix_bytes.ljust(6, b"\0"))
        for width, rows in self._rows.items():
            prefix = number >> 48 - width
            row = bisect_left(rows, prefix << _OFFSET_BITS)
            if row < len(rows) and rows[row] >> _OFFSET_BITS == prefix:
                start = rows[row] & (1 << _OFFSET_BITS) - 1
                return self._names[start : self._names.index(b"\n", start)].decode()
        return None


def _load() -> "tuple[bytes, dict[int, array[int]]]":
    """Return all names, each ended by a newline, and the rows by prefix length, from the first table that has any."""
    for blocks in (ieee_blocks, _packaged_blocks, _scapy_blocks):
        try:
            names, rows = _table(blocks())
        except FileNotFoundError:
            continue
        except (OSError, ValueError, csv.Error) as wrong:
            log.warning("cannot read a vendor table (%s); using the next one", wrong)
            continue
        if names:
            return names, rows
    return b"", {}


def _table(blocks: Iterable[Block]) -> "tuple[bytes, dict[int, array[int]]]":
    names = bytearray()
    offsets: dict[str, int] = {}
    found: dict[int, array[int]] = {width: array("Q") for width in WIDTHS}
    for digits, width, name in blocks:
        if width not in found:
            continue
        if name not in offsets:
            offsets[name] = len(names)
            names += name.encode() + b"\n"
        number = int(digits.ljust(12, "0"), 16) >> 48 - width
        found[width].append(number << _OFFSET_BITS | offsets[name])
    return bytes(names), {width: array("Q", sorted(rows)) for width, rows in found.items()}


def ieee_blocks() -> Iterator[Block]:
    """Yield the blocks of the Debian package `ieee-data`, which its administrator can update."""
    for registry in IEEE_REGISTRIES:
        with (IEEE_FOLDER / f"{registry}.csv").open(newline="", encoding="utf-8", errors="replace") as file:
            for _, digits, name, *_ in islice(csv.reader(file), 1, None):
                if name != SUBDIVIDED:
                    yield digits, 4 * len(digits), " ".join(name.split())


def _packaged_blocks() -> Iterator[Block]:
    """Yield the blocks of the table in our Debian package, which packaging/vendors.py writes."""
    for line in PACKAGED.read_text().splitlines():
        digits, _, name = line.partition("\t")
        yield digits, 4 * len(digits), name


def _scapy_blocks() -> Iterator[Block]:
    """Yield the blocks of scapy's table."""
    for line in _LINE.finditer(libraries.vendor_table()):
        prefix, width, short, full = line.groups()
        yield prefix.replace(":", ""), int(width or 24), (full or short).strip()
