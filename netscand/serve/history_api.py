"""What happened before: `/api/events`, a device's events and days, the backup; and the past of a resumed stream."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from typing import BinaryIO, NamedTuple

from aiohttp import web

from netscand import protocol
from netscand.core.model import Device, EventKind, Mac
from netscand.core.restore import CursorGone, Page, Question, Standing, Unreadable, as_published, copied
from netscand.serve.encode import Encoder, mac_text
from netscand.serve.fair_turns import OURS, Account, Shares
from netscand.serve.http import HEADERS, JSON, Refused, answer, connection_of
from netscand.serve.hub import Hub
from netscand.serve.ports import HistoryPort, Scanner
from netscand.serve.query import EVERYTHING, SLOW, Filter, mac_of, number_of
from netscand.serve.snapshot import PastView

PART = 50
"""Events that are read at a time."""

HOLD = 0.005
"""Seconds of the loop that events take in one go; one with 64 addresses takes a millisecond."""

LIST = "~"
"""Stands for the - of a cursor where a list of events goes on: an event that is no longer kept is no gap in a list."""

EVENTS, MOST_EVENTS = 500, 5_000
"""In one answer: unless asked otherwise, and at most."""

MOST_DAYS = 90

MISSED, MISSED_A_DEVICE = 10_000, 4
"""Events that a stream is resumed with, at most, and as many a device: a snapshot is shorter than more."""

PIECE = 64 * 1024
"""Bytes of an answer that are sent at a time."""

MOST_COPIES = 2
"""Copies of the history that are made or sent at once, one of an account: each takes as much of the disk again."""


class HistoryApi:
    """Tells events of the past, each with its device as it was."""

    def __init__(self, archive: HistoryPort, scanner: Scanner, hub: Hub, translator: Encoder) -> None:
        self._archive = archive
        self._scanner = scanner
        self._hub = hub
        self._translator = translator
        self._in_unix_time = translator.of_unix_time()
        self._parts = Shares(1)
        """One part of an account is read or translated at a time: with both at once, an account has two shares."""
        self._copying: set[Account] = set()
        """Accounts for which a copy is made or sent."""

    # ---- the stream -----------------------------------------------------------------------------------------------

    async def missed(
        self, since: str, moment: PastView, fits: Filter = EVERYTHING, *, account: Account = OURS
    ) -> AsyncIterator[protocol.Event]:
        """What happened after a client's cursor, up to the moment, in order. Raises CursorGone before the first."""
        await self._hub.settled()
        through = self._archive.sequence_of(moment.cursor)
        most = max(MISSED, MISSED_A_DEVICE * len(self._scanner.devices))
        question = Question(through, since=self._number(since), limit=PART, account=account)
        async for told, before in self._respond(question, moment, bool(fits), whole=True, most=most):
            if not fits or fits.event(told, before):
                told.sent_at = self._translator.now()
                yield told

    async def _respond(
        self,
        question: Question,
        moment: PastView,
        beforehand: bool = False,
        *,
        whole: bool = False,
        most: int | None = None,
    ) -> AsyncIterator[tuple[protocol.Event, protocol.Device | None]]:
        """Events with what their devices were before them, where that is asked for; a part at a time."""
        left = question.limit if not whole else None
        part = question
        while left is None or left > 0:
            part = replace(part, limit=PART if left is None else min(PART, left))
            async with self._parts.hold(question.account):
                page = await self._archive.events(part, whole=whole, most=most)
                told = await self._translated(page, question.account, moment, beforehand)
            for each in told:
                yield each
            most = None
            if page.through >= question.through:
                return
            part = replace(part, since=page.through)
            if left is not None:
                left -= len(page.events)

    async def _translated(
        self, page: Page, account: Account, moment: PastView, beforehand: bool
    ) -> list[tuple[protocol.Event, protocol.Device | None]]:
        """Translate a page, in the turns of its account."""
        translator, cursor_of = self._in_unix_time, self._archive.cursor_of
        told = []
        until = 0.0
        for recorded, later in zip(page.events, page.later, strict=True):
            if monotonic() >= until:
                await self._hub.turns.turn(account)
                until = monotonic() + HOLD
            event = as_published(recorded, later, lambda mac: self._then(moment, mac))
            before = translator.device_before(event) if beforehand else None
            told.append((translator.event(cursor_of(recorded.sequence), event), before))
        return told

    def _then(self, moment: PastView, mac: Mac) -> Device | None:
        """A device as it was at the moment, its times turned into unix time."""
        device = moment.device(mac)
        if device is None:
            return None
        unix = self._unix
        then = copied(device)
        then.first_seen, then.last_seen = unix(then.first_seen), unix(then.last_seen)
        then.status_since = unix(then.status_since)
        for held in then.addresses:
            held.first_seen, held.last_seen = unix(held.first_seen), unix(held.last_seen)
        return then

    def _unix(self, at: float) -> float:
        """The middle of the millisecond, so that it is told as the same one again."""
        return (self._translator.milliseconds(at) + 0.5) / 1000

    # ---- REST -----------------------------------------------------------------------------------------------------

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Events, oldest first; of one device, where the path names one."""
        of_one = "mac" in request.match_info
        given = request.query
        mac_given = request.match_info["mac"] if of_one else given.get("mac")
        mac = mac_of(mac_given) if mac_given is not None else None
        if of_one:
            self._known(mac)
        query = self._query(given, mac)
        try:
            with self._hub.moment() as moment:
                connection = connection_of(request)
                async with connection.answering(lambda: moment.bytes_kept):
                    await self._hub.settled()
                    question = await self._question(query, moment, connection.account)
                    return await self._stream(request, question, moment)
        except CursorGone as gone:
            raise Refused("cursor_gone", str(gone)) from None

    def _query(self, given: Mapping[str, str], mac: Mac | None) -> "_Query":
        if "last" in given and ("since" in given or "limit" in given):
            raise Refused("bad_request", "last: goes with neither since nor limit")
        name = "last" if "last" in given else "limit"
        limit = number_of(given, name, EVENTS, most=MOST_EVENTS)
        return _Query(given.get("since"), _kinds(given.get("kind")), mac, limit, "last" in given)

    async def _question(self, query: "_Query", moment: PastView, account: Account) -> Question:
        through = self._archive.sequence_of(moment.cursor)
        question = Question(through, None, None, query.kinds, query.mac, query.limit, gaps=True, account=account)
        if query.last:
            return replace(question, since=await self._archive.begin_of_last(question))
        if query.since is None:
            return question
        try:
            return replace(question, since=self._number(query.since), gaps=LIST in query.since)
        except CursorGone as gone:
            raise Refused("cursor_gone", f"since={query.since[:64]}: {gone}") from None
        except ValueError:
            return replace(question, after=_time(query.since))

    def _number(self, cursor: str) -> int:
        """Of a cursor, or the place where a list goes on. Raises CursorGone, ValueError."""
        return self._archive.sequence_of(cursor.replace(LIST, "-"))

    async def _stream(self, request: web.Request, question: Question, moment: PastView) -> web.StreamResponse:
        """Answer with the events, and at the end the cursor to go on from."""
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": JSON})
        parts: list[bytes] = []
        size = count = 0
        last = ""
        before = b'{"events":['
        try:
            async for told, _ in self._respond(question, moment):
                parts.append(before + protocol.encode(told))
                before = b","
                count, last, size = count + 1, told.cursor, size + len(parts[-1])
                if size > PIECE:
                    await _send(request, response, parts)
                    size = 0
        except (CursorGone, Unreadable):
            if response.prepared:
                raise ConnectionResetError("half answered: to say more would be taken for the rest") from None
            raise
        cursor = moment.cursor
        if count == question.limit:  # the list goes on as it began
            cursor = last.replace("-", LIST) if question.gaps else last
        end = b'],"cursor":' + protocol.encode(cursor) + b"}"
        parts.append(end if count else before + end)
        if not response.prepared:
            return web.Response(body=b"".join(parts), content_type=JSON, headers=HEADERS)
        await _send(request, response, parts)
        return response

    async def presence(self, request: web.Request) -> web.StreamResponse:
        """How long a device was online on each of the last days."""
        given = request.query
        mac = mac_of(request.match_info["mac"])
        device = self._known(mac)
        days = number_of(given, "days", 7, most=MOST_DAYS)
        self._translator.sync()
        standing = Standing(device.status, self._unix(device.status_since), device.reason)
        await self._hub.settled()
        account = connection_of(request).account
        found = await self._archive.presence(mac, days, standing, self._unix(monotonic()), account=account)
        return answer(
            protocol.PresenceDays(
                days=[
                    protocol.PresenceDay(
                        date=datetime.fromtimestamp(day.start, UTC).date().isoformat(),
                        online_seconds=round(day.online, 1),
                        unknown_seconds=round(day.unknown, 1),
                    )
                    for day in found
                ]
            )
        )

    async def backup(self, request: web.Request) -> web.StreamResponse:
        """A consistent copy of the database."""
        connection = connection_of(request)
        account = connection.account
        if account in self._copying or len(self._copying) >= MOST_COPIES:
            raise Refused("busy", "a backup is being made; try again when it has been sent")
        self._copying.add(account)
        try:
            with await self._archive.backup() as file:
                size = file.seek(0, 2)
                async with connection.answering(lambda: PIECE, size):
                    return await self._send_file(request, file, size)
        finally:
            self._copying.discard(account)

    async def _send_file(self, request: web.Request, file: BinaryIO, size: int) -> web.StreamResponse:
        file.seek(0)
        named = {"Content-Type": "application/vnd.sqlite3", "Content-Length": str(size)}
        response = web.StreamResponse(headers={**HEADERS, **named})
        await response.prepare(request)
        while piece := await asyncio.to_thread(file.read, PIECE):
            async with asyncio.timeout(SLOW):
                await response.write(piece)
        return response

    def _known(self, mac: Mac | None) -> Device:
        device = self._scanner.devices.get(mac) if mac is not None else None
        if device is None:
            raise Refused("not_found", f"no device {mac_text(mac) if mac else ''}")
        return device


class _Query(NamedTuple):
    """What a request for events asks for."""

    since: str | None
    kinds: tuple[EventKind, ...]
    mac: Mac | None
    limit: int
    last: bool


async def _send(request: web.Request, response: web.StreamResponse, parts: list[bytes]) -> None:
    if not response.prepared:
        await response.prepare(request)
    text = b"".join(parts)
    parts.clear()
    if request.method != "HEAD":
        async with asyncio.timeout(SLOW):
            await response.write(text)


def _kinds(text: str | None) -> tuple[EventKind, ...]:
    """One kind, or several with commas between them."""
    if text is None:
        return ()
    try:
        return tuple(EventKind(word) for word in text.split(","))
    except ValueError:
        raise Refused("bad_request", f"kind={text[:64]}: expected {', '.join(EventKind)}") from None


def _time(text: str) -> float:
    """RFC 3339, or a date, as unix seconds; UTC where it does not say."""
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise Refused(
            "bad_request", f"since={text[:64]}: expected a cursor, or a time such as 2026-11-23T10:00:00Z"
        ) from None
