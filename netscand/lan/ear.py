"""One receive ring, and what is made of its frames: read in turns, decoded within a budget, counted."""

from collections.abc import Callable, Container, Sequence
from math import inf
from time import monotonic

from netscand.core.budgets import TALK, Budgets
from netscand.core.model import Observation
from netscand.lan.filters import Instruction
from netscand.lan.ring import Ring

Decode = Callable[[bytes, float, int], Sequence[Observation]]
"""(frame, at, interface) → what it says, oldest first. Total."""

IN_VAIN = 10_000
"""Times that a ring may call us to a slot that is not ready; then we have lost our place in it."""


DEAF = 0.1
"""The part of what came since the last count from which on, if it was not looked at, silence proves nothing: a probe
and its repetitions may be among it."""


class Broken(Exception):
    """The ring hears no more; the text says why."""


class Ear:
    """Hears what `program` lets in, from `open` on; `batch` frames a turn at most. `slot` and `size` as of Ring."""

    def __init__(
        self,
        program: Callable[[int], Sequence[Instruction]],
        decode: Decode,
        batch: int,
        *,
        slot: int = 128,
        size: int = 4 << 20,
        budget: float = 0.0,
        budgets: Budgets | None = None,
    ) -> None:
        self._program = program
        self._decode = decode
        self._batch = batch
        self._shape = slot, size
        self._budget = TALK._replace(at_once=budget, per_second=budget) if budget else None
        """Frames decoded a second, and at once, at most; None: all."""
        self._budgets = budgets or Budgets()
        self._in_vain = 0
        self._ring: Ring | None = None
        self.interfaces: Container[int] | None = None
        """Those whose frames are decoded; None: all."""
        self.received = self.dropped = self.ignored = 0
        """Frames heard, those that the kernel had no room for, and those heard but beyond the budget."""
        self.behind = self.sated = False
        """The last turn ended with frames unheard; with the budget spent."""
        self.deaf_at = -inf
        """When last (monotonic) so much was lost that an answer may well have been among it."""
        self._counted = 0, 0
        """Frames that came, and those of them that were not looked at, as of the last count."""

    def open(self) -> None:
        """Begin to hear; what comes before the first `read` waits. Raises OSError."""
        self._ring = Ring(self._program, *self._shape)
        self._in_vain = 0

    def fileno(self) -> int:
        """Readable while a frame waits."""
        assert self._ring is not None
        return self._ring.fileno()

    def read(self) -> list[Observation]:
        """What the next frames say. Raises Broken."""
        assert self._ring is not None
        frames = self._ring.read(self._batch)
        self.behind = len(frames) == self._batch
        self.sated = False
        if not frames:
            self._look_why(self._ring)
            return []
        self._in_vain = 0
        self.received += len(frames)
        if self._budget is not None:
            wanted = self.interfaces
            if wanted is not None:
                frames = [frame for frame in frames if frame.interface in wanted]
            now = monotonic()
            room = self._budgets.room(self._budget, None, now)
            if len(frames) > room:
                self.sated = True
                self.ignored += len(frames) - room
                self._budgets.refuse(self._budget, now, len(frames) - room)
                del frames[room:]
            self._budgets.take(self._budget, None, now, len(frames))
        decode = self._decode
        return [seen for frame in frames for seen in decode(*frame)]

    def _look_why(self, ring: Ring) -> None:
        """Readable, and no frame: an error, or a slot that another processor is still writing."""
        if wrong := ring.error():
            raise Broken(wrong)
        self._in_vain += 1
        if self._in_vain > IN_VAIN:
            raise Broken("the ring says that it has frames, and has none")

    def count(self) -> None:
        """Ask the kernel how many it had no room for; without a ring, all that comes is lost."""
        if self._ring:
            self.dropped += self._ring.drops()
        came, lost = self._counted
        self._counted = self.received + self.dropped, self.dropped + self.ignored
        if not self._ring or self._counted[1] - lost > DEAF * (self._counted[0] - came):
            self.deaf_at = monotonic()

    def close(self) -> None:
        """Hear no more."""
        if self._ring:
            self._ring.close()
            self._ring = None
