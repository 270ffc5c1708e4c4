"""`netscanctl networks`: networks, with the reason why each is scanned or not."""

import click

from netscanctl.cli import Session
from netscanctl.params import site_option
from netscanctl.render import networks_table
from netscand.protocol import NetworkList


@click.command("networks")
@site_option
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as received.")
@click.pass_obj
def command(session: Session, as_json: bool) -> None:
    """List the networks, and why each is scanned or not."""
    answer = session.client.get("/api/networks")
    terminal = session.terminal
    if as_json:
        terminal.json(answer)
        return
    networks = session.client.read(answer, NetworkList).networks
    terminal.write(networks_table(networks, columns=terminal.columns, paint=terminal.paint, today=terminal.today))
