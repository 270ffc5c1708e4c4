"""MAC prefix → vendor, from the table that scapy carries (Wireshark's `manuf`, after the IEEE's registries)."""

import re
from array import array
from bisect import bisect_left
from typing import NamedTuple

from netscand.core.model import Mac
from netscand.lan import lightly

WIDTHS = (36, 28, 24)
"""Bits of the IEEE's blocks MA-S, MA-M and MA-L. The narrowest one that holds an address names its owner."""

_LOCAL = 0x02
"""In the first byte: the address was made up, not assigned (IEEE 802c), so its prefix says nothing."""

_SUBDIVIDED = "IEEE Registration Authority"
"""Owner of the blocks that are given away in smaller parts: no vendor."""

_LINE = re.compile(r"^([0-9A-F:]{8,17})(?:/(\d\d))?\s*\t([^\t\n]*)(?:\t([^\n]*))?$", re.MULTILINE)
"""Prefix, its width where that is not 24, a short name, and mostly a full one."""


class _Table(NamedTuple):
    """Prefixes as numbers, in order, and where the name of each one begins in the text of all names."""

    prefixes: "array[int]"
    places: "array[int]"


class Vendors:
    """The table in 2 MiB (scapy's own, a dict of tuples, takes 24); a look-up is one bisection for each width."""

    def __init__(self) -> None:
        rows: dict[int, list[tuple[int, int]]] = {width: [] for width in WIDTHS}
        names = bytearray()
        places: dict[str, int] = {}
        for prefix, width, short, full in _LINE.findall(lightly.vendor_table()):
            number = int(prefix.replace(":", "").ljust(12, "0"), 16)
            name = (full or short).strip()
            if number >> 40 & _LOCAL or int(width or 24) not in rows or name == _SUBDIVIDED:
                continue
            if name not in places:
                places[name] = len(names)
                names += name.encode() + b"\n"
            rows[int(width or 24)].append((number >> 48 - int(width or 24), places[name]))
        self._names = bytes(names)
        self._tables: dict[int, _Table] = {}
        for width, found in rows.items():
            found.sort()
            self._tables[width] = _Table(array("Q", [row[0] for row in found]), array("I", [row[1] for row in found]))

    def of(self, mac: Mac) -> str | None:
        """The vendor's full name; None where none is known, and for an address that was made up (randomised)."""
        if mac[0] & _LOCAL:
            return None
        number = int.from_bytes(mac)
        for width, table in self._tables.items():
            prefix = number >> 48 - width
            row = bisect_left(table.prefixes, prefix)
            if row < len(table.prefixes) and table.prefixes[row] == prefix:
                start = table.places[row]
                return self._names[start : self._names.index(b"\n", start)].decode()
        return None
