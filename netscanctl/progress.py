"""Progress of a scan: a bar, and devices as they are found.

Imported only for a terminal: it needs asyncio and aiohttp, which are slow to import.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime

from netscanctl.client import Daemon
from netscanctl.event_lines import MARKS, format_event
from netscanctl.render import scan_error
from netscanctl.state import ClientState
from netscanctl.stream import Received, follow, post
from netscanctl.terminal import Terminal
from netscand import protocol


def post_with_progress(daemon: Daemon, terminal: Terminal, path: str, body: bytes) -> bytes:
    """Send a POST that waits for a scan, and show its progress; return the answer. Raises Failure."""
    return asyncio.run(_post(daemon, terminal, path, body))


async def _post(daemon: Daemon, terminal: Terminal, path: str, body: bytes) -> bytes:
    progress = Progress(terminal)
    async with aclosing(follow(daemon, terminal.notice)) as stream:
        while not progress.picture.complete:
            progress.picture.on_message((await anext(stream)).message)
        try:
            async with asyncio.TaskGroup() as group:
                showing = group.create_task(progress.show(stream))
                answer = await post(daemon, path, body)
                showing.cancel()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            terminal.bar.end()
    return answer


class Progress:
    """Progress display of one scan."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self.picture = ClientState()
        self._foreign: set[int] = set()
        """Ids of scans that no client requested."""

    async def show(self, stream: AsyncIterator[Received]) -> None:
        """Show the progress until cancelled."""
        self._terminal.bar.set(0, 1, "waiting for the scan")
        async for received in stream:
            match received.message:
                case protocol.ScanStarted(scan_id=scan_id, requested_by=cause) if cause != "client":
                    self._foreign.add(scan_id)
                case protocol.ScanProgress(scan_id=scan_id, done=done, total=total, found=found) if (
                    scan_id not in self._foreign
                ):
                    self._terminal.bar.set(done, total, f"{done}/{total} addresses, {found} found")
                case protocol.ScanError() as error:
                    self._terminal.error(scan_error(error))
            for event in self.picture.on_message(received.message):
                if MARKS.get(event.kind) == "+" and self._terminal.is_terminal:
                    self._print(event)

    def _print(self, event: protocol.Event) -> None:
        terminal, now = self._terminal, datetime.now().astimezone()
        terminal.write(format_event(event, paint=terminal.paint, now=now, columns=terminal.columns) + "\n")
