"""Ends of the heads and bodies of requests, and their limits: aiohttp keeps each field and each chunk as an object.

A field of four bytes takes some hundred bytes in aiohttp before 3.14, and a chunk of two bytes some eighty. So the
fields of a head and of the trailers are counted before they are passed on.
"""

import re

from netscand.protocol import MAX_MESSAGE

MAX_HEAD = MAX_MESSAGE
"""Bytes that a connection may send without a complete request among them."""

MAX_FIELDS = 128
"""Maximum lines of a head, and of the trailers of a body."""

MAX_FRAMES = 2 * MAX_MESSAGE
"""Bytes that a WebSocket may send without a complete message among them: aiohttp before 3.14 reads a frame to its end
before it checks the limit."""

MAX_BODY = 4 * MAX_MESSAGE
"""Maximum bytes of a body, including chunk lines and trailers."""

MAX_LINE = 256
"""Maximum bytes of the first line of a chunk, including its extensions."""

SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(;.*)?\r\n")
"""First line of a chunk (RFC 9112, section 7.1)."""

_ENDS = b"\r\n\r\n"


class TooLarge(Exception):
    """Request or message that is too large."""


class TooManyFields(TooLarge):
    """Head with more lines than MAX_FIELDS."""


class Framing:
    """Follows the requests, or the messages of a WebSocket, that are passed to aiohttp."""

    def __init__(self) -> None:
        self.given = 0
        """Bytes of a request that has not begun, or of a message that was not read."""
        self.head_ended = False
        """The last bytes were the end of a head."""
        self._kept = 0
        """Bytes of the current request."""
        self._body = Body(0)
        self._lines = 0
        self._last = b""
        """Last bytes of a head so far: its end may be split between two pieces."""

    def begin(self, length: int | None) -> None:
        """Expect a body of `length` bytes (None: in chunks), then the next head."""
        self._body = Body(length)
        self.given, self._kept = 0, self.given
        self._lines, self._last = 0, b""

    def end(self) -> None:
        """Note that the current request is answered."""
        self._kept = 0

    def take(self, data: bytes, *, frames: bool) -> int:
        """Return how many of these bytes to pass on: none after the end of a head or body. Raises TooLarge."""
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
        """Return whether more of the body of the last request will come."""
        return not self._body.ended

    @property
    def in_chunks(self) -> bool:
        """Return whether more chunks will come, of unknown size."""
        return self.in_body and self._body.is_chunked

    @property
    def bytes_kept(self) -> int:
        """Bytes that aiohttp keeps: both the raw bytes and what it has parsed."""
        return 2 * (self.given + self._kept)


class Body:
    """Follows a body of `length` bytes, or of chunks with None (RFC 9112, section 7.1)."""

    def __init__(self, length: int | None) -> None:
        self.ended = length == 0
        self.is_chunked = length is None
        self._left = length or 0
        """Remaining bytes of the body, or of the chunk and its line end."""
        self._size = 0
        self._line = b""
        self._trailers = 0
        """Lines after the last chunk."""
        self._chunks_ended = False

    def take(self, data: bytes) -> int:
        """Return how many bytes of `data` belong to the body. Raises TooLarge."""
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
        """Take the first line of a chunk, or a line after the last one."""
        if self._chunks_ended:
            self._trailers += 1
            self.ended = line == b"\r\n"
            if self._trailers > MAX_FIELDS:
                raise TooLarge
            return
        found = SIZE.fullmatch(line)
        if found is None:
            raise TooLarge  # not a chunk, which aiohttp would refuse, too
        size = int(found[1], 16)
        self._left = size + 2 if size else 0
        self._chunks_ended = not size
