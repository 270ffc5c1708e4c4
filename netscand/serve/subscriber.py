"""The queue of one WebSocket: bounded in messages and in bytes; no other client waits for it (law 4).

What the client's transport takes goes out at once; the rest waits here. A queue that overflows ends the
subscription: the client gets `lagged` with its last good cursor, and close code 4000, when it reads again.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from netscand import protocol
from netscand.serve import websocket_frames
from netscand.serve.fair_turns import OURS, Account
from netscand.serve.query import SLOW, Filter

BATCH = 64 * 1024
"""Bytes that are joined for one write."""


Outgoing = tuple[bytes, str | None]
"""A message as it is sent, and the cursor of a client that has it. Made once, for all clients."""


FEW = 64
"""Messages queued for a client before its own messages wait, too."""


DELIVERY = 300.0
"""Seconds that sending a snapshot, a list or missed events may take: what changes meanwhile is kept as it was."""


class Bounds(NamedTuple):
    """Bounds of what may wait for one client. All clients share the frames, so the bytes are not a client's own."""

    messages: int = 8192
    size: int = 4 * 2**20

    def widened(self) -> "Bounds":
        """Return the bounds while a snapshot is being sent."""
        return Bounds(self.messages * 4, self.size * 4)


class Subscriber:
    """What is to be sent to one client, in order. Only `send`, `read` and `delivery` wait."""

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        fits: Filter,
        bounds: Bounds,
        *,
        full: bool,
        closed: Callable[[], bool],
        account: Account = OURS,
    ) -> None:
        self.fits = fits
        self.account = account
        """The account that pays for lists of its own."""
        self.full = full
        self.requested: set[int] = set()
        """Scans that this client requested; it gets their messages whatever its filter."""
        self.since = 0
        """The hub's count when it came: its snapshot shows everything up to that."""
        self.cursor = ""
        """The cursor of the last event that was sent; empty while the snapshot is being sent."""
        self.ended = False
        """It takes nothing more: it lagged, was closed or has gone."""
        self.lagged = False
        self.queued = False
        """The hub is about to empty its queue."""
        self._transport = transport
        self._closed = closed
        """Returns whether aiohttp sent a close frame: nothing may follow it (RFC 6455, section 5.5.1)."""
        self._bounds = bounds
        self._most = bounds.widened()
        self._paused = False
        self._holds = True
        self._unfinished = False
        """The message that is being sent has frames that were not made yet."""
        self._frames: deque[bytes] = deque()
        """The rest of the message that is being sent: no other message may come between."""
        self._queue: deque[Outgoing] = deque()
        self._size = 0
        self._update: tuple[bytes, ...] = ()
        """The newest list, if lists are small and shared."""
        self.list_due = asyncio.Event()
        """A list of its own is to be sent, because lists are large."""
        self._keeps: Callable[[], int] = _nothing
        self._farewell = b""
        self._waiter: asyncio.Future[None] | None = None
        self._listener: asyncio.Future[None] | None = None

    # ---- in -------------------------------------------------------------------------------------------------------

    def offer(self, message: Outgoing) -> None:
        """Queue a message."""
        if self.ended:
            return
        self._queue.append(message)
        self._size += len(message[0])
        if len(self._queue) > self._most.messages or self._size > self._most.size:
            self.drain()
            if len(self._queue) > self._most.messages or self._size > self._most.size:
                self.lag()

    def replace(self, frames: tuple[bytes, ...]) -> None:
        """Queue a list, in place of one that still waits."""
        if not self.ended:
            self._update = frames

    async def send(self, *frames: bytes, more: bool = False) -> None:
        """Send a part of a snapshot, past the queue; return when the transport has taken it.

        `more`: the message has further frames. A client that does not take a part in time has lagged.
        """
        if self.ended and not self.finishing:
            return
        self._unfinished = more
        self._frames.extend(frames)
        self.drain()
        if self._frames or self._paused:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(SLOW):
                    await self._waiter
            except TimeoutError:
                self.lag(at_once=True)

    @property
    def finishing(self) -> bool:
        """Return whether it has lagged and gets `lagged` after the message that is being sent."""
        return bool(self._farewell) and self._unfinished

    @asynccontextmanager
    async def delivery(self, keeps: Callable[[], int]) -> AsyncIterator[None]:
        """Limit what is sent within the block to DELIVERY; `keeps` returns how many bytes are kept meanwhile."""
        self._keeps = keeps
        try:
            async with asyncio.timeout(DELIVERY):
                yield
        except TimeoutError:
            self.lag(at_once=True)
        finally:
            self._keeps = _nothing

    def hold(self) -> None:
        """Keep what is queued until the message that is sent part by part is complete: until `release`."""
        self._holds = True

    def pong(self, payload: bytes) -> None:
        """Answer a ping; that may go between the frames of a message."""
        if not self.ended and not self._transport.is_closing() and not self._closed():
            self._transport.write(websocket_frames.pong(payload))

    async def read(self) -> None:
        """Wait until the client has read nearly everything: answers are kept for this client alone."""
        while self._backed_up:
            if self._listener is None:
                self._listener = asyncio.get_running_loop().create_future()
            await self._listener

    @property
    def bytes_kept(self) -> int:
        """Return the bytes kept for this client alone. Without a filter, all clients share the events."""
        lists = sum(map(len, self._frames)) + sum(map(len, self._update))
        return lists + self._keeps() + (self._size if self.fits else 0)

    @property
    def _backed_up(self) -> bool:
        return not self.ended and (self._paused or len(self._queue) > FEW)

    def release(self, cursor: str) -> None:
        """Continue with what happened since: the snapshot at `cursor`, or the list, was sent."""
        self.cursor = cursor
        self._holds = False
        self._most = self._bounds
        self.drain()

    def close(self, code: int, reason: str = "") -> None:
        """Take nothing more, drop what waits, and send a close frame."""
        if not self.ended:
            self._end()
            self._frames.clear()
            if not self._transport.is_closing():
                self._transport.write(websocket_frames.close(code, reason))

    def on_disconnect(self) -> None:
        """Drop everything: the connection is lost."""
        self._end()
        self._frames.clear()
        self._farewell = b""

    # ---- out ------------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop sending: the transport takes no more."""
        self._paused = True

    def resume(self) -> None:
        """Continue: the transport takes more."""
        self._paused = False
        self.drain()

    def drain(self) -> None:
        """Send what the transport takes."""
        while self._has_more() and not self._paused and not self._transport.is_closing() and not self._closed():
            if self._frames:
                self._transport.write(self._frames.popleft())
            elif self._farewell and not self._unfinished:
                self._transport.write(self._farewell)
                self._farewell = b""
            elif self._queue:
                self._transport.write(self._batch())
            else:
                self._frames.extend(self._update)
                self._update = ()
        if self._waiter is not None and not self._frames and not self._paused:
            self._wake()
        if self._listener is not None:
            self._resume_reading()

    def _has_more(self) -> bool:
        farewell = self._farewell and not self._unfinished
        return bool(self._frames or farewell or (not self._holds and (self._queue or self._update)))

    def _batch(self) -> bytes:
        if len(self._queue) == 1:
            frame, cursor = self._queue.popleft()
            self._size = 0
            self.cursor = cursor or self.cursor
            return frame
        frames = []
        size = 0
        while self._queue and size < BATCH:
            frame, cursor = self._queue.popleft()
            frames.append(frame)
            size += len(frame)
            self.cursor = cursor or self.cursor
        self._size -= size
        return b"".join(frames)

    # ---- the end --------------------------------------------------------------------------------------------------

    def lag(self, *, at_once: bool = False) -> None:
        """End it with `lagged`; with `at_once`, no message is completed first: the client reads nothing."""
        if self.ended and not self._farewell:
            return
        self._end()
        self.lagged = True
        goodbye = websocket_frames.close(protocol.CLOSE_LAGGED, "lagged")
        if self.full or (at_once and self._unfinished):
            # `full` has no such message; and a close frame may interrupt a message (RFC 6455, section 5.4).
            self._frames.clear()
            self._farewell, self._unfinished = b"", False
        else:
            goodbye = websocket_frames.whole(protocol.encode(protocol.Lagged(cursor=self.cursor))) + goodbye
        if self._frames or self._unfinished:
            self._farewell = goodbye
            self.drain()
        elif not self._transport.is_closing():
            self._transport.write(goodbye)

    def _end(self) -> None:
        self.ended = True
        self._queue.clear()
        self._size = 0
        self._update = ()
        self._wake()
        self._resume_reading()

    def _resume_reading(self) -> None:
        if self._listener is not None and not self._backed_up:
            if not self._listener.done():
                self._listener.set_result(None)
            self._listener = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._waiter = None


def _nothing() -> int:
    return 0
