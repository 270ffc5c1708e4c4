"""`netscanctl devices`: list of devices, for people and for other programs."""

from datetime import datetime

import click

from netscanctl.cli import Session
from netscanctl.client import Usage
from netscanctl.params import refuse_unknown_network, selection_options, site_option
from netscanctl.render import ORDERS, devices_table
from netscanctl.text import clean
from netscand.protocol import DeviceList


@click.command("devices")
@click.argument("text", required=False)
@selection_options
@site_option
@click.option("--sort", type=click.Choice(list(ORDERS)), default="ip", show_default=True, help="Sort key.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv", "ethers", "hosts"]),
              help="Output format; ethers: `mac ip` lines; hosts: `ip name` lines.  [default: table]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as received; same as --format json.")
@click.pass_obj
def command(
    session: Session, text: str | None, selected: dict[str, str], sort: str, form: str | None, as_json: bool
) -> None:  # fmt: skip
    """List the devices, or those that contain TEXT."""
    query = selected | ({"q": text} if text else {})
    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} exclude each other")
    client, terminal = session.client, session.terminal
    refuse_unknown_network(client, query)
    answer = client.get("/api/devices", query)
    if as_json or form == "json":
        terminal.json(answer)
        return
    read = client.read(answer, DeviceList)
    devices, conflicts = sorted(read.devices, key=ORDERS[sort]), read.conflicts
    if form in (None, "table"):
        terminal.write(
            devices_table(
                devices,
                columns=terminal.columns,
                paint=terminal.paint,
                today=terminal.today,
                conflicts=conflicts,
                now=datetime.now().astimezone(),
            )
        )
        if query and not devices:
            terminal.notice(f'no device matches "{clean(text)}"' if text else "no device matches")
        return
    from netscanctl import export

    if form == "csv":
        terminal.write(export.as_csv(devices))
        return
    if len({device.site for device in devices}) > 1:
        raise Usage(f"--format {form}: several sites may use the same addresses", "choose one with --site")
    is_part = bool(query)  # then a device that is not in it may own a name
    everyone = client.read(client.get("/api/devices"), DeviceList).devices if is_part else devices
    terminal.write({"ethers": export.as_ethers, "hosts": export.as_hosts}[str(form)](devices, everyone))
