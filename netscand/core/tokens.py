"""How often something may be told that hostile devices can bring about at will (FAULTS T11)."""


class Tokens:
    """So many at once, and so many a second after that."""

    def __init__(self, at_once: float, a_second: float) -> None:
        self._most = self._left = at_once
        self._a_second = a_second
        self._at = 0.0

    def take(self, at: float) -> bool:
        """Take one, if there is one at that time; an earlier time than the last brings none."""
        self._left = min(self._most, self._left + max(0.0, at - self._at) * self._a_second)
        self._at = max(at, self._at)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def is_full(self, at: float) -> bool:
        """Return whether nothing is missing at that time: a new bucket would be the same."""
        return self._left + max(0.0, at - self._at) * self._a_second >= self._most
