"""`netscanctl forget DEVICE`: deletes a device."""

import click

from netscanctl.annotate import confirm
from netscanctl.cli import Session
from netscanctl.client import device_path
from netscanctl.params import device_argument, device_of
from netscanctl.render import title


@click.command("forget", short_help="Delete a device with its label and learned patience.")
@device_argument
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def command(session: Session, device: str, yes: bool) -> None:
    """Delete a DEVICE (its MAC, address, name or label) with its label, notes and learned patience.

    If it is seen again, it is a new device. On a terminal, asks for confirmation.
    """
    found = device_of(session.client, device)
    name = title(found)
    if not yes:
        confirm(f"Forget {name}?")
    session.client.delete(device_path(found.mac))
    session.terminal.notice(f"{name}: forgotten")
