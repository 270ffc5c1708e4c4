"""Frames of a WebSocket server (RFC 6455, section 5.2). They have no mask, so one frame is built for all clients.

A long message is split into fragments (section 5.4): a client's transport holds one of them at most, and pings are sent
between two of them.
"""

from struct import pack

FRAGMENT = 64 * 1024
"""Maximum payload bytes in a frame."""

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
    """Text message built in parts; its frames must be sent in order, with no other message between them."""

    def __init__(self) -> None:
        self._opcode = TEXT
        self._rest = bytearray()

    def add(self, payload: bytes) -> list[bytes]:
        """Append to the message; return the frames that are now complete."""
        rest = self._rest
        rest += payload
        frames = []
        while len(rest) > FRAGMENT:
            frames.append(self._cut(0, bytes(rest[:FRAGMENT])))
            del rest[:FRAGMENT]
        return frames

    def end(self) -> bytes:
        """Return the last frame."""
        return self._cut(FINAL, bytes(self._rest))

    def _cut(self, final: int, payload: bytes) -> bytes:
        opcode, self._opcode = self._opcode, CONTINUATION
        return _frame(final | opcode, payload)


def text(payload: bytes) -> tuple[bytes, ...]:
    """Return the frames of a text message, to be sent in this order with no other message between them."""
    if len(payload) <= FRAGMENT:
        return (_frame(FINAL | TEXT, payload),)
    long = LongText()
    return (*long.add(payload), long.end())


def whole(payload: bytes) -> bytes:
    """Return a text message for a caller that writes it at once."""
    return _frame(FINAL | TEXT, payload) if len(payload) <= FRAGMENT else b"".join(text(payload))


def ping() -> bytes:
    """Return a ping frame; it may be sent between the frames of a message."""
    return _frame(FINAL | PING, b"")


def pong(payload: bytes) -> bytes:
    """Return the answer to a ping of `payload` (at most 125 bytes)."""
    return _frame(FINAL | PONG, payload)


def close(code: int, reason: str = "") -> bytes:
    """Return a close frame; `reason` has at most 123 bytes. It may be sent between the frames of a message."""
    return _frame(FINAL | CLOSE, pack("!H", code) + reason.encode())
