"""`netscanctl known DEVICE`: marks a device as known, or all that are online."""

import click

from netscanctl.annotate import annotate, confirm, json_option, update_device
from netscanctl.cli import Session
from netscanctl.params import complete_device, site_option
from netscanctl.render import title
from netscand.protocol import DeviceList, DeviceUpdate


@click.command("known", short_help="Mark a device as known, or all that are online.")
@click.argument("device", required=False, shell_complete=complete_device)
@click.option("--not", "unknown", is_flag=True, help="Remove the mark.")
@click.option(
    "--all", "everyone", is_flag=True, help="All devices that are online now and not marked yet; not this host."
)
@click.option("--yes", is_flag=True, help="With --all: do not ask for confirmation.")
@site_option
@json_option
@click.pass_obj
def command(session: Session, device: str | None, unknown: bool, everyone: bool, yes: bool, as_json: bool) -> None:
    """Mark a DEVICE (its MAC, address, name or label) as known.

    With --all and no DEVICE, marks all devices that are online, except this host, which needs no mark; on a terminal,
    lists them and asks for confirmation.
    """
    if everyone == (device is not None):
        raise click.UsageError("give either a DEVICE or --all")
    if everyone and unknown:
        raise click.UsageError("--all and --not exclude each other; remove marks one by one")
    if device is None:
        _mark_all(session, yes, as_json)
        return
    update = DeviceUpdate(known=not unknown)
    annotate(session, device, update, as_json, lambda now: "marked as known" if now.known else "not marked as known")


def _mark_all(session: Session, yes: bool, as_json: bool) -> None:
    client, terminal = session.client, session.terminal
    query = {"status": "online", "known": "false"}
    found = client.read(client.get("/api/devices", query), DeviceList).devices
    devices = "1 device" if len(found) == 1 else f"{len(found)} devices"
    names = "\n".join(f"  {title(each)}" for each in found)
    are_listed = bool(found) and not yes and confirm(f"{names}\nMark {devices} as known?")
    for each in found:
        client.site = str(each.site) if each.site else client.site
        answer, _ = update_device(client, each.mac, DeviceUpdate(known=True))
        if as_json:
            terminal.json(answer)
        if not are_listed:
            terminal.notice(f"{title(each)}: marked as known")
    terminal.notice(f"{devices} marked as known" if found else "all online devices are already marked as known")
