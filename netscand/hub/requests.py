"""Requests of clients that wait for a site."""

import asyncio
import logging
from collections.abc import Callable

from netscand import sites
from netscand.core.model import Busy, ScanFailed
from netscand.hub.connection import ServerError
from netscand.hub.log import Log

WAITING = 64
"""Requests that wait, at most."""

log = logging.getLogger(__name__)


class Requests:
    """Sends scan requests to sites, one after the other; `publish` gets the failure of each that was not accepted."""

    def __init__(self, of: Log, publish: Callable[[ScanFailed], None]) -> None:
        self._log = of
        self._publish = publish
        self._waiting: asyncio.Queue[tuple[int, str, sites.Command]] = asyncio.Queue(WAITING)

    def send(self, number: int, site: str, command: sites.Command) -> None:
        """Send a request soon. Raises Busy."""
        if self._waiting.full():
            raise Busy(f"{WAITING} requests wait for their sites; try again in 10 s")
        self._waiting.put_nowait((number, site, command))

    async def run(self) -> None:
        """Send them, until cancelled."""
        while True:
            number, site, command = await self._waiting.get()
            try:
                await self._log.command(site, command)
            except ServerError as error:
                log.info("site %s: %s", site, error)
                self._publish(ScanFailed(number, site, str(error)))
