"""Thousands of MACs in order, without holding anybody up for it."""

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop

from netscand.core.model import Mac


def by_mac(macs: Iterable[Mac]) -> Iterator[Mac]:
    """In order, each as it is drawn: to sort 65,533 at once would hold the loop, to make a heap of them takes 3 ms."""
    heap = list(macs)
    heapify(heap)
    while heap:
        yield heappop(heap)
