"""`netscanctl label DEVICE TEXT`: sets the label of a device, or takes over that of another one."""

import click
from msgspec import UNSET

from netscanctl.annotate import annotate, json_option
from netscanctl.cli import Session
from netscanctl.client import Failure
from netscanctl.params import as_mac, complete_device, device_argument, device_of, mac_of, site_option
from netscanctl.render import title
from netscanctl.text import clean
from netscand.protocol import Device, DeviceUpdate


@click.command("label", short_help="Set or remove the label of a device.")
@device_argument
@click.argument("text", required=False)
@click.option(
    "--from", "old", metavar="DEVICE", shell_complete=complete_device,
    help="Move label, kind, known, notes and patience from this device (the same one, under an earlier MAC).",
)  # fmt: skip
@site_option
@json_option
@click.pass_obj
def command(session: Session, device: str, text: str | None, old: str | None, as_json: bool) -> None:
    """Set the label of a DEVICE (its MAC, address, name or label) to TEXT; an empty TEXT ("") removes it.

    With --from, TEXT may be omitted.
    """
    if text is None and old is None:
        raise click.UsageError("Missing argument 'TEXT'.")

    def message(now: Device) -> str:
        taken = "" if old is None else f"has the annotations of {clean(old)}; "
        label = f'label set to "{clean(now.label)}"' if now.label else "label removed" if text == "" else "no label"
        return taken + label

    take_from = UNSET if old is None else mac_of(session.client, old)
    label = UNSET if text is None else text or None
    # The name that it had before: with the new one, the message would have that twice.
    annotate(session, device, DeviceUpdate(label=label, take_from=take_from), as_json, message, _name(session, device))


def _name(session: Session, device: str) -> str:
    """Return the name of a device; of one that was not seen yet, its MAC. Raises Failure."""
    try:
        return title(device_of(session.client, device))
    except Failure as failure:
        if type(failure) is not Failure or (mac := as_mac(device)) is None:
            raise
        return mac
