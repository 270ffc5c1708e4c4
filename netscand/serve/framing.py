"""Where a request's head and body end, and what of them is too much: aiohttp keeps each field and each chunk apart.

A field of four bytes takes some hundred in aiohttp before 3.14, and a chunk of two bytes some eighty. So the fields of
a head and of a body's trailers are counted before it is given them.
"""

import re

from netscand.protocol import MAX_MESSAGE

MAX_HEAD = MAX_MESSAGE
"""Bytes that a connection may send without one whole request among them."""

MAX_FIELDS = 128
"""Lines of a head, and of the trailers of a body."""

MAX_FRAMES = 2 * MAX_MESSAGE
"""Bytes that a WebSocket may send without one whole message among them: aiohttp before 3.14 reads a frame of any length
to its end before it looks at the limit."""

MAX_BODY = 4 * MAX_MESSAGE
"""Bytes of a request's body, with what chunks and trailers add."""

MAX_LINE = 256
"""Bytes of the line that begins a chunk, with its extensions."""

SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(;.*)?\r\n")
"""The line that begins a chunk (RFC 9112, section 7.1)."""

_ENDS = b"\r\n\r\n"


class TooLarge(Exception):
    """More than a request, or a message, may have."""


class TooManyFields(TooLarge):
    """A head of more lines than MOST_FIELDS."""


class Framing:
    """Follows one request after another, or the messages of a WebSocket, as they are given to aiohttp."""

    def __init__(self) -> None:
        self.given = 0
        """Bytes of a request that has not begun, or a message that was not taken."""
        self.head_ended = False
        """What was taken last was the end of a head."""
        self._kept = 0
        """Bytes of the request in hand."""
        self._body = Body(0)
        self._lines = 0
        self._last = b""
        """The last bytes of a head so far: one piece may hold a part of its end."""

    def begin(self, length: int | None) -> None:
        """Expect a body of `length` bytes, or in chunks; then the next head."""
        self._body = Body(length)
        self.given, self._kept = 0, self.given
        self._lines, self._last = 0, b""

    def end(self) -> None:
        """The request in hand was answered."""
        self._kept = 0

    def take(self, data: bytes, *, frames: bool) -> int:
        """Return how many of these bytes are to be given: not what follows a head or a body. Raises TooMuch."""
        self.head_ended = False
        if frames:
            size, most = len(data), MAX_FRAMES
        elif self.in_body:
            size = self._body.take(data)
            self._kept += size
            return size
        else:
            size, most = self._take_head(data), MAX_HEAD
        self.given += size
        if self.given > most:
            raise TooLarge
        return size

    def _take_head(self, data: bytes) -> int:
        """Take a piece of a head (RFC 9112, section 2.1)."""
        known = len(self._last)
        end = (self._last + data).find(_ENDS)
        self.head_ended = end >= 0
        size = end + len(_ENDS) - known if end >= 0 else len(data)
        self._last = (self._last + data)[1 - len(_ENDS) :]
        self._lines += data.count(b"\n", 0, size)
        if self._lines > MAX_FIELDS:
            raise TooManyFields
        return size

    @property
    def in_body(self) -> bool:
        """Whether more of the last request's body is to come."""
        return not self._body.ended

    @property
    def in_chunks(self) -> bool:
        """Whether that is so, and nobody knows how much."""
        return self.in_body and self._body.is_chunked

    @property
    def bytes_kept(self) -> int:
        """Bytes that are kept because of what was given: it is kept twice, as it came and as what it says."""
        return 2 * (self.given + self._kept)


class Body:
    """Follows a body as it is given: `length` bytes, or with None in chunks (RFC 9112, section 7.1)."""

    def __init__(self, length: int | None) -> None:
        self.ended = length == 0
        self.is_chunked = length is None
        self._left = length or 0
        """Bytes of the body, or of the chunk and the end of its line, to come."""
        self._size = 0
        self._line = b""
        self._trailers = 0
        """Lines behind the last chunk."""
        self._chunks_ended = False

    def take(self, data: bytes) -> int:
        """Return how many bytes of `data` belong to it. Raises TooMuch."""
        at = 0
        while at < len(data) and not self.ended:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                self.ended = not (self._left or self.is_chunked)
            else:
                end = data.find(b"\n", at) + 1 or len(data)
                self._line += data[at:end]
                at = end
                if len(self._line) > (MAX_MESSAGE if self._chunks_ended else MAX_LINE):
                    raise TooLarge
                if self._line.endswith(b"\n"):
                    line, self._line = self._line, b""
                    self._take_line(line)
        self._size += at
        if self._size > MAX_BODY:
            raise TooLarge
        return at

    def _take_line(self, line: bytes) -> None:
        """Take the line that begins a chunk, or one behind the last chunk."""
        if self._chunks_ended:
            self._trailers += 1
            self.ended = line == b"\r\n"
            if self._trailers > MAX_FIELDS:
                raise TooLarge
            return
        found = SIZE.fullmatch(line)
        if found is None:
            raise TooLarge  # it is no chunk, which aiohttp would say, too
        size = int(found[1], 16)
        self._left = size + 2 if size else 0
        self._chunks_ended = not size
