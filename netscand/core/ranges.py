"""Scannable addresses of a network, as offsets within it."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network
from itertools import accumulate
from typing import overload


class Runs(Sequence[int]):
    """Sequence of integers in ascending, separate, non-empty runs. It needs no table, so a /8 may have gaps."""

    def __init__(self, runs: Iterable[range]) -> None:
        self._runs = list(runs)
        self._starts = [run.start for run in self._runs]
        self._before = [0, *accumulate(map(len, self._runs))]
        """Count of numbers before each run, and the total."""

    @classmethod
    def united(cls, spans: Iterable[range]) -> "Runs":
        """Return the union of `spans`, which may overlap, in any order."""
        runs: list[range] = []
        for span in sorted(spans, key=lambda each: each.start):
            if runs and span.start <= runs[-1].stop:
                runs[-1] = range(runs[-1].start, max(runs[-1].stop, span.stop))
            elif span:
                runs.append(span)
        return cls(runs)

    @property
    def ranges(self) -> Sequence[range]:
        """Return the runs."""
        return self._runs

    def clipped(self, spans: Iterable[range]) -> "Runs":
        """Return the numbers that also lie in `spans`, which are ascending and separate."""
        return Runs(self.parts(spans))

    def parts(self, spans: Iterable[range]) -> Iterator[range]:
        """Yield the same, run by run."""
        for span in spans:
            number = max(0, bisect_right(self._starts, span.start) - 1)
            while number < len(self._runs) and self._runs[number].start < span.stop:
                if part := within(self._runs[number], span.start, span.stop):
                    yield part
                number += 1

    def __len__(self) -> int:
        return self._before[-1]

    @overload
    def __getitem__(self, position: int) -> int: ...
    @overload
    def __getitem__(self, position: slice) -> list[int]: ...
    def __getitem__(self, position: int | slice) -> int | list[int]:
        if isinstance(position, slice):
            return [self[each] for each in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError(position)
        position %= len(self)
        number = bisect_right(self._before, position) - 1
        return self._runs[number][position - self._before[number]]

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and number in self._run(number)[1]

    def index(self, number: int, *_: int) -> int:
        """Return the position of a number. Raises ValueError."""
        nth, run = self._run(number)
        return self._before[nth] + run.index(number)

    def _run(self, number: int) -> tuple[int, range]:
        nth = bisect_right(self._starts, number) - 1
        return nth, self._runs[nth] if nth >= 0 else range(0)


def spans(cidr: IPv4Network, excluded: Sequence[IPv4Network] = ()) -> list[range]:
    """Return the offsets of host addresses, without those in `excluded` (ascending prefixes that do not overlap).

    The network address and the broadcast address are no host addresses (RFC 919).
    """
    size = cidr.num_addresses
    hosts = range(1, size - 1) if size > 2 else range(size)
    first = int(cidr.network_address)
    gaps = [(int(part.network_address) - first, int(part.broadcast_address) - first + 1) for part in excluded]
    starts = [hosts.start, *(end for _, end in gaps)]
    ends = [*(start for start, _ in gaps), hosts.stop]
    return [span for pair in zip(starts, ends, strict=True) if (span := within(hosts, *pair))]


def within(span: range, start: int, stop: int) -> range:
    """Return the part of a span from `start` to before `stop`."""
    return range(max(start, span.start), min(stop, span.stop))


def offsets(cidr: IPv4Network, excluded: Sequence[IPv4Network] = ()) -> Sequence[int]:
    """Return the same as one sequence."""
    found = spans(cidr, excluded)
    return found[0] if len(found) == 1 else Runs(found)
