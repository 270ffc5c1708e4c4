"""Frames of a WebSocket server (RFC 6455, section 5.2). They carry no mask, so one is made for all clients.

A long message is cut into fragments (section 5.4): no client makes us keep more than one of them in its transport,
and pings pass between two.
"""

from struct import pack

FRAGMENT = 64 * 1024
"""Bytes of payload in one frame, at most."""

FINAL = 0x80
CONTINUATION, TEXT, CLOSE, PING, PONG = 0x0, 0x1, 0x8, 0x9, 0xA


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return pack("!BB", first, size) + payload
    if size < 65536:
        return pack("!BBH", first, 126, size) + payload
    return pack("!BBQ", first, 127, size) + payload


class LongText:
    """A text message that is made bit by bit; its frames are to be sent in order, with no other message between."""

    def __init__(self) -> None:
        self._opcode = TEXT
        self._rest = bytearray()

    def add(self, payload: bytes) -> list[bytes]:
        """Append to the message; give the frames that are complete now."""
        rest = self._rest
        rest += payload
        frames = []
        while len(rest) > FRAGMENT:
            frames.append(self._cut(0, bytes(rest[:FRAGMENT])))
            del rest[:FRAGMENT]
        return frames

    def end(self) -> bytes:
        """Give the last frame."""
        return self._cut(FINAL, bytes(self._rest))

    def _cut(self, final: int, payload: bytes) -> bytes:
        opcode, self._opcode = self._opcode, CONTINUATION
        return _frame(final | opcode, payload)


def text(payload: bytes) -> tuple[bytes, ...]:
    """A text message, as frames to be sent in this order with no other message between them."""
    if len(payload) <= FRAGMENT:
        return (_frame(FINAL | TEXT, payload),)
    long = LongText()
    return (*long.add(payload), long.end())


def whole(payload: bytes) -> bytes:
    """A text message, for where it is written at once."""
    return b"".join(text(payload))


def ping() -> bytes:
    """A ping; it may go between the frames of a message."""
    return _frame(FINAL | PING, b"")


def pong(payload: bytes) -> bytes:
    """The answer to a ping of `payload`, of at most 125 bytes."""
    return _frame(FINAL | PONG, payload)


def close(code: int, reason: str = "") -> bytes:
    """A close frame; `reason` of at most 123 bytes. It may go between the frames of a message."""
    return _frame(FINAL | CLOSE, pack("!H", code) + reason.encode())
