"""The two streams: stdout is data, stderr is talk. What is a terminal gets colour; what is a pipe gets plain lines."""

import os
import sys
from datetime import datetime
from typing import TextIO

from netscanctl import render
from netscanctl.client import Failure
from netscanctl.text import SENTENCE_LIMIT, clean, visible_json

NAME = "netscanctl"


class Terminal:
    """Where this process writes to."""

    def __init__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a name in letters the locale lacks
        self.is_terminal = sys.stdout.isatty()
        colours = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.paint: render.Paint = render.coloured if colours else render.plain
        self.bar = Bar()

    def has(self, signs: str) -> bool:
        """Whether stdout can show these."""
        return _has(sys.stdout, signs)

    @property
    def columns(self) -> int | None:
        """How wide the terminal is now; None where stdout is none."""
        return _columns(1) if self.is_terminal else None

    @property
    def today(self) -> datetime | None:
        """On a terminal, the day whose times need no date."""
        return datetime.now().astimezone() if self.is_terminal else None

    def write(self, text: str) -> None:
        """Whole lines, at once."""
        self.bar.hide()
        sys.stdout.write(text)
        sys.stdout.flush()
        self.bar.show()

    def json(self, raw: bytes) -> None:
        """One line of JSON: to a program as it came, to a person's terminal with what it might obey escaped."""
        if self.is_terminal:
            self.write(visible_json(raw) + "\n")
        else:
            # A line feed stands between tokens only (RFC 8259, 7), so one message stays one line.
            sys.stdout.buffer.write(raw.replace(b"\n", b" ") + b"\n")
            sys.stdout.buffer.flush()

    def talk(self, text: str) -> None:
        """A line for a person."""
        self.bar.hide()
        sys.stderr.write(f"{NAME}: {clean(text, 4 * SENTENCE_LIMIT)}\n")
        sys.stderr.flush()
        self.bar.show()


class Bar:
    """A progress bar at the foot of stderr, where that is a terminal; else nothing."""

    WIDTH = 30
    SIGNS = "█░"

    def __init__(self) -> None:
        self._line = ""
        self.possible = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._signs = self.SIGNS if _has(sys.stderr, self.SIGNS) else "#."

    def set(self, done: int, total: int, words: str) -> None:
        """`done` of `total`, and what else is to say."""
        if not self.possible:
            return
        filled = self.WIDTH * min(done, total) // max(total, 1)
        full, empty = self._signs[0], self._signs[1]
        line = f"{full * filled}{empty * (self.WIDTH - filled)} {words}"
        self._line = line[: max(10, _columns(2) - 1)]
        self.show()

    def show(self) -> None:
        """Draw it anew."""
        if self._line:
            sys.stderr.write(f"\r\x1b[K{self._line}")
            sys.stderr.flush()

    def hide(self) -> None:
        """Clear its line, for other text."""
        if self._line:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def end(self) -> None:
        """Clear it for good."""
        self.hide()
        self._line = ""


def _has(stream: TextIO, signs: str) -> bool:
    try:
        signs.encode(stream.encoding)
    except UnicodeEncodeError:
        return False
    return True


def _columns(descriptor: int) -> int:
    try:
        return os.get_terminal_size(descriptor).columns or 80
    except OSError:
        return 80


def complain(failure: Failure) -> None:
    """Say on stderr, in one line, why the command ends."""
    sys.stderr.write(f"{NAME}: {clean(str(failure), 4 * SENTENCE_LIMIT)}\n")
