"""Events of the past: `/api/events`, a device's events and days, the backup; and what a resumed stream missed.

Events are sent as they were stored (serve/encode.py). Only a filter decodes them.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from threading import Thread
from time import monotonic
from typing import BinaryIO, NamedTuple, get_args

from aiohttp import web

from netscand import protocol
from netscand.core.model import Busy, Device, Mac
from netscand.core.restore import DAY, CursorGone, EventQuery, PresencePart, Standing, Unreadable
from netscand.off_loop import OffLoop
from netscand.serve.encode import Encoder, decoded, device_before, event_message, mac_text
from netscand.serve.fair_turns import OURS, Account, Shares
from netscand.serve.http import BINARY, HEADERS, JSON, Refused, answer, connection_of, warn
from netscand.serve.hub import Hub
from netscand.serve.people_api import person_name
from netscand.serve.ports import HistoryPort, Scanner
from netscand.serve.query import EVERYTHING, SLOW, Filter, mac_of, number_of, sites_of, tag_of
from netscand.serve.rest import existing, warn_of_tag
from netscand.validation_messages import shown

PART = 50
"""Events that are read at a time."""

LIST = "~"
"""Replaces the - in the cursor of a list that continues: it may continue over events that are no longer kept."""

EVENTS, MOST_EVENTS = 500, 5_000
"""Events in one answer: by default, and at most."""

MOST_DAYS = 90

MOST_TAGGED = 500
"""Devices with a tag whose events can be listed: SQLite looks each event's device up among them."""

PARTS = {"900": 900.0, "1800": 1800.0, "3600": 3600.0}
"""Seconds of a part of a day: hours, and what hours of a time zone may begin at (India, Nepal)."""

MISSED, MISSED_A_DEVICE = 10_000, 4
"""Maximum events with which a stream resumes, and the same per device; beyond that, a snapshot is shorter."""

PIECE = 64 * 1024
"""Bytes of an answer that are sent at a time."""

MOST_COPIES = 2
"""Copies of the history that are made or sent at once, one of an account: each takes as much of the disk again."""


class HistoryApi:
    """The history as clients get it."""

    has_people = True
    """People are kept here; on a hub, at the sites."""

    def __init__(self, archive: HistoryPort, scanner: Scanner, hub: Hub, encoder: Encoder) -> None:
        self._archive = archive
        self._scanner = scanner
        self._hub = hub
        self._encoder = encoder
        self._parts = Shares(1)
        """One part of an account is read or sent at a time: with both at once, an account has two shares. All queries
        of the history wait here, so that the wait has a limit."""
        self._copying: set[Account] = set()
        """Accounts for which a copy is made or sent."""
        self._reading = OffLoop(MOST_COPIES)

    # ---- the stream -----------------------------------------------------------------------------------------------

    async def reach(self, since: str) -> None:
        """Return once everything up to a client's cursor is here: on a host it always is."""

    async def missed(
        self, since: str, cursor: str, fits: Filter = EVERYTHING, *, account: Account = OURS
    ) -> AsyncIterator[Sequence[tuple[str, bytes]]]:
        """Yield the messages of the events after `since` up to `cursor`, each with its cursor, in order.

        Some at a time; the first time before any are sent, perhaps none. Raises Busy, CursorGone, Unreadable,
        ValueError.
        """
        await self._hub.settled()
        most = max(MISSED, MISSED_A_DEVICE * len(self._scanner.devices))
        question = EventQuery(self._archive.sequence_of(cursor), since=self._number(since), limit=PART, account=account)
        async for part in self._respond(question, whole=True, most=most):
            now = self._encoder.now()
            yield [(of, event_message(of, body, now)) for of, body in part if not fits or _matches(fits, body)]

    async def _respond(
        self, question: EventQuery, *, whole: bool = False, most: int | None = None
    ) -> AsyncIterator[Sequence[tuple[str, bytes]]]:
        """Yield cursors and bodies of events, a part at a time."""
        left = question.limit if not whole else None
        part = question
        while left is None or left > 0:
            part = replace(part, limit=PART if left is None else min(PART, left))
            async with self._parts.hold(question.account):
                page = await self._archive.events(part, whole=whole, most=most)
                await self._hub.turns.turn(question.account)
            yield [(self._archive.cursor_of(number), body) for number, body in page.events]
            most = None
            if page.through >= question.through:
                return
            part = replace(part, since=page.through)
            if left is not None:
                left -= len(page.events)

    # ---- REST -----------------------------------------------------------------------------------------------------

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Answer with events, oldest first; of one device if the path names one."""
        connection = connection_of(request)
        macs, sites = self._scope(request)
        if (person := request.query.get("person")) is not None and not {"mac", "tag"}.isdisjoint(request.query):
            raise Refused("bad_request", "person: not together with mac or tag; an event about a person has no device")
        if (tag := tag_of(request.query)) is not None:
            tagged = await self._tagged(tag, connection.account)
            if not tagged:
                await warn_of_tag(request, tag, self._scanner, self._hub.turns)
            macs = tagged if macs is None else macs & tagged
        query = self._query(request.query, macs, sites)
        if person is not None:
            query = query._replace(person=self._person(request, person).casefold())
        try:
            cursor = self._scanner.cursor
            async with connection.answering(lambda: PIECE):
                await self._hub.settled()
                question = await self._question(query, cursor, connection.account)
                if query.until is not None:
                    cursor = self._archive.cursor_of(question.through).replace("-", LIST)
                return await self._stream(request, question, cursor)
        except CursorGone as gone:
            raise Refused("cursor_gone", str(gone)) from None

    def _person(self, request: web.Request, name: str) -> str:
        """Return the name of a person; warn if there is none now, for it may be mistyped. Raises Refused."""
        name, people = person_name("person", name), self._scanner.people
        if self.has_people and people.find(name) is None:
            names = existing("people", [person.name for person in people.all()])
            warn(request, f"no person {shown(name)} now: only events from before a removal or another name; {names}")
        return name

    def _scope(self, request: web.Request) -> tuple[frozenset[Mac] | None, frozenset[str] | None]:
        """Return the MACs of the device and the sites of the events that are requested; None: all."""
        of_one = "mac" in request.match_info
        given = request.match_info["mac"] if of_one else request.query.get("mac")
        merged = self._scanner.merged
        mac = merged.primary(mac_of(given)) if given is not None else None
        if of_one:
            self._known(mac)
        macs = None if mac is None else frozenset([mac, *merged.of(mac)])
        return macs, sites_of(request.query, connection_of(request).sites)

    async def _tagged(self, tag: str, account: Account) -> frozenset[Mac]:
        """Return the devices that have a tag now. Raises Refused if they are too many for one query."""
        everyone = self._hub.turns.over(account, tuple(self._scanner.devices.values()))
        macs = frozenset([mac async for each in everyone if tag in each.tags for mac in (each.mac, *each.merged)])
        if len(macs) > MOST_TAGGED:
            what = f"{len(macs):,} devices have this tag; expected up to {MOST_TAGGED}"
            raise Refused("bad_request", f"tag={tag}: {what}; ask for the events of single devices, or of all")
        return macs

    def _query(
        self, given: Mapping[str, str], macs: frozenset[Mac] | None, sites: frozenset[str] | None
    ) -> "ListQuery":
        if "last" in given and ("since" in given or "limit" in given):
            raise Refused("bad_request", "last: not together with since or limit")
        name = "last" if "last" in given else "limit"
        limit = number_of(given, name, EVENTS, most=MOST_EVENTS)
        kinds = _kinds(given.get("kind"))
        return ListQuery(given.get("since"), given.get("until"), kinds, macs, sites, limit, "last" in given)

    async def _question(self, query: "ListQuery", cursor: str, account: Account) -> EventQuery:
        through = self._archive.sequence_of(cursor)
        question = EventQuery(
            through,
            kinds=query.kinds,
            person=query.person,
            macs=query.macs,
            sites=query.sites,
            limit=query.limit,
            gaps=True,
            account=account,
        )
        if query.until is not None:
            with _refusing_expired("until", query.until):
                try:
                    question = replace(question, through=min(through, self._number(query.until)))
                except ValueError:
                    question = replace(question, before=_time("until", query.until))
        if query.last:
            async with self._parts.hold(account):
                return replace(question, since=await self._archive.begin_of_last(question))
        if query.since is None:
            return question
        with _refusing_expired("since", query.since):
            try:
                return replace(question, since=self._number(query.since), gaps=LIST in query.since)
            except ValueError:
                return replace(question, after=_time("since", query.since))

    def _number(self, cursor: str) -> int:
        """Return the number of a cursor, also of a list that continues. Raises CursorGone, ValueError."""
        return self._archive.sequence_of(cursor.replace(LIST, "-"))

    async def _stream(self, request: web.Request, question: EventQuery, through: str) -> web.StreamResponse:
        """Answer with the events, and at the end the cursor for the next request."""
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": JSON})
        parts: list[bytes] = []
        size = count = 0
        last, more = self._archive.cursor_of(question.since or 0), False
        before = b'{"events":['
        try:
            async for found in self._respond(replace(question, limit=question.limit + 1)):  # one more: is there more?
                end = question.limit - count
                # Not only some of the events of one message of a hub, whose cursor is that before the message.
                while 0 < end < len(found) and found[end - 1][0] == (found[end - 2][0] if end > 1 else last):
                    end += 1
                more = end < len(found) or end > question.limit - count
                for last, body in found[:end]:
                    parts.append(before + event_message(last, body))
                    before = b","
                    size += len(parts[-1])
                count += min(end, len(found))
                if size > PIECE:
                    await _send(request, response, parts)
                    size = 0
        except (Busy, CursorGone, Unreadable):
            if response.prepared:
                raise ConnectionResetError("the answer is partly sent: an error now would look like its rest") from None
            raise
        cursor = through
        if count >= question.limit:  # the list continues as it began
            cursor = last.replace("-", LIST) if question.gaps else last
        closing = b'],"cursor":' + protocol.encode(cursor) + b',"more":' + protocol.encode(more) + b"}"
        parts.append(closing if count else before + closing)
        if not response.prepared:
            return web.Response(body=b"".join(parts), content_type=JSON, headers=HEADERS)
        await _send(request, response, parts)
        return response

    async def presence(self, request: web.Request) -> web.StreamResponse:
        """Answer with how long a device was online on each of the last days."""
        given = request.query
        device = self._known(self._scanner.merged.primary(mac_of(request.match_info["mac"])))
        days = number_of(given, "days", 7, most=MOST_DAYS)
        step = _step(given.get("step"))
        self._encoder.sync()
        standing = None  # never seen: its status says nothing about any day
        if not device.never_seen:
            standing = Standing(device.status, self._unix(device.status_since), device.reason)
        await self._hub.settled()
        account = connection_of(request).account
        async with self._parts.hold(account):
            found = await self._archive.presence(
                device.mac, days, standing, self._unix(monotonic()), step or DAY, others=device.merged, account=account
            )
        of_a_day = int(DAY / (step or DAY))
        days_found = [found[at : at + of_a_day] for at in range(0, len(found), of_a_day)]
        return answer(protocol.PresenceDays(days=[_presence_of(parts, with_parts=bool(step)) for parts in days_found]))

    async def backup(self, request: web.Request) -> web.StreamResponse:
        """Answer with a consistent copy of the database."""
        connection = connection_of(request)
        account = connection.account
        if account in self._copying or len(self._copying) >= MOST_COPIES:
            raise Refused("busy", "a backup is being made; try again when it has been sent")
        self._copying.add(account)
        try:
            file = await self._archive.backup()
            try:
                size = file.seek(0, 2)
                async with connection.answering(lambda: PIECE, size):
                    return await self._send_file(request, file, size)
            finally:
                Thread(target=file.close, name="close", daemon=True).start()  # which may wait for the disk
        finally:
            self._copying.discard(account)

    async def _send_file(self, request: web.Request, file: BinaryIO, size: int) -> web.StreamResponse:
        file.seek(0)
        named = {"Content-Type": BINARY, "Content-Length": str(size)}
        response = web.StreamResponse(headers={**HEADERS, **named})
        await response.prepare(request)
        while piece := await self._reading.do(partial(file.read, PIECE), SLOW):
            async with asyncio.timeout(SLOW):
                await response.write(piece)
        return response

    def _unix(self, at: float) -> float:
        """Return unix seconds, the middle of the millisecond, so that it stays the same when it is rounded again."""
        return (self._encoder.milliseconds(at) + 0.5) / 1000

    def _known(self, mac: Mac | None) -> Device:
        device = self._scanner.devices.get(mac) if mac is not None else None
        if device is None:
            raise Refused("not_found", f"no device {mac_text(mac) if mac else ''}")
        return device


class ListQuery(NamedTuple):
    """Parameters of a request for events."""

    since: str | None
    until: str | None
    kinds: tuple[str, ...]
    macs: frozenset[Mac] | None
    sites: frozenset[str] | None
    limit: int
    last: bool
    person: str | None = None


def _matches(fits: Filter, body: bytes) -> bool:
    event = decoded(body)
    return fits.event(event, device_before(event))


async def _send(request: web.Request, response: web.StreamResponse, parts: list[bytes]) -> None:
    if not response.prepared:
        await response.prepare(request)
    text = b"".join(parts)
    parts.clear()
    if request.method != "HEAD":
        async with asyncio.timeout(SLOW):
            await response.write(text)


def _step(text: str | None) -> float | None:
    if text is not None and text not in PARTS:
        raise Refused("bad_request", f"step={text[:64]}: expected {', '.join(PARTS)}")
    return PARTS[text] if text is not None else None


def _presence_of(parts: Sequence[PresencePart], *, with_parts: bool) -> protocol.PresenceDay:
    """Return a UTC day of these parts."""
    day = protocol.PresenceDay(
        date=datetime.fromtimestamp(parts[0].start, UTC).date().isoformat(),
        online_seconds=round(sum(part.online for part in parts), 1),
        unknown_seconds=round(sum(part.unknown for part in parts), 1),
    )
    if with_parts:
        day.online_parts = [round(part.online, 1) for part in parts]
        day.unknown_parts = [round(part.unknown, 1) for part in parts]
    return day


def _kinds(text: str | None) -> tuple[str, ...]:
    """Return one kind, or several separated by commas."""
    if text is None:
        return ()
    kinds, known = tuple(text.split(",")), get_args(protocol.EventKind)
    if not set(kinds) <= set(known):
        raise Refused("bad_request", f"kind={text[:64]}: expected {', '.join(known)}")
    return kinds


@contextmanager
def _refusing_expired(name: str, cursor: str) -> Iterator[None]:
    """Refuse the request if the cursor of this parameter has expired."""
    try:
        yield
    except CursorGone as gone:
        raise Refused("cursor_gone", f"{name}={cursor[:64]}: {gone}") from None


def _time(name: str, text: str) -> float:
    """Return the unix seconds of RFC 3339, or of a date; UTC if there is no time zone."""
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise Refused(
            "bad_request", f"{name}={text[:64]}: expected a cursor, or a time such as 2026-11-23T10:00:00Z"
        ) from None
