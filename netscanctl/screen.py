"""The whole terminal, for a table that lives: entered, drawn, left as it was found."""

import asyncio
import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Sequence
from typing import Any

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
"""The alternate screen, no cursor, no wrapping (what is too wide is cut), cleared (xterm's control sequences)."""
LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
BRIEF = 0.1
"""Seconds between two drawings, at least: who looks from afar has a line to spare for others."""
SHARE = 4
"""Times that a drawing took, until the next."""
ENDING = (signal.SIGTERM, signal.SIGHUP)


class Screen:
    """Draws what `lines` gives for a number of columns and rows; `fresh` tells whether that soon changes by itself."""

    def __init__(self, lines: Callable[[int, int], Sequence[str]], fresh: Callable[[], bool]) -> None:
        self._lines = lines
        self._fresh = fresh
        self._shown: list[str] = []
        self._size = (0, 0)
        self._news = asyncio.Event()
        self._end: int | None = None
        self._keys_before: list[Any] | None = None

    def change(self) -> None:
        """There is something new to draw."""
        self._news.set()

    async def run(self) -> int:
        """Draw what changes until the key q, or a signal that ends us; the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self.change)
        loop.add_signal_handler(signal.SIGTSTP, self._pause)
        for number in ENDING:
            loop.add_signal_handler(number, self._finish, 128 + number)
        self._enter()
        try:
            while self._end is None:
                began = time.monotonic()
                self._news.clear()
                self._draw()
                await asyncio.sleep(max(BRIEF, SHARE * (time.monotonic() - began)))
                try:
                    async with asyncio.timeout(1.0 if self._fresh() else None):
                        await self._news.wait()
                except TimeoutError:
                    continue  # a mark is old by now
            return self._end
        finally:
            self._leave()
            for number in (signal.SIGWINCH, signal.SIGTSTP, *ENDING):
                loop.remove_signal_handler(number)

    def _finish(self, code: int) -> None:
        self._end = code
        self._news.set()

    # ---- the terminal

    def _enter(self) -> None:
        self._shown = []
        if sys.stdin is not None and sys.stdin.isatty():
            keys = sys.stdin.fileno()
            self._keys_before = termios.tcgetattr(keys)
            single = termios.tcgetattr(keys)
            single[3] &= ~(termios.ECHO | termios.ICANON)  # a key at once, and not onto our table
            termios.tcsetattr(keys, termios.TCSADRAIN, single)
            asyncio.get_running_loop().add_reader(keys, self._typed, keys)
        self._write(ENTER)

    def _leave(self) -> None:
        self._write(LEAVE)
        if self._keys_before is not None:
            keys = sys.stdin.fileno()
            asyncio.get_running_loop().remove_reader(keys)
            termios.tcsetattr(keys, termios.TCSADRAIN, self._keys_before)
            self._keys_before = None

    def _typed(self, keys: int) -> None:
        typed = os.read(keys, 1024)
        if not typed or b"q" in typed:
            self._finish(0)

    def _pause(self) -> None:
        """Ctrl-Z: the shell gets its screen back until we go on."""
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()
        self._news.set()

    def _draw(self) -> None:
        """Write the lines that differ from what stands there."""
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
