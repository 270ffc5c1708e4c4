"""What is to be done to every device, a few at a time: on a large network, all at once would hold everybody up."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from netscand.core.model import Device

SOME = 512
"""Devices that are dealt with at once: 2 to 3 ms."""


class Chores:
    """Chores that are not over yet; on a small network there are none, for they are done as they are added."""

    def __init__(self) -> None:
        self._left: deque[tuple[Iterator[Device], Callable[[Device], None]]] = deque()

    def __bool__(self) -> bool:
        """Whether something is left to do."""
        return bool(self._left)

    def add(self, devices: Iterable[Device], do: Callable[[Device], None]) -> None:
        """Do this to each, perhaps to some twice. They are drawn in their turn: from nothing that changes meanwhile."""
        self._left.append((iter(devices), do))
        self.go_on()

    def go_on(self) -> None:
        """Deal with some more."""
        room = SOME
        while self._left:
            devices, do = self._left[0]
            for device in islice(devices, room):
                do(device)
                room -= 1
            if not room:
                return
            self._left.popleft()

    def first(self, device: Device) -> None:
        """Do to this one what is left to do, before anything else happens to it."""
        for _, do in self._left:
            do(device)
