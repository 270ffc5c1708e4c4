"""The push document's contract: the whole list in every message, at the end of each scan and after changes.

A list goes out within 100 ms of an event; where one went out less than a second ago, when that second is over. It is
made once for all clients with the same filter, and only the newest waits for a client that is slow.
"""

import asyncio
from contextlib import suppress
from itertools import groupby
from math import inf
from time import monotonic

from netscand import protocol
from netscand.serve import websocket
from netscand.serve.filters import Filter
from netscand.serve.hub import Finish, Hub, scan_update
from netscand.serve.overview import Overview, around_devices
from netscand.serve.snapshot import Snapshot
from netscand.serve.subscriber import Subscriber
from netscand.serve.translate import Translator

SOON = 0.02
"""Seconds after an event until its list is made: what comes in a burst goes in one."""

APART = 1.0
"""Seconds between two lists that no scan's end asked for."""

PART = 100
"""Devices translated at a time."""


class WholeLists:
    """Makes and sends `scan_update` to the clients of the `full` mode."""

    def __init__(self, hub: Hub, overview: Overview, translator: Translator) -> None:
        self._hub = hub
        self._overview = overview
        self._translator = translator
        self._sent_at = -inf

    async def run(self) -> None:
        """Until cancelled."""
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
        clients.sort(key=_by_filter)
        for _, group in groupby(clients, _by_filter):
            alike = list(group)
            frames = await self._list(alike[0].fits, finish)
            for client in alike:
                client.replace(frames)
                client.drain()

    async def _list(self, fits: Filter, finish: Finish | None) -> tuple[bytes, ...]:
        with self._hub.snapshot(fits) as snapshot:
            online = self._overview.counts().online
            if finish is not None:
                update = scan_update(finish._replace(cursor=snapshot.cursor), online, self._translator)
            else:
                update = protocol.ScanUpdate(
                    scan_id=None,
                    cursor=snapshot.cursor,
                    networks=[network.id for network in self._overview.networks(fits)],
                    started_at=None,
                    finished_at=None,
                    online=online,
                    frames=None,
                    devices=[],
                )
            return await with_devices(update, snapshot)


async def with_devices(message: protocol.Message, snapshot: Snapshot) -> tuple[bytes, ...]:
    """The frames of a message whose `devices` are those of the snapshot."""
    before, after = around_devices(message)
    text = websocket.LongText()
    text.add(before)
    comma = b""
    while True:
        if part := await snapshot.part(PART):
            text.add(comma + b",".join(part))
            comma = b","
        if not snapshot.left:
            break
    text.add(after)
    return text.end()


def _wants(client: Subscriber, finish: Finish) -> bool:
    asked = finish.scan.scan_id in client.wishes
    client.wishes.discard(finish.scan.scan_id)
    return asked or client.fits.scan(finish.scan.networks)


def _by_filter(client: Subscriber) -> tuple[str, str]:
    return client.fits.network or "", client.fits.text or ""
