"""`netscanctl devices`: the list, for people and for other programs."""

import click

from netscanctl.argument import complete_network, networks_of, no_network, one_network, others_than
from netscanctl.cli import Session
from netscanctl.render import ORDERS, devices_table
from netscanctl.text import clean
from netscand.protocol import Device, DeviceList


@click.command("devices")
@click.argument("text", required=False)
@click.option("--online", is_flag=True, help="Only those that are online.")
@click.option("--offline", is_flag=True, help="Only those that are offline.")
@click.option(
    "--network",
    metavar="ID",
    shell_complete=complete_network,
    help="Only those of one network, such as 192.168.1.0/24@eth0, or of all of a prefix.",
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
    raw = as_json or form == "json"
    ids: list[str | None] = [None]
    if network:
        ids = [one_network(client, network)] if raw else [*networks_of(client, network)]
    found: dict[str, Device] = {}
    for id_ in ids:
        asked = {"status": "online" if online else "offline" if offline else None, "network": id_, "q": text}
        answer = client.get("/api/devices", {key: value for key, value in asked.items() if value})
        if raw and id_ is None:
            break  # as it came, whatever it is
        listed = client.read(answer, DeviceList).devices
        if id_ and not listed and (others := others_than(client, id_)):
            raise no_network(id_, others)
        found |= {device.mac: device for device in listed}
    if raw:
        terminal.json(answer)
        return
    devices = sorted(found.values(), key=ORDERS[sort])
    if form in (None, "table"):
        terminal.write(devices_table(devices, columns=terminal.columns, paint=terminal.paint, today=terminal.today))
        if text and not devices:
            terminal.talk(f"nobody matches {clean(text)}")
        return
    from netscanctl import formats

    write = {"csv": formats.as_csv, "ethers": formats.as_ethers, "hosts": formats.as_hosts}[form]
    terminal.write(write(devices))
