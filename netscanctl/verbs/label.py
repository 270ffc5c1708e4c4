"""`netscanctl label DEVICE TEXT`: what the user calls it."""

import click

from netscanctl.argument import device_argument
from netscanctl.cli import Session
from netscanctl.text import clean
from netscanctl.words import change, json_option
from netscand.protocol import DeviceWords


@click.command("label", short_help="Give a device a name of yours.")
@device_argument
@click.argument("text")
@json_option
@click.pass_obj
def command(session: Session, device: str, text: str, as_json: bool) -> None:
    """Call a DEVICE (its MAC, address, name or label) TEXT; an empty TEXT ("") takes the label away."""
    words = DeviceWords(label=text or None)
    change(
        session, device, words, as_json, lambda now: f"is called {clean(now.label)}" if now.label else "has no label"
    )
