"""`netscanctl known DEVICE`: marks a device as known."""

import click

from netscanctl.annotate import annotate, json_option
from netscanctl.cli import Session
from netscanctl.params import device_argument
from netscand.protocol import DeviceUpdate


@click.command("known", short_help="Mark a device as known.")
@device_argument
@click.option("--not", "unknown", is_flag=True, help="Remove the mark.")
@json_option
@click.pass_obj
def command(session: Session, device: str, unknown: bool, as_json: bool) -> None:
    """Mark a DEVICE (its MAC, address, name or label) as known."""
    update = DeviceUpdate(known=not unknown)
    annotate(session, device, update, as_json, lambda now: "marked as known" if now.known else "not marked as known")
