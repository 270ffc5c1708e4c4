"""Whose are the subordinate uids (subuid(5))? An account of this host may be each of them, by newuidmap(1).

Only what /etc/subuid says counts. Other uids above 65,535 are accounts of their own: directories (LDAP, AD) give such
to people, and a container has them only if root lets it in. So are those of DynamicUser= (61184 to 65519), which only
root hands out, one to each service. Groups do not matter here: connections are counted by uid, and a subordinate gid is
never that of `[access] group`.
"""

from bisect import bisect_right
from collections.abc import Hashable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

SUBUID, PASSWD = Path("/etc/subuid"), Path("/etc/passwd")

LARGEST = 1 << 20
"""Bytes of each file that are read."""

MOST = 4096
"""Lines of each file that are read."""

FIRST = 1 << 16
"""Uids below this are real accounts, whatever the file says."""


class _Range(NamedTuple):
    start: int
    stop: int
    owner: Hashable


class Subordinates:
    """The uids that belong to the account of another one."""

    def __init__(self, ranges: tuple[_Range, ...] = ()) -> None:
        self._ranges = ranges
        """Ascending and apart."""
        self._starts = [each.start for each in ranges]

    def account(self, uid: int) -> Hashable:
        """Whom connections of this uid are counted for."""
        number = bisect_right(self._starts, uid) - 1
        if number >= 0 and uid < self._ranges[number].stop:
            return self._ranges[number].owner
        return "uid", uid


def read_subordinates(subuid: Path = SUBUID, passwd: Path = PASSWD) -> Subordinates:
    """Read the ranges of all users. What cannot be read is left out: a bad line takes nobody's connections away."""
    uids = {name: int(uid) for name, _, uid, *_ in _lines(passwd, 7) if uid.isascii() and uid.isdigit()}
    ranges: list[_Range] = []
    for found in sorted(_ranges(subuid, uids), key=lambda each: each.start):
        start = max(found.start, ranges[-1].stop if ranges else FIRST)
        if start < found.stop:
            ranges.append(found._replace(start=start))
    return Subordinates(tuple(ranges))


def _ranges(path: Path, uids: dict[str, int]) -> Iterator[_Range]:
    for name, start, count in _lines(path, 3):
        if not all(text.isascii() and text.isdigit() and len(text) <= 10 for text in (start, count)):
            continue
        uid = int(name) if name.isascii() and name.isdigit() and len(name) <= 10 else uids.get(name)
        # Root's are those of its containers, which is no reason to count them with root itself.
        owner = ("subordinates of", name) if uid in (0, None) else ("uid", uid)
        yield _Range(int(start), min(int(start) + int(count), 1 << 32), owner)


def _lines(path: Path, fields: int) -> Iterator[list[str]]:
    """The lines of so many fields."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST).decode("utf-8", "replace")
    except OSError:
        return
    for line in islice(text.split("\n"), MOST):
        found = line.strip().split(":")
        if len(found) == fields and found[0]:
            yield found
