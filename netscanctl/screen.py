"""Full-screen output: enter, draw, and restore the terminal."""

import asyncio
import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Sequence
from typing import Any

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
