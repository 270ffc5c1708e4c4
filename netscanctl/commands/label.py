"""`netscanctl label DEVICE TEXT`: sets the label of a device."""

import click

from netscanctl.annotate import annotate, json_option
from netscanctl.cli import Session
from netscanctl.params import device_argument
from netscanctl.text import clean
from netscand.protocol import Device, DeviceUpdate


@click.command("label", short_help="Set or remove the label of a device.")
@device_argument
@click.argument("text")
@json_option
@click.pass_obj
def command(session: Session, device: str, text: str, as_json: bool) -> None:
    """Set the label of a DEVICE (its MAC, address, name or label) to TEXT; an empty TEXT ("") removes it."""

    def message(now: Device) -> str:
        return f'label set to "{clean(now.label)}"' if now.label else "label removed"

    annotate(session, device, DeviceUpdate(label=text or None), as_json, message)
