"""`watch --table`: the lines of the table, and the terminal that shows them."""

import asyncio
import os
import signal
import sys
import termios
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from netscanctl import render
from netscanctl.event_lines import MARKS, format_events
from netscanctl.render import ORDERS, devices_table
from netscanctl.state import ClientState
from netscanctl.text import clean
from netscand import protocol
from netscand.protocol import Device, Event, ServerMessage

# ---- screen --------------------------------------------------------------------------------------------------------
# Full-screen output: enter, draw, and restore the terminal.

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
"""Alternate screen, no cursor, no wrapping (wide lines are cut), cleared (xterm control sequences)."""
LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
MIN_INTERVAL = 0.1
"""Minimum seconds between two drawings, to leave capacity on a slow remote line."""
IDLE_FACTOR = 4
"""Minimum pause after a drawing, as a multiple of its duration."""
EXIT_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Screen:
    """Full screen with the result of `lines(columns, rows)`; redrawn every second while `expiring` returns True."""

    def __init__(self, lines: Callable[[int, int], Sequence[str]], expiring: Callable[[], bool]) -> None:
        self._lines = lines
        self._expiring = expiring
        self._shown: list[str] = []
        self._size = (0, 0)
        self._dirty = asyncio.Event()
        self._exit_code: int | None = None
        self._tty_before: list[Any] | None = None

    def redraw(self) -> None:
        """Request a redraw."""
        self._dirty.set()

    async def run(self) -> int:
        """Draw until the key q or an exit signal; return the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self.redraw)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        for number in EXIT_SIGNALS:
            loop.add_signal_handler(number, self._exit, 128 + number)
        self._enter()
        try:
            while self._exit_code is None:
                started = time.monotonic()
                self._dirty.clear()
                self._draw()
                await asyncio.sleep(max(MIN_INTERVAL, IDLE_FACTOR * (time.monotonic() - started)))
                try:
                    async with asyncio.timeout(1.0 if self._expiring() else None):
                        await self._dirty.wait()
                except TimeoutError:
                    continue  # a mark may have expired
            return self._exit_code
        finally:
            self._leave()
            for number in (signal.SIGWINCH, signal.SIGTSTP, *EXIT_SIGNALS):
                loop.remove_signal_handler(number)

    def _exit(self, code: int) -> None:
        self._exit_code = code
        self._dirty.set()

    # ---- the terminal

    def _enter(self) -> None:
        self._shown = []
        if sys.stdin is not None and sys.stdin.isatty():
            tty = sys.stdin.fileno()
            self._tty_before = termios.tcgetattr(tty)
            unbuffered = termios.tcgetattr(tty)
            unbuffered[3] &= ~(termios.ECHO | termios.ICANON)  # read keys at once, without echo
            termios.tcsetattr(tty, termios.TCSADRAIN, unbuffered)
            asyncio.get_running_loop().add_reader(tty, self._on_key, tty)
        self._write(ENTER)

    def _leave(self) -> None:
        self._write(LEAVE)
        if self._tty_before is not None:
            tty = sys.stdin.fileno()
            asyncio.get_running_loop().remove_reader(tty)
            termios.tcsetattr(tty, termios.TCSADRAIN, self._tty_before)
            self._tty_before = None

    def _on_key(self, tty: int) -> None:
        keys = os.read(tty, 1024)
        if not keys or b"q" in keys:
            self._exit(0)

    def _suspend(self) -> None:
        """Handle Ctrl-Z: restore the shell's screen until we are continued."""
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()
        self._dirty.set()

    def _draw(self) -> None:
        """Write the lines that differ from those on the screen."""
        size = os.get_terminal_size(sys.stdout.fileno())
        if size != self._size:
            self._size, self._shown = size, []
        lines = list(self._lines(*size))
        out = [] if self._shown else ["\x1b[2J"]
        for row, line in enumerate(lines):
            if row >= len(self._shown) or line != self._shown[row]:
                out.append(f"\x1b[{row + 1};1H{line}\x1b[K")
        if len(lines) < len(self._shown):
            out.append(f"\x1b[{len(lines) + 1};1H\x1b[J")
        self._shown = lines
        if out:
            self._write("".join(out))

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


# ---- board ---------------------------------------------------------------------------------------------------------
# Contents of `watch --table`. Pure: messages and a terminal size in, lines out.

MARK_LIFETIME = timedelta(seconds=8)
"""Duration of the mark in front of a changed device."""
LAST_EVENTS = 5
"""Events listed below the table."""
MIN_ROWS_FOR_EVENTS = 18
"""Rows of the terminal from which on events are listed."""
NO_MARK = "  "


class TableView:
    """Table of devices with recent changes marked, and the last events below."""

    def __init__(self, paint: render.Paint = render.plain) -> None:
        self.picture = ClientState()
        self.notice = "connecting…"
        """Message to the user: standard error is not visible on a full screen."""
        self._paint = paint
        self._events: deque[tuple[datetime, Event]] = deque(maxlen=LAST_EVENTS)
        self._marks: dict[str, tuple[datetime, str]] = {}
        """MAC → time of the change, mark."""
        self._scan: protocol.ScanProgress | None = None

    def on_message(self, message: ServerMessage | None) -> list[Event]:
        """Apply one message; return the events to show."""
        match message:
            case protocol.InitialState() | protocol.Resumed():
                self.notice = ""
                self._scan = None
            case protocol.ScanProgress():
                self._scan = None if message.done >= message.total else message
            case protocol.ScanUpdate():
                self._scan = None
            case protocol.ScanError():
                self.notice = render.scan_error(message)
        return self.picture.on_message(message)

    def add_event(self, event: Event, now: datetime) -> None:
        """List an event below the table, and mark its device."""
        self._events.append((now, event))
        if event.device is not None:
            self._marks[event.device.mac] = (now, MARKS.get(event.kind, "~"))

    def expire_marks(self, now: datetime) -> bool:
        """Remove expired marks; return whether others are left."""
        self._marks = {mac: mark for mac, mark in self._marks.items() if now - mark[0] < MARK_LIFETIME}
        return bool(self._marks)

    def lines(self, columns: int, rows: int, now: datetime) -> list[str]:
        """Return at most `rows` lines; the terminal cuts lines wider than `columns`."""
        head = [self._counts(), self._networks()]
        foot = self._event_lines(columns, now) if rows >= MIN_ROWS_FOR_EVENTS else []
        return [*head, *self._table(columns, max(2, rows - len(head) - len(foot)), now), *foot][:rows]

    def _counts(self) -> str:
        """Return the devices by status, the progress of a scan, and the notice."""
        devices = [device for device in self.picture.devices.values() if "self" not in device.kinds]
        counts = Counter(device.status for device in devices)
        text = ", ".join(f"{counts[status]} {status}" for status in ("online", "offline", "unknown"))
        scan = f"   scanning, {self._scan.done} of {self._scan.total} addresses" if self._scan else ""
        return text + scan + (f"   {self._paint(self.notice, '!')}" if self.notice else "")

    def _networks(self) -> str:
        """Return the scanned networks and their states."""
        scanned = [network for network in self.picture.networks.values() if network.state != "excluded"]
        return "   ".join(f"{clean(one.id)} {self._paint(clean(one.state), one.state)}" for one in scanned)

    def _table(self, columns: int, rows: int, now: datetime) -> list[str]:
        """Return the table by address; if it does not fit, changed and online devices first."""
        devices = list(self.picture.devices.values())
        fits = len(devices) < rows
        devices.sort(key=ORDERS["ip"] if fits else lambda one: (one.mac not in self._marks, *ORDERS["status"](one)))
        shown = devices if fits else devices[: rows - 2]
        table = devices_table(shown, columns=columns - len(NO_MARK), paint=self._paint, today=now, now=now).splitlines()
        marks = [NO_MARK, *(self._mark(device) for device in shown)]
        lines = [mark + line for mark, line in zip(marks, table, strict=True)]
        return lines if fits else [*lines, f"{NO_MARK}… and {len(devices) - len(shown)} more"]

    def _mark(self, device: Device) -> str:
        _, mark = self._marks.get(device.mac, (None, ""))
        return f"{self._paint(mark, mark)} " if mark else NO_MARK

    def _event_lines(self, columns: int, now: datetime) -> list[str]:
        events = [event if event.at else replace(event, at=at.isoformat()) for at, event in self._events]
        lines = format_events(events, paint=self._paint, now=now, columns=columns).splitlines()
        return ["", *lines] if lines else []
