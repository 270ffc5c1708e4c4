"""The log of all sites: reads it into the view and follows it; answers queries of clients about the past.

A cursor of the hub is the log's identity, a mark of the message, and its number: `IDENTITY+MARK-NUMBER`. Every hub
gives a message the same cursor. If a restore of the server's disk has removed a message, no hub accepts its cursor,
because the message that has its number now has another mark.
"""

import asyncio
import calendar
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from random import uniform
from typing import NamedTuple, TypeVar

from netscand import sites
from netscand.core.restore import CursorGone, Hangs, Unreadable
from netscand.hub.connection import Connection, Message, ServerError, StreamState, connect
from netscand.hub.settings import Hub
from netscand.hub.site import Site
from netscand.hub.view import CURSOR, PREVIOUS, Change, View, is_before, is_through, number_in_log

FIRST, LONGEST = 0.1, 5.0
"""Seconds between two attempts to connect."""
CHECK = 1.0
"""Seconds between two looks at what time has changed."""
AHEAD = 10.0
"""Seconds that a client waits until this hub has read as much of the log as the client, or the server is back."""
CATCH_UP = 100
"""How often, every 50 ms, the hub looks whether it has read the log, before it takes events of a site for missing."""
LOOK_BACK = 1_000
"""Messages of the log in which the last event of a site is looked for, at first."""
FEW = 5_000
"""Last values that are compared with the log before clients come: it takes 0.1 s."""
LOOK = 10.0
"""Seconds between two looks at whether the stream of last values was rebuilt."""
MARKS = 65_536
"""Marks of messages that are kept."""
UNCHECKED = "u"
"""Mark of a cursor that no hub accepts; others have six characters."""
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

log = logging.getLogger(__name__)

T = TypeVar("T")


class Claimed(int):
    """Number of a cursor that a client gave, with its mark."""

    mark: str


def base36(number: int, digits: int) -> str:
    """Return the last digits of a number."""
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, 36)
        text = DIGITS[digit] + text
    return text


def nanoseconds(text: str) -> int:
    """Return a time of the server, RFC 3339 in UTC with up to nine digits, in nanoseconds of unix time."""
    whole, _, rest = text.rstrip("Z").partition(".")
    seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
    return seconds * 1_000_000_000 + int((rest + "000000000")[:9])


def last_values(subjects: str) -> dict[str, object]:
    """Return the start of a reading of the last message of each of these subjects."""
    return {"deliver_policy": "last_per_subject", "filter_subject": subjects}


def site_from(site: str, number: int) -> dict[str, object]:
    """Return the start of a reading of the headers of a site's messages, from a number on."""
    return {
        "deliver_policy": "by_start_sequence", "opt_start_seq": number, "headers_only": True,
        "filter_subject": f"{sites.PREFIX}.{site}.>",
    }  # fmt: skip


class Copy(NamedTuple):
    """A last value: its number in the log, and when the server copied it, in nanoseconds of unix time."""

    number: int
    stamp: int


async def copies_of_log(connection: Connection) -> dict[str, Copy]:
    """Return what the stream of last values has, by subject. Raises ServerError."""
    found: dict[str, Copy] = {}

    def take(message: Message) -> None:
        found[message.subject] = Copy(number_in_log(message), message.stamp)

    if (await connection.stream_state(sites.STATE)).messages:
        await connection.follow(sites.STATE, {"deliver_policy": "all", "headers_only": True}, take, until_idle=True)
    return found


async def is_other_log(connection: Connection, copies: Mapping[str, Copy], through: int) -> bool:
    """Return whether the copies are not those of the log up to number `through`. Raises ServerError.

    After a restore of the log alone, the server continues to copy behind the last number that it had copied, and never
    copies what the log got before. Once the log has grown, its end does not show that; but what it has at the number of
    a copy was stored after the copy was made.
    """
    start = {**last_values(f"{sites.PREFIX}.>"), "headers_only": True}
    newer = []
    async with aclosing(connection.read(sites.LOG, start)) as pages:
        async for page in pages:
            for each in page:
                copy = copies.get(each.subject)
                if each.sequence > through:
                    newer += [copy] if copy is not None else []
                elif copy is None or copy.number != each.sequence or copy.stamp < each.stamp:
                    return True
    for copy in newer:
        stamp = await connection.stamp_of(sites.LOG, copy.number)
        if stamp is not None and copy.stamp < nanoseconds(stamp):
            return True
    return False


async def reached(
    connection: Connection, site: str, through: int, first: int, acknowledged: bytes | None
) -> bytes | None:
    """Return the cursor of a site's last event in order up to number `through`; None: it has none. Raises ServerError.

    It reads back to an event that is not after `acknowledged`: all up to that one are before it.
    """
    step = LOOK_BACK
    while True:
        begin, found, is_enough = max(through + 1 - step, first, 1), None, False
        async with aclosing(connection.read(sites.LOG, site_from(site, begin))) as pages:
            async for page in pages:
                for message in page:
                    cursor, previous = message.headers.get(CURSOR), message.headers.get(PREVIOUS)
                    if message.sequence > through or cursor in (None, previous):  # of a snapshot, or `site_up`
                        continue
                    # None: the end of a snapshot. A site repeats nothing that was acknowledged, even if it was lost.
                    if found is None or previous in (None, found) or (
                        is_before(found, cursor) and is_through(acknowledged, cursor)
                    ):  # fmt: skip
                        found = cursor
                        is_enough |= not is_before(acknowledged, cursor)
                if page[-1].sequence >= through:
                    break
        if is_enough or begin <= max(first, 1):
            return found
        step *= 8


class Log:
    """The log: how far it was read, and the connection to it. `publish` gets what clients see of each message."""

    def __init__(self, table: Hub, seed: str | None, view: View, publish: Callable[[str, Change], None]) -> None:
        self.sequence = 0
        self.known_from = 0
        """Number after which the view knows, for each message, whether it was the next one of its site."""
        self.first = 0
        """Number of the first message that the log has."""
        self.readings = 0
        """How often everything was read: a message of an earlier reading may be of another log."""
        self.reconnects = 0
        self.delay = 0.0
        """Seconds from storing the last message (by the server's clock) to reading it (by the hub's clock)."""
        self.problem: str | None = "the log was not read yet"
        self.ready = asyncio.Event()
        self.on_new_log: Callable[[str], None] = lambda reason: None
        """Called when the events that clients have are from another log."""
        self.on_read: Callable[[], None] = lambda: None
        self.derived_ahead = False
        """The stream of last values does not match the log: it has other values, or lacks some."""
        self._derived = ""
        """When that stream was created, as it was read."""
        self._looked_at = 0.0
        self._unchecked: dict[str, Copy] = {}
        """Last values that a start read, by subject, until they are compared with the log."""
        self._table = table
        self._seed = seed
        self.view = view
        self._publish = publish
        self._identity = ""
        self._created = ""
        self._connection: Connection | None = None
        self._lacks = False
        """The values that were read lack messages of the log; everything is read again."""
        self._marks: OrderedDict[int, str] = OrderedDict()
        self._follows = False

    # ---- cursors

    @property
    def cursor(self) -> str:
        """Return the cursor of the last message that was read."""
        return self.cursor_of(self.sequence)

    def cursor_of(self, number: int) -> str:
        """Return the cursor of a message that was read lately.

        Until it is known that a start has read the last values of this log, no hub resumes at it: a client that lacks
        events would continue without them.
        """
        mark = UNCHECKED if self._unchecked else self._marks.get(number, "0")
        return f"{self._identity}{mark}-{number}"

    def sequence_of(self, cursor: str) -> int:
        """Return the number of a cursor. Raises CursorGone if it is of another log, ValueError if it is invalid."""
        found = self._claimed(cursor)
        if found > self.sequence:
            raise CursorGone("the log has no such message: the server's disk was restored")
        return found

    def _claimed(self, cursor: str) -> Claimed:
        identity, _, number = cursor.rpartition("-")
        if not identity.isalnum() or not number.isdigit():
            raise ValueError(cursor)
        if not identity.startswith(self._identity) or len(identity) <= len(self._identity):
            raise CursorGone("it belongs to another log")
        return self._with_mark(int(number), identity[len(self._identity) :])

    @staticmethod
    def _with_mark(number: int, mark: str) -> Claimed:
        found = Claimed(number)
        found.mark = mark
        return found

    def claimed(self, number: int) -> Claimed:
        """Return the number of a message that was read lately, for `verify`."""
        return self._with_mark(number, self._marks.get(number, "0"))

    async def until_read(self, cursor: str) -> None:
        """Wait, at most AHEAD, until a client can continue after a cursor.

        Another hub may have read more than this one, and the messages that a client missed are read from the server.
        """
        ends = time.monotonic() + AHEAD
        with suppress(CursorGone, ValueError, ServerError):
            number = self._claimed(cursor)
            while number != self.sequence and time.monotonic() < ends:
                if (connection := self._connection) is not None:
                    if number < self.sequence:
                        return
                    stamp = await connection.stamp_of(sites.LOG, number)
                    if stamp is None or self.mark(nanoseconds(stamp)) != number.mark:
                        return
                await asyncio.sleep(0.02)

    async def verify(self, number: int) -> None:
        """Check that the log still has the message of a client's cursor. Raises CursorGone, Unreadable."""
        if not isinstance(number, Claimed) or number == 0:
            return
        mark = self._marks.get(number)
        if mark is None:
            stamp = await self.query(lambda connection: connection.stamp_of(sites.LOG, number))
            if stamp is None:
                raise CursorGone("the log no longer has its message")
            mark = self._keep(int(number), self.mark(nanoseconds(stamp)))
        if mark != number.mark:
            raise CursorGone("the log has another message there: the server's disk was restored")

    @staticmethod
    def mark(stamp: int) -> str:
        """Return the mark of a message by when it was stored."""
        return base36(stamp // 1000, 6)

    def remember(self, message: Message) -> None:
        """Keep the mark of a message."""
        self._keep(message.sequence, self.mark(message.stamp))

    def _keep(self, number: int, mark: str) -> str:
        self._marks[number] = mark
        if len(self._marks) > MARKS:
            oldest, of_oldest = self._marks.popitem(last=False)
            if oldest == self.sequence:  # however many older messages were read since
                self._marks[oldest] = of_oldest
                self._marks.popitem(last=False)
        return mark

    async def query(self, work: Callable[[Connection], Awaitable[T]], reading: int | None = None) -> T:
        """Return the result of this with a connection; if it ends, with the next one to this log, within AHEAD.

        `reading`: to which the query belongs; None: the present one. Raises Unreadable.
        """
        reading, ends = self.readings if reading is None else reading, time.monotonic() + AHEAD
        while True:
            why = self.problem
            self.check(reading)
            if (connection := self._connection) is not None:
                try:
                    return await work(connection)
                except ServerError as error:
                    why = str(error)
            if time.monotonic() > ends:
                raise Hangs(f"no connection to the log: {why}")
            await asyncio.sleep(0.02)

    def check(self, reading: int) -> None:
        """Raise Unreadable if everything was read again since."""
        if reading != self.readings:
            raise Unreadable("the log is another one")

    # ---- life

    async def run(self) -> None:
        """Read and follow the log, until cancelled; connect again after each error. Raises ConfigError."""
        wait = FIRST
        async with asyncio.TaskGroup() as group:
            group.create_task(self._check())
            while True:
                try:
                    async with connect(self._table, self._seed) as connection:
                        await self._begin(connection)
                        wait = FIRST
                        await connection.watch()
                except ServerError as error:
                    if self.problem != str(error):
                        log.warning("%s", error)
                    self.problem = str(error)
                finally:
                    self._connection, self._follows = None, False
                self.reconnects += 1
                await asyncio.sleep(uniform(wait / 2, wait))  # noqa: S311 - to spread attempts
                wait = min(wait * 2, LONGEST)

    async def _begin(self, connection: Connection) -> None:
        state = await connection.stream_state(sites.LOG)
        self.first = state.first
        if not await self._continues(connection, state):
            await self._read_state(connection, state)
        self._connection = connection
        try:
            await connection.follow(f"KV_{sites.OWNER}", {"deliver_policy": "all"}, self._on_owner)
        except ServerError as error:  # the log does not need it
            log.warning("sites that have published nothing are not shown: %s", error)
        await connection.subscribe(sites.alive_subject("*"), self._on_alive)
        start = {"deliver_policy": "by_start_sequence", "opt_start_seq": self.sequence + 1}
        self._follows = True
        # The last values may lag far behind the log. Clients come when both were read.
        await connection.follow(sites.LOG, start, self._on_message, catch_up=self.sequence < state.last)
        if self.problem is not None:
            log.info("following the log after message %d", self.sequence)
        self.problem = None
        self.ready.set()

    async def _continues(self, connection: Connection, state: StreamState) -> bool:
        """Return whether this is the log that was read before, with everything that was read."""
        if not self._created or self._lacks:
            return False
        if state.created != self._created or state.last < self.sequence:
            return False
        if self.sequence < state.first:
            return self.sequence + 1 >= state.first and state.messages == 0
        stamp = await connection.stamp_of(sites.LOG, self.sequence)
        return stamp is not None and self._marks.get(self.sequence) == self.mark(nanoseconds(stamp))

    async def _read_state(self, connection: Connection, state: StreamState) -> None:
        """Read the last message of each subject; the log goes on behind the greatest number of them."""
        is_new = bool(self._created)
        began = time.monotonic()
        view, copies = self.view.emptied(), dict[str, Copy]()
        last = 0

        def take(message: Message) -> None:
            nonlocal last
            if number := number_in_log(message):
                view.restore(message, began)
                last = max(last, number)
                copies[message.subject] = Copy(number, message.stamp)

        derived = await connection.stream_state(sites.STATE)
        self._derived = derived.created
        if not self._lacks and derived.messages:
            await connection.follow(sites.STATE, {"deliver_policy": "all"}, take, until_idle=True)
        # The log may have grown meanwhile. But messages that it lacks now were in it before a restore.
        self.derived_ahead = self._lacks or last > (await connection.stream_state(sites.LOG)).last
        # Clients that are here get events of the log only after it is known that the values are of this log, too.
        if not self.derived_ahead and (is_new or len(copies) <= FEW):
            self.derived_ahead = await is_other_log(connection, copies, last)
            copies = {}
        if self.derived_ahead:
            log.warning("%s does not match the log: the last values are read from the log", sites.STATE)
            last, view, copies = 0, self.view.emptied(), {}
            async for page in connection.read(sites.LOG, last_values(f"{sites.PREFIX}.>")):
                for message in page:
                    view.restore(message, began)
                    last = max(last, message.sequence)
        for subject in tuple(view.lost):
            async for page in connection.read(sites.LOG, {"deliver_policy": "all", "filter_subject": subject}):
                for message in page:
                    view.restore_earlier(message)
        view.restored()
        for site in view.sites.values():
            if site.certain is not None and site.cursor is not None:  # its last events may have a hole
                site.cursor = await reached(connection, site.name, last, state.first, site.certain) or site.cursor
                site.certain = None
        stamp = await connection.stamp_of(sites.LOG, last) if last else None
        self.view.become(view)
        self.readings += 1
        self._unchecked = copies
        self.sequence = self.known_from = last
        self._created, self._lacks = state.created, False
        self._identity = base36(nanoseconds(state.created), 8)
        self._marks.clear()
        if last:
            self._marks[last] = self.mark(nanoseconds(stamp)) if stamp is not None else "0"
        log.info("%d devices of %d sites read in %.1f s", len(view.devices), len(view.sites), time.monotonic() - began)
        self.on_read()
        if is_new:
            self.on_new_log("the log is another one: the server's disk was restored")

    def _on_message(self, message: Message) -> None:
        if message.sequence <= self.sequence:
            return
        now = time.monotonic()
        self.delay = time.time() - message.stamp / 1e9
        changes = self.view.apply(message, now)
        before, self.sequence = self.cursor, message.sequence
        self.remember(message)
        # Clients that have only some of several get all of them again.
        cursors = [before] * (len(changes) - 1) + [self.cursor]
        for cursor, change in zip(cursors, changes, strict=True) if changes else ():
            self._publish(cursor, change)

    def _on_alive(self, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        name = subject.decode(errors="replace").split(".")[2]
        self._publish_all(self.view.on_alive(name, data, time.monotonic(), time.time()))

    def _on_owner(self, message: Message) -> None:
        name = message.subject.rpartition(".")[2]
        if sites.NAME.fullmatch(name):
            self._publish_all(self.view.on_owner(name, message.data, message.stamp, time.monotonic()))

    def _publish_all(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._publish(self.cursor, change)

    # ---- what time changes

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECK)
            if not self.ready.is_set():
                continue
            self._publish_all(self.view.check(time.monotonic()))
            connection = self._connection
            if connection is None:
                continue
            try:
                await self._compare(connection)
                if self.derived_ahead and time.monotonic() > self._looked_at + LOOK:
                    self._looked_at = time.monotonic()
                    self.derived_ahead = not await self._is_rebuilt(connection)
            except ServerError as error:
                log.warning("cannot compare %s with the log: %s", sites.STATE, error)
            for site in self.view.overdue(time.monotonic()):
                try:
                    await self._fix(connection, site)
                except ServerError as error:
                    log.warning("site %s: %s", site.name, error)

    async def _compare(self, connection: Connection) -> None:
        """Compare what a start read with the log, once; if it is of another one, read everything from the log."""
        if not self._unchecked:
            return
        if await is_other_log(connection, self._unchecked, self.known_from):
            self._lacks = True
            connection.end(f"{sites.STATE} does not match the log")
        else:
            self._unchecked = {}

    async def _is_rebuilt(self, connection: Connection) -> bool:
        """Return whether the stream of last values was created again, and has what the log has. Raises ServerError."""
        if (await connection.stream_state(sites.STATE)).created == self._derived:
            return False
        copies = await copies_of_log(connection)
        through = max((copy.number for copy in copies.values()), default=0)
        if through < self.known_from or await is_other_log(connection, copies, through):
            return False
        log.info("%s agrees with the log again", sites.STATE)
        return True

    async def _fix(self, connection: Connection, site: Site) -> None:
        """Get missing events of a site: from the site, if it accepts commands, else its last values from the log."""
        # A sign of life does not wait behind the log, of which much may not be read yet.
        last = (await connection.stream_state(sites.LOG)).last
        for _ in range(CATCH_UP):
            if self.sequence >= last:
                break
            await asyncio.sleep(0.05)
        if self.sequence < last or not self._is_missing(site):
            return
        now = time.monotonic()
        if site.alive is not None and site.alive.commands and site.requested_at is None and site.cursor is not None:
            site.requested_at = now
            log.warning(
                "site %s: events after %s are missing; requested again", site.name, site.cursor.decode(errors="replace")
            )
            await self.command(site.name, sites.Resend(after=site.cursor.decode(errors="replace")))
            return
        log.warning("site %s: events are missing; its last values are read from the log", site.name)
        found, number = list[Message](), -1
        while number != site.number:  # else a message came meanwhile, which may be the last of its subject
            found, number = [], site.number
            async for page in connection.read(sites.LOG, last_values(f"{sites.PREFIX}.{site.name}.>")):
                found += page
            if not self._is_missing(site):
                return
        newest: bytes | None = None
        for message in found:
            if message.sequence > self.sequence:
                continue
            self._publish_all(self.view.replace_last(message, now))
            cursor = message.headers.get(CURSOR)
            if cursor is not None and not is_before(cursor, newest):
                newest = cursor
        site.skip_missing("events of the site are missing; what it published since is shown", newest)
        self.view.replaced[site.name] = self.sequence

    def _is_missing(self, site: Site) -> bool:
        return site.missing_since is not None and self.view.sites.get(site.name) is site

    async def command(self, site: str, command: sites.Command) -> None:
        """Send a command to a site. Raises ServerError with the reason why it was not carried out."""
        if self._connection is None:
            raise ServerError(f"no connection to the log: {self.problem}")
        await self._connection.command(site, command)

    async def bury(self, site: str, data: bytes) -> None:
        """Copy a message that cannot be read to where an administrator finds it."""
        if self._connection is not None:
            await self._connection.publish(sites.dead_subject(site), data)
