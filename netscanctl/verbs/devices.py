"""`netscanctl devices`: the list, for people and for other programs."""

import click

from netscanctl.argument import complete_network, others_than
from netscanctl.cli import Session
from netscanctl.client import Failure
from netscanctl.render import ORDERS, devices_table
from netscanctl.text import clean
from netscand.protocol import DeviceList


@click.command("devices")
@click.argument("text", required=False)
@click.option("--online", is_flag=True, help="Only those that are online.")
@click.option("--offline", is_flag=True, help="Only those that are offline.")
@click.option(
    "--network",
    metavar="ID",
    shell_complete=complete_network,
    help="Only those of one network, such as 192.168.1.0/24@eth0.",
)
@click.option("--sort", type=click.Choice(list(ORDERS)), default="ip", show_default=True, help="The order.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv", "ethers", "hosts"]),
              help="table unless told otherwise; ethers: `mac ip` a line; hosts: `ip name` a line.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The daemon's answer as it came: --format json.")
@click.pass_obj
def command(
    session: Session, text: str | None, online: bool, offline: bool, network: str | None, sort: str, form: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """List the devices, or those that TEXT is found in."""
    if online and offline:
        raise click.UsageError("expected one of --online and --offline, or neither for both")
    if as_json and form not in (None, "json"):
        raise click.UsageError(f"expected one of --json and --format {form}")
    client, terminal = session.client, session.terminal
    asked = {"status": "online" if online else "offline" if offline else None, "network": network, "q": text}
    answer = client.get("/api/devices", {key: value for key, value in asked.items() if value})
    if network and not client.read(answer, DeviceList).devices and (others := others_than(client, network)):
        raise Failure(f"no network is {clean(network)}; expected the id of one: {others}")
    if as_json or form == "json":
        terminal.json(answer)
        return
    devices = sorted(client.read(answer, DeviceList).devices, key=ORDERS[sort])
    if form in (None, "table"):
        terminal.write(devices_table(devices, columns=terminal.columns, paint=terminal.paint, today=terminal.today))
        if text and not devices:
            terminal.talk(f"nobody matches {clean(text)}")
        return
    from netscanctl import formats

    write = {"csv": formats.as_csv, "ethers": formats.as_ethers, "hosts": formats.as_hosts}[form]
    terminal.write(write(devices))
