"""`netscanctl notes DEVICE [TEXT]`: prints or sets the notes about a device."""

import sys

import click

from netscanctl.annotate import annotate, json_option
from netscanctl.cli import Session
from netscanctl.client import Usage
from netscanctl.params import device_argument, device_of, site_option
from netscanctl.text import clean
from netscand.protocol import DeviceUpdate

MOST = 4096
"""Characters that the daemon accepts (`DeviceUpdate` in netscand/protocol.py)."""


@click.command("notes", short_help="Print or set the notes about a device.")
@device_argument
@click.argument("text", required=False)
@site_option
@json_option
@click.pass_obj
def command(session: Session, device: str, text: str | None, as_json: bool) -> None:
    """Set the notes about a DEVICE (its MAC, address, name or label) to TEXT, which may have several lines.

    Without TEXT, prints the notes. With -, reads TEXT from stdin. An empty TEXT ("") removes the notes.
    """
    if text is None:
        if as_json:
            raise click.UsageError("--json requires TEXT; to print the whole device: netscanctl show DEVICE --json")
        notes = device_of(session.client, device).notes
        if notes:
            session.terminal.write("".join(f"{clean(line, MOST)}\n" for line in notes.splitlines()))
        else:
            session.terminal.notice("no notes")
        return
    if text == "-":
        text = sys.stdin.read(MOST + 2).strip("\n")
        if len(text) > MOST:
            raise Usage(f"stdin: notes have at most {MOST} characters")
    update = DeviceUpdate(notes=text or None)
    annotate(session, device, update, as_json, lambda now: "notes set" if now.notes else "notes removed")
