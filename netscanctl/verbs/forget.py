"""`netscanctl forget DEVICE`: as if it had never been there."""

import sys

import click

from netscanctl.argument import device_argument, device_of
from netscanctl.cli import Session
from netscanctl.client import Failure, device_path
from netscanctl.render import title


@click.command("forget", short_help="Forget a device, its label, and what was learned of it.")
@device_argument
@click.option("--yes", is_flag=True, help="Do not ask first.")
@click.pass_obj
def command(session: Session, device: str, yes: bool) -> None:
    """Forget a DEVICE (its MAC, address, name or label): its label, and what was learned of it.

    If it is heard again, it is new. On a terminal, this asks first.
    """
    found = device_of(session.client, device)
    who = title(found)
    if not yes and sys.stdin.isatty() and sys.stderr.isatty() and not click.confirm(f"Forget {who}?", err=True):
        raise Failure("nothing is forgotten")
    session.client.delete(device_path(found.mac))
    session.terminal.talk(f"{who} is forgotten")
