"""`netscanctl events`: events from the history."""

from collections.abc import Iterator
from datetime import datetime

import click

from netscanctl.cli import Session
from netscanctl.client import Client, Failure
from netscanctl.event_lines import format_events
from netscanctl.params import (
    as_mac,
    complete_device,
    complete_person,
    device_of,
    kind_option,
    mac_of,
    parse_since,
    site_option,
    tag_option,
)
from netscand.protocol import EventList

LAST = 500
"""Events without --limit and --since."""
PAGE = 1000
"""Events per request."""
MOST_LAST = 5000
"""Maximum --limit without --since: the daemon's maximum per request."""


@click.command("events", short_help="List events from the history.")
@click.option("--since", metavar="WHEN", help="All events after a cursor, a time (2026-11-23 10:00, 10:00, today, "
              "yesterday), or an age (90s, 30m, 2h, 3d, 1w).")  # fmt: skip
@click.option("--until", metavar="WHEN", help="Only events up to a cursor, a time or an age; a day without a time is "
              "included.")  # fmt: skip
@kind_option("events")
@click.option("--device", metavar="DEVICE", shell_complete=complete_device,
              help="Only events of one device: its MAC, address, name or label.")  # fmt: skip
@site_option
@tag_option("Only events of the devices")
@click.option(
    "--person",
    metavar="NAME",
    shell_complete=complete_person,
    help="Only events about one person: home, away, changed.",
)
@click.option("--limit", metavar="N", type=click.IntRange(min=1),
              help=f"At most N events: without --since the last ({LAST}), with --since the first (all).")  # fmt: skip
@click.option("--json", "as_json", is_flag=True,
              help=f"Print the daemon's answers as received, one line per {PAGE} events.")  # fmt: skip
@click.pass_obj
def command(
    session: Session, since: str | None, until: str | None, kinds: tuple[str, ...], device: str | None,
    tag: str | None, person: str | None, limit: int | None, as_json: bool,
) -> None:  # fmt: skip
    """List events from the history, oldest first."""
    if since is None and limit is not None and limit > MOST_LAST:
        raise click.UsageError(f"--limit {limit}: expected at most {MOST_LAST} without --since; use --since 1w")
    client, terminal = session.client, session.terminal
    query = {"kind": ",".join(kinds)} if kinds else {}
    now = datetime.now().astimezone()
    start = parse_since(since, now) if since is not None else None
    if until is not None:
        query["until"] = parse_since(until, now, until=True)
        if start is not None and start.endswith("Z") and query["until"].endswith("Z") and query["until"] < start:
            terminal.notice(f"warning: --until {until} is before --since {since}: no event can match")
    if device:
        query["mac"] = mac_of(client, device)
    query |= {name: value for name, value in (("tag", tag), ("person", person)) if value}
    count = 0
    for answer, page in pages(client, query, start, limit):
        if as_json:
            terminal.json(answer)
            continue
        head = count == 0
        lines = format_events(page.events, paint=terminal.paint, now=now, columns=terminal.columns, head=head)
        terminal.write(lines)
        count += len(page.events)
    if not as_json and not count:
        if device and as_mac(device):
            try:
                device_of(client, device)
            except Failure as none:
                terminal.notice(str(none))
        terminal.notice("no event matches" if since or until or query else "the history has no events")


def pages(
    client: Client, query: dict[str, str], since: str | None, limit: int | None
) -> Iterator[tuple[bytes, EventList]]:
    """Yield the answers, raw and decoded, page by page. Raises Failure."""

    def fetch(more: dict[str, str]) -> tuple[bytes, EventList]:
        answer = client.get("/api/events", {**query, **more})
        return answer, client.read(answer, EventList)

    if since is None:
        yield fetch({"last": str(limit or LAST)})
        return
    while True:
        size = PAGE if limit is None else min(PAGE, limit)
        answer, page = fetch({"since": since, "limit": str(size)})
        yield answer, page
        since, limit = page.cursor, None if limit is None else limit - len(page.events)
        if len(page.events) < size or (limit is not None and limit <= 0):
            return
