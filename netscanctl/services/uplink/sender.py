"""Publishing in order, and where to continue after a connection or a process ended.

JetStream may store a message and not the one before it. So each message has the cursor up to which all before were
acknowledged, and the next connection begins there. It sends one message at a time with the ids of the last connection
(`run`), which the server refuses as long as it has them. The first that it does not have, and all after it, are stored
in order, with ids of this connection: a reader follows `Netscan-Previous`, and finds each event once.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from netscanctl.services.ledger import Ledger
from netscanctl.services.report import Report
from netscanctl.services.uplink.publications import Publication
from netscanctl.services.uplink.server import Acknowledgement, Server, Stored
from netscand import sites


class Place(NamedTuple):
    """Where to continue."""

    since: str | None
    """Cursor behind which to continue; None: with a snapshot."""
    run: str | None
    """Connection that published last, whose ids the server may have behind `since`."""
    snapshot: str | None = None
    """Last snapshot of the site."""


START = Place(None, None)

KEPT = 10_000
"""Acknowledged messages whose numbers in the log are kept."""


async def find_place(server: Server, site: str) -> Place:
    """Return where the server's log of this site ends. Raises ServerError.

    The stream of cursors is behind the log, or of another age if they were restored differently: the log counts. The
    event of which that stream knows may be older in the log than the last message about the site, such as the end of a
    snapshot of a later history: the later one of the two counts. Or that stream has nothing of the site yet.
    """
    known = await server.last(sites.CURSOR, sites.cursor_subject(site))
    subject = known.headers.get(sites.SUBJECT, "") if known else ""
    of_site = (each for each in (subject, sites.site_subject(site)) if each.startswith(f"{sites.PREFIX}.{site}."))
    found = [await server.last(sites.LOG, each) for each in dict.fromkeys(of_site)]
    latest = sorted(filter(None, found), key=lambda one: int(one.headers[sites.SEQUENCE]), reverse=True)
    return next((place for one in latest if (place := place_after(one)) != START), START)


def place_after(last: Stored) -> Place:
    """Return where to continue after the last message of a site."""
    headers = last.headers
    cursor, previous = headers.get(sites.CURSOR_HEADER), headers.get(sites.PREVIOUS)
    acknowledged, snapshot = headers.get(sites.ACKNOWLEDGED), headers.get(sites.SNAPSHOT)
    if cursor is None:
        return START  # a snapshot that is not complete
    if acknowledged in (previous, cursor):
        return Place(cursor, headers.get(sites.RUN), snapshot)
    return Place(acknowledged, headers.get(sites.RUN), snapshot) if acknowledged else START


class Pace:
    """At most `rate` messages in a second on average, and at most `rate` at once."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._next = 0.0

    async def wait(self) -> None:
        """Wait for the turn of one message."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - 1.0) + 1 / self._rate
        if self._next > now:
            await asyncio.sleep(self._next - now)


class Sender:
    """Publishes the messages of one connection; `acknowledged` is the cursor up to which the server has all."""

    def __init__(self, server: Server, site: str, instance: str, place: Place, pace: Pace, report: Report) -> None:
        self.acknowledged = place.since
        self.backlog = 0
        """Events read from the history, and not published yet."""
        self._server = server
        self._site = site
        self._fixed = {sites.PROTOCOL: str(sites.VERSION), sites.INSTANCE: instance}
        self._run = place.run or server.run
        self._snapshot = place.snapshot
        self._pace = pace
        self._report = report
        self._ledger = Ledger(self._save)
        self._gap: str | None = None
        """Cursor before an event that was not published."""
        self.lost: Place | None = None
        """Where to continue because the log has lost messages that it had acknowledged."""
        self._stored: deque[tuple[int, str | None]] = deque(maxlen=KEPT)
        """Number in the log, and cursor, of the last messages of this connection."""
        self.on_progress: Callable[[], None] = lambda: None
        """Called for each message that was stored."""

    @property
    def behind(self) -> int:
        """Return how many messages are not acknowledged yet."""
        return self._ledger.behind + self.backlog

    async def send(self, message: Publication) -> None:
        """Publish when the rate permits; what is about the site, with no other unacknowledged. Raises ServerError."""
        alone = not message.is_event and message.subject == sites.site_subject(self._site)
        if alone:
            await self._ledger.wait_below(1)
        if message.restarts:
            self.acknowledged, self._run = None, self._server.run
            self._snapshot = f"{message.key}-{self._server.run}"
        await self._pace.wait()
        await self._ledger.wait_below(1 if self._is_verifying else sites.WINDOW)
        headers = self._headers(message)
        size = len(message.payload) + sum(len(key) + len(value) + 4 for key, value in headers.items()) + 64
        if size > sites.LARGEST:
            self._gap = self._gap or message.previous
            self._report.put_aside()
            self._report.error(f"event {message.key} is not published: {size} bytes, at most {sites.LARGEST}")
            return
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gap = None
        self._ledger.add(message.cursor or "", accepted)
        self._report.behind(self.behind)
        await self._server.publish(
            message.subject, message.payload, headers, lambda answer: self._settle(message, accepted, answer)
        )
        if alone:
            await self._ledger.wait_below(1)

    @property
    def _is_verifying(self) -> bool:
        return self._run != self._server.run

    def _headers(self, message: Publication) -> dict[str, str]:
        run = self._run if message.is_event else self._server.run
        headers = {
            sites.MESSAGE_ID: f"{self._site}-{message.key}-{run}", sites.SUBJECT: message.subject,
            sites.RUN: self._run, **self._fixed,
        }  # fmt: skip
        optional = {
            sites.CURSOR_HEADER: message.cursor,
            sites.PREVIOUS: self._gap or message.previous,
            sites.ACKNOWLEDGED: self.acknowledged,
            sites.SNAPSHOT: self._snapshot,
        }
        return headers | {name: value for name, value in optional.items() if value}

    def _settle(self, message: Publication, accepted: "asyncio.Future[None]", answer: Acknowledgement) -> None:
        if answer.error is not None:
            self._server.end(f"the server refuses {message.subject}: {answer.error.description}")
            return
        if not answer.duplicate:
            if self._stored and answer.seq <= self._stored[-1][0]:
                self._begin_again(answer.seq)
                return
            self._stored.append((answer.seq, message.cursor))
        if message.is_event and not answer.duplicate:
            self._run = self._server.run  # the server has nothing behind this one
        accepted.set_result(None)
        if message.is_event:
            self._report.accepted(self.behind)
        self.on_progress()

    def _begin_again(self, number: int) -> None:
        """End the connection: the log has this message at a number that it had given to an earlier one."""
        while self._stored and self._stored[-1][0] >= number:
            self._stored.pop()
        self.lost = Place(self._stored[-1][1] if self._stored else None, None)
        self._server.end("the log has lost messages that it had acknowledged")

    def _save(self, cursor: str) -> None:
        self.acknowledged = cursor or None
        self._report.behind(self.behind)
