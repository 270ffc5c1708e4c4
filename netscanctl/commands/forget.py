"""`netscanctl forget DEVICE`: deletes a device, and with --history its events."""

import click

from netscanctl.annotate import confirm
from netscanctl.cli import Session
from netscanctl.client import Client, Failure, device_path
from netscanctl.params import as_mac, device_argument, device_of, site_option
from netscanctl.render import title
from netscanctl.text import clean
from netscand.protocol import Erased


@click.command("forget", short_help="Delete a device with its label and learned patience.")
@device_argument
@click.option("--history", is_flag=True, help="Also delete its events from the history, and those that name its MAC.")
@site_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def command(session: Session, device: str, history: bool, yes: bool) -> None:
    """Delete a DEVICE (its MAC, address, name or label) with its label, notes and learned patience.

    If it is seen again, it is a new device. Its events stay in the history, unless --history is given; that also
    accepts the MAC of a device that was forgotten before. Backups keep all of it. On a terminal, asks for confirmation.
    """
    client, terminal = session.client, session.terminal
    mac, name = _find(client, device, history)
    if not yes:
        confirm(f"Forget {name}, and delete its events from the history?" if history else f"Forget {name}?")
    answer = client.delete(device_path(mac) + ("?history=true" if history else ""))
    if history:
        count = client.read(answer, Erased).events
        terminal.notice(f"{name}: forgotten; {count} events deleted from the history; backups of it still have them")
    else:
        stays = f"its events stay in the history; to delete them, too: netscanctl forget --history {mac}"
        terminal.notice(f"{name}: forgotten with its label, notes and learned patience; {stays}")


def _find(client: Client, text: str, history: bool) -> tuple[str, str]:
    """Return the MAC of a device, and its title with the MACs merged into it. Raises Failure.

    With `history`, a MAC need be no device any more.
    """
    try:
        found = device_of(client, text)
    except Failure as failure:
        mac = as_mac(text)
        if mac is None or not history or failure.exit_code != Failure.exit_code:
            raise
        return mac, mac
    merged = f" with the merged {', '.join(map(clean, found.merged_macs))}" if found.merged_macs else ""
    return found.mac, title(found) + merged
