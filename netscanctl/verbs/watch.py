"""`netscanctl watch`: the devices, then one line a change, as it happens, for ever."""

import asyncio
import os
import shlex
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import click

from netscanctl.argument import complete_network, one_network, others_than
from netscanctl.bookmark import Bookmark
from netscanctl.cli import Session
from netscanctl.client import Failure
from netscanctl.duration import duration
from netscanctl.kinds import kind_option
from netscanctl.since import place as place_of
from netscanctl.stream import follow
from netscanctl.terminal import Terminal
from netscanctl.told import Commands, Lines, Raw, Table, Wanted, Way
from netscand import protocol


@click.command("watch", short_help="Print the devices, then one line a change, for ever.")
@click.argument("text", required=False)
@click.option("--network", metavar="ID", shell_complete=complete_network,
              help="Only one network, such as 192.168.1.0/24@eth0, or its prefix alone.")  # fmt: skip
@kind_option("changes")
@click.option("--since", metavar="CURSOR", help="Go on from this place in the stream, without the list.")
@click.option("--cursor-file", metavar="FILE", type=click.Path(dir_okay=False),
              help="Go on from the place in FILE, if there is one, and keep in it what was told.")  # fmt: skip
@click.option("--interval", metavar="SECONDS", callback=duration(1),
              help="Scan so often while this watches (from 1 to [scan] interval).")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The stream's messages as they come, one a line.")
@click.option("--table", "as_table", is_flag=True, help="A table on the whole terminal, which lives; q ends it.")
@click.option("--exec", "program", metavar="CMD", help="Run CMD for each change, with its JSON on stdin.")
@click.pass_obj
def command(
    session: Session, text: str | None, network: str | None, kinds: tuple[str, ...], since: str | None,
    cursor_file: str | None, interval: float | None, as_json: bool, as_table: bool, program: str | None,
) -> None:  # fmt: skip
    """Print the devices (or those that TEXT is found in), then one line a change, for ever.

    A lost connection is made anew after 3 s, and goes on where it was lost. A network that is not there is waited for.
    """
    if as_json + as_table + (program is not None) > 1:
        raise click.UsageError("expected one of --json, --table and --exec")
    wishes = [protocol.SetInterval(seconds=interval, request="interval")] if interval else []
    bookmark = Bookmark(cursor_file)
    place = bookmark.read() or (place_of(since) if since is not None else None)
    others = ""
    if network:
        network = one_network(session.client, network)
        others = others_than(session.client, network)
        session.client.close()
    query = {key: value for key, value in {"network": network, "q": text}.items() if value}
    way = chosen(session.terminal, Wanted(kinds), bookmark, as_json=as_json, as_table=as_table, program=program)

    async def tell() -> None:
        first, leased = True, False
        async with aclosing(follow(session.daemon, way.talk, query=query, since=place, wishes=wishes)) as stream:
            async for heard in stream:
                match heard.message:
                    case protocol.InitialState(interval=most) | protocol.Resumed(interval=most) if (
                        first and interval and interval > most
                    ):
                        raise Failure(f"--interval {interval:g}: expected 1 to {most:g} seconds ([scan] interval)")
                    case protocol.Interval():
                        leased = True
                    case protocol.Error(message=message) if not leased:
                        raise Failure(message)
                    case protocol.Error(message=message):
                        way.talk(message)
                    case protocol.Lagged():
                        way.talk("the stream is not read as fast as it comes, and was cut")
                    case protocol.InitialState() if first and place:
                        way.talk(f"the place {place} in the stream is gone: what happened since is not told")
                await way.show(heard)
                if first and others:  # a service may be started before its network is up
                    way.talk(f"no network is {network} yet, and it is waited for; those that are: {others}")
                first = False

    async def run() -> int:
        try:
            async with while_read(), asyncio.TaskGroup() as both:
                telling = both.create_task(tell())
                code = await way.run()
                telling.cancel()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            bookmark.close()
        return code

    if code := asyncio.run(run()):
        sys.exit(code)


def chosen(
    terminal: Terminal, wanted: Wanted, bookmark: Bookmark, *, as_json: bool, as_table: bool, program: str | None
) -> Way:
    """The way in which to tell. Raises UsageError."""
    if as_json:
        return Raw(terminal, wanted, bookmark)
    if as_table:
        if not terminal.is_terminal or os.environ.get("TERM", "dumb") == "dumb":
            raise click.UsageError("--table needs a terminal; in a pipe, lines or --json serve")
        return Table(terminal, wanted, bookmark)
    if program is not None:
        try:
            return Commands(shlex.split(program), terminal, wanted, bookmark)
        except ValueError as wrong:
            raise click.UsageError(f"--exec: {wrong}") from None
    return Lines(terminal, wanted, bookmark)


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
