"""The ways in which `watch` tells what the stream brings."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from netscanctl.board import Board
from netscanctl.bookmark import Bookmark
from netscanctl.changes import change
from netscanctl.picture import Picture
from netscanctl.render import ORDERS, devices_table
from netscanctl.runner import Job, Runner
from netscanctl.screen import Screen
from netscanctl.stream import Heard
from netscanctl.terminal import Terminal
from netscanctl.text import SENTENCE_LIMIT, clean
from netscand import protocol


class Way(Protocol):
    """One of them."""

    async def show(self, heard: Heard) -> None:
        """Tell what one message brings."""

    def talk(self, text: str) -> None:
        """Say to the user what is no change."""

    async def run(self) -> int:
        """Do what is to be done beside, until cancelled, or until the user has seen enough: the exit code."""


class Wanted:
    """Changes of some kinds (none: all)."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = frozenset(kinds)

    def __contains__(self, event: protocol.Event) -> bool:
        return not self._kinds or event.kind in self._kinds


class _Plain:
    """Nothing to be done beside."""

    def __init__(self, terminal: Terminal, wanted: Wanted, bookmark: Bookmark) -> None:
        self._terminal = terminal
        self._wanted = wanted
        self._bookmark = bookmark

    def talk(self, text: str) -> None:
        """On stderr."""
        self._terminal.talk(text)

    async def run(self) -> int:
        """Wait to be cancelled."""
        await asyncio.Event().wait()
        return 0


class Raw(_Plain):
    """Messages for a program; of the events only the wanted."""

    async def show(self, heard: Heard) -> None:
        """Print one message as it came."""
        if not isinstance(heard.message, protocol.Event) or heard.message in self._wanted:
            self._terminal.json(heard.raw)
        self._bookmark.keep(self._bookmark.note(heard.message))


class Lines(_Plain):
    """The table, then a line a change."""

    def __init__(self, terminal: Terminal, wanted: Wanted, bookmark: Bookmark) -> None:
        super().__init__(terminal, wanted, bookmark)
        self._picture = Picture()

    async def show(self, heard: Heard) -> None:
        """Print what one message changes."""
        first = not self._picture.whole
        changes = self._picture.hear(heard.message)
        if first and self._picture.whole and not isinstance(heard.message, protocol.Resumed):
            self._list()
        for event in changes:
            if event in self._wanted:
                self._line(event)
        if isinstance(heard.message, protocol.ScanError):
            self._terminal.talk(scan_failed(heard.message))
        self._bookmark.keep(self._bookmark.note(heard.message))

    def _list(self) -> None:
        devices = sorted(self._picture.devices.values(), key=ORDERS["ip"])
        terminal = self._terminal
        terminal.write(devices_table(devices, columns=terminal.columns, paint=terminal.paint, today=terminal.today))

    def _line(self, event: protocol.Event) -> None:
        line = change(event, paint=self._terminal.paint, now=_now(), columns=self._terminal.columns)
        self._terminal.write(line + "\n")


class Commands(_Plain):
    """A run of the user's command for each change that `Lines` would print."""

    def __init__(self, argv: Sequence[str], terminal: Terminal, wanted: Wanted, bookmark: Bookmark) -> None:
        super().__init__(terminal, wanted, bookmark)
        self._picture = Picture()
        self._behind: str | None = None
        self._runner = Runner(argv, terminal.talk, bookmark.keep)

    async def show(self, heard: Heard) -> None:
        """Line up what one message changes."""
        changes = [event for event in self._picture.hear(heard.message) if event in self._wanted]
        before, self._behind = self._behind, self._bookmark.note(heard.message)
        for event in changes:
            place = self._behind if event is changes[-1] else None
            await self._runner.offer(Job(event, _as_json(event, heard, self._behind), place))
        if not changes and self._behind != before:
            await self._runner.offer(Job(None, b"", self._behind))
        if isinstance(heard.message, protocol.ScanError):
            self._terminal.talk(scan_failed(heard.message))

    async def run(self) -> int:
        """Run the command."""
        await self._runner.run()
        return 0


class Table(_Plain):
    """A table on the whole screen, which lives."""

    def __init__(self, terminal: Terminal, wanted: Wanted, bookmark: Bookmark) -> None:
        super().__init__(terminal, wanted, bookmark)
        self._board = Board(terminal.paint)
        self._screen = Screen(
            lambda columns, rows: self._board.lines(columns, rows, _now()), lambda: self._board.fresh(_now())
        )

    async def show(self, heard: Heard) -> None:
        """Fold one message in."""
        for event in self._board.hear(heard.message):
            if event in self._wanted:
                self._board.tell(event, _now())
        self._screen.change()
        self._bookmark.keep(self._bookmark.note(heard.message))

    def talk(self, text: str) -> None:
        """At the head of the table."""
        self._board.note = clean(text, SENTENCE_LIMIT)
        self._screen.change()

    async def run(self) -> int:
        """Draw it."""
        return await self._screen.run()


def _now() -> datetime:
    return datetime.now().astimezone()


def _as_json(event: protocol.Event, heard: Heard, cursor: str | None) -> bytes:
    """As it came; what no event told us (a difference between two snapshots) in the same shape."""
    if event is heard.message:
        return heard.raw.replace(b"\n", b" ")
    at = event.at or f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
    return protocol.encode(msgspec.structs.replace(event, cursor=cursor or "", at=at))


def scan_failed(wrong: protocol.ScanError) -> str:
    """A scan that could not be done, in a sentence."""
    return f"scan of {clean(wrong.network)}: {clean(wrong.message, SENTENCE_LIMIT)}"
