"""`netscanctl events`: what happened."""

from collections.abc import Iterator
from datetime import datetime

import click

from netscanctl.argument import complete_device, mac_of
from netscanctl.changes import changes
from netscanctl.cli import Session
from netscanctl.client import Client
from netscanctl.kinds import kind_option
from netscanctl.since import place_or_time
from netscand.protocol import EventList

LAST = 500
"""Events, unless told otherwise."""
PAGE = 1000
"""Events that are asked for at a time; the daemon allows 5,000."""


@click.command("events", short_help="List what happened.")
@click.option("--since", metavar="WHEN", help="All that came after: a cursor, a time (2026-11-23 10:00, 10:00, today, "
              "yesterday), or so long ago (90s, 30m, 2h, 3d, 1w).")  # fmt: skip
@kind_option("events")
@click.option("--device", metavar="DEVICE", shell_complete=complete_device,
              help="Only those of one device: its MAC, address, name or label.")  # fmt: skip
@click.option("--limit", metavar="N", type=click.IntRange(min=1),
              help=f"At most so many: without --since the last ({LAST}), with it the first (all).")  # fmt: skip
@click.option("--json", "as_json", is_flag=True,
              help=f"The daemon's answers as they came, one a line for every {PAGE} events.")  # fmt: skip
@click.pass_obj
def command(
    session: Session, since: str | None, kinds: tuple[str, ...], device: str | None, limit: int | None, as_json: bool
) -> None:
    """List what happened, the latest at the end."""
    client, terminal = session.client, session.terminal
    query = {"kind": ",".join(kinds)} if kinds else {}
    begin = place_or_time(since, datetime.now().astimezone()) if since is not None else None
    if device:
        query["mac"] = mac_of(client, device)
    for answer, told in pages(client, query, begin, limit):
        if as_json:
            terminal.json(answer)
            continue
        now = datetime.now().astimezone()
        terminal.write(changes(told.events, paint=terminal.paint, now=now, columns=terminal.columns))


def pages(
    client: Client, query: dict[str, str], since: str | None, limit: int | None
) -> Iterator[tuple[bytes, EventList]]:
    """The answers that together hold what was asked for. Raises Failure."""

    def ask(more: dict[str, str]) -> tuple[bytes, EventList]:
        answer = client.get("/api/events", {**query, **more})
        return answer, client.read(answer, EventList)

    if since is None:
        yield ask({"last": str(limit or LAST)})
        return
    while True:
        size = PAGE if limit is None else min(PAGE, limit)
        answer, told = ask({"since": since, "limit": str(size)})
        yield answer, told
        since, limit = told.cursor, None if limit is None else limit - len(told.events)
        if len(told.events) < size or limit == 0:
            return
