"""`netscanctl show DEVICE`: details of one device."""

from datetime import UTC, datetime

import click

from netscanctl.cli import Session
from netscanctl.client import Failure, device_path
from netscanctl.event_lines import format_events
from netscanctl.params import device_argument, mac_of, site_option
from netscanctl.render import LEVELS, device_facts, presence_bar
from netscand.protocol import Device, EventList, PresenceDays

DAYS = 7
EVENTS = 10


@click.command("show", short_help="Show one device: addresses, reason of its status, last events.")
@device_argument
@site_option
@click.option("--json", "as_json", is_flag=True, help="Print only the device, as received from the daemon.")
@click.pass_obj
def command(session: Session, device: str, as_json: bool) -> None:
    """Show one DEVICE (its MAC, address, name or label).

    Prints its addresses, why it is online or offline, its presence on the last 7 days, and its last 10 events.
    """
    client, terminal = session.client, session.terminal
    path = device_path(mac_of(client, device))
    answer = client.get(path)
    if as_json:
        terminal.json(answer)
        return
    details = client.read(answer, Device)
    days, events = [], []
    try:
        if details.site:  # a hub does not have the presence
            client.site = details.site
        else:
            days = client.read(client.get(f"{path}/presence", {"days": str(DAYS)}), PresenceDays).days
        events = client.read(client.get(f"{path}/events", {"last": str(EVENTS)}), EventList).events
    except Failure as failure:  # without its history, the daemon still has the device
        if type(failure) is not Failure:
            raise
        terminal.error(str(failure))
    now = datetime.now().astimezone()
    presence = presence_bar(days, details.first_seen, now.astimezone(UTC), plain=not terminal.can_encode(LEVELS))
    facts = device_facts(
        details, paint=terminal.paint, now=now, today=terminal.today, presence=presence, columns=terminal.columns
    )
    lines = format_events(events, paint=terminal.paint, now=now, columns=terminal.columns, of=details.mac)
    terminal.write(f"{facts}\n{lines}" if lines else facts)
