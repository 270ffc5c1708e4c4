"""Output modes of `watch`."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from netscanctl.cursor_file import CursorFile
from netscanctl.event_lines import format_event
from netscanctl.exec_runner import Job, Runner
from netscanctl.render import ORDERS, devices_table, scan_error
from netscanctl.settling import Settling
from netscanctl.state import ClientState
from netscanctl.stream import Received
from netscanctl.table_view import Screen, TableView
from netscanctl.terminal import Terminal
from netscanctl.text import SENTENCE_LIMIT, clean
from netscand import protocol


class Output(Protocol):
    """Output mode."""

    async def on_message(self, received: Received) -> None:
        """Process one message of the stream."""

    def notice(self, text: str) -> None:
        """Show a message to the user."""

    def error(self, text: str) -> None:
        """Show an error that does not end the command."""

    async def run(self) -> int:
        """Run until cancelled, or until the user quits; return the exit code."""


class KindFilter:
    """Set of event kinds; empty: all kinds."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = frozenset(kinds)

    def __contains__(self, event: protocol.Event) -> bool:
        return not self._kinds or event.kind in self._kinds


class _StderrOutput:
    """Output with notices on stderr and no task of its own."""

    def __init__(self, terminal: Terminal, kinds: KindFilter, bookmark: CursorFile) -> None:
        self._terminal = terminal
        self._kinds = kinds
        self._bookmark = bookmark

    def notice(self, text: str) -> None:
        """Write a message to stderr."""
        self._terminal.notice(text)

    def error(self, text: str) -> None:
        """Write an error to stderr, also with --quiet."""
        self._terminal.error(text)

    async def run(self) -> int:
        """Wait until cancelled."""
        await asyncio.Event().wait()
        return 0

    def _save_cursor(self, received: Received) -> None:
        self._bookmark.save(self._bookmark.advance(received.message))


class JsonOutput(_StderrOutput):
    """Messages as received, without events of other kinds."""

    async def on_message(self, received: Received) -> None:
        """Print one message."""
        if not isinstance(received.message, protocol.Event) or received.message in self._kinds:
            self._terminal.json(received.raw)
        self._save_cursor(received)


class _EventOutput(_StderrOutput):
    """Output of events, those of newcomers when these have settled."""

    def __init__(self, terminal: Terminal, kinds: KindFilter, bookmark: CursorFile, settling: Settling) -> None:
        super().__init__(terminal, kinds, bookmark)
        self._picture = ClientState()
        self._settling = settling
        self._cursor: str | None = None
        """Cursor after the last message."""
        self._turn = asyncio.Lock()
        """Messages and newcomers that settle are published one after the other, so that no cursor is saved early."""

    async def on_message(self, received: Received) -> None:
        """Publish the changes of one message."""
        async with self._turn:
            first = not self._picture.complete
            events = self._settling.add(self._picture.on_message(received.message), self._cursor)
            self._cursor = self._bookmark.advance(received.message)
            if first and self._picture.complete and not isinstance(received.message, protocol.Resumed):
                self._print_devices()
            await self._publish([event for event in events if event in self._kinds], received)
        if isinstance(received.message, protocol.ScanError):
            self.error(scan_error(received.message))

    async def run(self) -> int:
        """Publish newcomers as they settle, until cancelled."""
        while True:
            await self._settling.wait()
            async with self._turn:
                await self._publish([event for event in self._settling.expired() if event in self._kinds])

    def _print_devices(self) -> None:
        """Print the devices of the first snapshot."""

    async def _publish(self, events: Sequence[protocol.Event], received: Received | None = None) -> None:
        """Publish events, and save the cursor up to which all are published."""
        raise NotImplementedError


class LineOutput(_EventOutput):
    """Table of devices, then one line per event."""

    def _print_devices(self) -> None:
        devices = sorted(self._picture.devices.values(), key=ORDERS["ip"])
        terminal = self._terminal
        table = devices_table(devices, columns=terminal.columns, paint=terminal.paint, today=terminal.today, now=_now())
        terminal.write(table)

    async def _publish(self, events: Sequence[protocol.Event], received: Received | None = None) -> None:
        for event in events:
            line = format_event(event, paint=self._terminal.paint, now=_now(), columns=self._terminal.columns)
            self._terminal.write(line + "\n")
        self._bookmark.save(self._settling.published(self._cursor))


class ExecOutput(_EventOutput):
    """Run of the user's command for each event that LineOutput would print."""

    def __init__(
        self, argv: Sequence[str], terminal: Terminal, kinds: KindFilter, bookmark: CursorFile, settling: Settling
    ) -> None:
        super().__init__(terminal, kinds, bookmark, settling)
        self._submitted: str | None = None
        """Cursor of the last job."""
        self._runner = Runner(argv, terminal.notice, bookmark.save, error=terminal.error)

    async def run(self) -> int:
        """Run the command."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._runner.run())
            return await super().run()

    async def _publish(self, events: Sequence[protocol.Event], received: Received | None = None) -> None:
        cursor = self._settling.published(self._cursor)
        for event in events:
            json = _as_json(event, received, self._cursor)
            await self._runner.submit(Job(event, json, cursor if event is events[-1] else None))
        if not events and cursor != self._submitted:
            await self._runner.submit(Job(None, b"", cursor))
        self._submitted = cursor


class TableOutput(_StderrOutput):
    """Full-screen live table."""

    def __init__(self, terminal: Terminal, kinds: KindFilter, bookmark: CursorFile) -> None:
        super().__init__(terminal, kinds, bookmark)
        self._board = TableView(terminal.paint)
        self._screen = Screen(
            lambda columns, rows: self._board.lines(columns, rows, _now()),
            lambda: self._board.expire_marks(_now()),
            self._board.on_key,
        )

    async def on_message(self, received: Received) -> None:
        """Apply one message to the table."""
        for event in self._board.on_message(received.message):
            if event in self._kinds:
                self._board.add_event(event, _now())
        self._screen.redraw()
        self._save_cursor(received)

    def notice(self, text: str) -> None:
        """Show a message above the table."""
        self._board.notice = clean(text, SENTENCE_LIMIT)
        self._screen.redraw()

    def error(self, text: str) -> None:
        """Show an error above the table."""
        self.notice(text)

    async def run(self) -> int:
        """Draw the table."""
        return await self._screen.run()


def _now() -> datetime:
    return datetime.now().astimezone()


def _as_json(event: protocol.Event, received: Received | None, cursor: str | None) -> bytes:
    """Return an event as received; one of a newcomer, or found by comparing two snapshots, is encoded the same way."""
    if received is not None and event is received.message:
        return received.raw.replace(b"\n", b" ")
    at = event.at or f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
    return protocol.encode(msgspec.structs.replace(event, cursor=event.cursor or cursor or "", at=at))
