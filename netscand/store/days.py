"""How long a device was online on each of some days, by its verdicts: each tells what it was before, and since when."""

from collections.abc import Iterator
from math import inf

from netscand.core.model import Status
from netscand.core.recorded import PresenceOfDay, Standing
from netscand.store.rows import STATUS_OF, seconds

DAY = 86_400.0

Span = tuple[float, float, Status]
"""From, to (unix seconds), and what a device was meanwhile."""

BECOMES = {1: Status.ONLINE, 2: Status.ONLINE, 3: Status.OFFLINE}
"""What a device is after an event, by the number of its kind (store/rows.py); `forgotten` is none."""


class Days:
    """The last `days` UTC days up to `now`, in unix seconds; verdicts are added in order.

    `kept`: since when events are. Only who was online becomes unknown: where no verdict is kept, it was from then on.
    """

    def __init__(self, days: int, now: float, kept: float) -> None:
        self._now = now
        self._kept = kept
        self._first = (now // DAY - days + 1) * DAY
        self._online = [0.0] * days
        self._unknown = [0.0] * days
        self._since: float | None = None
        self._status: Status | None = None
        self._latest = -inf

    def add(self, at_ms: int, kind: int, was: int | None, was_since: int | None) -> None:
        """Take the next verdict, by the columns of its row."""
        at = min(max(seconds(at_ms), self._latest), self._now)  # a clock that was set makes no second count twice
        self._latest = at
        if was is not None and was_since is not None:
            self._count(self._until(at - was_since / 1000, STATUS_OF[was], at))
        self._status = BECOMES.get(kind)
        self._since = at if self._status else None

    def end(self, standing: Standing | None) -> list[PresenceOfDay]:
        """Take what the device is now, and give the days."""
        if standing is not None:
            self._count(self._until(standing.status_since, standing.status, self._now))
        return [
            PresenceOfDay(self._first + number * DAY, online, unknown)
            for number, (online, unknown) in enumerate(zip(self._online, self._unknown, strict=True))
        ]

    def _until(self, turned: float, then: Status, at: float) -> Iterator[Span]:
        """From one verdict to the next moment we know: it may have become unknown in between, which no event tells."""
        since, status = self._since, self._status
        if status is not None and since is not None and then is not status:
            turned = max(since, min(turned, at))
            yield since, turned, status
            yield turned, at, then
        else:
            if since is None and then is Status.UNKNOWN:
                yield min(self._kept, turned), turned, Status.ONLINE
            yield (turned if since is None else since), at, then

    def _count(self, lived: Iterator[Span]) -> None:
        for begin, end, status in lived:
            if status is Status.OFFLINE:
                continue
            totals = self._online if status is Status.ONLINE else self._unknown
            begin, end = max(begin, self._first), min(end, self._now)
            while begin < end:
                number = int((begin - self._first) // DAY)
                next_day = min(end, self._first + (number + 1) * DAY)
                totals[number] += next_day - begin
                begin = next_day
