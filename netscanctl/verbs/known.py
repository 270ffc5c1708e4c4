"""`netscanctl known DEVICE`: the user knows it."""

import click

from netscanctl.argument import device_argument
from netscanctl.cli import Session
from netscanctl.words import change, json_option
from netscand.protocol import DeviceWords


@click.command("known", short_help="Mark a device as known.")
@device_argument
@click.option("--not", "unknown", is_flag=True, help="It is not known any more.")
@json_option
@click.pass_obj
def command(session: Session, device: str, unknown: bool, as_json: bool) -> None:
    """Mark a DEVICE (its MAC, address, name or label) as one that you know."""
    words = DeviceWords(known=not unknown)
    change(session, device, words, as_json, lambda now: "is known" if now.known else "is not known")
