"""The past of all sites, for clients that resume or ask for events: read from the log, a page at a time."""

import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Hashable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import BinaryIO, NamedTuple

from netscand import protocol, sites
from netscand.core.model import Mac
from netscand.core.restore import DAY, CursorGone, EventQuery, Page, PresencePart, Standing, Unreadable
from netscand.hub.connection import Connection, Message, ServerError
from netscand.hub.log import Log, reached, site_from
from netscand.hub.published import Unreadable as UnreadableMessage
from netscand.hub.published import about_site, published
from netscand.hub.view import ACKNOWLEDGED, CURSOR, PREVIOUS, SNAPSHOT, end_of_snapshot, is_before, is_through

LISTS = 32
"""Maximum lists that are read in parts, and can continue after their last part."""
EXPIRED = "the log no longer reaches back to it"
LATEST = 2.0**33
"""Unix time, in the year 2242: the latest that is looked for."""
MISSING = "events of a site are missing"
PLACES = 20_000
"""Maximum places of sites that are kept: after a start of the hub, all clients resume at about the same message."""


class Past:
    """`HistoryPort` of the log. Of a message that a site repeated, the first one counts."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._readings: OrderedDict[tuple[object, ...], _Reading] = OrderedDict()
        self._places: Places = OrderedDict()

    def problems(self) -> tuple[str, ...]:
        """Return why events may be lost, or were."""
        return ()

    def unstored(self) -> str:
        """Return "": the log of the server has every event."""
        return ""

    def size(self) -> int:
        """Return 0: the log is on the server's disk."""
        return 0

    def sequence_of(self, cursor: str) -> int:
        """Return the number of a cursor. Raises CursorGone, ValueError."""
        return self._log.sequence_of(cursor)

    def cursor_of(self, number: int) -> str:
        """Return the cursor of a message that was read lately."""
        return self._log.cursor_of(number)

    async def events(self, question: EventQuery, *, whole: bool = False, most: int | None = None) -> Page:
        """Return events in order. Raises CursorGone, Unreadable."""
        present = self._log.readings
        if question.since is None and question.after is not None:
            question = replace(question, since=await self._number_at(question.after - 0.001, question.through))
        since = question.since or 0
        if whole or not question.gaps:
            await self._log.verify(since)
        if not question.gaps and since + 1 < self._log.first:
            raise CursorGone(EXPIRED)
        if not question.gaps and any(
            number > since and (question.sites is None or name in question.sites)
            for name, number in self._log.view.replaced.items()
        ):
            raise CursorGone(MISSING)
        if most is not None and question.through - since > most:
            raise CursorGone("more events were missed than a snapshot has")
        key = (
            since, question.through, question.kinds, question.macs, question.sites, question.after, question.before,
            question.gaps,
        )  # fmt: skip
        reading = self._readings.pop(key, None)
        if reading is None or reading.of != present:
            reading = _Reading(self._log, question, present, self._places)
        found = await reading.next(question.limit)
        through = question.through if reading.ended else self._log.claimed(found[-1][0])
        if not reading.ended:
            self._readings[(through, *key[1:])] = reading
            while len(self._readings) > LISTS:
                _, oldest = self._readings.popitem(last=False)
                await oldest.close()
        return Page(found, through)

    async def begin_of_last(self, question: EventQuery) -> int:
        """Return the number after which the last `limit` matching events begin, or all of their messages.

        Raises Unreadable.
        """
        step = max(question.limit * 4, 500)
        if question.before is not None:
            question = replace(question, through=await self._number_at(question.before + 0.001, question.through))
        while True:
            since = max(question.through - step, self._log.first - 1, 0)
            query = replace(question, since=since, gaps=True)
            reading = _Reading(self._log, query, self._log.readings, self._places)
            numbers: list[int] = []
            while not reading.ended:
                numbers += [number for number, _ in await reading.next(5_000)]
            if len(numbers) >= question.limit or since <= max(self._log.first - 1, 0):
                return numbers[-question.limit - 1] if len(numbers) > question.limit else since
            step *= 8

    async def _number_at(self, unix: float, most: int) -> int:
        """Return the number of the last message that was stored before a time, at most `most`. Raises Unreadable."""
        at = datetime.fromtimestamp(min(max(unix, 0.0), LATEST), UTC)
        start = {"deliver_policy": "by_start_time", "opt_start_time": at.isoformat(), "headers_only": True}

        async def find(connection: Connection) -> int:
            async with aclosing(connection.read(sites.LOG, start)) as pages:
                async for page in pages:
                    return min(page[0].sequence - 1, most)
            return most

        return await self._log.query(find)

    async def presence(
        self, mac: Mac, days: int, standing: Standing | None, now: float, step: float = DAY, *,
        others: Sequence[Mac] = (), account: Hashable = None,
    ) -> Sequence[PresencePart]:  # fmt: skip
        """Raise Unreadable: the site has it."""
        raise Unreadable("the hours of a device are in the history of its site; ask netscand there")

    async def erase(self, macs: Sequence[Mac]) -> int:
        """Raise Unreadable: the log is the server's."""
        raise Unreadable("the events of a device are deleted at its site")

    async def backup(self) -> BinaryIO:
        """Raise Unreadable: the log is the server's."""
        raise Unreadable("a hub keeps no history; make a backup of the NATS server, or of each site")


class Found(NamedTuple):
    """An event of the log."""

    kind: str
    body: bytes
    has_device: bool


Places = OrderedDict[tuple[int, int, str], bytes | None]
"""Reading of the log, number of a message and site → cursor of the site after the messages up to that one."""


class _Reading:
    """Reads the log once, from `since` to `through`, as it is asked for more."""

    def __init__(self, log: Log, question: EventQuery, of: int, places: Places) -> None:
        self.of = of
        """To which reading of the log it belongs."""
        self._place = question.since or 0
        """Number of the last message that was read."""
        self.ended = self._place >= question.through
        self._is_checked = False
        self._log = log
        self._question = question
        self._pages: AsyncGenerator[list[Message]] | None = None
        self._left: deque[Message] = deque()
        self._last = question.since or 0
        self._reached: dict[str, bytes] = {}
        """Cursor after the last event that counts, by site, or by subject of a device that was asked for."""
        self._places = places

    async def next(self, most: int) -> list[tuple[int, bytes]]:
        """Return the next events, at most so many; fewer only at the end. Raises Unreadable."""
        found: list[tuple[int, bytes]] = []
        while len(found) < most and not self.ended:
            if not self._left:
                await self._fill()
                continue
            message = self._left.popleft()
            self._place = message.sequence
            before = self._question.before
            if message.sequence > self._question.through or (before is not None and message.stamp > before * 1e9):
                await self.close()
                break
            events = [each for each in await self._events(message) if self._fits(message, each)]
            self._log.check(self.of)
            if events:
                self._log.remember(message)
                # A client that gets only some of several events gets all of them again.
                found += [(self._last, event.body) for event in events[:-1]]
                self._last = message.sequence
                found.append((self._last, events[-1].body))
        return found

    async def _fill(self) -> None:
        page = await self._log.query(self._next_page, self.of)
        if page is None and self._place < self._question.through and not self._is_checked:
            self._is_checked = True
            if await self._log.query(lambda connection: connection.until_current(sites.LOG), self.of):
                self._pages = None  # the replica that was read may have lagged behind
                return
        if page is None:
            await self.close()
        else:
            self._left.extend(page)

    async def _next_page(self, connection: Connection) -> list[Message] | None:
        """Return the next page; if the connection ends, the next one continues. Raises ServerError."""
        if self._pages is None:
            self._pages = connection.read(sites.LOG, self._start())
        try:
            page = await anext(self._pages, None)
            if not self._question.gaps:
                self._log.first = (await connection.stream_state(sites.LOG)).first
        except ServerError:
            self._pages = None
            raise
        if not self._question.gaps and self._place + 1 < self._log.first:
            raise CursorGone(EXPIRED)
        return page

    def _start(self) -> Mapping[str, object]:
        question = self._question
        names = sorted(question.sites) if question.sites is not None else ["*"]
        endings = [">"] if question.macs is None else [f"device.{mac.hex()}" for mac in sorted(question.macs)]
        subjects = [f"{sites.PREFIX}.{name}.{end}" for name in names for end in endings]
        return {
            "deliver_policy": "by_start_sequence", "opt_start_seq": self._place + 1,
            "filter_subjects": subjects,
        }  # fmt: skip

    async def _events(self, message: Message) -> list[Found]:
        """Return the events of a message; none if it was repeated."""
        _, _, name, what, *_ = message.subject.split(".")
        try:
            content = about_site(message.data) if what == "site" else None
            if content is None or isinstance(content, protocol.Event):
                if not await self._is_next(message, name):
                    return []
                found = published(name, message.data)
                return [Found(found.event.kind, found.body, found.device is not None)]
        except UnreadableMessage:
            return []
        if isinstance(content, sites.SiteRemoved):
            return [Found("site_removed", self._log.view.end_of_site(name, message.stamp, time.monotonic()), False)]
        site = self._log.view.sites.get(name)
        if not isinstance(content, sites.SnapshotEnded):  # `site_up` is before what the server has already
            return []
        self._reached[name] = message.headers.get(CURSOR, b"")
        if site is None:
            return []
        ended = message.headers.get(SNAPSHOT, site.snapshot)
        forgotten = [Found("forgotten", body, True) for snapshot, body in site.gone.values() if snapshot == ended]
        return [*forgotten, Found("site_snapshot", end_of_snapshot(name, message.stamp), False)]

    async def _is_next(self, message: Message, name: str) -> bool:
        """Return whether an event was the next one of its site; before the hub's start, only the log shows that."""
        if message.sequence > self._log.known_from:
            return message.sequence not in self._log.view.skipped
        cursor = message.headers.get(CURSOR)
        if cursor is None:  # of a snapshot
            return True
        if self._question.macs is not None:  # what is between its events is not read
            before = self._reached.get(message.subject)
            if before is not None and (before == cursor or is_before(cursor, before)):
                return False
            self._reached[message.subject] = cursor
            return True
        previous, acknowledged = message.headers.get(PREVIOUS), message.headers.get(ACKNOWLEDGED)
        if name not in self._reached:  # what is before it may not be there yet, or it is repeated
            self._reached[name] = await self._reached_before(name, acknowledged) or previous or b""
        if previous is not None and self._reached[name] != previous:
            if is_through(self._reached[name], cursor) or not is_through(acknowledged, previous):
                return False
            if await self._log.query(lambda connection: self._comes_later(connection, message, name), self.of):
                return False
            if not self._question.gaps:
                raise CursorGone(MISSING)
        self._reached[name] = cursor
        return True

    async def _comes_later(self, connection: Connection, message: Message, name: str) -> bool:
        """Return whether what is missing before an event, although it was acknowledged, was published again."""
        async with aclosing(connection.read(sites.LOG, site_from(name, message.sequence + 1))) as pages:
            async for page in pages:
                for each in page:
                    cursor, previous = each.headers.get(CURSOR), each.headers.get(PREVIOUS)
                    if cursor is not None and cursor != previous and previous in (None, self._reached[name]):
                        return True  # None: the end of a snapshot
        return False

    async def _reached_before(self, name: str, acknowledged: bytes | None) -> bytes | None:
        """Return the cursor of a site after the events up to `since`; None: there are none. Raises Unreadable."""
        since, first = self._question.since or 0, self._log.first
        if since < first:
            return None
        key = (self.of, since, name)
        if key not in self._places:
            self._places[key] = await self._log.query(
                lambda connection: reached(connection, name, since, first, acknowledged), self.of
            )
            if len(self._places) > PLACES:
                self._places.popitem(last=False)
        return self._places[key]

    def _fits(self, message: Message, found: Found) -> bool:
        question, at = self._question, message.stamp / 1e9
        if question.kinds and found.kind not in question.kinds:
            return False
        if question.after is not None and at <= question.after:
            return False
        return question.macs is None or found.has_device

    async def close(self) -> None:
        """End the reading."""
        self.ended = True
        if self._pages is not None:
            await self._pages.aclose()
