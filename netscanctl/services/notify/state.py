"""What the rules remember between two runs, and what waits for the channels: one file, replaced atomically."""

import msgspec

from netscand.protocol import Event


class Entry(msgspec.Struct, kw_only=True):
    """An event to report."""

    event: Event
    at: float
    """Time of the event."""
    channels: tuple[str, ...]
    note: str = ""
    """What the rules add, such as that the device is flapping."""


class Slot(msgspec.Struct, kw_only=True):
    """One device (or network, or kind of event) under one rule."""

    waiting: Entry | None = None
    """Event that must still be true at `ready_at`."""
    ready_at: float = 0.0
    postponed: Entry | None = None
    """Event that is to be reported at `release_at`, unless the earlier status is back by then."""
    release_at: float = 0.0
    newcomer: Entry | None = None
    """The device was discovered, and left before that could be reported."""
    reported: bool | None = None
    """Last reported: present (or up), or not."""
    sent_at: float | None = None
    penalty: float = 0.0
    """Changes reported recently; halved in each half-life."""
    penalty_at: float = 0.0
    flapping: bool = False
    used_at: float = 0.0


class Batch(msgspec.Struct, kw_only=True):
    """Entries of one rule that go out together."""

    entries: list[Entry]
    due: float
    together: bool
    """As one message, however few they are."""
    more: int = 0
    """Entries beyond the limit."""


class RuleState(msgspec.Struct, kw_only=True):
    """One rule."""

    slots: dict[str, Slot] = {}
    batch: Batch | None = None

    @property
    def waiting(self) -> int:
        """Return how many events wait."""
        slots = sum((slot.waiting is not None) + (slot.postponed is not None) for slot in self.slots.values())
        return slots + (len(self.batch.entries) + self.batch.more if self.batch else 0)


class Rules(msgspec.Struct, kw_only=True):
    """All rules, and what they know of the networks."""

    now: float = 0.0
    """Time up to which everything due was done."""
    rules: dict[str, RuleState] = {}
    """By the rule's name."""
    doubtful: set[str] = set()
    """Networks that are down or silent."""
    raised: dict[str, float] = {}
    """Network → when it came up."""
    unscanned: dict[str, float | None] = {}
    """Networks of the first start: newcomers are the ordinary devices until this time (None: the scan still runs)."""


class Message(msgspec.Struct, kw_only=True):
    """What a channel gets."""

    id: str
    """Cursor of its first event; the same in each attempt."""
    kind: str
    """Kind of the event, or `digest`."""
    at: str
    title: str
    text: str
    priority: str = "default"
    link: str | None = None
    events: list[Event] = []
    count: int = 1


class Stored(msgspec.Struct, kw_only=True):
    """The file."""

    cursor: str | None = None
    """Cursor after the last event in `rules`."""
    rules: Rules = msgspec.field(default_factory=Rules)
    queues: dict[str, list[Message]] = {}
    """Channel → messages that it has not accepted yet, oldest first."""
    refused: dict[str, list[Message]] = {}
    """Channel → messages that it refused; they are tried once more at the next start."""
