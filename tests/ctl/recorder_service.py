"""A service whose target is a file, with a line for each event; it accepts none while `hold` exists beside it."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from netscanctl.services.following import StateFollower
from netscanctl.services.program import Context, Program
from netscanctl.services.settings import ServiceTable
from netscanctl.stream import Received
from netscand.protocol import Event, ServerMessage


class Recorder:
    """The service."""

    wants_events = True
    wants_state = True

    def __init__(self, target: Path) -> None:
        self._target = target
        self._waiting: asyncio.Queue[tuple[bytes, asyncio.Future[None]]] = asyncio.Queue()

    async def run(self, follower: StateFollower) -> None:
        while True:
            raw, accepted = await self._waiting.get()
            while self._target.with_name("hold").exists():
                await asyncio.sleep(0.01)
            with self._target.open("ab") as out:
                out.write(raw + b"\n")
            accepted.set_result(None)

    def submit(self, received: Received) -> "asyncio.Future[None]":
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((received.raw, accepted))
        return accepted

    def on_message(self, message: ServerMessage, events: Iterable[Event]) -> None:
        """The state is nothing to it."""


def build(table: ServiceTable, context: Context) -> Recorder:
    """Make it."""
    return Recorder(Path(os.environ["RECORDER_TARGET"]))


PROGRAM = Program("recorder", "Record events in a file.", ServiceTable, build, lambda table, folder: ())

if __name__ == "__main__":
    PROGRAM.main()
