"""`netscanctl show DEVICE`: all that is known of one."""

from datetime import UTC, datetime

import click

from netscanctl.argument import device_argument, mac_of
from netscanctl.changes import changes
from netscanctl.cli import Session
from netscanctl.client import Failure, device_path
from netscanctl.presence import LEVELS, presence_bar
from netscanctl.render import device_facts
from netscand.protocol import Device, EventList, PresenceDays

DAYS = 7
EVENTS = 10


@click.command("show", short_help="Show one device: addresses, why it is on- or offline, last events.")
@device_argument
@click.option("--json", "as_json", is_flag=True, help="The daemon's answer as it came: the device alone.")
@click.pass_obj
def command(session: Session, device: str, as_json: bool) -> None:
    """Show one DEVICE (its MAC, address, name or label).

    Its addresses, why it is online or offline, its presence on the last 7 days, its last events.
    """
    client, terminal = session.client, session.terminal
    path = device_path(mac_of(client, device))
    answer = client.get(path)
    if as_json:
        terminal.json(answer)
        return
    told = client.read(answer, Device)
    days, events = [], []
    try:
        days = client.read(client.get(f"{path}/presence", {"days": str(DAYS)}), PresenceDays).days
        events = client.read(client.get(f"{path}/events", {"last": str(EVENTS)}), EventList).events
    except Failure as wrong:  # a daemon that cannot read its history still knows the device
        if type(wrong) is not Failure:
            raise
        terminal.talk(str(wrong))
    now = datetime.now().astimezone()
    presence = presence_bar(days, told.first_seen, now.astimezone(UTC), plain=not terminal.has(LEVELS))
    facts = device_facts(told, paint=terminal.paint, now=now, today=terminal.today, presence=presence)
    past = changes(events, paint=terminal.paint, now=now, columns=terminal.columns)
    terminal.write(f"{facts}\n{past}" if past else facts)
