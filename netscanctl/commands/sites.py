"""`netscanctl sites`: sites of a hub, with the condition of each."""

import click

from netscanctl.cli import Session
from netscanctl.render import sites_table
from netscand.protocol import SiteList


@click.command("sites", short_help="List the sites of a hub, and what is wrong with each.")
@click.option("--json", "as_json", is_flag=True, help="Print the hub's answer as received.")
@click.pass_obj
def command(session: Session, as_json: bool) -> None:
    """List the sites of a hub (netscand-hub), and what is wrong with each."""
    client, terminal = session.client, session.terminal
    answer = client.sites()
    if answer is None:
        raise client.no_hub("sites", "connect to a hub")
    if as_json:
        terminal.json(answer)
        return
    sites = client.read(answer, SiteList).sites
    terminal.write(sites_table(sites, columns=terminal.columns, paint=terminal.paint, today=terminal.today))
