"""A scan as it goes: a bar, and who is found. Read only where somebody looks: it needs asyncio and aiohttp."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime

from netscanctl.changes import MARKS, change
from netscanctl.client import Daemon
from netscanctl.picture import Picture
from netscanctl.stream import Heard, follow, post
from netscanctl.terminal import Terminal
from netscanctl.text import SENTENCE_LIMIT, clean
from netscand import protocol


def watched_post(daemon: Daemon, terminal: Terminal, path: str, body: bytes) -> bytes:
    """The answer to a POST that waits for a scan, while `terminal` shows how it goes. Raises Failure."""
    return asyncio.run(_watched(daemon, terminal, path, body))


async def _watched(daemon: Daemon, terminal: Terminal, path: str, body: bytes) -> bytes:
    progress = Progress(terminal)
    async with aclosing(follow(daemon, terminal.talk)) as stream:
        while not progress.picture.whole:
            progress.picture.hear((await anext(stream)).message)
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
    """How a scan goes: a bar, and who is found."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self.picture = Picture()
        self._others: set[int] = set()
        """Scans that no client wished for: not ours."""

    async def show(self, stream: AsyncIterator[Heard]) -> None:
        """Show it until cancelled."""
        self._terminal.bar.set(0, 1, "waiting for the scan")
        async for heard in stream:
            match heard.message:
                case protocol.ScanStarted(scan_id=scan_id, requested_by=cause) if cause != "client":
                    self._others.add(scan_id)
                case protocol.ScanProgress(scan_id=scan_id, done=done, total=total, found=found) if (
                    scan_id not in self._others
                ):
                    self._terminal.bar.set(done, total, f"{done}/{total} addresses, {found} found")
                case protocol.ScanError(network=network, message=message):
                    self._terminal.talk(f"scan of {clean(network)}: {clean(message, SENTENCE_LIMIT)}")
            for event in self.picture.hear(heard.message):
                if MARKS.get(event.kind) == "+" and self._terminal.is_terminal:
                    self._line(event)

    def _line(self, event: protocol.Event) -> None:
        terminal, now = self._terminal, datetime.now().astimezone()
        terminal.write(change(event, paint=terminal.paint, now=now, columns=terminal.columns) + "\n")
