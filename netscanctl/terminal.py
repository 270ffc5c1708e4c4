"""Output streams: data on stdout, notices on stderr. Colours on a terminal, plain lines in a pipe."""

import os
import sys
from datetime import datetime
from typing import TextIO

from netscanctl import render
from netscanctl.client import Failure
from netscanctl.text import SENTENCE_LIMIT, clean, visible_json
from netscand.checkout import for_checkout

NAME = "netscanctl"


class Terminal:
    """Standard output and standard error of this process."""

    def __init__(self, *, quiet: bool = False) -> None:
        """Open them; `quiet`: only errors on stderr."""
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # names may not fit the encoding of the locale
        self.is_terminal = sys.stdout.isatty()
        colours = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.paint: render.Paint = render.coloured if colours else render.plain
        self.bar = Bar()
        self.quiet = quiet
        if quiet:
            self.bar.enabled = False

    def can_encode(self, text: str) -> bool:
        """Return whether stdout can show this text."""
        return _can_encode(sys.stdout, text)

    @property
    def columns(self) -> int | None:
        """Return the current width of the terminal; None if stdout is not a terminal."""
        return _columns(1) if self.is_terminal else None

    @property
    def today(self) -> datetime | None:
        """Return the current time on a terminal, where times of today are shown without a date; else None."""
        return datetime.now().astimezone() if self.is_terminal else None

    def write(self, text: str) -> None:
        """Write complete lines to stdout."""
        self.bar.hide()
        sys.stdout.write(text)
        sys.stdout.flush()
        self.bar.show()

    def json(self, raw: bytes) -> None:
        """Write one line of JSON: unchanged in a pipe, with control characters escaped on a terminal."""
        if self.is_terminal:
            self.write(visible_json(raw) + "\n")
        else:
            # JSON has line feeds only between tokens (RFC 8259, 7), so that one message stays one line.
            sys.stdout.buffer.write(raw.replace(b"\n", b" ") + b"\n")
            sys.stdout.buffer.flush()

    def notice(self, text: str) -> None:
        """Write a one-line message to stderr, unless that is for errors only."""
        if not self.quiet:
            self.error(text)

    def error(self, text: str) -> None:
        """Write an error that does not end the command to stderr, in one line."""
        self.bar.hide()
        sys.stderr.write(f"{NAME}: {clean(for_checkout(text), 4 * SENTENCE_LIMIT)}\n")
        sys.stderr.flush()
        self.bar.show()


class Bar:
    """Progress bar in the last line of stderr, if that is a terminal."""

    WIDTH = 30
    BLOCKS = "█░"

    def __init__(self) -> None:
        self._line = ""
        self.enabled = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._blocks = self.BLOCKS if _can_encode(sys.stderr, self.BLOCKS) else "#."

    def set(self, done: int, total: int, text: str) -> None:
        """Show `done` of `total`, with a text."""
        if not self.enabled:
            return
        filled = self.WIDTH * min(done, total) // max(total, 1)
        full, empty = self._blocks[0], self._blocks[1]
        line = f"{full * filled}{empty * (self.WIDTH - filled)} {text}"
        self._line = line[: max(10, _columns(2) - 1)]
        self.show()

    def show(self) -> None:
        """Draw the bar."""
        if self._line:
            sys.stderr.write(f"\r\x1b[K{self._line}")
            sys.stderr.flush()

    def hide(self) -> None:
        """Clear the line of the bar, for other output."""
        if self._line:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def end(self) -> None:
        """Remove the bar."""
        self.hide()
        self._line = ""


def _can_encode(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding)
    except UnicodeEncodeError:
        return False
    return True


def _columns(descriptor: int) -> int:
    try:
        return os.get_terminal_size(descriptor).columns or 80
    except OSError:
        return 80


def print_failure(failure: Failure) -> None:
    """Write a failure to stderr, in one line."""
    sys.stderr.write(f"{NAME}: {clean(str(failure), 4 * SENTENCE_LIMIT)}\n")
