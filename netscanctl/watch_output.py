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


class LineOutput(_StderrOutput):
    """Table of devices, then one line per event."""

    def __init__(self, terminal: Terminal, kinds: KindFilter, bookmark: CursorFile) -> None:
        super().__init__(terminal, kinds, bookmark)
        self._picture = ClientState()

    async def on_message(self, received: Received) -> None:
        """Print the changes of one message."""
        first = not self._picture.complete
        events = self._picture.on_message(received.message)
        if first and self._picture.complete and not isinstance(received.message, protocol.Resumed):
            self._print_table()
        for event in events:
            if event in self._kinds:
                self._print_event(event)
        if isinstance(received.message, protocol.ScanError):
            self.error(scan_error(received.message))
        self._save_cursor(received)

    def _print_table(self) -> None:
        devices = sorted(self._picture.devices.values(), key=ORDERS["ip"])
        terminal = self._terminal
        now = datetime.now().astimezone()
        table = devices_table(devices, columns=terminal.columns, paint=terminal.paint, today=terminal.today, now=now)
        terminal.write(table)

    def _print_event(self, event: protocol.Event) -> None:
        line = format_event(event, paint=self._terminal.paint, now=_now(), columns=self._terminal.columns)
        self._terminal.write(line + "\n")


class ExecOutput(_StderrOutput):
    """Run of the user's command for each event that LineOutput would print."""

    def __init__(self, argv: Sequence[str], terminal: Terminal, kinds: KindFilter, bookmark: CursorFile) -> None:
        super().__init__(terminal, kinds, bookmark)
        self._picture = ClientState()
        self._cursor: str | None = None
        self._runner = Runner(argv, terminal.notice, bookmark.save, error=terminal.error)

    async def on_message(self, received: Received) -> None:
        """Queue the changes of one message."""
        events = [event for event in self._picture.on_message(received.message) if event in self._kinds]
        before, self._cursor = self._cursor, self._bookmark.advance(received.message)
        for event in events:
            cursor = self._cursor if event is events[-1] else None
            await self._runner.submit(Job(event, _as_json(event, received, self._cursor), cursor))
        if not events and self._cursor != before:
            await self._runner.submit(Job(None, b"", self._cursor))
        if isinstance(received.message, protocol.ScanError):
            self.error(scan_error(received.message))

    async def run(self) -> int:
        """Run the command."""
        await self._runner.run()
        return 0


class TableOutput(_StderrOutput):
    """Full-screen live table."""

    def __init__(self, terminal: Terminal, kinds: KindFilter, bookmark: CursorFile) -> None:
        super().__init__(terminal, kinds, bookmark)
        self._board = TableView(terminal.paint)
        self._screen = Screen(
            lambda columns, rows: self._board.lines(columns, rows, _now()), lambda: self._board.expire_marks(_now())
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


def _as_json(event: protocol.Event, received: Received, cursor: str | None) -> bytes:
    """Return an event as received; one found by comparing two snapshots is encoded in the same form."""
    if event is received.message:
        return received.raw.replace(b"\n", b" ")
    at = event.at or f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
    return protocol.encode(msgspec.structs.replace(event, cursor=cursor or "", at=at))
