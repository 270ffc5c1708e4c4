"""`netscanctl watch`: devices, then one line per change as it happens."""

import asyncio
import os
import re
import shlex
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import click

from netscanctl.cli import Session
from netscanctl.client import Failure
from netscanctl.cursor_file import CursorFile
from netscanctl.params import (
    complete_network,
    duration,
    kind_option,
    known_filter,
    networks_instead,
    parse_cursor,
    site_option,
    tag_option,
)
from netscanctl.settling import Settling
from netscanctl.stream import follow
from netscanctl.terminal import Terminal
from netscanctl.watch_output import ExecOutput, JsonOutput, KindFilter, LineOutput, Output, TableOutput
from netscand import protocol

SHELL_SYNTAX = re.compile(r"[|&]|\|\||&&|[\w./-]*;|\d?[<>].*")
"""Words that only a shell would obey."""
INSTEAD = "showing the current list instead (changes since then are lost)"


@click.command("watch", short_help="Print the devices, then one line per change.")
@click.argument("text", required=False)
@click.option("--network", metavar="ID", shell_complete=complete_network,
              help="Only one network, such as 192.168.1.0/24@eth0, or all networks with a prefix.")  # fmt: skip
@site_option
@click.option("--known", is_flag=True, help="Only devices that are marked as known.")
@click.option("--not-known", is_flag=True, help="Only devices that are not marked as known.")
@tag_option("Only devices")
@kind_option("changes")
@click.option("--since", metavar="CURSOR", help="Resume after this cursor, without the list.")
@click.option("--cursor-file", metavar="FILE", type=click.Path(dir_okay=False),
              help="Resume from the cursor in FILE, and save progress there.")  # fmt: skip
@click.option("--interval", metavar="SECONDS", callback=duration(1),
              help="Scan interval while watching, from 1 to [scan] interval.")  # fmt: skip
@click.option("--settle", metavar="SECONDS", callback=duration(0), default="0",
              help="Wait up to this long for the name of a new device, before it is reported.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the messages of the stream as received, one per line.")
@click.option("--table", "as_table", is_flag=True, help="Full-screen live table; press ? for its keys, q to quit.")
@click.option("--exec", "program", metavar="CMD",
              help="Run CMD for each change: its JSON on stdin, its fields in NETSCAND_… variables.")  # fmt: skip
@click.pass_obj
def command(
    session: Session, text: str | None, network: str | None, known: bool, not_known: bool, tag: str | None,
    kinds: tuple[str, ...], since: str | None, cursor_file: str | None, interval: float | None, settle: float,
    as_json: bool, as_table: bool, program: str | None,
) -> None:  # fmt: skip
    """Print the devices (or those that contain TEXT), then one line per change until interrupted.

    If the connection drops, reconnects after 3 s and resumes. Waits for a network that does not exist yet.
    """
    if as_json + as_table + (program is not None) > 1:
        raise click.UsageError("--json, --table and --exec exclude each other")
    if settle and (as_json or as_table):
        raise click.UsageError("--settle excludes --json and --table, which show devices as received")
    requests = [protocol.SetInterval(seconds=interval, request="interval")] if interval else []
    bookmark = CursorFile(cursor_file)
    cursor = bookmark.load() or (parse_cursor(since) if since is not None else None)
    existing = ""
    if network:
        existing = networks_instead(session.client, network)
        session.client.close()
    if tag:  # netscand warns if no device has it
        session.client.get("/api/devices", {"tag": tag, "limit": "1"})
        session.client.close()
    mark = known_filter(known=known, not_known=not_known)
    given = {"network": network, "q": text, "known": mark, "tag": tag}
    query = {key: value for key, value in given.items() if value}
    query |= session.stream_query()
    kept = session.terminal, KindFilter(kinds), bookmark
    output = choose_output(*kept, settle, as_json, as_table, program)

    async def print_stream() -> None:
        first, leased = True, False
        stream = follow(session.daemon, output.notice, query=query, since=cursor, requests=requests)
        async with aclosing(stream):
            async for received in stream:
                match received.message:
                    case protocol.InitialState(interval=maximum) | protocol.Resumed(interval=maximum) if (
                        first and interval and interval > maximum
                    ):
                        raise Failure(f"--interval {interval:g}: expected 1 to {maximum:g} seconds ([scan] interval)")
                    case protocol.Interval():
                        leased = True
                    case protocol.Error(message=message) if not leased:
                        raise Failure(message)
                    case protocol.Error(message=message):
                        output.error(message)
                    case protocol.Lagged():
                        output.notice("reading too slowly: the daemon closed the stream; reconnecting")
                    case protocol.InitialState() if first and cursor:
                        output.error(f"cursor {cursor} has expired; {INSTEAD}")
                await output.on_message(received)
                if first and existing:  # a service may be started before its network is up
                    output.notice(f'unknown network "{network}"; waiting for it; existing networks: {existing}')
                first = False

    async def run() -> int:
        try:
            async with until_stdout_closes(), asyncio.TaskGroup() as group:
                printing = group.create_task(print_stream())
                code = await output.run()
                printing.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            bookmark.close()
        return code

    if code := asyncio.run(run()):
        sys.exit(code)


def choose_output(
    terminal: Terminal, kinds: KindFilter, bookmark: CursorFile, settle: float, as_json: bool, as_table: bool,
    program: str | None,
) -> Output:  # fmt: skip
    """Return the output mode for the options. Raises UsageError."""
    if as_json:
        return JsonOutput(terminal, kinds, bookmark)
    if as_table:
        if not terminal.is_terminal or os.environ.get("TERM", "dumb") == "dumb":
            raise click.UsageError("--table requires a terminal; in a pipe, omit it or use --json")
        return TableOutput(terminal, kinds, bookmark)
    if program is not None:
        try:
            argv = shlex.split(program)
        except ValueError as error:
            raise click.UsageError(f"--exec: {error}") from None
        if shell := next((word for word in argv if SHELL_SYNTAX.fullmatch(word)), None):
            terminal.notice(f'--exec: no shell runs CMD, which gets "{shell}" as an argument; for a shell: sh -c "…"')
        return ExecOutput(argv, terminal, kinds, bookmark, Settling(settle))
    return LineOutput(terminal, kinds, bookmark, Settling(settle))


@asynccontextmanager
async def until_stdout_closes() -> AsyncIterator[None]:
    """Cancel the body with BrokenPipeError once the reader of stdout is gone: the next line may be hours away."""
    stdout = sys.stdout.fileno()
    if not stat.S_ISFIFO(os.fstat(stdout).st_mode):
        yield
        return
    loop, task, closed = asyncio.get_running_loop(), asyncio.current_task(), False
    assert task is not None

    def on_close() -> None:
        nonlocal closed
        closed = True
        loop.remove_reader(stdout)
        task.cancel()

    # Nothing is read here: epoll reports a pipe without a reader as readable.
    loop.add_reader(stdout, on_close)
    try:
        yield
    except asyncio.CancelledError:
        if closed:
            raise BrokenPipeError from None
        raise
    finally:
        loop.remove_reader(stdout)
