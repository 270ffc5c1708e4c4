"""`watch --table`: the lines of the table, and the terminal that shows them."""

import asyncio
import codecs
import os
import re
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
from netscanctl.render import ORDERS, devices_table, kind_of
from netscanctl.state import ClientState, at_site, key_of
from netscanctl.text import SGR, clean, fit, width
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


KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|.", re.DOTALL)
"""One key: a control sequence (ECMA-48, xterm), or a character."""


class Screen:
    """Full screen with the result of `lines(columns, rows)`; redrawn every second while `expiring` returns True.

    `on_key` is called with each key, and returns whether the user quits.
    """

    def __init__(
        self, lines: Callable[[int, int], Sequence[str]], expiring: Callable[[], bool], on_key: Callable[[str], bool]
    ) -> None:
        self._lines = lines
        self._expiring = expiring
        self._on_key = on_key
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
        self._shown: list[str] = []
        self._size = (0, 0)
        self._dirty = asyncio.Event()
        self._exit_code: int | None = None
        self._tty_before: list[Any] | None = None

    def redraw(self) -> None:
        """Request a redraw."""
        self._dirty.set()

    async def run(self) -> int:
        """Draw until the user quits, or an exit signal; return the exit code."""
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
            asyncio.get_running_loop().add_reader(tty, self._read_keys, tty)
        self._write(ENTER)

    def _leave(self) -> None:
        self._write(LEAVE)
        if self._tty_before is not None:
            tty = sys.stdin.fileno()
            asyncio.get_running_loop().remove_reader(tty)
            termios.tcsetattr(tty, termios.TCSADRAIN, self._tty_before)
            self._tty_before = None

    def _read_keys(self, tty: int) -> None:
        keys = os.read(tty, 1024)
        quits = [self._on_key(key) for key in KEY.findall(self._decoder.decode(keys))]
        if not keys or any(quits):
            self._exit(0)
        self.redraw()

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
MIN_ROWS_FOR_EVENTS, MIN_ROWS_FOR_HELP = 18, 8
"""Rows of the terminal from which on events, and the most useful keys, are listed."""
NO_MARK = "  "
AUTO = "auto"
"""Order by address if all devices fit; else changed and online ones first."""
SORT_KEYS = (AUTO, *ORDERS)
DOWN, UP, PAGE_DOWN, PAGE_UP, FIRST, LAST = (
    ("\x1b[B", "\x1bOB", "j"), ("\x1b[A", "\x1bOA", "k"), ("\x1b[6~", " "), ("\x1b[5~", "b"),
    ("\x1b[H", "\x1bOH", "\x1b[1~", "g"), ("\x1b[F", "\x1bOF", "\x1b[4~", "G"),
)  # fmt: skip
"""Keys that scroll, as terminals send them."""
ENTER_KEYS, ESCAPE, BACKSPACE, CLEAR = ("\r", "\n"), "\x1b", ("\x7f", "\b"), "\x15"
HELP = "q quit  / search  s sort ({})  arrows, pages, home, end: scroll  ? more"
MORE = "j k space b g G: scroll  S: previous sort  r: reverse  Esc: end search  ? less"
SEARCH_LIMIT = 64


class TableView:
    """Table of devices with recent changes marked, and the last events below."""

    def __init__(self, paint: render.Paint = render.plain) -> None:
        self.picture = ClientState()
        self.notice = "connecting…"
        """Message to the user: standard error is not visible on a full screen."""
        self._paint = paint
        self._events: deque[tuple[datetime, Event]] = deque(maxlen=LAST_EVENTS)
        self._marks: dict[str, tuple[datetime, str]] = {}
        """Device → time of the change, mark."""
        self._scan: protocol.ScanProgress | None = None
        self._top = 0
        """Devices above the first one that is shown."""
        self._last_top = 0
        """`_top` at the end of the list."""
        self._page = 1
        """Devices that were shown last."""
        self._sort = AUTO
        self._reversed = False
        self._search = ""
        self._editing = False
        """Keys are added to the search."""
        self._more_help = False

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
            self._marks[key_of(event.device)] = (now, MARKS.get(event.kind, "~"))

    def expire_marks(self, now: datetime) -> bool:
        """Remove expired marks; return whether others are left."""
        self._marks = {key: mark for key, mark in self._marks.items() if now - mark[0] < MARK_LIFETIME}
        return bool(self._marks)

    # ---- keys

    def on_key(self, key: str) -> bool:
        """Apply a key; return whether it quits."""
        if self._editing:
            self._edit(key)
        elif key == "q":
            return True
        elif key == "/":
            self._editing = True
        elif key == ESCAPE:
            self._search, self._top = "", 0
        elif key in ("s", "S"):
            step = 1 if key == "s" else -1
            self._sort = SORT_KEYS[(SORT_KEYS.index(self._sort) + step) % len(SORT_KEYS)]
        elif key == "r":
            self._reversed = not self._reversed
        elif key == "?":
            self._more_help = not self._more_help
        else:
            self._scroll(key)
        return False

    def _edit(self, key: str) -> None:
        """Change the search."""
        if key in ENTER_KEYS:
            self._editing = False
        elif key == ESCAPE:
            self._search, self._editing = "", False
        elif key in BACKSPACE:
            self._search = self._search[:-1]
        elif key == CLEAR:
            self._search = ""
        elif key.isprintable() and len(self._search) < SEARCH_LIMIT:
            self._search += key
        self._top = 0

    def _scroll(self, key: str) -> None:
        """Move the devices that are shown; several keys may arrive between two drawings."""
        steps = {DOWN: 1, UP: -1, PAGE_DOWN: self._page, PAGE_UP: -self._page, FIRST: -self._top,
                 LAST: self._last_top}  # fmt: skip
        step = sum(step for keys, step in steps.items() if key in keys)
        self._top = max(0, min(self._top + step, self._last_top))

    # ---- lines

    def lines(self, columns: int, rows: int, now: datetime) -> list[str]:
        """Return at most `rows` lines of at most `columns`; what is cut ends in `…`."""
        head = [self._counts(columns), self._networks(columns)]
        foot = self._event_lines(columns, now) if rows >= MIN_ROWS_FOR_EVENTS else []
        if self._editing or self._search or rows >= MIN_ROWS_FOR_HELP:
            foot.append(fit(self._help(), columns).rstrip())
        body = self._table(columns, max(2, rows - len(head) - len(foot)), now)
        return [_cut(line, columns) for line in [*head, *body, *foot][:rows]]

    def _counts(self, columns: int) -> str:
        """Return the devices by status, the progress of a scan, and the notice."""
        devices = [device for device in self.picture.devices.values() if "self" not in device.kinds]
        counts = Counter(device.status for device in devices)
        text = ", ".join(f"{counts[status]} {status}" for status in ("online", "offline", "unknown"))
        text += " (without this host)" if len(devices) < len(self.picture.devices) else ""
        scan = f"   scanning, {self._scan.done} of {self._scan.total} addresses" if self._scan else ""
        return self._line([(text + scan, ""), (f"   {self.notice}" if self.notice else "", "!")], columns)

    def _networks(self, columns: int) -> str:
        """Return the scanned networks and their states."""
        scanned = [network for network in self.picture.networks.values() if network.state != "excluded"]
        parts: list[tuple[str, str]] = []
        for one in scanned:
            parts += [(clean(at_site(one.site, one.id)) + " ", ""), (clean(one.state), one.state), ("   ", "")]
        return self._line(parts, columns)

    def _line(self, parts: Sequence[tuple[str, str]], columns: int) -> str:
        """Return texts, each in the colour of its key, as one line of at most `columns`."""
        whole = "".join(text for text, _ in parts).rstrip()
        line, painted = fit(whole, columns).rstrip() if width(whole) > columns else whole, []
        for text, key in parts:
            here, line = line[: len(text)], line[len(text) :]
            painted.append(self._paint(here, key) if here.strip() else here)
        return "".join(painted)

    def _table(self, columns: int, rows: int, now: datetime) -> list[str]:
        """Return the devices from the first one to show on, and which they are if others are not shown."""
        devices = [device for device in self.picture.devices.values() if is_match(device, self._search)]
        fits = len(devices) < rows
        devices.sort(key=self._order(fits=fits), reverse=self._reversed)
        self._page = len(devices) if fits else max(1, rows - 2)
        self._last_top = max(0, len(devices) - self._page)
        self._top = min(self._top, self._last_top)
        shown = devices[self._top : self._top + self._page]
        table = devices_table(shown, columns=columns - len(NO_MARK), paint=self._paint, today=now, now=now).splitlines()
        marks = [NO_MARK, *(self._mark(device) for device in shown)]
        lines = [mark + line for mark, line in zip(marks, table, strict=True)]
        if not fits:
            lines.append(f"{NO_MARK}{self._top + 1} to {self._top + len(shown)} of {len(devices)}")
        return lines

    def _order(self, *, fits: bool) -> Callable[[Device], tuple[object, ...]]:
        if self._sort != AUTO:
            return ORDERS[self._sort]
        if fits:
            return ORDERS["ip"]
        if self._top:  # what is looked at does not move away
            return ORDERS["status"]
        return lambda one: (key_of(one) not in self._marks, *ORDERS["status"](one))

    def _help(self) -> str:
        """Return the search, or the keys."""
        if self._editing or self._search:
            found = sum(is_match(device, self._search) for device in self.picture.devices.values())
            keys = "Enter: keep   Esc: end" if self._editing else "Esc: end   / change"
            search = f"/{self._search}" + ("_" if self._editing else "")
            return f"{search}   {found} of {len(self.picture.devices)} match   {keys}"
        order = f"{self._sort}, reversed" if self._reversed else self._sort
        return MORE if self._more_help else HELP.format(order)

    def _mark(self, device: Device) -> str:
        _, mark = self._marks.get(key_of(device), (None, ""))
        return f"{self._paint(mark, mark)} " if mark else NO_MARK

    def _event_lines(self, columns: int, now: datetime) -> list[str]:
        events = [event if event.at else replace(event, at=at.isoformat()) for at, event in self._events]
        lines = format_events(events, paint=self._paint, now=now, columns=columns).splitlines()
        return ["", *lines] if lines else []


def _cut(line: str, columns: int) -> str:
    """Return a line; one that is too wide, such as of an IPv6 address in a narrow terminal, cut and without colours."""
    text = SGR.sub("", line)
    return line if width(text) <= columns else fit(text, columns).rstrip()


def is_match(device: Device, text: str) -> bool:
    """Return whether a device contains a text; of its MACs, also without separators or with others."""
    macs = (device.mac, *(device.merged_macs or ()))
    texts = [device.label, device.hostname, device.vendor, device.notes, *macs, device.ip, device.status,
             kind_of(device), device.site or None, *device.kinds, *device.tags,
             *(address.ip for address in device.addresses)]  # fmt: skip
    if any(text.casefold() in one.casefold() for one in texts if one):
        return True
    digits = re.sub(r"[:.-]", "", text.lower())
    return bool(re.fullmatch(r"[0-9a-f]{4,12}", digits)) and any(digits in mac.replace(":", "") for mac in macs)
