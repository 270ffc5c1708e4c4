"""Messages that wait for their channels, and the file that keeps them, the rules and the cursor."""

import asyncio
import errno
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from netscanctl.atomic_file import write_atomically
from netscanctl.client import Failure
from netscanctl.services.backoff import Backoff
from netscanctl.services.notify.compose import merge
from netscanctl.services.notify.senders import Refused, Sender, TryAgain
from netscanctl.services.notify.state import Message, Stored
from netscanctl.services.report import Report

MOST_QUEUED = 100
"""Messages that wait for one channel; further ones become one message."""
MOST_REFUSED = 100
"""Refused messages that are kept for one more attempt at the next start."""
WRITE_INTERVAL = 0.5
"""Seconds between two writes: each waits for the disk."""
FILE = "state.json"

log = logging.getLogger(__name__)


class Store:
    """The state file. Each part of it is as of the same moment: no event is lost, and none is processed twice."""

    def __init__(self, folder: Path | None, report: Report) -> None:
        self._path = folder / FILE if folder else None
        self._report = report
        self._changed = asyncio.Event()
        self.stored = self._load()

    def _load(self) -> Stored:
        if self._path is None:
            return Stored()
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Stored)
        except FileNotFoundError:
            return Stored()
        except OSError as error:
            raise Failure(f"{self._path}: cannot be read: {error.strerror}") from None
        except msgspec.MsgspecError as error:
            self._report.error(f"{self._path}: damaged ({error}); starting again, earlier messages are lost")
            return Stored()

    def changed(self) -> None:
        """Write the file soon."""
        self._changed.set()

    async def run(self) -> None:
        """Write until cancelled, and once more then."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                content = msgspec.json.encode(self.stored)
                self._show_result(await asyncio.to_thread(self._write, content))
                await asyncio.sleep(WRITE_INTERVAL)
        finally:
            self._show_result(self._write(msgspec.json.encode(self.stored)))

    def _show_result(self, error: OSError | None) -> None:
        if error is None:
            self._report.problem("state", None)
        else:
            self._report.problem("state", f"{self._path}: cannot be written: {error.strerror}")
            self._changed.set()

    def _write(self, content: bytes) -> OSError | None:
        if self._path is None:
            return None
        try:
            write_atomically(self._path, lambda out: out.write(content))
        except OSError as error:
            return error
        return None


class Outbox:
    """Queues of all channels. A channel that does not answer delays no other one."""

    def __init__(self, senders: dict[str, Sender], store: Store, report: Report) -> None:
        self._senders = senders
        self._store = store
        self._report = report
        self._arrived = {name: asyncio.Event() for name in senders}
        stored = store.stored
        for name in sorted((stored.queues.keys() | stored.refused.keys()) - senders.keys()):
            if count := len(stored.queues.get(name, ())) + len(stored.refused.get(name, ())):
                words = f"{count} message{'s are' if count > 1 else ' is'} dropped"
                report.error(f'channel "{name}" is no longer configured: {words}')
        # Refused messages are tried once more: the configuration may have been corrected.
        stored.queues = {name: [*stored.refused.get(name, ()), *stored.queues.get(name, ())] for name in senders}
        stored.refused = {}
        self._show()

    def put(self, messages: Iterable[tuple[str, Message]]) -> None:
        """Add messages, each with its channel."""
        for channel, message in messages:
            queue = self._store.stored.queues[channel]
            if len(queue) >= MOST_QUEUED:  # the first one may be on its way
                queue[-1] = merge(queue[-1], message)
            else:
                queue.append(message)
            self._arrived[channel].set()
        self._show()
        self._store.changed()

    async def deliver(self, channel: str) -> None:
        """Deliver the messages of a channel, in their order, until cancelled."""
        queue, backoff = self._store.stored.queues[channel], Backoff()
        while True:
            while not queue:
                self._arrived[channel].clear()
                await self._arrived[channel].wait()
            message = queue[0]
            try:
                await self._senders[channel].send(message)
            except TryAgain as failure:
                self._report.problem(channel, failure.cause)
                await asyncio.sleep(max(failure.pause or 0.0, backoff.next_delay()))
                continue
            except Refused as failure:
                self._put_aside(channel, message, str(failure))
            except Exception as wrong:  # a bug in this program: this message must not block the others
                log.exception("%s: cannot send message %s", channel, message.id)
                self._put_aside(channel, message, f"cannot be sent: {wrong!r}")
            else:
                self._report.problem(channel, None)
            backoff.reset()
            queue.pop(0)
            self._report.accepted(self.waiting)
            self._store.changed()

    def _put_aside(self, channel: str, message: Message, reason: str) -> None:
        self._report.put_aside()
        self._report.error(f'{channel} refused "{message.title}": {reason}')
        refused = self._store.stored.refused.setdefault(channel, [])
        refused.append(message)
        del refused[:-MOST_REFUSED]

    @property
    def waiting(self) -> int:
        """Return how many messages no channel has accepted yet."""
        return sum(map(len, self._store.stored.queues.values()))

    def _show(self) -> None:
        self._report.behind(self.waiting)


def state_folder() -> Path | None:
    """Return the StateDirectory of systemd, which must be writable; None: nothing is kept. Raises Failure."""
    name = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if name and not os.access(name, os.W_OK | os.X_OK):
        raise Failure(f"{name}: {os.strerror(errno.EACCES)}")
    return Path(name) if name else None
