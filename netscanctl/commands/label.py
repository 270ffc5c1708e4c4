"""`netscanctl label DEVICE TEXT`: sets the label of a device, or takes over that of another one."""

import click
from msgspec import UNSET

from netscanctl.annotate import annotate, json_option
from netscanctl.cli import Session
from netscanctl.params import complete_device, device_argument, mac_of
from netscanctl.text import clean
from netscand.protocol import Device, DeviceUpdate


@click.command("label", short_help="Set or remove the label of a device.")
@device_argument
@click.argument("text", required=False)
@click.option(
    "--from", "old", metavar="DEVICE", shell_complete=complete_device,
    help="Move label, known, notes and patience from this device, which is the same one under an earlier MAC.",
)  # fmt: skip
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
    annotate(session, device, DeviceUpdate(label=label, take_from=take_from), as_json, message)
