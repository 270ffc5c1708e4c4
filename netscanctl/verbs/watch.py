"""`netscanctl watch`: the devices, then one line a change, as it happens, for ever."""

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import get_args

import click

from netscanctl.argument import complete_network
from netscanctl.cli import Session
from netscanctl.client import Failure
from netscanctl.picture import Picture
from netscanctl.render import ORDERS, change, devices_table
from netscanctl.stream import Heard, follow
from netscanctl.terminal import Terminal
from netscanctl.text import SENTENCE_LIMIT, clean
from netscand import protocol

KINDS = get_args(protocol.EventKind)


@click.command("watch", short_help="Print the devices, then one line a change, for ever.")
@click.argument("text", required=False)
@click.option(
    "--network", metavar="ID", shell_complete=complete_network, help="Only one network, such as 192.168.1.0/24@eth0."
)
@click.option("--kind", "kinds", metavar="KIND", multiple=True, type=click.Choice(KINDS),
              help="Only changes of this kind (online, offline, discovered, …); may be repeated.")  # fmt: skip
@click.option("--since", metavar="CURSOR", help="Go on from this place in the stream, without the list.")
@click.option("--interval", metavar="SECONDS", type=click.FloatRange(min=1), help="Scan so often while this watches.")
@click.option("--json", "as_json", is_flag=True, help="The stream's messages as they come, one a line.")
@click.pass_obj
def command(
    session: Session, text: str | None, network: str | None, kinds: tuple[str, ...], since: str | None,
    interval: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Print the devices (or those that TEXT is found in), then one line a change, for ever.

    A lost connection is made anew after 3 s, and goes on where it was lost.
    """
    query = {key: value for key, value in {"network": network, "q": text}.items() if value}
    wishes = [protocol.SetInterval(seconds=interval, request="interval")] if interval else []
    shown = Raw(session.terminal, kinds) if as_json else Lines(session.terminal, kinds)

    async def run() -> None:
        stream = follow(session.daemon, session.terminal.talk, query=query, since=since, wishes=wishes)
        leased = False
        async with while_read(), aclosing(stream):
            async for heard in stream:
                match heard.message:
                    case protocol.Interval():
                        leased = True
                    case protocol.Error(message=message) if not leased:
                        raise Failure(message)
                    case protocol.Error(message=message):
                        session.terminal.talk(message)
                    case protocol.Lagged():
                        session.terminal.talk("the stream is not read as fast as it comes, and was cut")
                shown.show(heard)

    asyncio.run(run())


@asynccontextmanager
async def while_read() -> AsyncIterator[None]:
    """End what runs within, by BrokenPipeError, as soon as nobody reads stdout: the next change may be hours away."""
    stdout = sys.stdout.fileno()
    if not stat.S_ISFIFO(os.fstat(stdout).st_mode):
        yield
        return
    loop, task, left = asyncio.get_running_loop(), asyncio.current_task(), False
    assert task is not None

    def leave() -> None:
        nonlocal left
        left = True
        loop.remove_reader(stdout)
        task.cancel()

    # Nothing is ever read here; but of a pipe without a reader, epoll tells even those who wait to read.
    loop.add_reader(stdout, leave)
    try:
        yield
    except asyncio.CancelledError:
        if left:
            raise BrokenPipeError from None
        raise
    finally:
        loop.remove_reader(stdout)


class Raw:
    """Messages for a program; of the events only those of the wanted kinds (none: all)."""

    def __init__(self, terminal: Terminal, kinds: tuple[str, ...]) -> None:
        self._terminal = terminal
        self._kinds = kinds

    def show(self, heard: Heard) -> None:
        """Print one message as it came."""
        if not (self._kinds and isinstance(heard.message, protocol.Event) and heard.message.kind not in self._kinds):
            self._terminal.json(heard.raw)


class Lines:
    """The table, then a line a change; of the changes only those of the wanted kinds (none: all)."""

    def __init__(self, terminal: Terminal, kinds: tuple[str, ...]) -> None:
        self._terminal = terminal
        self._kinds = kinds
        self._picture = Picture()

    def show(self, heard: Heard) -> None:
        """Print what one message changes."""
        first = not self._picture.whole
        changes = self._picture.hear(heard.message)
        if first and self._picture.whole and not isinstance(heard.message, protocol.Resumed):
            self._list()
        for event in changes:
            if not self._kinds or event.kind in self._kinds:
                self._line(event)
        if isinstance(heard.message, protocol.ScanError):
            wrong = heard.message
            self._terminal.talk(f"scan of {clean(wrong.network)}: {clean(wrong.message, SENTENCE_LIMIT)}")

    def _list(self) -> None:
        devices = sorted(self._picture.devices.values(), key=ORDERS["ip"])
        terminal = self._terminal
        terminal.write(devices_table(devices, columns=terminal.columns, paint=terminal.paint, today=terminal.today))

    def _line(self, event: protocol.Event) -> None:
        now = datetime.now().astimezone()
        line = change(event, paint=self._terminal.paint, now=now, short=self._terminal.is_terminal)
        self._terminal.write(line + "\n")
