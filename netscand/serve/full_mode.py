"""The `full` mode: the whole list in every message, at the end of each scan and after changes.

A list is sent within 100 ms of an event; if one was sent less than a second ago, when that second is over. The list
without a filter is made once for all clients, and waits for no other. Those with a filter are made one after the other,
accounts in turn, each once for all clients of the account that have this filter. Only the newest list waits for a slow
client.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from math import inf
from time import monotonic

from netscand.core.fairness import FairQueue
from netscand.protocol import Devices, InitialState, ScanUpdate
from netscand.serve import websocket_frames
from netscand.serve.encode import Encoder
from netscand.serve.fair_turns import OURS, Account
from netscand.serve.hub import Finish, Hub, scan_update
from netscand.serve.query import EVERYTHING, Filter
from netscand.serve.snapshot import Snapshot
from netscand.serve.subscriber import Subscriber
from netscand.serve.summary import Summary, around_devices

SOON = 0.02
"""Seconds after an event until its list is made: a burst of events makes one list."""

APART = 1.0
"""Seconds between two lists, unless a scan ended."""

PART = 100
"""Devices encoded at a time."""

SHARED = 1000
"""Devices up to which a list is made once for several clients, and kept until each has read it; a larger one is made
for each client as it reads."""


class FullMode:
    """Sender of `scan_update` to the clients of the `full` mode."""

    def __init__(self, hub: Hub, overview: Summary, encoder: Encoder) -> None:
        self._hub = hub
        self._overview = overview
        self._encoder = encoder
        self._sent_at = -inf
        self._due: dict[Subscriber, Finish | None] = {}
        """Clients that get a large list or one with a filter, with the scan that ended; None: something changed."""
        self._with_filter: FairQueue[Subscriber] = FairQueue()
        """Clients that get a list with a filter."""
        self._some_wait = asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._make_with_filter())
            await self._run()

    async def _run(self) -> None:
        hub = self._hub
        while True:
            await hub.stirred.wait()
            if not hub.finished:
                await self._rest(max(SOON, self._sent_at + APART - monotonic()))
            hub.stirred.clear()
            await self._send(hub.finished.popleft() if hub.finished else None)
            if hub.finished:
                hub.stirred.set()
            else:
                hub.scan_ended.clear()

    async def _rest(self, seconds: float) -> None:
        """Sleep, but not past the end of a scan."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hub.scan_ended.wait()

    async def _send(self, finish: Finish | None) -> None:
        self._sent_at = monotonic()
        clients = [client for client in self._hub.full_clients() if finish is None or _wants(client, finish)]
        large = self._overview.devices > SHARED
        self._due = {client: its for client, its in self._due.items() if not client.ended}
        for client in clients:
            if large or client.fits:
                if not large and client not in self._due:
                    self._with_filter.push(client.account, client)
                self._due[client] = finish or self._due.get(client)
            if large:
                client.list_due.set()
        if self._with_filter:
            self._some_wait.set()
        if not large and (alike := [client for client in clients if not client.fits]):
            await self._make(EVERYTHING, OURS, finish, alike)

    async def _make_with_filter(self) -> None:
        """Make the lists with a filter: one of an account, then one of the next account."""
        while True:
            await self._some_wait.wait()
            self._some_wait.clear()
            while self._with_filter:
                began = monotonic()
                client = self._with_filter.pop()
                if client not in self._due:  # it has gone, or got its list together with another one
                    continue
                of, finish = (client.account, client.fits), self._due[client]
                alike = [each for each, its in self._due.items() if its is finish and (each.account, each.fits) == of]
                for each in alike:
                    del self._due[each]
                await self._make(client.fits, client.account, finish, alike)
                await asyncio.sleep(monotonic() - began)  # lists take no more than half of the time

    async def _make(self, fits: Filter, account: Account, finish: Finish | None, clients: list[Subscriber]) -> None:
        with self._hub.snapshot(fits, account=account) as snapshot:
            update = self._update(fits, finish, snapshot.cursor)
            frames = tuple([frame async for frame in with_devices(update, snapshot)])
        for client in clients:
            client.replace(frames)
            client.drain()

    async def follow(self, client: Subscriber, account: Account) -> None:
        """Send a client the lists after its first one, if they are large: each is made as it is read."""
        try:
            while not client.ended:
                await client.list_due.wait()
                client.list_due.clear()
                finish = self._due.pop(client, None)
                began = monotonic()
                client.hold()
                with self._hub.snapshot(client.fits, account=account) as snapshot:
                    update = self._update(client.fits, finish, snapshot.cursor)
                    async with client.delivery(lambda: snapshot.bytes_kept):
                        await send_list(client, update, snapshot)
                client.release(client.cursor)
                await asyncio.sleep(monotonic() - began)  # lists take no more than half of the time
        finally:
            self._due.pop(client, None)

    def _update(self, fits: Filter, finish: Finish | None, cursor: str) -> ScanUpdate:
        online = self._overview.counts(fits).online
        if finish is not None:
            return scan_update(finish._replace(cursor=cursor), online, self._encoder)
        return ScanUpdate(
            scan_id=None,
            cursor=cursor,
            networks=[network.id for network in self._overview.networks(fits)],
            started_at=None,
            finished_at=None,
            online=online,
            frames=None,
            devices=[],
        )


async def with_devices(
    message: ScanUpdate | InitialState | Devices, snapshot: Snapshot, most: int | None = None
) -> AsyncIterator[bytes]:
    """Yield the frames of a message whose `devices` are the next of the snapshot, at most `most`; made on demand.

    Nothing of the message is kept but the frame that is not full yet.
    """
    before, after = around_devices(message)
    text = websocket_frames.LongText()
    piece, comma = before, b""
    while True:
        part = await snapshot.part(PART if most is None else min(PART, most))
        most = None if most is None else most - len(part)
        if part:
            piece += comma + b",".join(part)
            comma = b","
        if not snapshot.left or most == 0:
            break
        for frame in text.add(piece):
            yield frame
        piece = b""
    if not isinstance(message, ScanUpdate):
        message.more = snapshot.left
        _, after = around_devices(message)
    for frame in text.add(piece + after):
        yield frame
    yield text.end()


async def send_list(
    client: Subscriber, message: ScanUpdate | InitialState | Devices, snapshot: Snapshot, most: int | None = None
) -> None:
    """Send such a message as the client reads it."""
    async for frame in with_devices(message, snapshot, most):
        await client.send(frame, more=not frame[0] & websocket_frames.FINAL)
        if client.ended and not client.finishing:
            return


def _wants(client: Subscriber, finish: Finish) -> bool:
    requested = finish.scan.scan_id in client.requested
    client.requested.discard(finish.scan.scan_id)
    return requested or client.fits.scan(finish.scan.networks)
