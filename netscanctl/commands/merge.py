"""`netscanctl merge [DEVICE OTHER...]`: makes one device of several MACs, on the user's word; or lists suggestions."""

import click

from netscanctl.annotate import confirm
from netscanctl.cli import Session
from netscanctl.client import device_path
from netscanctl.params import complete_device, device_of, mac_of
from netscanctl.render import title
from netscanctl.text import SENTENCE_LIMIT, clean
from netscand.protocol import Device, DeviceList, MergeRequest, SuggestionList, encode


@click.command("merge", short_help="Make one device of several MACs, or list suggestions.")
@click.argument("devices", metavar="[DEVICE OTHER...]", nargs=-1, shell_complete=complete_device)
@click.option("--undo", is_flag=True, help="Separate each MAC again that was merged: netscanctl merge --undo MAC...")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answers as received.")
@click.pass_obj
def command(session: Session, devices: tuple[str, ...], undo: bool, yes: bool, as_json: bool) -> None:
    """Merge each OTHER into DEVICE (MACs, addresses, names or labels): one device, online while any of its MACs is.

    OTHER's label, tags and history belong to DEVICE then. Without arguments, lists devices that are probably one, with
    the evidence; any station can claim a name, so check it. On a terminal, asks for confirmation.
    """
    client, terminal = session.client, session.terminal
    if undo:
        if not devices:
            raise click.UsageError("--undo requires a MAC")
        for text in devices:
            answer = client.delete(f"{device_path(mac_of(client, text))}/merge")
            if as_json:
                terminal.json(answer)
            terminal.notice(f"{clean(text)}: is a device of its own again")
        return
    if not devices:
        _list(session, as_json)
        return
    if len(devices) < 2:
        raise click.UsageError("give a DEVICE and at least one OTHER; to list suggestions, give neither")
    into, *others = (device_of(client, text) for text in devices)
    names = ", ".join(map(title, others))
    if not yes:
        confirm(f"Merge {names} into {title(into)}?")
    for other in others:
        answer = client.post(f"{device_path(into.mac)}/merge", encode(MergeRequest(mac=other.mac)))
        if as_json:
            terminal.json(answer)
        merged = client.read(answer, Device)
        undo_hint = f"to undo: netscanctl merge --undo {clean(other.mac)}"
        terminal.notice(f"{title(other)} is merged into {title(merged)}; {undo_hint}")


def _list(session: Session, as_json: bool) -> None:
    client, terminal = session.client, session.terminal
    answer = client.get("/api/suggestions")
    if as_json:
        terminal.json(answer)
        return
    found = client.read(answer, SuggestionList)
    devices = {one.mac: one for one in client.read(client.get("/api/devices"), DeviceList).devices}
    for one in found.suggestions:
        into, other = (title(devices[mac]) if mac in devices else clean(mac) for mac in (one.into, one.mac))
        evidence = clean("; ".join(one.evidence), SENTENCE_LIMIT)
        terminal.write(f"{other} is probably {into}: {evidence}\n")
        terminal.write(f"    netscanctl merge {clean(one.into)} {clean(one.mac)}\n")
    if not found.suggestions:
        terminal.notice("no two devices seem to be one")
    elif found.more:
        terminal.notice("there are more; merge some of these first")
