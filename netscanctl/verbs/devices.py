"""`netscanctl devices`: the list, for people and for other programs."""

import click

from netscanctl.argument import complete_network
from netscanctl.cli import Session
from netscanctl.render import ORDERS, devices_table
from netscand.protocol import DeviceList


@click.command("devices")
@click.argument("text", required=False)
@click.option("--online", "status", flag_value="online", help="Only those that are online.")
@click.option("--offline", "status", flag_value="offline", help="Only those that are offline.")
@click.option(
    "--network",
    metavar="ID",
    shell_complete=complete_network,
    help="Only those of one network, such as 192.168.1.0/24@eth0.",
)
@click.option("--sort", type=click.Choice(list(ORDERS)), default="ip", show_default=True, help="The order.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv", "ethers", "hosts"]), default="table",
              show_default=True, help="ethers: `mac ip` a line; hosts: `ip name` a line.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The daemon's answer as it came: --format json.")
@click.pass_obj
def command(
    session: Session, text: str | None, status: str | None, network: str | None, sort: str, form: str, as_json: bool
) -> None:
    """List the devices, or those that TEXT is found in."""
    asked = {"status": status, "network": network, "q": text}
    answer = session.client.get("/api/devices", {key: value for key, value in asked.items() if value})
    terminal = session.terminal
    if as_json or form == "json":
        terminal.json(answer)
        return
    devices = sorted(session.client.read(answer, DeviceList).devices, key=ORDERS[sort])
    if form == "table":
        terminal.write(devices_table(devices, columns=terminal.columns, paint=terminal.paint, today=terminal.today))
        return
    from netscanctl import formats

    write = {"csv": formats.as_csv, "ethers": formats.as_ethers, "hosts": formats.as_hosts}[form]
    terminal.write(write(devices))
