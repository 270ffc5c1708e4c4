"""How long a device was online on each of some days, by its changes of status: each has the status that it ended."""

from collections.abc import Iterator, Sequence
from math import inf

from netscand.core.model import Status
from netscand.core.restore import DAY, PresencePart, Standing
from netscand.store.rows import STATUS_OF, seconds

Span = tuple[float, float, Status]
"""From, to (unix seconds), and the status of a device meanwhile."""

BECOMES = {1: Status.ONLINE, 2: Status.ONLINE, 3: Status.OFFLINE}
"""Status of a device after an event, by the number of its kind (store/rows.py); after `forgotten` it has none."""
SPLIT = 27
"""Number of the kind of event by which a device that was merged, and so forgotten, is back."""


class Days:
    """The last `days` UTC days up to `now`, in parts of `step` seconds; changes of status are added in order.

    Times are unix seconds. `kept`: the time of the oldest event. Only a device that was online becomes unknown: if no
    earlier change is kept, it was online from then on.
    """

    def __init__(self, days: int, step: float, now: float, kept: float) -> None:
        self._now = now
        self._kept = kept
        self._step = step
        self._first = (now // DAY - days + 1) * DAY
        self._online = [0.0] * int(days * DAY / step)
        self._unknown = self._online.copy()
        self._since: float | None = None
        self._status: Status | None = None
        self._latest = -inf
        self.spans: list[Span] | None = None
        """Where spans are collected instead of counted; None: they are counted."""

    def add(self, at_ms: int, kind: int, was: int | None, was_since: int | None) -> None:
        """Take the next change of status, by the columns of its row."""
        at = min(max(seconds(at_ms), self._latest), self._now)  # no second counts twice, though the clock was set
        came_back = kind == SPLIT and self._status is None and self._latest > -inf
        self._latest = at
        if kind == SPLIT:  # the device into which it was merged has such an event, too
            if came_back:
                self._status, self._since = Status.UNKNOWN, at
            return
        if was is not None and was_since is not None:
            self._count(self._until(at - was_since / 1000, STATUS_OF[was], at))
        self._status = BECOMES.get(kind)
        self._since = at if self._status else None

    def end(self, standing: Standing | None) -> list[PresencePart]:
        """Take the present status of the device; return the parts."""
        if standing is not None:
            self._count(self._until(standing.status_since, standing.status, self._now))
        return [
            PresencePart(self._first + number * self._step, online, unknown)
            for number, (online, unknown) in enumerate(zip(self._online, self._unknown, strict=True))
        ]

    def _until(self, turned: float, then: Status, at: float) -> Iterator[Span]:
        """Yield spans from the last change to this one. No event shows when it became unknown in between."""
        since, status = self._since, self._status
        if status is not None and since is not None and then is not status:
            turned = max(since, min(turned, at))
            yield since, turned, status
            yield turned, at, then
        else:
            if since is None and then is Status.UNKNOWN:
                yield min(self._kept, turned), turned, Status.ONLINE
            yield (turned if since is None else since), at, then

    def count_all(self, spans: Sequence[Span]) -> None:
        """Count the spans of several MACs of one device: it was online while any was, else unknown while any was."""
        for wanted in (Status.ONLINE, Status.UNKNOWN):
            taken = -inf
            for begin, end, _ in sorted(each for each in spans if wanted is Status.UNKNOWN or each[2] is wanted):
                self._count(iter([(max(begin, taken), end, wanted)]))
                taken = max(taken, end)
        for part, online in enumerate(self._online):  # the spans of the second round include those of the first
            self._unknown[part] = max(0.0, self._unknown[part] - online)

    def _count(self, lived: Iterator[Span]) -> None:
        if self.spans is not None:
            self.spans += [span for span in lived if span[2] is not Status.OFFLINE]
            return
        for begin, end, status in lived:
            if status is Status.OFFLINE:
                continue
            totals = self._online if status is Status.ONLINE else self._unknown
            begin, end = max(begin, self._first), min(end, self._now)
            while begin < end:
                number = int((begin - self._first) // self._step)
                next_part = min(end, self._first + (number + 1) * self._step)
                totals[number] += next_part - begin
                begin = next_part
